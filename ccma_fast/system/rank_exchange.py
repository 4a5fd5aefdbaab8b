"""Messages between ranks: small ones lie in the key-value store, for large ones all ranks are there before any moves.

Everything here blocks, and runs in the thread of :class:`Worker`; who waits for it can be interrupted.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..errors import RankError
from .rank_board import RELEASED
from .rank_watch import Released, Watch
from .rank_wire import Wire

__all__ = ["INLINE_BYTES", "Exchange", "OrderError", "Worker"]

# Payloads of so many bytes go through the store itself.
INLINE_BYTES = 1 << 15
# So many messages one way are followed by one the other way: their keys may go then.
MOST_ONE_WAY = 32

INLINE, LARGE = b"i", b"l"
KINDS = {b"B": "broadcast", b"G": "gather", b"T": "total"}


class OrderError(Exception):
    """Ranks called different things at the same place; for the ranks that see it."""

    def __init__(self, rank: int, text: str) -> None:
        super().__init__(text)
        self.rank = rank


class Job:
    """A call that another thread makes."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self.call = call
        self.done = False
        self.result: Any = None
        self.error: BaseException | None = None


class Worker:
    """A thread that makes calls in the order in which they come, and notifies a condition of the end of each."""

    def __init__(self, condition: threading.Condition, name: str) -> None:
        self._condition = condition
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, call: Callable[[], Any]) -> Job:
        job = Job(call)
        self._jobs.put(job)
        return job

    def answer(self, call: Callable[[], Any], limit: float) -> Any:
        """What a call to the key-value store returns, which may block.

        Raises
        ------
        RankError
            It does so for more than `limit` seconds.
        """
        job = self.submit(call)
        with self._condition:
            if not self._condition.wait_for(lambda: job.done, limit):
                raise RankError(f"the key-value store of the process group gave no answer for {limit:g} s", 0)
        if job.error is not None:
            raise job.error
        return job.result

    def end(self, timeout: float) -> bool:
        """Whether the thread has ended within some seconds; else it does so after its call."""
        self._jobs.put(None)
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while True:
            job = self._jobs.get()
            if job is None:
                return
            try:
                job.result = job.call()
            except BaseException as error:
                job.error = error
            with self._condition:
                job.done = True
                self._condition.notify_all()
            del job


class Exchange:
    """The messages of one rank, numbered alike on all."""

    def __init__(self, store: Any, prefix: str, rank: int, size: int, wire: Wire, watch: Watch) -> None:
        self._store = store
        self._prefix = prefix
        self._rank = rank
        self._others = [r for r in range(size) if r != rank]
        self._all = range(size)
        self._wire = wire
        self._watch = watch
        self._number = 0
        self._last_broadcast = 0
        self._last_gather = 0
        self._own_keys: deque[tuple[int, str]] = deque()
        self._sent = self._received = 0

    def broadcast(self, pieces: Sequence[memoryview] | None) -> list[Any]:
        """The pieces of the first rank, on every rank."""
        if self._number - self._last_gather > MOST_ONE_WAY:
            self._gather([memoryview(b"")])
        return self._broadcast(pieces)

    def gather(self, pieces: Sequence[memoryview]) -> list[list[Any]]:
        """The pieces of every rank, on the first; nothing elsewhere."""
        self._two_ways()
        return self._gather(pieces)

    def total(self, array: np.ndarray) -> np.ndarray | None:
        """The sum of int64 arrays on the first rank; None elsewhere."""
        self._two_ways()
        about = f"{array.shape}".encode()
        if array.nbytes <= INLINE_BYTES:
            texts = self._collect(b"T", [memoryview(about + b"\0" + array.tobytes())])
            if self._rank:
                return None
            out: np.ndarray | None = array.copy()
            for rank in self._others:
                shape, _, data = bytes(texts[rank][0]).partition(b"\0")
                self._same_shape(rank, shape, about)
                out += np.frombuffer(data, dtype=array.dtype).reshape(array.shape)
            return out
        self._number += 1
        self._put(b"T" + LARGE + about)
        for rank, body in self._take(self._others, b"T").items():
            self._same_shape(rank, body[1:], about)
        out = np.empty_like(array) if self._rank == 0 else None
        self._wire.total(array.reshape(-1), None if out is None else out.reshape(-1))
        self._last_gather = self._last_broadcast = self._number
        self._forget(self._number)
        return out

    def moved(self) -> tuple[int, int]:
        """Bytes of payload that this rank has sent and received."""
        return self._sent + self._wire.sent, self._received + self._wire.received

    def flush(self) -> None:
        """Returns when all that was written is in the store."""
        self._store.check([f"{self._prefix}/failure"])

    def _two_ways(self) -> None:
        if self._number - self._last_broadcast > MOST_ONE_WAY:
            self._broadcast([memoryview(b"")])

    def _broadcast(self, pieces: Sequence[memoryview] | None) -> list[Any]:
        self._number += 1
        if self._rank == 0:
            assert pieces is not None
            large = _size(pieces) > INLINE_BYTES
            self._put(b"B" + (LARGE + _sizes(pieces) if large else INLINE + b"".join(pieces)))
            buffers: list[Any] = list(pieces)
        else:
            body = self._take([0], b"B")[0]
            large = body[:1] == LARGE
            buffers = _buffers(body[1:]) if large else [body[1:]]
        if large:
            if self._rank:
                self._put(b"B" + LARGE)
            self._take(self._others, b"B")
            self._wire.broadcast(buffers)
            self._forget(self._number)
        elif self._rank == 0:
            self._sent += _size(pieces or ()) * len(self._others)
        else:
            self._received += _size(buffers)
            # The first rank has all of the last gather, so every rank has all that came before it.
            self._forget(self._last_gather)
        self._last_broadcast = self._number
        return buffers

    def _gather(self, pieces: Sequence[memoryview]) -> list[list[Any]]:
        return self._collect(b"G", pieces)

    def _collect(self, kind: bytes, pieces: Sequence[memoryview]) -> list[list[Any]]:
        self._number += 1
        self._last_gather = self._number
        if self._rank:
            large = _size(pieces) > INLINE_BYTES
            self._put(kind + (LARGE + _sizes(pieces) if large else INLINE + b"".join(pieces)))
            if large:
                self._take([0], kind, to=self._rank)
                self._wire.send(pieces)
            else:
                self._sent += _size(pieces)
            return []
        bodies = self._take(self._others, kind)
        gathered: list[list[Any]] = [list(pieces)]
        for rank, body in bodies.items():
            if body[:1] == LARGE:
                buffers = _buffers(body[1:])
                # One after the other: who sends while the first rank receives from others could be late.
                self._put(kind + LARGE, to=rank)
                self._wire.receive(rank, buffers)
                gathered.append(buffers)
            else:
                gathered.append([body[1:]])
                self._received += len(body) - 1
        self._forget(self._number)
        return gathered

    def _same_shape(self, rank: int, shape: bytes, own: bytes) -> None:
        if shape != own:
            raise OrderError(
                rank,
                f"{self._watch.names[rank]} gave an array of shape {shape.decode()} to total(), but "
                f"{self._watch.names[self._rank]} one of shape {own.decode()}; expected the same on all ranks",
            )

    def _key(self, rank: int, to: int | None = None) -> str:
        """Under which a rank puts something of this message, for all who want it or for one rank."""
        return f"{self._prefix}/{self._number}/{rank}" + ("" if to is None else f"/{to}")

    def _put(self, value: bytes, to: int | None = None) -> None:
        key = self._key(self._rank, to)
        self._own_keys.append((self._number, key))
        self._store.set(key, value)

    def _take(self, ranks: Sequence[int], kind: bytes, to: int | None = None) -> dict[int, bytes]:
        """What ranks have put for this message, without the kind of it, which is checked."""
        keys = {rank: self._key(rank, to) for rank in ranks}
        self._watch.awaiting(keys, f"message {self._number}, a {KINDS[kind]},")
        values = self._store.multi_get(list(keys.values()))
        self._watch.awaiting({}, "")
        if RELEASED in values:
            raise Released
        for rank, value in zip(ranks, values, strict=True):
            if value[:1] != kind:
                names = self._watch.names
                raise OrderError(
                    rank,
                    f"{names[rank]} called {KINDS[value[:1]]}(), but {names[self._rank]} {KINDS[kind]}() as message "
                    f"{self._number}; expected the same calls in the same order on all ranks",
                )
        return {rank: value[1:] for rank, value in zip(ranks, values, strict=True)}

    def _forget(self, number: int) -> None:
        """The keys of this rank for messages before one may go: all ranks have come to that one."""
        while self._own_keys and self._own_keys[0][0] < number:
            self._watch.discarded.append(self._own_keys.popleft()[1])


def _size(pieces: Sequence[Any]) -> int:
    return sum(memoryview(piece).nbytes for piece in pieces)


def _sizes(pieces: Sequence[memoryview]) -> bytes:
    return np.array([piece.nbytes for piece in pieces], dtype="<i8").tobytes()


def _buffers(sizes: bytes) -> list[Any]:
    return [np.empty(int(size), dtype=np.uint8) for size in np.frombuffer(sizes, dtype="<i8")]
