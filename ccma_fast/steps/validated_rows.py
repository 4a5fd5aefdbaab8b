"""Rows that are validated when they are read: finite and, where that is needed, with a direction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ..backends.protocol import Backend
from ..checks import LEAST_LENGTH
from ..pool.checked import check_lengths
from ..pool.derived import RowSubset
from ..pool.rows import Chunk, Places, Rows

__all__ = ["LazilyValidatedRows", "validated_rows"]


def validated_rows(rows: Rows, backend: Backend, *, directions: bool = False) -> Rows:
    """A view of `rows` that raises ValueError, with the number of the first row that is not valid, when it is read."""

    def refuse() -> None:
        backend.check_rows(rows, directions=directions)

    return LazilyValidatedRows(rows, backend, directions=directions, refuse=refuse)


class LazilyValidatedRows(Rows):
    """A view of another matrix whose rows are validated when they are read.

    Parameters
    ----------
    source : Rows
    backend : Backend
        Computes norms.
    directions : bool
        Whether rows need a norm large enough to normalise.
    refuse : callable
        Called where a row is not valid; raises. A copy that was pickled raises for the first such row of what is read.
    """

    def __init__(self, source: Rows, backend: Backend, *, directions: bool, refuse: Callable[[], None]) -> None:
        self.name = source.name
        self.n_rows, self.n_columns = source.n_rows, source.n_columns
        self._source = source
        self._backend = backend
        self._refuse: Callable[[], None] | None = refuse
        self._least = LEAST_LENGTH if directions else 0.0

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_refuse": None}

    @property
    def behind(self) -> tuple[Rows, ...]:
        return (self._source,)

    @property
    def bytes_read(self) -> int:  # type: ignore[override]
        return self._source.bytes_read

    def chunk_rows(self, chunk_size: int | None = None) -> int:
        return self._source.chunk_rows(chunk_size)

    def slice(self, start: int, stop: int) -> Chunk:
        chunk = self._source.slice(start, stop)
        self._validate(self._backend.row_lengths(chunk), range(start, stop))
        return chunk

    def take(self, indices: npt.NDArray[np.int64]) -> Chunk:
        chunk = self._source.take(indices)
        self._validate(self._backend.row_lengths(chunk), indices)
        return chunk

    def around(self, indices: npt.NDArray[np.int64]) -> tuple[Chunk, Places]:
        chunk, places = self._source.around(indices)
        self._validate(self._backend.row_lengths(chunk)[places], indices)
        return chunk, places

    def _validate(self, lengths: npt.NDArray[np.float64], numbers: Sequence[int] | npt.NDArray[np.int64]) -> None:
        if not (np.isfinite(lengths) & (lengths >= self._least)).all():
            if self._refuse is not None:
                self._refuse()
            read = RowSubset(self._source, np.asarray(numbers, np.int64))
            check_lengths(read, 0, lengths, directions=self._least > 0.0)

    def row_number(self, row: int) -> int:
        return self._source.row_number(row)

    def expect(self, start: int, stop: int) -> None:
        self._source.expect(start, stop)

    def release(self, start: int, stop: int) -> None:
        self._source.release(start, stop)
