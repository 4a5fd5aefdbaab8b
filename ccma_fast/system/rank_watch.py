"""Whether the ranks of a process group live: heartbeats, and the first failure, in their key-value store.

Collectives of torch.distributed cannot be interrupted while a peer hangs. So waiting is done here, and a thread of its own
talks with the store, because that can block for ever as well, when a link is cut.
"""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from collections.abc import Callable

from ..errors import RankError
from .rank_meeting import Meeting

__all__ = ["RELEASED", "Watch"]

LONGEST_BEAT = 1.0
BEATS_IN_SILENCE = 8
# So long the first rank, in whose process the store may live, stays for the others to read why they end.
LINGER = 5.0
MOST_DELETIONS = 2000

NO_FAILURE = b"-"
# Values of a heartbeat besides its counter.
LEFT = b"left"
TOLD = b"told"
# What is put under keys that this process waits for, to end the waiting.
RELEASED = b"released"


class _Stopwatch:
    """Seconds for which somebody looked: where this process was suspended, that time does not count."""

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


class Watch:
    """The heartbeat of this rank, and what it knows of the others.

    Parameters
    ----------
    meeting : Meeting
        With the limits: `silence`, the seconds without a sign of life after which a rank or the store counts as lost, and
        `patience`, those that a living rank is waited for.
    rank : int
    condition : threading.Condition
        What is notified of everything that somebody may wait for.
    """

    def __init__(self, meeting: Meeting, rank: int, condition: threading.Condition) -> None:
        silence = meeting.members[0].silence
        self._store = meeting.heartbeats
        self._prefix = meeting.prefix
        self._address = meeting.address
        self._rank = rank
        self._hosts = hosts = [member.host for member in meeting.members]
        self._silence = silence
        self._patience = meeting.members[0].patience
        self._beat_seconds = min(LONGEST_BEAT, silence / BEATS_IN_SILENCE)
        self.names = [f"rank {r} on host {host}" for r, host in enumerate(hosts)]
        self.condition = condition
        self.failure: RankError | None = None
        # Keys of the store that nobody will read any more.
        self.discarded: deque[str] = deque()
        self._settled = False
        self._contacts = 0
        self._outbox: RankError | None = None
        self._leaving = False
        self._awaited: dict[int, str] = {}
        self._waiting_for = ""
        self._waited = _Stopwatch(4 * self._beat_seconds)
        self._wake = threading.Event()
        others = range(1, len(hosts)) if rank == 0 else (0,)
        self._silences = {r: _Stopwatch(4 * self._beat_seconds) for r in others}
        self._beats: dict[int, bytes] = dict.fromkeys(others, b"")
        self._thread = threading.Thread(target=self._run, name="ccma_fast heartbeat", daemon=True)

    def start(self) -> None:
        self._thread.start()

    # What other threads call.

    def until(self, done: Callable[[], bool]) -> None:
        """Waits until something is done, whose end notifies :attr:`condition`; raises the failure of any rank."""
        unanswered = _Stopwatch(4 * self._beat_seconds)
        with self.condition:
            contacts = self._contacts
            while not done():
                if self.failure is not None:
                    break
                if self._settled:
                    raise RuntimeError("these ranks are closed")
                self.condition.wait(self._beat_seconds)
                if contacts != self._contacts:
                    contacts = self._contacts
                    unanswered.start()
                elif unanswered.look() > self._silence:
                    self._lose(f"no answer for {self._silence:g} s")
        self.check()

    def check(self) -> None:
        """Raises the failure of any rank that is known here."""
        if self.failure is None:
            return
        with self.condition:
            self.condition.wait_for(lambda: self._settled, LINGER + 2 * self._beat_seconds)
        raise RankError(str(self.failure), self.failure.rank, self.failure.host)

    def post(self, rank: int, text: str) -> None:
        """Tells all ranks of a failure, unless one is known, and waits until they can read it."""
        with self.condition:
            if self.failure is None:
                self._outbox = RankError(text, rank, self._hosts[rank])
                self._wake.set()
        try:
            self.until(lambda: False)
        except RuntimeError:
            return

    def expect(self, error: BaseException) -> None:
        """Waits for the failure that explains a broken connection; after the time in which it must show, this one."""
        with self.condition:
            self.condition.wait_for(lambda: self.failure is not None, self._silence + 4 * self._beat_seconds)
        self.post(self._rank, f"{self.names[self._rank]}: the connection to another rank broke: {error}")

    def awaiting(self, keys: dict[int, str], what: str) -> None:
        """Says which keys, of which ranks, another thread waits for from now on; none ends it."""
        with self.condition:
            self._awaited = keys
            self._waiting_for = what
            self._waited.start()

    def leave(self) -> None:
        """Ends the watch; the first rank waits for the others to end theirs, since they may still need the store."""
        with self.condition:
            self._leaving = True
            self._wake.set()
        try:
            self.until(lambda: self._settled)
        except RankError:
            return

    # What the thread does.

    def _run(self) -> None:
        n_beats = 0
        try:
            # Whoever comes first writes it; the others find it.
            self._store.compare_set(f"{self._prefix}/failure", "", NO_FAILURE)
            while self.failure is None:
                n_beats += 1
                if self._outbox is not None:
                    self._tell(self._outbox)
                left = self._leaving
                self._store.set(f"{self._prefix}/beat/{self._rank}", LEFT if left else str(n_beats))
                self._look()
                if left and (self._rank != 0 or self._all_in(LEFT, TOLD)):
                    return
                self._clean()
                self._wake.wait(self._beat_seconds)
                self._wake.clear()
            self._settle()
        except Exception as error:  # whatever the store raises: this rank is on its own then
            with self.condition:
                self._lose(str(error).partition("\n")[0])
        finally:
            with self.condition:
                self._settled = True
                self.condition.notify_all()

    def _look(self) -> None:
        """Reads the failure and the heartbeats, and finds who is silent, left or too late."""
        values = self._store.multi_get([f"{self._prefix}/failure", *(f"{self._prefix}/beat/{r}" for r in self._beats)])
        self._wake_waiting(values[0])
        for rank, value in zip(self._beats, values[1:], strict=True):
            if value != self._beats[rank] or value in (LEFT, TOLD):
                self._beats[rank] = value
                self._silences[rank].start()
            elif self._silences[rank].look() > self._silence:
                self._tell(self._error(rank, f"{self.names[rank]} gave no sign of life for {self._silence:g} s"))
        awaited, what = self._awaited, self._waiting_for
        for rank in awaited:
            if self._beats.get(rank) == LEFT and self._lacks(awaited[rank]):
                self._tell(self._error(rank, f"{self.names[rank]} has ended, but {what} still waits for it"))
        if awaited and self._waited.look() > self._patience:
            missing = [r for r in awaited if self._lacks(awaited[r])]
            if missing and awaited is self._awaited:
                names = ", ".join(self.names[r] for r in missing)
                self._tell(self._error(missing[0], f"{names} did not come to {what} within {self._patience:g} s"))

    def _wake_waiting(self, failure: bytes) -> None:
        with self.condition:
            self._contacts += 1
            if failure != NO_FAILURE and self.failure is None:
                content = json.loads(failure)
                self.failure = self._error(content["rank"], content["text"])
            if self.failure is not None:
                self.condition.notify_all()

    def _error(self, rank: int, text: str) -> RankError:
        return RankError(text, rank, self._hosts[rank])

    def _lacks(self, key: str) -> bool:
        return not self._store.check([key])

    def _tell(self, error: RankError) -> None:
        """Posts a failure; the first of all ranks stays."""
        content = json.dumps({"rank": error.rank, "text": str(error)})
        self._wake_waiting(self._store.compare_set(f"{self._prefix}/failure", NO_FAILURE, content))

    def _all_in(self, *values: bytes) -> bool:
        return all(value in values for value in self._beats.values())

    def _settle(self) -> None:
        """After a failure: ends what waits here, and lets the others read the failure before this process may go."""
        for key in self._awaited.values():
            self._store.set(key, RELEASED)
        self._store.set(f"{self._prefix}/beat/{self._rank}", TOLD)
        end = time.monotonic() + min(LINGER, self._silence)
        while True:
            values = self._store.multi_get([f"{self._prefix}/beat/{r}" for r in self._beats])
            told = all(value in (LEFT, TOLD) for value in values)
            if self._rank != 0 or told or time.monotonic() > end:
                return
            time.sleep(self._beat_seconds / 4)

    def _clean(self) -> None:
        for _ in range(MOST_DELETIONS):
            if not self.discarded:
                return
            self._store.delete_key(self.discarded.popleft())

    def _lose(self, why: str) -> None:
        """The store does not answer; the caller holds the condition."""
        if self.failure is None:
            text = f"{self.names[0]} cannot be reached from {self.names[self._rank]}"
            self.failure = self._error(0, f"{text}: the key-value store of the process group at {self._address}: {why}")
        self._settled = True
        self.condition.notify_all()
