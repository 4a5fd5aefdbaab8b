"""The rows of a pool that lie on several ranks, as the first rank sees them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ...pool.rows import Chunk, RowId, Rows
from ...pool.shard_names import ShardFile

__all__ = ["Fetching", "SpreadRows"]


class Fetching(Protocol):
    """Who brings rows from the ranks that have them."""

    def fetched(self, rows: SpreadRows, numbers: npt.NDArray[np.int64]) -> Chunk:
        """Rows by their numbers, in that order."""
        ...

    def bytes_read(self, rows: SpreadRows) -> int:
        """Bytes that all ranks have read of a source."""
        ...


class SpreadRows(Rows):
    """A matrix whose rows are read where they lie. What is asked of its storage alone, the first rank knows.

    Parameters
    ----------
    here : Rows, shape (N, D)
        The matrix as this process has opened it.
    number : int
        Of the sources of the query.
    fetching : Fetching
    """

    def __init__(self, here: Rows, number: int, fetching: Fetching) -> None:
        self.here, self.number = here, number
        self._fetching = fetching
        self.name, self.n_rows, self.n_columns = here.name, here.n_rows, here.n_columns
        self.manifest, self.index, self.in_use = here.manifest, here.index, here.in_use

    @property
    def bytes_read(self) -> int:  # type: ignore[override]
        return self._fetching.bytes_read(self)

    @property
    def row_bytes(self) -> int:
        return self.here.row_bytes

    @property
    def is_mapped(self) -> bool:
        return self.here.is_mapped

    def resident_bytes(self, n: int, *, picked: bool = False) -> int:
        return self.here.resident_bytes(n, picked=picked)

    def chunk_rows(self, chunk_size: int | None = None) -> int:
        return self.here.chunk_rows(chunk_size)

    def slice(self, start: int, stop: int) -> Chunk:
        return self.take(np.arange(start, stop))

    def take(self, indices: npt.NDArray[np.int64]) -> Chunk:
        return self._fetching.fetched(self, np.asarray(indices, np.int64))

    def release(self, start: int, stop: int) -> None:
        """Nothing: who reads rows sees to what was read of their files."""

    def row_number(self, row: int) -> int:
        return self.here.row_number(row)

    @property
    def shard_files(self) -> Sequence[ShardFile]:
        return self.here.shard_files

    def row_ids(self) -> Iterator[RowId] | None:
        return self.here.row_ids()

    def ids_at(self, rows: npt.NDArray[np.int64]) -> list[RowId] | None:
        return self.here.ids_at(rows)

    def former_ids(self) -> dict[str, list[int]]:
        return self.here.former_ids()

    def vanished(self) -> npt.NDArray[np.int64]:
        return self.here.vanished()

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError("rows on several ranks are sent by their number")
