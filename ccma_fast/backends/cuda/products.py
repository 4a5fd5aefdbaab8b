"""Products of rows with a matrix."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ...kernels import linear as products
from ...pool.rows import Chunk
from .reader import Reader
from .transfers import Uploads

__all__ = ["linear"]

Float32 = npt.NDArray[np.float32]


def linear(x: Chunk, weight: Float32, bias: Float32 | None = None, *, scale: Float32 | None = None) -> Float32:
    """(scale · x) Wᵀ + b; each product depends on its row and column alone."""
    reader = Reader()
    rows = Uploads(reader.device)(x)
    prepared = products.prepare_weight(reader.tensor(weight), None if bias is None else reader.tensor(bias), rows.dtype)
    product: Float32 = products.linear(rows, prepared, None if scale is None else reader.tensor(scale)).cpu().numpy()
    return product
