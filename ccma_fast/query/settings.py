"""Settings of a query that are independent of its inputs: constants, backend, memory, chunks, random streams."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..backends.protocol import Backend, on_ranks
from ..config import CCMAConfig
from ..pool.derived import AllBut, RowSubset
from ..pool.rows import Rows
from ..system.memory import Memory

__all__ = ["RowNumbers", "Settings", "Streams", "random_streams"]

RowNumbers = AllBut | npt.NDArray[np.int64]


class Streams(NamedTuple):
    """Independent random streams, so that a step that draws nothing changes no draw of another step."""

    subpool: np.random.Generator
    student: np.random.Generator
    coverage: np.random.Generator
    comparison: np.random.Generator


def random_streams(random_state: int) -> Streams:
    """The streams of a query that follow from its seed."""
    return Streams(*map(np.random.default_rng, np.random.SeedSequence(random_state).spawn(4)))


@dataclass(frozen=True, eq=False)
class Settings:
    """Settings of a query that are independent of its inputs."""

    config: CCMAConfig
    backend: Backend
    memory: Memory
    chunk_size: int | None
    """Rows read at once; None for the default of each matrix."""
    streams: Streams
    explains: bool = False
    """Whether the rows that each pick represents are looked for."""

    @property
    def n_ranks(self) -> int:
        """Processes that share the rows."""
        spread = on_ranks(self.backend)
        return 1 if spread is None else spread.n_ranks

    def kept(self, rows: Rows, indices: RowNumbers) -> Rows:
        """Some rows, which will be read several times: kept where they fit."""
        return self.backend.kept(RowSubset(rows, indices), self.memory.rows, self.chunk_size)
