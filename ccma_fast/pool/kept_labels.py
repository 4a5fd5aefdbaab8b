"""Labels in a file that an output would replace: they are never overwritten, whatever the options are."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ..errors import FileReadError
from ..system.bounded_read import read_whole
from ..system.output_files import write_whole
from .id_columns import plain_header
from .label_table import ID, INDEX
from .tables import MEANS_LABEL, SUFFIXES, means_else, read_columns

__all__ = ["check_keeps_labels", "write_keeping_labels"]

# Columns of the tables that this program writes: all of the first, and any of the second.
_PLACES = {INDEX, ID}
_OWN = (
    ({"label", "confidence", "margin"}, {*_PLACES, "name"}),
    ({"label", "suggested", "margin"}, _PLACES),
    ({"label", "annotators", "n_others"}, _PLACES),
)
# Of autolabel, in this order: people add a column behind.
_OF_AUTOLABEL = ([INDEX, "label", "score"], [INDEX, ID, "label", "score"])
_OF_PROBABILITIES = "p_"

# Columns of picks, and of draws: whatever else is filled in stands there for somebody's work.
_OF_PICKS = {"rank", "draw", *_PLACES, "score", "represents"}

# Names that programs and people give to labels, in columns and in JSON.
_NAMES = MEANS_LABEL | {
    *("annotation", "annotations", "annotated", "answer", "answers", "choice", "choices"),
    *("categories", "ground_truth", "gt", "species", "tag", "tags", "truth"),
}
_KEY = re.compile(rf'"({"|".join(sorted(_NAMES))})"\s*:', re.IGNORECASE)

_NOTHING = {"", "-1", "nan", "none", "null"}

_BETWEEN = re.compile(r'[,;\t|"]')

# Of gzip, and of ZIP, which Excel's workbooks and NumPy's .npz are.
_COMPRESSED = (b"\x1f\x8b", b"PK\x03\x04")


def check_keeps_labels(path: Path, option: str = "--out") -> None:
    """Check that a file that is to be replaced holds no labels but those that this program itself wrote.

    Raises
    ------
    FileExistsError
        It does, or it looks as if, and cannot be read.
    """
    if not path.is_file():
        return
    suffix = path.suffix.lower()
    kept = (_in_table if suffix in SUFFIXES else _in_json if suffix == ".json" else _in_npy)(path)
    if kept:
        raise FileExistsError(
            f"{option} {str(path)!r} is there already and {kept}: labels are never overwritten; expected another file, "
            "or that this one is moved away"
        )


def write_keeping_labels(path: Path, write: Callable[[BinaryIO], object], option: str = "--out") -> None:
    """Write a file whole; labels that were saved there while it was being made stay, and it is not written.

    Raises
    ------
    FileExistsError
        As :func:`check_keeps_labels`.
    OSError
        The file cannot be written.
    """

    def checked(file: BinaryIO) -> None:
        write(file)
        check_keeps_labels(path, option)

    write_whole(path, checked)


def _in_table(path: Path) -> str:
    """The labels in a CSV or parquet file, in words; empty where there are none."""
    try:
        columns = read_columns(str(path), "labels", ()).others
    except FileReadError as error:
        with path.open("rb") as file:
            begin = file.read(4096)
        # Zero bytes as well: it may be UTF-16 that does not say so.
        first = next(iter(begin.decode("latin-1").replace("\0", "").splitlines()), "")
        # Labels may stand in a column without a name.
        looks_so = any(_means_labels(cell) or plain_header(cell) in _PLACES for cell in _BETWEEN.split(first))
        return f"may hold labels, for it cannot be read ({error})" if looks_so or _is_compressed(begin) else ""
    names = [plain_header(header) for header in columns]
    plain = {name for name in names if not name.startswith(_OF_PROBABILITIES)}
    if any(own <= plain <= own | others for own, others in _OWN) or names in _OF_AUTOLABEL:
        return ""
    are_picks = bool({"rank", "draw"} & plain and _PLACES & plain)
    for header, cells in columns.items():
        n = sum(str(cell).strip().lower() not in _NOTHING for cell in cells)
        if n and (_means_labels(header) or (are_picks and plain_header(header) not in _OF_PICKS)):
            return f"holds {n} labels in its column {header!r}"
    if len(names) == 1 and any(columns.values()) and not means_else(names[0]):  # the header may be missing
        return "has one column, as a file of labels alone has"
    return ""


def _means_labels(header: str) -> bool:
    """Whether the name of a column says that it has labels, as ``label_name`` and ``my class`` do."""
    name = plain_header(header)
    return name in _NAMES or not _NAMES.isdisjoint(name.split("_"))


def _is_compressed(begin: bytes) -> bool:
    return begin.startswith(_COMPRESSED)


def _in_json(path: Path) -> str:
    content = read_whole(path)
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        named = _KEY.search(content.decode("latin-1"))  # one object in each line, or damaged
        return f"may hold labels under {named[1]!r}, for it is no JSON" if named else ""
    if isinstance(found, Mapping) and "@context" in found:  # a Croissant record of labels in a campaign
        return ""
    key = next(_filled_keys(found), None)
    if key is not None:
        return f"holds labels under {key!r}"
    cells: list[Any] = [*found.values()] if isinstance(found, Mapping) else found if isinstance(found, list) else []
    if (
        isinstance(found, list)
        and all(type(cell) is int and cell >= 0 for cell in cells)
        and len({*cells}) == len(cells)
    ):
        return ""  # row numbers
    if len(cells) > 1 and (all(isinstance(cell, str) for cell in cells) or all(type(cell) is int for cell in cells)):
        return f"holds {len(cells)} texts or numbers alone, as labels are"
    return ""


def _filled_keys(content: Any) -> Iterator[str]:
    """Keys of labels, at any depth, with something under them; of picks all keys but their own."""
    if isinstance(content, Mapping):
        are_picks = "rank" in content and not _PLACES.isdisjoint(content)
        for key, value in content.items():
            name = plain_header(key)
            is_of_labels = name in _NAMES or (are_picks and name not in _OF_PICKS | {"report"})
            if is_of_labels and value not in (None, "", [], {}):
                yield key
            yield from _filled_keys(value)
    elif isinstance(content, list):
        for value in content:
            yield from _filled_keys(value)


def _in_npy(path: Path) -> str:
    """Labels are one for each row: text, numbers that repeat, or -1, unlike the numbers of picked rows.

    A matrix of labels has integers or text, unlike features and probabilities.
    """
    if path.suffix.lower() != ".npy":
        return ""
    try:
        array = np.lib.format.open_memmap(path, mode="r")
    except (OSError, ValueError) as error:
        with path.open("rb") as file:
            is_compressed = _is_compressed(file.read(8))
        return "may hold labels as Python objects" if is_compressed or "Python objects" in str(error) else ""
    if not array.size or (array.dtype.names is None and array.dtype.kind not in "biufUST"):
        return ""
    if array.ndim != 1 and array.dtype.kind == "f":
        return ""
    are_rows = array.ndim == 1 and array.dtype.kind in "iu" and array.min() >= 0 and np.unique(array).size == array.size
    return "" if are_rows else f"holds {array.size} values of {array.dtype} that are no row numbers, as labels are"
