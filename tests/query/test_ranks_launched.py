"""A query on ranks as users start them: by torchrun, and in a process group that another library has made."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
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


# Two commands, one after the other: most of the time of each would be the start of its processes.
TWICE = """
import sys
from ccma_fast.cli import main
*choose, broken = sys.argv[1:]
if code := main([*choose, "--out", "two.csv"]):
    sys.exit(code)
choose[choose.index("--features") + 1] = broken
sys.exit(main([*choose, "--out", "picks.csv"]))
"""


def test_torchrun_writes_what_one_process_writes_and_nothing_after_nan_on_another_rank(pool: Path) -> None:
    cf.select("pool", 20, labels="y.npy").to_csv("one.csv")
    shutil.copytree("pool", "broken")
    last = np.load("broken/part-2.npy")
    last[300, 3] = np.nan
    np.save("broken/part-2.npy", last)
    Path("twice.py").write_text(TWICE, "utf-8")
    before = {path.name for path in pool.iterdir()}
    found = on_two_ranks("twice.py", *_CHOOSE, "broken")
    assert Path("two.csv").read_bytes() == Path("one.csv").read_bytes(), found.stderr
    assert found.stderr.count("20 picks -> two.csv") == 1  # the first rank tells it alone
    assert found.returncode != 0
    told = r"error: rank 1 on host \S+: ValueError: .*row 485 \(row 300 of 'broken/part-2.npy'\)"
    assert re.search(told, found.stderr)
    assert {path.name for path in pool.iterdir()} == before | {"two.csv", "two.selection.json"}


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
