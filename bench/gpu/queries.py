"""Whole queries, stage by stage, and what else a round computes on the device."""

from __future__ import annotations

import gzip
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

import ccma_fast as cf
from ccma_fast.backends.choose import choose_backend
from ccma_fast.backends.cuda.device import INTERPRETED
from ccma_fast.backends.unit_rows import Kernel
from ccma_fast.pool.open import open_rows
from ccma_fast.steps.coverage import unit_rows
from ccma_fast.steps.greedy import greedy_coverage

from .clusters import assignment, iterations
from .problems import CLASSES, COLUMNS, Sizes, launched, random_rows, sizes
from .results import Results
from .scores import features, score_of

__all__ = ["more", "rest", "select"]

# The trace that comes back, compressed.
_TRACE_BYTES = 15 << 20


def select(results: Results, out: Path, *, small: bool) -> int:
    """Queries of rows on the device: published, default, and default with a teacher that knows the classes."""
    size = sizes(small=small)
    x, v, classes = _pool(size.rows)
    published = cf.CCMAConfig(
        acquisition="delta", calibration="target_size", head="published", max_epochs=_epochs(small=small)
    )
    default = cf.CCMAConfig()
    runs = 1 if small else 2  # the first compiles
    strangers = random_rows(CLASSES, COLUMNS[1], 9, torch.float32)
    _query(results, "default, informative teacher", x, v, classes, size, default, runs=runs)
    _query(results, "published", x, v, strangers, size, published, runs=runs)
    _query(results, "default", x, v, strangers, size, default, runs=runs)
    _trace(results, out, x, v, classes, size, default)
    return 0


def _epochs(*, small: bool) -> int:
    return 2 if small else 20


def _pool(n_rows: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Features of the student and of the teacher, row i of class i modulo their number, and the teacher's classes.

    The teacher is right about a good part of its rows, so that the labels bear it out; a student would do better.
    """
    centres = [random_rows(CLASSES, d, seed, torch.float32) for d, seed in zip(COLUMNS, (7, 8), strict=True)]
    spreads = (1.0, 2.6)
    x, v = (
        random_rows(n_rows, d, seed, around=of, spread=spread)
        for seed, (d, of, spread) in enumerate(zip(COLUMNS, centres, spreads, strict=True))
    )
    return x, v, centres[1]


def _labels(n_rows: int) -> np.ndarray:
    """Five labels a class, of rows from everywhere: those without a label do not lie in one piece."""
    y = np.full(n_rows, -1)
    known = np.random.default_rng(1).choice(n_rows, min(5 * CLASSES, n_rows // 4), replace=False)
    y[known] = known % CLASSES
    return y


def _query(
    results: Results,
    name: str,
    x: torch.Tensor,
    v: torch.Tensor,
    classes: torch.Tensor,
    size: Sizes,
    config: cf.CCMAConfig,
    *,
    runs: int,
) -> None:
    y, of_classes = _labels(len(x)), classes.cpu().numpy()
    took: list[float] = []
    for _ in range(runs):
        teacher = cf.Teacher(v, of_classes)
        start = time.perf_counter()
        found = cf.select(x, size.budget, labels=y, teacher=teacher, config=config, backend="cuda", random_state=0)
        took.append(time.perf_counter() - start)
    stages = {f"{stage} [ms]": 1e3 * spent.seconds for stage, spent in found.report.stages.items()}
    shape = {"N": len(x), "C": CLASSES, "B": size.budget}
    results.add(what="select", query=name, **shape, ms=1e3 * took[-1], trust=float(found.report.trust), **stages)


def _trace(
    results: Results,
    out: Path,
    x: torch.Tensor,
    v: torch.Tensor,
    classes: torch.Tensor,
    size: Sizes,
    config: cf.CCMAConfig,
) -> None:
    """One profile of a query: what it launches, copies and waits for, counted, and the trace where it is small."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    if not INTERPRETED:
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    y, teacher = _labels(len(x)), cf.Teacher(v, classes.cpu().numpy())
    with torch.profiler.profile(activities=activities) as profile:
        cf.select(x, size.budget, labels=y, teacher=teacher, config=config, backend="cuda", random_state=0)
    plain, packed = out / "trace.json", out / "trace.json.gz"
    profile.export_chrome_trace(str(plain))
    with gzip.open(packed, "wb", compresslevel=6) as file:
        file.write(plain.read_bytes())
    plain.unlink()
    kept = packed.stat().st_size <= _TRACE_BYTES
    if not kept:
        packed.unlink()
    results.add(what="trace", file=packed.name if kept else "left out: too large")
    events = profile.key_averages()  # takes longest
    counts = {event.key: event.count for event in events if event.key.startswith(("cuda", "cuLaunch"))}
    results.add(what="host calls of a query", query="default, informative teacher", **counts)
    for line in launched(events)[:25]:
        results.add(what="kernels of a query", query="default, informative teacher", **line)


def rest(results: Results, out: Path, *, small: bool) -> int:
    """The score from features, k-means, training and greedy coverage."""
    size = sizes(small=small)
    features(results, size)
    _training(results, size)
    _covering(results, size)
    iterations(results, size, COLUMNS[0])
    return 0


def _training(results: Results, size: Sizes) -> None:
    """Training the student, beside the CPU's of the same run: the same start, batches and dropped inputs."""
    n, d = size.labelled, COLUMNS[0]
    n_classes = min(CLASSES, n // 4)
    centres = random_rows(n_classes, d, 1, torch.float32)
    x = random_rows(n, d, 2, torch.float32, around=centres, spread=0.5)
    labels = np.arange(n) % n_classes
    took, fitted = {}, {}
    for name in ("cuda", "cpu"):
        head = cf.LinearHead(n_classes, max_epochs=size.epochs, patience=size.epochs)
        rows, backend = open_rows(x if name == "cuda" else x.cpu(), "x"), choose_backend(name)
        for _ in range(2 if name == "cuda" else 1):  # the first compiles
            start = time.perf_counter()
            fitted[name] = head.fit_rows(rows, labels, backend)
            took[name] = time.perf_counter() - start
    ours, cpu = fitted["cuda"], fitted["cpu"]
    results.add(
        what="training of the head", n=n, D=d, C=n_classes, epochs=ours.n_iter_, ms=1e3 * took["cuda"],
        **{"ms an epoch": 1e3 * took["cuda"] / ours.n_iter_, "CPU / ours": took["cpu"] / took["cuda"],
           "difference of the loss": abs(ours.loss_ - cpu.loss_)},
    )  # fmt: skip


def _covering(results: Results, size: Sizes) -> None:
    """The picks that the student leads, and a tenth of them beside the CPU's of the same run."""
    x, covered = (random_rows(n, COLUMNS[0], seed) for seed, n in enumerate((size.candidates, CLASSES)))
    weights = np.random.default_rng(0).random(size.candidates, dtype=np.float32)

    def picked(backend: str, n_picks: int) -> tuple[np.ndarray, float]:
        start = time.perf_counter()
        on = choose_backend(backend)
        pool, known = (unit_rows(open_rows(of if backend == "cuda" else of.cpu(), "x"), on) for of in (x, covered))
        picks = greedy_coverage(
            pool, known, np.arange(size.candidates), n_picks,
            kernel=Kernel(), rng=np.random.default_rng(0), weights=weights, least=-1.0,
        )  # fmt: skip
        return picks, time.perf_counter() - start

    some = max(1, size.budget // 10)
    picked("cuda", 1)  # compiles
    (ours, took), (cpu, cpu_took), (_, whole) = picked("cuda", some), picked("cpu", some), picked("cuda", size.budget)
    results.add(
        what="greedy coverage", candidates=size.candidates, D=COLUMNS[0], picks=size.budget, ms=1e3 * whole,
        **{"CPU / ours": cpu_took / took, "other picks": int((ours != cpu).sum())},
    )  # fmt: skip


def more(results: Results, out: Path, *, small: bool) -> int:
    """Other shapes, as time allows: more columns, more classes, and a pool that is read from the host."""
    size = sizes(small=small)
    n_wrong = assignment(results, size, 1536, torch.bfloat16)
    n_wrong += score_of(results, size, 21_000, torch.bfloat16)
    _, v, classes = _pool(size.rows)
    repeats = max(1, size.streamed // size.rows)
    x, v = (rows.cpu().repeat(repeats, 1) for rows in (random_rows(size.rows, COLUMNS[0], 0), v))
    default: dict[str, Any] = {"max_epochs": _epochs(small=small)}
    _query(results, "default, rows on the host", x, v, classes, size, cf.CCMAConfig(**default), runs=1)
    return n_wrong
