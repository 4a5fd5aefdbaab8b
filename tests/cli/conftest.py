"""What the tests of the command line share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

N, D, E, C = 240, 8, 6, 3


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, np.ndarray[Any, Any]]:
    """Inputs of every kind as `<name>.npy` in the current directory, and as arrays."""
    rng = np.random.default_rng(0)
    truth = rng.integers(C, size=N)
    y = np.where(np.arange(N) < 30, truth, -1)
    arrays = {
        "x": (rng.standard_normal((N, D)) + 2 * np.eye(C, D)[truth]).astype(np.float32),
        "y": y,
        "v": (rng.standard_normal((N, E)) + 2 * np.eye(C, E)[truth]).astype(np.float32),
        "t": np.eye(C, E, dtype=np.float32),
        "z": rng.standard_normal((N, C)).astype(np.float32),
        # Knows more than the student: with labels to judge it by, it is trusted with some of the picks.
        "zt": (rng.standard_normal((N, C)) + 2 * np.eye(C)[truth]).astype(np.float32),
    }
    monkeypatch.chdir(tmp_path)
    for name, array in arrays.items():
        np.save(f"{name}.npy", array)
    return arrays
