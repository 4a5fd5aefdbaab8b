"""Signals of the processes that this package starts, and the company that this one is in."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["interrupts_blocked", "is_one_of_several"]


@contextmanager
def interrupts_blocked() -> Iterator[None]:
    """Processes started inside this context ignore Ctrl-C, which a terminal sends to all: their parent ends them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # which they inherit
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def is_one_of_several() -> bool:
    """Whether this process is one of several in a process group of ``torch.distributed``."""
    dist = sys.modules.get("torch.distributed")  # who is in a group has imported it
    return dist is not None and dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
