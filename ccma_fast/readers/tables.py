"""Tables that people and their programs make: columns of CSV and parquet files."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .._errors import FileReadError
from .parquet import opened

__all__ = ["parquet_table", "read_columns"]


def read_columns(
    file: str, name: str, wanted: Sequence[str], *, only: str, others: Sequence[str] = ()
) -> dict[str, list[Any]]:
    """Columns of a CSV or parquet file, those of `wanted` that it has.

    Parameters
    ----------
    file : str
    name : str
        What error messages call what is read.
    wanted : sequence of str
    only : str
        The one that must be there; a file of one column has it under any name, and a CSV file under none.
    others : sequence of str
        Other names for it, the first that is there is taken.
    """
    table = parquet_table(file, name) if Path(file).suffix.lower() == ".parquet" else _csv_table(file, name, only)
    found = next((column for column in (only, *others) if column in table), None)
    if found is None and len(table) == 1:
        (found,) = table
    if found is None:
        expected = " or ".join(map(repr, (only, *others)))
        raise FileReadError(f"{name}: no column {expected} in {file!r}, got {', '.join(map(repr, table)) or 'none'}")
    return {only: table[found], **{column: table[column] for column in wanted if column != only and column in table}}


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
    return {column: [line[i] for line in cells] for i, column in enumerate(header)}


def parquet_table(file: str, name: str) -> dict[str, list[Any]]:
    """Every column that holds no lists."""
    reader = opened(file, name)
    schema = reader.schema_arrow
    flat = [entry.name for entry in schema if not entry.type.num_fields]
    try:
        table = reader.read(columns=flat)
    except (OSError, ValueError) as error:
        raise FileReadError(f"{name}: cannot read {file!r} as parquet: {error}") from error
    return {column: table[column].to_pylist() for column in flat}
