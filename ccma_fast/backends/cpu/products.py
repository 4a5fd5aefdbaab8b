"""Products of rows with a matrix."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ... import _core

__all__ = ["linear"]

Float32 = npt.NDArray[np.float32]


def linear(
    x: npt.NDArray[Any], weight: Float32, bias: Float32 | None = None, *, scale: Float32 | None = None
) -> Float32:
    """(scale · x) Wᵀ + b; each product depends on its row and column alone, whatever the threads and the chunk."""
    product: Float32 = _core.Panels(weight).multiply(x, scale, bias)
    return product
