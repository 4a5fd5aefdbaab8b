"""A labelling campaign: labels from people, over days, in one file that loses nothing."""

from __future__ import annotations

import math
import os
import secrets
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..backends.choose import choose_backend
from ..checks import check_integer
from ..config import CCMAConfig
from ..pool.open import open_rows
from ..query.arguments import check_arguments
from ..steps.classes import declared_classes
from ..steps.teacher import Teacher
from ..system import display
from ..system.memory import check_memory_limit
from ..system.output_files import check_can_write
from .assigning import assign, assigned_for_file
from .campaign_answers import CampaignAnswers
from .campaign_pool import CampaignPool
from .class_changes import check_is_class
from .exchange.assignment import Assignment
from .exchange.formats import check_can_export, export_assignment
from .files import LabelledImages, labelled_images
from .given import check_annotator, check_duration
from .history import Happening, history_of
from .issuing import Issued
from .learner import ActiveLearner
from .log import events as kinds
from .log.database import Log, create_log
from .log.events import Event, NewEvent, now
from .page.write import write_page
from .places import check_distinct_ids, check_same_naming, has_ids
from .queries import Queries
from .status import Status, status_of

__all__ = ["Campaign"]


class WrittenPage(NamedTuple):
    """A page that was written."""

    n_images: int
    without_picture: dict[str, str]
    """Why the page has no picture of an image, by its id."""


Int64 = npt.NDArray[np.int64]


# long: half of it tells what a caller needs to know of each method
class Campaign(CampaignAnswers):
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
        super().__init__(log, pool)
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
        for name in names:
            check_is_class(name)
        settings = {
            "campaign": secrets.token_hex(16),
            "random_state": seed,
            "n_rows": pool.rows.n_rows,
            "has_ids": has_ids(pool.rows),
            "labels_per_image": n_wanted,
            "expires": None if expires is None else check_duration("expires", expires),
            "config": (config or CCMAConfig()).to_dict(),
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
        PoolMismatchError
            A pool without ids where the campaign has them, or the other way round.
        """
        check_arguments(teacher, None, None)
        choose_backend(backend)
        check_memory_limit(memory_limit)
        pool = CampaignPool(None if features is None else open_rows(features, "features"), teacher)
        log = Log(path)
        if features is not None:
            check_same_naming(pool.rows, has_ids_there=log.state.settings["has_ids"])
        return cls(log, pool, backend, memory_limit)

    @property
    def has_ids(self) -> bool:
        """Whether images have ids, and are not called by the numbers of their rows."""
        return bool(self.settings["has_ids"])

    def close(self) -> None:
        """Close the file; nothing is lost where this is not called."""
        self._log.close()

    def __enter__(self) -> Campaign:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = self._log.state
        told = f"{state.settings['n_rows']:,} rows", f"{len(state.classes.live):,} classes"
        return display.line("Campaign", repr(str(self._log.file)), *told, f"{len(state.batches):,} batches")

    def _repr_html_(self) -> str | None:
        if self._log.is_closed:
            return None
        return display.notebook_html(f"Campaign {self._log.file}", *self.status().html_parts())

    @property
    def settings(self) -> dict[str, Any]:
        with self._log.reading() as state:
            return {**state.settings}

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

        Returns
        -------
        Issued
            The batch: its ``images`` (ids, in the order of choice), ``number``, ``batch``, and the ``selection``.

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

        Returns
        -------
        Issued
            As :meth:`next`.

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

        Returns
        -------
        Assignment
            Its ``tasks`` have the ``image`` and its likeliest classes each, and its ``images`` the ids; both are empty
            where there is nothing to do for this annotator.
        """
        return assign(self._log, *_for_whom(annotator, n))

    def export_file(
        self,
        path: str | os.PathLike[str],
        file_format: str,
        *,
        annotator: str = "",
        n: int | None = None,
        images: str = "",
    ) -> list[Path]:
        """Assign images as :meth:`assign` does, but to nobody where this fails, and write them for a labelling program.

        Parameters
        ----------
        path : path
            A new file.
        file_format : str
            One of :func:`ccma_fast.campaign.exchange.formats.exported_formats`.
        annotator, n
            As for :meth:`assign`.
        images : str, optional
            Where the other program finds the images, see the format's module.

        Returns
        -------
        list of Path
            What was written.

        Raises
        ------
        FileExistsError
            A file is there.
        ValueError
            No such format, or there is nothing to do for this annotator.
        """
        check_can_export(file_format, Path(path))
        with assigned_for_file(self._log, *_for_whom(annotator, n)) as assignment:
            return export_assignment(file_format, assignment, Path(path), images=images)

    def status(self) -> Status:
        """How the campaign stands: answers, people, how often models were right, and whether predictions are stable.

        Of the pool itself only images that were drawn for an audit tell how good the models are; chosen ones are
        harder. Intervals are of 95 % (Wilson).
        """
        return status_of(self._log, now())

    def history(self, image: str | None = None) -> list[Happening]:
        """What happened, in the order in which it was written, as people read it.

        Of one image where it is given: what was said of it, the batches that it was in, and whom it was assigned to.

        As a data frame: ``pandas.DataFrame(campaign.history())``, and so
        ``campaign.status().batches``.
        """
        return history_of(self._log, image)

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

    def write_page(
        self, path: str | os.PathLike[str], images: Any, *, annotator: str = "", n: int | None = None, **options: Any
    ) -> WrittenPage:
        """Assign images as :meth:`assign` does, but to nobody where this fails, and write the page to label them in.

        Parameters
        ----------
        path : path
            An ``.html`` file; an earlier page there is replaced.
        images : path, sequence of paths, or data set
            A folder that the ids are paths in, or what :func:`ccma_fast.extract` got; where the pool has no ids, a data
            set in the order of its rows.
        annotator, n
            As for :meth:`assign`.
        **options
            ``order``, ``seed``, ``pixels`` and ``title`` of :func:`ccma_fast.campaign.page.write.write_page`.

        Raises
        ------
        ValueError, OSError
            As :func:`ccma_fast.campaign.page.write.write_page`, or there is nothing to do for this annotator.
        """
        check_can_write(path)
        with assigned_for_file(self._log, *_for_whom(annotator, n)) as assignment:
            return WrittenPage(len(assignment.tasks), write_page(path, assignment, images, **options))

    def labelled_images(self) -> LabelledImages:
        """Every image on whose class people agree, by id: what the campaign is for.

        A list with ``to_csv``, which writes what ``ccma-fast campaign export --to labels`` does, and ``to_pandas``.
        """
        with self._log.reading() as state:
            return labelled_images(state)

    def change_settings(
        self,
        *,
        expires: timedelta | None = None,
        labels_per_image: int | None = None,
        inputs: Mapping[str, Any] | None = None,
        annotator: str = "",
    ) -> None:
        """Change what :meth:`create` was told; what is not given stays.

        Batches that are out keep when they expire. How many people are to answer holds for every image: with more of
        them, images that one person has labelled are undecided, and out, until others have answered too.

        Raises
        ------
        ValueError, TypeError
            As :meth:`create`.
        """
        data: dict[str, Any] = {}
        if expires is not None:
            data["expires"] = check_duration("expires", expires)
        if labels_per_image is not None:
            data["labels_per_image"] = check_integer("labels_per_image", labels_per_image, minimum=1)
        if inputs is not None:
            data["inputs"] = dict(inputs)
        with self._changing(annotator) as (writing, whom):
            writing.add(NewEvent(kinds.SETTINGS_CHANGED, whom, data=data))

    def learner(self) -> ActiveLearner:
        """The models that the labels so far train, to predict, to find wrong labels and to label the rest."""
        return self._queries.learner()


def _for_whom(annotator: str, n: int | None) -> tuple[str, int | None]:
    return check_annotator(annotator), None if n is None else check_integer("n", n, minimum=1)
