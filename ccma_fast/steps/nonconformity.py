"""Step 3: nonconformity scores.

Three are offered:

- "lac": a_ic = −ln p_ic, in nats (Sadinle et al. 2019); the smallest sets on average.
- "aps": s_ic, the probability of all classes more probable than c plus p_ic, in [0, 1] (Romano et al. 2020, arXiv
  2006.02544); sets adapt to how hard a row is. A class with p_ic < 2⁻⁴⁰ scores one more: where the softmax saturates,
  sums of probabilities cannot tell the classes apart, and a threshold of 1 must not admit the impossible ones.
- "raps": s_ic + λ · max(0, rank of c − k_reg) (Angelopoulos et al. 2021, arXiv 2009.14193): APS without its long tails.

Classes of equal probability have the same score and the rank of the first of them.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .. import reference
from ..backends.protocol import Backend, on_device
from ..checks import check_choice, check_integer, check_number, raise_not_finite
from ..config import SCORES, CCMAConfig
from ..pool.array_like import real_array, real_vector
from ..pool.rows import Rows
from ..reference import Cumulative

__all__ = ["calibration_scores_of", "configured_rule", "labelled_scores", "score_rule", "true_class_scores"]

Float64 = npt.NDArray[np.float64]

# Scores that are formed at a time, several arrays of them in float64, which are to stay in the cache.
_FORMED = 1 << 17


def score_rule(
    score: str, penalty: float, k_reg: int, u: npt.ArrayLike | None = None, n_rows: int = 0
) -> Cumulative | None:
    """The arguments of :func:`ccma_fast.nonconformity_scores` as backends take them, checked: None for "lac"."""
    check_choice("score", score, SCORES)
    weight = check_number("penalty", penalty, minimum=0.0)
    free = check_integer("k_reg", k_reg, minimum=0)
    if score == "lac":
        if u is not None:
            raise ValueError("u belongs to the scores 'aps' and 'raps', got it with the score 'lac'")
        return None
    if u is not None:
        drawn = real_array("u", u)
        if drawn.shape != (n_rows,):
            raise ValueError(f"u must have shape ({n_rows},), got {drawn.shape}")
        bad = np.flatnonzero(~((drawn >= 0.0) & (drawn <= 1.0)))
        if bad.size:
            raise ValueError(f"u must lie in [0, 1], got {drawn[bad[0]]} at row {bad[0]}")
        u = drawn
    return Cumulative(weight, free, u) if score == "raps" else Cumulative(u=u)


def configured_rule(config: CCMAConfig) -> Cumulative | None:
    """:func:`score_rule` of a configuration."""
    return score_rule(config.nonconformity, config.raps_penalty, config.raps_k_reg)


def labelled_scores(logits: Rows, labels: npt.NDArray[np.int64], config: CCMAConfig, backend: Backend) -> Float64:
    """Calibration scores: the nonconformity of the true class of labelled rows, of which these are the logits."""
    rule, device = configured_rule(config), on_device(backend)
    if device is not None:
        return device.true_class_scores(logits, labels, rule)
    return true_class_scores(logits.float32(), labels, logits.name, rule)


def true_class_scores(
    logits: npt.NDArray[np.float32], labels: npt.NDArray[np.int64], name: str, cumulative: Cumulative | None = None
) -> Float64:
    """The nonconformity of each row's true class; those of all classes are formed for some rows at a time."""
    bad = np.flatnonzero(~np.isfinite(logits).all(axis=1))
    if bad.size:
        raise_not_finite(name, int(bad[0]))
    scores = np.empty(labels.size)
    step = max(1, _FORMED // logits.shape[1])
    for start in range(0, labels.size, step):
        part = slice(start, start + step)
        rule = None if cumulative is None else cumulative.of_rows(part)
        scores[part] = reference.nonconformity(logits[part], rule)[np.arange(labels[part].size), labels[part]]
    return scores


def calibration_scores_of(values: npt.ArrayLike) -> Float64:
    """The argument `calibration_scores` as an array without NaN."""
    scores = real_vector("calibration_scores", values)
    nan = np.flatnonzero(np.isnan(scores))
    if nan.size:
        raise ValueError(f"calibration_scores must be numbers, got NaN at row {nan[0]}")
    return scores
