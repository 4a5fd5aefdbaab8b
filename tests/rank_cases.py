"""Ranks as real processes, for `system/test_ranks.py`: ``python rank_cases.py CASE ...`` prints what each rank came to.

The processes are forked from one that has imported torch, and the cases run side by side: that saves most of the time.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch.distributed as dist

sys.path.insert(0, str(Path(__file__).parents[1]))

from ccma_fast.errors import RankError
from ccma_fast.system import rank_wire
from ccma_fast.system.ranks import Ranks

SILENCE = 2.0
# A case is killed after so many seconds.
LIMIT = 60.0

CASES: dict[str, tuple[int, Callable[..., Any], str, int]] = {}


def case(size: int, signal_name: str = "", victim: int = -1, *, store_of: str = "first") -> Any:
    """Makes a case of a function: on so many ranks, one of which is killed or stopped where it says so.

    The key-value store lives in the process of the first rank, or in that which started them all.
    """

    def add(function: Callable[..., Any]) -> Callable[..., Any]:
        CASES[function.__name__] = (size, function, signal_name, victim)
        return function

    return add


def run(name: str) -> list[dict[str, Any]]:
    """What each rank of a case came to: its result or error, seconds since the signal, and exit code."""
    size, function, signal_name, victim = CASES[name]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    pipes = [os.pipe() for _ in range(size)]
    children = []
    for rank in range(size):
        child = os.fork()
        if child == 0:
            code = 1
            for other, (read, write) in enumerate(pipes):
                os.close(read)
                if other != rank:
                    os.close(write)
            try:
                code = _rank(function, rank, size, port, pipes[rank][1])
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
            # The way out of an ordinary program: atexit, then the ends of threads and static objects.
            sys.exit(code)
        children.append(child)
    for _, write in pipes:
        os.close(write)
    lines = [os.fdopen(read) for read, _ in pipes]
    results: list[dict[str, Any]] = [{} for _ in range(size)]
    start = time.monotonic()
    if signal_name:
        lines[victim].readline()
        time.sleep(0.3)
        start = time.monotonic()
        os.kill(children[victim], getattr(signal, signal_name))

    def follow(rank: int) -> None:
        for line in lines[rank]:
            if line.startswith("{"):
                results[rank] = {**json.loads(line), "raised_after": time.monotonic() - start}
        _, status = os.waitpid(children[rank], 0)
        results[rank] |= {"exit": os.waitstatus_to_exitcode(status), "ended_after": time.monotonic() - start}

    def kill() -> None:
        for child in children:
            os.kill(child, signal.SIGKILL)

    killer = threading.Timer(LIMIT, kill)
    killer.start()
    followers = [
        threading.Thread(target=follow, args=(rank,))
        for rank in range(size)
        if rank != victim or signal_name != "SIGSTOP"
    ]
    for follower in followers:
        follower.start()
    for follower in followers:
        follower.join()
    killer.cancel()
    if signal_name == "SIGSTOP":
        # It wakes up, and finds that the others have given it up.
        start = time.monotonic()
        os.kill(children[victim], signal.SIGCONT)
        follow(victim)
    return results


def _rank(function: Callable[..., Any], rank: int, size: int, port: int, pipe: int) -> int:
    def ready() -> None:
        os.write(pipe, b"ready\n")

    dist.init_process_group(
        "gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=size, timeout=timedelta(seconds=60)
    )
    try:
        result: dict[str, Any] = {"result": function(rank, ready)}
    except RankError as error:
        result = {"error": str(error), "rank": error.rank, "host": error.host}
    except BaseException as error:
        result = {"raised": f"{type(error).__name__}: {error}", "traceback": traceback.format_exc()}
    os.write(pipe, json.dumps(result).encode() + b"\n")
    return 0


def hang_in_collective(ready: Callable[[], None]) -> None:
    """Makes this process hang in its next large message, when a part of that has moved."""
    move = rank_wire.Wire._move

    def some(self: Any, chunks: Any, call: Any, **options: Any) -> None:
        chunks = list(chunks)
        move(self, iter(chunks[:2]), call, **options)
        ready()
        time.sleep(2.5 * SILENCE)

    rank_wire.Wire._move = some  # type: ignore[method-assign]


def end(ranks: Ranks, rank: int, victim: int, ready: Callable[[], None], where: str) -> None:
    """All do some messages; the victim then waits for its signal, and the others for it."""
    with ranks.guarded():
        ranks.broadcast("warm")
        ranks.gather(rank)
        large = np.ones(10_000_000, dtype=np.int64)
        if where == "collective":
            if rank == victim:
                hang_in_collective(ready)
            ranks.broadcast(large)
        elif rank == victim:
            ready()
            time.sleep(2.5 * SILENCE)
        for _ in range(3):
            ranks.broadcast(0)
            ranks.gather(0)


for _where in ("wait", "collective"):
    for _signal in ("SIGKILL", "SIGSTOP"):
        for _victim in (0, 2):

            def _fault(rank: int, ready: Any, where: str = _where, victim: int = _victim) -> None:
                ranks = Ranks.of_group(silence=SILENCE)
                end(ranks, rank, victim, ready, where)

            _fault.__name__ = f"{_signal}-{_victim}-{_where}"
            case(3, _signal, _victim)(_fault)


if __name__ == "__main__":
    found: dict[str, Any] = {}

    def keep(name: str) -> None:
        found[name] = run(name)

    for name in sys.argv[1:] or CASES:
        keep(name)
    print(json.dumps(found, indent=1))
