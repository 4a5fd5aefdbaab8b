"""Core-set by greedy k-center."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..pool.arrays import ArrayRows
from ..pool.derived import RowSubset
from ..pool.rows import Rows, to_float32
from .registry import Round, register

__all__ = ["coreset", "farthest_first"]

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]

# Rows that are kept in memory between two passes over the pool.
_CANDIDATES = 4096


@register("coreset")
def coreset(state: Round) -> Int64:
    """Again and again the row farthest from all labelled and chosen rows, ‖x_i − x_j‖; of equal rows the first.

    Sener and Savarese, "Active Learning for Convolutional Neural Networks: A Core-Set Approach", arXiv 1708.00489:
    their greedy 2-approximation, without the mixed-integer refinement, on the student's embeddings.
    :func:`farthest_first` tells memory and ties.

    Raises
    ------
    ValueError
        NaN or infinity in a row, which is named.
    """
    return farthest_first(state, state.unlabelled_features, RowSubset(state.features, state.labelled))


def farthest_first(state: Round, rows: Rows, centres: Rows) -> Int64:
    """Greedy k-center: again and again the row farthest from all centres and chosen rows; of equal rows the first.

    Parameters
    ----------
    state : Round
    rows : Rows, shape (U, D)
        A point for each unlabelled row, in their order.
    centres : Rows, shape (n, D)
        Points of the same space, at least one.

    Returns
    -------
    ndarray, shape (budget,), int64
        Rows of the pool, in the order of choice.

    Raises
    ------
    ValueError
        NaN or infinity in a point, whose row is named.

    Notes
    -----
    Lazy and exact. Distances only shrink as rows are chosen, so those of the last pass over the pool are upper bounds:
    while the best of the 4,096 rows that were farthest then is still farther than any other row was, it is the next
    choice, and one pass serves many of them. Memory is those rows, the centres and 8 bytes per pool row.

    Distances are float32, rounded by where the rows of a pass lie: rows that differ, and of which none is farther but
    for that rounding, come in any order.
    """
    backend = state.backend
    squared = _to_nearest(state, rows, centres.float32())
    chosen: list[int] = []
    while True:
        farthest = backend.top_m(squared, _CANDIDATES + 1)
        candidates = np.sort(farthest[:_CANDIDATES])
        # The nearest rival outside: none where all rows are candidates.
        rival, rival_squared = rows.n_rows, -1.0
        if farthest.size > _CANDIDATES:
            rival, rival_squared = int(farthest[-1]), float(squared[farthest[-1]])
        at_hand = ArrayRows(to_float32(rows.take(candidates)), rows.name)
        at_hand_squared = squared[candidates]
        n_before = len(chosen)
        while True:
            best = int(at_hand_squared.argmax())
            row, row_squared = int(candidates[best]), float(at_hand_squared[best])
            if row_squared < rival_squared or (row_squared == rival_squared and row > rival):
                break
            chosen.append(row)
            if len(chosen) == state.budget:
                return state.unlabelled[chosen]
            point = at_hand.slice(best, best + 1)
            np.minimum(at_hand_squared, _to_nearest(state, at_hand, point), out=at_hand_squared)
            at_hand_squared[best] = -1.0  # never again, also where all rows that are left are at distance zero
        points = to_float32(rows.take(np.asarray(chosen[n_before:])))
        np.minimum(squared, _to_nearest(state, rows, points), out=squared)
        squared[chosen] = -1.0


def _to_nearest(state: Round, rows: Rows, points: Float32) -> Float32:
    """The squared distance of each row to the nearest of some points: k-means without an iteration."""
    found = state.backend.weighted_kmeans(
        rows,
        len(points),
        init=points,
        max_iter=0,
        random_state=state.rng,
        kept_bytes=state.sketch_bytes,
    )
    return found.squared_distances
