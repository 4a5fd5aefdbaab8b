"""Kill a random rank of a torchrun job at random moments, start it again, and compare the results.

    python bench/kill_ranks.py --trials 50 --ranks 3 --again 1 2 3 -- \
        -m ccma_fast extract photos --out {out} --student test_vit --student-weights random --shard-size 20 -q

What stands behind ``--`` is the script of torchrun and its arguments; ``{out}`` in them is replaced by a place of each
trial's own, a folder or a file with the suffix that follows (``{out}.csv``). A trial: the job is started; after a
random part of the time that an undisturbed one took, counted from the moment its ranks are there, one of them gets
SIGKILL; all processes of the job must end within the limit, and torchrun must fail; the command is given once more, by
one of the numbers of ranks ``--again``; what it has written must equal what the undisturbed one wrote, hidden files
aside. A job that ended before it was hit is no trial, nor is a rank that was done with its script; both are repeated.
Prints a line for each trial and a summary in JSON; the exit code is 1 where a trial failed.

With ``--preload torch torchvision.transforms`` and the like torchrun's agent runs in a fork of this process, which has
imported those modules, and forks its ranks: importing takes longer than the work of a small job, and is no subject.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib
import json
import os
import random
import re
import runpy
import shutil
import signal
import statistics
import sys
import tempfile
import time
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any

_CHILD_SUBREAPER = 36


def main() -> int:
    arguments = _parsed()
    rng = random.Random(arguments.seed)
    ctypes.CDLL(None).prctl(_CHILD_SUBREAPER, 1)  # what is left of a job is then found below this process
    for module in arguments.preload:
        importlib.import_module(module)
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
            if not trial["identical"] or (trial["killed"] is not None and trial["ended_seconds"] is None):
                print((place / ".log").read_text(errors="replace"), file=sys.stderr, flush=True)
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
    parser.add_argument("--preload", nargs="+", default=[], metavar="MODULE", help="see above")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    arguments = parser.parse_args()
    arguments.command = arguments.command[arguments.command[:1] == ["--"] :]
    if not any("{out}" in word for word in arguments.command):
        parser.error("the command must have {out} where it writes to")
    return arguments


def _started(arguments: argparse.Namespace, place: Path, n_ranks: int) -> int:
    """The process of torchrun."""
    place.mkdir(exist_ok=True)
    given = [word.replace("{out}", str(place / "out")) for word in arguments.command]
    pid = os.fork()
    if pid:
        return pid
    try:
        log = os.open(place / ".log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for descriptor in (1, 2):
            os.dup2(log, descriptor)
        if arguments.preload:
            _launch(n_ranks, place, given)
            os._exit(0)
        rendezvous = ["--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0", "--max-restarts", "0"]
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(n_ranks)]
        os.execv(sys.executable, [*torchrun, *rendezvous, *given])
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(1)


def _launch(n_ranks: int, place: Path, given: list[str]) -> None:
    """What torchrun does, with ranks that are forked."""
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=n_ranks,
        run_id=str(os.getpid()),
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
        start_method="fork",
    )
    elastic_launch(config, _rank)(place, given)


def _rank(place: Path, given: list[str]) -> None:
    # Those of the agent raise an exception; ranks that are not forked have none.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    _, module, *sys.argv[1:] = given
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if end.code:
            raise
    # PyTorch's agent lets a forked rank wait in an event until all are done. Killed there, it would block the agent for
    # ever, as multiprocessing.Event.set waits for those that it wakes; a rank of its own program has ended by then.
    _done(place, os.getpid()).touch()


def _done(place: Path, pid: int) -> Path:
    """What a forked rank leaves when its script has ended."""
    return place / f".done-{pid}"


def _undisturbed(arguments: argparse.Namespace, place: Path) -> tuple[dict[str, bytes], float]:
    """What the command writes, and how long its ranks take."""
    job = _started(arguments, place, arguments.ranks)
    _ranks_of(job, arguments.ranks)
    begin = time.monotonic()
    if _code(job) != 0:
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
    ended: float | None = None
    left: list[str] = []
    was_alive = _was_killed(ranks[rank], _done(place, ranks[rank]))
    if was_alive:
        begin = time.monotonic()
        while (living := _living()) and time.monotonic() < begin + arguments.limit:
            time.sleep(0.02)
        if not living:
            ended = time.monotonic() - begin
        left = ["torchrun" if pid == job else f"rank {ranks.index(pid)}" if pid in ranks else "other" for pid in living]
        for pid in living:
            _was_killed(pid)
    was_killed = _code(job) != 0 and was_alive
    code = _code(_started(arguments, place, again))
    return {
        "killed": rank if was_killed else None,
        "after_seconds": round(moment, 2),
        "ended_seconds": None if ended is None else round(ended, 2),
        "left_after_limit": left,
        "ranks_again": again,
        "code_again": code,
        "identical": code == 0 and _tree(place, arguments.ignore) == expected,
    }


def _was_killed(pid: int, done: Path | None = None) -> bool:
    """Whether a process was there to be killed, and had not left a file that says that it was done."""
    try:
        if pid in _living():  # and no zombie
            os.kill(pid, signal.SIGSTOP)
            is_done = done is not None and done.exists()
            os.kill(pid, signal.SIGCONT if is_done else signal.SIGKILL)
            return not is_done
    except ProcessLookupError:
        pass
    return False


def _code(job: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(job, 0)[1])


def _ranks_of(job: int, n_ranks: int) -> list[int]:
    """The processes of the ranks, in their order: torchrun starts one after the other, and nothing else."""
    while True:
        living = _living()
        if job not in living:
            raise SystemExit("torchrun ended before its ranks were there")
        ranks = sorted(pid for pid, parent in living.items() if parent == job)
        if len(ranks) == n_ranks:
            return ranks
        time.sleep(0.02)


def _living() -> dict[int, int]:
    """The processes below this one that are no zombies, and the parent of each."""
    parents = {}
    for entry in os.listdir("/proc"):
        with suppress(OSError):  # it has ended
            if entry.isdecimal():
                state, parent, *_ = Path("/proc", entry, "stat").read_text().rpartition(")")[2].split()
                parents[int(entry)] = int(parent) if state != "Z" else 0
    found: dict[int, int] = {}
    below = {os.getpid()}
    while below:
        below = {pid for pid, parent in parents.items() if parent in below}
        found |= {pid: parents[pid] for pid in below}
    return found


def _tree(place: Path, ignored: str) -> dict[str, bytes]:
    files = {str(path.relative_to(place)): path for path in place.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in files.items() if not re.search(ignored, name)}


if __name__ == "__main__":
    sys.exit(main())
