"""The first rank's side of a query on several ranks: commands, and what comes of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ...pool.derived import Runs
from ...pool.rows import Chunk, Rows
from .places import own_positions
from .shipping import Kept, Numbers, Reference, dumped, numbers_in
from .spread_rows import SpreadRows

__all__ = ["Column", "Session", "Transport", "joined"]

Int64 = npt.NDArray[np.int64]


class Transport(Protocol):
    """The way to all ranks, the first one included."""

    def each(self, command: bytes) -> list[Any]:
        """What every rank returns, in the order of ranks."""
        ...

    def total(self, command: bytes) -> Int64:
        """The sum of the int64 arrays that the ranks return."""
        ...

    @property
    def bytes_exchanged(self) -> int:
        """Payload between the first rank and the others so far."""
        ...


class Session:
    """Commands to all ranks, from the first one.

    Parameters
    ----------
    transport : Transport
    sources : list of Rows
        All that is read, as this process has opened it.
    runs : list of Runs
        The rows of each rank.
    """

    def __init__(self, transport: Transport, sources: Sequence[Rows], runs: Sequence[Runs]) -> None:
        self.transport, self.runs = transport, runs
        self.sources = [SpreadRows(rows, number, self) for number, rows in enumerate(sources)]
        self.backend: Any = None
        """The first rank's backend, which is each rank's own there."""
        self._n_handles = 0
        self._read: list[list[int]] = []  # bytes of each rank and source, since the last command
        self._forgotten: list[int] = []
        self._numbers: dict[int, tuple[int, Numbers]] = {}  # by identity; held, so that it is not used again

    def spread(self, rows: Rows) -> SpreadRows:
        """One of the sources as it lies on all ranks."""
        return next(of for of in self.sources if of.here is rows)

    def own(self, rows: Rows) -> list[Runs]:
        """The positions in a matrix of the rows of each rank."""
        return [own_positions(rows, runs) for runs in self.runs]

    def new_handle(self) -> int:
        """A number for something that ranks are to keep."""
        self._n_handles += 1
        return self._n_handles

    def forget(self, handle: int) -> None:
        """Ranks need not keep something any more."""
        self._forgotten.append(handle)

    def each(self, operation: str, *arguments: Any) -> list[Any]:
        """What an operation returns on every rank."""
        return self.transport.each(self._command(operation, arguments))

    def total(self, operation: str, *arguments: Any) -> Int64:
        """The sum of the int64 arrays that an operation returns on every rank."""
        return self.transport.total(self._command(operation, arguments))

    def _command(self, operation: str, arguments: tuple[Any, ...]) -> bytes:
        new = {}
        for numbers in numbers_in(arguments):
            if id(numbers) not in self._numbers:
                self._numbers[id(numbers)] = len(self._numbers), numbers
                new[self._numbers[id(numbers)][0]] = numbers
        self._read = []
        forgotten, self._forgotten = self._forgotten, []
        command = dumped((operation, arguments), self.reference)
        return dumped((forgotten, dumped(new, lambda _: None), command), lambda _: None)

    def reference(self, value: Any) -> Reference | None:
        """How ranks know something that they have."""
        if isinstance(value, SpreadRows):
            return "source", value.number
        if value is self.backend:
            return "backend", 0
        known = self._numbers.get(id(value))
        return None if known is None else ("numbers", known[0])

    def fetched(self, rows: SpreadRows, numbers: Int64) -> Chunk:
        """Rows by their numbers, from the ranks that have them."""
        parts = self.each("take", rows, numbers)
        return joined(parts, [runs.positions(numbers) >= 0 for runs in self.runs])

    def bytes_read(self, rows: SpreadRows) -> int:
        """Bytes that all ranks have read of a source."""
        if not self._read:  # nothing is read but by commands
            self._read = self.each("bytes_read")
        return sum(of_rank[rows.number] for of_rank in self._read)


def joined(parts: Sequence[npt.NDArray[Any]], where: Sequence[npt.NDArray[np.bool_]]) -> npt.NDArray[Any]:
    """What ranks have of some rows, as one array."""
    found = np.empty((where[0].size, *parts[0].shape[1:]), parts[0].dtype)
    for part, mask in zip(parts, where, strict=True):
        found[mask] = part
    return found


class Column(Kept):
    """Values of rows, which stay on the ranks of these.

    An array as far as a query needs one: operators in place, values by position, and all of them as a tensor gives them
    (:func:`ccma_fast.backends.protocol.on_host`).
    """

    def __init__(self, session: Session, own: Sequence[Runs]) -> None:
        self._session, self.own = session, own
        """Positions of the rows of each rank."""
        self.handle = session.new_handle()
        self.size = sum(runs.size for runs in own)

    def __del__(self) -> None:
        self._session.forget(self.handle)

    def __getitem__(self, positions: Int64) -> npt.NDArray[Any]:
        positions = np.asarray(positions, np.int64)
        where = [runs.positions(positions) >= 0 for runs in self.own]
        return joined(self._session.each("read", self, positions), where)

    def __setitem__(self, positions: Int64, value: float) -> None:
        self._session.each("set_values", self, positions, value)

    def _change(self, operator: str, other: Any) -> Column:
        self._session.each("changed", self, operator, other)
        return self

    def __iadd__(self, other: Any) -> Column:
        return self._change("__iadd__", other)

    def __imul__(self, other: Any) -> Column:
        return self._change("__imul__", other)

    def __itruediv__(self, other: Any) -> Column:
        return self._change("__itruediv__", other)

    def max(self, initial: int) -> int:
        """The largest value, or `initial`."""
        largest: int = max(self._session.each("largest", self, initial))
        return largest

    def cpu(self) -> Column:
        return self

    def numpy(self) -> npt.NDArray[Any]:
        """All values, brought together."""
        parts = self._session.each("whole", self)
        found = np.empty(self.size, parts[0].dtype)
        for part, runs in zip(parts, self.own, strict=True):
            found[runs[:]] = part
        return found
