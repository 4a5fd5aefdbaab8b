"""Lengths and checks of rows, and rows that are kept on the device."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from ...checks import LEAST_LENGTH, raise_not_finite
from ...kernels import linear as products
from ...pool.checked import check_lengths
from ...pool.rows import Chunk, Rows
from .device import device
from .reader import NOTHING_BAD, Reader
from .transfers import Uploads

__all__ = ["check_finite", "check_row_lengths", "check_rows", "kept", "raise_bad", "row_lengths"]

Float64 = npt.NDArray[np.float64]


def row_lengths(x: Chunk) -> Float64:
    """Euclidean length of each row of a chunk; not finite exactly where the row is not."""
    lengths: Float64 = products.row_lengths(Uploads(device())(x)).cpu().numpy()
    return lengths


def check_rows(rows: Rows, *, directions: bool = False, chunk_size: int | None = None) -> None:
    """Every row is finite and, where `directions` are needed, long enough to have one."""
    reader = Reader()
    lengths = torch.empty(rows.n_rows, dtype=torch.float64, device=reader.device)
    for start, (chunk,) in reader.chunks(rows, chunk_size=chunk_size):
        lengths[start : start + len(chunk)] = products.row_lengths(chunk)
    check_row_lengths(rows, lengths, directions=directions)


def check_row_lengths(rows: Rows, lengths: torch.Tensor, *, directions: bool) -> None:
    """:func:`ccma_fast.pool.checked.check_lengths` on the device; copies a single flag to the host if all rows pass."""
    least = LEAST_LENGTH if directions else 0.0
    if not bool((torch.isfinite(lengths) & (lengths >= least)).all()):
        check_lengths(rows, 0, lengths.cpu().numpy(), directions=directions)


def check_finite(bad: torch.Tensor, *matrices: Rows | None) -> None:
    """Raise for the first row that a kernel reported; synchronises with the device."""
    raise_bad(int(bad.item()), *matrices)


def raise_bad(key: int, *matrices: Rows | None) -> None:
    """Raise for the row that a kernel reported, where there is one."""
    if key != NOTHING_BAD:
        rows = matrices[key % 2]
        assert rows is not None
        raise_not_finite(rows.name, rows.row_number(key // 2))


def kept(rows: Rows, limit: int, chunk_size: int | None = None) -> Rows:
    """Rows that are read several times: on the device where they fit into `limit` bytes, else read anew."""
    if 4 * rows.n_rows * rows.n_columns > limit:
        return rows
    return Reader().kept(rows)
