"""Labels and class names: from arrays, ``.npy``, CSV, parquet, HDF5, extracted pools, JSON and text."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .._errors import FileReadError
from ..manifest import read_manifest
from ..pool import load_npy, split_key
from .parquet import opened

__all__ = ["open_labels", "read_class_names", "read_columns"]

# Rows of a table that a person fills in have numbers of their own: the order in which they are labelled is not theirs.
_INDEX, _LABEL = "index", "label"


def open_labels(source: Any, n_rows: int, name: str = "labels", class_names: Sequence[str] | None = None) -> Any:
    """Labels in whatever the caller has them, for :func:`ccma_fast._validate.check_labels`.

    Parameters
    ----------
    source : array_like or path
        A path is that of

        - a ``.npy`` file, or an HDF5 file (:mod:`ccma_fast.readers.hdf5`), with one label for each row;
        - a CSV or parquet file with a column ``label`` and perhaps one called ``index``, the row which the label is
          of; rows that are not named have none. Without ``index`` there is one label for each row. Other columns are
          left alone, so that the picks of ``ccma-fast select`` need a column ``label`` and nothing else. A CSV file of
          one column needs no header;
        - the folder of an extracted pool, whose metadata has a column ``label``.

    n_rows : int
        Rows of the pool.
    name : str
        What error messages call them.
    class_names : sequence of str, optional
        What labels that are text mean: their positions here.

    Returns
    -------
    array_like, shape (n_rows,)
        Numbers, not yet checked; −1 where there is no label, and where a cell is empty.

    Raises
    ------
    FileReadError
        No such file or column, a damaged file, or a row that is named twice, out of range or not a number; the text
        names the file and the row.
    """
    if not isinstance(source, (str, os.PathLike)):
        return source
    file, key = split_key(source)
    suffix = Path(file).suffix.lower()
    if suffix in (".h5", ".hdf5"):
        from .hdf5 import hdf5_vector

        return hdf5_vector(file, key, name)
    if Path(file).is_dir():
        columns = _of_pool(file, name)
    elif suffix in (".csv", ".parquet"):
        columns = read_columns(file, name, (_LABEL, _INDEX), only=_LABEL)
    elif suffix == ".npy":
        return load_npy(file, name)
    else:
        raise FileReadError(
            f"{name}: expected a .npy, .csv, .parquet, .h5 or .hdf5 file or the folder of a pool, got {file!r}"
        )
    classes = {text: c for c, text in enumerate(class_names or ())}
    given = [_class(cell, classes, file, row, name) for row, cell in enumerate(columns[_LABEL])]
    if _INDEX not in columns:
        return np.array(given, dtype=np.float64)
    labels = np.full(n_rows, -1.0)
    named: dict[int, int] = {}
    for row, (cell, label) in enumerate(zip(columns[_INDEX], given, strict=True)):
        try:
            index = int(cell)
        except (TypeError, ValueError):
            raise FileReadError(f"{name}: index must be an integer, got {cell!r} at row {row} of {file!r}") from None
        if not 0 <= index < n_rows:
            raise FileReadError(
                f"{name}: index must be a row from 0 to {n_rows - 1}, got {index} at row {row} of {file!r}"
            )
        if index in named:
            raise FileReadError(
                f"{name}: index must name each row once, got {index} at rows {named[index]} and {row} of {file!r}"
            )
        named[index] = row
        labels[index] = label
    return labels


def read_class_names(source: Any, name: str = "class_names") -> list[str]:
    """Names of classes, in the order of the classes.

    Parameters
    ----------
    source : sequence of str or path
        A path is that of a ``.json`` file with a list of names, or a mapping from "0", "1", … to names, or of a text
        file with one name in each line.
    name : str
        What error messages call them.

    Raises
    ------
    FileReadError
        No such file, or a damaged one, or one of another content.
    ValueError
        Fewer than two names, or an empty one.
    TypeError
        Names that are no strings.
    """
    where = ""
    if isinstance(source, (str, os.PathLike)):
        where = f" of {os.fspath(source)!r}"
        names = _names_in(Path(source), name)
    else:
        names = list(source)
    for row, text in enumerate(names):
        if not isinstance(text, str):
            raise TypeError(f"{name} must be strings, got {type(text).__name__} at row {row}{where}")
        if not text.strip():
            raise ValueError(f"{name} must not be empty, got {text!r} at row {row}{where}")
    if len(names) < 2:
        raise ValueError(f"{name} must be at least two, got {len(names)}{where}")
    return names


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
    table = _parquet_table(file, name) if Path(file).suffix.lower() == ".parquet" else _csv_table(file, name, only)
    found = next((column for column in (only, *others) if column in table), None)
    if found is None and len(table) == 1:
        (found,) = table
    if found is None:
        expected = " or ".join(map(repr, (only, *others)))
        raise FileReadError(f"{name}: no column {expected} in {file!r}, got {', '.join(map(repr, table)) or 'none'}")
    return {only: table[found], **{column: table[column] for column in wanted if column != only and column in table}}


def _of_pool(folder: str, name: str) -> dict[str, list[Any]]:
    manifest = read_manifest(folder, name)
    if manifest is None:
        raise FileReadError(f"{name}: no manifest in the folder {folder!r}; expected one that ccma-fast extract wrote")
    cells: list[Any] = []
    for shard in manifest.shards:
        file = str(Path(folder) / shard.metadata)
        table = _parquet_table(file, name)
        if _LABEL not in table:
            raise FileReadError(f"{name}: no column {_LABEL!r} in {file!r}: the images came without labels")
        cells += table[_LABEL]
    return {_LABEL: cells}


def _class(cell: Any, classes: dict[str, int], file: str, row: int, name: str) -> float:
    if cell is None or cell == "":
        return -1.0
    if isinstance(cell, str) and cell in classes:
        return float(classes[cell])
    try:
        return float(cell)
    except (TypeError, ValueError):
        expected = f"an integer or one of {len(classes)} class names" if classes else "an integer"
        raise FileReadError(f"{name} must be {expected}, got {cell!r} at row {row} of {file!r}") from None


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


def _parquet_table(file: str, name: str) -> dict[str, list[Any]]:
    reader = opened(file, name)
    schema = reader.schema_arrow
    flat = [entry.name for entry in schema if not entry.type.num_fields]
    try:
        table = reader.read(columns=flat)
    except (OSError, ValueError) as error:
        raise FileReadError(f"{name}: cannot read {file!r} as parquet: {error}") from error
    return {column: table[column].to_pylist() for column in flat}


def _names_in(file: Path, name: str) -> list[Any]:
    try:
        text = file.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise FileReadError(f"{name}: no file {str(file)!r}") from None
    except (OSError, ValueError) as error:
        raise FileReadError(f"{name}: cannot read {str(file)!r} as text: {error}") from error
    if file.suffix.lower() != ".json":
        return text.splitlines()
    try:
        content = json.loads(text)
    except ValueError as error:
        raise FileReadError(f"{name}: cannot read {str(file)!r} as JSON: {error}") from error
    if isinstance(content, dict) and set(content) == {str(c) for c in range(len(content))}:
        return [content[str(c)] for c in range(len(content))]
    if not isinstance(content, list):
        raise FileReadError(f'{name}: {str(file)!r} must hold a list of names, or a mapping from "0", "1", … to them')
    return content
