"""The interface to any student: its classes, its fit and its logits.

A student is any classifier with `fit` and `predict_proba`. A :class:`ChunkedStudent`, such as
:class:`ccma_fast.LinearHead`, reads rows itself, a chunk at a time; any other gets arrays.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from ..backends.protocol import Backend
from ..checks import raise_not_finite
from ..pool.array_like import as_array
from ..pool.arrays import KeptRows
from ..pool.class_limits import LOGISTIC_WEIGHT_BYTES, check_class_count, check_trainable, inferred_count
from ..pool.derived import DerivedRows
from ..pool.rows import Chunk, Rows, to_float32

__all__ = [
    "ChunkedStudent",
    "ProbabilityRows",
    "check_head",
    "check_student",
    "check_two_classes",
    "class_count",
    "declared_count",
    "fit_student",
    "has_two_classes",
    "softmax",
    "student_logits",
]

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]

# A probability of zero counts as this one: its logarithm is far below anything that counts, and finite.
_LEAST_PROBABILITY = 1e-30


class ChunkedStudent:
    """A student that reads rows itself, on the device of a backend that has one."""

    n_classes: int | None
    """C, or None where the labels tell it."""
    weight_bytes: int
    """Bytes that training takes for each weight."""

    def fit_rows(self, rows: Rows, y: npt.ArrayLike, backend: Backend | None = None) -> Any:
        """Fit on rows (n, D) and their classes (n,)."""
        raise NotImplementedError

    def logits(self, rows: Rows, backend: Backend) -> Rows:
        """z^S of rows, shape (M, C), computed as chunks are read."""
        raise NotImplementedError


def check_student(student: Any) -> None:
    """A student is an object with `fit` and `predict_proba`."""
    if isinstance(student, type):
        raise TypeError(f"student must be an object, got the class {student.__name__}; give {student.__name__}()")
    for method in ("fit", "predict_proba"):
        if not callable(getattr(student, method, None)):
            raise TypeError(
                f"student must have the methods fit and predict_proba, got {type(student).__name__} without {method}"
            )


def declared_count(student: Any) -> int | None:
    """C that a :class:`ChunkedStudent` was made for; None where it was not given, or for any other student."""
    declared = student.n_classes if isinstance(student, ChunkedStudent) else None
    return None if declared is None else check_class_count("n_classes of the student", declared)


def class_count(student: Any, labels: Int64, n_rows: int, name: str = "labels") -> int:
    """C where nothing else tells it: that of :func:`declared_count`, else the largest label + 1.

    :func:`ccma_fast.pool.class_limits.inferred_count` limits the labels of a pool of `n_rows` rows then.
    """
    declared = declared_count(student)
    return inferred_count(labels, n_rows, name) if declared is None else declared


def has_two_classes(labels: npt.NDArray[Any]) -> bool:
    """Whether a student can be fitted on these labels."""
    return bool((labels != labels[:1]).any())


def check_two_classes(labels: npt.NDArray[Any]) -> None:
    """A student needs labels of at least two classes."""
    if not has_two_classes(labels):
        found = np.unique(labels)
        raise ValueError(f"a student needs labels of at least two classes, got {found.size} ({found.tolist()})")


def check_head(student: Any, n_classes: int, n_columns: int) -> None:
    """A :class:`ChunkedStudent`, or the default head (None), can be fitted to that many classes and columns."""
    if student is not None and not isinstance(student, ChunkedStudent):
        return
    check_trainable(n_classes, n_columns, LOGISTIC_WEIGHT_BYTES if student is None else student.weight_bytes)
    if student is not None and student.n_classes not in (None, n_classes):
        raise ValueError(
            f"student was made for {student.n_classes} classes, but labels, teacher or logits have {n_classes}; both "
            "must describe the same classes"
        )


def fit_student(student: Any, rows: Rows, labels: Int64, n_classes: int, backend: Backend) -> Any:
    """A copy of `student`, fitted on rows and labels of `n_classes` classes."""
    fitted = copy.deepcopy(student)
    if isinstance(fitted, ChunkedStudent):
        check_head(fitted, n_classes, rows.n_columns)
        fitted.n_classes = n_classes  # those without a label as well
        return fitted.fit_rows(rows, labels, backend)
    fitted.fit(rows.float32(), labels)
    return fitted


def student_logits(fitted: Any, rows: Rows, n_classes: int, backend: Backend) -> Rows:
    """z^S of rows with one column per class: logits, or the logarithms of a classifier's probabilities."""
    if isinstance(fitted, ChunkedStudent):
        return fitted.logits(rows, backend)
    known = _known_classes(fitted, n_classes)
    computed = partial(_log_probabilities, fitted=fitted, known=known, n_classes=n_classes)
    return DerivedRows(rows, "student.predict_proba", n_classes, computed)


def _log_probabilities(chunk: Chunk, fitted: Any, known: Int64, n_classes: int) -> Chunk:
    """The logarithms of a classifier's probabilities, whose columns are the classes `known`."""
    probabilities = np.asarray(fitted.predict_proba(to_float32(chunk)), dtype=np.float64)
    if probabilities.shape != (len(chunk), known.size):
        says = hasattr(fitted, "classes_")
        hint = "" if says else "; an attribute classes_ may say of which classes its columns are"
        raise ValueError(
            f"student.predict_proba must return shape {(len(chunk), known.size)}, got {probabilities.shape}{hint}"
        )
    whole = np.zeros((len(chunk), n_classes))
    whole[:, known] = probabilities
    with np.errstate(invalid="ignore"):
        return np.log(np.maximum(whole, _LEAST_PROBABILITY)).astype(np.float32)


def _known_classes(fitted: Any, n_classes: int) -> Int64:
    """The classes of a fitted classifier's columns."""
    known = as_array("student.classes_", getattr(fitted, "classes_", np.arange(n_classes)))
    is_number = known.ndim == 1 and known.dtype.kind in "iuf"
    if not is_number or ((known < 0) | (known >= n_classes) | (known != np.floor(known))).any():
        raise ValueError(f"student.classes_ must be classes from 0 to {n_classes - 1}, got {known!r:.200}")
    return known.astype(np.int64)


class ProbabilityRows(DerivedRows):
    """softmax of each row of logits, computed as chunks are read.

    Reading raises ValueError for a row of logits that float32 cannot hold, which is named.
    """

    def __init__(self, logits: Rows) -> None:
        super().__init__(logits, "probabilities", logits.n_columns, _probabilities)

    def slice(self, start: int, stop: int) -> Chunk:
        return self._compute(self._finite(self.source.slice(start, stop), range(start, stop)))

    def take(self, indices: Int64) -> Chunk:
        return self._compute(self._finite(self.source.take(indices), indices))

    def float32(self) -> Float32:
        return KeptRows(self).float32()  # logits a chunk at a time

    def _finite(self, logits: Chunk, rows: Sequence[int] | Int64) -> Chunk:
        finite = np.isfinite(to_float32(logits)).all(axis=1)
        if not finite.all():
            raise_not_finite(self.source.name, self.source.row_number(int(rows[int(finite.argmin())])))
        return logits


def _probabilities(logits: Chunk) -> Float32:
    return softmax(to_float32(logits))


def softmax(z: Float32) -> Float32:
    """softmax of each row, shape (n, C)."""
    e: Float32 = np.exp(z - z.max(axis=1, keepdims=True))
    e /= e.sum(axis=1, keepdims=True)
    return e
