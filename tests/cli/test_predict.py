"""The program `ccma-fast predict`: the files say what Python says, and are written whole or not at all."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ccma_fast as cf
from ccma_fast.cli import main

N, NAMES = 500, ["ant", "bee", "cow"]
POOL = ("--features", "x.npy", "--labels", "y.npy", "--teacher-logits", "z.npy", "--class-names", "names.txt")


def predict(*arguments: str) -> int:
    return main(["predict", *arguments])


def rows_of(file: str) -> list[dict[str, str]]:
    with open(file, newline="") as handle:
        return list(csv.DictReader(handle))


@pytest.fixture
def learner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    y = rng.integers(3, size=N)
    x = rng.standard_normal((N, 8), dtype=np.float32) + 2 * np.eye(3, 8, dtype=np.float32)[y]
    z = (2 * np.eye(3)[y] + rng.standard_normal((N, 3))).astype(np.float32)
    labels = np.where(np.arange(N) < 60, y, -1)
    np.save("x.npy", x)
    np.save("y.npy", labels)
    np.save("z.npy", z)
    Path("names.txt").write_text("\n".join(NAMES))
    return cf.ActiveLearner(x, labels=labels, teacher=cf.Teacher.from_logits(z), class_names=NAMES)


def test_files_hold_what_python_gives(learner: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert predict(*POOL, "--out", "p.npy", "--label-errors", "errors.csv") == 0
    assert "500 rows predicted by student and teacher, 60 labels -> p.npy" in capsys.readouterr().err
    p = np.load("p.npy")
    np.testing.assert_array_equal(p, learner.predict_proba())
    found, errors = learner.label_errors(), rows_of("errors.csv")
    assert [int(row["index"]) for row in errors] == found.indices.tolist()
    assert [int(row["suggested"]) for row in errors] == found.suggested.tolist()

    assert predict(*POOL, "--out", "student.npy", "--student-only") == 0
    assert "by the student, 60" in capsys.readouterr().err
    np.testing.assert_array_equal(np.load("student.npy"), learner.predict_proba(np.load("x.npy")))

    assert predict(*POOL, "--out", "p.csv", "-q") == 0
    table = rows_of("p.csv")
    assert list(table[0]) == ["index", "label", "name", "confidence", "margin"]
    assert [int(row["index"]) for row in table] == list(range(N))
    assert [row["name"] for row in table] == [NAMES[c] for c in p.argmax(axis=1)]
    np.testing.assert_array_equal([np.float32(row["confidence"]) for row in table], p.max(axis=1))

    assert main(["autolabel", "--probabilities", "p.npy", "--labels", "y.npy", "--max-error", "0.1"]) == 0


@pytest.mark.parametrize("n_labels", [0, 3])
def test_the_teacher_predicts_alone_until_there_are_labels_of_two_classes(
    learner: Any, capsys: pytest.CaptureFixture[str], n_labels: int
) -> None:
    labels = np.where(np.arange(N) < n_labels, 1, -1)
    np.save("y.npy", labels)
    z = np.load("z.npy")
    python = cf.ActiveLearner(np.load("x.npy"), labels=labels, teacher=cf.Teacher.from_logits(z), class_names=NAMES)
    assert predict(*POOL, "--out", "p.npy") == 0
    assert f"500 rows predicted by the teacher, {n_labels} labels -> p.npy" in capsys.readouterr().err
    p = np.load("p.npy")
    np.testing.assert_array_equal(p, python.predict_proba())
    e = np.exp(z.astype(np.float64))
    np.testing.assert_allclose(p, e / e.sum(axis=1, keepdims=True), rtol=1e-5)


@pytest.mark.parametrize("out", ["p.npy", "p.csv"])
def test_a_pool_that_fails_while_files_are_written_leaves_none(
    learner: Any, monkeypatch: pytest.MonkeyPatch, out: str
) -> None:
    def fails(z: Any) -> Any:
        raise OSError("no such page")

    monkeypatch.setattr("ccma_fast.steps.student.softmax", fails)
    assert predict(*POOL, "--out", out, "--label-errors", "errors.csv") == 2
    assert sorted(file.name for file in Path().iterdir()) == ["names.txt", "x.npy", "y.npy", "z.npy"]


def test_nothing_is_replaced_or_half_written(learner: Any, capsys: pytest.CaptureFixture[str]) -> None:
    before = Path("x.npy").read_bytes()
    for out, text in [("x.npy", "is also --features"), ("p.txt", "must end in"), ("no/p.csv", "no directory")]:
        assert predict(*POOL, "--out", out) == 2
        assert text in capsys.readouterr().err
    assert Path("x.npy").read_bytes() == before
    for errors, text in [
        ("e.npy", "--label-errors must end in .csv, got 'e.npy'"),
        ("no/e.csv", "no directory"),
        ("p.csv", "--label-errors must be another file"),
    ]:
        assert predict(*POOL, "--out", "p.csv", "--label-errors", errors) == 2
        assert text in capsys.readouterr().err
        assert not Path("p.csv").exists()
    Path("p.csv").write_text("mine")
    assert predict(*POOL, "--out", "p.csv") == 2
    assert Path("p.csv").read_text() == "mine"
    assert predict(*POOL, "--out", "p.csv", "--overwrite") == 0
    np.save("y.npy", np.where(np.arange(N) < 3, 1, -1))
    for options in (("--student-only",), ("--label-errors", "e.csv")):
        assert predict(*POOL, "--out", "p.npy", *options) == 2
        assert "at least two classes" in capsys.readouterr().err
    assert sorted(file.name for file in Path().iterdir()) == ["names.txt", "p.csv", "x.npy", "y.npy", "z.npy"]
