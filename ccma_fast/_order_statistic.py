"""The search for an order statistic of scores that are counted and never stored: what backends share of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

import numpy as np

__all__ = ["KeptScores", "ScoresBetween", "bracket_of", "bracket_sample", "order_statistic"]

# Scores among which the first bracket is looked for.
_SAMPLE = 1 << 19


class KeptScores(Protocol):
    """Scores that a pass kept."""

    size: int

    def at(self, *places: int) -> list[float]:
        """The scores at these places, from 0, of the sorted ones."""
        ...


class ScoresBetween(NamedTuple):
    """What one pass says of the scores in (low, high]."""

    below: int
    """How many scores are at most low."""
    inside: int
    """How many lie inside."""
    kept: KeptScores
    """Those, or a sample where there are very many."""


def order_statistic(
    rank: int, bracket: tuple[float, float], scores_between: Callable[[float, float], ScoresBetween]
) -> float:
    """The exact rank-th smallest score, from 1, of scores that are not negative.

    One pass over all logits counts the scores below a likely bracket and keeps those inside, among which the threshold
    is then selected. Where the bracket missed, or held more than could be kept, it is drawn anew from what is known:
    every further pass has fewer scores in question.
    """
    low, high = bracket
    floor, ceiling = -1.0, np.inf  # the threshold lies in (floor, ceiling]
    while True:
        below, inside, kept = scores_between(low, high)
        if rank <= below:
            ceiling, low, high = low, floor, low
        elif rank > below + inside:
            floor, low, high = high, high, ceiling
        elif inside == kept.size:
            return kept.at(rank - below - 1)[0]
        elif np.nextafter(low, np.inf) >= high:
            return float(high)  # one number, many times
        else:
            floor, ceiling = low, high
            low, high = bracket_of(kept, (rank - below) / inside, kept.size**0.5)
            low, high = max(low, floor), min(high, ceiling)
            if (low, high) == (floor, ceiling):  # few numbers, each very many times
                high = low + (high - low) / 2


def bracket_sample(rank: int, n_rows: int, n_columns: int) -> tuple[int, float, float]:
    """Rows, spread evenly, whose scores give a likely bracket; the place in them to look at, and by which margin.

    The place is a share of all scores, the margin a number of them.
    """
    n_sample = min(n_rows, max(64, min(4096, _SAMPLE // n_columns)))
    # Scores of one row go up and down together, which is why the margin counts rows, not scores.
    return n_sample, rank / (n_rows * n_columns), 4.0 * max(1.0, rank / n_rows) * n_sample**0.5


def bracket_of(kept: KeptScores, share: float, margin: float) -> tuple[float, float]:
    """The numbers that lie `margin` ranks to both sides of the place `share` in the sorted scores."""
    place = share * kept.size
    below, above = (int(np.clip(at, 0, kept.size - 1)) for at in (place - margin, place + margin))
    low, high = kept.at(below, above)
    # The bracket is open below; the next smaller number keeps its lower end inside.
    return float(np.nextafter(low, -np.inf)), high
