"""Rows of one matrix dealt to several parts in this process, as they would be to several machines."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ccma_fast.pool.derived import Runs


class SplitParts:
    """Parts of which each gets what is asked, and returns what it found, as if it came over a wire."""

    def __init__(self, parts: Sequence[Any], n_rows: int) -> None:
        self.parts, self.n_rows = list(parts), n_rows

    def each(self, method: str, *args: Any) -> list[Any]:
        return [self._asked(part, method, args) for part in self.parts]

    def total(self, method: str, *args: Any) -> np.ndarray:
        found = self.each(method, *args)
        assert all(array.dtype == np.int64 and array.shape == found[0].shape for array in found)
        return np.sum(found, axis=0)

    @staticmethod
    def _asked(part: Any, method: str, args: tuple[Any, ...]) -> Any:
        return pickle.loads(pickle.dumps(getattr(part, method)(*pickle.loads(pickle.dumps(args)))))


def dealt(n_rows: int, n_parts: int, rng: np.random.Generator, *, runs: int = 9) -> list[Runs]:
    """The numbers of the rows of each part: ranges of any length, dealt at random; one of several parts has none."""
    ends = np.unique(np.r_[0, rng.integers(0, n_rows + 1, size=runs), n_rows])
    owner = rng.integers(max(1, n_parts - 1), size=ends.size - 1)
    return [Runs(ends[:-1][owner == part], ends[1:][owner == part]) for part in rng.permutation(n_parts)]


def numbers_of(runs: Runs) -> np.ndarray:
    return runs[np.arange(runs.size)]


def split(n_rows: int, deals: Sequence[Runs], make: Callable[[Runs, np.ndarray], Any]) -> SplitParts:
    """Parts made of the numbers of their rows, as ranges and one by one."""
    return SplitParts([make(runs, numbers_of(runs)) for runs in deals], n_rows)
