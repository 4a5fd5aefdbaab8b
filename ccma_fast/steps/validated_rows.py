"""Rows that are validated when they are read: finite and, where that is needed, with a direction."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from ..backends.protocol import Backend
from ..checks import LEAST_LENGTH
from ..pool.rows import Chunk, Rows

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
        Called where a row is not valid; raises.
    """

    def __init__(self, source: Rows, backend: Backend, *, directions: bool, refuse: Callable[[], None]) -> None:
        self.name = source.name
        self.n_rows, self.n_columns = source.n_rows, source.n_columns
        self._source = source
        self._backend, self._refuse = backend, refuse
        self._least = LEAST_LENGTH if directions else 0.0

    @property
    def bytes_read(self) -> int:  # type: ignore[override]
        return self._source.bytes_read

    def chunk_rows(self, chunk_size: int | None = None) -> int:
        return self._source.chunk_rows(chunk_size)

    def slice(self, start: int, stop: int) -> Chunk:
        return self._validated(self._source.slice(start, stop))

    def take(self, indices: npt.NDArray[np.int64]) -> Chunk:
        return self._validated(self._source.take(indices))

    def _validated(self, chunk: Chunk) -> Chunk:
        lengths = self._backend.row_lengths(chunk)
        if not (np.isfinite(lengths) & (lengths >= self._least)).all():
            self._refuse()
        return chunk

    def row_number(self, row: int) -> int:
        return self._source.row_number(row)

    def expect(self, start: int, stop: int) -> None:
        self._source.expect(start, stop)

    def release(self, start: int, stop: int) -> None:
        self._source.release(start, stop)
