"""An order statistic of scores that are counted and never stored, by passes that a backend implements."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from ..pool.derived import RowSubset
from ..pool.rows import Rows
from ..reference import Cumulative

__all__ = [
    "HostScores",
    "KeptScores",
    "ScoresBetween",
    "bracket_sample",
    "likely_bracket",
    "order_statistic",
    "size_sample",
]

# Rows of the first, rough bracket; then rows of the sample that narrows it: at most this many, and one in so many.
_FEW_ROWS = 16
_SAMPLE = 4096
_SAMPLED_SHARE = 32

# Rows of a sample that brackets a target size so closely that rows can be scored before the threshold is known: one of
# so many, but at least and at most so many, and at most so many bytes of logits; and the fewest rows for which that
# pays.
_SIZE_SAMPLED_SHARE = 96
_LEAST_SIZE_SAMPLE = 64
_SIZE_SAMPLE = 1 << 15
_SIZE_SAMPLE_BYTES = 1 << 27
_LEAST_ROWS = 1 << 10


class KeptScores(Protocol):
    """Scores that a pass kept, or a sample of them."""

    size: int

    def at(self, *places: int) -> list[float]:
        """The order statistics at these positions, from 0."""
        ...


class HostScores:
    """Scores that a pass kept on the host."""

    def __init__(self, values: npt.NDArray[np.float64]) -> None:
        self.size = values.size
        self.values = values

    def at(self, *places: int) -> list[float]:
        """See :class:`KeptScores`."""
        part = np.partition(self.values, places)
        return [float(part[place]) for place in places]


class ScoresBetween(NamedTuple):
    """Counts of one pass over the scores, and those in (low, high]."""

    below: int
    """Number of scores ≤ low."""
    inside: int
    """Number of scores in (low, high]."""
    kept: KeptScores
    """The scores in (low, high], or a sample where there are very many."""


Pass = Callable[[Rows, Cumulative | None, float, float], ScoresBetween]
"""Counts and keeps the scores of some rows in (low, high]."""


def order_statistic(rank: int, logits: Rows, cumulative: Cumulative | None, scores_between: Pass) -> float:
    """The exact rank-th smallest score, from 1, of scores that are not negative.

    One pass over all logits counts the scores below a likely bracket and keeps those inside, among which the threshold
    is then selected. Where the bracket missed, or held more than could be kept, it is drawn anew from what is known:
    every further pass has fewer scores inside the bracket.
    """
    low, high = _sampled_bracket(rank, logits, cumulative, scores_between)
    floor, ceiling = -1.0, np.inf  # the threshold lies in (floor, ceiling]
    while True:
        below, inside, kept = scores_between(logits, cumulative, low, high)
        if rank <= below:
            ceiling, low, high = low, floor, low
        elif rank > below + inside:
            floor, low, high = high, high, ceiling
        elif inside == kept.size:
            return kept.at(rank - below - 1)[0]
        elif np.nextafter(low, np.inf) >= high:
            return float(high)  # a single value, repeated
        else:
            floor, ceiling = low, high
            low, high = _bracket(kept, (rank - below) / inside, kept.size**0.5)
            low, high = max(low, floor), min(high, ceiling)
            if (low, high) == (floor, ceiling):  # few distinct values, each repeated very often
                high = low + (high - low) / 2


def bracket_sample(n_rows: int) -> int:
    """Rows of the sample that narrows the bracket of an order statistic."""
    return max(_FEW_ROWS, min(_SAMPLE, n_rows // _SAMPLED_SHARE))


def size_sample(n_rows: int, n_columns: int) -> int:
    """Rows of the sample for :func:`likely_bracket`; 0 where it does not pay."""
    if n_rows < _LEAST_ROWS:
        return 0
    most = min(_SIZE_SAMPLE, max(1, _SIZE_SAMPLE_BYTES // (4 * n_columns)))
    return min(most, max(_LEAST_SIZE_SAMPLE, n_rows // _SIZE_SAMPLED_SHARE))


def likely_bracket(
    rank: float, sample: Rows, scores_between: Pass, margin: Callable[[float], float]
) -> tuple[float, float]:
    """The scores of a sample that lie margin(q) ranks to both sides of its score q of this rank."""
    low, high = _sampled_bracket(rank, sample, None, scores_between)
    below, inside, kept = scores_between(sample, None, low, high)
    if not below < rank <= below + inside or inside > kept.size:
        return low, high
    place = (rank - below) / inside
    return _bracket(kept, place, margin(kept.at(min(int(place * kept.size), kept.size - 1))[0]))


def _sampled_bracket(
    rank: float, logits: Rows, cumulative: Cumulative | None, scores_between: Pass
) -> tuple[float, float]:
    """A likely bracket, from rows spread evenly: all scores of a few say which of more rows are worth keeping."""
    low, high = -1.0, np.inf
    per_row = rank / logits.n_rows
    for most in sorted({_FEW_ROWS, bracket_sample(logits.n_rows)}):
        n_sample = min(logits.n_rows, most)
        rows = (np.arange(n_sample) * logits.n_rows) // n_sample
        of_sample = None if cumulative is None else cumulative.of_rows(rows)
        below, _, kept = scores_between(RowSubset(logits, rows), of_sample, low, high)
        place = per_row * n_sample - below
        if not 0 <= place < kept.size:
            break
        # Scores are correlated within a row, so that the margin counts rows, not scores.
        low, high = _bracket(kept, place / kept.size, 4.0 * max(1.0, per_row) * n_sample**0.5)
    return low, high


def _bracket(kept: KeptScores, share: float, margin: float) -> tuple[float, float]:
    """The numbers that lie `margin` ranks to both sides of the place `share` in the sorted scores."""
    place = share * kept.size
    below, above = (int(np.clip(at, 0, kept.size - 1)) for at in (place - margin, place + margin))
    low, high = kept.at(below, above)
    # The bracket is open below; the next smaller number keeps its lower end inside.
    return float(np.nextafter(low, -np.inf)), high
