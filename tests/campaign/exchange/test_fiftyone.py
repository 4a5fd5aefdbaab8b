"""FiftyOne: files that its own exporters wrote, and files of ours that its own importers read.

What lies in ``fiftyone/`` was written by FiftyOne 1.22, see ``fiftyone_program.py``.
"""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ccma_fast.campaign.exchange.answer import CANNOT_TELL, NO_CLASS
from ccma_fast.campaign.exchange.assignment import Assignment, Task
from ccma_fast.campaign.exchange.formats import detect, export_assignment, read_answers
from ccma_fast.errors import FileReadError

HERE = Path(__file__).parent
EXPORTS = HERE / "fiftyone"
# The Python of an environment that has the real program.
PYTHON = os.environ.get("CCMA_FIFTYONE_PYTHON", "")

SAID = [
    ("plain.png", "cat", None),
    ("a folder/with space.png", "dog & <b>fox</b>", None),
    ("per%20cent.png", None, CANNOT_TELL),
    ("hash#1.png", None, NO_CLASS),
    ("größe/猫.png", "größe 猫", None),
]
UNLABELLED = "1 left out, without a label: 'what?.png'"
SEVERAL = "1 left out, with several labels: 'a+b&c=d.png'"


def check(file: Path, name: str, notes: list[str], annotator: str = "") -> None:
    assert detect(file) == name
    found = read_answers(file, images="/photos")
    assert [(answer.image, answer.label, answer.refusal) for answer in found.answers] == SAID
    assert {answer.annotator for answer in found.answers} == {annotator}
    assert found.notes == notes


def check_exports(folder: Path) -> None:
    check(folder / "absolute" / "labels.json", "fiftyone", [SEVERAL, UNLABELLED])
    check(folder / "manifest" / "labels.json", "fiftyone", [SEVERAL, UNLABELLED])
    check(folder / "manifest", "fiftyone", [SEVERAL, UNLABELLED])
    check(folder / "csv" / "labels.csv", "fiftyone-csv", [UNLABELLED], "first, person")


def test_exports_of_the_program() -> None:
    check_exports(EXPORTS)


def labels_json(folder: Path, content: Any) -> Path:
    file = folder / "labels.json"
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    return file


def test_names_without_suffixes_are_resolved_by_ids(tmp_path: Path) -> None:
    content = {"classes": None, "labels": {"a/x": "cat", "y": "dog", "z": "ant", "other": "bee"}}
    found = read_answers(labels_json(tmp_path, content), ids=["a/x.jpeg", "y.png", "y.jpg", "z", "z.png"])
    assert [(answer.image, answer.label) for answer in found.answers] == [
        ("a/x.jpeg", "cat"),
        ("z", "ant"),
        ("other", "bee"),
    ]
    assert found.notes == ["1 left out, the name of several images: 'y'"]


def test_predictions_are_no_answers(assignment: Assignment, tmp_path: Path) -> None:
    (file,) = export_assignment("fiftyone", assignment, tmp_path / "labels.json")
    found = read_answers(file, ids=[task.image for task in assignment.tasks])
    assert found.answers == []
    assert [note.split(":")[0] for note in found.notes] == [
        "7 left out, a prediction, for it has a confidence",
        "1 left out, without a label",
    ]
    content = {
        "classes": ["cat", "dog"],
        "labels": {"a": {"label": 1, "attributes": {}}, "b": {"label": 0, "confidence": 0.5}},
    }
    found = read_answers(labels_json(tmp_path, content))
    assert [(answer.image, answer.label) for answer in found.answers] == [("a", "dog")]


def test_predictions_in_csv_are_no_answers(tmp_path: Path) -> None:
    file = tmp_path / "labels.csv"
    file.write_text("filepath,p.label,p.confidence\n/r/a.png,cat,0.5\n/r/b.png,dog,\n")
    found = read_answers(file, images="/r/")
    assert [(answer.image, answer.label) for answer in found.answers] == [("b.png", "dog")]
    assert found.notes == ["1 left out, a prediction, for it has a confidence: 'a.png'"]


def test_csv_goes_out_and_back(assignment: Assignment, tmp_path: Path) -> None:
    file, manifest = export_assignment("fiftyone-csv", assignment, tmp_path / "labels.csv", images="/photos")
    header, *rows = csv.reader(io.StringIO(file.read_bytes().decode(), newline=""))
    column = {name: [row[i] for row in rows] for i, name in enumerate(header)}
    assert column["filepath"] == [f"/photos/{task.image}" for task in assignment.tasks]
    assert [(int(b), int(r)) for b, r in zip(column["batch"], column["rank"], strict=True)] == [
        (task.batch, task.rank) for task in assignment.tasks
    ]
    assert json.loads(manifest.read_text("utf-8")) == {task.image: f"/photos/{task.image}" for task in assignment.tasks}
    for row, label in zip(rows, (*assignment.classes, NO_CLASS), strict=True):
        row[header.index("label")] = label
    text = io.StringIO(newline="")
    csv.writer(text).writerows([header, *rows])
    file.write_bytes(text.getvalue().encode())
    found = read_answers(file, images="/photos")
    assert [answer.image for answer in found.answers] == [task.image for task in assignment.tasks]
    assert [answer.label or answer.refusal for answer in found.answers] == [*assignment.classes, NO_CLASS]
    assert found.campaigns == {assignment.campaign}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"labels": []}, "must have an object 'labels'"),
        ({"labels": {"a": 0}, "classes": "ab"}, "a list 'classes'"),
        ({"labels": {"a": 2}, "classes": ["x", "y"]}, "a class must be one of 2, from 0, got 2 for 'a'"),
        ({"labels": {"a": -1}, "classes": ["x", "y"]}, "a class must be one of 2"),
        ({"labels": {"a": True}, "classes": ["x", "y"]}, "a class must be text, got True"),
        ({"labels": {"a": 0}, "classes": None}, "a class must be text, got 0"),
        ({"labels": {"a": {}}, "classes": None}, "a class must be text, got None"),
        ('{"labels": {"a": "x", "a": "y"}}', "the key 'a' stands twice"),
        ('{"labels": {"\\ud800": "x"}}', "must be text in UTF-8"),
        ('{"labels": ' + "[" * 100_000 + "]" * 100_000 + "}", r"too many levels|cannot read"),
        ('{"labels": {"a": NaN}}', "NaN is no number of JSON"),
    ],
)
def test_bad_labels(content: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(FileReadError, match=message):
        read_answers(labels_json(tmp_path, content), "fiftyone")


def test_what_cannot_go_out(tmp_path: Path) -> None:
    tasks = (Task("a.png", 0, 1, 1, 0.0), Task("a.jpg", 1, 1, 2, 0.0))
    assignment = Assignment("ab", "", ("cat", "dog"), tasks, "")
    with pytest.raises(ValueError, match="must differ in more than their suffix, got 'a' twice"):
        export_assignment("fiftyone", assignment, tmp_path / "labels.json")
    with pytest.raises(ValueError, match="must be an absolute path for FiftyOne, got 'photos'"):
        export_assignment("fiftyone", assignment, tmp_path / "labels.json", images="photos")
    export_assignment("fiftyone", assignment, tmp_path / "labels.json", images="/photos")
    with pytest.raises(FileExistsError, match="may hold labels"):
        export_assignment("fiftyone", assignment, tmp_path / "labels.json", images="/photos")


@pytest.mark.slow
@pytest.mark.skipif(not PYTHON, reason="CCMA_FIFTYONE_PYTHON names no Python that has FiftyOne")
def test_the_program(assignment: Assignment, tmp_path: Path) -> None:
    def program(*arguments: str) -> str:
        command = [PYTHON, str(HERE / "fiftyone_program.py"), *arguments]
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=True, env=environment)
        return done.stdout.splitlines()[-1] if done.stdout else ""

    program("write", str(tmp_path / "exports"), "/photos")
    check_exports(tmp_path / "exports")

    by_path = {f"/photos/{task.image}": task for task in assignment.tasks}
    (tmp_path / "a").mkdir()
    file, _ = export_assignment("fiftyone", assignment, tmp_path / "a" / "labels.json", images="/photos")
    for sample in json.loads(program("read", str(file))):
        assert [tuple(label) for label in sample["labels"]] == list(by_path.pop(sample["filepath"]).likeliest)
    assert not by_path

    (tmp_path / "b").mkdir()
    file, _ = export_assignment("fiftyone-csv", assignment, tmp_path / "b" / "labels.csv", images="/photos")
    samples = json.loads(program("read", str(file)))
    samples.sort(key=lambda sample: (int(sample["batch"]), int(sample["rank"])))
    assert [sample["filepath"] for sample in samples] == [f"/photos/{task.image}" for task in assignment.tasks]
    assert [int(sample["index"]) for sample in samples] == [task.row for task in assignment.tasks]
    assert {sample["campaign"] for sample in samples} == {assignment.campaign}
