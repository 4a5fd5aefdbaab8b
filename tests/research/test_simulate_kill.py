"""Runs that are killed at random moments and started again end with the files of an undisturbed one."""

from __future__ import annotations

import multiprocessing
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ccma_fast as cf
from ccma_fast.research.run_folder import read_results

FORK = multiprocessing.get_context("fork")


def simulated(out: Path) -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(4, size=700)
    x = (rng.standard_normal((700, 8)) + 2 * np.eye(4, 8)[y]).astype(np.float32)
    cf.simulate(
        x[:500], y[:500], test_features=x[500:], test_labels=y[500:], strategies=["ccma", "random", "margins"],
        seeds=[1, 2], rounds=4, teacher=cf.Teacher(x[:500] + 1, np.eye(4, 8), temperature=0.1), out=out, progress=False,
    )  # fmt: skip


class Forked:
    """A run in a process that has imported everything; as `subprocess.Popen`."""

    def __init__(self, out: Path) -> None:
        self._process = FORK.Process(target=simulated, args=(out,))
        self._process.start()
        self.kill = self._process.kill

    def __enter__(self) -> Forked:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.join()

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float) -> int | None:
        self._process.join(timeout)
        return self._process.exitcode


def test_three_kills(tmp_path: Path) -> None:
    survive(Forked, tmp_path, kills=3, n_rounds=6 * 5)


@pytest.mark.slow
@pytest.mark.parametrize("jobs", [1, 2])
def test_twenty_kills_of_the_command(tmp_path: Path, jobs: int) -> None:
    rng = np.random.default_rng(1)
    y = rng.integers(5, size=2500)
    x = (rng.standard_normal((2500, 16)) + 2 * np.eye(5, 16)[y]).astype(np.float32)
    arrays = {"x": x[:2000], "y": y[:2000], "tx": x[2000:], "ty": y[2000:], "v": x[:2000] + 1, "t": np.eye(5, 16)}
    for name, array in arrays.items():
        np.save(tmp_path / f"{name}.npy", array)
    options = {
        "features": "x",
        "labels": "y",
        "test-features": "tx",
        "test-labels": "ty",
        "teacher-images": "v",
        "teacher-classes": "t",
    }
    command = [sys.executable, "-m", "ccma_fast", "simulate", "-q", "--jobs", str(jobs), "--seeds", "1", "10"]
    command += ["--strategies", "ccma", "margins", "badge", "--rounds", "30"]
    for name, file in options.items():
        command += [f"--{name}", str(tmp_path / f"{file}.npy")]

    def start(out: Path) -> subprocess.Popen[str]:
        return subprocess.Popen([*command, "--out", str(out)], stdout=subprocess.DEVNULL, text=True)

    survive(start, tmp_path, kills=20, n_rounds=6 * 31)


def survive(start: Callable[[Path], Any], folder: Path, *, kills: int, n_rounds: int) -> None:
    """Start a run over and over, kill it until it was killed so often, and compare what it ends with."""
    undisturbed = folder / "undisturbed"
    with at_work(start, undisturbed, "rounds/*.jsonl") as child:
        begin = time.monotonic()
        assert child.wait(timeout=300) == 0
        seconds = time.monotonic() - begin

    rng = np.random.default_rng(20)
    died_at: list[int] = []  # finished rounds
    number, out = 0, folder / "killed 0"
    while len(died_at) < kills:
        # One in four is killed at the beginning, the others at work.
        with at_work(start, out, "run.json" if rng.random() < 0.25 else "rounds/*.jsonl") as child:
            time.sleep(rng.uniform(0.0, 0.4 * seconds))
            child.kill()
            code = child.wait(timeout=60)
        if code == -signal.SIGKILL:
            died_at.append(read_results(out).columns["round"].size)
        else:  # it was faster
            assert code == 0
            check_equal(out, undisturbed)
            number += 1
            out = folder / f"killed {number}"
    with at_work(start, out, "run.json") as child:
        assert child.wait(timeout=300) == 0
    check_equal(out, undisturbed)
    # They did not all die before or after the work.
    assert len(set(died_at) - {0, n_rounds}) >= kills // 3, died_at
    print(f"killed after {died_at} of {n_rounds} rounds, in {number + 1} folders")


def at_work(start: Callable[[Path], Any], out: Path, sign: str) -> Any:
    """A process that has just written one of those files, or ended.

    It writes run.json anew when it takes the folder, and a file of rounds after every round.
    """

    def written() -> int:
        return max((path.stat().st_mtime_ns for path in out.glob(sign)), default=0)

    before = written()
    child = start(out)
    deadline = time.monotonic() + 60
    while written() == before and child.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    return child


def check_equal(out: Path, undisturbed: Path) -> None:
    for name in ("results.csv", "picks.csv", "run.json", "results.json", "map.npz"):
        assert (out / name).read_bytes() == (undisturbed / name).read_bytes(), name
    assert not list(out.rglob("*.part"))
