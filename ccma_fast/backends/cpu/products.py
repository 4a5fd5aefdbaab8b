"""Products of rows with a matrix, and what a softmax regression is solved by."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from ... import _core

__all__ = ["combination", "dots", "inverse_factor", "linear", "multiplier", "softmax_gradient"]

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


def softmax_gradient(
    x: Float32, labels: Int64, soft: Float32, offset: Float32 | None = None
) -> Callable[[Float32, Float32], tuple[float, Float32]]:
    """(W, w) ↦ the weighted loss and its gradient; rows and targets are packed once."""
    gradient, targets = _core.RegressionRows(x).gradient, _core.Targets(labels, soft, offset)
    return lambda coef, weights: gradient(targets, coef, weights)


def inverse_factor(matrix: Float32, least: float) -> Float32:
    """L⁻¹ of L Lᵀ, by halves and :func:`linear`'s products."""
    return _core.inverse_factor(matrix, least)


def dots(stack: Float32, vector: Float32) -> Float64:
    """The product of each matrix of a stack with one, summed in float64."""
    return _core.dots(stack, vector)


def combination(stack: Float32, factors: Float64) -> Float32:
    """Σ factor · matrix, in the order of the stack."""
    return _core.combination(stack, factors.astype(np.float32))
