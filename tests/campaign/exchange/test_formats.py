"""The table of formats: detection, bounds of what is read, and that nothing of a file is trusted."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path
from typing import Any

import pytest

from ccma_fast.campaign.exchange import outside_files
from ccma_fast.campaign.exchange.answer import CANNOT_TELL, NO_CLASS
from ccma_fast.campaign.exchange.assignment import Assignment, Task
from ccma_fast.campaign.exchange.formats import FORMATS, detect, export_assignment, exported_formats, read_answers
from ccma_fast.errors import FileReadError


def test_every_format_has_its_functions() -> None:
    assert exported_formats() == ["csv", "label-studio", "fiftyone", "fiftyone-csv", "cvat"]
    for name in FORMATS:
        with pytest.raises(FileReadError, match="no file '/nowhere"):
            read_answers(Path("/nowhere/x"), name)


def test_unknown_formats(assignment: Assignment, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"format must be one of 'csv', .* got 'imagenet'"):
        export_assignment("imagenet", assignment, tmp_path / "x")
    with pytest.raises(ValueError, match="format must be one of 'page', 'csv'"):
        read_answers(tmp_path, "excel")


@pytest.mark.parametrize("name", [CANNOT_TELL, NO_CLASS])
@pytest.mark.parametrize("format_name", exported_formats())
def test_no_class_is_called_as_a_refusal_is(format_name: str, name: str, tmp_path: Path) -> None:
    assignment = Assignment("", "", ("cat", name), (Task("a.png", 0, 1, 1, 0.0),), "")
    with pytest.raises(ValueError, match=f"no class may be called '{name}'"):
        export_assignment(format_name, assignment, tmp_path / f"x{FORMATS[format_name].suffix}")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("format_name", exported_formats())
def test_ids_that_are_no_text(format_name: str, tmp_path: Path) -> None:
    assignment = Assignment("", "", ("cat", "dog"), (Task("a\udcff.png", 0, 1, 1, 0.0),), "")
    with pytest.raises(ValueError, match="must be text in UTF-8"):
        export_assignment(format_name, assignment, tmp_path / f"x{FORMATS[format_name].suffix}")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("format_name", exported_formats())
def test_an_assignment_without_images(format_name: str, tmp_path: Path) -> None:
    file = tmp_path / f"x{FORMATS[format_name].suffix}"
    export_assignment(format_name, Assignment("ab", "", ("cat", "dog"), (), ""), file)
    assert file.read_bytes()
    if format_name not in ("cvat",):  # whose answers are in another format than its order
        assert read_answers(file, format_name).answers == []


@pytest.mark.parametrize("content", ["[]", "{}", '[{"a": 1}]', "[1]", '{"version": 1}'])
def test_json_of_no_known_format(content: str, tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    file.write_text(content)
    with pytest.raises(FileReadError, match=r"could be of no known format; expected .* 'label-studio'"):
        detect(file)


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(FileReadError, match="no file"):
        detect(tmp_path / "missing")
    file = tmp_path / "x"
    for content in (b"\x89PNG\r\n\x1a\n\0\0", b"label\xff", b"PK\x03\x04damaged"):
        file.write_bytes(content)
        with pytest.raises(FileReadError, match="cannot read"):
            read_answers(file)


def archive(folder: Path, **members: Any) -> Path:
    file = folder / "x.zip"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as written:
        for name, content in members.items():
            written.writestr(name, content)
    return file


@pytest.mark.parametrize("name", ["../a.png", "/etc/a.png", "cat/../../a.png", "cat\\..\\a.png"])
def test_members_that_lead_out_of_an_archive(name: str, tmp_path: Path) -> None:
    file = archive(tmp_path, **{name: b"", "cat/b.png": b""})
    for format_name in ("imagenet", "cvat", ""):
        with pytest.raises(FileReadError, match="leads out of the archive"):
            read_answers(file, format_name)
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.zip"]


def test_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A ZIP archive of a kilobyte that stands for a megabyte, and too many members."""
    file = archive(tmp_path, **{"annotations.xml": b" " * 1_000_000})
    assert file.stat().st_size < 2000
    monkeypatch.setattr(outside_files, "MOST_BYTES", 100_000)
    with pytest.raises(FileReadError, match=r"'annotations\.xml' has 1000000 bytes, expected at most 100000"):
        read_answers(file)
    (tmp_path / "x.csv").write_text("image_path,label\n" + "a,cat\n" * 20_000)
    with pytest.raises(FileReadError, match="it has 120017 bytes, expected at most 100000"):
        read_answers(tmp_path / "x.csv", "csv")
    monkeypatch.setattr(outside_files, "_MOST_MEMBERS", 2)
    with pytest.raises(FileReadError, match="it has 3 members, expected at most 2"):
        read_answers(archive(tmp_path, **{f"cat/{i}.png": b"" for i in range(3)}))


def test_a_member_that_is_larger_than_it_says(tmp_path: Path) -> None:
    file = archive(tmp_path, **{"annotations.xml": b"<annotations>" + b" " * 1000 + b"</annotations>"})
    content = file.read_bytes()
    size = (1027).to_bytes(4, "little")
    assert content.count(size) == 2
    file.write_bytes(content.replace(size, (20).to_bytes(4, "little")))
    with pytest.raises(FileReadError, match="cannot read"):
        read_answers(file)


def test_a_member_twice(tmp_path: Path) -> None:
    file = tmp_path / "x.zip"
    with zipfile.ZipFile(file, "w") as written:
        written.writestr("annotations.xml", b"")
        with pytest.warns(UserWarning, match="Duplicate name"):
            written.writestr("annotations.xml", b"")
    with pytest.raises(FileReadError, match="a member stands there twice"):
        read_answers(file)


def test_folders_are_not_followed_out(tmp_path: Path) -> None:
    (tmp_path / "other" / "dog").mkdir(parents=True)
    (tmp_path / "other" / "dog" / "b.png").touch()
    (tmp_path / "task" / "cat").mkdir(parents=True)
    (tmp_path / "task" / "cat" / "a.png").touch()
    (tmp_path / "task" / "dog").symlink_to(tmp_path / "other" / "dog")
    assert [answer.image for answer in read_answers(tmp_path / "task").answers] == ["a.png"]


def test_json_that_is_nested_too_deep(tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    file.write_text('[{"data": ' + '{"a":' * 200_000 + "1" + "}" * 200_000 + "}]")
    for name in ("", "label-studio", "fiftyone"):
        with pytest.raises(FileReadError, match=r"too many levels|cannot read"):
            read_answers(file, name)


def test_pipes_are_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.csv")
    for name in ("", *FORMATS):
        with pytest.raises(FileReadError):
            read_answers(tmp_path / "x.csv", name)


def test_texts_of_labels_are_not_markup(tmp_path: Path) -> None:
    """HTML stays the text that it is, in every file."""
    name = '<img src=x onerror="alert(1)">'
    assignment = Assignment("", "", (name, "b"), (Task(name, 0, 1, 1, 0.0, ((name, 1.0),)),), "")
    _, interface = export_assignment("label-studio", assignment, tmp_path / "a.json")
    assert "<img" not in interface.read_text()
    _, labels = export_assignment("cvat", assignment, tmp_path / "a.jsonl")
    assert json.loads(labels.read_bytes())[0]["name"] == name
