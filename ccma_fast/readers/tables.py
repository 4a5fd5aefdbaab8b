"""Tables that people and their programs make: columns of CSV and parquet files."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .._errors import FileReadError
from .parquet import opened

__all__ = ["read_columns"]

_ALSO_CALLED = {"image_path": ("path", "filepath", "filename", "file")}
_CALLS = {"index", "label", *_ALSO_CALLED, *_ALSO_CALLED["image_path"]}


def read_columns(file: str, name: str, wanted: Sequence[str], *, only: str) -> dict[str, list[Any]]:
    """Columns of a CSV or parquet file, those of `wanted` that it has.

    Parameters
    ----------
    file : str
    name : str
        What error messages call what is read.
    wanted : sequence of str
        ``image_path`` may also be called ``path``, ``filepath``, ``filename`` or ``file``; the first that is there is
        taken.
    only : str
        The one that must be there; a file of one column has it under any name, and a CSV file under none.

    Raises
    ------
    FileReadError
        No such file, a damaged one, a column that stands there twice, or one that is only nearly called as it should.
    """
    table = _parquet_table(file, name) if Path(file).suffix.lower() == ".parquet" else _csv_table(file, name, only)
    calls = {column: (column, *_ALSO_CALLED.get(column, ())) for column in dict.fromkeys((only, *wanted))}
    found = {column: next((call for call in calls[column] if call in table), None) for column in calls}
    for column in (column for column in calls if found[column] is None):
        for header in table:
            if (expected := _plain(header)) and expected in calls[column]:
                raise FileReadError(f"{name}: the column {header!r} of {file!r} must be called {expected!r}")
    if len(table) == 1 and not any(found.values()):
        (found[only],) = table
    if found[only] is None:
        expected = " or ".join(map(repr, calls[only]))
        raise FileReadError(f"{name}: no column {expected} in {file!r}, got {', '.join(map(repr, table)) or 'none'}")
    return {column: table[header] for column, header in found.items() if header is not None}


def _plain(header: str) -> str:
    return header.strip().casefold().replace(" ", "_").replace("-", "_")


def _csv_table(file: str, name: str, only: str) -> dict[str, list[Any]]:
    try:
        with open(file, newline="", encoding="utf-8-sig") as handle:
            rows = list(csv.reader(handle, strict=True))
    except FileNotFoundError:
        raise FileReadError(f"{name}: no file {file!r}") from None
    except (OSError, ValueError, csv.Error) as error:
        raise FileReadError(f"{name}: cannot read {file!r} as CSV: {error}") from error
    if not rows:
        raise FileReadError(f"{name}: {file!r} is empty")
    _check_separator(rows[0], file, name)
    if len(rows[0]) <= 1:
        rows = [row or [""] for row in rows]  # an empty line is an empty cell here, and nothing in a wider table
        if not rows[0][0].isidentifier():  # no header: the first cell is already a value
            rows.insert(0, [only])
    else:
        rows = [row for row in rows if row]
    header, *cells = rows
    for row, line in enumerate(cells):
        if len(line) != len(header):
            raise FileReadError(f"{name}: {file!r} must have {len(header)} columns, got {len(line)} at row {row}")
    _check_distinct(header, file, name)
    return {column: [line[i] for line in cells] for i, column in enumerate(header)}


def _check_separator(first: list[str], file: str, name: str) -> None:
    parts = [first[0].split(separator) for separator in (";", "\t", "|")] if len(first) == 1 else []
    if any(_plain(part) in _CALLS for of_separator in parts for part in of_separator[1:]):
        raise FileReadError(f"{name}: columns of {file!r} must be separated by commas, got {first[0]!r}")


def _check_distinct(header: Sequence[str], file: str, name: str) -> None:
    twice = next((column for i, column in enumerate(header) if column in header[:i]), None)
    if twice is not None:
        raise FileReadError(f"{name}: {file!r} must have each column once, got {twice!r} twice")


def _parquet_table(file: str, name: str) -> dict[str, list[Any]]:
    """Every column that holds no lists."""
    reader = opened(file, name)
    schema = reader.schema_arrow
    _check_distinct(schema.names, file, name)
    flat = [entry.name for entry in schema if not entry.type.num_fields]
    try:
        table = reader.read(columns=flat)
    except (OSError, ValueError) as error:
        raise FileReadError(f"{name}: cannot read {file!r} as parquet: {error}") from error
    return {column: table[column].to_pylist() for column in flat}
