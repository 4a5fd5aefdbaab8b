"""The join of labels to the rows of a pool, by the ids of their images or by row numbers."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..checks import check_same_rows
from ..errors import FileReadError, LabelWarning
from .array_like import is_exact
from .id_columns import ID
from .row_ids import rows_with_ids
from .rows import RowId, Rows
from .spreadsheet_cells import ambiguity, damage, is_lost_zero, whole_number
from .tables import Columns

__all__ = ["ID", "INDEX", "LabelTable", "check_in_order", "joined", "named_rows"]

Int64 = npt.NDArray[np.int64]

# The column of row numbers.
INDEX = "index"

# What pandas calls an index without a name, in CSV and in parquet.
_UNNAMED = ("", "Unnamed: 0", "__index_level_0__")

# Ids shown in an error message.
_SHOWN = 3


class LabelTable(NamedTuple):
    """Labels with the ids or the row numbers of what they label, or in the order of the rows."""

    labels: Sequence[Any]
    ids: Sequence[Any] | None
    row_numbers: Sequence[Any] | None
    place: str
    """Suffix of a row number in error messages."""
    typed: bool
    what: str = "label"
    """What an entry is, in error messages."""


def joined(table: LabelTable, codes: Int64, rows: Rows, name: str) -> Int64:
    """The labels of a table joined to the rows of a pool: by ids, by row numbers, or in the order of the rows.

    Parameters
    ----------
    table : LabelTable
    codes : ndarray, int64
        The classes of its labels, −1 where there is none.
    rows : Rows
        The pool.
    name : str
        Name of the labels in error messages.

    Returns
    -------
    ndarray, shape (N,), int64
        −1 where there is no label.

    Raises
    ------
    ValueError
        Labels of another number of rows, of images that the pool does not have or has several times, or two that
        contradict each other; ids where the pool has none.
    FileReadError
        A row number out of range.

    Warns
    -----
    LabelWarning
        An id is that of another row than the number beside it; the id decides.
    """
    if table.ids is None and table.row_numbers is None:
        check_same_rows(name, codes.size, rows.name, rows.n_rows)
        return codes
    known = np.flatnonzero(codes >= 0)
    return _placed(table, codes, known, named_rows(table, known, rows, name), rows, name)


def named_rows(table: LabelTable, known: Int64, rows: Rows, name: str) -> Int64:
    """The rows of a pool that entries of a table are of, by their ids or, where one has none, their numbers.

    Parameters
    ----------
    table : LabelTable
        With ids or row numbers.
    known : ndarray, shape (n,), int64
        Positions of the entries that count.
    rows, name
        As in :func:`joined`, and so are errors and warnings.
    """
    if table.ids is not None and rows.row_ids() is not None:
        return _rows_of_ids(table, known, rows, name)
    if table.row_numbers is None:
        raise ValueError(
            f"{name} have the ids of their images{table.place} where {rows.name} has none; expected a "
            f"column {INDEX!r} with the row of each, or {rows.name} with ids: a parquet file or data frame that has "
            f"them in a column {ID!r}, or the folder that ccma-fast extract wrote"
        )
    numbers = _integers(table, name)
    outside = np.flatnonzero((numbers < 0) | (numbers >= rows.n_rows))
    if outside.size:
        row = outside[0]
        raise FileReadError(
            f"{name}: {INDEX} must be a row from 0 to {rows.n_rows - 1}, got "
            f"{table.row_numbers[row]!s} at row {row}{table.place}"
        )
    return numbers[known]


def _rows_of_ids(table: LabelTable, known: Int64, rows: Rows, name: str) -> Int64:
    """The rows of the known labels, by their ids."""
    ids = [_id(table, row, name) for row in known.tolist()]
    numbers = np.full(known.size, -1, dtype=np.int64)
    if table.row_numbers is not None:
        numbers = _integers(table, name, missing=-1)[known]
    # Of a CSV file that a person has edited spaces around an id may be theirs.
    bare = {} if table.typed else {row_id: row_id.strip() for row_id in set(ids) if row_id and row_id != row_id.strip()}
    there = rows_with_ids(rows, {*ids, *bare.values()})
    assert there is not None, "checked by the caller"
    ids = [bare[row_id] if row_id in bare and not there[row_id] and there[bare[row_id]] else row_id for row_id in ids]
    if None in there and not there[None]:
        row = known[ids.index(None)]
        raise ValueError(f"{name} must have an {ID} beside each {table.what}, got '' at row {row}{table.place}")
    _check_known([row_id for row_id in dict.fromkeys(ids) if not there[row_id]], table.place, rows, name)
    found: Int64 = known.copy()
    for k, (row_id, number) in enumerate(zip(ids, numbers.tolist(), strict=True)):
        places = there[row_id]
        if len(places) == 1 and row_id is not None:
            found[k] = places[0]
        elif number in places:
            found[k] = number
        else:
            raise ValueError(
                f"{name} must say by {INDEX} which they are of where several images have one {ID}, or none, "
                f"got {row_id!r} at row {known[k]}{table.place}, which rows {places[:_SHOWN]!r} of {rows.name} "
                "have"
            )
    moved = np.flatnonzero((numbers != -1) & (numbers != found))
    if moved.size:
        first = moved[0]
        warnings.warn(
            f"{name}: {moved.size} of {known.size} {table.what}s{table.place} are of another row than their "
            f"{INDEX} says, first {ids[first]!r}, which is row {found[first]} and not {numbers[first]}; "
            f"{ID} is taken",
            LabelWarning,
            stacklevel=7,
        )
    return found


def _check_known(missing: list[RowId], place: str, rows: Rows, name: str) -> None:
    """Check that no label is of an image that the pool does not have."""
    if missing:
        own = rows.ids_at(np.arange(min(_SHOWN, rows.n_rows))) or []
        shards = () if rows.manifest is None else rows.manifest.shards
        unreadable = len({row_id for shard in shards for row_id in shard.skipped}.intersection(missing))
        raise ValueError(
            f"{name} must be of images of {rows.name}, whose ids are {', '.join(map(repr, own))}, …, got "
            f"{len(missing)} others{place}: {', '.join(map(repr, missing[:_SHOWN]))}"
            + (", …" if missing[_SHOWN:] else "")
            + (f" ({unreadable} could not be read when they were extracted)" if unreadable else "")
            + _what_became(missing[0], rows)
        )


def _what_became(missing: RowId, rows: Rows) -> str:
    """What a spreadsheet may have made of an id to get one that the pool does not have."""
    cell = str(missing)
    lost = next((row_id for row_id in rows.row_ids() or () if row_id and is_lost_zero(cell, row_id)), None)
    if lost is None:
        return damage(cell)
    return f"; {cell!r} may be {lost!r}, which a spreadsheet took for a number: import the column as text"


def _placed(table: LabelTable, codes: Int64, known: Int64, of_known: Int64, rows: Rows, name: str) -> Int64:
    """The labels at their rows; an image with two different ones is refused."""
    labels = np.full(rows.n_rows, -1, dtype=np.int64)
    labels[of_known] = codes[known]  # the last of several
    differing = np.flatnonzero(labels[of_known] != codes[known])
    if differing.size:
        row = int(of_known[differing[0]])
        first, last = int(known[differing[0]]), int(known[np.flatnonzero(of_known == row)[-1]])
        what = f"row {row}" if table.ids is None else repr(table.ids[first])
        raise ValueError(
            f"{name} must be one for each image, got {table.labels[first]!r} at row {first} and "
            f"{table.labels[last]!r} at row {last}{table.place} for {what}"
        )
    return labels


def check_in_order(columns: Columns, place: str, rows: Rows, name: str) -> None:
    """Check that no column of a table without ids or row numbers may hold them under another name."""
    for column, cells in columns.others.items():
        if column not in _UNNAMED and not _may_name_rows(cells, ascending=rows.row_ids() is not None):
            continue
        for row, cell in enumerate(cells):
            if str(cell) != str(row):
                raise ValueError(
                    f"{name} must be in the order of the rows, or have a column {INDEX!r} or {ID!r}, got "
                    f"{cell!r} at row {row}{place} in its column {column!r}"
                )


def _may_name_rows(cells: Sequence[Any], *, ascending: bool) -> bool:
    """Whether the cells of a column could be names or numbers of rows: text or integers, all distinct.

    Ascending numbers are in the order of the rows and do not count, unless `ascending` is True: images in the order of
    their names, such as 1.png, 10.png, 2.png, are not in that order.
    """
    if len(cells) < 2 or len(set(cells)) < len(cells):
        return False
    texts = [str(cell).strip() for cell in cells if isinstance(cell, (str, int, float))]
    found = [whole_number(text) for text in texts]
    are_integers = [number is not None for number in found]
    if len(texts) < len(cells) or not all(map(_is_name, texts, are_integers)):
        return False
    if ascending or not all(are_integers):
        return True
    numbers = [number for number in found if number is not None]
    return numbers != sorted(numbers)


def _is_name(text: str, is_integer: bool) -> bool:
    """Whether text is a row number or not a number at all."""
    try:
        float(text)
    except ValueError:
        return bool(text)
    return is_integer


def _id(table: LabelTable, row: int, name: str) -> RowId:
    """The id at a row of a table; the ids of a data set are numbers, and so in parquet."""
    assert table.ids is not None, "checked by the caller"
    found = table.ids[row]
    if found is None or isinstance(found, str) or (isinstance(found, int) and not isinstance(found, bool)):
        return None if found is None else str(found) or None
    raise ValueError(f"{name} must have an {ID} beside each {table.what}, got {found!r} at row {row}{table.place}")


def _integers(table: LabelTable, name: str, missing: int | None = None) -> Int64:
    """The row numbers of a table; `missing`, where it is given, in place of missing ones."""
    assert table.row_numbers is not None, "checked by the caller"
    found = np.empty(len(table.row_numbers), dtype=np.int64)
    for row, cell in enumerate(table.row_numbers):
        text = "" if cell is None else str(cell).strip()
        if isinstance(cell, np.floating) and not is_exact(cell):
            raise FileReadError(
                f"{name}: {INDEX} must be exact, got {cell:g} at row {row}{table.place} in {cell.dtype}, which rounds "
                "such integers"
            )
        number = whole_number(text)
        if number is not None:
            found[row] = number
        elif missing is not None and text in ("", "nan"):
            found[row] = missing
        else:
            why = ambiguity(text)
            raise FileReadError(
                f"{name}: {INDEX} must be an integer, got {cell!r} at row {row}{table.place}{why and ', '}{why}"
            )
    return found
