"""What one rank has: its rows of every source, and what is kept of them between commands."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from ...backends.protocol import PartedBackend
from ...config import CCMAConfig
from ...pool.derived import RowSubset, Runs
from ...pool.rows import Rows
from ...system.memory import Memory
from ..settings import Settings, random_streams
from .places import own_positions
from .shipping import Numbers, Reference

__all__ = ["Held", "Holder"]


class Held(NamedTuple):
    """Values of the rows of a rank."""

    values: Any
    """An array or tensor, a value a row."""
    own: Runs
    """The positions of these rows in the matrix of all ranks."""


@dataclass(eq=False)
class Holder:
    """One rank's share of a query."""

    sources: list[Rows]
    """All that is read, each as this process has opened it."""
    backend: PartedBackend
    runs: Runs
    """The rows of this rank."""
    memory: Memory
    config: CCMAConfig = field(default_factory=CCMAConfig)
    chunk_size: int | None = None
    kept: dict[int, Any] = field(default_factory=dict)
    numbers: dict[int, Numbers] = field(default_factory=dict)

    @property
    def settings(self) -> Settings:
        """Of what is computed here; nothing is drawn here."""
        return Settings(self.config, self.backend, self.memory, self.chunk_size, random_streams(0))

    def own(self, rows: Rows) -> Runs:
        """The positions in a matrix of all ranks of the rows of this one."""
        return own_positions(rows, self.runs)

    def here(self, rows: Rows) -> Rows:
        """The rows of a matrix that are this rank's."""
        return RowSubset(rows, self.own(rows))

    def of_own(self, values: Any, own: Runs) -> Any:
        """Values a row, of which an array has those of all ranks and what is kept those of this one, or one number."""
        return values[own[:]] if isinstance(values, np.ndarray) and values.ndim else _bare(values)

    def resolve(self, reference: Reference) -> Any:
        """What a reference stands for on this rank."""
        kind, number = reference
        if kind == "source":
            return self.sources[number]
        if kind == "backend":
            return self.backend
        return self.numbers[number] if kind == "numbers" else self.kept[number]


def _bare(values: Any) -> Any:
    return values.values if isinstance(values, Held) else values
