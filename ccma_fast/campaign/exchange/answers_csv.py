"""CSV that people fill in, in a spreadsheet or by a program of their own.

Out, a row for each image, the most important first: ``rank``, ``batch``, ``index`` (its row in the pool),
``image_path`` (its id), ``likeliest`` (classes between commas, the most probable first, in quotes where they have a
comma or quotes themselves), the empty columns ``label``, ``refusal``, ``annotator`` (filled in where the assignment
names one) and ``note``, and last ``campaign`` and ``saw``, which are to stay as they are.

In, any table with ``label`` and ``image_path`` or ``index``, and, where they are there, ``annotator``, ``refusal``,
``time`` (ISO 8601 with a time zone), ``seconds``, ``note``, ``campaign``, ``saw`` and ``likeliest``; others are
ignored. A row without label and refusal is no answer. Any form of CSV that spreadsheets write is read, see
:mod:`ccma_fast.system.csv_text`; spaces around an id count only where they tell two apart. A spreadsheet may
turn a name such as ``1-2`` or ``007`` into a date or a number when it opens the file; columns that are imported as text
stay what they are.

A cell that a spreadsheet would compute, one that begins with ``=``, ``+``, ``-``, ``@``, a tab or the end of a line,
is written with an apostrophe before it. So is one that begins with apostrophes and then one of these, so that reading
takes exactly one away again. What comes in is text, and nothing is ever computed of it.

Keys: none, so that the campaign makes one of image, annotator, answer and time. Everything survives the way out and
back but δ and the probabilities of classes, which the campaign has.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

from ...checks import number_in
from ...errors import FileReadError
from ...pool.spreadsheet_cells import ambiguity, whole_number, with_point
from ...pool.tables import Columns, read_columns
from .answer import Answer
from .assignment import Assignment
from .imported import Collected, Imported, check_classes, checked_text, label_or_refusal, parsed_time
from .outline import Outline
from .outside_files import as_csv, check_size, write_new
from .places import check_text_ids

__all__ = ["ASKED", "COLUMNS", "answers_in", "escaped", "export", "read", "recognises", "rows_of", "unescaped"]

_NAME = "answers"
COLUMNS = (
    *("rank", "batch", "index", "image_path", "likeliest"),
    *("label", "refusal", "annotator", "note", "campaign", "saw"),
)
"""The columns that are written."""

ASKED = ("image_path", "index", "annotator", "refusal", "time", "seconds", "note", "campaign", "saw", "likeliest")
"""The columns that are read beside ``label``."""

# What spreadsheets take for the beginning of a formula, in any script and after white space that they skip.
_FORMULA = re.compile(r"'*[=+\-@\t\r\n＝＋－＠]")

# Names in a list that need no quotes.
_PLAIN = re.compile(r'[^\s",]([^",\r\n]*[^\s",])?')


def escaped(text: str) -> str:
    """A cell that no spreadsheet computes."""
    return f"'{text}" if _FORMULA.match(text) else text


def unescaped(text: str) -> str:
    """What :func:`escaped` made a cell of."""
    return text[1:] if text.startswith("'") and _FORMULA.match(text) else text


def export(assignment: Assignment, file: Path, *, images: str = "") -> list[Path]:
    """Write an assignment.

    Parameters
    ----------
    assignment : Assignment
    file : Path
        A new file.
    images : str, optional
        Not used: people find images by their ids.

    Returns
    -------
    list of Path
        The file.

    Raises
    ------
    FileExistsError
        It is there, and may hold labels.
    ValueError
        A class is called as a refusal is, or an id is no text.
    OSError
        It cannot be written.
    """
    check_classes(assignment.classes, "CSV")
    return write_new({file: as_csv([COLUMNS, *rows_of(assignment, escaped)])})


def rows_of(assignment: Assignment, cell: Callable[[str], str]) -> list[Sequence[Any]]:
    """A row for each image, under ``rank``, ``batch``, ``index``, ``image_path`` and so on.

    Parameters
    ----------
    assignment : Assignment
    cell : callable
        Makes a cell of text.
    """
    check_text_ids(assignment)
    others = ("", "", cell(assignment.annotator), "", cell(assignment.campaign), cell(assignment.saw))
    return [
        (task.rank, task.batch, task.row, cell(task.image), cell(_listed([c for c, _ in task.likeliest])), *others)
        for task in assignment.tasks
    ]


def _listed(names: Sequence[str]) -> str:
    """Names between commas, in one cell."""
    quoted = ('"' + name.replace('"', '""') + '"' for name in names)
    return ", ".join(name if _PLAIN.fullmatch(name) else text for name, text in zip(names, quoted, strict=True))


def _unlisted(cell: str) -> tuple[str, ...] | None:
    """The names in a cell; None where there is none, or another text."""
    try:
        rows = list(csv.reader(io.StringIO(cell, newline=""), skipinitialspace=True, strict=True))
    except csv.Error:
        return None
    return tuple(rows[0]) if len(rows) == 1 else None


def recognises(outline: Outline) -> bool:
    """Whether a file is of this format."""
    return outline.kind == "csv" and "label" in outline.names and not {"annotation_id", "filepath"} & outline.names


def read(file: Path, *, images: str = "", ids: Collection[str] = ()) -> Imported:
    """Read the answers in a table.

    Parameters
    ----------
    file : Path
    images : str, optional
        Not used.
    ids : collection of str, optional
        The campaign's images: an id that is one of them only without the spaces around it is taken without.

    Returns
    -------
    Imported
        ``by_row`` where the table has no ``image_path``.

    Raises
    ------
    FileReadError
        No such file, no such table, a label without an image, both a label and a refusal in one row, or a time or
        seconds that are none.
    """
    check_size(file)
    if file.suffix.lower() == ".parquet":
        raise FileReadError(f"answers must be CSV, got {str(file)!r}")
    return answers_in(
        read_columns(str(file), _NAME, ASKED, only="label"),
        file,
        unescaped,
        lambda place: place.strip() if place not in ids and place.strip() in ids else place,
    )


def answers_in(
    columns: Columns,
    file: Path,
    text_of: Callable[[str], str],
    image_at: Callable[[str], str],
    confidences: Sequence[str] | None = None,
) -> Imported:
    """The answers in the columns of a table.

    Parameters
    ----------
    columns : Columns
        ``label``, and what there is of :data:`ASKED`.
    file : Path
        For error messages.
    text_of : callable
        What a cell means.
    image_at : callable
        The id of the image at a place.
    confidences : sequence of str, optional
        Where one is given, the label is a model's.
    """
    found, collected = columns.wanted, Collected()
    by_row = "image_path" not in found
    if by_row and "index" not in found:
        raise FileReadError(f"{_NAME} must have a column 'image_path' or 'index', got {str(file)!r} without")
    labels = found.pop("label")
    for row, label in enumerate(labels):
        place = f" at row {row} of {str(file)!r}"
        cells = {name: text_of(checked_text(column[row], name, place)) for name, column in found.items()}
        cells["label"] = text_of(checked_text(label, "label", place))
        image = _row_number(cells["index"], place) if by_row else image_at(cells["image_path"])
        answer = _answer(cells, image, place)
        if answer is None:
            collected.leave_out(image, "without a label")
        elif confidences is not None and confidences[row]:
            collected.leave_out(image, "a prediction, for it has a confidence")
        else:
            collected.answers.append(answer)
            collected.add_campaign(cells.get("campaign", ""))
    return collected.imported(by_row=by_row)


def _answer(cells: dict[str, str], image: str, place: str) -> Answer | None:
    """The answer in a row of a table, if there is one."""
    label, refusal = cells["label"], cells.get("refusal", "")
    if not label.strip() and not refusal.strip():
        return None
    if label.strip() and refusal.strip():
        raise FileReadError(f"a row must have a label or a refusal, got {label!r} and {refusal!r}{place}")
    if not image:
        raise FileReadError(f"{_NAME} must have an image_path beside each label, got ''{place}")
    time, seconds, shown = cells.get("time", ""), cells.get("seconds", ""), _unlisted(cells.get("likeliest", ""))
    return Answer(
        image,
        *((None, refusal) if refusal.strip() else label_or_refusal(label)),
        annotator=cells.get("annotator", ""),
        answered=parsed_time(time, place) if time.strip() else None,
        seconds=_seconds(seconds, place) if seconds.strip() else None,
        shown=shown,
        order="likeliest" if shown else "",
        saw=cells.get("saw", ""),
        note=cells.get("note", ""),
    )


def _row_number(cell: str, place: str) -> str:
    number = whole_number(cell)
    if number is None or number < 0:
        raise FileReadError(f"index must be the row of an image in the pool, from 0, got {cell!r:.80}{place}")
    return str(number)


def _seconds(cell: str, place: str) -> float:
    number = number_in(with_point(cell).strip())
    why = ambiguity(cell) if "," in cell else ""  # 1.234 is what a program writes, 1,234 may have thousands
    if why or number is None or not 0 <= number < math.inf:
        raise FileReadError(f"seconds must be a number of at least 0, got {cell!r:.80}{place}{why and ', '}{why}")
    return number
