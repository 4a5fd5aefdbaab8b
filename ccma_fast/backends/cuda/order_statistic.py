"""An order statistic of scores on the device: the host waits once for a sample, and once for the pass that it brackets.

What :func:`ccma_fast.backends.order_statistic.order_statistic` does with scores that it can look at is done here with
counts alone: how many scores lie up to a bracket, inside, and in the cells of a grid.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ...kernels import threshold
from ...kernels.threshold import N_CELLS
from .reader import NOTHING_BAD

__all__ = ["Grid", "KeptCounts", "Search", "order_statistic", "request"]

Int64 = npt.NDArray[np.int64]

# Cells are as wide everywhere in relation to a number's size, which would waste most of them on numbers near zero.
_LEAST, _MOST = 2.0**-7, 2.0**8


class Grid(NamedTuple):
    """Cells of numbers by their bits, which order as numbers do that are not negative.

    The first cell holds all below the grid, and the last all above.
    """

    first: int
    """Bits of the least number in the grid."""
    shift: int
    """A cell holds the numbers of 2^shift successive bits."""

    @classmethod
    def inside(cls, low: float, high: float) -> Grid:
        """A grid of a bracket (low, high], or of the part of it where scores are likely."""
        first, last = _least_bits(low), _bits(high)
        likely = max(first, _bits(_LEAST)), min(last, _bits(_MOST))
        if likely[0] < likely[1]:
            first, last = likely
        shift = 0
        while (last - first) >> shift > N_CELLS - 3:
            shift += 1
        return cls(first, shift)

    def bracket(self, least: int, most: int, low: float, high: float) -> tuple[float, float]:
        """The part of a bracket (low, high] that the cells from `least` to `most` cover."""
        largest = _bits(high)  # beyond which cells of the grid are empty
        below = min(self._end(least - 1), largest)
        if least > 0:
            low = max(low, -1.0 if below < 0 else _number(below))
        if most < N_CELLS - 1:
            high = _number(min(self._end(most), largest))
        return low, high

    def _end(self, cell: int) -> int:
        """Bits of the last number of a cell."""
        return self.first + (cell << self.shift) - 1


class KeptCounts(NamedTuple):
    """What the host reads of a pass."""

    below: int
    """Number of scores ≤ low."""
    inside: int
    """Number of scores in (low, high]."""
    kept: int
    """Those that were kept: fewer where a program found more than it had room for."""
    cells: Int64
    """How many of these lie in each cell, shape (N_CELLS,)."""
    n_listed: int
    """Number of those in the rank's cell."""
    listed: npt.NDArray[np.float64]
    """The values, at most ROOM of them, in any order."""
    bad: int
    """The row that is not finite, see `report_rows`."""

    @classmethod
    def of(cls, state: Int64) -> KeptCounts:
        """Reads the state, shape (n,), once it is on the host."""
        below, inside, kept, n_listed = state[threshold.BELOW.value : threshold.LISTED.value + 1].tolist()
        bad = int(state[threshold.BAD.value])
        cells, listed = np.split(state[threshold.FIRST_CELL.value :], [N_CELLS])
        return cls(below, inside, kept, cells, n_listed, listed[:n_listed].view(np.float64), bad)


def request(bracket: tuple[float, float], grid: Grid, rank: int) -> Int64:
    """The state of a pass before it, see :mod:`ccma_fast.kernels.threshold`.

    Parameters
    ----------
    bracket : (float, float)
        Its ends, low ≤ high.
    grid : Grid
    rank : int
        The rank, from 1, among all scores, whose cell is to be listed.
    """
    state = np.zeros(threshold.FIRST_CELL.value + N_CELLS + threshold.ROOM, np.int64)
    state[threshold.LOW.value : threshold.HIGH.value + 1] = np.array(bracket).view(np.int64)
    state[threshold.FIRST.value : threshold.RANK.value + 1] = *grid, rank
    state[threshold.BAD.value] = NOTHING_BAD
    return state


class Search(NamedTuple):
    """Passes over scores."""

    n_rows: int
    sample: Callable[[float, float, Grid], KeptCounts] | None
    """Of a sample of `n_sampled` rows; None where that does not pay."""
    n_sampled: int
    whole: Callable[[float, float, Grid, int], KeptCounts]
    """Of all rows, with the rank whose cell is to be listed."""


def order_statistic(rank: int, search: Search) -> float:
    """The exact rank-th smallest score, from 1, of scores that are not negative.

    A pass counts the scores up to a likely bracket, keeps those inside and lists those of the cell that holds the rank,
    among which it is selected. Where the bracket missed, or held more than could be kept or listed, it is drawn anew
    from what is known: every further pass has a smaller one.
    """
    low, high = -1.0, np.inf
    if search.sample is not None:
        grid = Grid.inside(low, high)
        found = search.sample(low, high, grid)
        per_row = rank / search.n_rows
        # Scores are correlated within a row, so that the margin counts rows, not scores.
        margin = 4.0 * max(1.0, per_row) * search.n_sampled**0.5
        low, high = _likely(found, grid, per_row * search.n_sampled, margin, low, high)
    floor, ceiling = -1.0, np.inf  # the order statistic lies in (floor, ceiling]
    while True:
        grid = Grid.inside(low, high)
        found = search.whole(low, high, grid, rank)
        place = rank - found.below
        if place <= 0:
            ceiling, low, high = low, floor, low
        elif place > found.inside:
            floor, low, high = high, high, ceiling
        elif found.inside == found.kept and found.n_listed == found.listed.size:
            return _listed(found, place)
        elif _least_bits(low) == _bits(high):
            return high  # a single value, repeated
        else:
            floor, ceiling = low, high
            margin = 0.0 if found.inside == found.kept else found.kept**0.5
            low, high = _likely(found, grid, place, margin, floor, ceiling)
            if (low, high) == (floor, ceiling):  # as with ties, of which few can be kept: the likeliest cell alone
                low, high = _likely(found, grid, place, 0.0, floor, ceiling)
            if (low, high) == (floor, ceiling):  # none could be kept
                high = _number((_least_bits(low) + _bits(high)) >> 1)


def _listed(found: KeptCounts, place: int) -> float:
    """The order statistic, from the values of its cell: `place` counts, from 1, among those kept, which are all."""
    upto = np.cumsum(found.cells)
    cell = int(np.searchsorted(upto, place))
    within = place - 1 - int(upto[cell] - found.cells[cell])
    return float(np.partition(found.listed, within)[within])


def _likely(found: KeptCounts, grid: Grid, place: float, margin: float, low: float, high: float) -> tuple[float, float]:
    """The cells that lie `margin` ranks to both sides of a place, from 1, among the scores inside a bracket."""
    if found.kept == 0:
        return low, high
    upto = np.cumsum(found.cells)
    place = min(place * found.kept / found.inside, float(found.kept))  # which rounding may exceed
    if margin == 0.0:
        place = max(place, 1.0)
    # Where the margin goes beyond the smallest or the largest that was found, so may scores of other rows.
    least = 0 if place - margin < 1.0 else int(np.searchsorted(upto, place - margin))
    most = N_CELLS - 1 if place + margin > found.kept else int(np.searchsorted(upto, place + margin))
    return grid.bracket(least, most, low, high)


def _least_bits(low: float) -> int:
    """Bits of the least number above `low` that is not negative."""
    return 0 if low < 0.0 else _bits(low) + 1


def _bits(value: float) -> int:
    """The bits of a number that is not negative: they order as the numbers do."""
    return int(struct.unpack("<q", struct.pack("<d", value))[0])


def _number(bits: int) -> float:
    return float(struct.unpack("<d", struct.pack("<q", bits))[0])
