"""Runs parts one after the other, each in a process group of its own that is killed when its time is up."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from .report import report
from .results import Results, end_line, read

__all__ = ["Outcome", "Part", "run"]

# Seconds between asking a part to end and killing it.
_GRACE = 2.0

# What is kept of what a part printed.
_TAIL_BYTES = 400_000


class Part(NamedTuple):
    """A process and its share of the time."""

    name: str
    seconds: float
    command: Sequence[str]
    environment: Mapping[str, str] = MappingProxyType({})
    without: Sequence[str] = ()
    """Variables that it must not inherit."""


class Outcome(NamedTuple):
    """How a part ended."""

    name: str
    status: str
    """"ok", or what went wrong."""
    seconds: float


def run(parts: Sequence[Part], out: Path, *, deadline: float, name: str = "gpu") -> list[Outcome]:
    """Runs the parts in their order.

    Each has its seconds, and what the parts before it have left of theirs; all end by the deadline. A part for which
    less than half of its seconds is left is skipped. The results, ``NAME.jsonl``, the table, ``NAME.md``, and what was
    printed, ``NAME.log``, are in the folder at any time.

    Parameters
    ----------
    parts : sequence of Part
        The most valuable first.
    out : Path
        The folder to write to.
    deadline : float
        In seconds of :func:`time.monotonic`.
    """
    file, log = out / f"{name}.jsonl", out / f"{name}.log"
    results = Results(file, "run")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # by way of what kills the part that runs
    outcomes, planned = [], time.monotonic()
    for part in parts:
        now = time.monotonic()
        planned = max(planned, now) if not outcomes else planned
        planned += part.seconds
        end = min(deadline, max(planned, now + part.seconds))
        if end - now < 0.5 * part.seconds:
            outcome = Outcome(part.name, f"skipped: {max(0.0, end - now):.0f} s left of {part.seconds:.0f}", 0.0)
        else:
            outcome = _run_one(part, end - now, out, log)
        try:
            end_line(file)
            results.add(what="outcome", name=part.name, status=outcome.status, seconds=round(outcome.seconds, 1))
            (out / f"{name}.md").write_text(report(*read(file)), "utf-8")
        except OSError as error:
            outcome = _unwritten(outcome, error)
        outcomes.append(outcome)
    return outcomes


def _unwritten(outcome: Outcome, error: OSError) -> Outcome:
    """The outcome of a part on a full disk, which does not keep the parts after it from running."""
    print(f"{outcome.name}: {error}", file=sys.stderr, flush=True)
    return outcome._replace(status=f"{outcome.status}; not written: {error}")


def _run_one(part: Part, seconds: float, out: Path, log: Path) -> Outcome:
    environment = {k: v for k, v in os.environ.items() if k not in part.without} | dict(part.environment)
    printed = out / f".{part.name}.printed"
    start = time.monotonic()
    with printed.open("wb") as file:
        try:
            process = subprocess.Popen(
                part.command, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, env=environment,
                start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            status = f"did not start: {error}"
        else:
            status = _wait(process, seconds)
    outcome = Outcome(part.name, status, time.monotonic() - start)
    try:
        _append_tail(printed, log, f"=== {part.name}: {status}, {outcome.seconds:.1f} s\n")
    except OSError as error:
        outcome = _unwritten(outcome, error)
    finally:
        printed.unlink()
    return outcome


def _wait(process: subprocess.Popen[bytes], seconds: float) -> str:
    """How the process ended; nothing of its group is left."""
    try:
        code = process.wait(seconds)
    except subprocess.TimeoutExpired:
        _signal(process, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE)
        status = f"timed out after {seconds:.0f} s"
    else:
        status = "ok" if code == 0 else f"killed by {_signal_name(-code)}" if code < 0 else f"failed with {code}"
    finally:  # also where this process is told to end
        _signal(process, signal.SIGKILL)  # the group outlives the process that leads it
        process.wait()
    return status


def _signal(process: subprocess.Popen[bytes], which: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, which)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _append_tail(printed: Path, log: Path, heading: str) -> None:
    size = printed.stat().st_size
    with printed.open("rb") as source, log.open("ab") as target:
        source.seek(max(0, size - _TAIL_BYTES))
        target.write(heading.encode() + source.read().rstrip() + b"\n\n")
