"""Columns of CSV and parquet files."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..checks import check_text
from ..errors import FileReadError
from ..system.file_integrity import open_regular
from .parquet_file import opened

__all__ = ["Columns", "read_columns", "wanted_columns"]

_ALSO_CALLED = {"image_path": ("path", "filepath", "filename", "file")}
_CALLS = {"index", "label", *_ALSO_CALLED, *_ALSO_CALLED["image_path"]}

# What columns hold, by the names that are common for them.
_MEANINGS = {
    "label": {"label", "labels", "class", "classes", "class_id", "class_name", "category", "target", "targets", "y"},
    "image_path": {
        *("image_path", *_ALSO_CALLED["image_path"]),
        *("file_path", "file_name", "image", "images", "image_name", "img", "url"),
    },
    "index": {"index", "row", "rows", "id", "ids", "image_id", "key", "unnamed:_0", "__index_level_0__"},
    "something else": {"rank", "score", "scores", "represents", "weight", "confidence", "probability", "logit"},
}

# Most rows of a table that is read into Python objects: more than a pool has, and a small file may claim more.
_MOST_ROWS = 100_000_000

# What pandas calls an index without a name in parquet.
_UNNAMED = "__index_level_0__"


class Columns(NamedTuple):
    """The columns of a table: those of the wanted ones that exist, and the others."""

    wanted: dict[str, list[Any]]
    others: dict[str, list[Any]]


def read_columns(
    file: str,
    name: str,
    wanted: Sequence[str],
    *,
    only: str | None = None,
    is_value: Callable[[str], bool] = lambda cell: False,
) -> Columns:
    """The flat columns of a CSV or parquet file, an index that pandas wrote to parquet included.

    Parameters
    ----------
    file : str
    name : str
        Name in error messages of what is read.
    wanted : sequence of str
        ``image_path`` may also be called ``path``, ``filepath``, ``filename`` or ``file``; the first that is there is
        taken.
    only : str, optional
        The one that must exist; in a file of one column it may have any name that does not mean something else, and in
        a CSV file none. By default none must, and each has its name.
    is_value : callable, optional
        Whether text is a value of `only` and so not a header: the path of an image that exists, the name of a class.

    Raises
    ------
    FileReadError
        No such file, a damaged one, a column that occurs twice, or one whose name is only nearly the expected one.
    """
    table: dict[str, Any] = (
        _parquet_table(file, name)
        if Path(file).suffix.lower() == ".parquet"
        else _csv_table(file, name, only, is_value)
    )
    return wanted_columns(table, repr(file), name, wanted, only=only)


def wanted_columns(
    table: dict[str, Any], place: str, name: str, wanted: Sequence[str], *, only: str | None = None
) -> Columns:
    """The wanted columns of a table that is read already; parameters and errors as :func:`read_columns`."""
    must = () if only is None else (only,)
    calls = {column: (column, *_ALSO_CALLED.get(column, ())) for column in dict.fromkeys((*must, *wanted))}
    found = {column: next((call for call in calls[column] if call in table), None) for column in calls}
    for column, call in found.items():
        nearer = calls[column] if call is None else calls[column][: calls[column].index(call) + 1]
        for header in table:
            if header not in calls[column] and (expected := _plain(header)) in nearer:
                raise FileReadError(f"{name}: the column {header!r} of {place} must be called {expected!r}")
    plain = [header for header, cells in table.items() if not isinstance(cells, _Nested)] or [*table]
    if only is not None and len(plain) == 1 and not any(found.values()):
        (found[only],) = plain
        _check_meaning(plain[0], only, calls[only], place, name)
    if only is not None and found[only] is None:
        expected = " or ".join(map(repr, calls[only]))
        raise FileReadError(f"{name}: no column {expected} in {place}, got {', '.join(map(repr, table)) or 'none'}")
    used = {header: column for column, header in found.items() if header is not None}
    for header in used:
        if isinstance(table[header], _Nested):
            raise FileReadError(
                f"{name}: the column {header!r} of {place} must have one value in each row, got "
                f"{table[header].type} in each"
            )
    return Columns(
        {column: table[header] for header, column in used.items()},
        {header: table[header] for header in plain if header not in used},
    )


def _plain(header: str) -> str:
    return header.strip().casefold().replace(" ", "_").replace("-", "_")


def _check_meaning(header: str, only: str, calls: Sequence[str], place: str, name: str) -> None:
    """Check that the name of a file's only column does not mean something else than what is read."""
    for meaning, headers in _MEANINGS.items():
        if meaning != only and _plain(header) in headers:
            raise FileReadError(
                f"{name}: no column {' or '.join(map(repr, calls))} in {place}, got {header!r} alone, which is "
                f"{meaning if meaning.startswith('some') else f'what {meaning!r} means'}"
            )


def _csv_table(file: str, name: str, only: str | None, is_value: Callable[[str], bool]) -> dict[str, list[Any]]:
    try:
        with io.TextIOWrapper(open_regular(file), newline="", encoding="utf-8-sig") as handle:
            text = handle.read()
        check_text(text)
        rows = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    except FileNotFoundError:
        raise FileReadError(f"{name}: no file {file!r}") from None
    except (OSError, ValueError, csv.Error) as error:
        raise FileReadError(f"{name}: cannot read {file!r} as CSV: {error}") from error
    if not rows:
        raise FileReadError(f"{name}: {file!r} is empty")
    _check_separator(rows[0], file, name)
    if len(rows[0]) <= 1:
        rows = [row or [""] for row in rows]  # an empty line is an empty cell here, and skipped in a wider table
        if only is not None and not _is_header(rows[0][0], rows[1:], only, is_value):
            rows.insert(0, [only])
    else:
        rows = [row for row in rows if row]
    header, *cells = rows
    for row, line in enumerate(cells):
        if len(line) != len(header):
            raise FileReadError(f"{name}: {file!r} must have {len(header)} columns, got {len(line)} at row {row}")
    _check_distinct(header, file, name)
    return {column: [line[i] for line in cells] for i, column in enumerate(header)}


def _is_header(first: str, rows: Sequence[list[str]], only: str, is_value: Callable[[str], bool]) -> bool:
    """Whether the first cell of the only column is a header, and not already a value.

    Values repeat, or differ in their numbers, as ``img1`` and ``img2`` do.
    """
    if first == only or is_value(first):
        return first == only
    if any(_plain(first) in headers for headers in _MEANINGS.values()):
        return True
    alike = _pattern(first)
    is_name = first.isidentifier() and first.casefold() != "nan"
    return is_name and not any(_pattern(cell) == alike for row in rows for cell in row)


def _pattern(cell: str) -> str:
    return re.sub(r"\d+", "0", cell)


def _check_separator(first: list[str], file: str, name: str) -> None:
    parts = [first[0].split(separator) for separator in (";", "\t", "|")] if len(first) == 1 else []
    if any(_plain(part) in _CALLS for of_separator in parts for part in of_separator[1:]):
        raise FileReadError(f"{name}: columns of {file!r} must be separated by commas, got {first[0]!r}")


def _check_distinct(header: Sequence[str], file: str, name: str) -> None:
    twice = next((column for i, column in enumerate(header) if column in header[:i]), None)
    if twice is not None:
        raise FileReadError(f"{name}: {file!r} must have each column once, got {twice!r} twice")


class _Nested(NamedTuple):
    """A column with several values in each row, which is not read."""

    type: str


def _parquet_table(file: str, name: str) -> dict[str, list[Any] | _Nested]:
    """Every column, and the index of a data frame where it is a range, which parquet does not store as a column."""
    reader = opened(file, name)
    schema = reader.schema_arrow
    _check_distinct(schema.names, file, name)
    if reader.metadata.num_rows > _MOST_ROWS:
        raise FileReadError(f"{name}: {file!r} has {reader.metadata.num_rows} rows, expected at most {_MOST_ROWS}")
    flat = [entry.name for entry in schema if not entry.type.num_fields]
    try:
        table = reader.read(columns=flat)
    except (OSError, ValueError) as error:
        raise FileReadError(f"{name}: cannot read {file!r} as parquet: {error}") from error
    columns: dict[str, list[Any] | _Nested] = {
        entry.name: _Nested(str(entry.type)) if entry.type.num_fields else _cells(table[entry.name]) for entry in schema
    }
    for index in (schema.pandas_metadata or {}).get("index_columns", ()):
        if isinstance(index, dict) and index.get("kind") == "range":
            rows = range(index["start"], index["stop"], index["step"])
            unsaid = index["name"] is None and rows == range(table.num_rows)
            if len(rows) == table.num_rows and not unsaid:  # another program may have cut the table since
                columns.setdefault(index["name"] or _UNNAMED, list(rows))
    return columns


def _cells(column: Any) -> list[Any]:
    """The cells of a flat column; float16 and float32 keep their precision."""
    kind = {"halffloat": np.float16, "float": np.float32}.get(str(column.type))
    cells: list[Any] = column.to_pylist()
    return cells if kind is None else [None if cell is None else kind(cell) for cell in cells]
