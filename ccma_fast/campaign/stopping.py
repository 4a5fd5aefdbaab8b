"""When another batch would change little: the criterion of stabilising predictions."""

from __future__ import annotations

import math
import operator
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from ..steps.intervals import coverage_interval

__all__ = ["LEAST_NEW", "Agreement", "agreement", "is_stable"]

LEAST_NEW = 10
"""Labels by which two models differ at least that are compared: one label changes no prediction, and shows nothing."""

# Bloodgood and Vijay-Shanker (CoNLL 2009, "A Method for Stopping Active Learning Based on Stabilizing Predictions and
# the Need for User-Adjustable Stopping"): predictions are stable when the mean kappa of three successive pairs of
# models is at least 0.99.
_N_PAIRS, _LEAST_KAPPA = 3, 0.99


class Agreement(NamedTuple):
    """How far two models agree on the same random rows of the pool, the second with more labels than the first.

    Attributes
    ----------
    n : int
        Rows.
    n_new : int
        Labels that the second had more.
    changed : float
        Share whose predicted class changed. No accuracy on the pool can have changed by more.
    low, high : float
        Its 95 % confidence interval.
    kappa : float
        Cohen's κ of both predictions; 1 where both predict one class for every row.
    """

    n: int
    n_new: int
    changed: float
    low: float
    high: float
    kappa: float


def agreement(before: Sequence[int], now: Sequence[int], n_new: int) -> Agreement:
    """How far two models agree, by the class that each predicts for the same n ≥ 1 rows, and by the new labels."""
    n = len(now)
    n_changed = sum(map(operator.ne, before, now))
    first, second = Counter(before), Counter(now)
    by_chance = sum(count * second[name] for name, count in first.items()) / n**2
    observed = 1.0 - n_changed / n
    kappa = 1.0 if by_chance == 1.0 else (observed - by_chance) / (1.0 - by_chance)
    return Agreement(n, n_new, n_changed / n, *coverage_interval(n_changed, n), kappa)


def is_stable(agreements: Sequence[Agreement]) -> bool | None:
    """Whether predictions have become stable, by the agreements of all pairs of successive models, the last one last.

    None, where it is too early to tell: there are fewer than three.
    """
    last = agreements[-_N_PAIRS:]
    return math.fsum(found.kappa for found in last) / _N_PAIRS >= _LEAST_KAPPA if len(last) == _N_PAIRS else None
