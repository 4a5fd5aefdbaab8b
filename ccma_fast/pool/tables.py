"""Columns of CSV and parquet files."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..errors import FileReadError
from ..system.bounded_read import read_whole
from ..system.csv_text import read_csv
from .id_columns import ID, ID_CALLS, MAY_BE_IDS, plain_header
from .parquet_file import opened

__all__ = ["MEANS_LABEL", "SUFFIXES", "Columns", "is_text", "means_else", "read_columns", "wanted_columns"]

SUFFIXES = (".csv", ".tsv", ".parquet")
"""Of tables."""

_CALLS = {"index", "label", *ID_CALLS}

MEANS_LABEL = frozenset(
    ("label", "labels", "class", "classes", "class_id", "class_name", "category", "target", "targets", "y")
)
"""Names that are common for a column of labels."""

# What columns hold, by the names that are common for them.
_MEANINGS = {
    "label": MEANS_LABEL,
    ID: {*ID_CALLS, *MAY_BE_IDS},
    "index": {"index", "row", "rows", "id", "ids", "image_id", "key", "unnamed:_0", "__index_level_0__"},
    "something else": {"rank", "score", "scores", "represents", "weight", "confidence", "probability", "logit"},
}

# Most rows of a table that is read into Python objects: more than a pool has, and a small file may claim more.
_MOST_ROWS = 100_000_000

# Columns that say what a row is of.
_KEYS = {"index", ID}

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

    CSV may have any form that :func:`ccma_fast.system.csv_text.read_csv` knows. Names of columns are the same whatever
    their case, with spaces around and inside: ``Label``, ``Image Path``. Rows of empty cells alone are left out where
    a column says what rows are of, and so are columns without name and content behind the others. Empty cells at the
    end of a row may be missing, as Excel leaves them out, but not of a last row without an end of line, which was cut
    off.

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
        No such file, a damaged one, or a column that occurs twice.
    """
    table: dict[str, Any] = _csv_table(file, name, only, is_value) if is_text(file) else _parquet_table(file, name)
    found = wanted_columns(table, repr(file), name, wanted, only=only)
    return _without_empty_rows(found) if is_text(file) and _KEYS & found.wanted.keys() else found


def wanted_columns(
    table: dict[str, Any], place: str, name: str, wanted: Sequence[str], *, only: str | None = None
) -> Columns:
    """The wanted columns of a table that is read already; parameters and errors as :func:`read_columns`."""
    must = () if only is None else (only,)
    calls = {column: ID_CALLS if column == ID else (column,) for column in dict.fromkeys((*must, *wanted))}
    found = {column: _called(table, calls[column], place, name) for column in calls}
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


def _without_empty_rows(columns: Columns) -> Columns:
    """The columns of a CSV without the rows that have empty cells alone."""
    whole = {**columns.wanted, **columns.others}
    if any(all(map(str.strip, cells)) for cells in columns.wanted.values()):
        return columns
    full = [row for row, cells in enumerate(zip(*whole.values(), strict=True)) if any(map(str.strip, cells))]
    return Columns(*({name: [cells[row] for row in full] for name, cells in some.items()} for some in columns))


def is_text(file: str) -> bool:
    """Whether a table is CSV, whose cells are all text."""
    return Path(file).suffix.lower() != ".parquet"


def means_else(header: str, what: str = "label") -> bool:
    """Whether the name of a column is common for something else than `what`."""
    return any(plain_header(header) in headers for meaning, headers in _MEANINGS.items() if meaning != what)


def _called(table: dict[str, Any], calls: Sequence[str], place: str, name: str) -> str | None:
    """The header of the column of any of some names, the first of them that is there."""
    for call in calls:
        found = [header for header in table if plain_header(header) == plain_header(call)]
        if len(found) > 1:
            raise FileReadError(f"{name}: {place} must have one column {call!r}, got {found[0]!r} and {found[1]!r}")
        if found:
            return found[0]
    return None


def _check_meaning(header: str, only: str, calls: Sequence[str], place: str, name: str) -> None:
    """Check that the name of a file's only column does not mean something else than what is read."""
    for meaning, headers in _MEANINGS.items():
        if meaning != only and plain_header(header) in headers:
            raise FileReadError(
                f"{name}: no column {' or '.join(map(repr, calls))} in {place}, got {header!r} alone, which is "
                f"{meaning if meaning.startswith('some') else f'what {meaning!r} means'}"
            )


def _csv_table(file: str, name: str, only: str | None, is_value: Callable[[str], bool]) -> dict[str, list[Any]]:
    try:
        found = read_csv(read_whole(file), is_value=is_value)
    except FileNotFoundError:
        raise FileReadError(f"{name}: no file {file!r}") from None
    except (OSError, ValueError) as error:
        raise FileReadError(f"{name}: cannot read {file!r} as CSV: {error}") from error
    rows = found.rows
    if not rows:
        raise FileReadError(f"{name}: {file!r} is empty")
    _check_separator(rows[0], file, name)
    if len(rows[0]) <= 1:
        rows = [row or [""] for row in rows]  # an empty line is an empty cell here, and skipped in a wider table
        if only is not None and not _is_header(rows[0][0].strip(), rows[1:], only, is_value):
            rows.insert(0, [only])
    else:
        rows = [row for row in rows if row]
    header, *cells = rows
    while len(header) > 1 and not header[-1].strip() and not any(map(str.strip, _column(cells, len(header) - 1))):
        header = header[:-1]
    for row, line in enumerate(cells):
        missing = len(header) - len(line)
        if not missing:
            continue
        if any(map(str.strip, line[len(header) :])) or (missing > 0 and found.is_cut_off and row == len(cells) - 1):
            raise FileReadError(f"{name}: {file!r} must have {len(header)} columns, got {len(line)} at row {row}")
        line += [""] * missing
    _check_distinct(header, file, name)
    return {column: _column(cells, i) for i, column in enumerate(header)}


def _column(rows: Sequence[list[str]], i: int) -> list[str]:
    """A column of rows, of which some are shorter."""
    try:
        return [row[i] for row in rows]
    except IndexError:
        return [row[i] if i < len(row) else "" for row in rows]


def _is_header(first: str, rows: Sequence[list[str]], only: str, is_value: Callable[[str], bool]) -> bool:
    """Whether the first cell of the only column is a header, and not already a value.

    Values repeat, or differ in their numbers, as ``img1`` and ``img2`` do.
    """
    if plain_header(first) == only or is_value(first):
        return plain_header(first) == only
    if any(plain_header(first) in headers for headers in _MEANINGS.values()):
        return True
    alike = _pattern(first)
    is_name = first.isidentifier() and first.casefold() != "nan"
    return is_name and not any(_pattern(cell) == alike for row in rows for cell in row)


def _pattern(cell: str) -> str:
    return re.sub(r"\d+", "0", cell)


def _check_separator(first: list[str], file: str, name: str) -> None:
    parts = first[0].split("|") if len(first) == 1 else []
    if any(plain_header(part) in _CALLS for part in parts[1:]):
        raise FileReadError(
            f"{name}: columns of {file!r} must be separated by commas, semicolons or tabs, got {first[0]!r}"
        )


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
