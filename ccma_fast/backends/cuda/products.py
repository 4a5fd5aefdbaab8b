"""Products of rows with a matrix."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ...kernels import linear as products
from ...kernels.halves import prepare_halves
from ...pool.rows import Chunk
from .reader import Reader
from .transfers import Uploads

__all__ = ["linear"]

Float32 = npt.NDArray[np.float32]


def linear(x: Chunk, weight: Float32, bias: Float32 | None = None, *, scale: Float32 | None = None) -> Float32:
    """(scale · x) Wᵀ + b; each product depends on its row and column alone."""
    reader = Reader()
    rows = Uploads(reader.device)(x)
    n_parts = products.row_parts(rows.dtype)
    prepared = products.prepare_weight(reader.tensor(weight), None if bias is None else reader.tensor(bias), n_parts)
    halves = prepare_halves(rows, n_parts)
    factor = None if scale is None else reader.tensor(scale) * halves.unit
    product: Float32 = products.linear(halves, prepared, factor).cpu().numpy()
    return product
