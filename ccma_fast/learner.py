"""The loop for people: query, have the picks labelled, tell the labels, query again."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from . import _dispatch
from ._errors import FileReadError
from ._files import check_can_write, write_whole
from ._validate import as_array, check_integer, check_memory_limit, check_rows, check_same_rows
from .config import CCMAConfig
from .conformal import warn_not_exchangeable
from .manifest import accepted, differing_encoders
from .pool import RowSubset, open_rows
from .readers.labels import Classes, read_labels
from .select import Selection, check_arguments, select
from .student import LinearHead, check_two_classes, class_count, fit_student, softmax, student_logits
from .teacher import Teacher

__all__ = ["ActiveLearner"]

_FORMAT = "ccma_fast.ActiveLearner 1"


class ActiveLearner:
    """A pool, its labels so far, and the query of every round.

    Parameters
    ----------
    features : array_like, np.memmap, torch.Tensor, datasets.Dataset or path, shape (N, D_S)
        The student's embeddings x, in anything that :func:`ccma_fast.pool.open_rows` opens. Where that is a folder of
        shards, and the teacher's too, those that were added join the pool at the next query, unlabelled; the rows that
        were there keep their numbers.
    labels : array_like or path, shape (N,), optional
        Labels that are already there; −1 or NaN where there is none.
    teacher : Teacher, optional
    student : object with `fit` and `predict_proba`, optional
        A :class:`LinearHead` by default; it is never changed, copies of it are fitted.
    n_classes : int, optional
        C; by default the teacher's, or the largest label + 1.
    config : CCMAConfig, optional
    random_state : int, default 0
        The same seed and the same labels give the same picks in every round.
    backend : {"auto", "cuda", "cpu", "reference"}
    memory_limit : int or str, optional
        What a query may add to the process's resident memory, see :func:`ccma_fast.select`.

    Attributes
    ----------
    labels : ndarray, shape (N,), int64
        −1 where there is no label. Read-only: labels come by :meth:`label` and go by :meth:`unlabel`.
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
        config: CCMAConfig | None = None,
        random_state: int = 0,
        backend: str = "auto",
        memory_limit: int | str | None = None,
    ) -> None:
        self._features = open_rows(features, "features")
        check_arguments(teacher, student, config)
        _dispatch.choose(backend)
        if teacher is not None:
            teacher.check_rows(self._features)
            if n_classes not in (None, teacher.n_classes):
                raise ValueError(f"n_classes must be the teacher's {teacher.n_classes}, got {n_classes}")
            n_classes = teacher.n_classes
        if n_classes is not None:
            n_classes = check_integer("n_classes", n_classes, minimum=2)
        self._n_classes = n_classes
        self._teacher = teacher
        self._student = student
        self._config = config or CCMAConfig()
        self._random_state = check_integer("random_state", random_state, minimum=0)
        self._backend = backend
        check_memory_limit(memory_limit)
        self._memory_limit = memory_limit
        self._fitted: Any = None
        self._chosen: set[int] = set()  # rows that a query has returned
        names = None if teacher is None else teacher.class_names
        self._labels = read_labels(labels, self._features, n_classes=n_classes, class_names=names).copy()
        self.n_rounds = 0

    @property
    def labels(self) -> npt.NDArray[np.int64]:
        """The class of each row, −1 where there is none; a view that cannot be written to."""
        view: npt.NDArray[np.int64] = self._labels.view()
        view.flags.writeable = False
        return view

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write down the loop so far: labels, rounds, rows that were chosen, seed and configuration.

        Parameters
        ----------
        path : path
            A file in NumPy's ``.npz`` format, whatever its name; one that is there is replaced, whole or not at all.

        Raises
        ------
        OSError
            The file cannot be written.
        """
        check_can_write(path)
        settings = {
            "format": _FORMAT,
            "n_rounds": self.n_rounds,
            "n_classes": self._n_classes,
            "random_state": self._random_state,
            "config": asdict(self._config),
        }
        text, chosen = json.dumps(settings), np.array(sorted(self._chosen), dtype=np.int64)
        write_whole(path, lambda file: np.savez_compressed(file, settings=text, labels=self.labels, chosen=chosen))

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        features: Any,
        *,
        teacher: Teacher | None = None,
        student: Any = None,
        backend: str = "auto",
        memory_limit: int | str | None = None,
    ) -> ActiveLearner:
        """Go on with a loop that was written down: its next query is the one that it would have been.

        Parameters
        ----------
        path : path
            What :meth:`save` wrote.
        features, teacher, student, backend, memory_limit
            As for a new loop. Rows that the pool has more than it had are not labelled.

        Raises
        ------
        FileReadError
            No such file, or not one that :meth:`save` wrote.
        ValueError
            The pool has fewer rows than it had, or the teacher other classes.
        """
        settings, labels, chosen = _read(Path(path))
        rows = open_rows(features, "features")
        if rows.n_rows < labels.size:
            raise ValueError(
                f"features must have the {labels.size} rows of the loop in {str(path)!r}, or more, got {rows.n_rows}"
            )
        learner = cls(
            rows,
            labels=Classes(np.concatenate([labels, np.full(rows.n_rows - labels.size, -1, dtype=np.int64)])),
            teacher=teacher,
            student=student,
            n_classes=settings["n_classes"],
            config=CCMAConfig(**settings["config"]),
            random_state=settings["random_state"],
            backend=backend,
            memory_limit=memory_limit,
        )
        learner.n_rounds = settings["n_rounds"]
        learner._chosen = set(chosen.tolist())
        return learner

    def query(self, budget: int) -> Selection:
        """Choose `budget` rows to label, see :func:`ccma_fast.select`; without any label they cover the pool.

        Nothing is recorded but the round: picks that never get a label can be chosen again.

        Warns
        -----
        ExchangeabilityWarning
            The configuration asks for the published score on sets of coverage 1 − α, and rows that an earlier query
            chose would calibrate them. The default acquisition uses its sets to compare the models, and promises no
            coverage.
        """
        self._grow()
        seed = int(np.random.SeedSequence([self._random_state, self.n_rounds]).generate_state(1, np.uint64)[0])
        cold = not (self.labels >= 0).any()
        if self._config.acquisition == "delta" and self._config.calibration == "coverage" and self._chosen:
            n_chosen = int((self.labels[sorted(self._chosen)] >= 0).sum())
            if n_chosen:
                warn_not_exchangeable(n_chosen)
        picks = select(
            self._features,
            budget,
            labels=Classes(self.labels),
            teacher=self._teacher,
            student=None if cold else self._student,
            config=self._config,
            random_state=seed,
            backend=self._backend,
            memory_limit=self._memory_limit,
        )
        self.n_rounds += 1
        self._chosen.update(picks.indices.tolist())
        return picks

    def label(self, indices: npt.ArrayLike, y: npt.ArrayLike, *, overwrite: bool = False) -> None:
        """Tell the labels of some rows. Either all are taken or, on an error, none.

        Parameters
        ----------
        indices : array_like, shape (n,), int
            Rows of the pool, distinct.
        y : array_like, shape (n,), int
            Their classes.
        overwrite : bool, default False
            Allow rows that already have a label.

        Raises
        ------
        ValueError
            Rows out of range, repeated, or already labelled; labels out of range; lengths that differ.
        TypeError
            Indices or labels that are not integers.
        """
        rows, classes = _integers("indices", indices), _integers("y", y)
        check_same_rows("y", classes.size, "indices", rows.size)
        if rows.size == 0:
            return
        self._check_rows(rows)
        upper = np.inf if self._n_classes is None else self._n_classes
        bad = np.flatnonzero((classes < 0) | (classes >= upper))
        if bad.size:
            expected = "at least 0" if self._n_classes is None else f"from 0 to {self._n_classes - 1}"
            raise ValueError(f"y must be classes {expected}, got {classes[bad[0]]} for row {rows[bad[0]]}")
        taken = rows[self.labels[rows] >= 0]
        if taken.size and not overwrite:
            raise ValueError(
                f"row {taken[0]} already has the label {self.labels[taken[0]]}; pass overwrite=True to change it"
            )
        self._labels[rows] = classes
        self._fitted = None

    def unlabel(self, indices: npt.ArrayLike) -> None:
        """Withdraw the labels of some rows. Either all are withdrawn or, on an error, none.

        Parameters
        ----------
        indices : array_like, shape (n,), int
            Rows of the pool that have a label, distinct. They can be chosen again.

        Raises
        ------
        ValueError
            Rows out of range, repeated, or without a label.
        TypeError
            Indices that are not integers.
        """
        rows = _integers("indices", indices)
        self._check_rows(rows)
        without = rows[self._labels[rows] < 0]
        if without.size:
            raise ValueError(f"indices must be rows that have a label, got row {without[0]}, which has none")
        self._labels[rows] = -1
        self._fitted = None

    def _check_rows(self, rows: npt.NDArray[np.int64]) -> None:
        """They are distinct rows of the pool."""
        n = self._features.n_rows
        outside = np.flatnonzero((rows < 0) | (rows >= n))
        if outside.size:
            raise ValueError(f"indices must be rows from 0 to {n - 1}, got {rows[outside[0]]}")
        unique, counts = np.unique(rows, return_counts=True)
        if unique.size < rows.size:
            raise ValueError(f"indices must be distinct, got row {unique[counts > 1][0]} more than once")

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
        n_classes = self._n_classes or class_count(self._student, self.labels)
        backend = _dispatch.choose(self._backend)
        check_rows(rows, backend.row_lengths)
        if self._fitted is None:
            labelled = np.flatnonzero(self.labels >= 0)
            check_two_classes(self.labels[labelled])
            student = self._student
            if student is None:
                student = LinearHead.from_config(self._config, n_classes, self._random_state)
            known = RowSubset(self._features, labelled)
            self._fitted = fit_student(student, known, self.labels[labelled], n_classes, backend)
        logits = student_logits(self._fitted, rows, n_classes, backend)
        return softmax(logits.float32())

    def _grow(self) -> None:
        """Take in what was added to the pool."""
        features = self._features.grown()
        teacher = None if self._teacher is None else self._teacher.grown()
        if teacher is not None:
            teacher.check_rows(features)
        unknown = np.full(features.n_rows - self._features.n_rows, -1, dtype=np.int64)
        self._labels = np.concatenate([self._labels, unknown])
        self._features, self._teacher = features, teacher


def _integers(name: str, values: npt.ArrayLike) -> npt.NDArray[np.int64]:
    array = as_array(name, values)
    if array.dtype.kind not in "iu" and array.size:
        raise TypeError(f"{name} must be integers, got dtype {array.dtype}")
    if array.ndim != 1:
        raise ValueError(f"{name} must have one dimension, got shape {array.shape}")
    if array.dtype == np.uint64:  # what int64 cannot hold is out of every range
        array = np.minimum(array, np.iinfo(np.int64).max)
    return array.astype(np.int64)


def _read(file: Path) -> tuple[dict[str, Any], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Settings, labels and chosen rows of a loop that was saved."""
    try:
        with open(file, "rb") as handle, np.load(handle, allow_pickle=False) as saved:
            settings = json.loads(str(saved["settings"]))
            labels, chosen = saved["labels"], saved["chosen"]
        if settings["format"] != _FORMAT:
            raise ValueError(f"expected {_FORMAT!r}, got {settings['format']!r}")
    except FileNotFoundError:
        raise FileReadError(f"no file {str(file)!r}") from None
    except Exception as error:  # a damaged archive raises whatever its parser meets
        raise FileReadError(f"cannot read {str(file)!r} as a saved loop: {error}") from error
    return settings, labels, chosen
