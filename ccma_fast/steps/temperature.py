"""Maximum-likelihood temperature of logits."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["LEAST_TEMPERATURE", "likeliest_temperature", "log_likelihoods", "log_loss", "smoothed_temperature"]

Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]

# Bounds of every temperature in use, for cosines as for logits.
LEAST_TEMPERATURE, _LARGEST_TEMPERATURE = 1e-6, 1e6
_BISECTIONS = 24

# Logits that a smoothed temperature is fitted to.
_MOST_LOGITS = 1 << 18


def likeliest_temperature(similarities: Float64, labels: Int64, *, pseudo_rows: float = 0.0) -> float:
    """The τ that maximises Σ ln softmax(s / τ)_y, in the units of s.

    The log-likelihood is concave in β = 1 / τ: bisection on its derivative Σ (s_y − Σ_c p_c s_c), which decreases.

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
        Infinite where uniform guessing is likeliest, and 1e-6 where no row is wrong.
    """
    s = similarities - similarities.max(axis=1, keepdims=True)
    smoothing = pseudo_rows / (labels.size + pseudo_rows)
    true = (1.0 - smoothing) * s[np.arange(labels.size), labels].sum() + smoothing * np.median(s, axis=1).sum()

    def slope(beta: float) -> float:
        e = np.exp(beta * s)
        return float(true - (np.einsum("ic,ic->i", e, s) / e.sum(axis=1)).sum())

    low, high = 1.0 / _LARGEST_TEMPERATURE, 1.0 / LEAST_TEMPERATURE
    if slope(low) <= 0.0:
        return math.inf
    if slope(high) >= 0.0:
        return LEAST_TEMPERATURE
    for _ in range(_BISECTIONS):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if slope(middle) > 0.0 else (low, middle)
    return 1.0 / math.sqrt(low * high)


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
