"""Whether this process works: a count that rises with the processor time that it uses."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

__all__ = ["WorkCount"]

# So much is work. In ten minutes a thread that looks every second whether it may go on uses less (0.05 s), and rows
# that come from a disk at 1 MB/s take more (0.1 to 0.3 s to read, and as much again to compute with).
WORK_SECONDS = 0.1
# A child process works when it uses this share of a processor: ranks that are children of one, and wait, use 1 %.
CHILD_SHARE = 0.05
TICKS_A_SECOND = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100


class WorkCount:
    """How often this process was seen to work.

    A thread that hangs uses no processor time, but its process does, for as long as it lives: the thread of gloo polls,
    the key-value store may be served here, and there are the heartbeat and threads of other libraries (0.3 to 0.5 s a
    minute in an idle rank of two). Those threads run already while the process waits for other ranks. So of the
    threads that live then only the one that waits counts. What work starts later counts as well, and so do child
    processes that are busy. Where the system is not Linux, all threads count.

    Parameters
    ----------
    child_interval : float
        Seconds without any work of this process after which its child processes are looked at.

    Attributes
    ----------
    caller : int
        The native id of the thread that waits for other ranks.
    """

    def __init__(self, child_interval: float) -> None:
        self.caller = threading.get_native_id()
        self._child_interval = child_interval
        self._lock = threading.Lock()
        self._count = 0
        self._background: frozenset[int] = frozenset()
        self._used = 0.0
        self._children: dict[int, float] = {}
        self._children_seen = 0.0
        self.rest()

    def rest(self) -> int:
        """The count, one higher: this process waits for others, which is not to do nothing."""
        with self._lock:
            self._background = frozenset(_threads()) - {self.caller}
            self._rise(_seconds_without(self._background))
            return self._count

    def look(self) -> int:
        """The count, which has risen if this process has worked since."""
        with self._lock:
            used = _seconds_without(self._background)
            if used - self._used >= WORK_SECONDS or self._children_work():
                self._rise(used)
            return self._count

    def _rise(self, used: float) -> None:
        self._count += 1
        self._used = used
        self._children = {}
        self._children_seen = time.monotonic()

    def _children_work(self) -> bool:
        now, before = time.monotonic(), self._children
        if now - self._children_seen < self._child_interval:
            return False
        seconds = _seconds_of_children()
        least = CHILD_SHARE * (now - self._children_seen)
        self._children, self._children_seen = seconds, now
        return bool(before) and any(used - before.get(pid, 0.0) >= least for pid, used in seconds.items())


def _threads() -> Iterable[int]:
    try:
        return map(int, os.listdir("/proc/self/task"))
    except OSError:
        return ()


def _seconds_without(threads: Iterable[int]) -> float:
    """Processor time of this process, less that of some of its threads."""
    seconds = time.process_time()
    for thread in threads:
        with suppress(OSError):  # where it has ended
            # The clock of a thread, as Linux numbers it and pthread_getcpuclockid returns it.
            seconds -= time.clock_gettime(~thread << 3 | 6)
    return seconds


def _seconds_of_children() -> dict[int, float]:
    """Processor time of each process that descends from this one; under its own id, that of children that ended."""
    parents, seconds = {}, {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has ended
        pid = int(stat.parent.name)
        parents[pid] = int(fields[1])
        seconds[pid] = sum(map(int, fields[11:15])) / TICKS_A_SECOND
    own = os.getpid()
    ended = os.times()
    found = {own: ended.children_user + ended.children_system}
    for pid in parents:
        above = parents[pid]
        while above in parents and above != own:
            above = parents[above]
        if above == own:
            found[pid] = seconds[pid]
    return found
