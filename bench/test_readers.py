"""Readers: rows in order, and a few rows from anywhere, beside NumPy on the same bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from ccma_fast.pool.open import open_rows

from . import data, formats, peers

N, D, N_TAKEN = data.scale(100_000), 768, data.scale(2_000)


@pytest.fixture(scope="module", params=formats.FORMATS)
def stored(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[formats.Stored]:
    """The same rows in one of the formats."""
    folder = tmp_path_factory.mktemp("rows")
    if not formats.is_installed(request.param):
        pytest.skip(f"{request.param}: its library is not installed")
    yield formats.store(request.param, folder, N, D)
    formats.remove(folder)


@pytest.mark.parametrize("contender", ["ccma_fast", "NumPy"])
def test_in_order(
    measure: Callable[..., Any], record: Callable, benchmark: BenchmarkFixture, stored: formats.Stored, contender: str
) -> None:
    """Every row into memory, chunk by chunk; NumPy's contender reads the same bytes and makes no rows of them."""
    buffer = np.empty(open_rows(np.empty((0, D), np.float16), "x").chunk_rows() * D, np.float16)

    def ours() -> None:
        for _, chunk in open_rows(stored.source, "features").chunks():
            buffer[: chunk.size] = chunk.ravel()

    def theirs() -> None:
        for file in stored.files:
            with open(file, "rb") as handle:
                while np.fromfile(handle, np.uint8, buffer.nbytes).size:
                    pass

    run = peers.Contender(ours, "") if contender == "ccma_fast" else peers.Contender(theirs, "np.fromfile")
    shape = {"format": stored.name, "N": stored.n_rows, "D": D}
    measure("Rows in order", contender, run, shape=shape, dtype="float16")
    if benchmark.stats is not None:
        record(
            {
                "rows/s [million]": stored.n_rows / benchmark.stats.stats.median / 1e6,
                "file [MB]": sum(Path(file).stat().st_size for file in stored.files) / 1e6,
            }
        )


@pytest.mark.parametrize("contender", ["ccma_fast", "NumPy"])
def test_from_anywhere(
    measure: Callable[..., Any], record: Callable, benchmark: BenchmarkFixture, stored: formats.Stored, contender: str
) -> None:
    """As many rows as have labels, in ascending order; NumPy's contender takes them from a mapped ``.npy`` file."""
    indices = np.sort(np.random.default_rng(1).choice(stored.n_rows, N_TAKEN, replace=False))

    def ours() -> None:
        open_rows(stored.source, "features").take(indices)

    def theirs() -> None:
        np.load(stored.plain, mmap_mode="r")[indices]

    run = peers.Contender(ours, "") if contender == "ccma_fast" else peers.Contender(theirs, "np.memmap")
    shape = {"format": stored.name, "N": stored.n_rows, "D": D, "rows": N_TAKEN}
    measure("Rows from anywhere", contender, run, shape=shape, dtype="float16")
    if benchmark.stats is not None:
        record({"rows/s [million]": N_TAKEN / benchmark.stats.stats.median / 1e6})
