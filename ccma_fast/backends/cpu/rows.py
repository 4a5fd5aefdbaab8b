"""Lengths and checks of rows, read chunk by chunk."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ... import _core
from ...checks import raise_not_finite
from ...pool.arrays import kept
from ...pool.checked import check_rows as check_rows_by_lengths
from ...pool.rows import Chunk, Rows

__all__ = ["check_finite", "check_rows", "kept", "row_lengths"]

Float64 = npt.NDArray[np.float64]


def row_lengths(x: Chunk) -> Float64:
    """Euclidean length of each row of a chunk; not finite exactly where the row is not."""
    lengths: Float64 = _core.row_lengths(x)
    return lengths


def check_rows(rows: Rows, *, directions: bool = False, chunk_size: int | None = None) -> None:
    """Every row is finite and, where `directions` are needed, long enough to have one."""
    check_rows_by_lengths(rows, row_lengths, directions=directions, chunk_size=chunk_size)


def check_finite(rows: Rows, start: int, bad: int) -> None:
    """Raises if a pass over a chunk that begins at row `start` found a row that is not finite; −1 if none."""
    if bad >= 0:
        raise_not_finite(rows.name, rows.row_number(start + bad))
