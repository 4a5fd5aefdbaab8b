"""Measured time, reads and peak memory of each stage of a query."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from ..backends.protocol import SpreadBackend
from ..pool.rows import Rows
from ..system.memory import PeakMemory
from .report import Stage

__all__ = ["StageClock"]


class StageClock:
    """Measures stages: wall time, bytes read from the query's sources, peak memory, and bytes between ranks.

    Use it as a context: memory is watched for that long.

    Parameters
    ----------
    pool : Rows
    spread : SpreadBackend or None
        Where rows lie on several ranks, what has counted the bytes between them.
    """

    def __init__(self, pool: Rows, spread: SpreadBackend | None = None) -> None:
        self._spread = spread
        self.stages: dict[str, Stage] = {}
        self._sources: list[tuple[Rows, int]] = []  # with the bytes read before it was added
        self.add_sources(pool)
        self._peak = PeakMemory()

    def __enter__(self) -> StageClock:
        self._peak.__enter__()
        return self

    def __exit__(self, *raised: object) -> None:
        self._peak.__exit__(*raised)

    def add_sources(self, *sources: Rows) -> None:
        """Count what is read from these as well, from now on."""
        self._sources += [(rows, rows.bytes_read) for rows in sources]

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Measure what runs inside."""
        start, before, exchanged = time.perf_counter(), self._bytes_read(), self._bytes_exchanged()
        yield
        # On several ranks the bytes that they have read are asked for, which counts among the bytes between them.
        seconds, read = time.perf_counter() - start, self._bytes_read() - before
        self.stages[name] = Stage(seconds, read, self._peak.lap(), self._bytes_exchanged() - exchanged)

    def _bytes_read(self) -> int:
        return sum(rows.bytes_read - before for rows, before in self._sources)

    def _bytes_exchanged(self) -> int:
        return 0 if self._spread is None else self._spread.bytes_exchanged
