"""Metrics after each round of a trial: the student on the test rows, and the prediction sets of the pool."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from ..backends.protocol import Backend
from ..config import CCMAConfig
from ..pool.arrays import ArrayRows
from ..pool.rows import Rows
from ..reference import nonconformity
from ..steps.cuts import calibrated_cuts
from ..steps.intervals import coverage_interval
from .metrics import accuracy, class_areas, macro_f1
from .rounds import SET_METRICS

__all__ = ["evaluate_sets", "evaluate_student"]

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]


def evaluate_student(logits: Rows, labels: Int64, most_bytes: int) -> dict[str, float]:
    """Accuracy, macro AUROC and macro F1 on the test rows.

    Parameters
    ----------
    logits : Rows, shape (M, C)
        The student's, of the test rows.
    labels : ndarray, shape (M,), int64
    most_bytes : int
        Of log-probabilities that are in memory at a time: as many classes as fit, at least one.
    """
    n_classes = logits.n_columns
    predicted = np.empty(logits.n_rows, np.int64)
    areas: list[float] = []
    width = max(1, min(n_classes, most_bytes // (4 * logits.n_rows)))
    for first in range(0, n_classes, width):  # as many columns at a time as fit
        classes = slice(first, min(first + width, n_classes))
        log_p = np.empty((logits.n_rows, classes.stop - first), np.float32)
        for start, chunk in logits.chunks():
            part = slice(start, start + len(chunk))
            predicted[part] = chunk.argmax(axis=1)
            log_p[part] = -nonconformity(chunk, name=logits.name)[:, classes]
        areas += class_areas(log_p, labels, first)
        del log_p  # before the next
    return {
        "accuracy": accuracy(predicted, labels),
        "macro_auroc": float(np.mean(areas)),
        "macro_f1": macro_f1(predicted, labels),
    }


def evaluate_sets(
    student: tuple[Rows, Rows],
    teacher: tuple[Rows, Rows] | None,
    labels: tuple[Int64, Int64],
    config: CCMAConfig,
    backend: Backend,
    *,
    student_scores: Float64 | None,
    teacher_scores: Float64 | None,
) -> dict[str, float]:
    """A value for each of :data:`SET_METRICS`, on the unlabelled rows; NaN for the teacher's where there is none.

    Parameters
    ----------
    student, teacher : pair of Rows, shape (n, C) and (m, C)
        Logits of the labelled and of the unlabelled rows.
    labels : pair of ndarray, shape (n,) and (m,), int64
        Labels of those rows; the strategy is given only the former.
    config : CCMAConfig
    backend : Backend
    student_scores : ndarray, shape (n,), float64, optional
        Out-of-fold nonconformity scores of the labelled rows, with ``calibration="coverage"``.
    teacher_scores : ndarray, shape (n,), float64, optional
        The same of a teacher that was corrected by the labelled rows.
    """
    (known, truth), z_student = labels, student[1]
    z_teacher = None if teacher is None else teacher[1]
    found = dict.fromkeys(SET_METRICS, math.nan)
    cuts = calibrated_cuts(
        student, teacher, known, config, backend, student_scores=student_scores, teacher_scores=teacher_scores
    )
    found["q_student"], found["q_teacher"] = cuts.q_student, cuts.q_teacher
    rows = backend.score(z_student, z_teacher, cuts.student, cuts.teacher)
    found["student_set_size"] = float(rows.student_size.mean())
    found |= _coverage("student", z_student, cuts.student, truth, backend)
    if z_teacher is not None:
        found["teacher_set_size"] = float(rows.teacher_size.mean())
        found["overlap"] = float(rows.overlap.mean())
        found["top1_disagreement"] = float(rows.top1_differs.mean())
        found |= _coverage("teacher", z_teacher, cuts.teacher, truth, backend)
    return found


def _coverage(model: str, logits: Rows, cuts: float | Float64, truth: Int64, backend: Backend) -> dict[str, float]:
    """The share of rows whose true class is in the set, and its 95 % interval."""
    n_covered = 0
    for start, chunk in logits.chunks():
        part = slice(start, start + len(chunk))
        of_chunk = cuts[part] if isinstance(cuts, np.ndarray) else cuts
        sets = backend.prediction_sets(ArrayRows(chunk, logits.name), of_chunk)
        n_covered += int(sets[np.arange(len(chunk)), truth[part]].sum())
    low, high = coverage_interval(n_covered, truth.size)
    name = f"{model}_coverage"
    return {name: n_covered / truth.size, f"{name}_low": low, f"{name}_high": high}
