"""Step 6: the rows that stand for clusters."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..reference import TIE, KMeans

__all__ = ["representatives"]

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]

# Rows of a whole pool that are gone through at a time.
_PART = 1 << 18


def representatives(
    found: KMeans, n_picks: int, weights: Float32 | None = None, preference: Float32 | None = None
) -> tuple[Int64, Int64]:
    """:func:`ccma_fast.reference.representatives`, in ten bytes a row.

    Parameters
    ----------
    found : KMeans
        Of M rows.
    n_picks : int
        At most M.
    weights : ndarray, shape (M,), float32, optional
        The weights of the clustering; unit weights where missing.
    preference : ndarray, shape (M,), float32, optional
        What to prefer instead of nearness.

    Returns
    -------
    picks, represents : ndarray, shape (n_picks,), int64
        Rows, and how many stand behind each.
    """
    labels, n_clusters = found.labels, len(found.centroids)
    cost = found.squared_distances.copy() if preference is None else -preference
    counts, mass, least = np.zeros(n_clusters, np.int64), np.zeros(n_clusters), np.full(n_clusters, np.inf, np.float32)
    for part in _parts(labels.size):
        counts += np.bincount(labels[part], minlength=n_clusters)
        np.minimum.at(least, labels[part], cost[part])
        np.add.at(mass, labels[part], 1.0 if weights is None else weights[part].astype(np.float64))
    for part in _parts(labels.size):
        best = least[labels[part]]
        cost[part] = np.where(cost[part] <= best.astype(np.float64) + TIE, best, cost[part])
    picks: list[Int64] = []
    missing = n_picks
    while missing:
        # The next of every cluster: of the least cost, the first of several.
        least[:] = np.inf
        for part in _parts(labels.size):
            np.minimum.at(least, labels[part], cost[part])
        rows = np.concatenate(
            [part.start + np.flatnonzero(cost[part] <= least[labels[part]]) for part in _parts(labels.size)]
        )
        _, first = np.unique(labels[rows], return_index=True)
        rows = rows[first]
        rows = rows[np.isfinite(cost[rows])]
        turn = rows[np.lexsort((labels[rows], -mass[labels[rows]]))][:missing]
        cost[turn] = np.inf
        picks.append(turn)
        missing -= turn.size
    later = np.bincount(labels[np.concatenate(picks[1:])], minlength=n_clusters) if len(picks) > 1 else 0
    alone = np.ones(n_picks - picks[0].size, np.int64)
    return np.concatenate(picks), np.concatenate([(counts - later)[labels[picks[0]]], alone])


def _parts(n_rows: int) -> list[slice]:
    return [slice(start, min(start + _PART, n_rows)) for start in range(0, n_rows, _PART)]
