"""A query on a pool in files, from ten thousand to a million rows, in a process of its own that tells its peak memory.

The pool (class structure, power-law spectrum, float16) is made once, in the folder that ``CCMA_BENCH_CACHE`` names, or
in a temporary one; with the shards a million rows take 7.2 GB. The student is trained as part of the query. Every
query runs once untimed before, so that the pages are in the system's cache.
"""

from __future__ import annotations

import multiprocessing
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

import ccma_fast as cf

from . import data, marks, peers

N_ROWS, D_STUDENT, D_TEACHER, N_CLASSES, N_LABELLED, BUDGET = 1_000_000, 768, 1_024, 1_000, 2_000, 1_000

CONFIGS = {"default": cf.CCMAConfig(), "published score": peers.PUBLISHED_SCORE}

# Rows, configuration, files, rows per chunk and threads: how it grows, and what must not change the picks.
CASES = [
    *((n, "default", "one", None, n_threads) for n in (10_000, 100_000, N_ROWS) for n_threads in (2, 1)),
    (N_ROWS, "published score", "one", None, 2),
    *((N_ROWS, "default", "one", chunk_size, 2) for chunk_size in (4_096, 65_536)),
    (N_ROWS, "default", "ten shards", None, 2),
]


class Answer(NamedTuple):
    """What the process says of a query."""

    indices: np.ndarray
    report: cf.Report
    peak_bytes: int


def query(folder: Path, n_rows: int, config: str, files: str, chunk_size: int | None, n_threads: int) -> Answer:
    """A query on the first rows of a pool on disk; runs in the other process."""
    cf.set_num_threads(n_threads)
    suffix = ".npy" if files == "one" else ""
    x, v = (folder / f"{name}{suffix}" for name in ("features", "image_features"))
    truth = np.load(folder / "truth.npy")
    if n_rows < truth.size:
        x, v, truth = np.load(x, mmap_mode="r")[:n_rows], np.load(v, mmap_mode="r")[:n_rows], truth[:n_rows]
    picks = cf.select(
        x,
        BUDGET,
        labels=data.partly_labelled(truth, N_LABELLED),
        teacher=cf.Teacher(v, folder / "class_features.npy"),
        config=CONFIGS[config],
        chunk_size=chunk_size,
    )
    peak = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
    assert peak is not None, "Linux has it"
    return Answer(picks.indices, picks.report, 1024 * int(peak[1]))


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """The pool's."""
    with tempfile.TemporaryDirectory() as temporary:
        cache = Path(os.environ.get("CCMA_BENCH_CACHE", temporary))
        pool = cache / f"{N_ROWS}x{D_STUDENT}+{D_TEACHER}"
        data.write_pool(pool, N_ROWS, D_STUDENT, D_TEACHER, N_CLASSES)
        for name in ("features", "image_features"):
            data.write_shards(pool / f"{name}.npy", 10)
        yield pool


@pytest.fixture(scope="module")
def picks() -> dict[tuple[int, str], np.ndarray]:
    """The first picks for each number of rows and configuration."""
    return {}


@pytest.mark.slow
@pytest.mark.parametrize(("n_rows", "config", "files", "chunk_size", "n_threads"), CASES)
def test_files(
    measure: Callable[..., Answer],
    record: Callable,
    record_reports: Callable,
    monkeypatch: pytest.MonkeyPatch,
    folder: Path,
    picks: dict[tuple[int, str], np.ndarray],
    n_rows: int,
    config: str,
    files: str,
    chunk_size: int | None,
    n_threads: int,
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path, str(Path(__file__).parents[1])])  # where the other process finds this
    arguments = folder, n_rows, config, files, chunk_size, n_threads
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        reports: list[cf.Report] = []

        def run() -> Answer:
            answer = process.submit(query, *arguments).result()
            reports.append(answer.report)
            return answer

        run()
        reports.clear()
        chunks = "" if chunk_size is None else f", chunks of {chunk_size}"
        answer = measure(
            marks.FILES,
            peers.OURS,
            peers.Contender(run, ""),
            shape={"N": n_rows, "config": config, "files": files + chunks, "threads": n_threads},
            dtype="float16",
            warm_up=False,
            rounds=3 if (files, chunk_size) == ("one", None) else 1,  # the others are there for their picks
            n_threads=n_threads,
        )
    first = picks.setdefault((n_rows, config), answer.indices)
    same = np.array_equal(answer.indices, first)
    report, plan = answer.report, answer.report.plan
    assert plan is not None, "a query has one"
    record(
        {
            marks.PEAK: answer.peak_bytes / 1e9,
            marks.PICKS: 100.0 * float((answer.indices == first).mean()),
            "peak of the query [GB]": report.peak_memory / 1e9,
            "as planned [GB]": plan.peak_memory / 1e9,
            "read [GB]": report.bytes_read / 1e9,
            "read as planned [GB]": plan.bytes_read / 1e9,
        }
    )
    record_reports(reports)
    assert same, "the picks depend on how the pool lies in files, on chunks or on threads"
