"""Step 3 of a query: the thresholds of both models' conformal sets, and the trust in the teacher."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..backends.protocol import Backend
from ..config import CCMAConfig
from ..pool.rows import Rows
from .conformal import coverage_threshold
from .covariate_shift import stratified_weights, weighted_coverage_threshold
from .nonconformity import configured_rule, labelled_scores
from .thresholds import raised, row_thresholds, size_threshold

__all__ = ["Cuts", "calibrated_cuts", "teacher_share"]

Float64 = npt.NDArray[np.float64]


class Cuts(NamedTuple):
    """The thresholds of both models' sets."""

    student: float | Float64
    """Threshold of −ln p: one for all rows, or one per row, shape (M,)."""
    teacher: float | Float64
    """Threshold of the teacher's −ln p; +∞ without a teacher."""
    q_student: float
    """Threshold in units of the nonconformity score; the median of thresholds per row."""
    q_teacher: float
    """The same of the teacher; NaN without one."""

    def of_rows(self, rows: slice | npt.NDArray[np.int64]) -> tuple[float | Float64, float | Float64]:
        """The thresholds of student and teacher for some of the rows."""
        student, teacher = (cut if isinstance(cut, float) else cut[rows] for cut in (self.student, self.teacher))
        return student, teacher


def calibrated_cuts(
    student: tuple[Rows, Rows],
    teacher: tuple[Rows, Rows] | None,
    labels: npt.NDArray[np.int64],
    config: CCMAConfig,
    backend: Backend,
    *,
    student_scores: Float64 | None,
    teacher_scores: Float64 | None = None,
    chunk_size: int | None = None,
) -> Cuts:
    """The thresholds of both models' sets by a configuration: calibrated to a coverage, or to a mean set size.

    Parameters
    ----------
    student, teacher : (Rows, Rows)
        Logits of the n labelled rows, and of the M rows that get a set.
    labels : ndarray, shape (n,), int64
    config : CCMAConfig
    backend : Backend
    student_scores : ndarray, shape (n,), or None
        The student's scores of a calibration set that it was not fitted on; None to calibrate to set sizes.
    teacher_scores : ndarray, shape (n,), optional
        The teacher's, where it was fitted on the labelled rows; by default those of its logits.
    """
    weights = None
    if student_scores is not None:
        if teacher is not None and teacher_scores is None:
            teacher_scores = labelled_scores(teacher[0], labels, config, backend)
        if config.reweight:
            # Post-stratification by the most probable class.
            by = student if teacher is None else teacher
            cells = [backend.score(rows, chunk_size=chunk_size).student_top1 for rows in by]
            weights = stratified_weights(*cells)

    def cut(logits: Rows, size: float, scores: Float64 | None) -> tuple[float, float | Float64]:
        q, cuts = _set_thresholds(
            logits, config, backend, size=size, scores=scores, weights=weights, chunk_size=chunk_size
        )
        return float(np.median(q)), cuts

    q_student, of_student = cut(student[1], config.student_set_size, student_scores)
    if teacher is None:
        return Cuts(of_student, math.inf, q_student, math.nan)
    q_teacher, of_teacher = cut(teacher[1], config.teacher_set_size, teacher_scores)
    return Cuts(of_student, of_teacher, q_student, q_teacher)


def _set_thresholds(
    logits: Rows,
    config: CCMAConfig,
    backend: Backend,
    *,
    size: float,
    scores: npt.ArrayLike | None = None,
    weights: tuple[Float64, Float64] | None = None,
    chunk_size: int | None = None,
) -> tuple[float | Float64, float | Float64]:
    """The thresholds of one model's conformal sets.

    Parameters
    ----------
    logits : Rows, shape (M, C)
        Of the rows that get a set.
    config : CCMAConfig
    backend : Backend
    size : float
        The mean set size, where no scores are given.
    scores : array_like, shape (n,), optional
        Calibration scores. A coverage that so few cannot attain is lowered to the largest that they can, n / (n + 1);
        with ``acquisition="delta"`` the threshold is +∞ there.
    weights : (ndarray, ndarray), optional
        Of the scores and of the M rows, as :func:`stratified_weights` gives them.

    Returns
    -------
    q, cuts : float or ndarray, shape (M,)
        The threshold in units of the score, and those on −ln p at which backends cut; one for each row where scores are
        weighted, and cuts of APS and RAPS always.
    """
    rule = configured_rule(config)
    q: float | Float64
    if scores is None:
        q = size_threshold(logits, size, config.nonempty, backend, chunk_size, rule)
    else:
        alpha = config.alpha
        if config.acquisition != "delta":
            alpha = max(alpha, 1.0 / (np.size(scores) + 1.0))
        q = (
            coverage_threshold(scores, alpha)
            if weights is None
            else weighted_coverage_threshold(scores, alpha, *weights)
        )
        q = raised(logits, q, config.nonempty, backend, chunk_size, rule)
    return q, row_thresholds(logits, q, backend, chunk_size, rule)


def teacher_share(mean_student_size: float, mean_teacher_size: float) -> float:
    """The share of the student's ambiguity that the teacher resolves: max(0, 1 − (|Γ_T| − 1) / (|Γ_S| − 1)).

    Both sizes are means over the same rows, of sets calibrated to the same coverage on the same labelled rows, on which
    neither model was fitted. 1 where the teacher's sets hold one class, 0 where they are no smaller than the student's:
    sets that are right as often but larger say less. A student whose sets hold one class leaves nothing to resolve: 0.
    """
    ambiguity = mean_student_size - 1.0
    return max(0.0, 1.0 - (mean_teacher_size - 1.0) / ambiguity) if ambiguity > 0.0 else 0.0
