"""Out-of-fold logits and calibration scores of the student, by refits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..backends.protocol import Backend
from ..config import CCMAConfig
from ..pool.derived import RowSubset
from ..pool.rows import Rows
from .nonconformity import labelled_scores
from .student import fit_student, has_two_classes, student_logits

__all__ = ["Refit", "out_of_fold_logits", "out_of_fold_scores", "refits"]

Int64 = npt.NDArray[np.int64]


class Refit(NamedTuple):
    """A fold, and a student that was fitted on the other folds."""

    rows: Int64
    """Positions of the fold's rows, ascending."""
    logits: Rows
    """z^S of them, computed as they are read."""


def refits(
    student: Any,
    rows: Rows,
    labels: Int64,
    n_classes: int,
    config: CCMAConfig,
    rng: np.random.Generator,
    backend: Backend,
) -> Iterator[Refit]:
    """Refit the student without each fold in turn, but for folds whose other rows hold fewer than two classes."""
    n_folds = min(config.n_folds, labels.size)
    fold = rng.permutation(np.arange(labels.size) % n_folds)
    for held_out in range(n_folds):
        test, train = np.flatnonzero(fold == held_out), np.flatnonzero(fold != held_out)
        if has_two_classes(labels[train]):
            fitted = fit_student(student, RowSubset(rows, train), labels[train], n_classes, backend)
            yield Refit(test, student_logits(fitted, RowSubset(rows, test), n_classes, backend))


def out_of_fold_scores(
    folds: Iterable[Refit], labels: Int64, config: CCMAConfig, backend: Backend
) -> npt.NDArray[np.float64]:
    """Calibration scores of the labelled rows, each by the student that was not fitted on it, shape (n,).

    +∞, which enlarges the sets, where there is no such student.
    """
    scores = np.full(labels.size, np.inf)
    for test, logits in folds:
        scores[test] = labelled_scores(logits, labels[test], config, backend)
    return scores


def out_of_fold_logits(folds: Iterable[Refit], n_rows: int, n_classes: int) -> tuple[Int64, npt.NDArray[np.float32]]:
    """Positions h of the rows of all folds, ascending, of n labelled rows, and their z^S, shape (h, C)."""
    z = np.empty((n_rows, n_classes), np.float32)
    known = np.zeros(n_rows, bool)
    for test, logits in folds:
        z[test], known[test] = logits.float32(), True
    return np.flatnonzero(known), z[known]
