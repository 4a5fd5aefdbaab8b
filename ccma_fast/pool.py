"""Rows as chunks, whatever they lie in.

Everything that is read row by row, features and logits alike, is a :class:`Rows`. A chunk is a C-contiguous
array of one of three storage types, which every backend takes as it is: float32, float16, or bfloat16 as its bits
in a uint16 array (NumPy has no bfloat16). Other real types are converted to float32 chunk by chunk.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ._errors import FileReadError
from ._in_use import FileInUse, file_under, in_memory, reading
from ._mapped import Pages
from ._shards import ShardFile
from ._validate import check_tensor, check_unmasked
from .manifest import Manifest

__all__ = [
    "BFLOAT16_BITS",
    "AllBut",
    "ArrayRows",
    "Chunk",
    "DerivedRows",
    "FileRow",
    "JudgedRows",
    "KeptRows",
    "LinearRows",
    "ReadRows",
    "RowId",
    "RowSubset",
    "Rows",
    "ShardedRows",
    "TensorRows",
    "check_matrix",
    "in_step",
    "kept",
    "open_rows",
    "to_float32",
    "to_storage",
]

Chunk = npt.NDArray[Any]

# None where a column of ids has a gap.
RowId = str | None

BFLOAT16_BITS = np.dtype(np.uint16)
_STORAGE = (np.dtype(np.float32), np.dtype(np.float16))

# Tensors of these types have an array of the same values; others are quantized, or of 8 bits with a scale elsewhere.
_TENSORS = {"bfloat16", "float16", "float32", "float64"} | {f"{s}int{n}" for s in ("", "u") for n in (8, 16, 32, 64)}

# A chunk of this size is large enough to hide per-call costs and small enough to stay out of the way.
_CHUNK_BYTES = 32 << 20

# Runs of so many consecutive rows, on average, are copied run by run.
_LEAST_RUN = 8


def to_float32(chunk: Chunk) -> npt.NDArray[np.float32]:
    """The values of a chunk in any of the three storage types, as float32 (exact)."""
    if chunk.dtype == BFLOAT16_BITS:
        return (chunk.astype(np.uint32) << 16).view(np.float32)
    return chunk.astype(np.float32, copy=False)


def to_storage(values: npt.NDArray[Any]) -> Chunk:
    """Real numbers as a C-contiguous array: float32 and float16 as they are, other types as float32."""
    with np.errstate(over="ignore"):  # too large for float32 becomes infinite, and is refused as such
        return np.ascontiguousarray(values, dtype=None if values.dtype in _STORAGE else np.float32)


def check_matrix(shape: tuple[int, ...], dtype: np.dtype[Any], name: str) -> None:
    """A matrix of at least one column of real numbers."""
    if len(shape) != 2:
        raise ValueError(f"{name} must have two dimensions (rows, columns), got shape {shape}")
    if shape[1] == 0:
        raise ValueError(f"{name} must have at least one column, got shape {shape}")
    if dtype.kind not in "fiu":
        raise TypeError(f"{name} must hold real numbers, got dtype {dtype}")


class FileRow(int):
    """A row's number in a matrix, whose text also says in which file it lies."""

    _text: str

    def __new__(cls, row: int, text: str) -> FileRow:
        number = super().__new__(cls, row)
        number._text = text
        return number

    def __str__(self) -> str:
        return self._text


class Rows(ABC):
    """A matrix that is read in chunks of rows.

    Attributes
    ----------
    name : str
        What error messages call it.
    n_rows, n_columns : int
        Its shape.
    bytes_read : int
        Bytes taken from where the rows lie, so far.
    manifest : Manifest or None
        What made the rows and which images they are, where the place in which they lie tells it.
    row_bytes : int
        Bytes of a row where it lies.
    in_use : sequence of FileInUse
        The files that they lie in, as far as they must stay as they were when they were opened.
    """

    name: str
    n_rows: int
    n_columns: int
    bytes_read: int
    manifest: Manifest | None = None
    in_use: Sequence[FileInUse] = ()

    @property
    def row_bytes(self) -> int:
        return 4 * self.n_columns

    @property
    def is_mapped(self) -> bool:
        """Whether rows lie in files whose pages join the process's memory where they are touched."""
        return False

    def resident_bytes(self, n: int, *, picked: bool = False) -> int:
        """Bytes of memory that a chunk of n rows takes: of a file's pages, and of copies.

        Of all rows from the first to the last or, where they are `picked`, without some between.
        """
        return n * self.row_bytes

    @abstractmethod
    def slice(self, start: int, stop: int) -> Chunk:
        """Rows start to stop − 1 as a C-contiguous array in a storage type.

        It may lie in a mapped file: for use while :func:`ccma_fast._in_use.reading`, and what comes of it counts once
        :meth:`release` has passed. :func:`in_step` and :meth:`read` see to both.
        """

    @abstractmethod
    def take(self, indices: npt.NDArray[np.int64]) -> Chunk:
        """The rows at `indices`, in that order, as a C-contiguous array in a storage type."""

    def row_number(self, row: int) -> int:
        """What the caller calls row `row`: its number in the matrix that these rows were taken from."""
        return row

    @property
    def shard_files(self) -> Sequence[ShardFile]:
        """The files in which the rows lie one after the other; none where that is no folder."""
        return ()

    def row_ids(self) -> Iterator[RowId] | None:
        """The id of the image of every row, in order; None where what lies beside the rows does not tell it.

        Nothing is read before the first is asked for.
        """
        return None

    def ids_at(self, rows: npt.NDArray[np.int64]) -> list[RowId] | None:
        """The ids of some rows, without reading those of all; None as for :meth:`row_ids`."""
        return None

    def former_ids(self) -> dict[str, list[int]]:
        """The rows of images that were renamed, by each name that they had before."""
        return {}

    def vanished(self) -> npt.NDArray[np.int64]:
        """Rows whose images are known to be gone, so that nobody can label them; ascending."""
        return np.empty(0, np.int64)

    def grown(self) -> Rows:
        """These rows and those that were added behind them since they were opened; itself where nothing is new."""
        return self

    def chunk_rows(self, chunk_size: int | None = None) -> int:
        """Rows of a chunk: `chunk_size`, or what fits into some 32 MiB of float32."""
        return chunk_size or max(1, _CHUNK_BYTES // (4 * max(1, self.n_columns)))

    def bounds(self, chunk_size: int | None = None) -> Iterator[tuple[int, int]]:
        """The (start, stop) of every chunk, in order."""
        step = self.chunk_rows(chunk_size)
        for start in range(0, self.n_rows, step):
            yield start, min(start + step, self.n_rows)

    def chunks(self, chunk_size: int | None = None) -> Iterator[tuple[int, Chunk]]:
        """Every chunk with the index of its first row, in order."""
        for start, (chunk,) in in_step(self, chunk_size=chunk_size):
            yield start, chunk
            del chunk  # before the next is read

    def expect(self, start: int, stop: int) -> None:  # noqa: B027
        """Rows start to stop − 1 are read soon."""

    def release(self, start: int, stop: int) -> None:
        """Rows start to stop − 1 have been read, and are not needed soon.

        Raises
        ------
        FileReadError
            They may not be those of the file that was opened.
        """
        self.check()

    def check(self) -> None:
        """What has been read was in the files as they were opened, see :meth:`FileInUse.check`."""
        for in_use in self.in_use:
            in_use.check()

    def read(self, start: int, stop: int) -> Chunk:
        """Rows start to stop − 1 as :meth:`slice`, but in memory."""
        with reading():
            chunk = in_memory(self.slice(start, stop))
            self.release(start, stop)
        return chunk

    def float32(self) -> npt.NDArray[np.float32]:
        """All rows at once, as float32, in memory."""
        return to_float32(self.read(0, self.n_rows))

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> npt.NDArray[Any]:
        return self.float32().astype(np.float32 if dtype is None else dtype)


def in_step(*rows: Rows, chunk_size: int | None = None) -> Iterator[tuple[int, tuple[Chunk, ...]]]:
    """Chunks of the same rows of several matrices, with the index of their first row; the first says how large.

    While a chunk is worked on the next one is fetched; after that its pages are let go.
    """
    for start, stop in rows[0].bounds(chunk_size):
        with reading():
            for matrix in rows:
                matrix.expect(stop, min(stop + (stop - start), matrix.n_rows))
            yield start, tuple(matrix.slice(start, stop) for matrix in rows)
            for matrix in rows:
                matrix.release(start, stop)


class ArrayRows(Rows):
    """A two-dimensional ndarray or memmap, read in place.

    Parameters
    ----------
    array : ndarray, shape (n_rows, n_columns)
        Any real dtype, order and strides.
    name : str
        What error messages call it.
    bfloat16 : bool, default False
        The array is uint16 and holds the bits of bfloat16 numbers.
    file : path, optional
        Where it lies, for error messages.
    in_use : FileInUse, optional
        What tells whether that stays as it was when it was opened.
    """

    def __init__(
        self,
        array: npt.NDArray[Any],
        name: str,
        *,
        bfloat16: bool = False,
        file: str | os.PathLike[str] | None = None,
        in_use: FileInUse | None = None,
    ) -> None:
        check_matrix(array.shape, array.dtype, name)
        self.name = name
        self.file = file
        self.in_use = () if in_use is None else (in_use,)
        self.n_rows, self.n_columns = array.shape
        self.bytes_read = 0
        self._array = array
        self._pages = Pages(array)
        self._bfloat16 = bfloat16

    @property
    def row_bytes(self) -> int:
        return self._array.itemsize * self.n_columns

    @property
    def is_mapped(self) -> bool:
        return self._pages.are_mapped

    def resident_bytes(self, n: int, *, picked: bool = False) -> int:
        is_copied = (not self._bfloat16 and self._array.dtype not in _STORAGE) or not self._array.flags.c_contiguous
        return n * (self.row_bytes * (self.is_mapped + picked) + 4 * self.n_columns * is_copied)

    def _chunk(self, part: npt.NDArray[Any]) -> Chunk:
        self.bytes_read += part.nbytes
        return np.ascontiguousarray(part) if self._bfloat16 else to_storage(part)

    def slice(self, start: int, stop: int) -> Chunk:
        return self._chunk(self._array[start:stop])

    def take(self, indices: npt.NDArray[np.int64]) -> Chunk:
        with reading():
            taken = self._taken(indices)
            self.check()
        return self._chunk(taken)

    def _taken(self, indices: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        ends = np.flatnonzero(np.diff(indices) != 1)
        if _LEAST_RUN * ends.size < indices.size:
            starts = indices[np.concatenate([[0], ends + 1])].tolist()
            stops = indices[np.concatenate([ends, [-1]])].tolist()
            return np.concatenate([self._array[a : b + 1] for a, b in zip(starts, stops, strict=True)])
        return self._pages.take(indices)

    def row_number(self, row: int) -> int:
        self.check()  # what is wrong with a row of a file that was changed says nothing about the row
        return row if self.file is None else FileRow(row, f"{row} of {str(self.file)!r}")

    def expect(self, start: int, stop: int) -> None:
        self._pages.expect(start, stop)

    def release(self, start: int, stop: int) -> None:
        self.check()
        self._pages.release(start, stop)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ = state
        for in_use in self.in_use:  # where it lies in this process
            in_use.hold_array(self._array)


class ShardedRows(Rows):
    """The rows of several matrices of the same columns and storage type, one after the other.

    Parameters
    ----------
    shards : sequence of Rows
        At least one.
    name : str
        What error messages call the whole.
    """

    def __init__(self, shards: Sequence[Rows], name: str) -> None:
        self.name = name
        self._shards = shards
        self._starts = np.cumsum([0, *(shard.n_rows for shard in shards)])
        self.n_rows, self.n_columns = int(self._starts[-1]), shards[0].n_columns
        self._dtype = shards[0].slice(0, 0).dtype

    @property
    def bytes_read(self) -> int:  # type: ignore[override]
        return sum(shard.bytes_read for shard in self._shards)

    @property
    def row_bytes(self) -> int:
        return self._shards[0].row_bytes

    @property
    def is_mapped(self) -> bool:
        return self._shards[0].is_mapped

    def resident_bytes(self, n: int, *, picked: bool = False) -> int:
        is_joined = picked or len(self._shards) > 1  # of several shards where a chunk crosses their bounds
        in_one = min(n, int(np.diff(self._starts).max()))  # one shard's copy is there at a time, but all pages
        of_others = (n - in_one) * self.row_bytes * self.is_mapped
        return self._shards[0].resident_bytes(in_one, picked=picked) + of_others + n * self.row_bytes * is_joined

    def _parts(self, start: int, stop: int) -> Iterator[tuple[Rows, int, int]]:
        """The shards that hold rows start to stop − 1, each with the bounds of what it holds."""
        first = int(np.searchsorted(self._starts, start, side="right")) - 1
        for shard, begin in zip(self._shards[first:], self._starts[first:].tolist(), strict=False):
            if begin >= stop:
                return
            yield shard, max(0, start - begin), min(shard.n_rows, stop - begin)

    def slice(self, start: int, stop: int) -> Chunk:
        parts = list(self._parts(start, stop))
        if len(parts) == 1:
            shard, *bounds = parts[0]
            return shard.slice(*bounds)
        values = np.empty((sum(end - begin for _, begin, end in parts), self.n_columns), self._dtype)
        filled = 0
        for shard, *bounds in parts:  # one after the other: of thousands, not all could be mapped at once
            chunk = shard.slice(*bounds)
            values[filled : filled + len(chunk)] = chunk
            filled += len(chunk)
            shard.release(*bounds)
        return values

    def take(self, indices: npt.NDArray[np.int64]) -> Chunk:
        shard_of = np.searchsorted(self._starts, indices, side="right") - 1
        taken = np.empty((indices.size, self.n_columns), self._dtype)
        for shard in np.unique(shard_of).tolist():
            here = shard_of == shard
            taken[here] = self._shards[shard].take(indices[here] - self._starts[shard])
        return taken

    def row_number(self, row: int) -> int:
        shard = int(np.searchsorted(self._starts, row, side="right")) - 1
        return FileRow(row, f"{row} (row {self._shards[shard].row_number(row - int(self._starts[shard]))})")

    def expect(self, start: int, stop: int) -> None:
        for shard, *bounds in self._parts(start, stop):
            shard.expect(*bounds)

    def release(self, start: int, stop: int) -> None:
        parts = list(self._parts(start, stop))
        if len(parts) == 1:  # several were copied, and let go then
            shard, *bounds = parts[0]
            shard.release(*bounds)


class TensorRows(Rows):
    """A torch tensor on any device, copied to the host chunk by chunk where that reads what lies elsewhere."""

    def __init__(self, tensor: Any, name: str) -> None:
        import torch

        check_tensor(name, tensor)
        if tensor.is_complex() or tensor.dtype == torch.bool:
            raise TypeError(f"{name} must hold real numbers, got dtype {tensor.dtype}")
        if tensor.dtype not in {getattr(torch, kind, None) for kind in _TENSORS}:
            raise TypeError(f"{name} must hold real numbers of 16 bits or more or integers, got dtype {tensor.dtype}")
        if tensor.ndim != 2:
            raise ValueError(f"{name} must have two dimensions (rows, columns), got shape {tuple(tensor.shape)}")
        if tensor.shape[1] == 0:
            raise ValueError(f"{name} must have at least one column, got shape {tuple(tensor.shape)}")
        self.name = name
        self.n_rows, self.n_columns = tensor.shape
        self.bytes_read = 0
        self.tensor = tensor.detach()
        self._bfloat16 = tensor.dtype == torch.bfloat16
        in_use = file_under(tensor, name)  # as of those that safetensors loads
        self.in_use = () if in_use is None else (in_use,)

    @property
    def row_bytes(self) -> int:
        return int(self.tensor.element_size()) * self.n_columns

    def resident_bytes(self, n: int, *, picked: bool = False) -> int:
        return n * self.row_bytes * (picked or self.tensor.device.type != "cpu" or not self.tensor.is_contiguous())

    def _host(self, part: Any) -> Chunk:
        import torch

        self.bytes_read += part.nbytes
        part = part.contiguous().resolve_neg().cpu()
        array = (part.view(torch.int16).numpy().view(BFLOAT16_BITS)) if self._bfloat16 else part.numpy()
        return ArrayRows(array, self.name, bfloat16=self._bfloat16).slice(0, array.shape[0])

    def slice(self, start: int, stop: int) -> Chunk:
        return self._host(self.tensor[start:stop])

    def take(self, indices: npt.NDArray[np.int64]) -> Chunk:
        import torch

        with reading():
            taken = self._host(self.tensor[torch.from_numpy(indices).to(self.tensor.device)])
            self.check()
        return taken

    def row_number(self, row: int) -> int:
        self.check()  # as in ArrayRows
        return row

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ = {**state, "in_use": ()}  # this process has the values


class AllBut:
    """The numbers 0 to n − 1 but for some, ascending: an index array that takes no memory for each of its numbers.

    Parameters
    ----------
    n : int
    missing : ndarray, int64
        Ascending and distinct.
    """

    def __init__(self, n: int, missing: npt.NDArray[np.int64]) -> None:
        self.size = n - missing.size
        self._smaller = missing - np.arange(missing.size)  # how many numbers there are below each missing one

    def __getitem__(self, positions: slice | npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        if isinstance(positions, slice):
            positions = np.arange(*positions.indices(self.size))
        return positions + np.searchsorted(self._smaller, positions, side="right")


class RowSubset(Rows):
    """Some rows of another matrix, in the given order."""

    def __init__(self, rows: Rows, indices: npt.NDArray[np.int64] | AllBut) -> None:
        self.name = rows.name
        self.n_rows, self.n_columns = indices.size, rows.n_columns
        self.rows = rows
        self.indices = indices

    @property
    def bytes_read(self) -> int:  # type: ignore[override]
        return self.rows.bytes_read

    def chunk_rows(self, chunk_size: int | None = None) -> int:
        return self.rows.chunk_rows(chunk_size)

    def slice(self, start: int, stop: int) -> Chunk:
        run = self.run(start, stop)
        return self.rows.take(self.indices[start:stop]) if run is None else self.rows.slice(*run)

    def read(self, start: int, stop: int) -> Chunk:
        run = self.run(start, stop)
        return self.rows.take(self.indices[start:stop]) if run is None else self.rows.read(*run)

    def run(self, start: int, stop: int) -> tuple[int, int] | None:
        """Where rows start to stop − 1 stand one after the other in the matrix, which can be read in place."""
        indices = self.indices[start:stop]
        if indices.size and (np.diff(indices) == 1).all():
            return int(indices[0]), int(indices[-1]) + 1
        return None

    def take(self, indices: npt.NDArray[np.int64]) -> Chunk:
        return self.rows.take(self.indices[indices])

    def row_number(self, row: int) -> int:
        return self.rows.row_number(int(self.indices[np.array([row])][0]))

    def expect(self, start: int, stop: int) -> None:
        if bounds := self._bounds(start, stop):
            self.rows.expect(*bounds)

    def release(self, start: int, stop: int) -> None:
        if bounds := self._bounds(start, stop):
            self.rows.release(*bounds)

    def _bounds(self, start: int, stop: int) -> tuple[int, int] | None:
        """The rows between the first and the last of these, where they are most of those."""
        indices = self.indices[start:stop]
        if indices.size and 0 <= int(indices[-1]) - int(indices[0]) < 2 * indices.size:
            return int(indices[0]), int(indices[-1]) + 1
        return None


class DerivedRows(Rows):
    """Rows that are computed from another matrix's rows whenever they are read.

    Parameters
    ----------
    source : Rows
        What is read.
    name : str
        What error messages call the result.
    n_columns : int
        Columns of the result.
    compute : callable
        From a chunk of the source to as many float32 rows; each row of the result depends on its source row alone.
    """

    def __init__(self, source: Rows, name: str, n_columns: int, compute: Callable[[Chunk], Chunk]) -> None:
        self.name = name
        self.n_rows, self.n_columns = source.n_rows, n_columns
        self.source = source
        self._compute = compute

    @property
    def bytes_read(self) -> int:  # type: ignore[override]
        return self.source.bytes_read

    def chunk_rows(self, chunk_size: int | None = None) -> int:
        # Few columns that come from many: what is read for a chunk counts as well.
        return min(super().chunk_rows(chunk_size), self.source.chunk_rows(chunk_size))

    def slice(self, start: int, stop: int) -> Chunk:
        return self._compute(self.source.slice(start, stop))

    def take(self, indices: npt.NDArray[np.int64]) -> Chunk:
        return self._compute(self.source.take(indices))

    def row_number(self, row: int) -> int:
        return self.source.row_number(row)

    def expect(self, start: int, stop: int) -> None:
        self.source.expect(start, stop)

    def release(self, start: int, stop: int) -> None:
        self.source.release(start, stop)


class _Products(Protocol):
    def linear(self, x: Chunk, weight: Any, bias: Any = None, *, scale: Any = None) -> npt.NDArray[np.float32]: ...

    def row_lengths(self, x: Chunk) -> npt.NDArray[np.float64]: ...


class LinearRows(DerivedRows):
    """x Wᵀ + b of another matrix's rows x, or of those divided by their lengths.

    Parameters
    ----------
    source : Rows, shape (N, D)
    name : str
        What error messages call the result.
    backend : Backend
        What computes lengths and products.
    weight : ndarray, shape (C, D), float32
    bias : ndarray, shape (C,), float32, optional
    unit : bool, default False
        Of unit rows.
    """

    def __init__(
        self,
        source: Rows,
        name: str,
        backend: _Products,
        weight: npt.NDArray[np.float32],
        bias: npt.NDArray[np.float32] | None = None,
        *,
        unit: bool = False,
    ) -> None:
        super().__init__(source, name, len(weight), self._product)
        self.weight, self.bias, self.unit = weight, bias, unit
        self._backend = backend

    def _product(self, chunk: Chunk) -> Chunk:
        scale = (1.0 / self._backend.row_lengths(chunk)).astype(np.float32) if self.unit else None
        return self._backend.linear(chunk, self.weight, self.bias, scale=scale)


class JudgedRows(Rows):
    """Another matrix whose rows are shown to `judge` whenever they are read, before anyone else sees them."""

    def __init__(self, source: Rows, judge: Callable[[Chunk], None]) -> None:
        self.name = source.name
        self.n_rows, self.n_columns = source.n_rows, source.n_columns
        self._source = source
        self._judge = judge

    @property
    def bytes_read(self) -> int:  # type: ignore[override]
        return self._source.bytes_read

    def chunk_rows(self, chunk_size: int | None = None) -> int:
        return self._source.chunk_rows(chunk_size)

    def slice(self, start: int, stop: int) -> Chunk:
        return self._judged(self._source.slice(start, stop))

    def take(self, indices: npt.NDArray[np.int64]) -> Chunk:
        return self._judged(self._source.take(indices))

    def _judged(self, chunk: Chunk) -> Chunk:
        self._judge(chunk)
        return chunk

    def row_number(self, row: int) -> int:
        return self._source.row_number(row)

    def expect(self, start: int, stop: int) -> None:
        self._source.expect(start, stop)

    def release(self, start: int, stop: int) -> None:
        self._source.release(start, stop)


class ReadRows(ArrayRows):
    """Rows `start` and following of another matrix, which have been read."""

    def __init__(self, source: Rows, values: Chunk, start: int = 0) -> None:
        super().__init__(values, source.name, bfloat16=values.dtype == BFLOAT16_BITS)
        self._source, self._start = source, start

    def row_number(self, row: int) -> int:
        return self._source.row_number(self._start + row)


class KeptRows(ReadRows):
    """The values of another matrix, in its storage type, read once and kept."""

    def __init__(self, source: Rows, chunk_size: int | None = None) -> None:
        values: Chunk = np.empty((0, source.n_columns), np.float32)
        for start, chunk in source.chunks(chunk_size):
            if start == 0:
                values = np.empty((source.n_rows, source.n_columns), chunk.dtype)
            values[start : start + len(chunk)] = chunk
            del chunk  # before the next is computed
        super().__init__(source, values)


def kept(rows: Rows, limit: int, chunk_size: int | None = None) -> Rows:
    """Rows that are read several times: kept where they fit into `limit` bytes, else read or computed anew."""
    return rows if 4 * rows.n_rows * rows.n_columns > limit else KeptRows(rows, chunk_size)


def open_rows(source: Any, name: str) -> Rows:
    """A matrix in whatever the caller has it, as :class:`Rows`; nothing is copied.

    Parameters
    ----------
    source : Rows, ndarray, np.memmap, torch.Tensor, datasets.Dataset, nested sequence, or path
        The rows. A path is that of a ``.npy``, ``.h5``, ``.hdf5``, ``.parquet``, ``.arrow`` or ``.safetensors`` file,
        or of a folder of shards (:mod:`ccma_fast.readers.folder`). ``file::key`` names a dataset, column or tensor in
        a file that holds several; without it the file has one matrix only, or an HDF5 file the layout of
        :mod:`ccma_fast.readers.hdf5`.
    name : str
        What error messages call it.

    Raises
    ------
    TypeError
        Not a matrix of real numbers.
    ValueError
        Not two-dimensional, or a file that cannot be read (:class:`FileReadError`).
    ImportError
        The library that reads the format is not installed; the text names the extra that brings it.
    """
    if isinstance(source, Rows):
        return source
    if isinstance(source, (str, os.PathLike)):
        return _open_path(source, name)
    if _is_a(source, "torch", "Tensor"):
        return TensorRows(source, name)
    if _is_a(source, "datasets", "Dataset"):
        from .readers.huggingface import DatasetRows

        return DatasetRows(source, name)
    if _is_a(source, "h5py", "Dataset"):
        from .readers.hdf5 import check_dataset

        check_dataset(source, source.file.filename, name)
    check_unmasked(name, source)
    try:
        with reading():
            array = np.asarray(source)
    except (TypeError, ValueError, RuntimeError) as error:  # PyTorch's, of tensors in a list that are part of a graph
        raise TypeError(f"{name} must be a matrix of real numbers, got {type(source).__name__} ({error})") from error
    if array.dtype == object and array.ndim == 0:
        raise TypeError(f"{name} must be a matrix of real numbers, got {type(source).__name__}")
    return _open_array(array, name, in_use=file_under(array, name))


def _open_path(path: str | os.PathLike[str], name: str) -> Rows:
    file, key = (path, None) if Path(path).exists() else split_key(path)
    if Path(file).is_dir():
        from .readers.folder import FolderRows

        return FolderRows(file, name, key)
    return open_file(file, key, name)


def open_file(file: str | os.PathLike[str], key: str | None, name: str) -> Rows:
    """The rows of one file, of which `key` names the matrix where it may hold several."""
    suffix = Path(file).suffix.lower()
    if suffix in (".h5", ".hdf5"):
        from .readers.hdf5 import open_hdf5

        return open_hdf5(os.fspath(file), key, name)
    if suffix == ".parquet":
        from .readers.parquet import ParquetRows

        return ParquetRows(os.fspath(file), key, name)
    if suffix == ".arrow":
        from .readers.arrow import ArrowRows

        return ArrowRows(os.fspath(file), key, name)
    if suffix == ".safetensors":
        from .readers.tensors import open_safetensors

        return open_safetensors(os.fspath(file), key, name)
    if key is not None and suffix == ".npy":
        raise FileReadError(f"{name}: {str(file)!r} holds one matrix, and none called {key!r}")
    array, in_use = _mapped_npy(file, name)
    return _open_array(array, name, file, in_use)


def split_key(path: str | os.PathLike[str]) -> tuple[str, str | None]:
    """The file and what is meant in it, of ``file::key``."""
    file, separator, key = os.fspath(path).partition("::")
    return file, key if separator else None


def _open_array(
    array: npt.NDArray[Any],
    name: str,
    file: str | os.PathLike[str] | None = None,
    in_use: FileInUse | None = None,
) -> Rows:
    # ml_dtypes' extension type, and what NumPy writes it as.
    if array.dtype.name == "bfloat16" or array.dtype == np.dtype("V2"):
        return ArrayRows(array.view(BFLOAT16_BITS), name, bfloat16=True, file=file, in_use=in_use)
    return ArrayRows(array, name, file=file, in_use=in_use)


def load_npy(path: str | os.PathLike[str], name: str) -> npt.NDArray[Any]:
    """The array of one ``.npy`` file, in memory."""
    array, in_use = _mapped_npy(path, name)
    with reading():
        values = in_memory(array)
        in_use.check()
    return values


def _mapped_npy(path: str | os.PathLike[str], name: str) -> tuple[npt.NDArray[Any], FileInUse]:
    """The array of one ``.npy`` file, mapped."""
    file = Path(path)
    if file.suffix.lower() != ".npy":
        raise FileReadError(
            f"{name}: expected a .npy, .h5, .hdf5, .parquet, .arrow or .safetensors file or a folder, got {str(file)!r}"
        )
    in_use = FileInUse(file, name)
    try:
        array = np.load(file, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # a damaged header raises whatever its parser meets, from SyntaxError to BadZipFile
        raise FileReadError(f"{name}: cannot read {str(file)!r} as .npy: {error}") from error
    if not isinstance(array, np.ndarray):
        array.close()
        raise FileReadError(f"{name}: cannot read {str(file)!r} as .npy: it is an .npz archive")
    if isinstance(array, np.memmap) and array.size and (end := array.offset + array.nbytes) != file.stat().st_size:
        raise FileReadError(
            f"{name}: {str(file)!r} must hold one array and nothing else, got {file.stat().st_size} bytes of which "
            f"the array takes {end}"
        )
    array = np.asarray(array)
    in_use.hold_array(array)
    return array, in_use


def _is_a(source: Any, module: str, kind: str) -> bool:
    # Without importing the module: whoever holds such an object has imported it.
    import sys

    loaded = sys.modules.get(module)
    return loaded is not None and isinstance(source, getattr(loaded, kind, ()))
