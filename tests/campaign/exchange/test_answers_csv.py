"""CSV that people fill in: what goes out comes back, and no cell of ours is a formula."""

from __future__ import annotations

import csv
import io
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from ccma_fast.campaign.exchange.answer import CANNOT_TELL, Answer
from ccma_fast.campaign.exchange.answers_csv import escaped, unescaped
from ccma_fast.campaign.exchange.assignment import Assignment, Task
from ccma_fast.campaign.exchange.formats import export_assignment, read_answers
from ccma_fast.errors import FileReadError


def written(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    file = folder / "answers.csv"
    file.write_bytes(text.encode(encoding))
    return file


def filled(file: Path, **columns: list[str]) -> Path:
    """A file that went out, with some columns filled in as a spreadsheet would."""
    header, *rows = csv.reader(io.StringIO(file.read_bytes().decode(), newline=""))
    for name, cells in columns.items():
        for row, cell in zip(rows, cells, strict=True):
            row[header.index(name)] = cell
    text = io.StringIO(newline="")
    csv.writer(text).writerows([header, *rows])
    file.write_bytes(text.getvalue().encode("utf-8-sig"))
    return file


def test_what_people_fill_in_comes_back(assignment: Assignment, tmp_path: Path) -> None:
    (file,) = export_assignment("csv", assignment, tmp_path / "out.csv")
    classes = assignment.classes
    filled(
        file,
        label=[classes[0], classes[1], "", "", escaped(classes[4]), classes[5], "", CANNOT_TELL],
        refusal=["", "", "too dark, =really", CANNOT_TELL, "", "", "", ""],
        annotator=["a, b", "", "ü", *[""] * 5],
        note=["", "two\nlines", *[""] * 6],
    )
    found = read_answers(file)
    images = [task.image for task in assignment.tasks]
    said = [(answer.image, answer.label, answer.refusal, answer.annotator, answer.note) for answer in found.answers]
    assert said == [
        (images[0], classes[0], None, "a, b", ""),
        (images[1], classes[1], None, "", "two\nlines"),
        (images[2], None, "too dark, =really", "ü", ""),
        (images[3], None, CANNOT_TELL, "", ""),
        (images[4], "=1+1", None, "", ""),
        (images[5], classes[5], None, "", ""),
        (images[7], None, CANNOT_TELL, "", ""),
    ]
    assert found.notes == [f"1 left out, without a label: {images[6]!r}"]
    assert found.campaigns == {assignment.campaign}
    assert not found.by_row
    assert {answer.saw for answer in found.answers} == {assignment.saw}
    shortlists = {task.image: tuple(name for name, _ in task.likeliest) or None for task in assignment.tasks}
    assert [answer.shown for answer in found.answers] == [shortlists[answer.image] for answer in found.answers]
    assert [answer.order for answer in found.answers] == ["likeliest"] * 6 + [""]


def test_order_of_choice(assignment: Assignment, tmp_path: Path) -> None:
    (file,) = export_assignment("csv", assignment, tmp_path / "out.csv")
    rows = list(csv.DictReader(io.StringIO(file.read_bytes().decode(), newline="")))
    found = [(int(row["batch"]), int(row["rank"]), int(row["index"]), unescaped(row["image_path"])) for row in rows]
    assert found == [(task.batch, task.rank, task.row, task.image) for task in assignment.tasks]


@pytest.mark.parametrize(
    "name", ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\rx", "'=1", "''-1", "=cmd|' /C calc'!A0", "＝1"]
)
def test_no_cell_is_a_formula(name: str, tmp_path: Path) -> None:
    tasks = (Task(name, 0, 1, 1, 0.0, ((name, 0.5), ("b", 0.5))),)
    (file,) = export_assignment("csv", Assignment("ab", name, (name, "b"), tasks, name), tmp_path / "out.csv")
    cells = [cell for row in csv.reader(io.StringIO(file.read_bytes().decode(), newline="")) for cell in row]
    assert not [cell for cell in cells if cell[:1] in tuple("=+-@\t\r\n＝")]
    (answer,) = read_answers(filled(file, label=[escaped(name)])).answers
    assert (answer.image, answer.label, answer.annotator, answer.saw) == (name, name, name, name)
    assert answer.shown == (name, "b")


@pytest.mark.parametrize("text", ["", "x", "'", "'x", "''x", "don't", "=", "'=", "a=b"])
def test_escaping_is_undone(text: str) -> None:
    assert unescaped(escaped(text)) == text
    assert escaped(text)[:1] != "="


def test_a_table_of_somebody_else(tmp_path: Path) -> None:
    file = written(
        tmp_path,
        "\ufefflabel,path,seconds,time,annotator,colour\r\n"
        "cat,a.png,2.5,2030-01-02T03:04:05Z,me,red\r\n"
        '=HYPERLINK("http://x"),b.png,,2030-01-02 03:04+0130,,\r\n',
    )
    first, second = read_answers(file).answers
    time = datetime(2030, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
    assert first == Answer("a.png", "cat", annotator="me", answered=time, seconds=2.5)
    assert second.label == '=HYPERLINK("http://x")'
    assert second.answered == datetime(2030, 1, 2, 3, 4, tzinfo=timezone(timedelta(hours=1, minutes=30)))


def test_rows_of_a_pool_without_ids(tmp_path: Path) -> None:
    found = read_answers(written(tmp_path, "index,label\n3,cat\n0.0,dog\n12,\n"))
    assert found.by_row
    assert [(answer.image, answer.label) for answer in found.answers] == [("3", "cat"), ("0", "dog")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image_path|label\na.png|cat\n", "must be separated by commas, semicolons or tabs"),
        ("image_path,class\na.png,cat\n", "no column 'label'"),
        ("image_path,Label,label\na.png,cat,dog\n", "must have one column 'label', got 'Label' and 'label'"),
        ("colour,label\nred,cat\n", "must have a column 'image_path' or 'index'"),
        ("index,label\n-1,cat\n", "index must be the row of an image in the pool, from 0, got '-1' at row 0"),
        ("index,label\n1e2,cat\n", "index must be the row"),
        ("image_path,label,refusal\na.png,cat,no\n", "a label or a refusal, got 'cat' and 'no' at row 0"),
        ("image_path,label\n,cat\n", "must have an image_path beside each label"),
        ("image_path,label,time\na.png,cat,2030-01-02 03:04\n", "with a time zone"),
        ("image_path,label,time\na.png,cat,2030-13-02T03:04Z\n", "of the calendar"),
        ("image_path,label,time\na.png,cat,0001-01-01T00:00+09:00\n", "of the calendar"),
        ("image_path,label,time\na.png,cat,yesterday\n", "a time must be like"),
        ("image_path,label,seconds\na.png,cat,nan\n", "seconds must be a number of at least 0"),
        ("image_path,label,seconds\na.png,cat,-1\n", "seconds must be"),
        ("image_path,label,label\na.png,cat,cat\n", "each column once"),
        ("image_path,label\na.png", "must have 2 columns, got 1"),
        ("image_path,label\na.png,c\0at\n", "zero byte"),
        ("", "is empty"),
    ],
)
def test_bad_tables(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(FileReadError, match=message):
        read_answers(written(tmp_path, text))


def test_another_encoding(tmp_path: Path) -> None:
    with pytest.raises(FileReadError, match="cannot read"):
        read_answers(written(tmp_path, "image_path,label\ngröße.png,cat\n", "latin-1"))


def test_an_export_overwrites_nothing(assignment: Assignment, tmp_path: Path) -> None:
    (file,) = export_assignment("csv", assignment, tmp_path / "out.csv")
    filled(file, label=["cat"] * 8)
    before = file.read_bytes()
    with pytest.raises(FileExistsError, match="may hold labels"):
        export_assignment("csv", assignment, file)
    assert file.read_bytes() == before


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_answers_as_a_spreadsheet_saves_them(tmp_path: Path, encoding: str) -> None:
    text = "Image Path;Label;Seconds;Annotator\r\n a.png ;cat;1,5;ana\r\nb.png;;;\r\n;;;\r\n"
    (tmp_path / "a.csv").write_bytes(text.encode(encoding))
    (answer,) = read_answers(tmp_path / "a.csv", ids=["a.png", "b.png"]).answers
    assert (answer.image, answer.label, answer.seconds, answer.annotator) == ("a.png", "cat", 1.5, "ana")
    (tmp_path / "a.csv").write_bytes(text.replace("1,5", "1,500").encode(encoding))
    with pytest.raises(FileReadError, match=r"seconds must be a number of at least 0, got '1,500' .* be a fraction"):
        read_answers(tmp_path / "a.csv")
