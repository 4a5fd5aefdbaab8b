"""The teacher on the labelled rows: what is measured, against brute force, and when it warns."""

from __future__ import annotations

import math
import warnings
from pathlib import Path

import numpy as np
import pytest

import ccma_fast as cf
from ccma_fast import reference
from ccma_fast.cli import main

pytestmark = pytest.mark.processor

N, C, E = 400, 7, 24
RNG = np.random.default_rng(0)
TRUTH = RNG.integers(C, size=N)
T = RNG.standard_normal((C, E)).astype(np.float32)
V = (T[TRUTH] + 1.5 * RNG.standard_normal((N, E))).astype(np.float32)
LABELS = np.where(np.arange(N) % 3 == 0, TRUTH, -1)
KNOWN = np.flatnonzero(LABELS >= 0)


@pytest.mark.parametrize("temperature", [0.03, 0.5])
def test_against_brute_force(temperature: float) -> None:
    found = cf.Teacher(V, T, temperature).diagnose(LABELS)
    z = reference.unit_rows(V[KNOWN]) @ reference.unit_rows(T).T / temperature
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    y, rows = TRUTH[KNOWN], np.arange(KNOWN.size)
    order = np.argsort(-p, axis=1)
    assert found.n_rows == KNOWN.size
    assert found.top1 == (order[:, 0] == y).mean()
    assert found.top5 == (order[:, :5] == y[:, None]).any(axis=1).mean()
    assert (found.top1_low, found.top1_high) == cf.coverage_interval(int((order[:, 0] == y).sum()), y.size)
    assert found.log_loss == pytest.approx(-np.log(p[rows, y]).mean(), rel=1e-5)
    assert found.chance == pytest.approx(sum((order[:, 0] == c).mean() * (y == c).mean() for c in range(C)))
    for c in range(C):
        assert found.recall[c] == (order[y == c, 0] == c).mean()
    top = p.max(axis=1)
    error = 0.0
    for b in range(15):
        inside = (top >= b / 15) & (top < (b + 1) / 15 if b < 14 else True)
        if inside.any():
            error += inside.mean() * abs((order[inside, 0] == y[inside]).mean() - top[inside].mean())
    assert found.calibration_error == pytest.approx(error, abs=1e-4)
    # No other temperature is likelier.
    for factor in (0.98, 1.02):
        assert cf.Teacher(V, T, found.best_temperature * factor).diagnose(LABELS).log_loss > found.best_log_loss
    at_best = cf.Teacher(V, T, found.best_temperature).diagnose(LABELS)
    assert at_best.log_loss == pytest.approx(found.best_log_loss, rel=1e-5)
    assert at_best.best_temperature == pytest.approx(found.best_temperature, rel=1e-4)
    assert found.warnings == []


def test_labels_from_files_and_names_of_classes(tmp_path: Path) -> None:
    teacher = cf.Teacher(V, T)
    lines = ["index,label", *(f"{row},{LABELS[row]}" for row in KNOWN[::-1])]
    (tmp_path / "y.csv").write_text("\n".join(lines))
    assert teacher.diagnose(tmp_path / "y.csv").top1 == teacher.diagnose(LABELS).top1
    assert teacher.diagnose(LABELS).class_names == [str(c) for c in range(C)]


def test_ready_made_logits() -> None:
    z = 3 * reference.unit_rows(V) @ reference.unit_rows(T).T
    found, expected = cf.Teacher.from_logits(z, 0.09).diagnose(LABELS), cf.Teacher(V, T, 0.03).diagnose(LABELS)
    assert (found.top1, found.top5) == (expected.top1, expected.top5)
    assert found.best_temperature == pytest.approx(3 * expected.best_temperature, rel=1e-3)
    assert found.near_duplicates == []


def test_near_duplicates_are_found_at_any_number_of_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    t = np.random.default_rng(3).standard_normal((50, E)).astype(np.float32) + 3  # all on one side, as CLIP's are
    t[41] = 2 * t[7]
    t[3] = t[12] + 0.05
    v = np.repeat(t, 2, axis=0)
    for rows in (1024, 8):
        monkeypatch.setattr("ccma_fast.steps.zero_shot._PAIR_ROWS", rows)
        found = cf.Teacher(v, t).diagnose(np.arange(100) // 2)
        assert [pair[:2] for pair in found.near_duplicates] == [(7, 41), (3, 12)]
        assert found.near_duplicates[0][2] == pytest.approx(1.0, abs=1e-6)
    assert "7 (7), 41 (41): cosine 1.000" in str(found)
    v = np.repeat(np.eye(2, E), 50, axis=0)
    assert cf.Teacher(v, np.eye(2, E)).diagnose(np.repeat([0, 1], 50)).near_duplicates == []
    with pytest.warns(cf.TeacherWarning):
        assert len(cf.Teacher(v, np.ones((2, E))).diagnose(np.repeat([0, 1], 50)).near_duplicates) == 1


@pytest.mark.parametrize(
    "labels",
    [
        np.where(LABELS >= 0, (LABELS + 1) % C, -1),  # classes in another order
        np.where(LABELS >= 0, RNG.integers(C, size=N), -1),  # other images
        np.where(np.arange(N) < 3, (TRUTH + 1) % C, -1),  # too few to tell
    ],
    ids=["shifted", "random", "few"],
)
@pytest.mark.filterwarnings("default")
def test_a_teacher_no_better_than_chance_is_called_so(labels: np.ndarray) -> None:
    with pytest.warns(cf.TeacherWarning, match="no better than chance") as caught:
        found = cf.Teacher(V, T).diagnose(labels)
    assert "\n".join(found.warnings) == str(caught[0].message)
    assert f"of the {found.n_rows} labelled rows" in found.warnings[0]
    assert caught[0].filename == __file__


@pytest.mark.filterwarnings("ignore::ccma_fast.TeacherWarning")
def test_a_teacher_that_says_one_class_is_no_better_than_chance_however_often_that_is_right() -> None:
    z = np.tile([3.0, 0.0, 0.0], (100, 1))
    found = cf.Teacher.from_logits(z).diagnose(np.repeat([0, 1, 2], [90, 5, 5]))
    assert (found.top1, found.chance) == (0.9, 0.9)
    assert [text[:20] for text in found.warnings] == ["the teacher is right"]
    assert found.recall.tolist() == [1.0, 0.0, 0.0]
    constant = cf.Teacher.from_logits(np.zeros((100, 3))).diagnose(np.repeat([0, 1, 2], [90, 5, 5]))
    assert (constant.top1, constant.best_temperature) == (0.0, math.inf)  # ties are no hits
    assert constant.best_log_loss == pytest.approx(math.log(3))


def test_edges() -> None:
    z = 5 * np.eye(3)[[0, 1, 2, 0]]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", cf.TeacherWarning)
        perfect = cf.Teacher.from_logits(z).diagnose([0, 1, -1, 0])
        wrong = cf.Teacher.from_logits(z).diagnose([1, 2, -1, 1])
    assert (perfect.top1, perfect.best_temperature) == (1.0, 1e-6)
    assert perfect.best_log_loss == pytest.approx(0.0, abs=1e-9)
    assert np.isnan(perfect.recall[2])
    assert (wrong.top1, wrong.best_temperature) == (0.0, math.inf)
    with pytest.raises(ValueError, match="labels must be known for at least one row, got none"):
        cf.Teacher.from_logits(z).diagnose([-1] * 4)
    with pytest.raises(ValueError, match=r"labels must be -1 .* or a class from 0 to 2, got 3 at row 1"):
        cf.Teacher.from_logits(z).diagnose([-1, 3, -1, 0])
    with pytest.raises(ValueError, match="teacher_logits must be finite, got NaN or infinity at row 3"):
        cf.Teacher.from_logits(np.array([[0, 1], [1, 0], [0, 1], [np.nan, 1]])).diagnose([0, -1, 1, 0])


def test_the_program_says_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, array in {"x": V[:, :5], "v": V, "t": T, "y": LABELS, "bad": (LABELS + 1) % C}.items():
        np.save(f"{name}.npy", array)
    np.save("bad.npy", np.where(LABELS >= 0, (LABELS + 1) % C, -1))
    command = ["select", "--features", "x.npy", "--teacher-images", "v.npy", "--teacher-classes", "t.npy"]
    command += ["--budget", "3", "--out", "picks.csv", "--labels"]
    assert main([*command, "y.npy"]) == 0
    err = capsys.readouterr().err
    assert "the teacher on the labelled rows:\ntop-1 " in err
    assert "warning" not in err
    assert main([*command, "bad.npy"]) == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: the teacher is right")]
    assert len(lines) == 1
