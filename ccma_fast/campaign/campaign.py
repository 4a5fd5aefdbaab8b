"""A labelling campaign: labels from people, over days, in one file that loses nothing."""

from __future__ import annotations

import math
import os
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import timedelta
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from ..backends.choose import choose_backend
from ..checks import check_flag, check_integer
from ..config import CCMAConfig
from ..pool.open import open_rows
from ..query.arguments import check_arguments
from ..steps.teacher import Teacher
from ..system.memory import check_memory_limit
from .answering import Taken, join, take_answers, withdraw
from .assigning import assign
from .campaign_pool import CampaignPool
from .class_changes import added_class, merge_classes, rename_class
from .classes import declared_classes
from .exchange.answer import CANNOT_TELL, Answer
from .exchange.assignment import Assignment
from .given import answers_given, check_annotator, check_duration, images_given
from .issuing import Issued, now
from .learner import ActiveLearner
from .log import events as kinds
from .log.database import Log, Writing, create_log
from .log.events import Event, NewEvent
from .places import check_distinct_ids
from .queries import Queries
from .status import Status, status_of
from .undoing import undo

__all__ = ["Campaign"]

Int64 = npt.NDArray[np.int64]


# long: half of it tells what a caller needs to know of each method
class Campaign:
    """A labelling campaign on disk: batches that know what is out, answers of several people, and no label lost.

    One SQLite file holds everything that happened: batches, answers, corrections, classes, each an event with its time,
    who did it and what they had seen. Events are only ever added, an undo is one too, and the state is what follows
    from them. An answer is on the disk once the call that takes it has returned, whatever happens then. Threads and
    processes of one machine may use the file at the same time.

    Images are known by their ids, so that a pool may grow, change its order or come from another encoder; where a pool
    has no ids, by the numbers of their rows, which must then hold what they held.

    Made by :meth:`create` and :meth:`open`.

    Attributes
    ----------
    class_names : list of str
        Those that the campaign began with in their order, then those that were added, by name.
    labels : ndarray, shape (N,), int64
        The class of each row of the pool that its people agree on; −1 for all others.

    Examples
    --------
    >>> import numpy as np, ccma_fast as cf, tempfile
    >>> x = np.random.default_rng(0).standard_normal((600, 8), dtype=np.float32)
    >>> folder = tempfile.TemporaryDirectory()
    >>> campaign = cf.Campaign.create(f"{folder.name}/birds.campaign", x, class_names=["jay", "tit"])
    >>> batch = campaign.next(5)
    >>> taken = campaign.label(batch.images[:3], ["jay", "tit", "jay"], annotator="ana")
    >>> taken = campaign.refuse(batch.images[3:4], annotator="ana")
    >>> int((campaign.labels >= 0).sum()), len(campaign.pending())
    (3, 1)
    >>> campaign.close(); folder.cleanup()
    """

    def __init__(self, log: Log, pool: CampaignPool, backend: str, memory_limit: int | str | None) -> None:
        self._log, self._pool = log, pool
        self._queries = Queries(log, pool, backend, memory_limit)

    @classmethod
    def create(
        cls,
        path: str | os.PathLike[str],
        features: Any,
        *,
        teacher: Teacher | None = None,
        class_names: Any = None,
        config: CCMAConfig | None = None,
        random_state: int = 0,
        labels_per_image: int = 1,
        expires: timedelta | None = None,
        inputs: Mapping[str, Any] | None = None,
        backend: str = "auto",
        memory_limit: int | str | None = None,
    ) -> Campaign:
        """Begin a campaign, in a new file.

        Parameters
        ----------
        path : path
            On a disk of this machine.
        features : array_like, path, ..., shape (N, D_S)
            The pool, as for :func:`ccma_fast.select`. Where it has ids, each row must have one of its own.
        teacher : Teacher, optional
        class_names : sequence of str, mapping or path, optional
            Classes that are known at the start; by default the teacher's. There may be none yet.
        config : CCMAConfig, optional
        random_state : int, default 0
            The same seed and the same answers, in whatever order they come, give the same batches.
        labels_per_image : int, default 1
            How many people are to answer about each image; the majority decides, and a tie asks one more.
        expires : timedelta, optional
            How long images stay reserved that were issued and that nobody has answered about; by default for ever.
        inputs : mapping, optional
            Kept in the file as they are, for a program that opens the pool by them (as ``ccma-fast campaign`` does).
        backend, memory_limit
            As for :func:`ccma_fast.select`; not kept.

        Raises
        ------
        FileExistsError
            Something is there.
        OSError
            The place cannot be written, or is one that several machines may use at once.
        ValueError, TypeError
            Arguments that cannot be, or contradict each other; ids that are missing or not distinct.
        """
        check_arguments(teacher, None, config)
        choose_backend(backend)
        check_memory_limit(memory_limit)
        n_wanted = check_integer("labels_per_image", labels_per_image, minimum=1)
        seed = check_integer("random_state", random_state, minimum=0, maximum=math.inf)
        pool = CampaignPool(open_rows(features, "features"), teacher)
        check_distinct_ids(pool.rows)
        classes = declared_classes(None, class_names, teacher, None)
        names = classes.names or [str(c) for c in range(classes.n_classes or 0)]
        settings = {
            "campaign": secrets.token_hex(16),
            "random_state": seed,
            "n_rows": pool.rows.n_rows,
            "labels_per_image": n_wanted,
            "expires": None if expires is None else check_duration("expires", expires),
            "config": asdict(config or CCMAConfig()),
            "inputs": dict(inputs or {}),
        }
        added = [NewEvent(kinds.CLASS_ADDED, data={"name": name.strip(), "declared": True}) for name in names]
        log = create_log(path, [NewEvent(kinds.CREATED, data=settings), *added])
        return cls(log, pool, backend, memory_limit)

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        features: Any = None,
        *,
        teacher: Teacher | None = None,
        backend: str = "auto",
        memory_limit: int | str | None = None,
    ) -> Campaign:
        """Go on with a campaign.

        Parameters
        ----------
        path : path
        features : array_like, path, ..., optional
            The pool; only what needs no row of it works without.
        teacher : Teacher, optional
            One of the campaign's classes, joined by their names.
        backend, memory_limit
            As for :func:`ccma_fast.select`.

        Raises
        ------
        FileReadError
            No such file, none of a campaign, a damaged one, or one of a newer version.
        """
        check_arguments(teacher, None, None)
        choose_backend(backend)
        check_memory_limit(memory_limit)
        pool = CampaignPool(None if features is None else open_rows(features, "features"), teacher)
        return cls(Log(path), pool, backend, memory_limit)

    def close(self) -> None:
        """Close the file; nothing is lost where this is not called."""
        self._log.close()

    def __enter__(self) -> Campaign:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def settings(self) -> dict[str, Any]:
        with self._log.reading() as state:
            return {**state.settings}

    @property
    def class_names(self) -> list[str]:
        with self._log.reading() as state:
            return [*state.classes.live.values()]

    @property
    def labels(self) -> Int64:
        return self._queries.snapshot().codes

    def pending(self) -> dict[str, int]:
        """The images that are out, and how many people still have to answer about each."""
        with self._log.reading() as state:
            return state.pending(now())

    def next(
        self,
        budget: int,
        *,
        expires: timedelta | None = None,
        include: Any = None,
        min_distance: float | None = None,
        class_distribution: Any = None,
        annotator: str = "",
    ) -> Issued:
        """Choose the next images to label, and reserve them.

        Images with a label, refused ones and those that are out are not chosen; those that are out count as covered,
        without a class. With nothing out the picks are those of :func:`ccma_fast.select`.

        Parameters
        ----------
        budget : int
            At most as many as are left.
        expires : timedelta, optional
            As in :meth:`create`, whose value is the default.
        include, min_distance, class_distribution : optional
            As for :func:`ccma_fast.select`.
        annotator : str
            Who asked; the images are for everybody, see :meth:`assign`.

        Raises
        ------
        ValueError
            No image is left; a pool without the campaign's images; a teacher that lacks a class.
        """
        budget = check_integer("budget", budget, minimum=1)
        return self._queries.next(
            budget,
            expires,
            check_annotator(annotator),
            include=include,
            min_distance=min_distance,
            class_distribution=class_distribution,
        )

    def draw_audit(self, n: int, *, expires: timedelta | None = None, annotator: str = "") -> Issued:
        """Reserve images that are drawn at random from all that could be chosen, to find out how good the models are.

        Their labels say how often what the models said of them, at the time of the draw, was right. They are then used
        for training as others are.

        Parameters
        ----------
        n : int
        expires, annotator
            As for :meth:`next`.

        Raises
        ------
        ValueError
            Fewer than `n` images are left.
        """
        return self._queries.audit(check_integer("n", n, minimum=1), expires, check_annotator(annotator))

    def assign(self, annotator: str = "", n: int | None = None) -> Assignment:
        """Images that are out, for an annotator: those that nobody else was asked about, as far as people are missing.

        The same annotator gets the same images again until they are answered. Undoing the event frees them.

        Parameters
        ----------
        annotator : str
            Empty for whoever does it, which counts as one person.
        n : int, optional
            At most; all by default.

        Raises
        ------
        ValueError
            There is nothing to do for this annotator.
        """
        return assign(self._log, check_annotator(annotator), None if n is None else check_integer("n", n, minimum=1))

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
        return take_answers(
            self._log,
            [*answers],
            self._pool.places,
            new_classes=check_flag("new_classes", new_classes),
            skip_unknown=check_flag("skip_unknown", skip_unknown),
        )

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
        """Label images anew, whatever all others said of them before.

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
        """Undo events by their numbers, or the last one of an annotator; an undo is an event, and can be undone.

        Raises
        ------
        ValueError
            No such event, one that was undone already, one that cannot be, or a class that labels are of.
        """
        checked = [check_integer("an event", number, minimum=1) for number in numbers]
        return undo(self._log, checked, check_annotator(annotator))

    def add_class(self, name: str, *, annotator: str = "") -> None:
        """Add a class; a teacher then needs text features of it."""
        with self._changing(annotator) as writing:
            added_class(writing, name, annotator)

    def rename_class(self, before: str, name: str, *, annotator: str = "") -> None:
        """Call a class otherwise; its labels stay, and answers under its former name are still understood."""
        with self._changing(annotator) as writing:
            rename_class(writing, before, name, annotator)

    def merge_classes(self, merged: str, into: str, *, annotator: str = "") -> None:
        """Make one class part of another; its labels become labels of that."""
        with self._changing(annotator) as writing:
            merge_classes(writing, merged, into, annotator)

    def status(self) -> Status:
        """How the campaign stands: answers, people, how often models were right, and whether predictions are stable.

        Of the pool itself only images that were drawn for an audit tell how good the models are; chosen ones are
        harder. Intervals are of 95 % (Wilson).
        """
        return status_of(self._log, now())

    def events(self, image: str | None = None) -> list[Event]:
        """What happened, in the order in which it was written; of one image where it is given."""
        return self._log.events(image=image)

    def verify(self) -> None:
        """Check that the file is whole and that no event was changed since it was written.

        Raises
        ------
        FileReadError
            It is not, or one was.
        """
        self._log.verify()

    def learner(self) -> ActiveLearner:
        """The models that the labels so far train, to predict, to find wrong labels and to label the rest."""
        return self._queries.learner()

    @contextmanager
    def _changing(self, annotator: str) -> Iterator[Writing]:
        with self._log.writing() as writing:
            join(writing, check_annotator(annotator))
            yield writing

    def _say(
        self, images: Any, said: Sequence[str] | str, kind: str, annotator: str, *, new_classes: bool = False
    ) -> Taken:
        answers = answers_given(
            self._images(images), said, check_annotator(annotator), is_refusal=kind == kinds.REFUSED
        )
        return take_answers(self._log, answers, self._pool.places, kind=kind, new_classes=new_classes)

    def _images(self, given: Any) -> list[str]:
        return images_given(given, self._pool)
