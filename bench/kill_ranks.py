"""Kill a random rank of a torchrun job at random moments, start it again, and compare the results.

    python bench/kill_ranks.py --trials 50 --ranks 3 --again 1 2 3 -- \
        -m ccma_fast extract photos --out {out} --student test_vit --student-weights random --shard-size 20 -q

What stands behind ``--`` is the script of torchrun and its arguments; ``{out}`` in them is replaced by a place of each
trial's own, a folder or a file with the suffix that follows (``{out}.csv``). A trial: the job is started; after a
random part of the time that an undisturbed one took, counted from the moment its ranks are there, one of them gets
SIGKILL; all processes of the job must end within the limit, and torchrun must fail; the command is given once more, by
one of the numbers of ranks ``--again``; what it has written must equal what the undisturbed one wrote, hidden files
aside. A job that ended before it was hit is no trial, and is repeated. Prints a line for each trial and a summary in
JSON; the exit code is 1 where a trial failed.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

_MARK = "KILL_RANKS_JOB"


def main() -> int:
    arguments = _parsed()
    rng = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory(dir=arguments.work) as work:
        whole = Path(work, "whole")
        expected, seconds = _undisturbed(arguments, whole)
        trials: list[dict[str, Any]] = []
        while len(trials) < arguments.trials:
            place = Path(work, "trial")
            trial = _trial(arguments, place, expected, rng, seconds)
            if trial["killed"] is not None:
                trials.append(trial)
            print(json.dumps(trial), flush=True)
            shutil.rmtree(place, ignore_errors=True)
    ended = [trial["ended_seconds"] for trial in trials if trial["ended_seconds"] is not None]
    summary = {
        "command": arguments.command,
        "ranks": arguments.ranks,
        "trials": len(trials),
        "ended_within_limit": len(ended),
        "limit_seconds": arguments.limit,
        "ended_median_seconds": round(statistics.median(ended), 2) if ended else None,
        "ended_max_seconds": round(max(ended), 2) if ended else None,
        "identical": sum(trial["identical"] for trial in trials),
        "undisturbed_seconds": round(seconds, 1),
    }
    print(json.dumps(summary, indent=1))
    return 0 if len(ended) == summary["identical"] == len(trials) else 1


def _parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=50)
    parser.add_argument("--ranks", type=int, default=3)
    parser.add_argument("--again", type=int, nargs="+", default=[1, 2, 3], help="ranks of the second start")
    parser.add_argument("--limit", type=float, default=90.0, help="seconds within which all processes must end")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, help="where trials write (default: the directory for temporary files)")
    parser.add_argument("--ignore", default=r"(^|/)\.", help="names of files that are not compared")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    arguments = parser.parse_args()
    arguments.command = arguments.command[arguments.command[:1] == ["--"] :]
    if not any("{out}" in word for word in arguments.command):
        parser.error("the command must have {out} where it writes to")
    return arguments


class _Job(NamedTuple):
    """torchrun, and what its environment says, which all its processes have from it."""

    process: subprocess.Popen[bytes]
    mark: bytes


def _started(arguments: argparse.Namespace, place: Path, n_ranks: int) -> _Job:
    place.mkdir(exist_ok=True)
    token = f"{os.getpid()}-{time.monotonic_ns()}"
    given = [word.replace("{out}", str(place / "out")) for word in arguments.command]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(n_ranks)]
    rendezvous = ["--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0", "--max-restarts", "0"]
    with open(place / ".log", "ab") as log:
        process = subprocess.Popen(
            [*torchrun, *rendezvous, *given],
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            env={**os.environ, _MARK: token},
        )
    return _Job(process, f"\0{_MARK}={token}\0".encode())


def _undisturbed(arguments: argparse.Namespace, place: Path) -> tuple[dict[str, bytes], float]:
    """What the command writes, and how long its ranks take."""
    job = _started(arguments, place, arguments.ranks)
    _ranks_of(job, arguments.ranks)
    begin = time.monotonic()
    if job.process.wait() != 0:
        raise SystemExit(f"the undisturbed command failed:\n{(place / '.log').read_text()}")
    return _tree(place, arguments.ignore), time.monotonic() - begin


def _trial(
    arguments: argparse.Namespace, place: Path, expected: dict[str, bytes], rng: random.Random, seconds: float
) -> dict[str, Any]:
    job = _started(arguments, place, arguments.ranks)
    ranks = _ranks_of(job, arguments.ranks)
    moment = rng.uniform(0.0, seconds)
    time.sleep(moment)
    rank = rng.randrange(arguments.ranks)
    again = rng.choice(arguments.again)
    killed = None
    ended: float | None = None
    if ranks[rank] in _processes(job.mark):
        os.kill(ranks[rank], signal.SIGKILL)
        begin = time.monotonic()
        while (left := _processes(job.mark)) and time.monotonic() < begin + arguments.limit:
            time.sleep(0.02)
            job.process.poll()  # reaps it
        if not left:
            ended = time.monotonic() - begin
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if job.process.wait() != 0:
            killed = rank
    else:
        job.process.wait()
    code = _started(arguments, place, again).process.wait()
    return {
        "killed": killed,
        "after_seconds": round(moment, 2),
        "ended_seconds": None if ended is None else round(ended, 2),
        "ranks_again": again,
        "identical": code == 0 and _tree(place, arguments.ignore) == expected,
    }


def _ranks_of(job: _Job, n_ranks: int) -> list[int]:
    """The processes of the ranks, in their order."""
    while job.process.poll() is None:
        found = {}
        for pid, environment in _processes(job.mark).items():
            rank = re.search(rb"\0LOCAL_RANK=(\d+)\0", environment)
            if rank and _parent(pid) == job.process.pid:
                found[int(rank[1])] = pid
        if len(found) == n_ranks:
            return [found[rank] for rank in range(n_ranks)]
        time.sleep(0.05)
    raise SystemExit("torchrun ended before its ranks were there")


def _processes(mark: bytes) -> dict[int, bytes]:
    """The processes of a job that are no zombies, and their environments."""
    found = {}
    for entry in os.listdir("/proc"):
        with suppress(OSError):  # it has ended, or is another user's
            environment = b"\0" + Path("/proc", entry, "environ").read_bytes() if entry.isdecimal() else b""
            if mark in environment:
                found[int(entry)] = environment
    return found


def _parent(pid: int) -> int:
    with suppress(OSError):
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return 0


def _tree(place: Path, ignored: str) -> dict[str, bytes]:
    files = {str(path.relative_to(place)): path for path in place.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in files.items() if not re.search(ignored, name)}


if __name__ == "__main__":
    sys.exit(main())
