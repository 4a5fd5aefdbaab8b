"""A query on ranks as users start them: by torchrun, and in a process group that another library has made."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import ccma_fast as cf

_GUIDE = Path(__file__).resolve().parents[2] / "docs" / "guide" / "several-machines.md"
_CHOOSE = ("select", "--features", "pool", "--labels", "y.npy", "--budget", "20")
_SECONDS = 300.0


@pytest.fixture
def pool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Uneven shards and labels, in the current folder."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    classes = rng.integers(0, 4, 500)
    rows = (rng.standard_normal((500, 16)) + 2 * np.eye(4, 16)[classes]).astype(np.float16)
    (tmp_path / "pool").mkdir()
    for part, (start, stop) in enumerate([(0, 180), (180, 185), (185, 500)]):
        np.save(tmp_path / "pool" / f"part-{part}.npy", rows[start:stop])
    labels = np.full(500, -1)
    labels[:300:10] = classes[:300:10]
    np.save(tmp_path / "y.npy", labels)
    return tmp_path


def run(*words: str, launcher: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """A command of Python in the current folder, which finds the package where this process has it."""
    places = [str(Path(cf.__file__).parent.parent), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, places))}
    return subprocess.run(
        [sys.executable, *launcher, *words],
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        env=environment,
        check=False,
    )


def on_two_ranks(*words: str) -> subprocess.CompletedProcess[str]:
    return run(*words, launcher=("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"))


def script(name: str) -> str:
    """A script of the guide, by the name in its first line."""
    found = re.search(rf"^```python\n(# {name}\n.*?)^```$", _GUIDE.read_text("utf-8"), re.M | re.S)
    assert found, f"the guide has no script {name}"
    return found[1]


def assert_chosen(told: str) -> None:
    """Two ranks have written what one process writes; the first rank tells it alone."""
    cf.select("pool", 20, labels="y.npy").to_csv("one.csv")
    assert Path("two.csv").read_bytes() == Path("one.csv").read_bytes()
    assert told.count("20 picks -> two.csv") == 1


def damage() -> None:
    """A row of the second rank gets a NaN."""
    broken = np.load("pool/part-2.npy")
    broken[300, 3] = np.nan
    np.save("pool/part-2.npy", broken)


_DAMAGED = r"error: rank 1 on host \S+: ValueError: .*row 485 \(row 300 of 'pool/part-2.npy'\)"

# What torchrun does, from a process that has imported PyTorch: most of the time of torchrun is that of three imports.
LAUNCH = """
import json, os, socket, sys
folder, *words = sys.argv[1:]
os.chdir(folder)
from ccma_fast.cli import main
with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
children = []
for rank in range(2):
    if (child := os.fork()) == 0:
        of_rank = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        os.environ.update({name: str(value) for name, value in of_rank.items()})
        os.dup2(os.open(f"told-{rank}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
        code = 1
        try:
            code = main(words)
        finally:
            sys.stderr.flush()
            os._exit(code or 0)
    children.append(child)
print(json.dumps([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]))
"""


def test_two_ranks_write_what_one_process_writes_and_nothing_where_one_finds_nan(
    pool: Path, run_forked: Callable[..., str]
) -> None:
    def launched(*words: str) -> tuple[list[int], str]:
        codes = json.loads(run_forked(LAUNCH, str(pool), *words))
        return codes, "".join(Path(f"told-{rank}").read_text("utf-8") for rank in range(2))

    codes, told = launched(*_CHOOSE, "--out", "two.csv")
    assert codes == [0, 0], told
    assert_chosen(told)
    damage()
    before = {path.name for path in pool.iterdir()}
    codes, told = launched(*_CHOOSE, "--out", "picks.csv")
    assert 0 not in codes, told
    assert re.search(_DAMAGED, told)
    assert {path.name for path in pool.iterdir()} == before


@pytest.mark.slow
def test_torchrun_writes_what_one_process_writes(pool: Path) -> None:
    two = on_two_ranks("-m", "ccma_fast", *_CHOOSE, "--out", "two.csv")
    assert two.returncode == 0, two.stderr
    assert_chosen(two.stderr)


@pytest.mark.slow
def test_nan_on_another_rank_ends_all_and_writes_nothing(pool: Path) -> None:
    damage()
    found = on_two_ranks("-m", "ccma_fast", *_CHOOSE, "--out", "picks.csv")
    assert found.returncode != 0
    assert re.search(_DAMAGED, found.stderr)
    assert {path.name for path in pool.iterdir()} == {"pool", "y.npy"}


@pytest.mark.slow
@pytest.mark.skipif(not _GUIDE.exists(), reason="the tests are unpacked without the documentation")
@pytest.mark.parametrize(
    ("name", "library"), [("by_torch.py", "torch"), ("by_ray.py", "ray.train"), ("by_fabric.py", "lightning_fabric")]
)
def test_scripts_of_the_guide_choose_what_one_process_chooses(name: str, library: str, pool: Path) -> None:
    pytest.importorskip(library)
    Path(name).write_text(script(name), "utf-8")
    found = on_two_ranks(name) if name == "by_torch.py" else run(name)
    assert found.returncode == 0, found.stderr
    cf.select("pool", 20, labels="y.npy").to_csv("one.csv")
    assert Path("picks.csv").read_bytes() == Path("one.csv").read_bytes()
