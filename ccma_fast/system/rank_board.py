"""Heartbeats, and the first failure of any rank, in the key-value store of a process group."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

from ..errors import RankError

__all__ = ["LEFT", "RELEASED", "TOLD", "WAITING", "Board"]

NO_FAILURE = b"-"
MOST_DELETIONS = 2000
# Values of a heartbeat besides its counter: this rank has closed, or has read the failure.
LEFT = b"left"
TOLD = b"told"
# What a counter begins with where its rank waits for a message.
WAITING = b"w"
# What is put under keys that this process waits for, to end the waiting.
RELEASED = b"released"


class Board:
    """The keys of one rank and of those that it watches: the first rank watches all others, and they watch the first.

    Parameters
    ----------
    store : torch.distributed.Store
        A connection that nobody else uses.
    prefix : str
        Of all keys.
    rank : int
    hosts : sequence of str
        The host of every rank.
    """

    def __init__(self, store: Any, prefix: str, rank: int, hosts: Sequence[str]) -> None:
        self._store = store
        self._failure_key = f"{prefix}/failure"
        self._beat_key = f"{prefix}/beat/{rank}"
        self._hosts = hosts
        self.watched = list(range(1, len(hosts)) if rank == 0 else (0,))
        self._keys_read = [self._failure_key, *(f"{prefix}/beat/{other}" for other in self.watched)]

    @staticmethod
    def prepare(store: Any, prefix: str, size: int) -> None:
        """Writes what boards read, before any does."""
        store.multi_set(
            [f"{prefix}/failure", *(f"{prefix}/beat/{rank}" for rank in range(size))], [NO_FAILURE, *[b"0"] * size]
        )

    def beat(self, value: bytes) -> None:
        self._store.set(self._beat_key, value)

    def read(self) -> tuple[RankError | None, dict[int, bytes]]:
        """The failure that was posted, and the heartbeats of the watched ranks."""
        failure, *beats = self._store.multi_get(self._keys_read)
        return self._decoded(failure), dict(zip(self.watched, beats, strict=True))

    def post(self, error: RankError) -> RankError | None:
        """Posts a failure, of which the first of all ranks stays; that one."""
        content = json.dumps({"rank": error.rank, "text": str(error)})
        return self._decoded(self._store.compare_set(self._failure_key, NO_FAILURE, content))

    def lacks(self, key: str) -> bool:
        return not self._store.check([key])

    def release(self, keys: Iterable[str]) -> None:
        """Ends a wait of this process for keys."""
        for key in keys:
            self._store.set(key, RELEASED)

    def delete(self, keys: deque[str]) -> None:
        """Takes keys off a queue and out of the store; not too many between two heartbeats."""
        for _ in range(min(len(keys), MOST_DELETIONS)):
            self._store.delete_key(keys.popleft())

    def error(self, rank: int, text: str) -> RankError:
        return RankError(text, rank, self._hosts[rank])

    def _decoded(self, failure: bytes) -> RankError | None:
        if failure == NO_FAILURE:
            return None
        content = json.loads(failure)
        return self.error(content["rank"], content["text"])
