"""Prediction sets at a given threshold."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ...kernels import conformal_sets
from ...pool.rows import Rows
from .reader import Reader
from .rows import check_finite
from .thresholds import of_rows
from .transfers import Later

__all__ = ["prediction_sets"]

Float64 = npt.NDArray[np.float64]


def prediction_sets(logits: Rows, q: float | Float64, *, chunk_size: int | None = None) -> npt.NDArray[np.bool_]:
    """Γ of every row."""
    reader = Reader()
    sets = np.empty((logits.n_rows, logits.n_columns), dtype=np.bool_)
    thresholds, bad = reader.thresholds(q), reader.nothing_bad()
    before: tuple[int, Later] | None = None

    def unpack(start: int, packed: Later) -> None:
        bits = packed.array()
        sets[start : start + len(bits)] = np.unpackbits(bits, axis=1, count=logits.n_columns, bitorder="little")

    for start, (chunk,) in reader.chunks(logits, chunk_size=chunk_size):
        of_chunk = of_rows(thresholds, start, start + len(chunk))
        packed = Later(conformal_sets.prediction_sets(chunk, of_chunk, bad, start))
        if before is not None:  # while the device works on this chunk
            unpack(*before)
        before = start, packed
    if before is not None:
        unpack(*before)
    check_finite(bad, logits)
    return sets
