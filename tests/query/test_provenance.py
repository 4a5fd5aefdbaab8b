"""The record of a selection: what it tells, that it is read as it was written, and what is refused."""

from __future__ import annotations

import hashlib
import json
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ccma_fast as cf
from ccma_fast.errors import FileReadError
from ccma_fast.pool.open import open_rows
from ccma_fast.pool.row_digests import row_digests
from ccma_fast.query.provenance import FORMAT, read_selection, selection_record

N, C = 120, 4


@pytest.fixture(scope="module")
def inputs() -> dict[str, Any]:
    rng = np.random.default_rng(3)
    y = rng.integers(C, size=N)
    return {
        "features": rng.standard_normal((N, 6)).astype(np.float32),
        "labels": np.where(np.arange(N) < 30, y, -1),
        "teacher": cf.Teacher(
            rng.standard_normal((N, 5)), np.eye(C, 5), 0.07, class_names=["a", "b", "</script>", "\udcff"]
        ),
    }


@pytest.fixture(scope="module")
def picks(inputs: dict[str, Any]) -> cf.Selection:
    return cf.select(**inputs, budget=5, random_state=9, explain=True)


def written(folder: Path, picks: cf.Selection, **given: Any) -> Path:
    file = folder / "selection.json"
    file.write_bytes(selection_record(picks, command=["ccma_fast.select"], **given))
    return file


def test_what_it_tells(inputs: dict[str, Any], picks: cf.Selection, tmp_path: Path) -> None:
    file = written(tmp_path, picks, parent="0" * 64)
    content, sha256 = read_selection(file)
    assert sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert content["format"] == FORMAT
    assert content["package"]["version"] == content["report"]["version"] == cf.__version__
    assert content["command"] == ["ccma_fast.select"]
    assert content["parent"] == "0" * 64
    assert abs((datetime.now(timezone.utc) - datetime.fromisoformat(content["written"])).total_seconds()) < 600
    report = content["report"]
    assert report["random_state"] == 9
    assert cf.CCMAConfig(**report["config"]) == cf.CCMAConfig()
    assert report["backend"] == picks.report.backend
    assert report["trust"] is None  # NaN
    assert content["class_names"] == ["a", "b", "</script>", "\udcff"]
    assert [pick["row"] for pick in content["picks"]] == picks.indices.tolist()
    assert [pick["score"] for pick in content["picks"]] == picks.scores.tolist()
    digests = row_digests(open_rows(inputs["features"], "x"), picks.indices)
    assert [pick["digest"] for pick in content["picks"]] == [bytes(digest).hex() for digest in digests]
    told = content["inputs"]
    assert told["features"] == {"shape": [N, 6], "manifest": None}
    assert told["labels"]["n_labelled"] == 30
    assert told["teacher"]["kind"] == "image features"
    assert told["teacher"]["temperature"] == 0.07
    assert told["student_logits"] is None


def test_the_digest_of_labels_is_of_the_rows_and_their_classes(inputs: dict[str, Any]) -> None:
    def digest(labels: np.ndarray) -> str:
        told = cf.select(inputs["features"], 2, labels=labels, explain=True).explanation
        return told.inputs["labels"]["sha256"]

    labels = inputs["labels"]
    same, other, moved = labels.astype(np.float32), labels.copy(), labels.copy()
    other[4] = (labels[4] + 1) % C
    moved[4], moved[100] = -1, labels[4]
    assert digest(same) == digest(labels)
    assert len({digest(labels), digest(other), digest(moved)}) == 3


def test_cold_start_is_json_that_every_parser_reads(inputs: dict[str, Any], tmp_path: Path) -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    file = written(tmp_path, cf.select(inputs["features"], 3, explain=True))
    content = json.loads(file.read_text("ascii"), parse_constant=refuse)
    assert [pick["score"] for pick in content["picks"]] == [None] * 3
    assert content["inputs"]["labels"] is None
    assert read_selection(file).content == content


def test_without_an_explanation_there_is_no_record(inputs: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"explain=True"):
        selection_record(cf.select(inputs["features"], 3), command=[])


def changed(content: dict[str, Any], path: str, value: Any) -> None:
    *way, last = path.split(".")
    at: Any = content
    for key in way:
        at = at[int(key)] if isinstance(at, list) else at[key]
    if value is KeyError:
        del at[last]
    else:
        at[int(last) if isinstance(at, list) else last] = value


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("format", FORMAT + 1, rf"newer version of ccma_fast \(.+\), got format {FORMAT + 1}"),
        ("format", True, "its format must be a number from 1 to"),
        ("format", KeyError, "not the record of a selection"),
        ("picks", KeyError, "not the record of a selection"),
        ("report", KeyError, "the record has no 'report'"),
        ("inputs", [], r"'inputs' of the record is of another type, got \[\]"),
        ("picks.1", 3, "pick 2 must be a mapping, got 3"),
        ("picks.1.row", -1, "pick 2 must have that rank and a row, got rank 2 and row -1"),
        ("picks.1.rank", 3, "pick 2 must have that rank"),
        ("picks.0.id", 4, "'id' of pick 1 is of another type, got 4"),
        ("picks.0.shortlist", {"classes": []}, "shortlist of pick 1 has no 'probabilities'"),
    ],
)
def test_what_is_no_record_is_refused(picks: cf.Selection, tmp_path: Path, path: str, value: Any, message: str) -> None:
    content = json.loads(selection_record(picks, command=[]))
    changed(content, path, value)
    file = tmp_path / "selection.json"
    file.write_text(json.dumps(content))
    with pytest.raises(FileReadError, match=message):
        read_selection(file)


@pytest.mark.parametrize("text", ["", "{", "[1]", "null", "[" * 100_000])
def test_other_files_are_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "selection.json"
    file.write_text(text)
    with pytest.raises(FileReadError, match="cannot read"):
        read_selection(file)
    with pytest.raises(FileReadError, match="cannot read"):
        read_selection(tmp_path / "none.json")
