"""Dynamic coverage and margin mix."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..pool.derived import RowSubset
from ..steps.coverage import HostUnitRows
from ..steps.student import student_logits
from .herding import candidate_rows
from .probcover import ball_similarity, probcover
from .registry import Round, register

__all__ = ["dcom", "pure_radii"]

Bool = npt.NDArray[np.bool_]
Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]

# The published code's constants: centre and steepness of the competence's logistic curve, ...
_CENTRE, _STEEPNESS = 0.8, 50.0
# ... the purity that a ball must have, 0.4 + 0.2 · coverage, ...
_LEAST_PURITY, _PURITY_SLOPE = 0.4, 0.2
# ... and the halvings of a bisection to a width of 0.05, from a largest radius that the published code leaves to its
# configuration and that two codes derived from it set to 1.1.
_LARGEST_RADIUS, _HALVINGS = 1.1, 5

# Centres of balls in one product, and rows of it whose distances are placed together: few enough to stay in cache.
_BATCH = 1024
_PLACED = 128


@register("dcom", needs_labels=False)
def dcom(state: Round) -> Int64:
    """Greedily the rows of largest S · u_i / max u + (1 − S) · n_i / max n: doubt u, new coverage n, competence S.

    Mishal and Weinshall, "DCoM: Active Learning for All Learners", arXiv 2407.01804, on the L2-normalised embeddings.
    Each labelled row has a ball of its own radius (:func:`pure_radii`). S = (1 + e^(−k(1 − a))) / (1 + e^(−k(P − a))),
    a = 0.8, k = 50, where P is the share of the pool in those balls: from 0, coverage, to 1, margins. n_i is the number
    of rows in no labelled or chosen row's ball that the ball of row i holds; chosen rows and those to choose have balls
    of the labelled rows' mean radius. u_i is the largest margin p_1 − p_2 of all rows minus that of row i. The maxima
    are over the rows that can still be chosen; ties go to the lower index. Without labels this is
    :func:`~.probcover.probcover`, whose radius δ₀ is the paper's first.

    Departures from the published code: a radius is computed anew in every round, with the student as it is, where there
    it stays what it was in the round after its row was labelled; the purity that it must have is that for the coverage
    by balls of radius δ₀, since no earlier radii are known; S and radii are not rounded to two or three decimals.

    Raises
    ------
    ValueError
        NaN, infinity or a zero vector in a row, which is named.

    Notes
    -----
    Coverage is counted exactly. In pools of more than some 46,000 rows the picks are among candidates drawn at random,
    see :func:`~.herding.candidate_rows`; all rows count as rows to cover. Each row of the pool is compared with every
    labelled row three times and with every candidate twice at most; each pick costs one pass. Memory is some 60 bytes
    per pool row and some blocks of similarities.
    """
    if state.labelled.size == 0:
        return probcover(state)
    pool = HostUnitRows(state.features, state.backend)
    scores = state.backend.score(student_logits(state.student, state.features, state.n_classes, state.backend))
    first = np.full(state.labelled.size, ball_similarity(state, pool), np.float32)
    purity = _LEAST_PURITY + _PURITY_SLOPE * float(_covered(pool, state.labelled, first).mean())
    radii = pure_radii(state, pool, scores.student_top1, purity)
    covered = _covered(pool, state.labelled, _similarity(radii))
    competence = _competence(float(covered.mean()))

    candidates = candidate_rows(state, pool.n_rows)
    centres = HostUnitRows(RowSubset(state.features, candidates), state.backend)
    doubt = (scores.margin.max() - scores.margin[candidates]).astype(np.float64)
    least = float(_similarity(radii.mean(keepdims=True))[0])
    added = _inside(state, np.flatnonzero(~covered), centres, least).astype(np.float64)
    chosen: list[int] = []
    while True:
        mixed = competence * _of_largest(doubt) + (1.0 - competence) * _of_largest(added)
        mixed[chosen] = -1.0
        best = int(mixed.argmax())
        chosen.append(best)
        if len(chosen) == state.budget:
            return candidates[chosen]
        newly = _covered(pool, candidates[[best]], np.full(1, least, np.float32)) & ~covered
        covered |= newly
        added -= _inside(state, np.flatnonzero(newly), centres, least)
        doubt[best] = 0.0


def pure_radii(state: Round, pool: HostUnitRows, predicted: Int32, purity: float) -> Float64:
    """δ of each labelled row's open ball {x : ‖x − x_i‖ < δ}, shape (L,): the largest whose purity is enough.

    Purity is the share of the ball's rows, its centre included, that are predicted to be of the centre's class.
    Bisection of [0, 1.1] in five steps, as in the published code but for its early end where a purity is the wanted one
    to the last bit, and the middle of the interval that is left: where purity does not fall with the radius, a larger
    ball may be pure as well.

    Parameters
    ----------
    state : Round
    pool : HostUnitRows, shape (N, D)
    predicted : ndarray, shape (N,), int32
        The student's most probable class of each row.
    purity : float
        The least that is enough.
    """
    n_parts = 2**_HALVINGS
    width = _LARGEST_RADIUS / n_parts
    radii = np.empty(state.labelled.size)
    for start in range(0, state.labelled.size, _BATCH):
        centres = state.labelled[start : start + _BATCH]
        # Rows of the centre's class, and others, by the part of [0, 1.1] that their distance lies in.
        counts = np.zeros((2, n_parts + 1, centres.size), np.int64)
        for part, similarity in pool.similarities(pool.take(centres)):
            for first in range(0, len(similarity), _PLACED):
                piece = slice(first, first + _PLACED)
                distance = np.sqrt(np.maximum(2.0 - 2.0 * similarity[piece], 0.0))
                place = np.minimum(distance / np.float32(width), n_parts).astype(np.int64)
                place += (n_parts + 1) * (predicted[part][piece, None] == state.labels[centres])
                place *= centres.size
                place += np.arange(centres.size)
                counts += np.bincount(place.ravel(), minlength=counts.size).reshape(counts.shape)
        others, same = counts.cumsum(axis=1)
        low = np.zeros(centres.size, np.int64)
        for step in n_parts // 2 ** np.arange(1, _HALVINGS + 1):
            inside = low + step - 1, np.arange(centres.size)
            enough = same[inside] >= purity * np.maximum(same[inside] + others[inside], 1)
            low[enough] += step
        radii[start : start + _BATCH] = (low + 0.5) * width
    return radii


def _similarity(radii: Float64) -> Float32:
    """Rows of a larger cosine similarity lie in the open ball: 1 − δ²/2."""
    return (1.0 - radii**2 / 2.0).astype(np.float32)


def _competence(coverage: float) -> float:
    """S, from almost 0 to 1."""
    return float((1.0 + np.exp(-_STEEPNESS * (1.0 - _CENTRE))) / (1.0 + np.exp(-_STEEPNESS * (coverage - _CENTRE))))


def _of_largest(values: Float64) -> Float64:
    """Values, not negative, as shares of the largest; 0 where that is."""
    largest = values.max()
    return values / largest if largest > 0.0 else values


def _covered(pool: HostUnitRows, centres: Int64, least: Float32) -> Bool:
    """Whether each row of the pool lies in the ball of any of some rows, shape (N,)."""
    covered = np.zeros(pool.n_rows, np.bool_)
    for start in range(0, centres.size, _BATCH):
        batch = slice(start, start + _BATCH)
        for part, similarity in pool.similarities(pool.take(centres[batch])):
            covered[part] |= (similarity > least[batch]).any(axis=1)
    return covered


def _inside(state: Round, rows: Int64, centres: HostUnitRows, least: float) -> Int64:
    """How many of some rows lie in the ball of each centre, shape (n,)."""
    counts = np.zeros(centres.n_rows, np.int64)
    if rows.size == 0:
        return counts
    # Products as of the whole pool, bit by bit: what a pick covers is subtracted from what was counted before.
    members = HostUnitRows(RowSubset(state.features, rows), state.backend)
    for start in range(0, centres.n_rows, _BATCH):
        stop = min(start + _BATCH, centres.n_rows)
        for _, similarity in members.similarities(centres.between(start, stop)):
            counts[start:stop] += np.count_nonzero(similarity > np.float32(least), axis=0)
    return counts
