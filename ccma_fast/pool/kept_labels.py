"""Labels in a file that an output would replace: they are never overwritten, whatever the options are."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import FileReadError
from ..system.bounded_read import read_whole
from .id_columns import plain_header
from .label_table import ID, INDEX
from .tables import MEANS_LABEL, SUFFIXES, read_columns

__all__ = ["check_keeps_labels"]

# Columns beside the labels in tables that this program wrote: by a model, or from the answers in a campaign.
_OWN = ({"confidence", "margin"}, {"suggested", "margin"}, {"annotators", "n_others"})
_OF_AUTOLABEL = ({INDEX, "label", "score"}, {INDEX, ID, "label", "score"})

# Keys of JSON under which programs keep labels.
_KEYS = MEANS_LABEL | {"answers", "choices", "annotations"}

_NOTHING = {"", "-1", "nan", "none", "null"}

_BETWEEN = re.compile(r'[,;\t|"]')


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


def _in_table(path: Path) -> str:
    """The labels in a CSV or parquet file, in words; empty where there are none."""
    try:
        columns = read_columns(str(path), "labels", ()).others
    except FileReadError as error:
        with path.open("rb") as file:
            first = next(iter(file.read(4096).decode("latin-1").splitlines()), "")
        # Labels may stand in a column without a name.
        looks_so = any(plain_header(cell) in MEANS_LABEL | {INDEX, ID} for cell in _BETWEEN.split(first))
        return f"may hold labels, for it cannot be read ({error})" if looks_so else ""
    names = {plain_header(header) for header in columns}
    if any(own <= names for own in _OWN) or names in _OF_AUTOLABEL:
        return ""
    for header, cells in columns.items():
        n = sum(str(cell).strip().lower() not in _NOTHING for cell in cells)
        if plain_header(header) in MEANS_LABEL and n:
            return f"holds {n} labels in its column {header!r}"
    return ""


def _in_json(path: Path) -> str:
    try:
        content = json.loads(read_whole(path))
        if isinstance(content, Mapping) and "@context" in content:  # a Croissant record of labels in a campaign
            return ""
        key = next(_filled_keys(content), None)
    except (ValueError, RecursionError):
        return ""
    return "" if key is None else f"holds labels under {key!r}"


def _filled_keys(content: Any) -> Iterator[str]:
    """Keys of labels, at any depth, with something under them."""
    if isinstance(content, Mapping):
        for key, value in content.items():
            if plain_header(key) in _KEYS and value not in (None, "", [], {}):
                yield key
            yield from _filled_keys(value)
    elif isinstance(content, list):
        for value in content:
            yield from _filled_keys(value)


def _in_npy(path: Path) -> str:
    """Labels are one for each row: text, numbers that repeat, or -1, unlike the numbers of picked rows."""
    if path.suffix.lower() != ".npy":
        return ""
    try:
        array = np.lib.format.open_memmap(path, mode="r")
    except (OSError, ValueError) as error:
        return "may hold labels as Python objects" if "Python objects" in str(error) else ""
    if array.ndim != 1 or not array.size or array.dtype.kind not in "iufUST":
        return ""
    are_rows = array.dtype.kind in "iu" and array.min() >= 0 and np.unique(array).size == array.size
    return "" if are_rows else f"holds {array.size} values of {array.dtype} that are no row numbers, as labels are"
