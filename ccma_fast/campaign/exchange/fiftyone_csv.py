"""FiftyOne: ``labels.csv`` of a ``CSVDataset``, out and in.

Out, as :mod:`.answers_csv`, with ``filepath`` instead of ``image_path``: the absolute path where `images` is the
folder of the images (and ``data.json`` beside the file, as :mod:`.fiftyone` writes it), else the id, which FiftyOne
looks for in the folder ``data/`` beside the file. FiftyOne makes a field of every column, as text, and sorts the
images by path: ``rank`` has their order. No cell is changed, for FiftyOne would read an apostrophe as a part of it:
this is no file for a spreadsheet.

In, ``filepath``, and ``label`` or the only column whose name ends in ``.label``, as FiftyOne names a field of
classifications; all else is as in :mod:`.answers_csv`. A row whose confidence is given in a column such as
``ground_truth.confidence`` is a model's prediction, which is noted and no answer.

Keys: none.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from ...errors import FileReadError
from ...pool.tables import Columns, read_columns
from .answers_csv import ASKED, COLUMNS, answers_in, rows_of
from .assignment import Assignment
from .fiftyone import check_root, manifest
from .imported import Imported, check_classes
from .outline import Outline, outline_of
from .outside_files import as_csv, check_size, write_new
from .places import id_at, place_of

__all__ = ["export", "read", "recognises"]

_PATH = COLUMNS.index("image_path")


def export(assignment: Assignment, file: Path, *, images: str = "") -> list[Path]:
    """Write an assignment.

    Parameters
    ----------
    assignment : Assignment
    file : Path
        A new file.
    images : str, optional
        The absolute path of the images' folder.

    Returns
    -------
    list of Path
        The file, and with `images` ``data.json`` beside it.

    Raises
    ------
    FileExistsError
        One of them is there.
    ValueError
        `images` is relative, a class is called as a refusal is, or an id is no text.
    OSError
        They cannot be written.
    """
    check_root(images)
    check_classes(assignment.classes, "FiftyOne")
    header = ["filepath" if name == "image_path" else name for name in COLUMNS]
    rows = [
        [place_of(cell, images) if column == _PATH else cell for column, cell in enumerate(row)]
        for row in rows_of(assignment, str)
    ]
    return write_new({file: as_csv([header, *rows]), **manifest(assignment, file, images)})


def recognises(outline: Outline) -> bool:
    """Whether a file is of this format."""
    return outline.kind == "csv" and "filepath" in outline.names and _label_column(outline.names) is not None


def _label_column(names: Collection[str]) -> str | None:
    """The column of labels: "label", or the only one of a field of classifications."""
    fields = [name for name in names if name.endswith(".label")]
    return "label" if "label" in names else fields[0] if len(fields) == 1 else None


def read(file: Path, *, images: str = "", ids: Collection[str] = ()) -> Imported:
    """Read the answers in a table.

    Parameters
    ----------
    file : Path
    images : str, optional
        The folder of the images, which is taken off absolute paths.
    ids : collection of str, optional
        Not used.

    Returns
    -------
    Imported

    Raises
    ------
    FileReadError
        As :func:`.answers_csv.read`.
    """
    check_size(file)
    names = outline_of(file).names
    label = _label_column(names)
    if label is None or "filepath" not in names:
        raise FileReadError(
            f"{str(file)!r} must have a column 'filepath', and 'label' or one whose name ends in '.label', got "
            f"{', '.join(map(repr, sorted(names)))}"
        )
    confidence = f"{label.removesuffix('.label')}.confidence"
    columns = read_columns(str(file), "answers", (*ASKED, confidence), only=label)
    wanted = {("label" if name == label else name): cells for name, cells in columns.wanted.items()}
    confidences = wanted.pop(confidence, None)
    return answers_in(Columns(wanted, {}), file, str, lambda place: id_at(place, images), confidences=confidences)
