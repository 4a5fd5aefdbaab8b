"""Rows on the device: used where they lie, or copied there chunk by chunk."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt
import torch

from ...kernels import linear as products
from ...pool.checked import LEAST_LENGTH, check_lengths, raise_not_finite
from ...pool.derived import DerivedRows, LinearRows, RowSubset
from ...pool.rows import BFLOAT16_BITS, Chunk, Rows
from ...pool.tensors import TensorRows
from ...system.file_integrity import reading

__all__ = [
    "INTERPRETED",
    "KeptTensorRows",
    "Later",
    "Reader",
    "Uploads",
    "check_finite",
    "check_rows_of_lengths",
    "device",
    "of_rows",
    "top_m",
]

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"

_TYPES = {"float32": torch.float32, "float16": torch.float16, BFLOAT16_BITS.name: torch.bfloat16}
_STORAGE = tuple(_TYPES.values())
_UPLOADED = _TYPES | {"int64": torch.int64}

# Bytes of a chunk that is copied to the device or gathered on it, and of the logits that one product leaves in cache.
_CHUNK_BYTES = 64 << 20
_LOGIT_BYTES = 32 << 20

# Chunks hold a multiple of so many rows: what is kept of each then starts where 16 bytes can be read, in every chunk.
_ROW_STEP = 64

# The share of the device's free memory that rows which are read again may take, and what they may take elsewhere.
_KEPT_SHARE = 0.5
_KEPT_BYTES = 1 << 30

_NOTHING_BAD = 2**63 - 1

# Streams and events, whose types not every version of PyTorch tells.
_streams: Any = torch.cuda


def device() -> torch.device:
    """Where kernels run."""
    return torch.device("cpu") if INTERPRETED else torch.device("cuda", torch.cuda.current_device())


class KeptTensorRows(TensorRows):
    """Rows of another matrix, read once and kept on the device."""

    def __init__(self, source: Rows, values: torch.Tensor) -> None:
        super().__init__(values, source.name)
        self._source = source

    def row_number(self, row: int) -> int:
        return self._source.row_number(row)


class Uploads:
    """Copies of host memory to the device, through pinned memory and on a stream of their own."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = None if device.type == "cpu" else _streams.Stream(device)
        self._turn = 0
        self._staged: list[tuple[torch.Tensor, Any] | None] = [None] * 4

    def __call__(self, chunk: Chunk | Int64) -> torch.Tensor:
        """The chunk, or other numbers, on the device, ready for what is launched from now on."""
        dtype = _UPLOADED[chunk.dtype.name]
        if self._stream is None:
            return torch.from_numpy(np.array(chunk).reshape(-1).view(np.uint8)).view(dtype).view(chunk.shape)
        staged, copied_out = self._pinned(chunk.nbytes)
        staged.numpy()[:] = chunk.reshape(-1).view(np.uint8)
        with torch.cuda.stream(self._stream):
            copied = staged.to(self._device, non_blocking=True)
            copied_out.record(self._stream)
        current = torch.cuda.current_stream(self._device)
        current.wait_stream(self._stream)
        copied.record_stream(current)
        return copied.view(dtype).view(chunk.shape)

    def _pinned(self, nbytes: int) -> tuple[torch.Tensor, Any]:
        """The pinned memory whose turn it is, once the copy before has left it, and the event of the next one."""
        self._turn = (self._turn + 1) % len(self._staged)
        slot = self._staged[self._turn]
        if slot is not None:
            slot[1].synchronize()
        if slot is None or slot[0].numel() < nbytes:
            slot = (torch.empty(nbytes, dtype=torch.uint8, pin_memory=True), _streams.Event())
            self._staged[self._turn] = slot
        return slot[0][:nbytes], slot[1]


class Later:
    """Numbers on their way to the host, which waits for them alone and not for what is launched behind them."""

    def __init__(self, values: torch.Tensor) -> None:
        self._values, self._copied = values, None
        if values.is_cuda:
            self._values = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
            self._values.copy_(values, non_blocking=True)
            self._copied = _streams.Event()
            self._copied.record()

    def tolist(self) -> list[Any]:
        """The numbers."""
        if self._copied is not None:
            self._copied.synchronize()
        return list(self._values.tolist())


class Reader:
    """Reads chunks of matrices as tensors on the device."""

    def __init__(self) -> None:
        self.device = device()
        self._upload = Uploads(self.device)
        self._weights: WeakKeyDictionary[LinearRows, dict[torch.dtype, products.Weight]] = WeakKeyDictionary()

    def chunks(self, *matrices: Rows, chunk_size: int | None = None) -> Iterator[tuple[int, list[torch.Tensor]]]:
        """Chunks of the same rows of several matrices, with the index of their first row."""
        step = chunk_size or max(_ROW_STEP, min(map(self._rows_at_once, matrices)) // _ROW_STEP * _ROW_STEP)
        n_rows = matrices[0].n_rows
        for start in range(0, n_rows, step):
            stop = min(start + step, n_rows)
            with reading():
                for rows in matrices:
                    rows.expect(stop, min(stop + step, n_rows))
                yield start, [self.slice(rows, start, stop) for rows in matrices]
                for rows in matrices:
                    rows.release(start, stop)

    def _rows_at_once(self, rows: Rows) -> int:
        if isinstance(rows, LinearRows):
            return min(_LOGIT_BYTES // (4 * rows.n_columns), self._rows_at_once(rows.source))
        if self.is_here(rows):
            return rows.n_rows + _ROW_STEP
        return _CHUNK_BYTES // (4 * rows.n_columns)

    def whole(self, rows: Rows) -> torch.Tensor | None:
        """All rows, where they lie on the device."""
        return self.slice(rows, 0, rows.n_rows) if self.is_here(rows) else None

    def is_here(self, rows: Rows) -> bool:
        """Whether all rows can be used in place."""
        if isinstance(rows, RowSubset):
            return rows.run(0, rows.n_rows) is not None and self.is_here(rows.rows)
        return isinstance(rows, TensorRows) and rows.tensor.device == self.device

    def slice(self, rows: Rows, start: int, stop: int) -> torch.Tensor:
        """Rows start to stop − 1 in a storage type, columns one after the other."""
        if isinstance(rows, LinearRows):
            return self._product(rows, self.slice(rows.source, start, stop))
        if isinstance(rows, RowSubset):
            run = rows.run(start, stop)
            return self.take(rows.rows, rows.indices[start:stop]) if run is None else self.slice(rows.rows, *run)
        if isinstance(rows, TensorRows) and rows.tensor.device == self.device:
            return self._read(rows, rows.tensor[start:stop])
        return self._upload(rows.slice(start, stop))

    def take(self, rows: Rows, indices: Int64) -> torch.Tensor:
        """The rows at `indices`, in that order."""
        if isinstance(rows, LinearRows):
            return self._product(rows, self.take(rows.source, indices))
        if isinstance(rows, RowSubset):
            return self.take(rows.rows, rows.indices[indices])
        if isinstance(rows, TensorRows) and rows.tensor.device == self.device:
            return self._read(rows, rows.tensor.index_select(0, self.tensor(indices)))
        return self._upload(rows.take(indices))

    @staticmethod
    def _read(rows: TensorRows, part: torch.Tensor) -> torch.Tensor:
        rows.bytes_read += part.nbytes
        stored = part if part.dtype in _STORAGE else part.float()
        return stored if stored.stride(1) == 1 else stored.contiguous()

    def _product(self, rows: LinearRows, x: torch.Tensor) -> torch.Tensor:
        of_types = self._weights.setdefault(rows, {})
        if x.dtype not in of_types:
            bias = None if rows.bias is None else self.tensor(rows.bias)
            of_types[x.dtype] = products.prepare_weight(self.tensor(rows.weight), bias, x.dtype)
        scale = (1.0 / products.row_lengths(x)).float() if rows.unit else None
        logits: torch.Tensor = products.linear(x, of_types[x.dtype], scale)
        return logits

    def tensor(self, array: npt.NDArray[Any]) -> torch.Tensor:
        """A small array on the device."""
        return torch.from_numpy(np.array(array)).to(self.device)

    def thresholds(self, q: float | Float64) -> torch.Tensor:
        """Thresholds as kernels take them: one, or one for each row."""
        return self.tensor(np.atleast_1d(np.asarray(q, dtype=np.float64)))

    def nothing_bad(self) -> torch.Tensor:
        """Where kernels report rows that are not finite, see :func:`check_finite`."""
        return torch.full((1,), _NOTHING_BAD, dtype=torch.int64, device=self.device)

    def float32(self, rows: Rows) -> torch.Tensor:
        """All rows at once, shape (N, D), float32."""
        values = torch.empty((rows.n_rows, rows.n_columns), dtype=torch.float32, device=self.device)
        for start, (chunk,) in self.chunks(rows):
            values[start : start + len(chunk)] = chunk
        return values

    def kept(self, rows: Rows) -> Rows:
        """Rows that are read several times: copied to the device where they fit, else as they are."""
        if self.is_here(rows) or rows.n_rows == 0:
            return rows
        free = _KEPT_BYTES if self.device.type == "cpu" else _KEPT_SHARE * torch.cuda.mem_get_info(self.device)[0]
        if rows.n_rows * rows.n_columns * _item_size(rows) > free:
            return rows
        values: torch.Tensor | None = None
        for start, (chunk,) in self.chunks(rows):
            if values is None:
                values = torch.empty((rows.n_rows, rows.n_columns), dtype=chunk.dtype, device=self.device)
            values[start : start + len(chunk)] = chunk
        assert values is not None, "there are rows"
        return KeptTensorRows(rows, values)


def _item_size(rows: Rows) -> int:
    """Bytes of a value as chunks hold it."""
    if isinstance(rows, RowSubset):
        return _item_size(rows.rows)
    if isinstance(rows, (DerivedRows, TensorRows)):
        return 2 if isinstance(rows, TensorRows) and rows.tensor.dtype in _STORAGE[1:] else 4
    return rows.slice(0, 0).itemsize


def top_m(scores: Float32 | torch.Tensor, m: int) -> Int64:
    """Positions of the m largest scores, largest first; ties go to the lower index."""
    here = scores if isinstance(scores, torch.Tensor) else torch.from_numpy(np.ascontiguousarray(scores, np.float32))
    # +0 and −0 are one number.
    order: Int64 = torch.sort(here.to(device()) + 0.0, descending=True, stable=True).indices[:m].cpu().numpy()
    return order


def check_rows_of_lengths(rows: Rows, lengths: torch.Tensor, *, directions: bool) -> None:
    """What :func:`ccma_fast.pool.checked.check_lengths` checks; the host sees one number where all is well."""
    least = LEAST_LENGTH if directions else 0.0
    if not bool((torch.isfinite(lengths) & (lengths >= least)).all()):
        check_lengths(rows, 0, lengths.cpu().numpy(), directions=directions)


def check_finite(bad: torch.Tensor, *matrices: Rows | None) -> None:
    """Raises for the first row that a kernel reported; waits for the device."""
    key = int(bad.item())
    if key != _NOTHING_BAD:
        rows = matrices[key % 2]
        assert rows is not None
        raise_not_finite(rows.name, rows.row_number(key // 2))


def of_rows(q: torch.Tensor, start: int, stop: int) -> torch.Tensor:
    """The thresholds of a chunk's rows."""
    return q[start:stop] if len(q) > 1 else q
