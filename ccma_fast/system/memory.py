"""Memory: how a limit is divided into shares, and the peak of resident memory."""

from __future__ import annotations

import ctypes
import functools
import os
import re
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ..checks import check_integer
from .machine import machine_memory, read_at_once

__all__ = ["LEAST_LIMIT", "Memory", "PeakMemory", "check_memory_limit", "resident"]

LEAST_LIMIT = 512_000_000
"""Least limit that can be kept, in bytes: fixed buffers and samples take so much."""

# Largest chunk, as float32: enough to hide the cost of a call.
_MOST_CHUNK = 32 << 20

# Seconds between two looks at the resident memory.
_INTERVAL = 0.01


@dataclass(frozen=True)
class Memory:
    """A limit on what a query adds to the process's resident memory, in bytes, and the shares of its parts.

    The shares add up to ⅞ of the limit; the rest is for what does not grow with anything but classes and columns.
    """

    limit: int
    has_fixed_chunks: bool = False
    """Chunks have one size under every limit: results of a user's own student may round by the size of a chunk."""

    @property
    def chunk(self) -> int:
        """A chunk of any matrix, as float32. Some four are alive at once."""
        return _MOST_CHUNK if self.has_fixed_chunks else min(_MOST_CHUNK, self.limit // 32)

    @property
    def logits(self) -> int:
        """Cached logits of student and teacher."""
        return self.limit // 4

    @property
    def rows(self) -> int:
        """Labelled rows and candidates that are kept, each."""
        return self.limit // 8

    @property
    def sketch(self) -> int:
        """Rows of a clustering along their leading directions."""
        return self.limit // 4

    def chunk_rows(self, n_columns: Iterable[int]) -> int | None:
        """Rows of the widest of some matrices that make a chunk; None where the default of every matrix fits."""
        widest = max(n_columns)
        return None if self.chunk == _MOST_CHUNK else max(1, self.chunk // (4 * widest))


def resident() -> int:
    """Resident memory of this process, mapped files included, in bytes; 0 where the system does not tell."""
    try:
        return int(read_at_once("/proc/self/statm").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def _most_resident() -> int:
    """The most that :func:`resident` has ever been."""
    try:
        status = read_at_once("/proc/self/status")
    except OSError:
        return 0
    found = re.search(rb"^VmHWM:\s*(\d+)", status, re.MULTILINE)
    return int(found[1]) << 10 if found else 0


@functools.cache
def _trimming() -> Any:
    """The function of the C library that :func:`_trim` calls; None where that has no such function."""
    return getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's alone


def _trim() -> None:
    """Return freed memory that the allocator keeps to the system: up to 64 MB, or more where it is fragmented."""
    trim = _trimming()
    if trim is not None:
        trim(ctypes.c_size_t(0))


class PeakMemory:
    """How far resident memory, mapped files included, rises above where it was when this was made.

    The system keeps the peak of a process's whole life, which is exact where a lap exceeds all before it; else a
    thread samples a hundred times a second. Use it as a context.
    """

    def __init__(self) -> None:
        self._start = self._most = resident()
        self._ever = _most_resident()
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> PeakMemory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(_INTERVAL):
            self._look(resident())

    def _look(self, resident: int) -> None:
        with self._lock:
            self._most = max(self._most, resident)

    def lap(self) -> int:
        """The peak since the last lap, in bytes. What the allocator kept of that is returned before the next."""
        ever = _most_resident()
        self._look(ever if ever > self._ever else resident())
        self._ever = ever
        _trim()
        now = resident()
        with self._lock:
            peak, self._most = self._most - self._start, now
        return max(0, peak)


_UNITS = {
    "B": 1,
    **{prefix + "B": 1000 ** (i + 1) for i, prefix in enumerate("KMGT")},
    **{prefix + "IB": 1024 ** (i + 1) for i, prefix in enumerate("KMGT")},
}


def check_memory_limit(value: Any, jobs: int = 1) -> Memory:
    """A limit in bytes, or text such as "4GB" (10⁹) or "4GiB" (2³⁰), of which each of some jobs has its share.

    None is a quarter of the memory that this process may use, and at most half of what is left of it: the process and
    what `Memory` does not bound need the rest.
    """
    least = jobs * LEAST_LIMIT
    if value is None:
        machine = machine_memory()
        value = max(least, min(machine.whole // 4, machine.left // 2))
    if isinstance(value, str):
        found = re.fullmatch(r"\s*(\d{1,18}(?:\.\d+)?)\s*([A-Z]+)\s*", value.upper(), re.ASCII)
        if found is None or found[2] not in _UNITS:
            raise ValueError(f"memory_limit must be bytes or text such as '4GB' or '500MiB', got {value!r:.80}")
        value = int(float(found[1]) * _UNITS[found[2]])
    limit = check_integer("memory_limit", value, minimum=LEAST_LIMIT)
    if limit < least:
        raise ValueError(f"memory_limit must be at least {least} for {jobs} jobs, {LEAST_LIMIT} each, got {limit}")
    return Memory(limit // jobs)
