"""The pool in two dimensions, for the map of a report."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ..pool.derived import RowSubset
from ..pool.rows import Rows

__all__ = ["pool_map"]

Int64 = npt.NDArray[np.int64]

# Random rows of the map.
_MAP_ROWS = 5_000


def pool_map(pool: Rows, labels: Int64, picked: Int64) -> dict[str, npt.NDArray[Any]]:
    """Up to 5,000 random rows of the pool and every picked one on the first two principal axes of the former."""
    n = labels.size
    sample = np.sort(np.random.default_rng(0).choice(n, min(n, _MAP_ROWS), replace=False))
    rows = np.union1d(sample, picked)
    x = RowSubset(pool, sample).float32().astype(np.float64)
    mean = x.mean(axis=0)
    _, _, axes = np.linalg.svd(x - mean, full_matrices=False)
    axes = axes[:2]
    axes *= np.where(axes[np.arange(len(axes)), np.abs(axes).argmax(axis=1)] < 0, -1.0, 1.0)[:, None]
    coordinates = np.zeros((rows.size, 2))  # of one column there is one axis
    picked_rows = RowSubset(pool, rows)
    for start, stop in picked_rows.bounds():
        chunk = RowSubset(pool, rows[start:stop]).float32()
        coordinates[start:stop, : len(axes)] = (chunk - mean) @ axes.T
    return {"rows": rows, "coordinates": coordinates, "classes": labels[rows]}
