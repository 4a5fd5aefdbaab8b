"""The formats that go between a campaign and other programs, by name."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from ...checks import check_choice
from ...errors import FileReadError
from ...system.output_files import check_can_write
from .assignment import Assignment
from .imported import Imported
from .outline import outline_of
from .outside_files import check_new

__all__ = ["FORMATS", "Format", "check_can_export", "detect", "export_assignment", "exported_formats", "read_answers"]


@dataclass(frozen=True)
class Format:
    """A format.

    Attributes
    ----------
    module : str
        The module of this package that has ``read(file, *, images, ids)``, ``recognises(outline)`` and, where it is
        exported, ``export(assignment, file, *, images)``. It is loaded when it is used.
    title : str
        For messages and help.
    suffix : str
        Of a file that is exported; empty where none is.
    """

    module: str
    title: str
    suffix: str


FORMATS = {
    "page": Format("page_answers", "the page of ccma-fast label: its answers", ""),
    "csv": Format("answers_csv", "CSV to fill in", ".csv"),
    "label-studio": Format("label_studio", "Label Studio: tasks; exports as JSON, JSON-MIN or CSV", ".json"),
    "fiftyone": Format("fiftyone", "FiftyOne: labels.json of a FiftyOneImageClassificationDataset", ".json"),
    "fiftyone-csv": Format("fiftyone_csv", "FiftyOne: labels.csv of a CSVDataset", ".csv"),
    "cvat": Format("cvat", "CVAT: a manifest; 'CVAT for images 1.1' as XML or ZIP", ".jsonl"),
    "imagenet": Format("imagenet", "'ImageNet 1.0': folders of classes, or a ZIP archive, as CVAT writes them", ""),
}
"""Every format by its name."""


def exported_formats() -> list[str]:
    """The names of the formats that assignments are exported to."""
    return [name for name, entry in FORMATS.items() if entry.suffix]


def check_can_export(name: str, file: Path) -> None:
    """Raises ValueError or OSError where :func:`export_assignment` could not write such a file."""
    check_choice("format", name, exported_formats())
    check_new([file])
    check_can_write(file)


def export_assignment(name: str, assignment: Assignment, file: Path, *, images: str = "") -> list[Path]:
    """Write an assignment in a format.

    Parameters
    ----------
    name : str
        One of :func:`exported_formats`.
    assignment : Assignment
    file : Path
        A new file; formats with several write the others beside it.
    images : str, optional
        Where the other program finds the images: what stands before their ids, see the format's module.

    Returns
    -------
    list of Path
        What was written.

    Raises
    ------
    ValueError
        No such format, or something that it cannot hold.
    FileExistsError
        A file is there, and may hold labels.
    OSError
        It cannot be written.
    """
    check_choice("format", name, exported_formats())
    written: list[Path] = _module(name).export(assignment, Path(file), images=images)
    return written


def read_answers(file: Path, name: str = "", *, images: str = "", ids: Collection[str] = ()) -> Imported:
    """Read answers from a file or a folder.

    Parameters
    ----------
    file : Path
    name : str, optional
        A name in :data:`FORMATS`; found out from the content where it is empty.
    images : str, optional
        As for :func:`export_assignment`.
    ids : collection of str, optional
        The campaign's images: some formats name an image by a part of its id.

    Returns
    -------
    Imported

    Raises
    ------
    ValueError
        No such format.
    FileReadError
        No such file, one of another format, or a damaged one.
    """
    file = Path(file)
    name = name or detect(file)
    check_choice("format", name, list(FORMATS))
    found: Imported = _module(name).read(file, images=images, ids=ids)
    return found


def detect(file: Path) -> str:
    """The name of the format of a file or a folder.

    Raises
    ------
    FileReadError
        No such file, or one that could be of no format, or of several.
    """
    file = Path(file)
    outline = outline_of(file)
    found = [name for name in FORMATS if _module(name).recognises(outline)]
    if not found and outline.kind == "csv":
        return "csv"  # whose reader says what is wrong with the columns
    if len(found) != 1:
        raise FileReadError(
            f"{str(file)!r} could be of {' or '.join(map(repr, found)) or 'no known format'}; expected the name of its "
            f"format, one of {', '.join(map(repr, FORMATS))}"
        )
    return found[0]


def _module(name: str) -> Any:
    return import_module(f"{__package__}.{FORMATS[name].module}")
