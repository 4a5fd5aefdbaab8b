"""Rows in several shards, one after the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from .rows import Chunk, FileRow, Places, Rows, sliced_around

__all__ = ["ShardedRows"]


class ShardedRows(Rows):
    """The rows of several matrices of one width and storage type, one after the other.

    Parameters
    ----------
    shards : sequence of Rows
        At least one.
    name : str
        Name of the whole in error messages.
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
        is_joined = picked or len(self._shards) > 1  # chunks that cross the bounds of shards are copied
        in_one = min(n, int(np.diff(self._starts).max()))  # one shard is copied at a time, but all pages are resident
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
        for shard, *bounds in parts:  # one after the other: thousands could not all be mapped at once
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

    def around(self, indices: npt.NDArray[np.int64]) -> tuple[Chunk, Places]:
        return sliced_around(self, indices)

    def row_number(self, row: int) -> int:
        shard = int(np.searchsorted(self._starts, row, side="right")) - 1
        return FileRow(row, f"{row} (row {self._shards[shard].row_number(row - int(self._starts[shard]))})")

    def expect(self, start: int, stop: int) -> None:
        for shard, *bounds in self._parts(start, stop):
            shard.expect(*bounds)

    def release(self, start: int, stop: int) -> None:
        parts = list(self._parts(start, stop))
        if len(parts) == 1:  # several were copied, and released then
            shard, *bounds = parts[0]
            shard.release(*bounds)
