"""Maximum-likelihood temperature of logits."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from ..backends.tempering import tempered

__all__ = ["likeliest_temperature", "log_likelihoods", "log_loss", "smoothed_temperature"]

Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]

# β times the largest gap of two logits up to which all classes are as good as equally likely, and β times the smallest
# from which on no row is in doubt: exp(−1000) is 0. In units of the logits, whose scale may be any.
_EVEN, _CERTAIN = 1e-6, 1e3

# The largest gap: float64 holds its square.
_LARGEST = 1e150

# Where no row is wrong a smaller temperature is never less likely; this one is small for cosines as for logits.
_LEAST_TEMPERATURE = 1e-6

# Relative step, or width of the interval, that the search ends with.
_PRECISION = 1e-6

# Logits that a smoothed temperature is fitted to.
_MOST_LOGITS = 1 << 18


def likeliest_temperature(similarities: Float64, labels: Int64, *, pseudo_rows: float = 0.0) -> float:
    """The τ that maximises Σ ln softmax(s / τ)_y, in the units of s.

    The log-likelihood is concave in β = 1 / τ: its derivative Σ (s_y − Σ_c p_c s_c) decreases. Newton's method finds
    its zero, inside an interval that is halved, in ln β, where a step leaves it.

    Parameters
    ----------
    similarities : ndarray, shape (n, C), float64
    labels : ndarray, shape (n,), int64
    pseudo_rows : float, default 0
        Rows by which the labels are smoothed, a few right answers then prove no certainty: each of a class that is as
        likely as the median class of its row. A mean would leave all to a class that is masked by −1e9.

    Returns
    -------
    float
        In proportion to s. Infinite where uniform guessing is likeliest, and where no row is wrong 1e-6, or less where
        logits differ by less than 1e-3.
    """
    s = np.array(similarities.T, np.float64, order="C")
    s -= s.max(axis=0)
    if not s.any():
        return math.inf
    least = float(s.min(initial=0.0))
    if not -least < _LARGEST:
        raise ValueError(f"logits of a row must be finite and differ by less than {_LARGEST}, got {-least}")
    smoothing = pseudo_rows / (labels.size + pseudo_rows)
    true = (1.0 - smoothing) * s[labels, np.arange(labels.size)].sum() + smoothing * _medians(s).sum()

    def slope(beta: float) -> tuple[float, float]:
        """The derivative, and how fast it falls."""
        mean, variance = tempered(s, beta)
        return float(true) - mean, variance

    low, high = _EVEN / -least, _CERTAIN / -float(s.max(where=s < 0.0, initial=-math.inf))
    if slope(low)[0] <= 0.0:
        return math.inf
    if true == 0.0:
        return min(_LEAST_TEMPERATURE, 1.0 / high)
    beta = math.sqrt(low * high)
    while high > (1.0 + _PRECISION) * low:
        rise, fall = slope(beta)
        low, high = (beta, high) if rise > 0.0 else (low, beta)
        step = rise / fall if fall > 0.0 else math.inf
        if abs(step) <= _PRECISION * beta:
            return 1.0 / (beta + step)
        beta = beta + step if low < beta + step < high else math.sqrt(low * high)
    return 1.0 / math.sqrt(low * high)


def _medians(s: Float64) -> Float64:
    """The median of each column; `np.median` takes three times as long for small ones."""
    k = len(s) // 2
    lower = k - 1 if len(s) % 2 == 0 else k
    middle: Float64 = np.partition(s, (lower, k), axis=0)
    medians: Float64 = 0.5 * (middle[lower] + middle[k])
    return medians


def smoothed_temperature(logits: npt.NDArray[Any], labels: Int64) -> float:
    """The likeliest τ of a model by labels that are smoothed by one row; of many rows some are used."""
    n, n_classes = logits.shape
    some = np.linspace(0, n - 1, min(n, max(1, _MOST_LOGITS // n_classes))).astype(np.int64)
    return likeliest_temperature(logits[some].astype(np.float64), labels[some], pseudo_rows=1.0)


def log_likelihoods(logits: npt.NDArray[Any], labels: Int64) -> Float64:
    """ln softmax(z)_y of each row, in nats, shape (n,)."""
    z = logits.astype(np.float64)
    z -= z.max(axis=1, keepdims=True)
    found: Float64 = z[np.arange(labels.size), labels] - np.log(np.exp(z).sum(axis=1))
    return found


def log_loss(z: Float64, labels: Int64) -> float:
    """Σ −ln softmax(z)_y over the rows, in nats."""
    return -float(log_likelihoods(z, labels).sum())
