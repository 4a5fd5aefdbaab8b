"""The rows that a pick represents, the nearest first."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ..backends.protocol import Backend, on_ranks
from ..pool.rows import Rows, to_float32

__all__ = [
    "MOST_NEAREST",
    "NO_NEAREST",
    "are_nearest",
    "nearest_represented",
    "nearest_to_centroids",
    "numbers_of",
]

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]

MOST_NEAREST = 10
"""Rows that are listed for each pick."""

NO_NEAREST: Int64 = np.empty((0, MOST_NEAREST), np.int64)

# Rows of a cluster, those nearest to its centroid, among which the nearest to its pick are looked for: a clustering of
# the whole pool is not followed by another pass over it.
_MOST_COMPARED = 32

# Rows that are gone through at a time.
_PART = 1 << 18


def nearest_represented(
    backend: Backend, rows: Rows, picks: Int64, group: npt.NDArray[np.integer[Any]], cost: Float32 | None = None
) -> Int64:
    """The rows nearest to each pick among those that it represents, by their cosines; ties go to the lower row.

    Parameters
    ----------
    backend : Backend
    rows : Rows, shape (M, D)
    picks : ndarray, shape (B,), int64
        Positions in `rows`.
    group : ndarray, shape (M,), int
        The cluster of each row, or the pick that it is nearest to. The first pick of a group represents the others of
        the group but for later picks, which represent themselves alone.
    cost : ndarray, shape (M,), float32, optional
        Squared distances to the centroids. Of each cluster the 32 rows of the least are compared; without it all are.

    Returns
    -------
    ndarray, shape (B, 10), int64
        Positions in `rows`, the pick itself not among them; −1 where it represents fewer.
    """
    nearest, spread = np.full((picks.size, MOST_NEAREST), -1, np.int64), on_ranks(backend)
    pick_of_group = np.full(int(group.max(initial=-1)) + 1, -1, np.int64)
    pick_of_group[group[picks[::-1]]] = np.arange(picks.size)[::-1]
    if cost is None:
        members = np.flatnonzero(pick_of_group[group] >= 0)
    elif spread is not None and not isinstance(group, np.ndarray):
        members = spread.nearest_to_centroids(group, pick_of_group, cost)
    else:
        members = nearest_to_centroids(group, pick_of_group, cost)
    members = members[~_are_in(members, np.sort(picks))]
    of_pick = pick_of_group[group[members]]
    members, of_pick = members[order := np.argsort(of_pick, kind="stable")], of_pick[order]
    rank = _ranks(of_pick, -_similarities(backend, rows, members, picks, of_pick))
    listed = rank < MOST_NEAREST
    nearest[of_pick[listed], rank[listed]] = members[listed]
    return nearest


def numbers_of(nearest: Int64, rows: Any) -> Int64:
    """The same table, of the numbers of rows instead of their positions among `rows`, an index array."""
    return np.where(nearest < 0, -1, rows[np.maximum(nearest, 0)])


def nearest_to_centroids(group: npt.NDArray[np.integer[Any]], pick_of_group: Int64, cost: Float32) -> Int64:
    """The rows of least cost of each group that has a pick, a part of the rows after the other."""
    kept = np.empty(0, np.int64)
    limit = np.full(pick_of_group.size, np.inf, np.float32)
    for start in range(0, group.size, _PART):
        part = slice(start, start + _PART)
        wanted = (pick_of_group[group[part]] >= 0) & (cost[part] < limit[group[part]])
        rows = np.concatenate([kept, start + np.flatnonzero(wanted)])
        kept = rows[are_nearest(group[rows], cost[rows])]
        is_full = np.bincount(group[kept], minlength=limit.size) == _MOST_COMPARED
        worst = np.zeros_like(limit)
        np.maximum.at(worst, group[kept], cost[kept])
        limit[is_full] = worst[is_full]
    return kept


def are_nearest(group: npt.NDArray[np.integer[Any]], cost: Float32) -> npt.NDArray[np.bool_]:
    """Which rows are among the nearest of their group that are compared."""
    return _ranks(group, cost) < _MOST_COMPARED


def _ranks(group: npt.NDArray[np.integer[Any]], cost: Float32) -> Int64:
    """The place of each row in its group, from 0, by ascending cost; ties go to the first."""
    order = np.lexsort((cost, group))
    starts = _starts(group[order])
    ranks = np.empty(group.size, np.int64)
    ranks[order] = np.arange(group.size) - np.repeat(starts, np.diff(starts, append=group.size))
    return ranks


def _starts(group: npt.NDArray[np.integer[Any]]) -> Int64:
    """Where each group begins, of groups that stand together."""
    return np.flatnonzero(np.diff(group, prepend=-1))


def _are_in(rows: Int64, ascending: Int64) -> npt.NDArray[np.bool_]:
    """Which of some rows are among others; np.isin takes far longer for few."""
    at = np.searchsorted(ascending, rows)
    return np.equal(ascending[np.minimum(at, ascending.size - 1)], rows)


def _similarities(backend: Backend, rows: Rows, members: Int64, picks: Int64, of_pick: Int64) -> Float32:
    """The cosine of each member and its pick, shape (n,); those of a pick stand together."""

    def unit(numbers: Int64) -> Float32:
        chunk = rows.take(numbers)
        x = to_float32(chunk)
        return np.divide(x, backend.row_lengths(chunk)[:, None], out=x, casting="same_kind")

    similarity = np.empty(members.size, np.float32)
    step = rows.chunk_rows()
    for start in range(0, members.size, step):
        part = slice(start, start + step)
        starts = _starts(of_pick[part])
        own = np.repeat(unit(picks[of_pick[part][starts]]), np.diff(starts, append=of_pick[part].size), axis=0)
        similarity[part] = np.einsum("nd,nd->n", unit(members[part]), own)
    return similarity
