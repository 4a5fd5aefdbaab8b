"""Out-of-fold logits and calibration scores of the student, by refits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from ..backends.protocol import Backend
from ..config import CCMAConfig
from ..pool.derived import RowSubset
from ..pool.rows import Rows
from .nonconformity import labelled_scores
from .student import fit_student, has_two_classes, student_logits

__all__ = ["out_of_fold_logits", "out_of_fold_scores"]

Int64 = npt.NDArray[np.int64]


def out_of_fold_scores(
    student: Any,
    rows: Rows,
    labels: Int64,
    n_classes: int,
    config: CCMAConfig,
    rng: np.random.Generator,
    backend: Backend,
) -> npt.NDArray[np.float64]:
    """Calibration scores of the labelled rows, each by a student that was not fitted on the row (K-fold refits).

    A fold whose other rows hold fewer than two classes cannot be scored: its scores are +∞, which enlarges the sets.
    """
    scores = np.full(labels.size, np.inf)
    for test, logits in _folds(student, rows, labels, n_classes, config, rng, backend):
        scores[test] = labelled_scores(logits, labels[test], config, backend)
    return scores


def out_of_fold_logits(
    student: Any,
    rows: Rows,
    labels: Int64,
    n_classes: int,
    config: CCMAConfig,
    rng: np.random.Generator,
    backend: Backend,
) -> tuple[Int64, npt.NDArray[np.float32]]:
    """Positions h of labelled rows, ascending, and z^S of them by students that were not fitted on the row.

    Missing are folds whose other rows hold fewer than two classes.
    """
    z = np.empty((labels.size, n_classes), np.float32)
    known = np.zeros(labels.size, bool)
    for test, logits in _folds(student, rows, labels, n_classes, config, rng, backend):
        z[test], known[test] = logits.float32(), True
    return np.flatnonzero(known), z[known]


def _folds(
    student: Any,
    rows: Rows,
    labels: Int64,
    n_classes: int,
    config: CCMAConfig,
    rng: np.random.Generator,
    backend: Backend,
) -> Iterator[tuple[Int64, Rows]]:
    """Positions of a fold and their logits by a student of the other folds, where these hold two classes."""
    n_folds = min(config.n_folds, labels.size)
    fold = rng.permutation(np.arange(labels.size) % n_folds)
    for held_out in range(n_folds):
        test, train = np.flatnonzero(fold == held_out), np.flatnonzero(fold != held_out)
        if has_two_classes(labels[train]):
            fitted = fit_student(student, RowSubset(rows, train), labels[train], n_classes, backend)
            yield test, student_logits(fitted, RowSubset(rows, test), n_classes, backend)
