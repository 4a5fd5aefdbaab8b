"""Statistics over the seeds of a run: paired differences, labels to reach an accuracy, seconds of a round."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..curves import LearningCurve, mean_and_error
from .run import Run

__all__ = [
    "CONFIDENCE",
    "Difference",
    "Reached",
    "chosen_targets",
    "difference_to",
    "labels_to_reach",
    "paired_difference",
    "seconds_per_round",
    "t_quantile",
    "told",
]

Float64 = npt.NDArray[np.float64]

CONFIDENCE = 0.95
"""Confidence level of every interval in a report."""


@dataclass(frozen=True)
class Difference:
    """One strategy's areas less another's, paired by seed.

    Attributes
    ----------
    mean : float
    error : float
        Its standard error over the seeds; NaN for one seed.
    low, high : float
        Two-sided t interval of the mean at :data:`CONFIDENCE`; NaN for one seed.
    n_better : int
        Seeds in which the strategy was strictly better.
    n_seeds : int
    """

    mean: float
    error: float
    low: float
    high: float
    n_better: int
    n_seeds: int


@dataclass(frozen=True)
class Reached:
    """Labels that an accuracy takes.

    Attributes
    ----------
    mean : float
        Over the seeds. A seed that never got there counts with its last number of labels, which makes the mean a lower
        bound; NaN where no seed got there.
    error : float
        Standard error over the seeds; NaN for one seed, and where a seed never got there.
    n_reached, n_seeds : int
    """

    mean: float
    error: float
    n_reached: int
    n_seeds: int

    def __str__(self) -> str:
        if self.n_reached == 0:
            return "not reached"
        if self.n_reached < self.n_seeds:
            return f"> {self.mean:.0f} ({self.n_reached} of {self.n_seeds})"
        return f"{self.mean:.0f}" if math.isnan(self.error) else f"{self.mean:.0f} ± {self.error:.0f}"


def t_quantile(confidence: float, freedom: int) -> float:
    """The t with P(|T| ≤ t) = `confidence` for Student's T with whole degrees of freedom ν ≥ 1.

    P(|T| ≤ t) is a finite sum in θ = arctan(t / √ν) (Abramowitz & Stegun 26.7.3 and 26.7.4), inverted by bisection.
    """

    def probability(theta: float) -> float:
        # Terms of sin θ cos^k θ, k = 0, 2, 4, … for even ν and 1, 3, 5, … for odd, each (k − 1) / k of the one before.
        k = freedom % 2
        term, total = math.sin(theta) * math.cos(theta) ** k, 0.0
        while k <= freedom - 2:
            total += term
            k += 2
            term *= math.cos(theta) ** 2 * (k - 1) / k
        return total if freedom % 2 == 0 else 2 / math.pi * (theta + total)

    low, high = 0.0, math.pi / 2
    for _ in range(60):  # π/2 · 2^-60 is below the spacing of float64
        middle = (low + high) / 2
        low, high = (middle, high) if probability(middle) < confidence else (low, middle)
    return math.tan(low) * math.sqrt(freedom)


def paired_difference(ours: Float64, theirs: Float64) -> Difference:
    """Mean of the differences seed by seed, with a t interval.

    Parameters
    ----------
    ours, theirs : ndarray, shape (S,)
        Of the same S ≥ 1 seeds in the same order.

    Notes
    -----
    Both strategies of a seed start from the same labels, so that pairing removes what the seeds themselves contribute.
    The interval is Student's because of the few seeds: the smallest two-sided p of a sign or permutation test over 5 is
    1/16, so that neither has an interval at 95 % at all, and areas are means over many rounds and test rows, whose
    differences are near to normal. The count of seeds that were better needs no such assumption.
    """
    gains = ours - theirs
    n = gains.size
    mean, error = (float(value) for value in mean_and_error(gains))
    reach = t_quantile(CONFIDENCE, n - 1) * error if n > 1 else math.nan
    return Difference(mean, error, mean - reach, mean + reach, int((gains > 0).sum()), n)


def labels_to_reach(curve: LearningCurve, target: float) -> Reached:
    """Labels that `target` takes, over the seeds of a curve (:meth:`LearningCurve.crossings`)."""
    crossings = curve.crossings(target)
    reached = np.isfinite(crossings)
    n_reached = int(reached.sum())
    if n_reached == 0:
        return Reached(math.nan, math.nan, 0, curve.n_seeds)
    mean, error = (float(value) for value in mean_and_error(np.where(reached, crossings, curve.n_labels[-1])))
    return Reached(mean, error if reached.all() else math.nan, n_reached, curve.n_seeds)


def chosen_targets(run: Run) -> list[float]:
    """Accuracies that tell the compared strategies apart: three at most, none where no curve rises.

    Of the levels that at least half of the mean curves reach and that none begins at, the three highest of the coarsest
    round step (10 %, 5 %, 2 %, 1 %, ..., 0.1 %) that has as many, or of the finest.
    """
    curves = [run.compared_curve(strategy).mean for strategy in run.compared]
    tops = sorted((float(np.nanmax(mean)) for mean in curves if np.isfinite(mean).any()), reverse=True)
    if not tops:
        return []
    low = max((float(mean[0]) for mean in curves if np.isfinite(mean[0])), default=0.0)
    high = tops[(len(tops) - 1) // 2]
    levels: list[float] = []
    for step in (100, 50, 20, 10, 5, 2, 1):  # in thousandths; 1e-9 for what rounding leaves of a round number
        first, last = math.floor(1000 * low / step + 1e-9) + 1, math.floor(1000 * high / step + 1e-9)
        levels = [step * number / 1000 for number in range(max(first, last - 2), last + 1)]
        if len(levels) == 3:
            break
    return levels


def told(parts: Sequence[str], most: int = 8) -> str:
    """Parts of an enumeration; of many the first and the last, with the number of those between."""
    if len(parts) > most:
        parts = [*parts[: most - 2], f"{len(parts) - most + 1} others between", parts[-1]]
    return "; ".join(parts)


def difference_to(run: Run, strategy: str, baseline: str, last: int | None = None) -> Difference | None:
    """Area under the accuracy curve against the baseline's over the seeds that both have; None where none is shared.

    Parameters
    ----------
    run : Run
    strategy, baseline : str
        Two of `run.compared`.
    last : int, optional
        Compare the accuracy at this round instead of the area.
    """
    seeds, of_baseline = run.shown_seeds(strategy), run.shown_seeds(baseline)
    shared = [seed for seed in seeds if seed in of_baseline]
    if not shared:
        return None
    pair = []
    for name, own in ((strategy, seeds), (baseline, of_baseline)):
        curve = run.compared_curve(name)
        values = curve.area if last is None else curve.accuracy[:, last]
        pair.append(values[[own.index(seed) for seed in shared]])
    return paired_difference(*pair)


def seconds_per_round(run: Run, strategy: str) -> dict[str, float]:
    """Mean seconds of each stage over all seeds and rounds in which it ran, in the order of the first round."""
    timings = run.results.timings
    own = timings["strategy"] == strategy
    stages = list(dict.fromkeys(timings["stage"][own].tolist()))
    return {stage: float(timings["seconds"][own & (timings["stage"] == stage)].mean()) for stage in stages}
