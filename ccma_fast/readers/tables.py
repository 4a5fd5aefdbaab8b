"""Tables that people and their programs make: columns of CSV and parquet files."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from .._errors import FileReadError
from .._in_use import open_regular
from .parquet import opened

__all__ = ["Columns", "read_columns"]

_ALSO_CALLED = {"image_path": ("path", "filepath", "filename", "file")}
_CALLS = {"index", "label", *_ALSO_CALLED, *_ALSO_CALLED["image_path"]}

# What pandas calls an index without a name in parquet.
_UNNAMED = "__index_level_0__"


class Columns(NamedTuple):
    """The columns of a table: those that were asked for and are there, and the others."""

    wanted: dict[str, list[Any]]
    others: dict[str, list[Any]]


def read_columns(file: str, name: str, wanted: Sequence[str], *, only: str) -> Columns:
    """Columns of a CSV or parquet file that hold no lists; of parquet, an index that pandas wrote among them.

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
        No such file, a damaged one, a column that stands there twice, or one that is only nearly called as it should
        where none is called so.
    """
    table = _parquet_table(file, name) if Path(file).suffix.lower() == ".parquet" else _csv_table(file, name, only)
    calls = {column: (column, *_ALSO_CALLED.get(column, ())) for column in dict.fromkeys((only, *wanted))}
    found = {column: next((call for call in calls[column] if call in table), None) for column in calls}
    for column, call in found.items():
        nearer = calls[column] if call is None else calls[column][: calls[column].index(call) + 1]
        for header in table:
            if header not in calls[column] and (expected := _plain(header)) in nearer:
                raise FileReadError(f"{name}: the column {header!r} of {file!r} must be called {expected!r}")
    if len(table) == 1 and not any(found.values()):
        (found[only],) = table
    if found[only] is None:
        expected = " or ".join(map(repr, calls[only]))
        raise FileReadError(f"{name}: no column {expected} in {file!r}, got {', '.join(map(repr, table)) or 'none'}")
    used = {header: column for column, header in found.items() if header is not None}
    return Columns(
        {column: table[header] for header, column in used.items()},
        {header: cells for header, cells in table.items() if header not in used},
    )


def _plain(header: str) -> str:
    return header.strip().casefold().replace(" ", "_").replace("-", "_")


def _csv_table(file: str, name: str, only: str) -> dict[str, list[Any]]:
    try:
        with io.TextIOWrapper(open_regular(file), newline="", encoding="utf-8-sig") as handle:
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
        if not _is_header(rows[0][0], rows[1:], only):
            rows.insert(0, [only])
    else:
        rows = [row for row in rows if row]
    header, *cells = rows
    for row, line in enumerate(cells):
        if len(line) != len(header):
            raise FileReadError(f"{name}: {file!r} must have {len(header)} columns, got {len(line)} at row {row}")
    _check_distinct(header, file, name)
    return {column: [line[i] for line in cells] for i, column in enumerate(header)}


def _is_header(first: str, rows: Sequence[list[str]], only: str) -> bool:
    """Whether the first cell of the only column is its name, and not already a value, which another may repeat."""
    return first == only or (first.isidentifier() and first.casefold() != "nan" and [first] not in rows)


def _check_separator(first: list[str], file: str, name: str) -> None:
    parts = [first[0].split(separator) for separator in (";", "\t", "|")] if len(first) == 1 else []
    if any(_plain(part) in _CALLS for of_separator in parts for part in of_separator[1:]):
        raise FileReadError(f"{name}: columns of {file!r} must be separated by commas, got {first[0]!r}")


def _check_distinct(header: Sequence[str], file: str, name: str) -> None:
    twice = next((column for i, column in enumerate(header) if column in header[:i]), None)
    if twice is not None:
        raise FileReadError(f"{name}: {file!r} must have each column once, got {twice!r} twice")


def _parquet_table(file: str, name: str) -> dict[str, list[Any]]:
    """Every column that holds no lists, and the index of a data frame that is a range, which is no column there."""
    reader = opened(file, name)
    schema = reader.schema_arrow
    _check_distinct(schema.names, file, name)
    flat = [entry.name for entry in schema if not entry.type.num_fields]
    try:
        table = reader.read(columns=flat)
    except (OSError, ValueError) as error:
        raise FileReadError(f"{name}: cannot read {file!r} as parquet: {error}") from error
    columns = {column: table[column].to_pylist() for column in flat}
    for index in (schema.pandas_metadata or {}).get("index_columns", ()):
        if isinstance(index, dict) and index.get("kind") == "range":
            rows = range(index["start"], index["stop"], index["step"])
            unsaid = index["name"] is None and rows == range(table.num_rows)
            if len(rows) == table.num_rows and not unsaid:  # another program may have cut the table since
                columns.setdefault(index["name"] or _UNNAMED, list(rows))
    return columns
