"""Out-of-fold calibration scores of the student."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ..backends.protocol import Backend
from ..config import CCMAConfig
from ..pool.derived import RowSubset
from ..pool.rows import Rows
from .nonconformity import labelled_scores
from .student import fit_student, has_two_classes, student_logits

__all__ = ["out_of_fold_scores"]

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
    n = labels.size
    n_folds = min(config.n_folds, n)
    fold = rng.permutation(np.arange(n) % n_folds)
    scores = np.full(n, np.inf)
    for held_out in range(n_folds):
        test, train = np.flatnonzero(fold == held_out), np.flatnonzero(fold != held_out)
        if not has_two_classes(labels[train]):
            continue
        fitted = fit_student(student, RowSubset(rows, train), labels[train], n_classes, backend)
        logits = student_logits(fitted, RowSubset(rows, test), n_classes, backend)
        scores[test] = labelled_scores(logits, labels[test], config, backend)
    return scores
