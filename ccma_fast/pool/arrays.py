"""Rows in NumPy arrays, in memory or mapped from a file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ..system.file_integrity import FileInUse, file_under, reading
from ..system.mapped_pages import Pages
from .array_like import as_array, check_unmasked, is_missing
from .rows import (
    BFLOAT16_BITS,
    STORAGE_TYPES,
    Chunk,
    FileRow,
    Places,
    Rows,
    check_matrix,
    sliced_around,
    to_storage,
)

__all__ = ["ArrayRows", "KeptRows", "ReadRows", "kept", "rows_of_array", "rows_of_array_like", "stacked"]

# Runs of so many consecutive rows, on average, are copied run by run.
_LEAST_RUN = 8


class ArrayRows(Rows):
    """A two-dimensional ndarray or memmap, read in place.

    Parameters
    ----------
    array : ndarray, shape (n_rows, n_columns)
        Any real dtype, order and strides.
    name : str
        Its name in error messages.
    bfloat16 : bool, default False
        The array is uint16 and holds the bits of bfloat16 numbers.
    file : path, optional
        Where it lies, for error messages.
    in_use : FileInUse, optional
        Tells whether that file has changed since it was opened.
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
        is_copied = (
            not self._bfloat16 and self._array.dtype not in STORAGE_TYPES
        ) or not self._array.flags.c_contiguous
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

    def around(self, indices: npt.NDArray[np.int64]) -> tuple[Chunk, Places]:
        return sliced_around(self, indices)

    def _taken(self, indices: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        ends = np.flatnonzero(np.diff(indices) != 1)
        if _LEAST_RUN * ends.size < indices.size:
            starts = indices[np.concatenate([[0], ends + 1])].tolist()
            stops = indices[np.concatenate([ends, [-1]])].tolist()
            return np.concatenate([self._array[a : b + 1] for a, b in zip(starts, stops, strict=True)])
        return self._pages.take(indices)

    def row_number(self, row: int) -> int:
        self.check()  # a bad row of a changed file is an error of the file
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


class ReadRows(ArrayRows):
    """Values of another matrix that have been read, from its row `start` on."""

    def __init__(self, source: Rows, values: Chunk, start: int = 0) -> None:
        super().__init__(values, source.name, bfloat16=values.dtype == BFLOAT16_BITS)
        self._source, self._start = source, start

    def row_number(self, row: int) -> int:
        return self._source.row_number(self._start + row)


class KeptRows(ReadRows):
    """Another matrix, read once and cached in memory in its storage type."""

    def __init__(self, source: Rows, chunk_size: int | None = None) -> None:
        values: Chunk = np.empty((0, source.n_columns), np.float32)
        for start, chunk in source.chunks(chunk_size):
            if start == 0:
                values = np.empty((source.n_rows, source.n_columns), chunk.dtype)
            values[start : start + len(chunk)] = chunk
            del chunk  # before the next is computed
        super().__init__(source, values)


def kept(rows: Rows, limit: int, chunk_size: int | None = None) -> Rows:
    """Rows that are read several times: cached where they fit into `limit` bytes as float32, else read anew."""
    return rows if 4 * rows.n_rows * rows.n_columns > limit else KeptRows(rows, chunk_size)


def rows_of_array(
    array: npt.NDArray[Any],
    name: str,
    file: str | os.PathLike[str] | None = None,
    in_use: FileInUse | None = None,
) -> Rows:
    """The rows of an array, bfloat16 included; errors as :class:`ArrayRows`."""
    # ml_dtypes' extension type, and what NumPy writes it as.
    if array.dtype.name == "bfloat16" or array.dtype == np.dtype("V2"):
        return ArrayRows(array.view(BFLOAT16_BITS), name, bfloat16=True, file=file, in_use=in_use)
    return ArrayRows(array, name, file=file, in_use=in_use)


def stacked(cells: Sequence[Any] | npt.NDArray[Any], name: str) -> npt.NDArray[Any]:
    """Vectors that are objects of their own as one matrix: float16 where all are, else float32.

    Raises
    ------
    TypeError
        A cell that is no vector of real numbers.
    ValueError
        No cell, one that is missing, or vectors of different lengths.
    """
    if not len(cells):
        raise ValueError(f"{name} has no row, and so tells no number of columns")
    is_half = all(getattr(cell, "dtype", None) == np.float16 for cell in cells)
    width = _vector(cells[0], 0, name).size
    matrix = np.empty((len(cells), width), np.float16 if is_half else np.float32)
    for row, cell in enumerate(cells):
        vector = _vector(cell, row, name)
        if vector.size != width:
            raise ValueError(
                f"{name} must have as many numbers in each row, got {width} at row 0 and {vector.size} at row {row}"
            )
        with np.errstate(over="ignore"):  # too large for float32 becomes infinite, which is refused
            matrix[row] = vector
    return matrix


def _vector(cell: Any, row: int, name: str) -> npt.NDArray[Any]:
    """A cell of a column of vectors."""
    if type(cell) is np.ndarray and cell.ndim == 1 and cell.dtype.kind in "fiu":  # as of most columns; the rest is slow
        return cell
    if is_missing(cell):
        raise ValueError(f"{name} must have a vector in each row, got {cell!r} at row {row}")
    try:
        vector = as_array(f"row {row} of {name}", cell)
    except (TypeError, RuntimeError) as error:
        raise TypeError(f"{name} must be vectors of real numbers, got {type(cell).__name__} at row {row}") from error
    if vector.ndim == 1 and (vector.dtype.kind in "fiu" or vector.dtype.name == "bfloat16"):
        return vector
    raise TypeError(f"{name} must be vectors of real numbers, got {type(cell).__name__} {cell!r:.80} at row {row}")


def rows_of_array_like(source: Any, name: str) -> Rows:
    """The rows of an object that NumPy converts to an array.

    Raises
    ------
    TypeError
        It cannot be converted, or is no matrix of real numbers.
    ValueError
        Not two-dimensional, or masked entries.
    """
    check_unmasked(name, source)
    try:
        with reading():
            array = np.asarray(source)
    except (TypeError, ValueError, RuntimeError) as error:  # PyTorch's, of tensors in a list that are part of a graph
        raise TypeError(f"{name} must be a matrix of real numbers, got {type(source).__name__} ({error})") from error
    if array.dtype == object and array.ndim == 0:
        raise TypeError(f"{name} must be a matrix of real numbers, got {type(source).__name__}")
    if array.dtype == object and array.ndim == 1:
        array = stacked(array, name)
    return rows_of_array(array, name, in_use=file_under(array, name))
