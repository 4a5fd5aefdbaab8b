"""Whether the ranks of a process group live, and how all of them end when one fails.

Collectives of ``torch.distributed`` cannot be interrupted while a peer hangs. So ranks wait here. A thread of its own
talks with the key-value store, because that can block for ever as well: when a link is cut.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress

from ..errors import RankError
from .rank_board import LEFT, TOLD, Board
from .rank_meeting import Meeting, name_of
from .rank_peer import Peers, Stopwatch, heartbeat
from .rank_work import WorkCount

__all__ = ["Released", "Watch"]

SHORTEST_BEAT, LONGEST_BEAT = 0.05, 1.0
BEATS_IN_LIMIT = 8
# What stopwatches count at most between two looks.
BEATS_BETWEEN_LOOKS = 4
# Without any work of its own, a rank looks so often whether its child processes work.
CHILD_LOOKS = 20
# So long the first rank, in whose process the store may live, stays for the others to read why they end.
LINGER = 5.0


class Released(Exception):
    """The waiting for a message was ended, because a rank has failed."""


class Watch:
    """The heartbeat of this rank, and what it knows of the others.

    Parameters
    ----------
    meeting : Meeting
        Of its members, the first says the limits, see :meth:`~.ranks.Ranks.of_group`.
    rank : int
    condition : threading.Condition
        What is notified of everything that somebody may wait for.

    Attributes
    ----------
    hosts, names : list of str
        Of each rank: where it is, and what error messages call it.
    failure : RankError or None
        That of any rank, which all ranks raise.
    work : WorkCount
        Of this process.
    discarded : deque of str
        Keys of the store that nobody will read any more; another thread appends, the watch deletes.
    """

    def __init__(self, meeting: Meeting, rank: int, condition: threading.Condition) -> None:
        first, hosts = meeting.members[0], [member.host for member in meeting.members]
        self.hosts, self.names = hosts, [name_of(r, host) for r, host in enumerate(hosts)]
        self.failure: RankError | None = None
        self.discarded: deque[str] = deque()
        self._board = Board(meeting.heartbeats, meeting.prefix, rank, hosts)
        self._address = meeting.address
        self._rank = rank
        self._silence = first.silence
        self._beat_seconds = min(LONGEST_BEAT, min(first.silence, first.idleness) / BEATS_IN_LIMIT)
        self._condition = condition
        self._settled = False
        self._contacts = self._n_inside = 0
        self._outbox: RankError | None = None
        self._leaving = self._stays = False
        self._awaited: dict[int, str] = {}
        self._waiting_for = ""
        self._longest_look = BEATS_BETWEEN_LOOKS * self._beat_seconds
        self._peers = Peers(self._board.watched, first, self._beat_seconds, self._longest_look)
        self.work = WorkCount(first.idleness / CHILD_LOOKS)
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ccma_fast heartbeat", daemon=True)

    def start(self) -> None:
        self._thread.start()

    # What other threads call.

    def until(self, done: Callable[[], bool], limit: float = math.inf) -> None:
        """Waits until something is done, whose end notifies the condition; raises the failure of any rank."""
        end = time.monotonic() + limit
        unanswered = Stopwatch(self._longest_look)
        with self._condition:
            contacts = self._contacts
            self.work.caller = threading.get_native_id()
            self._n_inside += 1
            try:
                while not done() and self.failure is None and time.monotonic() < end:
                    if self._settled:
                        raise RuntimeError("these ranks are closed")
                    self._condition.wait(self._beat_seconds)
                    if contacts != self._contacts:
                        contacts = self._contacts
                        unanswered.start()
                    elif unanswered.look() > self._silence:
                        self._lose(f"no answer for {self._silence:g} s")
            finally:
                self._n_inside -= 1
        self.check()

    def check(self) -> None:
        """Raises the failure of any rank that is known here."""
        if self.failure is None:
            return
        with self._condition:
            self._condition.wait_for(lambda: self._settled, LINGER + 2 * self._beat_seconds)
        raise RankError(str(self.failure), self.failure.rank, self.failure.host)

    def post(self, rank: int, text: str) -> None:
        """Tells all ranks of a failure, unless one is known, and waits until they can read it."""
        with self._condition:
            if self.failure is None:
                self._outbox = self._board.error(rank, text)
                self._wake.set()
        with suppress(RuntimeError):
            self.until(lambda: False)

    def explain(self, error: BaseException) -> None:
        """Waits for the failure that explains a broken connection; after the time in which it must show, posts that."""
        self.until(lambda: False, self._silence + BEATS_BETWEEN_LOOKS * self._beat_seconds)
        self.post(self._rank, f"{self.names[self._rank]}: the connection to another rank broke: {error}")

    def awaiting(self, keys: dict[int, str], what: str) -> None:
        """Says which keys, of which ranks, a thread waits for from now on; it is no longer to begin after a failure."""
        with self._condition:
            if self.failure is not None:
                raise Released
            self._awaited = keys
            self._waiting_for = what
            self._peers.waited.start()

    def leave(self, *, stay: bool) -> None:
        """Ends the watch; who stays waits for the others to end theirs, since they may still need the store."""
        with self._condition:
            self._leaving, self._stays = True, stay
            self._peers.waited.start()
            self._wake.set()
        with suppress(RankError):
            self.until(lambda: self._settled, math.inf if stay else self._silence)

    # What the thread does.

    def _run(self) -> None:
        n_beats = 0
        try:
            while self.failure is None:
                n_beats += 1
                if self._outbox is not None:
                    self._tell(self._outbox)
                leaving = self._leaving
                waits = bool(self._awaited)
                self._board.beat(LEFT if leaving else heartbeat(n_beats, self._worked(), waits=waits))
                self._look()
                if leaving and not (self._stays and self._peers.here()):
                    self._board.release(self._awaited.values())
                    return
                self._board.delete(self.discarded)
                self._wake.wait(SHORTEST_BEAT if leaving else self._beat_seconds)
                self._wake.clear()
            self._settle()
        except Exception as error:  # whatever the store raises: this rank is on its own then
            with self._condition:
                self._lose(str(error).partition("\n")[0])
        finally:
            with self._condition:
                self._settled = True
                self._condition.notify_all()

    def _worked(self) -> int:
        """The count of work. Who is in a call is not idle: it waits for others, or in a transfer with its own limit."""
        with self._condition:
            if self._n_inside:
                return self.work.rest()
        return self.work.look()

    def _look(self) -> None:
        """Reads the failure and the heartbeats, and finds who ends all."""
        failure, beats = self._board.read()
        self._answered(failure)
        self._peers.take(beats)
        stays, awaited, what = self._stays, self._awaited, self._waiting_for
        if stays:
            awaited, what = dict.fromkeys(self._peers.here(), ""), "the end of the ranks"

        def missing(ranks: Iterable[int]) -> list[int]:
            if stays:
                return list(ranks)
            lacking = [rank for rank in ranks if self._board.lacks(awaited[rank])]
            # The keys may have come, and gone, in the meantime.
            return lacking if awaited is self._awaited else []

        if (fault := self._peers.fault(awaited, what, missing)) is not None:
            self._blame(*fault)

    def _blame(self, ranks: list[int], what: str) -> None:
        self._tell(self._board.error(ranks[0], f"{', '.join(self.names[rank] for rank in ranks)} {what}"))

    def _answered(self, failure: RankError | None) -> None:
        with self._condition:
            self._contacts += 1
            if failure is not None and self.failure is None:
                self.failure = failure
                self._condition.notify_all()

    def _tell(self, error: RankError) -> None:
        self._answered(self._board.post(error))

    def _settle(self) -> None:
        """After a failure: ends what waits here, and lets the others read the failure before this process may go."""
        self._board.release(self._awaited.values())
        self._board.beat(TOLD)
        end = time.monotonic() + min(LINGER, self._silence)
        while True:
            self._peers.take(self._board.read()[1])
            if self._rank or not self._peers.readers() or time.monotonic() > end:
                return
            time.sleep(SHORTEST_BEAT)

    def _lose(self, why: str) -> None:
        """The store does not answer; the caller holds the condition."""
        if self.failure is None:
            text = (
                f"{self.names[0]} cannot be reached from {self.names[self._rank]}: the key-value store of the process"
            )
            self.failure = self._board.error(0, f"{text} group at {self._address}: {why}")
        self._settled = True
        self._condition.notify_all()
