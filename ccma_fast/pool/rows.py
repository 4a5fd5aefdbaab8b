"""The interface of a matrix of rows, read in chunks from any storage.

Features and logits alike are :class:`Rows`. A chunk is a C-contiguous array of one of three storage types, which every
backend takes as it is: float32, float16, or the bits of bfloat16 in a uint16 array (NumPy has no bfloat16). Other real
types are converted to float32 chunk by chunk.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ..system.file_integrity import FileInUse, in_memory, reading
from .manifest import Manifest
from .shard_names import ShardFile

__all__ = [
    "BFLOAT16_BITS",
    "READ_OVER",
    "STORAGE_TYPES",
    "Chunk",
    "FileRow",
    "Places",
    "RowId",
    "Rows",
    "check_matrix",
    "in_step",
    "sliced_around",
    "to_float32",
    "to_storage",
]

Chunk = npt.NDArray[Any]

Places = slice | npt.NDArray[np.int64]
"""What selects rows of a chunk."""

# None where a column of ids has a gap.
RowId = str | None

BFLOAT16_BITS = np.dtype(np.uint16)

STORAGE_TYPES = (np.dtype(np.float32), np.dtype(np.float16))

# Large enough to hide the cost of a call, small enough to leave memory to others.
_CHUNK_BYTES = 32 << 20

READ_OVER = 32
"""Rather than that rows are copied, one more is read for so many that are wanted."""


def to_float32(chunk: Chunk) -> npt.NDArray[np.float32]:
    """The values of a chunk in any of the three storage types, as float32 (exact)."""
    if chunk.dtype == BFLOAT16_BITS:
        return (chunk.astype(np.uint32) << 16).view(np.float32)
    return chunk.astype(np.float32, copy=False)


def to_storage(values: npt.NDArray[Any]) -> Chunk:
    """Real numbers as a C-contiguous array: float32 and float16 as they are, other types as float32."""
    if values.dtype in STORAGE_TYPES:
        return np.ascontiguousarray(values)
    with np.errstate(over="ignore"):  # too large for float32 becomes infinite, which is refused
        return np.ascontiguousarray(values, dtype=np.float32)


def check_matrix(shape: tuple[int, ...], dtype: np.dtype[Any], name: str) -> None:
    """A matrix of at least one column of real numbers."""
    if len(shape) != 2:
        raise ValueError(f"{name} must have two dimensions (rows, columns), got shape {shape}")
    if shape[1] == 0:
        raise ValueError(f"{name} must have at least one column, got shape {shape}")
    if dtype.kind not in "fiu":
        raise TypeError(f"{name} must hold real numbers, got dtype {dtype}")


class FileRow(int):
    """A row's number in a matrix, whose text also names its file."""

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
        Its name in error messages.
    n_rows, n_columns : int
        Its shape.
    bytes_read : int
        Bytes read from the storage so far.
    manifest : Manifest or None
        What made the rows and which images they are, where the storage has a manifest.
    row_bytes : int
        Bytes of a row in the storage.
    index : pandas.Index or None
        Of the data frame that the rows are of, by which a Series of labels is joined to them.
    in_use : sequence of FileInUse
        The files of the storage that must not change while they are read.
    """

    name: str
    n_rows: int
    n_columns: int
    bytes_read: int
    manifest: Manifest | None = None
    index: Any = None
    in_use: Sequence[FileInUse] = ()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name}, {self.n_rows:,} rows, {self.n_columns:,} columns)"

    @property
    def row_bytes(self) -> int:
        return 4 * self.n_columns

    @property
    def behind(self) -> Sequence[Rows]:
        """The matrices, of as many rows, that these rows are computed from; empty where they are stored."""
        return ()

    @property
    def is_mapped(self) -> bool:
        """Whether rows lie in mapped files, whose pages become resident when they are touched."""
        return False

    def resident_bytes(self, n: int, *, picked: bool = False) -> int:
        """Resident bytes of a chunk of n rows: pages of a file, and copies.

        The rows are consecutive or, where they are `picked`, scattered.
        """
        return n * self.row_bytes

    @abstractmethod
    def slice(self, start: int, stop: int) -> Chunk:
        """Rows start to stop − 1 as a C-contiguous array in a storage type.

        It may lie in a mapped file: use it inside :func:`ccma_fast.system.file_integrity.reading`, and trust what comes
        of it once :meth:`release` has passed. :func:`~ccma_fast.pool.rows.in_step` and :meth:`read` see to both.
        """

    @abstractmethod
    def take(self, indices: npt.NDArray[np.int64]) -> Chunk:
        """The rows at `indices`, in that order, as a C-contiguous array in a storage type."""

    def around(self, indices: npt.NDArray[np.int64]) -> tuple[Chunk, Places]:
        """A chunk that holds the rows at `indices`, and where: an array of places where it holds others too.

        Stored rows that lie among few others are not copied. What holds of :meth:`slice` then holds of the chunk, of
        the rows from the first to the last of `indices`.
        """
        return self.take(indices), slice(None)

    def row_number(self, row: int) -> int:
        """The number of row `row` in the caller's own matrix, from which these rows may be taken."""
        return row

    @property
    def shard_files(self) -> Sequence[ShardFile]:
        """The files of a folder of shards, in the order of their rows; empty for other storage."""
        return ()

    def row_ids(self) -> Iterator[RowId] | None:
        """The id of every row's image, in order; None where no ids are stored with the rows.

        Nothing is read before the first one is requested.
        """
        return None

    def ids_at(self, rows: npt.NDArray[np.int64]) -> list[RowId] | None:
        """The ids of some rows, without reading those of all; None as for :meth:`row_ids`."""
        return None

    def former_ids(self) -> dict[str, list[int]]:
        """The rows of renamed images, by each former id."""
        return {}

    def vanished(self) -> npt.NDArray[np.int64]:
        """Rows whose images are known to be gone and cannot be labelled; ascending."""
        return np.empty(0, np.int64)

    def grown(self) -> Rows:
        """These rows and those appended since they were opened; itself where nothing is new."""
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
            The file may have changed since it was opened.
        """
        self.check()

    def check(self) -> None:
        """Everything read so far came from the files as they were opened, see :meth:`FileInUse.check`."""
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


def sliced_around(rows: Rows, indices: npt.NDArray[np.int64]) -> tuple[Chunk, Places]:
    """:meth:`Rows.around` of rows of which a slice costs less than a copy."""
    if indices.size:
        first, last = int(indices[0]), int(indices[-1])
        if 0 <= (last + 1 - first) - indices.size <= indices.size // READ_OVER and (np.diff(indices) > 0).all():
            return rows.slice(first, last + 1), indices - first
    return rows.take(indices), slice(None)


def in_step(*rows: Rows, chunk_size: int | None = None) -> Iterator[tuple[int, tuple[Chunk, ...]]]:
    """Chunks of the same rows of several matrices, with the index of their first row; the first matrix sets their size.

    While a chunk is processed the next one is prefetched; then its pages are released.
    """
    for start, stop in rows[0].bounds(chunk_size):
        with reading():
            for matrix in rows:
                matrix.expect(stop, min(stop + (stop - start), matrix.n_rows))
            yield start, tuple(matrix.slice(start, stop) for matrix in rows)
            for matrix in rows:
                matrix.release(start, stop)
