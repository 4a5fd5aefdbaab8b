"""The seconds of a stage are those of its own work: libraries are loaded before the first stage of a process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import sys
import numpy as np
import ccma_fast as cf

fit_rows = cf.LinearHead.fit_rows

def watched(self, rows, y, backend=None):
    assert "torch" in sys.modules, "PyTorch is imported while the fit is timed"
    return fit_rows(self, rows, y, backend)

cf.LinearHead.fit_rows = watched

if __name__ == "__main__":
    assert "torch" not in sys.modules
    rng = np.random.default_rng(0)
    y = np.arange(60) % 2
    x = rng.standard_normal((60, 4), dtype=np.float32) + 3 * y[:, None].astype(np.float32)
    student = cf.LinearHead() if sys.argv[2] == "given" else None
    strategies = ["random", "margins"] if student else ["margins:head=published", "random:head=published"]
    cf.simulate(
        x[:40], y[:40], test_features=x[40:], test_labels=y[40:], strategies=strategies, seeds=[1], rounds=1,
        student=student, jobs=int(sys.argv[1]), backend="reference", progress=False,
    )
    print("torch" in sys.modules)
"""


@pytest.mark.parametrize(
    ("jobs", "student"),
    [
        (1, "given"),
        *(pytest.param(jobs, "configured", marks=pytest.mark.slow) for jobs in (1, 2)),  # seconds for each process
    ],
)
def test_pytorch_is_imported_before_the_first_fit_is_timed(tmp_path: Path, jobs: int, student: str) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    done = subprocess.run([sys.executable, str(script), str(jobs), student], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(jobs == 1)  # workers import what they need, each for itself


def test_pytorch_is_not_imported_for_students_that_need_none(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.replace(":head=published", ""))
    done = subprocess.run([sys.executable, str(script), "1", "configured"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "False"
