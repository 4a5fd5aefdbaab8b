"""CVAT: its XML and its "ImageNet 1.0", as datumaro writes them, and the manifest that orders images.

What lies in ``datumaro/`` was written by datumaro 1.13, see ``datumaro_program.py``.
"""

from __future__ import annotations

import json
import os
import subprocess
import zipfile
from datetime import datetime, timezone
from pathlib import Path

import pytest

from ccma_fast.campaign.exchange.answer import CANNOT_TELL, NO_CLASS
from ccma_fast.campaign.exchange.assignment import Assignment, Task
from ccma_fast.campaign.exchange.formats import detect, export_assignment, read_answers
from ccma_fast.errors import FileReadError

HERE = Path(__file__).parent
EXPORTS = HERE / "datumaro"
# The Python of an environment that has datumaro.
PYTHON = os.environ.get("CCMA_DATUMARO_PYTHON", "")

SAID = {
    ("plain.png", "cat", None),
    ("a folder/with space.png", "dog & <b>fox</b>", None),
    ("per%20cent.png", "größe 猫", None),
    ("hash#1.png", None, CANNOT_TELL),
    ("größe/猫.png", None, NO_CLASS),
}
CLASSES = ("cat", "dog & <b>fox</b>", "größe 猫", CANNOT_TELL, NO_CLASS)


def check(file: Path, name: str, ids: list[str], notes: list[str]) -> None:
    assert detect(file) == name
    found = read_answers(file, ids=ids)
    assert {(answer.image, answer.label, answer.refusal) for answer in found.answers} == SAID
    assert len(found.answers) == len(SAID)
    assert found.notes == notes


def check_imagenet(file: Path, ids: list[str]) -> None:
    without, several = "1 left out, without a class: 'what?.png'", "1 left out, of several classes: 'a+b&c=d.png'"
    check(file, "imagenet", ids, [without, several])


def check_xml(file: Path) -> None:
    without, several = "1 left out, without a tag: 'what?.png'", "1 left out, with several tags: 'a+b&c=d.png'"
    check(file, "cvat", [], [without, several])


@pytest.fixture
def ids(assignment: Assignment) -> list[str]:
    return [task.image for task in assignment.tasks]


def test_xml_of_datumaro(tmp_path: Path) -> None:
    check_xml(EXPORTS / "annotations.xml")
    with zipfile.ZipFile(tmp_path / "task.zip", "w") as archive:
        archive.write(EXPORTS / "annotations.xml", "annotations.xml")
        archive.writestr("images/plain.png", b"")
    check_xml(tmp_path / "task.zip")
    (tmp_path / "task").mkdir()
    (tmp_path / "task" / "annotations.xml").write_bytes((EXPORTS / "annotations.xml").read_bytes())
    check_xml(tmp_path / "task")


def test_imagenet_of_datumaro_without_images(ids: list[str], tmp_path: Path) -> None:
    names = ("default.txt", "synsets.txt")
    with zipfile.ZipFile(tmp_path / "task.zip", "w") as archive:
        for name in names:
            archive.write(EXPORTS / name, name)
    check_imagenet(tmp_path / "task.zip", ids)
    (tmp_path / "task").mkdir()
    for name in names:
        (tmp_path / "task" / name).write_bytes((EXPORTS / name).read_bytes())
    check_imagenet(tmp_path / "task", ids)


# As datumaro places the images; "</b>" in the name of a class makes a folder.
FILES = [
    *("cannot tell/hash#1.png", "cat/a+b&c=d.png", "cat/plain.png", "dog & <b>fox</b>/a folder/with space.png"),
    *("dog & <b>fox</b>/a+b&c=d.png", "größe 猫/per%20cent.png", "no_label/what?.png"),
    "not an image of any class/größe/猫.png",
]


def test_imagenet_of_datumaro(ids: list[str], tmp_path: Path) -> None:
    for name in (*FILES, "cat/.DS_Store"):
        (tmp_path / "task" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "task" / name).touch()
    check_imagenet(tmp_path / "task", ids)
    with zipfile.ZipFile(tmp_path / "task.zip", "w") as archive:
        for name in (*FILES, "cat/", "__MACOSX/cat/._plain.png"):
            archive.writestr(name, b"")
    check_imagenet(tmp_path / "task.zip", ids)


def test_names_in_folders_of_classes(tmp_path: Path) -> None:
    """A class before the name, another suffix, an image that is not known, and one that may be several."""
    ids = ["a.jpg", "x/b.jpeg", "c.png", "c.jpg", "dog_e.png"]
    for name in ("cat/cat_a.jpg", "dog/x/b.png", "dog/c.webp", "dog/unknown.png", "dog/dog_e.png", "root.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = read_answers(tmp_path, ids=ids)
    assert {(answer.image, answer.label) for answer in found.answers} == {
        ("a.jpg", "cat"),
        ("x/b.jpeg", "dog"),
        ("unknown.png", "dog"),
        ("dog_e.png", "dog"),
    }
    assert found.notes == [
        "1 left out, which may be one of several images: 'dog/c.webp'",
        "1 left out, without a class: 'root.png'",
    ]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("a.png 2\n", "synsets.txt must have the class of every number, got 2 at line 0 of 'default.txt'"),
        ("a.png 99999999999999999999\n", "must have the class of every number"),
        ("a.png cat\n", "a line must be an image and numbers of classes, got 'a.png cat'"),
        ('"a b.png 1\n', "a line must be"),
    ],
)
def test_bad_lines(lines: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "synsets.txt").write_text("cat\ndog\n")
    (tmp_path / "default.txt").write_text(lines)
    with pytest.raises(FileReadError, match=message):
        read_answers(tmp_path)


def xml(folder: Path, images: str, meta: str = "", head: str = "") -> Path:
    file = folder / "annotations.xml"
    text = f"{head}<annotations><version>1.1</version><meta>{meta}</meta>{images}</annotations>"
    file.write_text(text, "utf-8")
    return file


TASK = (
    "<task><id>7</id><name>n</name><updated>2030-01-02 03:04:05.678901+00:00</updated><labels><label><name>cat</name>"
    "</label></labels><segments><segment><id>9</id></segment></segments><owner><username>boss</username></owner>"
    "<assignee><username>worker &amp; co</username><email></email></assignee></task><dumped>2031-01-01</dumped>"
)


def test_xml_of_cvat(tmp_path: Path) -> None:
    """As CVAT documents it: who the task is assigned to, and what has no tag of a person."""
    images = (
        '<image id="0" name="a.png" width="1" height="1"><tag label="cat" source="manual">'
        '<attribute name="n">x</attribute></tag><tag label="cat" source="manual"/></image>'
        '<image id="1" name="b.png"><tag label="dog" source="auto"/></image>'
        '<image id="2" name="c.png"><tag label="dog" source="auto"/><tag label="cat" source="manual"/></image>'
        '<image id="3" name="d.png"><box label="cat" xtl="0" ytl="0" xbr="1" ybr="1"/></image>'
        '<image id="4" name="sub/e &lt;1&gt;.png"><tag label="cannot tell"/></image>'
    )
    found = read_answers(xml(tmp_path, images, TASK, '<?xml version="1.0" encoding="utf-8"?>\n'))
    assert [(a.image, a.label, a.refusal, a.annotator) for a in found.answers] == [
        ("a.png", "cat", None, "worker & co"),
        ("c.png", "cat", None, "worker & co"),
        ("sub/e <1>.png", None, CANNOT_TELL, "worker & co"),
    ]
    assert {a.answered for a in found.answers} == {datetime(2030, 1, 2, 3, 4, 5, 678901, timezone.utc)}
    # The time is the task's. What did not change is known, although others of it were tagged since.
    later = read_answers(xml(tmp_path, images.replace("d.png", "f.png"), TASK.replace("2030-01-02", "2030-01-03")))
    assert [a.key for a in later.answers] == [a.key for a in found.answers]
    assert len({a.key for a in found.answers}) == 3
    assert found.notes == [
        "2 left out, a tag by a model: 'b.png', 'c.png'",
        "1 left out, with shapes but no tag: 'd.png'",
    ]


def test_xml_of_a_project_and_of_a_job(tmp_path: Path) -> None:
    tasks = "".join(
        f"<task><id>{i}</id><updated>2030-01-0{i} 00:00:00+00:00</updated>"
        f"<assignee><username>{name}</username></assignee></task>"
        for i, name in ((1, "first"), (2, "second"))
    )
    images = "".join(f'<image id="0" name="{i}.png" task_id="{i}"><tag label="cat"/></image>' for i in (1, 2, 3))
    found = read_answers(xml(tmp_path, images, f"<project><id>9</id><tasks>{tasks}</tasks></project>"))
    assert [(a.annotator, a.answered and a.answered.day) for a in found.answers] == [
        ("first", 1),
        ("second", 2),
        ("", None),
    ]
    job = TASK.replace("task>", "job>").replace(" 03:04:05.678901+00:00", "")
    (answer,) = read_answers(xml(tmp_path, '<image id="0" name="a"><tag label="cat"/></image>', job)).answers
    assert (answer.annotator, answer.answered) == ("worker & co", None)


BOMB = "<!DOCTYPE a [" + "".join(f'<!ENTITY e{i + 1} "{f"&e{i};" * 10}">' for i in range(12)) + '<!ENTITY e0 "x">]>'


@pytest.mark.parametrize(
    ("images", "head", "message"),
    [
        ('<track id="0" label="cat"/>', "", "got 'CVAT for video 1.1'"),
        ('<image id="0"/>', "", "an image must have a name"),
        ('<image id="0" name="a"><tag/></image>', "", "the label of a tag must be text, got None"),
        ('<image id="0" name="a">', "", "cannot read .* as XML"),
        ("<x>" * 200 + "</x>" * 200, "", "more than 100 elements inside each other"),
        ('<image id="0" name="&e12;"/>', BOMB, "document type"),
        ('<image id="0" name="a"/>', '<!DOCTYPE a SYSTEM "file:///etc/passwd">', "document type"),
        ('<image id="0" name="a"/>', '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>', "document type"),
        ('<image id="0" name="&x;"/>', "", "undefined entity"),
    ],
)
def test_bad_xml(images: str, head: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(FileReadError, match=message):
        read_answers(xml(tmp_path, images, head=head))


def test_other_xml(tmp_path: Path) -> None:
    file = tmp_path / "page.xml"
    file.write_text("<html><body/></html>")
    with pytest.raises(FileReadError, match="got <html>"):
        read_answers(file)


def test_manifest(assignment: Assignment, tmp_path: Path) -> None:
    file, labels = export_assignment("cvat", assignment, tmp_path / "manifest.jsonl")
    version, kind, *images = map(json.loads, file.read_text().splitlines())
    assert (version, kind) == ({"version": "1.1"}, {"type": "images"})
    assert [entry["name"] + entry["extension"] for entry in images] == [task.image for task in assignment.tasks]
    assert [entry["extension"] for entry in images] == [".png"] * 8
    assert [entry["name"] for entry in json.loads(labels.read_bytes())] == [*assignment.classes, CANNOT_TELL, NO_CLASS]
    assert {entry["type"] for entry in json.loads(labels.read_bytes())} == {"tag"}


def test_sizes_in_a_manifest(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    exif = image.Exif()
    exif[274] = 6  # on its side
    image.new("RGB", (4, 6)).save(tmp_path / "a.jpg", exif=exif)
    image.new("RGB", (4, 6)).save(tmp_path / "b.c.jpg")
    tasks = tuple(Task(name, i, 1, i + 1, 0.0) for i, name in enumerate(("b.c.jpg", "a.jpg")))
    assignment = Assignment("", "", ("cat", "dog"), tasks, "")
    file, _ = export_assignment("cvat", assignment, tmp_path / "manifest.jsonl", images=str(tmp_path))
    assert [json.loads(line) for line in file.read_text().splitlines()[2:]] == [
        {"name": "b.c", "extension": ".jpg", "width": 4, "height": 6},
        {"name": "a", "extension": ".jpg", "width": 6, "height": 4},
    ]
    (tmp_path / "a.jpg").write_bytes(b"no image")
    with pytest.raises(FileReadError, match=r"cannot read the size of .*a\.jpg"):
        export_assignment("cvat", assignment, tmp_path / "other.jsonl", images=str(tmp_path))
    assert not (tmp_path / "other.jsonl").exists()


def test_what_cannot_go_out(tmp_path: Path) -> None:
    def assignment(*images: str) -> Assignment:
        return Assignment("", "", ("cat", "dog"), tuple(Task(name, 0, 1, 1, 0.0) for name in images), "")

    with pytest.raises(ValueError, match="each image once, got 'a' twice"):
        export_assignment("cvat", assignment("b", "a", "a"), tmp_path / "m.jsonl")
    with pytest.raises(ValueError, match=r"must be a \.jsonl file"):
        export_assignment("cvat", assignment("a"), tmp_path / "m.json")


@pytest.mark.slow
@pytest.mark.skipif(not PYTHON, reason="CCMA_DATUMARO_PYTHON names no Python that has datumaro")
def test_datumaro(ids: list[str], tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run([PYTHON, str(HERE / "datumaro_program.py"), str(tmp_path)], timeout=600, check=True, env=environment)
    check_xml(tmp_path / "cvat" / "default.xml")
    check_imagenet(tmp_path / "imagenet", ids)
    check_imagenet(tmp_path / "imagenet_txt", ids)
