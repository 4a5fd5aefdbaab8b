"""The moments of logits under a temperature, by the core where it was built."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .core import load_core

__all__ = ["tempered"]

Float64 = npt.NDArray[np.float64]


def tempered(s: Float64, beta: float) -> tuple[float, float]:
    """Sums over rows of the mean and the variance of their logits under softmax(β · s).

    Parameters
    ----------
    s : ndarray, shape (C, n), float64
        C-contiguous, a column for each row; the largest of each is 0.
    beta : float
        Above 0.
    """
    try:
        core = load_core()
    except ImportError:
        return _tempered(s, beta)
    mean, variance = core.tempered(s, beta)
    return float(mean), float(variance)


def _tempered(s: Float64, beta: float) -> tuple[float, float]:
    """The same without the core."""
    e = np.exp(beta * s)
    total = e.sum(axis=0)
    e *= s
    mean = e.sum(axis=0) / total
    e *= s
    return float(mean.sum()), float((e.sum(axis=0) / total - mean * mean).sum())
