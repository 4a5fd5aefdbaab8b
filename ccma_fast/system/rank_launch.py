"""How the processes that a launcher has started meet, by the environment variables of torchrun."""

from __future__ import annotations

import os
import socket
import threading
import time
from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import Any

from ..errors import RankError
from .rank_exchange import Worker
from .rank_meeting import gathered, longest_meeting, reaching

__all__ = ["number_of", "store_of_launched"]

# Seconds for one attempt to find the store; it takes up to three times as long.
CONNECT_TRY = 5.0
LISTEN_POLL = 0.2
LARGEST_PORT = 65535


def store_of_launched(size: int, silence: float, arrival: float) -> tuple[Any, int]:
    """The key-value store of all processes of a launch, when all have come, and the rank of this one.

    ``init_process_group`` would wait for them as well, but not say who is missing.

    Raises
    ------
    RankError
        Some have not come within `arrival` seconds, or the store gives no answer for `silence` seconds more.
    ValueError
        The environment is wrong.
    """
    rank, port = number_of("RANK"), number_of("MASTER_PORT")
    assert rank is not None
    assert port is not None
    if rank >= size:
        raise ValueError(f"the environment variable RANK must be less than WORLD_SIZE, {size}, got {rank}")
    if not 0 < port <= LARGEST_PORT:
        raise ValueError(f"the environment variable MASTER_PORT must be from 1 to {LARGEST_PORT}, got {port}")
    worker = Worker(threading.Condition(), "ccma_fast arrival")
    try:
        step = partial(_store_with_all, rank, size, os.environ["MASTER_ADDR"], port, arrival)
        return worker.answer(step, longest_meeting(arrival, silence)), rank
    finally:
        worker.end(0)


def _store_with_all(rank: int, size: int, address: str, port: int, limit: float) -> Any:
    import torch.distributed

    c10d: Any = torch.distributed
    end = time.monotonic() + limit
    host = socket.gethostname()
    # Where torchrun serves the store it says so; else the first rank does.
    of_torchrun = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    serves = rank == 0 and not of_torchrun
    while True:
        while (opened := _opened(address, port, size, serves, min(CONNECT_TRY, limit))) is None:
            if time.monotonic() > end:
                raise RankError(
                    f"rank 0 of {size} did not come within {limit:g} s: there is no key-value store at "
                    f"{address}:{port}",
                    0,
                )
        number = 1
        try:
            with reaching(rank, host, f"{address}:{port}"):
                opened.set_timeout(timedelta(seconds=limit))
                # That of torchrun stays after a restart, and from one command of a script to the next.
                store = c10d.PrefixStore(f"ccma_fast/start/{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", opened)
                number = store.add(f"arrivals/{rank}", 1)
                store = c10d.PrefixStore(str(number), store)
                gathered(store, "arrival", rank, size, {"host": host}, end, limit)
        except RankError as error:
            if number == 1 or of_torchrun or not isinstance(error.__cause__, RuntimeError):
                raise
            # It was that of the command before, which the first rank has now ended.
            continue
        return store


def _opened(address: str, port: int, size: int, serves: bool, seconds: float) -> Any:
    """The store; None where nobody serves it."""
    import torch.distributed

    c10d: Any = torch.distributed
    # Where nobody listens TCPStore prints its stack, over and over.
    if not serves and not _listens(address, port, seconds):
        return None
    try:
        return c10d.TCPStore(
            address, port, size, serves, timedelta(seconds=seconds), wait_for_workers=False, multi_tenant=True
        )
    except c10d.DistNetworkError as error:
        if not serves:
            return None
        why = str(error).partition("\n")[0]
        raise RankError(
            f"rank 0 cannot serve the key-value store at {address}:{port} (MASTER_ADDR, MASTER_PORT): {why}", 0
        ) from error


def _listens(address: str, port: int, seconds: float) -> bool:
    """Whether a connection can be made within so many seconds."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        with suppress(OSError):
            socket.create_connection((address, port), left).close()
            return True
        time.sleep(min(LISTEN_POLL, left))
    return False


def number_of(variable: str) -> int | None:
    text = os.environ.get(variable)
    if not text:
        return None
    if not (text.isascii() and text.isdigit()):
        raise ValueError(f"the environment variable {variable} must be a whole number, got {text!r}")
    return int(text)
