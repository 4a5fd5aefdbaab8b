"""Kernels compiled ahead for a card that is not there are those that a launch on one would ask for."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

RECORD = """
from bench.gpu.launches import prepare
prepare()
import torch
from ccma_fast.kernels.linear import row_lengths
row_lengths(torch.ones(3, 8))
row_lengths(torch.ones(5, 16))
row_lengths(torch.ones(3, 9)[:, 1:])
"""
COMPILE = """
import os, sys
from pathlib import Path
from bench.gpu.launches import read
from bench.gpu.warm import compile_all, pack
print(*compile_all(read(Path(os.environ["CCMA_BENCH_LAUNCHES"]))))
pack(Path(os.environ["TRITON_CACHE_DIR"]), Path(sys.argv[1]))
"""
LAUNCH = """
import os, sys
from pathlib import Path
os.environ["TRITON_CACHE_DIR"] = sys.argv[2]
from bench.gpu.warm import fake_card, unpack
unpack(Path(sys.argv[1]), Path(sys.argv[2]))
import torch
from bench.gpu.launches import prepare
prepare()  # as on a card, and not as for the interpreter
from ccma_fast.kernels.linear import row_lengths
with fake_card() as counts:
    for n in (2, 700):
        row_lengths(torch.ones(n, 8))
        row_lengths(torch.ones(n, 17)[:, 1:])
        row_lengths(torch.ones(n, 12))
    print(counts.compiled, counts.found)
"""


@pytest.fixture
def of_bench(tmp_path, run_forked):
    """Runs a script in a process that has imported PyTorch, and not Triton, and finds the benchmarks."""
    (tmp_path / "bench").symlink_to(ROOT / "bench")
    given = {"CCMA_BENCH_LAUNCHES": tmp_path / "launches.jsonl", "TRITON_CACHE_DIR": tmp_path / "cache"}

    def run(script, *arguments, interpret):
        variables = {name: str(value) for name, value in given.items()} | {"TRITON_INTERPRET": interpret}
        head = f"import os, sys\nassert 'triton' not in sys.modules\nos.environ.update({variables})\n"
        return run_forked(f"{head}sys.path.insert(0, {str(tmp_path)!r})\n{script}", *arguments)

    return run


def test_a_launch_finds_what_was_compiled_ahead_in_another_place(of_bench, tmp_path):
    of_bench(RECORD, interpret="1")
    archive, moved = str(tmp_path / "cache.tar.xz"), str(tmp_path / "moved")
    compiled, found, *failed = of_bench(COMPILE, archive, interpret="1").split()
    assert (int(found), failed) == (0, ["[]"])
    assert int(compiled) == 3  # aligned rows, and those that begin within others, there and at 16 bytes
    (tmp_path / "cache").rename(tmp_path / "gone")
    compiled, found = map(int, of_bench(LAUNCH, archive, moved, interpret="0").split())
    assert (compiled, found) == (1, 2)  # no one knew of 12 columns
