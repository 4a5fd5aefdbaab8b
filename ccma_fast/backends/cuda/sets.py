"""Prediction sets at a given threshold."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ...kernels import conformal_sets
from ...pool.rows import Rows
from .reader import Reader
from .rows import check_finite
from .thresholds import of_rows

__all__ = ["prediction_sets"]

Float64 = npt.NDArray[np.float64]


def prediction_sets(logits: Rows, q: float | Float64, *, chunk_size: int | None = None) -> npt.NDArray[np.bool_]:
    """Γ of every row."""
    reader = Reader()
    sets = np.empty((logits.n_rows, logits.n_columns), dtype=np.bool_)
    thresholds, bad = reader.thresholds(q), reader.nothing_bad()
    for start, (chunk,) in reader.chunks(logits, chunk_size=chunk_size):
        stop = start + len(chunk)
        packed = conformal_sets.prediction_sets(chunk, of_rows(thresholds, start, stop), bad, start)
        sets[start:stop] = np.unpackbits(packed.cpu().numpy(), axis=1, count=logits.n_columns, bitorder="little")
    check_finite(bad, logits)
    return sets
