"""Measured time, reads and peak memory of each stage of a query."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from ..pool.rows import Rows
from ..system.memory import PeakMemory
from .report import Stage

__all__ = ["StageClock"]


class StageClock:
    """Measures stages: wall time, bytes read from the query's sources, and peak memory.

    Use it as a context: memory is watched for that long.
    """

    def __init__(self, pool: Rows) -> None:
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
        start, before = time.perf_counter(), self._bytes_read()
        yield
        self.stages[name] = Stage(time.perf_counter() - start, self._bytes_read() - before, self._peak.lap())

    def _bytes_read(self) -> int:
        return sum(rows.bytes_read - before for rows, before in self._sources)
