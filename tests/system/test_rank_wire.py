"""Collectives of one rank on the device that is here: over NCCL where there is a GPU, else over gloo."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist

import ccma_fast as cf
from ccma_fast.backends.cuda.device import device
from ccma_fast.system.rank_wire import CHUNK_BYTES, Wire


@pytest.fixture
def wire(tmp_path: Path) -> Iterator[Wire]:
    wire = Wire.connected(device(), dist.FileStore(str(tmp_path / "store"), 1), 0, 1, 60.0)
    yield wire
    wire.close()


def test_a_broadcast_leaves_what_the_first_rank_sends(wire: Wire) -> None:
    data = np.random.default_rng(0).integers(0, 256, 2 * CHUNK_BYTES + 5).astype(np.uint8)
    sent = data.copy()
    wire.broadcast([memoryview(sent), memoryview(b"some")])
    np.testing.assert_array_equal(sent, data)
    assert (wire.sent, wire.received) == (0, 0)


def test_a_sum_of_one_is_that(wire: Wire) -> None:
    data = np.random.default_rng(0).integers(-(2**62), 2**62, 600_001)
    out = np.empty_like(data)
    wire.total(data, out)
    np.testing.assert_array_equal(out, data)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_query_in_a_group_of_one(has_gpu: bool, tmp_path: Path) -> None:
    dist.init_process_group(
        "nccl" if has_gpu else "gloo",
        init_method=f"file://{tmp_path / 'group'}",
        rank=0,
        world_size=1,
        timeout=timedelta(seconds=60),
    )
    try:
        rows = torch.from_numpy(np.random.default_rng(0).standard_normal((16, 4), dtype=np.float32)).to(device())
        expected = cf.select(rows, 2, backend="cuda")
        found = cf.select(rows, 2, backend="cuda", group=dist.group.WORLD)
        np.testing.assert_array_equal(found.indices, expected.indices)
        np.testing.assert_array_equal(found.represents, expected.represents)
    finally:
        dist.destroy_process_group()
