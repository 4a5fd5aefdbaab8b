"""The program `ccma-fast autolabel`: forecast, draw and labels as in Python, and an audit that was tampered with."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ccma_fast as cf
from ccma_fast.cli import main

N, NAMES = 3000, ["ant", "bee", "cow"]
POOL = ("--probabilities", "p.npy", "--labels", "y.npy", "--class-names", "names.txt")


def autolabel(*arguments: str | int) -> int:
    return main(["autolabel", *map(str, arguments)])


def rows_of(file: str) -> list[dict[str, str]]:
    with open(file, newline="") as handle:
        return list(csv.DictReader(handle))


def save_rows(file: str, rows: list[dict[str, Any]]) -> None:
    with open(file, "w", newline="") as handle:
        writer = csv.DictWriter(handle, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture
def pool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    p = np.exp(10.0 * rng.standard_normal((N, 3)))
    p = (p / p.sum(axis=1, keepdims=True)).astype(np.float32)
    truth = (rng.random((N, 1)) > p.cumsum(axis=1)[:, :-1]).sum(axis=1)
    labels = np.where(np.arange(N) < 40, truth, -1)
    np.save("p.npy", p)
    np.save("y.npy", labels)
    Path("names.txt").write_text("\n".join(NAMES))
    return {"p": p, "truth": truth, "labels": labels}


@pytest.fixture
def audited(pool: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> list[dict[str, str]]:
    """The rows of an audit that people have labelled, as a spreadsheet leaves them: sorted, and numbers with .0."""
    assert autolabel(*POOL, "--draw", 300, "--seed", 5, "--out", "audit.csv") == 0
    err = capsys.readouterr().err
    assert "300 rows to label -> audit.csv; their draw -> audit.record.json" in err
    assert "audit rows   labelled by the model" in err
    rows = rows_of("audit.csv")
    for row in rows:
        row["label"], row["index"] = NAMES[pool["truth"][int(row["index"])]], f"{row['index']}.0"
    rows.sort(key=lambda row: row["label"])
    save_rows("audit.csv", rows)
    return rows


def test_without_draw_or_audit_it_forecasts(pool: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    np.save("p.npy", pool["p"][:400])
    assert autolabel(*POOL[:2], "--max-error", 0.1) == 0
    assert capsys.readouterr().out == f"{cf.audit_forecast(pool['p'][:400], max_error=0.1)}\n"


def test_the_same_labels_as_in_python(
    pool: dict[str, Any], audited: list[dict[str, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    audit = cf.audit_sample(pool["p"], 300, labels=pool["labels"], random_state=5)
    expected = cf.auto_label(pool["p"], audit, pool["truth"][audit.rows], labels=pool["labels"])
    assert expected.rows.size > 500
    assert autolabel(*POOL, "--audit", "audit.csv", "--out", "auto.csv") == 0
    assert str(expected) in capsys.readouterr().err
    found = rows_of("auto.csv")
    assert list(found[0]) == ["index", "label", "score"]
    assert [int(row["index"]) for row in found] == expected.rows.tolist()
    assert [row["label"] for row in found] == [NAMES[c] for c in expected.labels]
    np.testing.assert_array_equal(np.array([row["score"] for row in found], np.float32), expected.scores)
    people = rows_of("auto-people.csv")
    assert list(people[0]) == ["index", "score"]
    assert [int(row["index"]) for row in people] == expected.for_people.tolist()
    # The labels are labels of the next command.
    picks = ("--features", "p.npy", "--budget", "3", "--out", "picks.npy", "-q", "--class-names", "names.txt")
    assert main(["select", *picks, "--labels", "y.npy", "audit.csv", "auto.csv"]) == 0
    assert set(np.load("picks.npy").tolist()) <= set(expected.for_people.tolist())


def test_ids_stand_beside_the_rows(pool: dict[str, Any]) -> None:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    paths = [f"{row}.png" for row in range(N)]
    table = arrow.table({"p": list(pool["p"]), "image_path": paths})
    parquet.write_table(table, "p.parquet")
    given = ("--probabilities", "p.parquet::p", "--max-error", 0.1, "-q")
    assert autolabel(*given, "--draw", 300, "--out", "audit.csv") == 0
    rows = rows_of("audit.csv")
    for row in rows:
        assert row["image_path"] == f"{row['index']}.png"
        row["label"] = str(pool["truth"][int(row["index"])])
    save_rows("audit.csv", rows)
    assert autolabel(*given, "--audit", "audit.csv", "--out", "auto.csv", "--people", "rest.csv") == 0
    for file in ("auto.csv", "rest.csv"):
        found = rows_of(file)
        assert len(found) > 50
        assert all(row["image_path"] == f"{row['index']}.png" for row in found)
    rows[0]["image_path"], rows[1]["image_path"] = rows[1]["image_path"], rows[0]["image_path"]
    save_rows("audit.csv", rows)
    assert autolabel(*given, "--audit", "audit.csv", "--out", "again.csv") == 2


def test_an_audit_that_nobody_has_filled_in(pool: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert autolabel(*POOL, "--draw", 20, "--out", "audit.csv", "-q") == 0
    assert autolabel(*POOL, "--audit", "audit.csv", "--out", "auto.csv") == 2
    assert "'audit.csv' has no label yet; expected its column 'label' filled in" in capsys.readouterr().err


def test_an_audit_that_was_tampered_with_is_refused(
    pool: dict[str, Any], audited: list[dict[str, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(rows: list[dict[str, Any]], *options: str) -> str:
        save_rows("changed.csv", rows)
        Path("changed.record.json").write_bytes(Path("audit.record.json").read_bytes())
        assert autolabel(*(options or POOL), "--audit", "changed.csv", "--out", "auto.csv") == 2
        assert not Path("auto.csv").exists()
        assert not Path("auto-people.csv").exists()
        return capsys.readouterr().err

    assert "1 of the 300 rows that were drawn are not in 'changed.csv'" in refused(audited[1:])
    assert "draw must be from 1 to 300, got 301" in refused([*audited, {"draw": 301, "index": 50, "label": "ant"}])
    assert "draw must be different in each row" in refused([*audited, audited[0]])
    others = [{**row, "index": audited[k - 1]["index"]} for k, row in enumerate(audited)]
    assert "of the draw was row" in refused(others)
    assert "draw must be an integer, got 'first'" in refused([{**audited[0], "draw": "first"}, *audited[1:]])
    assert "no column 'draw'" in refused([{"index": row["index"], "label": row["label"]} for row in audited])
    only_easy = [{**row, "label": "" if row["label"] == "cow" else row["label"]} for row in audited]
    assert "where people choose which rows to label, they are no random draw" in refused(only_easy)
    assert "must be" in refused([{**row, "label": "emu"} for row in audited])
    np.save("other.npy", pool["p"][::-1])
    other = ("--probabilities", "other.npy", *POOL[2:])
    assert "are not those that the audit was drawn for" in refused(audited, *other)
    assert "got others: 0 rows have one where 40 had" in refused(audited, *POOL[:2], *POOL[4:])
    record = json.loads(Path("audit.record.json").read_text())
    Path("audit.record.json").write_text(json.dumps({**record, "rows": record["rows"][::-1]}))
    swapped = [{**row, "index": record["rows"][300 - int(row["draw"])]} for row in audited]
    assert "got rows that random_state=5 does not draw" in refused(swapped)
    for text, message in (
        ("{}", "it has no field 'format'"),
        ("[1]", "expected an object, got list"),
        (json.dumps({**record, "random_state": -5}), "random_state must be at least 0, got -5"),
        (json.dumps({**record, "rows": [None]}), "rows must be an integer, got NoneType None"),
        (json.dumps({**record, "n_rows": 3000.0}), "n_rows must be an integer, got float 3000.0"),
    ):
        Path("audit.record.json").write_text(text)
        assert f"cannot read 'changed.record.json' as the record of an audit: {message}" in refused(audited)
    Path("audit.record.json").write_text(json.dumps({**record, "format": "ccma_fast.AuditSample 9"}))
    assert "written by a newer version of ccma_fast" in refused(audited)
    Path("audit.record.json").unlink()
    assert autolabel(*POOL, "--audit", "audit.csv", "--out", "auto.csv") == 2
    assert "the record of the draw; expected it beside the audit file" in capsys.readouterr().err


def test_no_file_is_lost(
    pool: dict[str, Any], audited: list[dict[str, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    before = Path("audit.csv").read_bytes()
    assert autolabel(*POOL, "--draw", 300, "--out", "audit.csv") == 2
    assert (
        "the output 'audit.csv' is there already and holds 300 labels in its column 'label'" in capsys.readouterr().err
    )
    assert autolabel(*POOL, "--audit", "audit.csv", "--out", "audit.csv", "--overwrite") == 2
    assert "is also --audit" in capsys.readouterr().err
    assert Path("audit.csv").read_bytes() == before
    assert autolabel(*POOL, "--audit", "audit.csv", "--out", "a.csv", "--people", "a.csv") == 2
    assert "must be two files" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--draw", "5"), "--out must be given with --draw or --audit"),
        (("--out", "a.csv"), "--out must be given with --draw or --audit"),
        (("--draw", "5", "--audit", "a.csv", "--out", "b.csv"), "not allowed with argument"),
        (("--draw", "5", "--out", "b.txt"), "must end in .csv"),
        (("--draw", "5", "--out", "b.csv", "--people", "c.csv"), "--people is for --audit"),
        (("--max-error", "1.5"), "--max-error: must lie inside (0, 1), got 1.5"),
    ],
)
def test_mistakes(
    pool: dict[str, Any], capsys: pytest.CaptureFixture[str], options: tuple[str, ...], message: str
) -> None:
    assert autolabel(*POOL, *options) == 2
    assert message in capsys.readouterr().err
