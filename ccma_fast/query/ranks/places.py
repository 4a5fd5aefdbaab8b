"""Which rows of a matrix are a rank's own, by the rows of the pool that it has."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ...pool.derived import AllBut, RowSubset, Runs
from ...pool.rows import Rows
from ...pool.shard_names import ShardFile
from .spread_rows import SpreadRows

__all__ = ["dealt", "own_positions", "spread_source"]

Int64 = npt.NDArray[np.int64]

# A rank's rows end where a shard does, where that is no farther away than this share of them.
_NEAR = 1 / 16


def dealt(n_rows: int, shards: Sequence[ShardFile], n_ranks: int) -> list[Runs]:
    """The rows of each rank: consecutive ones, as many for each, whole shards where those are small."""
    cuts = [rank * n_rows // n_ranks for rank in range(n_ranks + 1)]
    ends = np.cumsum([0, *(shard.n_rows for shard in shards)])
    for rank in range(1, n_ranks):
        near = int(ends[np.abs(ends - cuts[rank]).argmin()])
        if abs(near - cuts[rank]) <= _NEAR * n_rows / n_ranks:
            cuts[rank] = near
    return [Runs([start], [stop]) for start, stop in itertools.pairwise(cuts)]


def spread_source(rows: Rows) -> SpreadRows | None:
    """The rows of the pool that some rows come from, where they lie on several ranks."""
    if isinstance(rows, SpreadRows):
        return rows
    for source in (rows.rows,) if isinstance(rows, RowSubset) else rows.behind:
        found = spread_source(source)
        if found is not None:
            return found
    return None


def own_positions(rows: Rows, own: Runs) -> Runs:
    """The positions in `rows` of what comes from the rows `own` of the pool."""
    if isinstance(rows, RowSubset):
        below = own_positions(rows.rows, own)
        return Runs(*(_n_smaller(rows.indices, bounds) for bounds in (below.starts, below.stops)))
    return own_positions(rows.behind[0], own) if rows.behind else own


def _n_smaller(indices: Int64 | AllBut | Runs, numbers: Int64) -> Int64:
    """How many of ascending indices are smaller than each of some numbers."""
    if isinstance(indices, AllBut):
        return numbers - np.searchsorted(indices.missing, numbers)
    if isinstance(indices, Runs):
        run = np.searchsorted(indices.stops, numbers)
        before = np.append(0, indices.ends)[run]
        starts = np.append(indices.starts, np.iinfo(np.int64).max)[run]
        smaller: Int64 = before + np.maximum(0, numbers - starts)
        return smaller
    assert (np.diff(indices) > 0).all(), "rows that are gone through on several ranks ascend"
    return np.searchsorted(indices, numbers)
