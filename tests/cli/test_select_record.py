"""The record that `ccma-fast select` writes beside the picks."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest

import ccma_fast as cf
from ccma_fast.cli import main
from ccma_fast.query.provenance import read_selection


def select(*arguments: str | int) -> int:
    return main(["select", "--features", "x.npy", "--budget", "4", *map(str, arguments)])


@pytest.mark.parametrize("out", ["picks.csv", "picks.json", "my.picks.npy"])
def test_it_goes_beside_the_picks(data: dict[str, Any], out: str) -> None:
    teacher = ("--teacher-images", "v.npy", "--teacher-classes", "t.npy")
    assert select("--labels", "y.npy", *teacher, "--seed", 3, "--out", out) == 0
    content = read_selection(Path(out.rpartition(".")[0] + ".selection.json")).content
    expected = cf.select(
        data["x"], 4, labels=data["y"], teacher=cf.Teacher(data["v"], data["t"]), random_state=3, explain=True
    )
    assert content["command"][:4] == ["ccma-fast", "select", "--features", "x.npy"]
    assert content["command"][-2:] == ["--out", out]
    assert content["parent"] is None
    assert content["report"]["random_state"] == 3
    assert content["picks"] == json.loads(json.dumps(expected.explanation.to_dict()["picks"]))


def test_without_out_there_is_none(data: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(os.listdir(tmp_path))
    assert select() == 0
    assert sorted(os.listdir(tmp_path)) == before
    assert "explanation" not in capsys.readouterr().err
    assert select("--parent", "x.npy") == 2
    assert capsys.readouterr().err == (
        "ccma-fast select: error: --parent goes into the record beside --out, which is missing\n"
    )


def test_the_record_of_the_selection_before(data: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert select("--out", "1.csv", "-q") == 0
    assert select("--seed", 1, "--out", "2.csv", "--parent", "1.selection.json", "-q") == 0
    sha256 = hashlib.sha256(Path("1.selection.json").read_bytes()).hexdigest()
    assert read_selection("2.selection.json").content["parent"] == sha256
    assert select("--out", "3.csv", "--parent", "1.csv") == 2
    assert "cannot read '1.csv'" in capsys.readouterr().err
    assert not Path("3.csv").exists()


def test_only_a_record_is_replaced(data: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert select("--out", "picks.csv", "-q") == 0
    first = Path("picks.selection.json").read_bytes()
    assert select("--seed", 5, "--out", "picks.csv", "-q") == 0
    assert Path("picks.selection.json").read_bytes() != first

    Path("picks.selection.json").write_text(mine := '{"mine": 1}')
    before = Path("picks.csv").read_bytes()
    assert select("--seed", 6, "--out", "picks.csv") == 2
    assert "'picks.selection.json', where the record beside --out goes, is there already" in capsys.readouterr().err
    assert Path("picks.selection.json").read_text() == mine
    assert Path("picks.csv").read_bytes() == before
    assert select("--seed", 6, "--out", "picks.csv", "--overwrite", "-q") == 0
    assert read_selection("picks.selection.json").content["report"]["random_state"] == 6


def test_an_input_is_never_replaced(data: Any, capsys: pytest.CaptureFixture[str]) -> None:
    Path("names.selection.json").write_text(names := '["a", "b", "c"]')
    assert select("--out", "names.csv", "--class-names", "names.selection.json", "--overwrite") == 2
    assert "the record beside --out, 'names.selection.json' is also --class-names" in capsys.readouterr().err
    assert Path("names.selection.json").read_text() == names


def test_a_plan_writes_none(data: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(os.listdir(tmp_path))
    assert select("--out", "picks.csv", "--plan") == 0
    assert sorted(os.listdir(tmp_path)) == before
