"""No command replaces a file that holds labels, with or without --overwrite; its own outputs it does."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ccma_fast.cli import main
from ccma_fast.pool.kept_labels import check_keeps_labels, write_keeping_labels


def text(content: str, encoding: str = "utf-8") -> Callable[[Path], object]:
    return lambda path: path.write_bytes(content.encode(encoding))


def array(values: Any) -> Callable[[Path], object]:
    return lambda path: np.save(path, values)


HELD = {
    "picks that were filled in": ("a.csv", text("rank,index,score,represents,label\n1,5,0.5,3,cat\n2,6,0.4,1,\n")),
    "by a spreadsheet": ("a.csv", text("sep=;\r\nRank;Index;Label\r\n1;5;cat\r\n", "utf-16")),
    "in another encoding": ("a.csv", text("rank,index,label\n1,5,Käfer\n", "cp1252")),
    "damaged": ("a.csv", text('index;label\n1;"cat\n')),
    "in a column without a name": ("a.csv", text("rank,index,score,represents\n1,3,nan,1,cat\n")),
    "under another name": ("a.csv", text("rank,index,score,represents,Klasse\n1,5,0.5,3,Hund\n")),
    "by tabs": ("a.csv", text("rank\tindex\tscore\trepresents\tnote\n1\t5\t0.5\t3\tcat\n")),
    "under a name of more words": ("a.csv", text("file,label_name\na.png,cat\n")),
    "a column without header": ("a.csv", text("cat\ndog\n")),
    "UTF-16 that does not say so": ("a.csv", text("index,label\n1,cat\n", "utf-16-le")),
    "compressed": ("a.csv", lambda path: path.write_bytes(gzip.compress(b"index,label\n1,cat\n"))),
    "predictions that were checked": ("a.csv", text("index,label,confidence,margin,checked\n1,5,0.5,0.1,6\n")),
    "labels behind scores": ("a.csv", text("index,score,label\n1,0.5,cat\n")),
    "an audit": ("a.csv", text("draw,index,label\n1,5,0\n")),
    "a column of classes alone": ("a.csv", text("class\ncat\n")),
    "predictions and more": ("a.csv", text("index,label,confidence\n1,5,0.5\n")),
    "answers of the page": ("a.json", text(json.dumps({"answers": [{"image": "a.png", "label": "cat"}]}))),
    "picks in JSON with labels": ("a.json", text(json.dumps({"rank": [1], "index": [4], "label": ["cat"]}))),
    "picks in JSON and more": ("a.json", text(json.dumps({"rank": [1], "index": [4], "mine": ["cat"], "report": {}}))),
    "an annotation": ("a.json", text(json.dumps([{"image": "a.png", "annotation": "cat"}]))),
    "a mapping": ("a.json", text(json.dumps({"a.png": "cat", "b.png": "dog"}))),
    "a list": ("a.json", text(json.dumps([0, 1, 0]))),
    "JSON lines": ("a.json", text('{"label": "cat"}\n{"label": "dog"}\n')),
    "a matrix of labels": ("a.npy", array([[0, 1], [1, 0]])),
    "booleans": ("a.npy", array([True, False])),
    "a structured array": ("a.npy", array(np.array([(0, "cat")], dtype=[("index", int), ("label", "U3")]))),
    "an archive": ("a.npy", lambda path: path.write_bytes(b"PK\3\4")),
    "labels of all rows": ("a.npy", array([-1, 0, 1, -1])),
    "labels that repeat": ("a.npy", array([2, 0, 1, 1])),
    "labels with NaN": ("a.npy", array([np.nan, 0, 1])),
    "names": ("a.npy", array(["cat", "dog"])),
    "objects": ("a.npy", lambda path: np.save(path, np.array(["cat", None], dtype=object), allow_pickle=True)),
}

FREE = {
    "picks": ("a.csv", text("rank,index,score,represents\n1,5,0.5,3\n")),
    "no label yet": ("a.csv", text("rank,index,label\n1,5,\n2,6,\n")),
    "predictions": ("a.csv", text("index,image_path,label,name,confidence,margin\n1,a.png,5,cat,0.5,0.1\n")),
    "predictions and probabilities": (
        "a.csv",
        text("index,label,confidence,margin,p_cat,p_label\n1,0,0.5,0.1,0.5,0.5\n"),
    ),
    "rows alone": ("a.csv", text("index\n1\n")),
    "likely errors": ("a.csv", text("index,label,suggested,margin\n1,5,6,-1\n")),
    "labels by autolabel": ("a.csv", text("index,label,score\n1,5,0.9\n")),
    "labels of a campaign": ("a.csv", text("image_path,label,annotators,n_others\na,cat,ana,0\n")),
    "something else": ("a.csv", lambda path: path.write_bytes(bytes(range(256)))),
    "nothing": ("a.csv", text("")),
    "picks in JSON": ("a.json", text(json.dumps({"rank": [1], "index": [4], "report": {"n_labelled": 3}}))),
    "no JSON": ("a.json", text("label")),
    "row numbers": ("a.npy", array([4, 0, 1])),
    "probabilities": ("a.npy", array(np.ones((3, 2)))),
    "no array": ("a.npy", text("label")),
}


@pytest.mark.parametrize("case", HELD)
def test_labels_are_found(tmp_path: Path, case: str) -> None:
    name, write = HELD[case]
    write(tmp_path / name)
    with pytest.raises(FileExistsError, match=r"--out '.*' is there already and .*: labels are never overwritten"):
        check_keeps_labels(tmp_path / name)


@pytest.mark.parametrize("case", FREE)
def test_other_files_are_let_go(tmp_path: Path, case: str) -> None:
    name, write = FREE[case]
    write(tmp_path / name)
    check_keeps_labels(tmp_path / name)
    check_keeps_labels(tmp_path / "missing.csv")
    check_keeps_labels(tmp_path)


def test_labels_that_are_saved_while_a_file_is_made_stay(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text("rank,index,score,represents\n1,5,0.5,3\n")

    def write(handle: Any) -> None:
        handle.write(b"new")
        file.write_text("index,label\n5,cat\n")

    with pytest.raises(FileExistsError, match="holds 1 labels"):
        write_keeping_labels(file, write)
    assert file.read_text() == "index,label\n5,cat\n"
    assert [*tmp_path.iterdir()] == [file]


def test_labels_that_are_saved_while_a_pool_is_predicted_stay(data: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = "index,label\n5,cat\n"
    from ccma_fast.cli import predict

    monkeypatch.setattr(predict, "_check_outputs", lambda arguments: Path("a.csv").write_text(mine))
    assert main(["predict", "--features", "x.npy", "--labels", "y.npy", "--out", "a.csv", "--overwrite"]) == 2
    assert Path("a.csv").read_text() == mine


def test_parquet(tmp_path: Path) -> None:
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    file = tmp_path / "a.parquet"
    parquet.write_table(pyarrow.table({"index": [1], "label": [3]}), file)
    with pytest.raises(FileExistsError, match="holds 1 labels in its column 'label'"):
        check_keeps_labels(file)
    parquet.write_table(pyarrow.table({"index": [1], "label": [3], "confidence": [0.5], "margin": [0.1]}), file)
    check_keeps_labels(file)


@pytest.mark.parametrize("overwrite", [(), ("--overwrite",)])
@pytest.mark.parametrize(
    "command",
    [
        ("select", "--features", "x.npy", "--budget", "3", "--out", "OUT"),
        ("predict", "--features", "x.npy", "--labels", "y.npy", "--out", "OUT"),
        ("predict", "--features", "x.npy", "--labels", "y.npy", "--out", "p.npy", "--label-errors", "OUT"),
        ("autolabel", "--probabilities", "p.npy", "--draw", "5", "--out", "OUT"),
        ("autolabel", "--probabilities", "p.npy", "--audit", "audit.csv", "--out", "OUT"),
        ("autolabel", "--probabilities", "p.npy", "--audit", "audit.csv", "--out", "b.csv", "--people", "OUT"),
    ],
)
def test_no_command_replaces_them(
    data: Any, capsys: pytest.CaptureFixture[str], command: tuple[str, ...], overwrite: tuple[str, ...]
) -> None:
    Path("mine.csv").write_text(mine := "index,label,note\n1,cat,\n")
    Path("audit.csv").write_text("draw,index,label\n")
    np.save("p.npy", np.full((240, 3), 1 / 3, np.float32))
    if "p.npy" in command[command.index("--out") :]:
        Path("p.npy").unlink()
    assert main([*("mine.csv" if word == "OUT" else word for word in command), *overwrite]) == 2
    assert "'mine.csv' is there already and holds 1 labels in its column 'label'" in capsys.readouterr().err
    assert Path("mine.csv").read_text() == mine


def test_options_of_files_that_are_given_twice_are_both(data: Any, capsys: pytest.CaptureFixture[str]) -> None:
    for name, rows in (("a", "0,0\n1,1\n"), ("b", "2,2\n3,0\n")):
        Path(f"{name}.csv").write_text(f"index,label\n{rows}")
    select = ("select", "--features", "x.npy", "--budget", "4", "-q")
    printed = []
    for given in (("--labels", "a.csv", "b.csv"), ("--labels", "a.csv", "--labels", "b.csv")):
        assert main([*select, *given]) == 0
        printed.append(capsys.readouterr().out)
    for given in (("--exclude", "a.csv", "b.csv"), ("--exclude", "a.csv", "--exclude", "b.csv")):
        assert main([*select, *given]) == 0
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1] != printed[2] == printed[3]
    shares = ("--labels", "y.npy", "--class-distribution", "0=1", "1=2", "2=1")
    assert main([*select, *shares]) == 0
    assert main([*select, *shares[:4], "--class-distribution", *shares[4:]]) == 0
    first, second = np.split(np.array(capsys.readouterr().out.splitlines()), 2)
    assert first.tolist() == second.tolist()
    np.save("p.npy", np.full((240, 3), 1 / 3, np.float32))
    for given in (("a.csv", "b.csv"), ("a.csv", "--labels", "b.csv")):
        assert main(["autolabel", "--probabilities", "p.npy", "--labels", *given]) == 0
    first, second = np.split(np.array(capsys.readouterr().out.splitlines()), 2)
    assert first.tolist() == second.tolist()
