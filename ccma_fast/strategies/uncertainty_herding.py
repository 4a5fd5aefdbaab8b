"""Uncertainty Herding."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..backends.unit_rows import Kernel
from ..pool.derived import DerivedRows, RowSubset
from ..steps.coverage import HostUnitRows
from ..steps.student import check_student, fit_student, has_two_classes, student_logits
from .herding import BANDWIDTH, herd
from .registry import Round, register

__all__ = ["bandwidth", "calibrated_temperature", "uncertainty_herding"]

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]

# Share of the labelled rows on which the temperature is calibrated.
_HELD_OUT = 0.3

# The published code's grid of temperatures: 1, 1.1, …, 19.9.
_TEMPERATURES = np.arange(10, 200) / 10.0

# Labelled rows closer than this are copies of each other, and tell nothing about how densely the labels lie.
_LEAST_DISTANCE = 0.05

# Labelled rows that are compared with all others in one product.
_BATCH = 1024


@register("uncertainty-herding")
def uncertainty_herding(state: Round) -> Int64:
    """Greedily the rows that raise the uncertainty coverage Σ_i u_i · max_j k(x_i, x_j), j over labelled and chosen.

    Bae, Oliveira and Sutherland, "Uncertainty Herding: One Active Learning Method for All Label Budgets", arXiv
    2412.20644. u_i = 1 − (p_1 − p_2) of the two largest softmax(z^S_i / τ), 0 for labelled rows; k as in
    :func:`~.max_herding.max_herding`. Both parameters adapt: τ to calibration (:func:`calibrated_temperature`), which
    at few labels makes all u alike, so that coverage decides; σ to the labels (:func:`bandwidth`), which at many makes
    what a row covers small, so that uncertainty decides; it decides as well where no row adds anything. Ties go to the
    lower index. Departure: large pools, see :func:`~.herding.herd`.

    Raises
    ------
    TypeError
        The student has no `fit`.
    ValueError
        NaN, infinity or a zero vector in a row, which is named.
    """
    check_student(state.student)
    temperature = np.float32(calibrated_temperature(state))
    weights = np.zeros(state.labels.size, np.float32)
    logits = state.unlabelled_logits
    tempered = DerivedRows(logits, logits.name, state.n_classes, lambda chunk: chunk / temperature)
    weights[state.unlabelled] = 1.0 - state.backend.score(tempered).margin
    return herd(state, Kernel.gaussian(bandwidth(state)), weights=weights)


def calibrated_temperature(state: Round) -> float:
    """τ in {1, 1.1, …, 19.9} at which the student is best calibrated on labelled rows that it was not fitted on.

    The smallest expected calibration error over C equal bins of confidence; ties go to the smaller τ. A student that
    was trained with rows held out has the logits of those. Of any other a copy is fitted on 70 % of the labelled rows,
    and the other 30 % (at least one row), drawn at random, calibrate it; +∞ where the 70 % hold fewer than two classes:
    of a student of which nothing can be known, every row is equally uncertain.
    """
    found = _held_out_logits(state)
    if found is None:
        return float("inf")
    logits, labels = found
    correct = logits.argmax(axis=1) == labels
    errors = [_calibration_error(logits / temperature, correct) for temperature in _TEMPERATURES]
    return float(_TEMPERATURES[int(np.argmin(errors))])


def _held_out_logits(state: Round) -> tuple[Float64, Int64] | None:
    """z^S of labelled rows by students that never saw their labels, and these; None where there is no such student."""
    trained = state.trained
    if trained is not None and trained.held_out is not None:
        rows = state.labelled[trained.held_out.rows]
        return trained.held_out.student.astype(np.float64), state.labels[rows]
    order = state.rng.permutation(state.labelled)
    n_held_out = max(1, int(_HELD_OUT * order.size))
    held_out, train = order[:n_held_out], np.sort(order[n_held_out:])
    if not has_two_classes(state.labels[train]):
        return None
    fitted = fit_student(
        state.student, RowSubset(state.features, train), state.labels[train], state.n_classes, state.backend
    )
    unseen = RowSubset(state.features, held_out)
    logits = student_logits(fitted, unseen, state.n_classes, state.backend).float32()
    return logits.astype(np.float64), state.labels[held_out]


def _calibration_error(logits: Float64, correct: npt.NDArray[np.bool_]) -> float:
    """Σ_b (n_b / n) · |accuracy − mean confidence| over C bins (b / C, (b + 1) / C] of confidence."""
    n, n_bins = logits.shape
    confidence = 1.0 / np.exp(logits - logits.max(axis=1, keepdims=True)).sum(axis=1)
    bins = np.ceil(confidence * n_bins).astype(np.int64) - 1
    gaps = np.bincount(bins, weights=correct - confidence, minlength=n_bins)
    return float(np.abs(gaps).sum() / n)


def bandwidth(state: Round) -> float:
    """σ: the smallest distance between two labelled unit rows, of those that are at least 0.05.

    Departure: the published code passes over distances of exactly 0 alone, and a single pair of near copies would make
    every ball a point. Where there is no such pair σ is that of :func:`~.max_herding.max_herding`.
    """
    labelled = HostUnitRows(RowSubset(state.features, state.labelled), state.backend)
    largest = 1.0 - _LEAST_DISTANCE**2 / 2.0
    similarity = -np.inf
    for start in range(0, labelled.n_rows, _BATCH):
        batch = labelled.between(start, min(start + _BATCH, labelled.n_rows))
        for _, block in labelled.similarities(batch):
            similarity = max(similarity, float(block.max(where=block <= largest, initial=-np.inf)))
    return BANDWIDTH if similarity == -np.inf else float(np.sqrt(2.0 - 2.0 * similarity))
