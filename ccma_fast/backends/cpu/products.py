"""Products of rows with a matrix, and what a softmax regression makes of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from ... import _core

__all__ = ["linear", "multiplier", "softmax_residual"]

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]


def linear(
    x: npt.NDArray[Any], weight: Float32, bias: Float32 | None = None, *, scale: Float32 | None = None
) -> Float32:
    """(scale · x) Wᵀ + b; each product depends on its row and column alone, whatever the threads and the chunk."""
    product: Float32 = _core.Panels(weight).multiply(x, scale, bias)
    return product


def multiplier(weight: Float32) -> Callable[[npt.NDArray[Any]], Float32]:
    """x ↦ x Wᵀ, W packed once."""
    multiply: Callable[[npt.NDArray[Any]], Float32] = _core.Panels(weight).multiply
    return multiply


def softmax_residual(logits: Float32, labels: Int64, soft: Float32, weights: Float32) -> Float64:
    """Weighted cross-entropies of columns of logits, whose derivatives take their place."""
    return _core.softmax_residual(logits, labels, soft, weights)
