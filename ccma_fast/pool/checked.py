"""Validation of rows: finite and, where needed, of a norm large enough to normalise; the first bad row is named."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from ..checks import LEAST_LENGTH, raise_not_finite, raise_zero_length
from .rows import Rows

__all__ = ["check_lengths", "check_rows"]


def check_rows(
    rows: Rows,
    row_lengths: Callable[[npt.NDArray[Any]], npt.NDArray[np.float64]],
    *,
    directions: bool = False,
    chunk_size: int | None = None,
) -> None:
    """Validate that every row is finite and, with `directions`, of a norm large enough to normalise."""
    for start, chunk in rows.chunks(chunk_size):
        check_lengths(rows, start, row_lengths(chunk), directions=directions)
        del chunk  # before the next is read


def check_lengths(rows: Rows, start: int, lengths: npt.NDArray[np.float64], *, directions: bool) -> None:
    """:func:`check_rows`, given the norms of the rows from `start` on."""
    bad = np.flatnonzero(~np.isfinite(lengths))
    if bad.size:
        raise_not_finite(rows.name, rows.row_number(start + int(bad[0])))
    short = np.flatnonzero(lengths < LEAST_LENGTH)
    if directions and short.size:
        raise_zero_length(rows.name, rows.row_number(start + int(short[0])))
