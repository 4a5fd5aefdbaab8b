"""What one rank knows of others by their heartbeats, and which of them end all: who is silent, hangs or is late."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping

from .rank_board import LEFT, TOLD, WAITING
from .rank_meeting import Member

__all__ = ["Peers", "Stopwatch", "heartbeat"]


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


class _Peer:
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


class Peers:
    """The ranks that one watches.

    Parameters
    ----------
    ranks : iterable of int
    limits : Member
        With `silence`, `idleness` and `patience`.
    beat_seconds : float
        Between two looks.
    longest : float
        For stopwatches.

    Attributes
    ----------
    waited : Stopwatch
        Since this rank began to wait for what it waits for.
    """

    def __init__(self, ranks: Iterable[int], limits: Member, beat_seconds: float, longest: float) -> None:
        self.waited = Stopwatch(longest)
        self._of = {rank: _Peer(longest) for rank in ranks}
        self._limits = limits
        self._beat_seconds = beat_seconds

    def take(self, beats: Mapping[int, bytes]) -> None:
        for rank, beat in beats.items():
            self._of[rank].take(beat)

    def here(self) -> list[int]:
        """Ranks that have neither left nor read the failure."""
        return [rank for rank, peer in self._of.items() if not peer.has_ended]

    def readers(self) -> list[int]:
        """Ranks that will still read a failure: those here that are not silent."""
        return [rank for rank in self.here() if self._of[rank].silent.seconds < self._limits.silence / 2]

    def fault(
        self, awaited: Iterable[int], what: str, missing: Callable[[Iterable[int]], list[int]]
    ) -> tuple[list[int], str] | None:
        """Ranks that end all, and what they did.

        Parameters
        ----------
        awaited : iterable of int
            Ranks from which this one awaits something; of none where it is at work.
        what : str
            What waits for them.
        missing : callable
            Those of some ranks of which it has not come.
        """
        limits = self._limits
        silent = self._over({rank: peer.silent.seconds for rank, peer in self._of.items()}, limits.silence)
        if silent:
            return silent, f"gave no sign of life for {limits.silence:g} s"
        if not awaited:
            return None
        if 0 in self._of and self._of[0].waits:
            # The first rank itself waits for another, and knows for how long.
            self.waited.start()
        waited = self.waited.look()
        # The first rank watches those that are not watched from here, and waits for the same.
        watched = [rank for rank in awaited if rank in self._of]
        left = missing(rank for rank in watched if self._of[rank].has_left)
        if left:
            return left[:1], f"has ended, but {what} waits for it"
        # What was before this wait does not count: a rank may have waited for others by other means.
        idle = {rank: min(waited, self._of[rank].idle.seconds) for rank in watched}
        hanging = missing(self._over(idle, limits.idleness))
        if hanging:
            has, them = ("has", "it") if len(hanging) == 1 else ("have", "them")
            return hanging, f"{has} done nothing for {limits.idleness:g} s, but {what} waits for {them}"
        late = missing(awaited if waited > limits.patience else ())
        return (late, f"did not come to {what} within {limits.patience:g} s") if late else None

    def _over(self, seconds: Mapping[int, float], limit: float) -> list[int]:
        """Ranks whose time is up: where that of one is, with those for whom it would be at the next look."""
        if not any(of_rank > limit for of_rank in seconds.values()):
            return []
        return [rank for rank, of_rank in seconds.items() if of_rank > limit - 2 * self._beat_seconds]
