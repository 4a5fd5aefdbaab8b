"""What people say in a campaign: labels, refusals, corrections, and changes of classes."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..checks import check_flag, check_integer
from .answering import Taken, join, take_answers, withdraw
from .campaign_pool import CampaignPool
from .class_changes import added_class, merge_classes, rename_class
from .exchange.answer import CANNOT_TELL, Answer
from .files import ImportedFile, answers_in_file
from .given import answers_given, check_annotator, images_given
from .log import events as kinds
from .log.database import Log, Writing
from .log.events import Event
from .undoing import undo

__all__ = ["CampaignAnswers"]


# long: half of it tells what a caller needs to know of each method
class CampaignAnswers:
    """The part of :class:`ccma_fast.Campaign` that takes in what people say.

    Parameters
    ----------
    log : Log
    pool : CampaignPool
    """

    def __init__(self, log: Log, pool: CampaignPool) -> None:
        self._log, self._pool = log, pool

    @property
    def class_names(self) -> list[str]:
        with self._log.reading() as state:
            return [*state.classes.live.values()]

    def take(self, answers: Iterable[Answer], *, new_classes: bool = False, skip_unknown: bool = False) -> Taken:
        """Add answers that were given elsewhere; all of them or, on an error, none.

        An answer that came before is known by its key and changes nothing. Answers count from when they were given: of
        two by one annotator about one image the later one does, whichever comes in first.

        Parameters
        ----------
        answers : iterable of Answer
        new_classes : bool, default False
            Add classes that are not known, instead of refusing all answers.
        skip_unknown : bool, default False
            Leave out answers about images that the pool does not have, instead of refusing all.

        Raises
        ------
        ValueError
            Unknown classes or images; the text has the nearest names.
        """
        given = [*answers]
        self._check_names(answer.image for answer in given if isinstance(answer, Answer))
        return take_answers(
            self._log,
            given,
            self._pool.places,
            new_classes=check_flag("new_classes", new_classes),
            skip_unknown=check_flag("skip_unknown", skip_unknown),
        )

    def import_file(
        self,
        path: str | os.PathLike[str],
        *,
        file_format: str = "",
        images: str = "",
        annotator: str = "",
        new_classes: bool = False,
        skip_unknown: bool = False,
    ) -> ImportedFile:
        """Add the answers in a file, as :meth:`take` does: from a labelling page or program, or a CSV file.

        Parameters
        ----------
        path : path
        file_format : str, optional
            One of :data:`ccma_fast.campaign.exchange.formats.FORMATS`; by default as the content tells.
        images : str, optional
            What stands before the ids in the other program's names of images, as in :meth:`export_file`.
        annotator : str
            Of answers that name nobody.
        new_classes, skip_unknown
            As for :meth:`take`.

        Raises
        ------
        FileReadError
            No such file, a damaged one, one of another format or of another campaign.
        ValueError
            As :meth:`take`.
        """
        whom = check_annotator(annotator)
        with self._log.reading() as state:
            found = answers_in_file(Path(path), file_format, images, whom, state, self._pool)
        taken = self.take(found.answers, new_classes=new_classes, skip_unknown=skip_unknown)
        return ImportedFile(taken, found.notes)

    def label(self, images: Any, classes: Sequence[str], *, annotator: str = "", new_classes: bool = False) -> Taken:
        """Label images; a second label by the same annotator replaces the first.

        Parameters
        ----------
        images : array_like, shape (n,), str or int
            Ids, or rows of the pool.
        classes : sequence of str, shape (n,)
            Names of their classes.
        annotator : str
        new_classes : bool, default False
            Add classes that are not known.

        Returns
        -------
        Taken
            How many answers are new, and what else became of them.

        Raises
        ------
        ValueError, TypeError
            Images that are not in the pool, or are repeated; classes that are not known; lengths that differ.
        """
        return self._say(images, classes, kinds.LABELLED, annotator, new_classes=check_flag("new_classes", new_classes))

    def refuse(self, images: Any, reason: str = CANNOT_TELL, *, annotator: str = "") -> Taken:
        """Say of images that they cannot be labelled; where their people agree, they are never offered again.

        Parameters
        ----------
        images : array_like, shape (n,), str or int
        reason : str, default "cannot tell"
            In any words.
        annotator : str

        Raises
        ------
        ValueError, TypeError
            As for :meth:`label`.
        """
        return self._say(images, reason, kinds.REFUSED, annotator)

    def correct(self, images: Any, classes: Sequence[str], *, annotator: str = "") -> Taken:
        """Label images anew, whatever all others said of them before: one person is enough for that.

        Parameters
        ----------
        images, classes, annotator
            As for :meth:`label`.
        """
        return self._say(images, classes, kinds.CORRECTED, annotator)

    def retract(self, images: Any, *, annotator: str = "") -> None:
        """Withdraw what an annotator said of images.

        Raises
        ------
        ValueError
            They have said nothing of one.
        """
        withdraw(self._log, self._images(images), kinds.RETRACTED, check_annotator(annotator))

    def reopen(self, images: Any, *, annotator: str = "") -> None:
        """Set aside all that was said of images, refusals among it, so that they can be chosen again.

        Raises
        ------
        ValueError
            Nothing was said of one.
        """
        withdraw(self._log, self._images(images), kinds.REOPENED, check_annotator(annotator))

    def undo(self, *numbers: int, annotator: str = "") -> list[Event]:
        """Undo events by their numbers, or the last one, of an annotator where one is given; an undo is an event too.

        Raises
        ------
        ValueError
            No such event, one that was undone already, one that cannot be, or a class that labels are of.
        """
        checked = [check_integer("an event", number, minimum=1) for number in numbers]
        return undo(self._log, checked, check_annotator(annotator))

    def add_class(self, name: str, *, annotator: str = "") -> None:
        """Add a class; a teacher then needs text features of it."""
        self.change_classes(add=[name], annotator=annotator)

    def rename_class(self, before: str, name: str, *, annotator: str = "") -> None:
        """Call a class otherwise; its labels stay, and answers under its former name are still understood."""
        self.change_classes(rename=(before, name), annotator=annotator)

    def merge_classes(self, merged: str, into: str, *, annotator: str = "") -> None:
        """Make one class part of another; its labels become labels of that."""
        self.change_classes(merge=(merged, into), annotator=annotator)

    def change_classes(
        self,
        *,
        add: Iterable[str] = (),
        rename: tuple[str, str] | None = None,
        merge: tuple[str, str] | None = None,
        annotator: str = "",
    ) -> None:
        """Add, rename and merge classes, in this order; all of it or, on an error, nothing."""
        with self._changing(annotator) as (writing, whom):
            for name in add:
                added_class(writing, name, whom)
            if rename is not None:
                rename_class(writing, *rename, whom)
            if merge is not None:
                merge_classes(writing, *merge, whom)

    @contextmanager
    def _changing(self, annotator: str) -> Iterator[tuple[Writing, str]]:
        whom = check_annotator(annotator)
        with self._log.writing() as writing:
            join(writing, whom)
            yield writing, whom

    def _say(
        self, images: Any, said: Sequence[str] | str, kind: str, annotator: str, *, new_classes: bool = False
    ) -> Taken:
        answers = answers_given(
            self._images(images), said, check_annotator(annotator), is_refusal=kind == kinds.REFUSED
        )
        return take_answers(self._log, answers, self._pool.places, kind=kind, new_classes=new_classes)

    def _images(self, given: Any) -> list[str]:
        images = images_given(given, self._pool)
        self._check_names(images)
        return images

    def _check_names(self, images: Iterable[str]) -> None:
        """Check that no other image of the pool is called as one of these was, before it was renamed."""
        with self._log.reading() as state:
            former = {image: now for image in images if (now := state.name_now(image)) != image}
        if former:
            self._pool.check_no_other_has(former)
