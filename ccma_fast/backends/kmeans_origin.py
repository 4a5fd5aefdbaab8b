"""What the rows of a clustering and its centroids are compared from."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .kmeans_sizes import SAMPLE_ROWS

__all__ = ["origin_of", "sample_positions"]

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]


def sample_positions(n_rows: int) -> Int64:
    """Rows, spread evenly, whose mean is the origin of the distances."""
    n_sample = min(n_rows, SAMPLE_ROWS)
    return (np.arange(n_sample) * n_rows) // max(1, n_sample)


def origin_of(sample: Float32) -> Float32:
    """What rows and centroids are compared from: distances do not change when all move, and near it they round less."""
    origin: Float32 = sample.mean(axis=0, dtype=np.float64).astype(np.float32)
    return origin
