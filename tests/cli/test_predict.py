"""The program `ccma-fast predict`: the files say what Python says, and are written whole or not at all."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ccma_fast as cf
from ccma_fast.cli import main
from ccma_fast.steps import student

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

    assert predict(*POOL, "--out", "all.csv", "--probabilities", "-q") == 0
    assert predict(*POOL[:6], "--out", "numbers.csv", "--probabilities", "-q") == 0
    for file, before, columns in (
        ("all.csv", table, [f"p_{name}" for name in NAMES]),
        ("numbers.csv", [{k: v for k, v in row.items() if k != "name"} for row in table], ["p_0", "p_1", "p_2"]),
    ):
        rows = rows_of(file)
        assert list(rows[0]) == [*before[0], *columns]
        assert [{name: row[name] for name in before[0]} for row in rows] == before
        np.testing.assert_array_equal([[np.float32(row[name]) for name in columns] for row in rows], p)

    assert main(["autolabel", "--probabilities", "p.npy", "--labels", "y.npy", "--max-error", "0.1"]) == 0


def test_parquet_has_the_same_and_the_ids_and_tells_autolabel(
    learner: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    ids = [f"{row}.png" for row in range(N)]
    features = ("--features", "x.parquet", *POOL[2:])
    parquet.write_table(pyarrow.table({"image_path": ids, "x": list(np.load("x.npy"))}), "x.parquet")
    assert predict(*features, "--out", "p.csv", "-q") == 0
    monkeypatch.setattr("ccma_fast.pool.rows._CHUNK_BYTES", 4 * 8 * 120)  # 120 rows of 8 columns
    assert predict(*features, "--out", "p.parquet", "-q") == 0
    assert predict(*features, "--out", "all.parquet", "-q", "--probabilities") == 0

    table, p = rows_of("p.csv"), learner.predict_proba()
    found = parquet.read_table("p.parquet")
    assert found.schema.names == ["index", "image_path", "label", "name", "confidence", "margin"]
    kinds = ["int64", "string", "int64", "string", "float", "float"]
    assert [str(kind) for kind in found.schema.types] == kinds
    assert parquet.ParquetFile("p.parquet").num_row_groups == 5
    for name, kind in zip(found.schema.names, [int, str, int, str, np.float32, np.float32], strict=True):
        assert found[name].to_pylist() == [kind(row[name]) for row in table]
    with_all = parquet.read_table("all.parquet")
    assert with_all.drop_columns(["probabilities"]).equals(found)
    np.testing.assert_array_equal(np.array(with_all["probabilities"].to_pylist(), np.float32), p)

    # What Python and a .npy would draw is drawn, with the ids.
    given = ("--probabilities", "all.parquet", "--labels", "y.npy", "--class-names", "names.txt", "-q")
    assert main(["autolabel", *given, "--draw", "200", "--out", "audit.csv"]) == 0
    drawn = cf.audit_sample(learner.probabilities(), 200)
    assert [row["image_path"] for row in rows_of("audit.csv")] == [ids[row] for row in drawn.rows]
    assert json.loads(Path("audit.record.json").read_text())["predictions"] == drawn.predictions
    header, *lines = Path("audit.csv").read_text().splitlines()
    answers = [NAMES[c] for c in p[drawn.rows].argmax(axis=1)]  # all as predicted
    Path("audit.csv").write_text("\n".join([header, *map("".join, zip(lines, answers, strict=True))]))
    assert main(["autolabel", *given, "--audit", "audit.csv", "--out", "auto.csv"]) == 0
    auto = rows_of("auto.csv")
    assert len(auto) == N - 60 - 200
    assert all(row["image_path"] == ids[int(row["index"])] for row in auto)
    # A table without all of them is none of probabilities.
    assert main(["autolabel", "--probabilities", "p.parquet"]) == 2
    assert "no column 'probabilities' in 'p.parquet'" in capsys.readouterr().err


def test_the_head_that_is_asked_for(learner: Any) -> None:
    assert predict(*POOL, "--out", "p.npy", "--head", "ridge", "-q") == 0
    labels, config = learner.labels, cf.CCMAConfig(head="ridge")
    ridge = cf.ActiveLearner("x.npy", labels=labels, teacher=cf.Teacher.from_logits("z.npy"), config=config)
    np.testing.assert_array_equal(np.load("p.npy"), ridge.predict_proba())
    assert not np.array_equal(np.load("p.npy"), learner.predict_proba())


def test_progress_is_shown_where_it_takes_long(
    learner: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert predict(*POOL, "--out", "p.npy") == 0
    assert "500/500" not in capsys.readouterr().err
    monkeypatch.setattr("ccma_fast.cli.predictions_file._PATIENCE", 0.0)
    assert predict(*POOL, "--out", "p.npy", "--overwrite") == 0
    assert "500/500" in capsys.readouterr().err
    assert predict(*POOL, "--out", "p.npy", "--overwrite", "-q") == 0
    assert capsys.readouterr().err == ""


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


@pytest.mark.parametrize("out", ["p.npy", "p.csv", "p.parquet"])
def test_a_pool_that_fails_while_files_are_written_leaves_none(
    learner: Any, monkeypatch: pytest.MonkeyPatch, out: str
) -> None:
    if out == "p.parquet":
        pytest.importorskip("pyarrow")
    softmax, n_read = student.softmax, []

    def fails(z: Any) -> Any:
        n_read.append(len(z))
        if len(n_read) == 3:
            raise OSError("no such page")
        return softmax(z)

    monkeypatch.setattr("ccma_fast.pool.rows._CHUNK_BYTES", 4 * 8 * 120)
    monkeypatch.setattr("ccma_fast.steps.student.softmax", fails)
    assert predict(*POOL, "--out", out, "--label-errors", "errors.csv") == 2
    assert n_read == [120, 120, 120]
    assert sorted(file.name for file in Path().iterdir()) == ["names.txt", "x.npy", "y.npy", "z.npy"]


def test_what_a_format_cannot_do_is_refused_before_anything_is_computed(
    learner: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save("x.npy", np.full((N, 8), np.nan))
    assert predict(*POOL, "--out", "p.npy", "--probabilities") == 2
    assert "a .npy file has all of them, got --out 'p.npy'" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    assert predict(*POOL, "--out", "p.parquet") == 2
    err = capsys.readouterr().err
    assert "a parquet file needs pyarrow" in err
    assert "pip install 'ccma-fast[data]'" in err


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
