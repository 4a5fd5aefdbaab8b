"""What one rank knows of another by its heartbeats: for how long that has been silent, and has done nothing."""

from __future__ import annotations

import time

from .rank_board import LEFT, TOLD, WAITING

__all__ = ["Peer", "Stopwatch", "heartbeat"]


class Stopwatch:
    """Seconds for which this process looked.

    Parameters
    ----------
    longest : float
        What counts at most between two looks: where this process itself was suspended, nobody was silent.
    """

    def __init__(self, longest: float) -> None:
        self._longest = longest
        self.start()

    def start(self) -> None:
        self.seconds = 0.0
        self._last = time.monotonic()

    def look(self) -> float:
        now = time.monotonic()
        self.seconds += min(now - self._last, self._longest)
        self._last = now
        return self.seconds


def heartbeat(number: int, work: int, *, waits: bool) -> bytes:
    """The heartbeat of a rank: two counters, and whether it waits for a message."""
    return (WAITING if waits else b"") + f"{number} {work}".encode()


class Peer:
    """Another rank.

    Attributes
    ----------
    silent, idle : Stopwatch
        Since its last heartbeat, and since it last worked.
    """

    def __init__(self, longest: float) -> None:
        self._beat = self._work = b""
        self.silent, self.idle = Stopwatch(longest), Stopwatch(longest)

    def take(self, beat: bytes) -> None:
        """What was read as its heartbeat now."""
        work = beat.partition(b" ")[2]
        if beat != self._beat or beat in (LEFT, TOLD):
            self.silent.start()
        else:
            self.silent.look()
        if work != self._work:
            self.idle.start()
        else:
            self.idle.look()
        self._beat, self._work = beat, work

    @property
    def has_left(self) -> bool:
        return self._beat == LEFT

    @property
    def has_ended(self) -> bool:
        """Whether it has left or read the failure, and beats no more."""
        return self._beat in (LEFT, TOLD)

    @property
    def waits(self) -> bool:
        return self._beat.startswith(WAITING)
