"""Confidence intervals of shares."""

from __future__ import annotations

import math
from statistics import NormalDist

from ..checks import check_fraction, check_integer

__all__ = ["coverage_interval"]


def coverage_interval(covered: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """The confidence interval of a coverage that was counted on independent rows (Wilson 1927).

    Parameters
    ----------
    covered : int
        Rows whose set held the true class, from 0 to n.
    n : int
        Rows.
    confidence : float, default 0.95
        Inside (0, 1).

    Returns
    -------
    low, high : float
        (covered + z²/2 ± z √(covered (n − covered) / n + z²/4)) / (n + z²), z the normal quantile; (0, 1) for n = 0.

    Raises
    ------
    ValueError
        `covered` or `n` negative, more rows covered than there are, confidence outside (0, 1).
    TypeError
        Counts that are not integers.

    Notes
    -----
    Wilson's interval has a closed form, stays inside [0, 1], is right for 0 and for n covered rows, and is as often
    right as it says on average over coverages; the exact interval of Clopper and Pearson errs on the wide side at all
    of them (Brown, Cai and DasGupta 2001), and what is compared with 1 − α is better served by the sharper one.

    Examples
    --------
    Sets held the true class of 85 of 100 rows that nothing was fitted on. Where 90 % was promised, that is
    no contradiction:

    >>> import ccma_fast as cf
    >>> low, high = cf.coverage_interval(85, 100)
    >>> round(low, 3), round(high, 3)
    (0.767, 0.907)
    """
    rows = check_integer("n", n, minimum=0)
    k = check_integer("covered", covered, minimum=0, maximum=rows)
    z = NormalDist().inv_cdf(0.5 + 0.5 * check_fraction("confidence", confidence))
    if rows == 0:
        return 0.0, 1.0
    centre = k + 0.5 * z * z
    margin = z * math.sqrt(k * (rows - k) / rows + 0.25 * z * z)
    # Rounding is not to move an end off 0 or 1.
    low = 0.0 if k == 0 else (centre - margin) / (rows + z * z)
    high = 1.0 if k == rows else (centre + margin) / (rows + z * z)
    return low, high
