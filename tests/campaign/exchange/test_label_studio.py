"""Label Studio: exports that it wrote itself, and tasks of ours that it takes.

What lies in ``label_studio/`` was written by Label Studio 1.23, see ``label_studio_server.py``.
"""

from __future__ import annotations

import json
import os
import re
import runpy
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from ccma_fast.campaign.exchange.answer import CANNOT_TELL, NO_CLASS
from ccma_fast.campaign.exchange.assignment import Assignment, Task
from ccma_fast.campaign.exchange.formats import detect, export_assignment, read_answers
from ccma_fast.campaign.exchange.label_studio import labelling_interface
from ccma_fast.errors import FileReadError

HERE = Path(__file__).parent
EXPORTS = HERE / "label_studio"
SERVER = runpy.run_path(str(HERE / "label_studio_server.py"))
# The command of an environment that has the real program.
PROGRAM = os.environ.get("CCMA_LABEL_STUDIO", "")

DRAFT = "1 left out, a draft: 'a+b&c=d.png'"
UNANSWERED = "1 left out, without an annotation: '<script>alert(1)</script>.png'"


def expected(assignment: Assignment, *, cancelled: bool) -> list[tuple[str, str | None, str | None, str, str]]:
    """What `said_by` says: image, label, refusal, annotator and note."""
    found = []
    for entry in SERVER["said_by"](assignment.classes):
        label = entry.get("then", entry["label"])
        if entry.get("draft") or (label is None and not cancelled):
            continue
        is_refusal = label in (None, CANNOT_TELL, NO_CLASS)
        answer = (None, label or CANNOT_TELL) if is_refusal else (label, None)
        image = assignment.tasks[entry["task"]].image
        found.append((image, *answer, str(entry["person"] + 1), entry.get("note", "")))
    return found


def check_exports(folder: Path, assignment: Assignment) -> None:
    keys = {}
    for name, cancelled, notes in (
        ("json.json", True, [DRAFT, UNANSWERED]),
        ("json_min.json", False, [UNANSWERED]),
        ("csv.csv", False, [UNANSWERED]),
    ):
        assert detect(folder / name) == "label-studio"
        found = read_answers(folder / name)
        said = [(a.image, a.label, a.refusal, a.annotator, a.note) for a in found.answers]
        assert said == expected(assignment, cancelled=cancelled)
        assert found.notes == notes
        assert found.campaigns == {assignment.campaign}
        assert {answer.saw for answer in found.answers} == {assignment.saw}
        assert {answer.seconds for answer in found.answers} == {1.5}
        keys[name] = {answer.key: answer.answered for answer in found.answers}
        assert len(keys[name]) == len(found.answers)
        assert None not in keys[name].values()
    assert keys["json_min.json"] == keys["csv.csv"]
    assert keys["csv.csv"].items() <= keys["json.json"].items()


def test_exports_of_the_program(assignment: Assignment) -> None:
    check_exports(EXPORTS, assignment)


def test_tasks(assignment: Assignment, tmp_path: Path) -> None:
    file, interface = export_assignment("label-studio", assignment, tmp_path / "tasks.json", images="photos/")
    assert (file.name, interface.name) == ("tasks.json", "tasks.xml")
    tasks = json.loads(file.read_bytes())
    assert [task["data"]["image_path"] for task in tasks] == [task.image for task in assignment.tasks]
    for task, ours in zip(tasks, assignment.tasks, strict=True):
        data = task["data"]
        assert (data["batch"], data["rank"], data["index"]) == (ours.batch, ours.rank, ours.row)
        assert (data["campaign"], data["saw"]) == (assignment.campaign, assignment.saw)
        assert all(name in data["likeliest"] for name, _ in ours.likeliest)
        assert len(task["predictions"]) == min(1, len(ours.likeliest))
        for prediction in task["predictions"]:
            name, probability = ours.likeliest[0]
            assert prediction["score"] == probability
            assert prediction["result"][0]["value"] == {"choices": [name]}
            assert prediction["result"][0]["from_name"] == "label"
    assert tasks[3]["data"]["image"] == "/data/local-files/?d=photos/hash%231.png"


def test_the_folder_may_be_given_as_label_studio_writes_it(assignment: Assignment, tmp_path: Path) -> None:
    plain, _ = export_assignment("label-studio", assignment, tmp_path / "plain.json", images="photos/")
    file, _ = export_assignment("label-studio", assignment, tmp_path / "t.json", images="/data/local-files/?d=photos/")
    assert file.read_bytes() == plain.read_bytes()
    tasks = json.loads(file.read_bytes())
    for number, task in enumerate(tasks):
        result = [{"from_name": "label", "to_name": "image", "type": "choices", "value": {"choices": ["cat"]}}]
        annotation = {"id": number, "completed_by": 1, "result": result, "updated_at": "2026-01-01T00:00:00Z"}
        task["annotations"] = [annotation]
        del task["data"]["image_path"]
    file.write_text(json.dumps(tasks), encoding="utf-8")
    read = read_answers(file, "label-studio", images="/data/local-files/?d=photos/")
    assert [answer.image for answer in read.answers] == [task.image for task in assignment.tasks]


@pytest.mark.parametrize("probability", [1.0000001, -1e-9])
def test_scores_lie_between_0_and_1(probability: float, tmp_path: Path) -> None:
    tasks = (Task("a.png", 0, 1, 1, 0.0, (("cat", probability),)),)
    file, _ = export_assignment("label-studio", Assignment("", "", ("cat", "dog"), tasks, ""), tmp_path / "t.json")
    assert json.loads(file.read_bytes())[0]["predictions"][0]["score"] == round(probability)


def test_interface(assignment: Assignment) -> None:
    text = labelling_interface(assignment.classes)
    assert "<b>" not in text
    view = ElementTree.fromstring(text)
    choices = [choice.attrib for choice in view.iter("Choice")]
    assert [choice.get("alias", choice["value"]) for choice in choices] == [*assignment.classes, CANNOT_TELL, NO_CLASS]
    # Label Studio's own rule for what is looked up in a task's data: of "$5 note" it showed "undefined note".
    assert not [choice for choice in choices if re.search(r"\$[\w[\].{}]", choice["value"])]
    assert [choice["value"].replace("\N{WORD JOINER}", "") for choice in choices if "alias" in choice] == ["$5 note"]
    (control,) = view.iter("Choices")
    assert control.attrib.items() >= {"name": "label", "toName": "image", "choice": "single"}.items()


@pytest.mark.parametrize("name", ["a\0", "a\x0b", "\ufffe"])
def test_names_that_xml_cannot_hold(name: str) -> None:
    with pytest.raises(ValueError, match="text that XML can hold"):
        labelling_interface(["cat", name])


@pytest.mark.parametrize(
    "images", ["", "photos", "a b/ü#", "https://host/x?y=z/", "http://host/50%", "s3://bucket/a b"]
)
def test_urls_lead_back_to_ids(images: str, assignment: Assignment, tmp_path: Path) -> None:
    file, _ = export_assignment("label-studio", assignment, tmp_path / "tasks.json", images=images)
    tasks = json.loads(file.read_bytes())
    for number, task in enumerate(tasks):
        del task["data"]["image_path"]
        task["annotations"] = [annotation(id=number)]
    file.write_text(json.dumps(tasks))
    found = read_answers(file, images=images)
    assert [answer.image for answer in found.answers] == [task.image for task in assignment.tasks]


def annotation(*classes: Any, **others: Any) -> dict[str, Any]:
    result = [{"from_name": "any", "type": "choices", "value": {"choices": list(classes) or ["cat"]}}]
    return {"id": 7, "updated_at": "2030-01-01T00:00:00.5Z", "completed_by": 3, "result": result} | others


def exported(folder: Path, *annotations: Any, data: Any = None, **others: Any) -> Path:
    file = folder / "export.json"
    task = {"id": 1, "data": {"image": "a.png"} if data is None else data, "annotations": list(annotations)} | others
    file.write_text(json.dumps([task]))
    return file


def test_people_by_address_or_number(tmp_path: Path) -> None:
    people = [{"id": 5, "email": "a@example.org"}, {"id": 6, "email": ""}, 7, None]
    file = exported(tmp_path, *(annotation(id=i, completed_by=person) for i, person in enumerate(people)))
    assert [answer.annotator for answer in read_answers(file).answers] == ["a@example.org", "6", "7", ""]


def test_a_changed_annotation_is_another_answer(tmp_path: Path) -> None:
    (before,) = read_answers(exported(tmp_path, annotation("cat"))).answers
    (again,) = read_answers(exported(tmp_path, annotation("cat"))).answers
    (after,) = read_answers(exported(tmp_path, annotation("dog", updated_at="2030-01-02T00:00:00Z"))).answers
    assert before == again
    assert before.key != after.key
    assert before.answered is not None
    assert after.answered is not None
    assert before.answered < after.answered


def test_what_is_no_answer_is_told(tmp_path: Path) -> None:
    file = exported(tmp_path, annotation("cat", "dog"), annotation(result=[]), annotation(result=None), drafts=[{}])
    found = read_answers(file)
    assert found.answers == []
    assert found.notes == [
        "1 left out, a draft: 'a.png'",
        "1 left out, an annotation with several classes: 'a.png'",
        "2 left out, an annotation without a class: 'a.png', 'a.png'",
    ]


def test_notes_of_several_texts(tmp_path: Path) -> None:
    record = {
        "image": "a.png",
        "annotation_id": 1,
        "annotator": 1,
        "updated_at": "2030-01-01T00:00:00Z",
        "lead_time": 1,
    }
    file = tmp_path / "min.json"
    file.write_text(json.dumps([record | {"label": "cat", "note": {"text": ["a", "b"]}}]))
    result = [*annotation()["result"], {"type": "textarea", "value": {"text": ["a", "b"]}}]
    for found in (read_answers(file), read_answers(exported(tmp_path, annotation(result=result)))):
        assert [(answer.label, answer.note) for answer in found.answers] == [("cat", "a\nb")]


def test_several_classes_in_json_min_and_csv(tmp_path: Path) -> None:
    record = {
        "image": "a.png",
        "annotation_id": 1,
        "annotator": 1,
        "updated_at": "2030-01-01T00:00:00Z",
        "lead_time": 1,
    }
    file = tmp_path / "min.json"
    file.write_text(json.dumps([record | {"choice": {"choices": ["cat", "dog"]}}, record | {"choice": "cat"}]))
    found = read_answers(file)
    assert [answer.label for answer in found.answers] == ["cat"]
    assert found.notes == ["1 left out, an annotation with several classes: 'a.png'"]
    file = tmp_path / "export.csv"
    cells = '"{""choices"": [""cat"", ""dog""]}"', '"{""choices"":"', "cat"
    rows = [f"1,1,{cell},a.png,1.5,2030-01-01T00:00:00Z" for cell in cells]
    file.write_text("\n".join(["annotation_id,annotator,choice,image,lead_time,updated_at", *rows]))
    found = read_answers(file)
    assert [answer.label for answer in found.answers] == ['{"choices":', "cat"]
    assert found.notes == ["1 left out, an annotation with several classes: 'a.png'"]


@pytest.mark.parametrize("time", [None, "x", -1, float("inf"), 10**400])
def test_times_that_are_none(time: Any, tmp_path: Path) -> None:
    text = json.dumps(annotation(lead_time=0)).replace('"lead_time": 0', f'"lead_time": {json.dumps(time)}')
    file = exported(tmp_path, "HERE")
    file.write_text(file.read_text().replace('"HERE"', text.replace("Infinity", "1e999")))
    (answer,) = read_answers(file).answers
    assert answer.seconds is None


@pytest.mark.parametrize(
    ("annotations", "data", "message"),
    [
        ([annotation(id=None)], None, "must have a number and a time"),
        ([annotation(updated_at=None)], None, "must have a number and a time"),
        ([annotation(updated_at="2030-01-01")], None, "a time must be like"),
        ([annotation(3)], None, "a choice must be text, got 3 in task 0"),
        ([annotation("a\0")], None, "zero byte"),
        ([annotation(result="x")], None, "an annotation must be an object with a result"),
        (["x"], None, "an annotation must be an object"),
        ([], {"url": "a.png"}, "must have 'image_path' or 'image', got 'url'"),
        ([], {"image": 3}, "image must be text, got 3"),
        ([annotation()], {"image": "a", "campaign": []}, r"campaign must be text, got \[\]"),
    ],
)
def test_bad_exports(annotations: list[Any], data: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(FileReadError, match=message):
        read_answers(exported(tmp_path, *annotations, data=data))


@pytest.mark.parametrize("content", ['{"data": {}}', '["x"]', '[{"data": {"image": "a"}, "annotations": 3}]', "[1, 2"])
def test_no_exports(content: str, tmp_path: Path) -> None:
    file = tmp_path / "export.json"
    file.write_text(content)
    with pytest.raises(FileReadError):
        read_answers(file, "label-studio")


def test_what_cannot_go_out(assignment: Assignment, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"must be a \.json file"):
        export_assignment("label-studio", assignment, tmp_path / "tasks.csv")
    (tmp_path / "tasks.xml").touch()
    with pytest.raises(FileExistsError, match=r"tasks\.xml"):
        export_assignment("label-studio", assignment, tmp_path / "tasks.json")
    assert [file.name for file in tmp_path.iterdir()] == ["tasks.xml"]


@pytest.mark.slow
@pytest.mark.skipif(not PROGRAM, reason="CCMA_LABEL_STUDIO names no command label-studio")
def test_the_program(assignment: Assignment, tmp_path: Path) -> None:
    images = tmp_path / "photos"
    for number, task in enumerate(assignment.tasks):
        (images / task.image).parent.mkdir(parents=True, exist_ok=True)
        (images / task.image).write_bytes(SERVER["png"](number))
    tasks, interface = export_assignment("label-studio", assignment, tmp_path / "tasks.json", images="photos")
    said = SERVER["said_by"](assignment.classes)
    found = SERVER["exports"](PROGRAM, images, tasks.read_bytes(), interface.read_text("utf-8"), said)
    assert [task["data"]["image_path"] for task in found["tasks"]] == [task.image for task in assignment.tasks]
    assert found["images"] == [SERVER["png"](number) for number in range(len(assignment.tasks))]
    scores = [task["predictions_score"] for task in found["tasks"]]
    assert scores == [task.likeliest[0][1] if task.likeliest else None for task in assignment.tasks]
    for name, content in found["files"].items():
        (tmp_path / name).write_bytes(content)
    check_exports(tmp_path, assignment)
