"""Images to label, as they go to an annotator: to the page, to a labelling program, to a file."""

from __future__ import annotations

from dataclasses import dataclass

from ...system import display

__all__ = ["Assignment", "Task"]


@dataclass(frozen=True)
class Task:
    """One image to label.

    Attributes
    ----------
    image : str
        Its id.
    row : int
        Its row in the pool.
    batch : int
        Number of the batch that it is of, from 1.
    rank : int
        Its place in the order of choice of that batch, from 1: the first ones matter most.
    score : float
        δ, see :func:`ccma_fast.select`; NaN at a cold start.
    likeliest : tuple of (str, float)
        The classes in the union of the conformal sets of student and teacher, the most probable first, each with its
        probability by both together, in [0, 1]; empty where there were no models yet.
    """

    image: str
    row: int
    batch: int
    rank: int
    score: float
    likeliest: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class Assignment:
    """The images that an annotator is asked to label.

    Attributes
    ----------
    campaign : str
        Identity of the campaign, 32 hexadecimal digits: answers that name another one are refused.
    annotator : str
        Empty where nobody is named.
    classes : tuple of str
        Every class of the campaign, in its order.
    tasks : tuple of Task
        By batch and rank; empty where nothing is to be done.
    saw : str
        Digest of the campaign's log when this was made; goes back with the answers.
    """

    campaign: str
    annotator: str
    classes: tuple[str, ...]
    tasks: tuple[Task, ...]
    saw: str

    @property
    def images(self) -> tuple[str, ...]:
        """The ids of the images, in the order of the tasks."""
        return tuple(task.image for task in self.tasks)

    def __len__(self) -> int:
        return len(self.tasks)

    def __repr__(self) -> str:
        images = display.few(self.images, len(self.tasks))
        whom = f"for {self.annotator!r}" if self.annotator else ""
        return display.line("Assignment", f"{len(self.tasks):,} images [{images}]", whom)
