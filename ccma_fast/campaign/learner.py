"""The loop for people: query, have the picks labelled, tell the labels, query again."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ..backends.choose import choose_backend
from ..checks import check_choice, check_flag, check_integer, check_same_rows
from ..config import CCMAConfig
from ..errors import FileReadError, TeacherWarning
from ..pool.agreement import accepted, differing_encoders
from ..pool.array_like import check_unmasked, read_only
from ..pool.checked import check_rows
from ..pool.class_limits import check_class_count
from ..pool.class_names import agreed_class_names, class_codes
from ..pool.derived import RowSubset
from ..pool.labels import Classes, read_labels
from ..pool.open import open_rows
from ..pool.row_ids import check_beside, distinct_rows
from ..pool.rows import Rows
from ..query.report import Selection
from ..query.select import check_arguments, select
from ..steps.covariate_shift import warn_not_exchangeable
from ..steps.linear_head import LinearHead
from ..steps.student import (
    check_head,
    check_two_classes,
    class_count,
    declared_count,
    fit_student,
    probabilities,
    student_logits,
)
from ..steps.teacher import Teacher
from ..system.files import check_can_write, check_no_input, locked_file
from ..system.memory import check_memory_limit
from .saved_loop import (
    Remembered,
    SavedLoop,
    agreed_classes,
    check_is_known,
    class_digests,
    placed,
    read_loop,
    write_loop,
)

__all__ = ["ActiveLearner"]

Int64 = npt.NDArray[np.int64]


class ActiveLearner:
    """A pool, its labels so far, and the query of every round.

    Parameters
    ----------
    features : array_like, np.memmap, torch.Tensor, datasets.Dataset or path, shape (N, D_S)
        The student's embeddings x, in anything that :func:`ccma_fast.pool.open.open_rows` opens. Where that is a folder
        of shards, and the teacher's too, those that were added join the pool at the next query, unlabelled; the rows
        that were there keep their numbers.
    labels : array_like or path, shape (N,), optional
        Labels that are already there, classes or their names; −1 or NaN where there is none. Files as in
        :func:`ccma_fast.pool.labels.read_labels`.
    teacher : Teacher, optional
    student : object with `fit` and `predict_proba`, optional
        A :class:`LinearHead` by default; it is never changed, copies of it are fitted.
    n_classes : int, optional
        C, at most 2²⁰; by default that of the names, the teacher's, the student's, or the largest label + 1, which then
        may be no more than the pool has rows, or 10,000.
    class_names : sequence of str, mapping or path, optional
        What the classes are called, in their order, see :func:`ccma_fast.pool.class_names.read_class_names`; a
        teacher may know it.
    config : CCMAConfig, optional
    random_state : int, default 0
        The same seed and the same labels give the same picks in every round, on one machine.
    backend : {"auto", "cuda", "cpu", "reference"}
    memory_limit : int or str, optional
        What a query may add to the process's resident memory, see :func:`ccma_fast.select`.

    Attributes
    ----------
    labels : ndarray, shape (N,), int64
        −1 where there is no label. It can only be read: :meth:`label` and :meth:`unlabel` change it.
    class_names : list of str or None
    n_rounds : int
        Queries so far.

    Examples
    --------
    >>> import numpy as np, ccma_fast as cf
    >>> rng = np.random.default_rng(0)
    >>> y = rng.integers(3, size=600)
    >>> x = rng.standard_normal((600, 8), dtype=np.float32) + 3 * np.eye(3, 8, dtype=np.float32)[y]
    >>> learner = cf.ActiveLearner(x)
    >>> for _ in range(3):
    ...     picks = learner.query(10)
    ...     learner.label(picks.indices, y[picks.indices])
    >>> int((learner.labels >= 0).sum())
    30
    >>> learner.predict_proba(x[:2]).shape
    (2, 3)
    """

    def __init__(
        self,
        features: Any,
        *,
        labels: Any = None,
        teacher: Teacher | None = None,
        student: Any = None,
        n_classes: int | None = None,
        class_names: Any = None,
        config: CCMAConfig | None = None,
        random_state: int = 0,
        backend: str = "auto",
        memory_limit: int | str | None = None,
    ) -> None:
        self._features = open_rows(features, "features")
        check_arguments(teacher, student, config)
        choose_backend(backend)
        if teacher is not None:
            teacher.check_rows(self._features)
            if n_classes not in (None, teacher.n_classes):
                raise ValueError(f"n_classes must be the teacher's {teacher.n_classes}, got {n_classes}")
            n_classes = teacher.n_classes
        self._class_names = agreed_class_names(class_names, teacher)
        if self._class_names is not None:
            if n_classes not in (None, len(self._class_names)):
                raise ValueError(
                    f"class_names must be one for each of the {n_classes} classes, got {len(self._class_names)}"
                )
            n_classes = len(self._class_names)
        if n_classes is None:
            n_classes = declared_count(student)
        self._n_classes = None if n_classes is None else check_class_count("n_classes", n_classes)
        if self._n_classes is not None:
            check_head(student, self._n_classes, self._features.n_columns)
        self._teacher = teacher
        self._student = student
        self._config = config or CCMAConfig()
        self._random_state = check_integer("random_state", random_state, minimum=0, maximum=math.inf)
        self._backend = backend
        check_memory_limit(memory_limit)
        self._memory_limit = memory_limit
        self._fitted: Any = None
        self._chosen: set[int] = set()  # rows that a query has returned
        self._remembered = Remembered()
        self._class_digests = class_digests(teacher)
        read = read_labels(labels, self._features, n_classes=self._n_classes, class_names=self._class_names)
        self._check_count(read, "labels")
        self._labels = read.copy()  # nobody else's array
        self._n_rounds = 0
        self._versions: set[str] = set()  # files of which this loop has all that they hold
        self._inputs = [
            *_inputs("features", features),
            *_inputs("features", self._features),
            *_inputs("labels", labels),
        ]
        self._inputs += [*_inputs("class_names", class_names), *_inputs("teacher", teacher and teacher.source)]

    @property
    def labels(self) -> Int64:
        return read_only(self._labels)

    @property
    def class_names(self) -> list[str] | None:
        return None if self._class_names is None else [*self._class_names]

    @property
    def n_rounds(self) -> int:
        return self._n_rounds

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Write down the loop so far: labels and what they are of, rounds, choices, classes, seed and configuration.

        A file that this loop was loaded from or saved to is replaced, whole or not at all, unless somebody else has
        saved another there since. Several threads and processes may save to one path: each waits for the others, by
        a hidden empty file ``.NAME.ccma-lock`` beside it.

        Parameters
        ----------
        path : path
            A file in NumPy's ``.npz`` format, whatever its name.
        overwrite : bool, default False
            Replace whatever file is there, and lose its labels.

        Raises
        ------
        FileExistsError
            Another loop is there, one that somebody else has gone on with, or another file; or `path` is a symbolic
            link.
        ValueError
            `path` is the pool, the teacher, or the labels that the loop was given.
        OSError
            The file cannot be written.

        Warns
        -----
        LabelWarning
            The pool cannot be read any more, and rows were labelled of which nobody knows what they held: they are
            saved, and :meth:`load` cannot tell whether a pool still has their images.
        """
        overwrite = check_flag("overwrite", overwrite)
        check_can_write(path)
        check_no_input(path, self._inputs, what="path")
        with locked_file(path):
            if not overwrite:
                check_is_known(path, self._versions, self._features.n_rows)
            # Taken here, so that of two threads the one that is last has no older labels.
            labels, chosen = self._labels.copy(), np.array(sorted(self._chosen), dtype=np.int64)
            loop = SavedLoop(
                labels=labels,
                chosen=chosen,
                n_rounds=self._n_rounds,
                random_state=self._random_state,
                n_classes=self._n_classes,
                class_names=self._class_names,
                config=self._config,
                identity=self._remembered.identity(self._features, labels, chosen),
                class_digests=self._class_digests,
            )
            self._versions.add(write_loop(path, loop))

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        features: Any,
        *,
        teacher: Teacher | None = None,
        student: Any = None,
        class_names: Any = None,
        missing: Literal["raise", "drop"] = "raise",
        backend: str = "auto",
        memory_limit: int | str | None = None,
    ) -> ActiveLearner:
        """Go on with a loop that was written down: its next query is the one that it would have been.

        The labels go to their images. Where the pool has ids, now and when the loop was saved, an image is found
        wherever it stands now, and its rows may come from another encoder. Where it has none, the rows that were
        labelled or chosen must hold what they held, in any type that has the same values. Rows may have been added.

        Parameters
        ----------
        path : path
            What :meth:`save` wrote.
        features, teacher, student, class_names, backend, memory_limit
            As for a new loop; the classes must be those of the loop in their order.
        missing : {"raise", "drop"}
            What to do about images that were labelled or chosen and are no longer there by their ids.

        Raises
        ------
        FileReadError
            No such file, or not one that :meth:`save` wrote, or one of a newer version.
        PoolMismatchError
            The pool is not that of the loop: images are gone, or rows have other values, columns or places.
        ValueError
            Other classes, or another order of them.

        Warns
        -----
        LabelWarning
            Images have moved or were dropped, or the file is of an early version and cannot be checked.
        """
        check_choice("missing", missing, ("raise", "drop"))
        rows = open_rows(features, "features")
        loop, version = read_loop(path, rows.n_rows)
        names = agreed_classes(loop, class_names, teacher, path)
        labels, chosen = placed(loop, rows, path, missing)
        learner = cls(
            rows,
            labels=Classes(labels),
            teacher=teacher,
            student=student,
            n_classes=loop.n_classes,
            class_names=names,
            config=loop.config,
            random_state=loop.random_state,
            backend=backend,
            memory_limit=memory_limit,
        )
        learner._n_rounds = loop.n_rounds
        if int((labels >= 0).sum()) == int((loop.labels >= 0).sum()) and chosen.size == loop.chosen.size:
            learner._versions = {version}  # else the file holds more, and is not to be replaced without a word
        learner._inputs += [*_inputs("features", features), *_inputs("class_names", class_names)]
        learner._chosen = set(chosen.tolist())
        if learner._class_digests is None:
            learner._class_digests = loop.class_digests
        return learner

    def query(self, budget: int) -> Selection:
        """Choose `budget` rows to label, see :func:`ccma_fast.select`.

        Until there are labels of two classes no student can be fitted: the picks cover the pool, or the teacher
        chooses them.

        Nothing is recorded but the round: picks that never get a label can be chosen again.

        Warns
        -----
        ExchangeabilityWarning
            The configuration asks for the published score on sets of coverage 1 − α, and rows that an earlier query
            chose would calibrate them. The default acquisition uses its sets to compare the models, and promises no
            coverage.
        TeacherWarning
            The labels so far speak against the teacher, see :func:`ccma_fast.select`; or the loop was saved with one
            and goes on without.
        """
        self._grow()
        seed = int(np.random.SeedSequence([self._random_state, self._n_rounds]).generate_state(1, np.uint64)[0])
        if self._teacher is None and self._class_digests is not None:
            warnings.warn(
                "the loop was saved with a teacher and goes on without one; give it to load for the query that would "
                "have been",
                TeacherWarning,
                stacklevel=2,
            )
        if self._config.acquisition == "delta" and self._config.calibration == "coverage" and self._chosen:
            n_chosen = int((self._labels[sorted(self._chosen)] >= 0).sum())
            if n_chosen:
                warn_not_exchangeable(n_chosen)
        picks = select(
            self._features,
            budget,
            labels=Classes(self._labels),
            teacher=self._teacher,
            student=self._student if (self._labels >= 0).any() else None,
            config=self._config,
            random_state=seed,
            backend=self._backend,
            memory_limit=self._memory_limit,
        )
        self._remembered.add(self._features, picks.indices)
        self._n_rounds += 1
        self._chosen.update(picks.indices.tolist())
        return picks

    def label(self, indices: npt.ArrayLike, y: npt.ArrayLike, *, overwrite: bool = False) -> None:
        """Tell the labels of some rows. Either all are taken or, on an error, none.

        Parameters
        ----------
        indices : array_like, shape (n,), int or str
            Rows of the pool, distinct, or the ids of their images where the pool has ids.
        y : array_like, shape (n,), int or str
            Their classes or the names of these; a pandas Series whose index says that they are of other rows, or of
            these in another order, is refused.
        overwrite : bool, default False
            Allow rows that already have a label.

        Raises
        ------
        ValueError
            Rows out of range, repeated, or already labelled; ids of no image or of several; labels out of range, or
            none; lengths that differ.
        TypeError
            Indices that are neither integers nor ids, or labels that are neither integers nor names.
        """
        check_flag("overwrite", overwrite)
        rows = distinct_rows(self._features, indices)
        check_unmasked("y", y)
        check_beside("y", y, indices)
        codes = class_codes(y, class_names=self._class_names, n_classes=self._n_classes, name="y", place=" of y")
        check_same_rows("y", codes.size, "indices", rows.size)
        if (codes < 0).any():
            row = rows[np.flatnonzero(codes < 0)[0]]
            raise ValueError(f"y must have a class for each row, got none for row {row}; unlabel withdraws labels")
        self._check_count(codes, "y")
        taken = rows[self._labels[rows] >= 0]
        if taken.size and not overwrite:
            raise ValueError(
                f"row {taken[0]} already has the label {self._labels[taken[0]]}; pass overwrite=True to change it"
            )
        with suppress(FileReadError):  # labels are kept, whatever has become of the pool
            self._remembered.add(self._features, rows)
        self._labels[rows] = codes
        self._fitted = None

    def unlabel(self, indices: npt.ArrayLike) -> None:
        """Withdraw the labels of some rows, which can then be chosen again. On an error none is withdrawn.

        Parameters
        ----------
        indices : array_like, shape (n,), int or str
            As in :meth:`label`.

        Raises
        ------
        ValueError
            Rows out of range, repeated, or without a label; ids of no image or of several.
        TypeError
            Indices that are neither integers nor ids.
        """
        rows = distinct_rows(self._features, indices)
        without = rows[self._labels[rows] < 0]
        if without.size:
            raise ValueError(f"indices must be rows that have a label, got row {without[0]}, which has none")
        self._labels[rows] = -1
        self._fitted = None

    def predict_proba(self, X: Any) -> npt.NDArray[np.float32]:
        """p^S of any rows by a student fitted on the labels so far.

        Parameters
        ----------
        X : array_like, torch.Tensor or path, shape (M, D_S)

        Returns
        -------
        ndarray, shape (M, C), float32

        Raises
        ------
        PoolMismatchError
            By their manifests the rows come from another encoder than the pool.
        ValueError
            Fewer than two labelled classes, or columns that differ from the pool's.
        """
        rows = open_rows(X, "X")
        accepted([differing_encoders("X", rows.manifest, "features", self._features.manifest)], force=None)
        if rows.n_columns != self._features.n_columns:
            raise ValueError(f"X must have {self._features.n_columns} columns as the pool, got {rows.n_columns}")
        n_classes = self._n_classes or class_count(self._student, self._labels, self._features.n_rows)
        backend = choose_backend(self._backend)
        check_rows(rows, backend.row_lengths)
        fitted = self._fitted
        if fitted is None:
            labels = self._labels.copy()
            labelled = np.flatnonzero(labels >= 0)
            check_two_classes(labels[labelled])
            student = self._student
            if student is None:
                student = LinearHead.from_config(self._config, n_classes, self._random_state)
            known = RowSubset(self._features, labelled)
            fitted = fit_student(student, known, labels[labelled], n_classes, backend)
            if np.array_equal(labels, self._labels):  # else another thread has told some meanwhile
                self._fitted = fitted
        return probabilities(student_logits(fitted, rows, n_classes, backend))

    def _check_count(self, codes: Int64, name: str) -> None:
        """Labels that say how many classes there are say a number that can be computed with."""
        if self._n_classes is None and (codes >= 0).any():
            n_classes = class_count(self._student, codes, self._features.n_rows, name)
            check_head(self._student, n_classes, self._features.n_columns)

    def _grow(self) -> None:
        """Take in what was added to the pool."""
        features = self._features.grown()
        teacher = None if self._teacher is None else self._teacher.grown()
        if teacher is not None:
            teacher.check_rows(features)
        if features.n_rows > self._features.n_rows:  # else they stay where another thread may write some
            unknown = np.full(features.n_rows - self._features.n_rows, -1, dtype=np.int64)
            self._labels = np.concatenate([self._labels, unknown])
        self._features, self._teacher = features, teacher


def _inputs(name: str, given: Any) -> Iterator[tuple[str, Path]]:
    """The files and folders that an argument names, or in which its rows lie."""
    if isinstance(given, (list, tuple)) and any(isinstance(part, os.PathLike) for part in given):
        for part in given:
            yield from _inputs(name, part)
    elif isinstance(given, (str, os.PathLike)):
        yield name, Path(given)
        yield name, Path(str(given).partition("::")[0])
    elif isinstance(given, Rows):
        files = [getattr(given, "file", None), *(shard.file for shard in given.shard_files)]
        yield from ((name, Path(file)) for file in files if file is not None)
    elif isinstance(given, np.memmap) and given.filename is not None:
        yield name, Path(given.filename)
