"""Rows that are selected or computed from another matrix, lazily."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ..system.file_integrity import reading
from .rows import Chunk, Places, Rows

__all__ = ["AllBut", "DerivedRows", "LinearRows", "RowMask", "RowSubset", "Runs", "rows_where"]

# Columns for each product from which on products are copied rather than rows.
_LEAST_COLUMNS = 4

RowMask = npt.NDArray[np.bool_] | npt.NDArray[np.int64]
"""A mask, shape (N,), or distinct row numbers in any order: what indexes an array of N rows."""


class AllBut:
    """The numbers 0 to n − 1 but for some, ascending: an index array whose memory does not grow with n.

    Parameters
    ----------
    n : int
    missing : ndarray, int64
        Ascending and distinct.
    """

    def __init__(self, n: int, missing: npt.NDArray[np.int64]) -> None:
        self.size = n - missing.size
        self.missing = missing
        self.smaller = missing - np.arange(missing.size)
        """How many of the numbers are smaller than each missing one; ascending."""

    def __reduce__(self) -> tuple[Any, ...]:
        return AllBut, (self.size + self.missing.size, self.missing)

    def __getitem__(self, positions: slice | npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        if isinstance(positions, slice):
            positions = np.arange(*positions.indices(self.size))
        return positions + np.searchsorted(self.smaller, positions, side="right")


class Runs:
    """The numbers of some ranges, ascending: an index array whose memory grows with the ranges alone.

    Parameters
    ----------
    starts, stops : array_like of int
        Where each range begins and ends; ascending, and no range overlaps another.
    """

    def __init__(self, starts: npt.ArrayLike, stops: npt.ArrayLike) -> None:
        starts, stops = np.asarray(starts, np.int64), np.asarray(stops, np.int64)
        filled = stops > starts
        self.starts, self.stops = starts[filled], stops[filled]
        self.ends = np.cumsum(self.stops - self.starts)
        """How many numbers there are up to the end of each range."""
        self.size = int(self.ends[-1]) if self.ends.size else 0

    def __getitem__(self, positions: slice | npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        if isinstance(positions, slice):
            positions = np.arange(*positions.indices(self.size))
        run = np.searchsorted(self.ends, positions, side="right")
        numbers: npt.NDArray[np.int64] = positions + (self.stops - self.ends)[run]
        return numbers

    def positions(self, numbers: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """The position of each number, or −1 where it is none of these."""
        run = np.searchsorted(self.stops, numbers, side="right")
        known = run < self.starts.size
        known[known] = self.starts[run[known]] <= numbers[known]
        found = np.full(numbers.shape, -1, np.int64)
        found[known] = numbers[known] - (self.stops - self.ends)[run[known]]
        return found

    def each(self) -> Iterator[tuple[int, slice]]:
        """Where each range begins, and the positions of its numbers."""
        for start, stop, end in zip(self.starts.tolist(), self.stops.tolist(), self.ends.tolist(), strict=True):
            yield start, slice(end - (stop - start), end)


def rows_where(mask: npt.NDArray[np.bool_]) -> AllBut | npt.NDArray[np.int64]:
    """The numbers of the rows where a mask is true, ascending, in the form that takes less memory."""
    if 2 * np.count_nonzero(mask) < mask.size:
        return np.flatnonzero(mask)
    return AllBut(mask.size, np.flatnonzero(~mask))


class RowSubset(Rows):
    """Some rows of another matrix, in a given order."""

    def __init__(self, rows: Rows, indices: npt.NDArray[np.int64] | AllBut | Runs) -> None:
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
        """Bounds in the matrix of rows start to stop − 1 where they are contiguous, to be read in place; else None."""
        stop = min(stop, self.n_rows)
        if start >= stop:
            return None
        first, last = self._ends(start, stop)
        # Where numbers ascend their ends tell; in an array of any order all are looked at, once the ends allow it.
        if last - first != stop - 1 - start:
            return None
        if isinstance(self.indices, np.ndarray) and (np.diff(self.indices[start:stop]) != 1).any():
            return None
        return first, last + 1

    def _ends(self, start: int, stop: int) -> tuple[int, int]:
        """The first and the last of row numbers."""
        if isinstance(self.indices, np.ndarray):
            return int(self.indices[start]), int(self.indices[stop - 1])
        first, last = self.indices[np.array([start, stop - 1])].tolist()
        return first, last

    def take(self, indices: npt.NDArray[np.int64]) -> Chunk:
        return self.rows.take(self.indices[indices])

    def around(self, indices: npt.NDArray[np.int64]) -> tuple[Chunk, Places]:
        return self.rows.around(self.indices[indices])

    def row_number(self, row: int) -> int:
        return self.rows.row_number(int(self.indices[np.array([row])][0]))

    def expect(self, start: int, stop: int) -> None:
        if bounds := self._bounds(start, stop):
            self.rows.expect(*bounds)

    def release(self, start: int, stop: int) -> None:
        if bounds := self._bounds(start, stop):
            self.rows.release(*bounds)

    def _bounds(self, start: int, stop: int) -> tuple[int, int] | None:
        """The span from the first to the last of these rows, where they are at least half of it."""
        stop = min(stop, self.n_rows)
        if start >= stop:
            return None
        first, last = self._ends(start, stop)
        return (first, last + 1) if 0 <= last - first < 2 * (stop - start) else None


class DerivedRows(Rows):
    """Rows that are computed from the rows of another matrix whenever they are read.

    Parameters
    ----------
    source : Rows
        What is read.
    name : str
        Name of the result in error messages.
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
    def behind(self) -> tuple[Rows, ...]:
        return (self.source,)

    @property
    def bytes_read(self) -> int:  # type: ignore[override]
        return self.source.bytes_read

    def chunk_rows(self, chunk_size: int | None = None) -> int:
        # The source's chunk counts as well: it may be much wider than the result.
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
    """x Wᵀ + b of another matrix's rows x, or of their unit vectors x / ‖x‖.

    Parameters
    ----------
    source : Rows, shape (N, D)
    name : str
        Name of the result in error messages.
    backend : Backend
        Computes lengths and products.
    weight : ndarray, shape (C, D), float32
    bias : ndarray, shape (C,), float32, optional
    unit : bool, default False
        Normalise each x to unit length.
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

    def take(self, indices: npt.NDArray[np.int64]) -> Chunk:
        # Products without those of other rows are a copy, which has to be far smaller than one of the rows.
        if not self.reads_over(self.source.n_columns, self.n_columns):
            return super().take(indices)
        with reading():
            chunk, places = self.source.around(indices)
            product = self._product(chunk)[places]
            del chunk
            if not isinstance(places, slice):
                self.source.release(int(indices[0]), int(indices[-1]) + 1)
        return product

    @staticmethod
    def reads_over(n_columns: int, n_products: int) -> bool:
        """Whether rows that lie among few others are read with them, not copied."""
        return _LEAST_COLUMNS * n_products <= n_columns

    def _product(self, chunk: Chunk) -> Chunk:
        scale = None
        if self.unit:
            with np.errstate(divide="ignore", over="ignore"):  # other rows than those that are wanted may be zero
                scale = (1.0 / self._backend.row_lengths(chunk)).astype(np.float32)
        return self._backend.linear(chunk, self.weight, self.bias, scale=scale)
