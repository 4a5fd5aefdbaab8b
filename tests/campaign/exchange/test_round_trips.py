"""Any ids, classes and annotators go out and come back, in every format that can hold them."""

from __future__ import annotations

import csv
import io
import json
import tempfile
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

from hypothesis import given
from hypothesis import strategies as st

from ccma_fast.campaign.exchange.answer import CANNOT_TELL, NO_CLASS
from ccma_fast.campaign.exchange.answers_csv import escaped
from ccma_fast.campaign.exchange.assignment import Assignment, Task
from ccma_fast.campaign.exchange.formats import export_assignment, read_answers

# Text that can be stored: no zero bytes, no halves of characters, no byte order marks.
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\ufeff"), min_size=1, max_size=12)
AWKWARD = st.sampled_from(
    ["=1+1", "'=1", "-x", "a,b", 'a"b', "a;b", "\t", "\r", "a\nb", "<b>", "&amp;", "%2F", "a#b?c"]
)
NAMES = (TEXT | AWKWARD).filter(lambda text: text.strip() and text not in (CANNOT_TELL, NO_CLASS))
# XML has no more control characters than these.
XML_NAMES = NAMES.map(lambda text: "".join(c for c in text if c >= " " and c not in "\ufffe\uffff")).filter(str.strip)
PARTS = NAMES.filter(lambda text: "/" not in text and text not in (".", ".."))
IDS = st.lists(PARTS, min_size=1, max_size=3).map("/".join)


@st.composite
def assignments(draw: st.DrawFn, names: st.SearchStrategy[str] = NAMES) -> Assignment:
    classes = tuple(draw(st.lists(names, min_size=2, max_size=4, unique=True)))
    images = draw(st.lists(IDS, min_size=1, max_size=5, unique=True))
    shortlists = st.lists(st.sampled_from(classes), max_size=3, unique=True)
    tasks = tuple(
        Task(image, row, 1, row + 1, 0.0, tuple((name, 0.25) for name in draw(shortlists)))
        for row, image in enumerate(images)
    )
    return Assignment("ab" * 16, draw(NAMES), classes, tasks, draw(NAMES))


@given(assignments(), st.data())
def test_csv(assignment: Assignment, data: st.DataObject) -> None:
    choices = st.sampled_from((*assignment.classes, CANNOT_TELL, NO_CLASS))
    said = [data.draw(choices) for _ in assignment.tasks]
    notes = [data.draw(TEXT) for _ in assignment.tasks]
    with tempfile.TemporaryDirectory() as folder:
        (file,) = export_assignment("csv", assignment, Path(folder, "a.csv"))
        header, *rows = csv.reader(io.StringIO(file.read_bytes().decode(), newline=""))
        for row, choice, note in zip(rows, said, notes, strict=True):
            row[header.index("label")], row[header.index("note")] = escaped(choice), escaped(note)
        text = io.StringIO(newline="")
        csv.writer(text, quoting=csv.QUOTE_ALL).writerows([header, *rows])
        file.write_bytes(text.getvalue().encode())
        found = read_answers(file)
    assert [answer.image for answer in found.answers] == [task.image for task in assignment.tasks]
    assert [answer.label or answer.refusal for answer in found.answers] == said
    assert [answer.note for answer in found.answers] == notes
    assert {(answer.annotator, answer.saw) for answer in found.answers} == {(assignment.annotator, assignment.saw)}
    shown = [tuple(name for name, _ in task.likeliest) or None for task in assignment.tasks]
    assert [answer.shown for answer in found.answers] == shown


@given(
    assignments(XML_NAMES),
    TEXT,
    st.sampled_from(["", "photos", "a b/ü#%", "https://host/a%20b", "s3://b/c"]),
    st.data(),
)
def test_label_studio(assignment: Assignment, person: str, images: str, data: st.DataObject) -> None:
    choices = st.sampled_from((*assignment.classes, CANNOT_TELL, NO_CLASS))
    said = [data.draw(choices) for _ in assignment.tasks]
    by_url = data.draw(st.booleans())
    with tempfile.TemporaryDirectory() as folder:
        file, _ = export_assignment("label-studio", assignment, Path(folder, "a.json"), images=images)
        tasks = json.loads(file.read_bytes())
        for number, (task, choice) in enumerate(zip(tasks, said, strict=True)):
            if by_url:
                del task["data"]["image_path"]
            result = [{"type": "choices", "value": {"choices": [choice]}}]
            time = f"2030-01-01T00:00:0{number}.000001Z"
            task["annotations"] = [
                {"id": number, "updated_at": time, "completed_by": {"email": person}, "result": result}
            ]
        file.write_text(json.dumps(tasks))
        found = read_answers(file, images=images)
    assert [answer.image for answer in found.answers] == [task.image for task in assignment.tasks]
    assert [answer.label or answer.refusal for answer in found.answers] == said
    assert {(answer.annotator, answer.saw) for answer in found.answers} == {(person, assignment.saw)}
    assert len({answer.key for answer in found.answers}) == len(said)


@given(assignments(), st.sampled_from(["", "/photos", "/a b/ü#%"]), st.booleans(), st.data())
def test_fiftyone(assignment: Assignment, images: str, numbered: bool, data: st.DataObject) -> None:
    names = [*assignment.classes, CANNOT_TELL, NO_CLASS]
    said = [data.draw(st.sampled_from(names)) for _ in assignment.tasks]
    ids = [f"{task.image}.png" for task in assignment.tasks]
    stored: dict[str, Any] = {
        f"{images}/{image}" if images else image.removesuffix(".png"): names.index(choice) if numbered else choice
        for image, choice in zip(ids, said, strict=True)
    }
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "labels.json")
        file.write_text(json.dumps({"classes": names if numbered else None, "labels": stored}))
        found = read_answers(file, images=images, ids=ids)
    assert [(answer.image, answer.label or answer.refusal) for answer in found.answers] == list(
        zip(ids, said, strict=True)
    )


@given(assignments(XML_NAMES), st.data())
def test_cvat(assignment: Assignment, data: st.DataObject) -> None:
    choices = st.sampled_from((*assignment.classes, CANNOT_TELL, NO_CLASS))
    said = [data.draw(choices) for _ in assignment.tasks]
    ids = ["".join(c for c in task.image if c >= " " and c not in "\ufffe\uffff") for task in assignment.tasks]
    images = "".join(
        f"<image id='0' name={quoteattr(image)}><tag label={quoteattr(choice)}/></image>"
        for image, choice in zip(ids, said, strict=True)
    )
    with tempfile.TemporaryDirectory() as folder:
        manifest, _ = export_assignment("cvat", assignment, Path(folder, "a.jsonl"))
        lines = [json.loads(line) for line in manifest.read_bytes().decode().split("\n")[2:-1]]
        file = Path(folder, "annotations.xml")
        file.write_bytes(f"<annotations>{images}</annotations>".encode())
        found = read_answers(file)
    assert [line["name"] + line["extension"] for line in lines] == [task.image for task in assignment.tasks]
    assert [(answer.image, answer.label or answer.refusal) for answer in found.answers] == list(
        zip(ids, said, strict=True)
    )
