"""Rows of formats that cannot be mapped: a reader decodes a block of rows at a time."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ..system.file_integrity import FileInUse, reading
from .rows import Chunk, FileRow, RowId, Rows, to_storage

__all__ = ["BlockRows", "ids_of_parts", "rows_of_block"]

Int64 = npt.NDArray[np.int64]

# Large enough to hide the cost of a call, small enough to decode for a single row.
_BLOCK_BYTES = 4 << 20


def rows_of_block(row_bytes: int) -> int:
    """Rows of a block, where the format leaves the choice."""
    return max(1, _BLOCK_BYTES // max(1, row_bytes))


class BlockRows(Rows):
    """Rows that are read a block at a time; the last block is cached.

    Sequential reads decode each block once, scattered ones each block that holds any of the rows.

    Parameters
    ----------
    name : str
        Its name in error messages.
    file : str or None
        Where it lies, for error messages.
    in_use : sequence of FileInUse
        The files that it lies in, checked whenever rows have been read.
    n_columns : int
    dtype : dtype
        Of the values in the file.
    starts : ndarray, shape (n_blocks + 1,), int64
        First row of each block; the last entry is the number of rows.
    """

    def __init__(
        self,
        name: str,
        file: str | None,
        in_use: Sequence[FileInUse],
        n_columns: int,
        dtype: np.dtype[Any],
        starts: npt.NDArray[np.int64],
    ) -> None:
        self.name, self.file, self.in_use = name, file, in_use
        self.n_rows, self.n_columns = int(starts[-1]), n_columns
        self.bytes_read = 0
        self._starts = starts
        self._dtype = to_storage(np.empty(0, dtype)).dtype
        self._last: tuple[int, Chunk] | None = None

    @property
    def row_bytes(self) -> int:
        return self._dtype.itemsize * self.n_columns

    @abstractmethod
    def _read(self, block: int) -> npt.NDArray[Any]:
        """Decode the rows of a block, in the file's own dtype."""

    def _block(self, block: int) -> Chunk:
        if self._last is None or self._last[0] != block:
            self._last = None  # frees its memory for the next one
            with reading():
                try:
                    values = self._read(block)
                finally:
                    self.check()  # also where reading failed: this may be why
            self.bytes_read += values.nbytes
            self._last = block, to_storage(values)
        return self._last[1]

    def slice(self, start: int, stop: int) -> Chunk:
        stop = min(stop, self.n_rows)
        values = np.empty((max(0, stop - start), self.n_columns), self._dtype)
        block = int(np.searchsorted(self._starts, start, side="right")) - 1
        while start < stop:
            begin, end = int(self._starts[block]), min(stop, int(self._starts[block + 1]))
            if end > start:
                values[len(values) - (stop - start) :][: end - start] = self._block(block)[start - begin : end - begin]
                start = end
            block += 1
        return values

    def take(self, indices: npt.NDArray[np.int64]) -> Chunk:
        values = np.empty((indices.size, self.n_columns), self._dtype)
        order = np.argsort(indices, kind="stable")
        ends = np.searchsorted(indices[order], self._starts)
        for block in np.flatnonzero(np.diff(ends)).tolist():
            places = order[ends[block] : ends[block + 1]]
            values[places] = self._block(block)[indices[places] - self._starts[block]]
        self.check()
        return values

    def row_number(self, row: int) -> int:
        return row if self.file is None else FileRow(row, f"{row} of {self.file!r}")

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_last": None}


def ids_of_parts(rows: Int64, starts: Int64, read: Callable[[int, Int64], list[RowId]]) -> list[RowId]:
    """The ids of some rows of a matrix in parts; parts that hold none of them are not read.

    Parameters
    ----------
    rows : ndarray, int64
    starts : ndarray, shape (n_parts + 1,), int64
        First row of each part; the last entry is the number of rows.
    read : callable
        From the number of a part and rows of it, counted from its first, to their ids.
    """
    found: list[RowId] = [None] * rows.size
    order = np.argsort(rows, kind="stable")
    ends = np.searchsorted(rows[order], starts)
    for part in np.flatnonzero(np.diff(ends)).tolist():
        places = order[ends[part] : ends[part + 1]]
        ids = read(part, rows[places] - starts[part])
        for place, row_id in zip(places.tolist(), ids, strict=True):
            found[place] = row_id
    return found
