"""Core-set by greedy k-center."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..pool.arrays import ArrayRows
from ..pool.rows import Rows, to_float32
from .registry import Round, register

__all__ = ["coreset"]

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]

# Rows that are kept in memory between two passes over the pool.
_CANDIDATES = 4096


@register("coreset")
def coreset(state: Round) -> Int64:
    """Again and again the row farthest from all labelled and chosen rows, ‖x_i − x_j‖; of equal rows the first.

    Sener and Savarese, "Active Learning for Convolutional Neural Networks: A Core-Set Approach", arXiv 1708.00489:
    their greedy 2-approximation, without the mixed-integer refinement, on the student's embeddings.

    Raises
    ------
    ValueError
        NaN or infinity in a row, which is named.

    Notes
    -----
    Lazy and exact. Distances only shrink as rows are chosen, so those of the last pass over the pool are upper bounds:
    while the best of the 4,096 rows that were farthest then is still farther than any other row was, it is the next
    choice, and one pass serves many of them. Memory is those rows, the labelled ones and 8 bytes per pool row.

    Distances are float32, rounded by where the rows of a pass lie: rows that differ, and of which none is farther but
    for that rounding, come in any order.
    """
    rows, backend = state.unlabelled_features, state.backend
    squared = _to_nearest(state, rows, state.labelled)
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
            np.minimum(at_hand_squared, _to_nearest(state, at_hand, state.unlabelled[[row]]), out=at_hand_squared)
            at_hand_squared[best] = -1.0  # never again, also where all rows that are left are at distance zero
        np.minimum(squared, _to_nearest(state, rows, state.unlabelled[chosen[n_before:]]), out=squared)
        squared[chosen] = -1.0


def _to_nearest(state: Round, rows: Rows, centres: Int64) -> Float32:
    """The squared distance of each row to the nearest of some pool rows: k-means without an iteration."""
    found = state.backend.weighted_kmeans(
        rows,
        centres.size,
        init=to_float32(state.features.take(centres)),
        max_iter=0,
        random_state=state.rng,
        kept_bytes=state.sketch_bytes,
    )
    return found.squared_distances
