"""The parts of a run, in the order of what they are worth, and their seconds: 480 with the 15 that installing takes."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from .runner import Part

__all__ = ["DEADLINE", "dry", "hanging", "of_card"]

DEADLINE = 480.0
"""Seconds from the start of the script to the end of the last part."""

ROOT = Path(__file__).resolve().parents[2]

# What a measurement is called, and its seconds. Tools run some of them again, see `of_card`.
_MEASURED = {"ceilings": 20, "scores": 60, "assign": 60, "select": 50, "rest": 40}
_TESTS = (
    "tests/backends",
    "tests/test_errors.py",
    "tests/system/test_rank_wire.py",
    "tests/query/test_ranks.py::test_picks_are_those_of_one_device",
    "tests/query/test_ranks.py::test_target_sizes_on_a_device",
)

# ncu: kernels of this package begin with an underscore, those of PyTorch do not. Replaying a kernel for each group of
# counters, it takes a second or two a kernel.
_NCU = (
    "ncu", "--clock-control", "none", "--kernel-name", "regex:^_.*_kernel$", "--launch-count", "14",
    "--section", "SpeedOfLight", "--section", "ComputeWorkloadAnalysis", "--section", "MemoryWorkloadAnalysis",
    "--section", "SchedulerStats", "--section", "WarpStateStats", "--section", "LaunchStats", "--section", "Occupancy",
)  # fmt: skip


def of_card(out: Path) -> list[Part]:
    """All parts, on a card."""
    blocking = {"CUDA_LAUNCH_BLOCKING": "1"}
    uncached = {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
    names = ("smoke", *_MEASURED, "sanitized", "counters", "more")
    measured = {name: _measure(name, out, small=False) for name in names}
    pytest = _pytest(out, _TESTS, "-n", "12", "--timeout", "60")
    parts = [
        Part("smoke", 25, measured["smoke"], blocking),
        Part("tests", 80, pytest),
        *(Part(name, seconds, measured[name]) for name, seconds in _MEASURED.items()),
        Part("memcheck", 60, [*_sanitizer(), *measured["sanitized"]], uncached),
        Part("ncu", 40, [*_NCU, "--log-file", str(out / "ncu.txt"), *measured["counters"]]),
        Part("more", 30, measured["more"]),
    ]
    return [part._replace(without=("TRITON_INTERPRET",)) for part in parts]


def dry(out: Path, *, all_tests: bool) -> list[Part]:
    """All parts at tiny sizes in Triton's interpreter, tools left out; as long as that takes."""
    tests = _TESTS if all_tests else ("tests/backends/test_cuda_coverage.py", "tests/backends/test_choose.py")
    names = {"smoke": "smoke", **{name: name for name in _MEASURED}, "memcheck": "sanitized", "ncu": "counters"}
    parts = [Part(part, 900, _measure(name, out, small=True)) for part, name in (names | {"more": "more"}).items()]
    parts.insert(1, Part("tests", 1800, _pytest(out, tests)))
    return [part._replace(environment={"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}) for part in parts]


def hanging(parts: Sequence[Part], variable: str) -> list[Part]:
    """Those parts, each to hang after its first line until its time is up."""
    return [part._replace(seconds=15, environment={**part.environment, variable: "1"}) for part in parts]


def _measure(name: str, out: Path, *, small: bool) -> list[str]:
    command = [sys.executable, "-m", "bench.gpu", "measure", name, "--output", str(out)]
    return [*command, "--small"] if small else command


def _pytest(out: Path, tests: Sequence[str], *options: str) -> list[str]:
    return [
        sys.executable, "-m", "pytest", "-q", "-p", "bench.gpu.pytest_lines", "-p", "no:cacheprovider",
        "-c", str(ROOT / "pyproject.toml"), "--rootdir", str(ROOT), "--results", str(out / "gpu.jsonl"), *options,
        *(str(ROOT / test) for test in tests), f"--ignore={ROOT / 'tests/backends/test_aot.py'}",
    ]  # fmt: skip


def _sanitizer() -> list[str]:
    """memcheck of the kernels whose names end as ours do; the option that says so was renamed twice."""
    command = ["compute-sanitizer", "--tool", "memcheck", "--error-exitcode", "1"]
    if shutil.which(command[0]) is None:
        return command
    known = subprocess.run([command[0], "--help"], capture_output=True, text=True, timeout=20, check=False).stdout
    filters = [option for option in ("--kernel-name", "--kernel-regex", "--filter") if option in known]
    return [*command, *(part for option in filters[:1] for part in (option, "kns=_kernel"))]
