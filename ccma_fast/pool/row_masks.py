"""Some rows of a pool, as callers and files name them: a mask, row numbers or ids."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..checks import check_same_rows
from ..errors import FileReadError
from ..system.bounded_read import read_whole
from ..system.text_files import decoded
from .array_like import as_array, uncoerced
from .derived import RowMask
from .frames import has_ids, is_index, is_series, rows_of_index
from .label_table import ID, INDEX, LabelTable, named_rows
from .readers.npy import load_npy
from .row_ids import distinct_rows
from .rows import Rows
from .tables import SUFFIXES, is_text, read_columns

__all__ = ["read_row_mask"]

Int64 = npt.NDArray[np.int64]


def read_row_mask(source: Any, rows: Rows, name: str) -> RowMask:
    """Some rows of a pool, in any of several forms.

    Parameters
    ----------
    source : array_like, path or sequence of pathlib.Path
        Booleans, one for each row; or row numbers, integers; or ids, text, where the pool has ids. Integers are row
        numbers, never a mask. The index of a pandas Series of booleans is as in
        :func:`ccma_fast.pool.labels.read_labels`; that of other Series does not matter. A pandas Index has entries of
        the index of the data frame that the pool is. Or a path, that of

        - a ``.npy`` file with a mask or row numbers;
        - a CSV (``.csv``, ``.tsv``) or parquet file with a column ``image_path`` (or as
          :func:`ccma_fast.pool.tables.read_columns` says) of ids, or a column ``index`` of row numbers, such as
          ``ccma-fast select --out`` writes. Where the pool has ids, these decide; other columns are left alone;
        - a ``.txt`` file with an id in each line.

        Several paths (objects of :mod:`pathlib`: text in a sequence is an id) are joined.
    rows : Rows
        The pool. Its ids are read only where `source` has some.
    name : str
        Their name in error messages.

    Returns
    -------
    ndarray
        A mask, shape (N,), or distinct row numbers, shape (n,), int64, in any order.

    Raises
    ------
    FileReadError
        No such file or column, a damaged file, or an index out of range.
    ValueError
        A mask of another length, rows out of range or named twice, ids of no image or of several, missing entries;
        numbers that may be a mask of integers.
    TypeError
        Neither booleans nor integers nor text, or text where the pool has no ids.

    Warns
    -----
    LabelWarning
        In a file an id is that of another row than the number beside it; the id decides.
    """
    if isinstance(source, (str, os.PathLike)):
        return _of_path(source, rows, name)
    if isinstance(source, (list, tuple)) and source and all(isinstance(part, os.PathLike) for part in source):
        mask = np.zeros(rows.n_rows, np.bool_)
        for path in source:
            mask[_of_path(path, rows, name)] = True
        return mask
    return _of_values(source, rows, name)


def _of_values(source: Any, rows: Rows, name: str) -> RowMask:
    """Rows in memory."""
    values = as_array(name, uncoerced(source))
    if values.ndim == 0:
        raise TypeError(
            f"{name} must be a mask of booleans, row numbers, ids of images or a path, got {type(source).__name__}"
        )
    if values.ndim != 1:
        raise ValueError(f"{name} must have one dimension, got shape {values.shape}")
    if values.dtype.kind == "O" and values.size and all(isinstance(cell, (bool, np.bool_)) for cell in values.tolist()):
        values = values.astype(np.bool_)
    if values.dtype.kind == "b":
        return _mask(values, source, rows, name)
    if values.size and values.dtype.kind not in "OUTiu":
        raise TypeError(
            f"{name} must be a mask of booleans, row numbers (integers) or ids of images (text), got dtype "
            f"{values.dtype}"
        )
    _check_no_mask(values, source, rows, name)
    return distinct_rows(rows, source if is_index(source) else values, name)


def _mask(values: npt.NDArray[np.bool_], source: Any, rows: Rows, name: str) -> RowMask:
    """Booleans, one for each row of the pool or, in a Series, for each id of its index."""
    if is_series(source):
        if values.size and has_ids(source, rows):
            ids = distinct_rows(rows, list(source.index), f"the index of {name}")
            return ids[values]
        places = rows_of_index(source, rows, name)
        if places is not None:
            return places[values]
    check_same_rows(name, values.size, rows.name, rows.n_rows)
    return values


def _check_no_mask(values: npt.NDArray[Any], source: Any, rows: Rows, name: str) -> None:
    """Check that integers, which are row numbers, cannot be a mask of zeros and ones.

    In a pool of one or two rows both may be meant; there an array of int64, NumPy's own type of row numbers, tells.
    """
    if values.dtype.kind not in "iu" or values.size != rows.n_rows or not np.isin(values, (0, 1)).all():
        return
    if values.size <= 2 and isinstance(source, np.ndarray) and source.dtype == np.int64:
        return
    raise ValueError(
        f"{name} must be row numbers or a mask of booleans, got {values.size} zeros and ones of dtype {values.dtype} "
        f"for the {rows.n_rows} rows of {rows.name}; give a mask as booleans"
    )


def _of_path(path: str | os.PathLike[str], rows: Rows, name: str) -> RowMask:
    """Rows in a file."""
    file = os.fspath(path)
    suffix = Path(file).suffix.lower()
    if suffix == ".npy":
        return _of_values(load_npy(file, name), rows, name)
    if suffix == ".txt":
        return distinct_rows(rows, _lines(file, name), name)
    if suffix not in SUFFIXES:
        raise FileReadError(f"{name}: expected a .npy, {', '.join(SUFFIXES)} or .txt file, got {file!r}")
    found = read_columns(file, name, (ID, INDEX))
    if not found.wanted:
        there = ", ".join(map(repr, found.others)) or "none"
        raise FileReadError(f"{name}: no column {ID!r} or {INDEX!r} in {file!r}, got {there}")
    return _of_columns(found.wanted, f" of {file!r}", rows, name, typed=not is_text(file))


def _of_columns(columns: dict[str, list[Any]], place: str, rows: Rows, name: str, *, typed: bool) -> Int64:
    """Rows by the columns of a table."""
    n = len(next(iter(columns.values())))
    table = LabelTable(range(n), columns.get(ID), columns.get(INDEX), place, typed=typed, what="row")
    numbers = named_rows(table, np.arange(n), rows, name)
    _, first, counts = np.unique(numbers, return_index=True, return_counts=True)
    if (counts > 1).any():
        row = int(first[counts > 1].min())
        what = f"row {numbers[row]}" if table.ids is None else repr(table.ids[row])
        raise ValueError(f"{name} must be distinct, got {what} more than once, first at row {row}{place}")
    return numbers


def _lines(file: str, name: str) -> Sequence[str]:
    """The lines of a text file, without empty ones."""
    try:
        text = io.StringIO(decoded(read_whole(file)), newline=None).read()
    except FileNotFoundError:
        raise FileReadError(f"{name}: no file {file!r}") from None
    except (OSError, ValueError) as error:
        raise FileReadError(f"{name}: cannot read {file!r} as text: {error}") from error
    return [line for line in text.split("\n") if line]
