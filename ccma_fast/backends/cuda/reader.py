"""Rows on the device: used where they lie, or copied there chunk by chunk."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt
import torch

from ...kernels import linear as products
from ...kernels.halves import prepare_halves
from ...pool.derived import AllBut, DerivedRows, LinearRows, RowSubset
from ...pool.rows import Rows
from ...pool.tensors import TensorRows
from ...system.file_integrity import reading
from .device import device
from .transfers import TENSOR_TYPES, Uploads

__all__ = ["NOTHING_BAD", "Reader"]

Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]

NOTHING_BAD = 2**63 - 1
"""Kernels report this where all rows are finite; else the least 2 · row, plus 1 for a row of the second matrix."""

_STORAGE = tuple(TENSOR_TYPES.values())

# Bytes of a chunk that is copied to the device, and of one that is gathered there.
_CHUNK_BYTES = 64 << 20
_GATHER_BYTES = 256 << 20

# Bytes of the logits of one product, and of the rows that are prepared for it. A chunk takes the host seven launches,
# some 150 µs, and the device, at 1000 classes of two models, some 15 µs for 1000 rows: chunks of 33,000 rows keep it
# busy three times over, in 16 waves of tiles. Chunks whose logits stay in the second-level cache (4,000 rows) would
# save 1.2 of some 15 ms for a million rows, and cost 36 ms of the host.
_LOGIT_BYTES = 128 << 20

# Chunks hold a multiple of this many rows, so that per-row results are aligned to 16 bytes in every chunk.
_ROW_STEP = 64

# Limit of cached rows: a share of the device's free memory, or bytes in the interpreter; and the share of it that they
# are computed in.
_KEPT_SHARE = 0.5
_KEPT_BYTES = 1 << 30
_COMPUTED_SHARE = 0.25


class _KeptTensorRows(TensorRows):
    """Rows of another matrix, read once and kept on the device."""

    def __init__(self, source: Rows, values: torch.Tensor) -> None:
        super().__init__(values, source.name)
        self._source = source

    def row_number(self, row: int) -> int:
        return self._source.row_number(row)


class Reader:
    """Reads chunks of matrices as tensors on the device; what lies there is used in place, or gathered there."""

    def __init__(self) -> None:
        self.device = device()
        self._upload = Uploads(self.device)
        self._weights: WeakKeyDictionary[LinearRows, dict[int, products.Weight]] = WeakKeyDictionary()
        self._numbers: WeakKeyDictionary[RowSubset, torch.Tensor] = WeakKeyDictionary()

    def chunks(
        self, *matrices: Rows, chunk_size: int | None = None, computed: int | None = None
    ) -> Iterator[tuple[int, list[torch.Tensor]]]:
        """Chunks of the same rows of several matrices on the device, with the index of their first row.

        At most so many bytes are `computed` at once, by default `_LOGIT_BYTES`.
        """
        at_once = min(self._rows_at_once(rows, computed) for rows in matrices)
        step = chunk_size or max(_ROW_STEP, at_once // _ROW_STEP * _ROW_STEP)
        n_rows = matrices[0].n_rows
        read = [rows for rows in matrices if not self.lies_here(rows)]
        for start in range(0, n_rows, step):
            stop = min(start + step, n_rows)
            with reading():
                for rows in read:
                    rows.expect(stop, min(stop + step, n_rows))
                yield start, [self.slice(rows, start, stop) for rows in matrices]
                for rows in matrices if stop == n_rows else read:
                    rows.release(start, stop)

    def _rows_at_once(self, rows: Rows, computed: int | None) -> int:
        if isinstance(rows, LinearRows):
            widest = max(rows.n_columns, rows.source.n_columns)
            of_source = self._rows_at_once(rows.source, computed)
            return min((computed or _LOGIT_BYTES) // (4 * widest), of_source)
        if self.is_on_device(rows):
            return rows.n_rows + _ROW_STEP
        if isinstance(rows, RowSubset) and isinstance(rows.rows, LinearRows):
            return self._rows_at_once(RowSubset(rows.rows.source, rows.indices), computed)
        return ((computed or _GATHER_BYTES) if self.lies_here(rows) else _CHUNK_BYTES) // (4 * rows.n_columns)

    def whole(self, rows: Rows) -> torch.Tensor | None:
        """All rows where they are on the device, else None."""
        return self.slice(rows, 0, rows.n_rows) if self.is_on_device(rows) else None

    def is_on_device(self, rows: Rows) -> bool:
        """Whether all rows are on the device and can be used in place."""
        if isinstance(rows, RowSubset):
            return self.is_on_device(rows.rows) and rows.run(0, rows.n_rows) is not None
        return isinstance(rows, TensorRows) and rows.tensor.device == self.device

    def lies_here(self, rows: Rows) -> bool:
        """Whether all rows are on the device, or are selected or computed from some that are."""
        if isinstance(rows, LinearRows):
            return self.lies_here(rows.source)
        return self.lies_here(rows.rows) if isinstance(rows, RowSubset) else self.is_on_device(rows)

    def slice(self, rows: Rows, start: int, stop: int) -> torch.Tensor:
        """Rows start to stop − 1, in a storage dtype and with contiguous columns."""
        if isinstance(rows, LinearRows):
            return self._product(rows, self.slice(rows.source, start, stop))
        if isinstance(rows, RowSubset):
            run = rows.run(start, stop)
            if run is not None:
                return self.slice(rows.rows, *run)
            if self.lies_here(rows.rows):
                return self._gathered(rows.rows, self._numbers_of(rows)[start:stop])
            return self.take(rows.rows, rows.indices[start:stop])
        if isinstance(rows, TensorRows) and self.is_on_device(rows):
            return self._read(rows, rows.tensor[start:stop])
        return self._upload(rows.slice(start, stop))

    def take(self, rows: Rows, indices: Int64) -> torch.Tensor:
        """The rows at `indices`, in that order; as :meth:`slice`."""
        if self.lies_here(rows):
            return self._gathered(rows, self.tensor(indices))
        if isinstance(rows, LinearRows):
            return self._product(rows, self.take(rows.source, indices))
        if isinstance(rows, RowSubset):
            return self.take(rows.rows, rows.indices[indices])
        return self._upload(rows.take(indices))

    def every(self, rows: Rows, step: int) -> torch.Tensor:
        """Rows 0, step, 2 · step, …; as :meth:`slice`."""
        whole = self.whole(rows)
        return self.take(rows, np.arange(0, rows.n_rows, step)) if whole is None else whole[::step]

    def _gathered(self, rows: Rows, indices: torch.Tensor) -> torch.Tensor:
        """Rows that lie on the device."""
        if isinstance(rows, LinearRows):
            return self._product(rows, self._gathered(rows.source, indices))
        if isinstance(rows, RowSubset):
            return self._gathered(rows.rows, self._numbers_of(rows).index_select(0, indices))
        assert isinstance(rows, TensorRows), "they lie on the device"
        return self._read(rows, rows.tensor.index_select(0, indices))

    def _numbers_of(self, rows: RowSubset) -> torch.Tensor:
        """The row numbers of a subset, shape (n_rows,), int64."""
        if rows not in self._numbers:
            indices = rows.indices
            if isinstance(indices, AllBut):
                positions = torch.arange(indices.size, device=self.device)
                smaller = self.tensor(indices.smaller)
                self._numbers[rows] = positions + torch.searchsorted(smaller, positions, right=True)
            else:
                self._numbers[rows] = self.tensor(indices[:])
        return self._numbers[rows]

    @staticmethod
    def _read(rows: TensorRows, part: torch.Tensor) -> torch.Tensor:
        rows.bytes_read += part.nbytes
        stored = part if part.dtype in _STORAGE else part.float()
        return stored if stored.stride(1) == 1 else stored.contiguous()

    def _product(self, rows: LinearRows, x: torch.Tensor) -> torch.Tensor:
        n_parts = products.row_parts(x.dtype)
        of_parts = self._weights.setdefault(rows, {})
        if n_parts not in of_parts:
            bias = None if rows.bias is None else self.tensor(rows.bias)
            of_parts[n_parts] = products.prepare_weight(self.tensor(rows.weight), bias, n_parts)
        halves = prepare_halves(x, n_parts)
        factor = (halves.unit / halves.lengths).float() if rows.unit else None
        logits: torch.Tensor = products.linear(halves, of_parts[n_parts], factor)
        return logits

    def tensor(self, array: npt.NDArray[Any]) -> torch.Tensor:
        """An array on the device, copied without synchronisation."""
        return self._upload.beside(array)

    def thresholds(self, q: float | Float64) -> torch.Tensor:
        """Thresholds as kernels take them, shape (1,) or (M,), float64."""
        return self.tensor(np.atleast_1d(np.asarray(q, dtype=np.float64)))

    def nothing_bad(self) -> torch.Tensor:
        """Flag in which kernels report a row that is not finite, shape (1,), int64; ``rows.check_finite`` reads it."""
        return torch.full((1,), NOTHING_BAD, dtype=torch.int64, device=self.device)

    def float32(self, rows: Rows) -> torch.Tensor:
        """All rows at once, shape (N, D), float32."""
        values = torch.empty((rows.n_rows, rows.n_columns), dtype=torch.float32, device=self.device)
        for start, (chunk,) in self.chunks(rows):
            values[start : start + len(chunk)] = chunk
        return values

    def kept(self, rows: Rows) -> Rows:
        """Rows that are read several times: copied to the device where they fit, else as they are."""
        if self.is_on_device(rows) or rows.n_rows == 0:
            return rows
        is_interpreted = self.device.type == "cpu"
        limit = _KEPT_BYTES if is_interpreted else int(_KEPT_SHARE * torch.cuda.mem_get_info(self.device)[0])
        if rows.n_rows * rows.n_columns * _item_size(rows) > limit:
            return rows
        values: torch.Tensor | None = None
        for start, (chunk,) in self.chunks(rows, computed=int(_COMPUTED_SHARE * limit)):
            if len(chunk) == rows.n_rows:
                return _KeptTensorRows(rows, chunk)
            if values is None:
                values = torch.empty((rows.n_rows, rows.n_columns), dtype=chunk.dtype, device=self.device)
            values[start : start + len(chunk)] = chunk
        assert values is not None, "there are rows"
        return _KeptTensorRows(rows, values)


def _item_size(rows: Rows) -> int:
    """Bytes of a value in a chunk."""
    if isinstance(rows, RowSubset):
        return _item_size(rows.rows)
    if isinstance(rows, (DerivedRows, TensorRows)):
        return 2 if isinstance(rows, TensorRows) and rows.tensor.dtype in _STORAGE[1:] else 4
    return rows.slice(0, 0).itemsize
