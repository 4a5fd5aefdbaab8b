"""Loading the C++ core: its threads and its instruction set."""

from __future__ import annotations

import os
from functools import cache
from typing import Any

from ..checks import check_choice, check_integer
from ..errors import BackendUnavailableError

__all__ = ["get_num_threads", "load_core", "set_num_threads", "thread_count"]

_MOST_THREADS = 1024


def get_num_threads() -> int:
    """Threads that the C++ core uses; at first ``CCMA_NUM_THREADS``, or the processors this process may run on.

    The processes that ``torchrun`` and the like start on a machine (``LOCAL_WORLD_SIZE``) share these processors.

    Examples
    --------
    >>> import ccma_fast as cf
    >>> cf.get_num_threads() >= 1
    True
    """
    return int(_core().num_threads())


def set_num_threads(n: int) -> None:
    """Use `n` threads in the C++ core from now on. No result depends on it.

    Raises
    ------
    TypeError, ValueError
        `n` is not an integer from 1 to 1024.
    BackendUnavailableError
        The C++ core was not built.

    Examples
    --------
    >>> import ccma_fast as cf
    >>> before = cf.get_num_threads()
    >>> cf.set_num_threads(1)
    >>> cf.get_num_threads()
    1
    >>> cf.set_num_threads(before)
    """
    _core().set_num_threads(check_integer("n", n, minimum=1, maximum=_MOST_THREADS))


def thread_count() -> int:
    """Threads for what runs beside the core: as many as it uses, or one where it was not built."""
    try:
        return get_num_threads()
    except BackendUnavailableError:
        return 1


@cache
def load_core() -> Any:
    """The C++ core; the first call sets its threads and its instruction set, from the environment where that says.

    Raises
    ------
    ImportError
        The core was not built.
    ValueError
        ``CCMA_NUM_THREADS`` or ``CCMA_SIMD`` is none of what is allowed.
    """
    from .. import _core

    threads = os.environ.get("CCMA_NUM_THREADS")
    if threads is not None:
        if not threads.isdecimal() or not 1 <= int(threads) <= _MOST_THREADS:
            raise ValueError(f"CCMA_NUM_THREADS must be an integer from 1 to {_MOST_THREADS}, got {threads!r}")
        _core.set_num_threads(int(threads))
    elif hasattr(os, "sched_getaffinity"):
        _core.set_num_threads(max(1, len(os.sched_getaffinity(0)) // _processes_here()))
    level = os.environ.get("CCMA_SIMD")
    if level is not None:
        check_choice("CCMA_SIMD", level, ("scalar", "avx2", "avx512", "avx512_vnni"))
        _core.set_simd_level(level)
    return _core


def _processes_here() -> int:
    """Processes of one job on this machine, as torchrun, Ray and Lightning tell each of them."""
    told = os.environ.get("LOCAL_WORLD_SIZE", "")
    return max(1, int(told)) if told.isdecimal() else 1


def _core() -> Any:
    try:
        return load_core()
    except ImportError as error:
        raise BackendUnavailableError(f"the C++ extension ccma_fast._core was not built ({error})") from error
