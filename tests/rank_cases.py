"""Ranks as real processes, for `system/test_ranks.py`: ``python rank_cases.py CASE ...`` prints what each rank came to.

Without a case all are run but those that only the slow tests have, or with ``others`` those.

Processes are forked from one that has imported torch, and several cases run at a time: most of the time of such tests
is the import.
"""

from __future__ import annotations

import json
import os
import pickle
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from ccma_fast.errors import RankError
from ccma_fast.system import rank_meeting, rank_wire, rank_work
from ccma_fast.system.ranks import Ranks, Traffic, ranks_of_environment

SILENCE = 3.0
IDLENESS = 1.0
# A case is killed after so many seconds.
LIMIT = 90.0
AT_A_TIME = 9
# They wait most of the time, and begin first.
LONGEST = ("working 3", "failures 3", "idle 3", "SIGSTOP 0 collective", "SIGSTOP 2 waiting")
MB = 1 << 17  # numbers of 8 bytes


@dataclass(frozen=True)
class Case:
    """A function that all ranks call with their number and a way to say that they are ready for a signal."""

    size: int
    function: Callable[[int, Callable[[], None]], Any]
    signal: int = 0
    victim: int = -1
    store: str = "first rank"
    # Ordinary programs exit through the ends of threads and of static objects; of torch, these take a second or two.
    whole_exit: bool = False
    # Without a process group, but with the environment that a launcher of so many ranks gives.
    launched: int = 0
    is_slow: bool = False


CASES: dict[str, Case] = {}


def case(size: int, **options: Any) -> Any:
    def add(function: Any) -> Any:
        CASES[f"{function.__name__} {size}"] = Case(size, function, **options)
        return function

    return add


# The cases.


def same(found: Any, expected: Any) -> None:
    np.testing.assert_array_equal(found, expected)
    assert (np.shape(found), np.asarray(found).dtype) == (np.shape(expected), np.asarray(expected).dtype)


@case(2, store="file")
@case(3)
@case(5, store="file", is_slow=True)
def messages(rank: int, ready: Any) -> None:
    with closing(Ranks.of_group(silence=60)) as ranks:
        size = ranks.size
        assert (ranks.rank, size) == (rank, dist.get_world_size())
        assert ranks.names[rank] == f"rank {rank} on host {socket.gethostname()}"
        few_values(ranks)
        broadcasts(ranks)
        gathers(ranks)
        totals(ranks)
        streams(ranks)


def few_values(ranks: Ranks) -> None:
    before = ranks.traffic
    for value in (None, 0, "ä", {"a": [1, 2.5, (3,)]}, np.arange(5), np.float32(2)):
        assert repr(ranks.broadcast(value if ranks.rank == 0 else "ignored")) == repr(value)
        gathered = ranks.gather((ranks.rank, value))
        if ranks.rank == 0:
            assert repr(gathered) == repr([(rank, value) for rank in range(ranks.size)])
        else:
            assert gathered is None
    used = ranks.traffic - before
    assert used.messages == 12
    n_bytes = sum(
        len(pickle.dumps(value, 5)) for value in (None, 0, "ä", {"a": [1, 2.5, (3,)]}, np.arange(5), np.float32(2))
    )
    if ranks.rank:
        assert used.received == n_bytes
    else:
        assert used.sent == n_bytes * (ranks.size - 1)


def broadcasts(ranks: Ranks) -> None:
    large = np.arange(3 * MB + 1)
    read_only = np.arange(2 * MB, dtype=np.float64)
    read_only.flags.writeable = False
    value = {
        "large": large,
        "empty": np.empty((0, 7), dtype=np.float32),
        "Fortran": np.asfortranarray(np.arange(4 * MB).reshape(4, -1)),
        "strided": large[::2],
        "read-only": read_only,
        "many": [np.full(10, i) for i in range(10_000)],
        "of objects": np.array(["a", None], dtype=object),
    }
    before = ranks.traffic
    found = ranks.broadcast(value if ranks.rank == 0 else None)
    for name in value.keys() - {"many"}:
        same(found[name], value[name])
    same(np.array(found["many"]), np.array(value["many"]))
    found["large"][0] = 7
    if ranks.rank:
        payload = (3 + 4 + 1.5 + 2) * 8 * MB
        assert payload < (ranks.traffic - before).received < 1.2 * payload
    everybody = ranks.gather(ranks.traffic)
    if everybody is not None:
        # Before that gather, of which the first rank has received the parts of the others.
        assert sum(one.sent for one in everybody) == sum(one.received for one in everybody)
    # Two chunks and a bit, and exactly one chunk.
    for n_bytes in (2 * rank_wire.CHUNK_BYTES + 1, rank_wire.CHUNK_BYTES):
        found = ranks.broadcast(np.full(n_bytes, 5, dtype=np.uint8) if ranks.rank == 0 else None)
        same(found, np.full(n_bytes, 5, dtype=np.uint8))


def gathers(ranks: Ranks) -> None:
    size = ranks.size
    for lengths in ([i * MB for i in range(size)], [MB] + [0] * (size - 1), [0] * (size - 1) + [MB], [3 * MB] * size):
        gathered = ranks.gather(np.arange(lengths[ranks.rank]) + ranks.rank)
        if gathered is not None:
            for rank, array in enumerate(gathered):
                same(array, np.arange(lengths[rank]) + rank)


def totals(ranks: Ranks) -> None:
    for shape in ((), (0,), (3, 4), (0, 2), (5 * MB,), (3, MB)):
        array = np.full(shape, 2**53 + 1 + ranks.rank, dtype=np.int64)
        kept = array.copy()
        before = ranks.traffic
        total = ranks.total(array)
        used = ranks.traffic - before
        assert used.messages == 1
        n_bytes, size = array.nbytes, ranks.size
        if n_bytes > 1 << 15:
            around = n_bytes * (size - 1) // size
            assert (used.sent, used.received) == ((n_bytes, around) if ranks.rank else (around, 2 * around))
        same(array, kept)
        if ranks.rank == 0:
            same(total, np.full(shape, sum(2**53 + 1 + rank for rank in range(ranks.size))))
        else:
            assert total is None
    for n_numbers in (3, MB):
        total = ranks.total(np.full(n_numbers, 2**62, dtype=np.int64))
        if total is not None:
            same(total, np.full(n_numbers, 2**62) * np.int64(ranks.size))
        strided = ranks.total(np.arange(2 * n_numbers)[::2])
        if strided is not None:
            same(strided, np.arange(2 * n_numbers)[::2] * ranks.size)
    for wrong in (np.ones(3), np.ones(3, dtype=np.int32), [1, 2]):
        error = raised(lambda wrong=wrong: ranks.total(wrong))
        assert isinstance(error, TypeError)
        assert "takes an array of int64" in str(error)


def streams(ranks: Ranks) -> None:
    """Messages in one direction only, and keys that go as they come."""
    for i in range(300):
        assert ranks.broadcast(i) == i
    for i in range(300):
        ranks.gather(i)
    for i in range(150):
        ranks.broadcast(i)
        ranks.total(np.array([i]))
    ranks.broadcast()
    time.sleep(1.5)
    if ranks.rank == 0:
        n_keys = ranks._link.exchange._store.num_keys()  # type: ignore[union-attr]
        assert n_keys < 40 + 10 * ranks.size**2 + 70 * ranks.size, n_keys
    ranks.gather(0)


def raised(call: Callable[[], Any]) -> BaseException:
    try:
        call()
    except BaseException as error:
        return error
    raise AssertionError("nothing was raised")


def failure(call: Callable[[], Any]) -> str:
    """The text of the RankError that a call raises."""
    error = raised(call)
    if not isinstance(error, RankError):
        raise error
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.rank, again.host) == (str(error), error.rank, error.host)
    return str(error)


@case(3)
def idle(rank: int, ready: Any) -> dict[str, str]:
    """Ranks that live and do nothing, and others that only seem to."""
    found = {}

    def ended(sleepers: tuple[int, ...], step: Callable[[Ranks], Any]) -> str:
        with closing(Ranks.of_group(silence=60, idleness=IDLENESS)) as ranks:
            ranks.broadcast()
            if rank in sleepers:
                return failure(lambda: hang(ranks))
            return failure(lambda: [(step(ranks), ranks.broadcast()) for _ in range(2)])

    found["one"] = ended((2,), lambda ranks: ranks.total(np.zeros(2, dtype=np.int64)))
    found["two"] = ended((1, 2), lambda ranks: ranks.gather(0))
    found["large"] = ended((2,), lambda ranks: ranks.broadcast(np.ones(MB)))
    found["first"] = ended((0,), lambda ranks: ranks.broadcast(0))

    ranks = Ranks.of_group(silence=60, idleness=IDLENESS)
    if rank == 2:
        found["end"] = failure(lambda: hang(ranks))
    start = time.monotonic()
    ranks.close()
    if rank == 0:
        # It did not wait for ever, and raised nothing.
        assert time.monotonic() - start >= IDLENESS
    return found


@case(3)
def working(rank: int, ready: Any) -> None:
    """Ranks that the others wait for longer than they may do nothing, but that work, or whose child does."""
    # On a busy machine work gets little of a processor in so short a time.
    rank_work.WORK_SECONDS, rank_work.CHILD_SHARE = 0.01, 0.005

    def worked(workers: dict[int, Callable[[], None]]) -> None:
        with closing(Ranks.of_group(silence=60, idleness=2 * IDLENESS)) as ranks:
            ranks.broadcast()
            if rank in workers:
                workers[rank]()
            ranks.gather(0)
            ranks.broadcast()

    # A third of a processor.
    code = f"""
import time
end = time.monotonic() + {3 * IDLENESS}
while time.monotonic() < end:
    pause = time.monotonic() + 0.03
    while time.monotonic() < pause:
        pass
    time.sleep(0.06)
"""
    worked({2: lambda: exec(code, {})})
    worked({0: lambda: exec(code, {})})
    # All wait for the first rank, which waits for a process.
    worked({0: lambda: subprocess.run([sys.executable, "-c", code], check=True)})
    # Nobody waits for one that sleeps.
    worked({other: lambda: time.sleep(3 * IDLENESS) for other in range(3)})


@case(3)
def failures(rank: int, ready: Any) -> dict[str, str]:
    """One after the other in the same process group: what ranks raise, by the name of the failure."""
    found = {}

    def ranks_again(**options: Any) -> Ranks:
        return Ranks.of_group(**{"silence": SILENCE, **options})

    ranks = ranks_again()

    def raise_on_rank_1() -> None:
        with ranks.guarded():
            together(ranks)
            if rank == 1:
                raise ValueError("no number: row 7 of x.npy")
            for _ in range(3):
                ranks.gather(0)
                ranks.broadcast()

    if rank == 1:
        try:
            raise_on_rank_1()
        except ValueError as error:
            found["raised"] = str(error)
        # From now on it is as on the others.
        found["raises"] = failure(lambda: ranks.gather(0))
    else:
        found["raises"] = failure(raise_on_rank_1)
    for again in (ranks.check, ranks.broadcast, lambda: ranks.total(np.zeros(2, dtype=np.int64))):
        assert failure(again) == found["raises"]
    ranks.close()

    with closing(ranks_again()) as ranks:
        found["other call"] = failure(
            lambda: [
                ranks.total(np.ones(9 * MB, dtype=np.int64)) if rank == 2 else ranks.gather(np.ones(9 * MB))
                for _ in range(2)
            ]
        )
    with closing(ranks_again()) as ranks:
        found["other shape"] = failure(
            lambda: [ranks.total(np.ones(2 + (rank == 1), dtype=np.int64)) or ranks.broadcast() for _ in range(2)]
        )
    with closing(ranks_again()) as ranks:
        found["other large shape"] = failure(lambda: ranks.total(np.ones(MB + (rank == 1), dtype=np.int64)))

    with closing(ranks_again(patience=1.0)) as ranks:

        def late() -> None:
            if rank == 1:
                time.sleep(2.5)
            ranks.gather(0)
            ranks.broadcast()

        found["late"] = failure(late)
    ranks = ranks_again()
    together(ranks)
    if rank == 2:
        ranks.close()
        found["ended"] = ""
        assert "closed" in str(raised(lambda: ranks.broadcast()))
    else:
        found["ended"] = failure(lambda: [ranks.gather(0), ranks.broadcast()])
        ranks.close()
    found["other version"] = failure(lambda: ranks_again(identity={"ccma_fast": "0.2.0" if rank == 2 else "0.1.0"}))
    found["more said"] = failure(lambda: ranks_again(identity={"instruction set": "avx2"} if rank else {}))
    found["did not come"] = did_not_come(rank)

    with closing(ranks_again()) as ranks:

        def unpicklable() -> None:
            together(ranks)
            with ranks.guarded():
                ranks.broadcast((lambda: 0) if rank == 0 else None)

        found["unpicklable"] = type(raised(unpicklable)).__name__
        found["unpicklable elsewhere"] = failure(ranks.check) if rank else failure(ranks.broadcast)
    with closing(ranks_again()) as ranks:

        def quit_well() -> None:
            with ranks.guarded():
                raise SystemExit(0)

        raised(quit_well)
        assert ranks.broadcast("all is well" if rank == 0 else None) == "all is well"
    return found


def together(ranks: Ranks) -> None:
    """Waits until no rank is on its way to the others, where it could hear of a failure too."""
    ranks.gather(0)
    ranks.broadcast()


def did_not_come(rank: int) -> str:
    """What ranks hear of rank 1, which comes when the others have given up; rank 2 is slow to read that they have.

    However busy the machine is: who has to be there before does so, and what may take time has seconds.
    """
    store = dist.distributed_c10d._get_default_store()
    arrival, soon = 60.0, rank_meeting.SHORTEST_POLL
    if rank == 0:
        arrival = 1.0
        store.wait([f"ccma_fast/meetings/{store.add('ccma_fast/meetings/0', 0) + 1}/member/2"])
    if rank == 1:
        store.wait(["given up"])
    if rank == 2:
        rank_meeting.SHORTEST_POLL = 3.0
    text = failure(lambda: Ranks.of_group(silence=0.5, arrival=arrival))
    rank_meeting.SHORTEST_POLL = soon
    if rank == 0:
        store.set("given up", "")
    return text


@case(3)
def stalled(rank: int, ready: Any) -> None:
    """A rank whose heart beats, but whose transfer has stopped."""
    ranks = Ranks.of_group(silence=SILENCE)
    if rank == 2:
        hang_in_collective(ready)
    ranks.broadcast(np.ones(64 * MB))


def hang(ranks: Ranks) -> None:
    """Does as good as nothing until the ranks have failed."""
    while True:
        ranks.check()
        time.sleep(0.1)


@case(2, launched=3)
def last_missing(rank: int, ready: Any) -> None:
    # Long enough for rank 1 to come on a busy machine.
    with ranks_of_environment(arrival=8.0 if rank == 0 else 60.0):
        pass


@case(2, launched=3)
def first_missing(rank: int, ready: Any) -> None:
    os.environ["RANK"] = str(rank + 1)
    with ranks_of_environment(arrival=2.0):
        pass


@case(2, launched=2)
def all_there(rank: int, ready: Any) -> list[int] | None:
    with ranks_of_environment(arrival=60.0) as ranks:
        assert ranks is not None
        return ranks.gather(rank)


@case(2, launched=2)
def one_command_after_the_other(rank: int, ready: Any) -> list[int] | None:
    """Rank 1 finds the store of the first command when it begins the second, as rank 0 is late to end the first."""
    with ranks_of_environment() as ranks:
        assert ranks is not None
        ranks.gather(1)
        if rank == 0:
            time.sleep(3.0)
    with ranks_of_environment() as ranks:
        assert ranks is not None
        return ranks.gather(2)


@case(2, launched=2, store="another process")
def of_an_agent(rank: int, ready: Any) -> list[str]:
    """As torchrun starts ranks: it serves the store."""
    os.environ["TORCHELASTIC_USE_AGENT_STORE"] = "True"
    said: list[str] = []
    error = raised(lambda: torchrun(said.append))
    return [*said, f"{type(error).__name__}: {error}"]


@case(3)
def groups(rank: int, ready: Any) -> None:
    """Part of the process group, one rank of it, and two at the same time."""
    part = dist.new_group([0, 2])
    alone = dist.new_group([1])
    if rank == 1:
        assert isinstance(raised(lambda: Ranks.of_group(part)), ValueError)
        assert isinstance(raised(lambda: Ranks.of_group("gloo")), TypeError)
        with closing(Ranks.of_group(alone)) as ranks:
            assert (ranks.rank, ranks.size) == (0, 1)
            assert ranks.names == [f"rank 0 on host {socket.gethostname()}"]
            assert ranks.broadcast("x") == "x"
            assert ranks.gather("x") == ["x"]
            array = np.arange(3)
            total = ranks.total(array)
            assert total is not array
            same(total, array)
            assert ranks.traffic == Traffic(0, 0, 3)
            with ranks.guarded():
                ranks.check()
    else:
        with closing(Ranks.of_group(part)) as ranks:
            assert (ranks.rank, ranks.size) == (rank // 2, 2)
            same(ranks.broadcast(np.arange(3 * MB) if rank == 0 else None), np.arange(3 * MB))
            assert ranks.gather(rank) == ([0, 2] if rank == 0 else None)
    with closing(Ranks.of_group()) as one, closing(Ranks.of_group()) as other:
        for _ in range(3):
            assert one.broadcast("one") == "one"
            assert other.broadcast("other") == "other"
            one.gather(np.zeros(MB))
            other.gather(0)
    for wrong in ({"silence": 0}, {"patience": -1.0}, {"silence": float("nan")}, {"idleness": 0}, {"arrival": 0}):
        assert isinstance(raised(lambda wrong=wrong: Ranks.of_group(**wrong)), ValueError)  # type: ignore[misc]


def hang_in_collective(ready: Callable[[], None]) -> None:
    """Makes this process hang in its next large message, when a part of that has moved."""
    move = rank_wire.Wire._move

    def some(self: Any, chunks: Iterable[Any], *arguments: Any, **options: Any) -> None:
        move(self, iter(list(chunks)[:2]), *arguments, **options)
        ready()
        time.sleep(3 * SILENCE)

    rank_wire.Wire._move = some  # type: ignore[method-assign]


def add_fault(number: int, victim: int, where: str, **options: Any) -> None:
    def fault(rank: int, ready: Callable[[], None]) -> None:
        ranks = Ranks.of_group(silence=SILENCE)
        with ranks.guarded():
            ranks.broadcast("warm")
            ranks.gather(rank)
            if where == "collective":
                if rank == victim:
                    hang_in_collective(ready)
                ranks.broadcast(np.ones(64 * MB))
            elif rank == victim:
                ready()
                time.sleep(3 * SILENCE)
            for _ in range(3):
                ranks.broadcast(0)
                ranks.gather(0)

    name = f"{signal.Signals(number).name} {victim} {where}"
    CASES[name + (" with another store" if "store" in options else "")] = Case(3, fault, number, victim, **options)


for _number in (signal.SIGKILL, signal.SIGSTOP):
    for _victim in (0, 2):
        _is_even = (_number == signal.SIGKILL) == (_victim == 0)
        add_fault(_number, _victim, "waiting", is_slow=not _is_even)
        add_fault(_number, _victim, "collective", whole_exit=_victim == 2, is_slow=_is_even)
add_fault(signal.SIGKILL, 0, "waiting", store="another process", is_slow=True)
add_fault(signal.SIGKILL, 0, "collective", store="another process")


def torchrun(say: Callable[[str], None]) -> None:
    """What `torchrun` starts: a rank says what it was given, and the last one then raises."""
    with ranks_of_environment(silence=30) as ranks:
        assert ranks is not None
        ranks.gather(None)
    # The store of torchrun has been used now.
    with ranks_of_environment(silence=30) as ranks:
        assert ranks is not None
        assert ranks.broadcast(5 if ranks.rank == 0 else None) == 5
        gathered = ranks.gather(int(os.environ["RANK"]))
        if gathered is not None:
            say(f"gathered {gathered}")
        ranks.broadcast()
        if ranks.rank == ranks.size - 1:
            raise ValueError("the last rank")
        try:
            ranks.broadcast(ranks.gather(0))
        except RankError as error:
            say(f"RankError: {error}")
            raise


# How they are run.


def run(name: str) -> list[dict[str, Any]]:
    """What each rank of a case came to: its result or error, seconds until then since the signal, and the exit code."""
    case = CASES[name]
    with socket.socket() as listener, TemporaryDirectory() as folder:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        if case.launched and case.store == "first rank":
            # It serves the store itself.
            listener.close()
        else:
            listener.listen()
        pipes = [os.pipe() for _ in range(case.size)]
        children = []
        for rank in range(case.size):
            child = os.fork()
            if child == 0:
                for other, ends in enumerate(pipes):
                    for end in ends[: 1 if other == rank else 2]:
                        os.close(end)
                _rank(case, rank, port, listener, folder, pipes[rank][1])
                if case.whole_exit:
                    sys.exit(0)
                os._exit(0)
            children.append(child)
        for _, write in pipes:
            os.close(write)
        server = _served(port, listener) if case.store == "another process" else None
        listener.close()
        results = _followed(case, children, [os.fdopen(read) for read, _ in pipes])
        del server
    return results


def _served(port: int, listener: socket.socket) -> Any:
    """The store, at an address of IPv4: of others it looks up the names, for which a busy name server takes seconds."""
    return dist.TCPStore(
        "127.0.0.1",
        port,
        is_master=True,
        timeout=timedelta(seconds=LIMIT),
        wait_for_workers=False,
        master_listen_fd=listener.detach(),
    )


def _followed(case: Case, children: list[int], lines: list[Any]) -> list[dict[str, Any]]:
    results: list[dict[str, Any]] = [{} for _ in children]
    ended = [False for _ in children]

    def follow(rank: int, start: float) -> None:
        for line in lines[rank]:
            if line.startswith("{"):
                results[rank] = {**json.loads(line), "seconds": time.monotonic() - start}
        _, status = os.waitpid(children[rank], 0)
        ended[rank] = True
        results[rank] |= {"exit": os.waitstatus_to_exitcode(status), "seconds to exit": time.monotonic() - start}

    def kill() -> None:
        for child, gone in zip(children, ended, strict=True):
            if not gone:
                os.kill(child, signal.SIGKILL)

    killer = threading.Timer(LIMIT, kill)
    killer.start()
    if case.signal:
        lines[case.victim].readline()
        time.sleep(0.2)
        os.kill(children[case.victim], case.signal)
    start = time.monotonic()
    stopped = case.victim if case.signal == signal.SIGSTOP else -1
    followers = [threading.Thread(target=follow, args=(rank, start)) for rank in range(case.size) if rank != stopped]
    for follower in followers:
        follower.start()
    for follower in followers:
        follower.join()
    if stopped >= 0:
        # It wakes up, and finds that the others have given it up.
        os.kill(children[stopped], signal.SIGCONT)
        follow(stopped, time.monotonic())
    killer.cancel()
    return results


def _rank(case: Case, rank: int, port: int, listener: socket.socket, folder: str, pipe: int) -> None:
    serves = case.store == "first rank" and rank == 0
    if not serves:
        listener.close()
    if case.launched:
        of_rank = {"RANK": rank, "WORLD_SIZE": case.launched, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        os.environ.update({name: str(value) for name, value in of_rank.items()})
    else:
        _init_group(case, rank, port, listener if serves else None, folder)
    try:
        result = {"result": case.function(rank, lambda: os.write(pipe, b"ready\n") and None)}
    except RankError as error:
        result = {"error": str(error), "rank": error.rank, "host": error.host}
    except BaseException as error:
        result = {"raised": f"{type(error).__name__}: {error}", "traceback": traceback.format_exc()}
    os.write(pipe, json.dumps(result).encode() + b"\n")
    if dist.is_initialized():
        dist.destroy_process_group()


def _init_group(case: Case, rank: int, port: int, listener: socket.socket | None, folder: str) -> None:
    limit = timedelta(seconds=LIMIT)
    store: Any
    if case.store == "file":
        store = dist.FileStore(f"{folder}/store", case.size)
    elif listener is None:
        store = dist.TCPStore("127.0.0.1", port, is_master=False, timeout=limit, wait_for_workers=False)
    else:
        store = _served(port, listener)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=case.size, timeout=limit)


def _fork_case(name: str) -> Any:
    """Runs a case in a process of its own; where its results will come."""
    read, write = os.pipe()
    if os.fork() == 0:
        os.close(read)
        results = run(name)
        with os.fdopen(write, "w") as out:
            json.dump(results, out)
        os._exit(0)
    os.close(write)
    return os.fdopen(read)


def main(names: list[str]) -> None:
    torch.set_num_threads(1)
    waiting, underway, found = sorted(names, key=lambda name: name not in LONGEST), {}, {}
    while waiting or underway:
        while waiting and len(underway) < AT_A_TIME:
            name = waiting.pop(0)
            underway[_fork_case(name)] = name
        for lines in select.select(list(underway), [], [])[0]:
            with lines:
                found[underway.pop(lines)] = json.load(lines)
            os.wait()
    print(json.dumps(found))


if __name__ == "__main__":
    if sys.argv[1:] == ["torchrun"]:
        torchrun(lambda text: print(text, flush=True))
    elif sys.argv[1:] in ([], ["others"]):
        main([name for name, one in CASES.items() if one.is_slow == bool(sys.argv[1:])])
    else:
        main(sys.argv[1:])
