"""How benchmarks are run and what is recorded beside their times."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

import ccma_fast as cf

from . import data, peers
from .tabulate import marks_table

# A contender's rounds take about this long together, but there are never fewer than three nor more than fifteen.
_SECONDS = 1.0

# How long to wait for other processes to finish before each contender, in seconds.
_PATIENCE = float(os.environ.get("CCMA_BENCH_PATIENCE", "20"))

_RUN = pytest.StashKey[dict[str, Any]]()

_VERSIONS = (
    "torch",
    "numpy",
    "faiss-cpu",
    "scikit-learn",
    "superkmeans",
    "fastkmeans",
    "h5py",
    "pyarrow",
    "datasets",
    "pytest-benchmark",
)
_INSTRUCTION_SETS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "asimd", "sve")


Measure = Callable[..., Any]


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("benchmark_disable"):
        data.divisor = 20


@pytest.fixture
def measure(benchmark: BenchmarkFixture) -> Measure:
    """Times a contender and records what ran; gives back the result of the last round.

    A warm-up says how many rounds there are, at least three; what takes so long that a first call is no different has
    `rounds` without one.
    """

    def run(
        title: str,
        name: str,
        contender: peers.Contender,
        *args: Any,
        shape: Mapping[str, Any],
        dtype: str = "float32",
        warm_up: bool = True,
        rounds: int = 3,
        n_threads: int | None = None,
    ) -> Any:
        if not benchmark.disabled:
            _wait_for_quiet()
        with peers.threads(n_threads or cf.get_num_threads()):
            if warm_up and not benchmark.disabled:
                start = time.perf_counter()
                contender.run(*args)
                rounds = int(min(15.0, max(3.0, _SECONDS / (time.perf_counter() - start))))
            benchmark.group = f"{title}: {', '.join(f'{key} = {value}' for key, value in shape.items())}"
            benchmark.extra_info.update(
                title=title,
                contender=name,
                backend=contender.backend or peers.our_backend(),
                shape=dict(shape),
                dtype=dtype,
                threads=cf.get_num_threads(),
            )
            before = _processor_seconds()
            result = benchmark.pedantic(contender.run, args, rounds=rounds, iterations=1)
            benchmark.extra_info["others_cpu_percent"] = _others_share(before, _processor_seconds())
        return result

    return run


@pytest.fixture
def record(benchmark: BenchmarkFixture) -> Callable[[Mapping[str, Any]], None]:
    """Puts numbers beside the time: how good the result was. Their names carry the unit."""

    def note(values: Mapping[str, Any]) -> None:
        benchmark.extra_info.setdefault("quality", {}).update(values)

    return note


@pytest.fixture
def record_reports(benchmark: BenchmarkFixture) -> Callable[[Sequence[cf.Report]], None]:
    """Puts beside the time what our queries say of themselves: medians of the stages, and the backend."""

    def note(reports: Sequence[cf.Report]) -> None:
        benchmark.extra_info["stages_ms"] = {
            name: 1e3 * median(report.stages[name].seconds for report in reports) for name in reports[0].stages
        }
        benchmark.extra_info["backend"] = reports[-1].backend

    return note


class _Usage(NamedTuple):
    """Seconds of processor time that the whole machine and this process with its children used, and the clock."""

    machine: float
    own: float
    clock: float


def _processor_seconds() -> _Usage | None:
    """What was used so far; None where there is no /proc."""
    try:
        fields = [int(f) for f in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
        children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    except OSError:
        return None
    user, nice, system, _idle, _iowait, irq, softirq, steal = fields[:8]
    ticks = os.sysconf("SC_CLK_TCK")
    busy = (user + nice + system + irq + softirq + steal) / ticks
    own = os.times()
    of_children = sum(map(_ticks, children)) / ticks
    return _Usage(busy, own.user + own.system + of_children, time.perf_counter())


def _ticks(process: str) -> int:
    """Processor time of a process, 0 where it is gone."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return 0
    return int(fields[11]) + int(fields[12])


def _others_share(before: _Usage | None, after: _Usage | None) -> float | None:
    """Per cent of the machine that other processes took; None where that cannot be told."""
    # The kernel counts in hundredths of a second: too coarse for less than this.
    if before is None or after is None or after.clock - before.clock < 0.2:
        return None
    others = (after.machine - before.machine) - (after.own - before.own)
    return round(max(0.0, 100.0 * others / (after.clock - before.clock) / (os.cpu_count() or 1)), 1)


def _wait_for_quiet() -> None:
    """Waits, but not for ever, until other processes leave the machine to us."""
    give_up = time.perf_counter() + _PATIENCE
    while time.perf_counter() < give_up:
        before = _processor_seconds()
        time.sleep(0.5)
        share = _others_share(before, _processor_seconds())
        if share is None or share < 5.0:
            return


def pytest_benchmark_update_machine_info(config: pytest.Config, machine_info: dict[str, Any]) -> None:
    """What a reader needs to judge the times, and nothing that names a machine."""
    cpu = machine_info.get("cpu", {})
    flags = set(cpu.get("flags", ()))
    machine_info.clear()
    machine_info.update(
        cpu=cpu.get("brand_raw", platform.processor()),
        architecture=platform.machine(),
        instruction_sets=[name for name in _INSTRUCTION_SETS if name in flags],
        processors=os.cpu_count(),
        memory_gib=_memory_gib(),
        system=platform.system(),
        versions={
            "Python": platform.python_version(),
            "ccma_fast": cf.__version__,
            **{name: version for name in _VERSIONS if (version := _version(name)) is not None},
        },
        threads=cf.get_num_threads(),
        backend=peers.our_backend(),
        openblas=_openblas(),
    )


def pytest_benchmark_update_json(config: pytest.Config, benchmarks: list[Any], output_json: dict[str, Any]) -> None:
    """Keeps what goes into the file, for the marks at the end of the run."""
    config.stash[_RUN] = output_json


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """The marks that the run has numbers for (with ``--benchmark-json``)."""
    run = config.stash.get(_RUN, None)
    text = None if run is None else marks_table(run["benchmarks"])
    if text is not None:
        terminalreporter.section("marks")
        terminalreporter.write_line(text)


def pytest_benchmark_update_commit_info(config: pytest.Config, commit_info: dict[str, Any]) -> None:
    """The commit, without what the working copy is called."""
    for name in set(commit_info) - {"id", "time", "dirty"}:
        del commit_info[name]


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _memory_gib() -> float | None:
    try:
        return round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1)
    except (ValueError, OSError):
        return None


def _openblas() -> list[str]:
    """Which kernels the OpenBLAS of each library uses: an old one may not know the processor."""
    try:
        from threadpoolctl import threadpool_info
    except ImportError:
        return []
    return sorted(
        f"{Path(library['filepath']).parent.name.split('.')[0]}: {library['version']} {library['architecture']}"
        for library in threadpool_info()
        if library["internal_api"] == "openblas"
    )
