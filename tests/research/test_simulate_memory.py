"""The memory of a simulation: its limit, the shares of the jobs, and that no result depends on it."""

from __future__ import annotations

import re

import numpy as np
import pytest

import ccma_fast as cf
from ccma_fast.cli import main
from ccma_fast.system import memory
from ccma_fast.system.memory import Memory

N, M, D, C = 300, 90, 6, 4


class Products:
    """A student of one's own: products with the classes' mean rows."""

    def fit(self, x, y):
        self.classes_ = np.unique(y)
        self.means = np.array([x[y == c].mean(axis=0) for c in self.classes_], np.float32)
        return self

    def predict_proba(self, x):
        p = np.exp(x @ self.means.T)
        return p / p.sum(axis=1, keepdims=True)


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(5)
    y = rng.integers(C, size=N + M)
    x = rng.standard_normal((N + M, D), dtype=np.float32) + 2 * np.eye(C, D, dtype=np.float32)[y]
    return {"features": x[:N], "labels": y[:N], "test_features": x[N:], "test_labels": y[N:]}


def simulated(data, **changes):
    settings = {"strategies": ["random"], "seeds": [3], "rounds": 2, "config": cf.CCMAConfig(max_epochs=5)}
    return cf.simulate(**data, progress=False, **{**settings, **changes})


@pytest.mark.parametrize("student", [None, Products()], ids=["head", "own"])
def test_no_result_depends_on_the_limit(data, monkeypatch, student):
    """A limit under which nothing is kept between two readings, and test posteriors have one column at a time."""
    monkeypatch.setattr(memory, "LEAST_LIMIT", 1)
    names = [name for name in cf.strategies.names() if student is None or name in ("ccma", "entropy", "coreset")]
    settings = {
        "rounds": 1,
        "strategies": [*names, "ccma:paper,subpool_size=50", "ccma:acquisition=delta,start=centroid"],
        "teacher": cf.Teacher(data["features"], np.eye(C, D), temperature=0.1),
        "student": student,
    }
    roomy, tight = (simulated(data, memory_limit=limit, **settings) for limit in ("2GB", 800))
    for name in roomy.columns:
        np.testing.assert_array_equal(roomy.columns[name], tight.columns[name], err_msg=name)
    for name in roomy.picks:
        np.testing.assert_array_equal(roomy.picks[name], tight.picks[name], err_msg=name)


def test_chunks_are_the_same_under_every_limit():
    """By their size a student's products may be rounded."""
    chunks = {Memory(limit, has_fixed_chunks=True).chunk_rows([D, 50_000]) for limit in (10**6, 512 * 10**6, 10**12)}
    assert chunks == {None}


def test_strategies_are_told_what_is_left(data):
    seen = []

    def spy(state):
        seen.append(state.memory_limit)
        return state.unlabelled[: state.budget]

    simulated(data, strategies={"spy": spy}, memory_limit=800_000_000)
    assert set(seen) == {700_000_000}


@pytest.mark.parametrize(
    ("limit", "message"),
    [
        ("1MB", "memory_limit must be at least 512000000, got 1000000"),
        ("600MB", "memory_limit must be at least 1024000000 for 2 jobs, 512000000 each, got 600000000"),
        ("much", "memory_limit must be bytes or text such as '4GB' or '500MiB', got 'much'"),
    ],
)
def test_limits_that_cannot_be_kept(data, tmp_path, limit, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        simulated(data, seeds=[1, 2], jobs=2, memory_limit=limit, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_command_line_has_the_limit(data, tmp_path, capsys):
    for name, values in data.items():
        np.save(tmp_path / f"{name}.npy", values)
    command = ["simulate", "--strategies", "random", "--rounds", "1", "--quiet", "--seeds", "1", "2"]
    for name in data:
        command += [f"--{name.replace('_', '-')}", str(tmp_path / f"{name}.npy")]
    main([*command, "--memory-limit", "512MB"])
    assert "random" in capsys.readouterr().out
    assert main([*command, "--memory-limit", "600MB", "--jobs", "2"]) != 0
    assert "at least 1024000000 for 2 jobs" in capsys.readouterr().err
