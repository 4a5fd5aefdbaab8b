"""Prediction sets at a given threshold."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ... import _core
from ...pool.rows import Rows
from .rows import check_finite
from .thresholds import of_rows

__all__ = ["prediction_sets"]

Float64 = npt.NDArray[np.float64]


def prediction_sets(logits: Rows, q: float | Float64, *, chunk_size: int | None = None) -> npt.NDArray[np.bool_]:
    """Γ of every row."""
    sets = np.empty((logits.n_rows, logits.n_columns), dtype=np.bool_)
    for start, chunk in logits.chunks(chunk_size):
        stop = start + len(chunk)
        sets[start:stop], bad = _core.prediction_sets(chunk, of_rows(q, start, stop))
        check_finite(logits, start, bad)
    return sets
