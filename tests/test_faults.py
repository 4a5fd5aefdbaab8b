"""Faults injected into every writer and reader, see `fault_cells.py`: what was there stays, what is lost is told."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

for library in ("h5py", "pyarrow", "safetensors"):
    pytest.importorskip(library)


CELLS = Path(__file__).with_name("fault_cells.py")
# Writers and readers that need no PyTorch, whose import takes seconds.
WITHOUT_TORCH = (
    *("ActiveLearner.save", "Results.to_csv", "Results.to_parquet", "simulate"),
    *("select --out csv", "select --out json", "select --out npy"),
    *("npy", "hdf5", "hdf5 in chunks", "parquet", "arrow", "safetensors", "shard of a folder", "tar", "class names"),
    *("labels csv", "labels parquet", "image png", "image jpeg", "saved loop"),
)


def table(*arguments: str) -> list[tuple[str, str, dict[str, int]]]:
    """Writer or reader, fault, and how often it ended how."""
    temporary = os.environ.get("PYTEST_DEBUG_TEMPROOT") or tempfile.gettempdir()  # where everybody may read
    done = subprocess.run(
        [sys.executable, str(CELLS), *arguments],
        capture_output=True,
        text=True,
        timeout=1800,
        check=False,
        env={**os.environ, "TMPDIR": temporary},
    )
    assert done.returncode == 0, done.stderr
    return lines(done.stdout)


def lines(printed: str) -> list[tuple[str, str, dict[str, int]]]:
    return [tuple(json.loads(line)) for line in printed.splitlines()]


def check(found: list[tuple[str, str, dict[str, int]]]) -> None:
    for name, fault, results in found:
        print(f"| {name} | {fault} | {sum(results.values())} | {json.dumps(results)} |")
    assert len({name for name, *_ in found}) >= 17
    # Each way to end was met, so that faults did hit.
    assert {"done", "error", "killed", "right"} <= {result for *_, results in found for result in results}
    assert [cell for cell in found if any(result.startswith("FAILED") for result in cell[2])] == []


def test_faults(run_forked: Callable[..., str]) -> None:
    script = f"import runpy; runpy.run_path({str(CELLS)!r}, run_name='__main__')"
    of_extract = lines(run_forked(script, "extract"))
    assert len(of_extract) == 4
    check(table(*WITHOUT_TORCH) + of_extract)


@pytest.mark.slow
def test_faults_at_every_place() -> None:
    check(table("all"))
