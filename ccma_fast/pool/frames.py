"""Labels and masks in data frames: which rows a pandas Series is of by its index, and the columns of a frame.

No library is imported: who holds its objects has done so.
"""

from __future__ import annotations

import sys
from typing import Any, NoReturn, cast

import numpy as np
import numpy.typing as npt

from .array_like import is_missing
from .rows import Rows

__all__ = [
    "check_row_numbers",
    "column_of_frame",
    "columns_of_frame",
    "has_ids",
    "index_text",
    "is_index",
    "is_series",
    "refuse_lazy",
    "rows_of_index",
    "rows_of_keys",
]

Int64 = npt.NDArray[np.int64]


# Entries of an index in an error message.
_SHOWN = 3


def is_series(values: Any) -> bool:
    """Whether `values` are a pandas Series, which has an index."""
    return isinstance(values, getattr(sys.modules.get("pandas"), "Series", ()))


def is_index(values: Any) -> bool:
    """Whether `values` are a pandas Index, which has the names of rows, or some of them."""
    return isinstance(values, getattr(sys.modules.get("pandas"), "Index", ()))


def columns_of_frame(frame: Any) -> dict[str, list[Any]] | None:
    """The cells of each column of a DataFrame or a pyarrow Table, None for what is missing; None for anything else.

    Columns of vectors are left out.
    """
    if isinstance(frame, getattr(sys.modules.get("polars"), "LazyFrame", ())):
        refuse_lazy(frame, "a data frame")
    if _is_polars(frame):
        return {column: frame[column].to_list() for column, kind in frame.schema.items() if not kind.is_nested()}
    if _is_table(frame):
        found = [
            (entry.name, frame.column(i).to_pylist())
            for i, entry in enumerate(frame.schema)
            if not entry.type.num_fields
        ]
    elif isinstance(frame, getattr(sys.modules.get("pandas"), "DataFrame", ())):
        frame = cast(Any, frame)
        found = [(str(column), frame.iloc[:, i].tolist()) for i, column in enumerate(frame.columns)]
        found = [(column, cells) for column, cells in found if not any(map(_is_nested, cells))]
    else:
        return None
    columns: dict[str, list[Any]] = {}
    for column, cells in found:
        if column in columns:
            raise ValueError(f"a data frame must have each column once, got {column!r} twice")
        columns[column] = [None if is_missing(cell) else cell for cell in cells]
    return columns


def refuse_lazy(frame: Any, name: str) -> NoReturn:
    """Raise for a polars LazyFrame, which has no rows yet."""
    raise TypeError(f"{name} must be one that holds its rows, got a {type(frame).__name__}; give .collect()")


def column_of_frame(frame: Any, column: str) -> Any:
    """A column, by a name of :func:`columns_of_frame`, as a Series or a ChunkedArray."""
    if _is_table(frame):
        return frame.column(column)
    return frame[column] if _is_polars(frame) else frame.iloc[:, [*map(str, frame.columns)].index(column)]


def _is_polars(frame: Any) -> bool:
    return isinstance(frame, getattr(sys.modules.get("polars"), "DataFrame", ()))


def _is_table(frame: Any) -> bool:
    pyarrow = sys.modules.get("pyarrow")
    return isinstance(frame, (getattr(pyarrow, "Table", ()), getattr(pyarrow, "RecordBatch", ())))


def _is_nested(cell: Any) -> bool:
    return isinstance(cell, (list, tuple, dict, set)) or bool(getattr(cell, "ndim", 0))


def index_text(index: Any) -> str:
    """The first entries of an index, for an error message."""
    keys = index[:_SHOWN].tolist()
    return f"{', '.join(map(repr, keys))}{', …' if index.size > len(keys) else ''}"


def has_ids(series: Any, rows: Rows) -> bool:
    """Whether the index of a pandas Series has ids of images, and not what a data frame itself calls its rows."""
    index, own = series.index, rows.index
    if not all(isinstance(key, str) for key in index) or rows.row_ids() is None:  # which may take long
        return False
    if own is None or not index.size:
        return True
    return not index.equals(own) and not (index.is_unique and own.is_unique and index.isin(own).all())


def rows_of_keys(keys: Any, rows: Rows, name: str) -> Int64 | None:
    """The rows of a data frame with the entries of a pandas Index; None where they are ids, or it is no data frame.

    Raises
    ------
    ValueError
        Entries that the index of the data frame does not have, or has several times.
    """
    own = rows.index
    if own is None:
        return None
    found: Int64 | None = np.asarray(own.get_indexer(keys), np.int64) if own.is_unique else None
    if found is not None and (found >= 0).all():
        return found
    if rows.row_ids() is not None and all(isinstance(key, str) for key in keys):
        return None
    raise ValueError(
        f"{name} must be an Index of which the index of {rows.name}, {index_text(own)}, has each entry once, got "
        f"{index_text(keys)}; give .to_numpy() where it has the numbers of the rows"
    )


def check_row_numbers(numbers: Any, rows: Rows, name: str) -> None:
    """Check that numbers in a column ``index`` of a data frame are not what another data frame calls its rows.

    pandas' ``reset_index`` makes such a column of an index without a name.

    Raises
    ------
    ValueError
        They may be, and would be other rows.
    """
    own = rows.index
    if own is None or own.nlevels > 1 or np.array_equal(own.to_numpy(), np.arange(own.size)):
        return
    keys = sys.modules["pandas"].Index(numbers)
    if not keys.isin(own).all() or (own.is_unique and np.array_equal(own.get_indexer(keys), keys.to_numpy())):
        return
    raise ValueError(
        f"{name} have a column 'index' that may have row numbers, or be of the index of {rows.name}, "
        f"{index_text(own)}; give a Series with that index, or an array with one entry for each row"
    )


def rows_of_index(series: Any, rows: Rows, name: str) -> Int64 | None:
    """The rows that the entries of a pandas Series are of, by its index; None where they are those of `rows` in order.

    Where the rows are those of a data frame, the Series has the index of that frame, or a part of it in any order.
    Else its index is 0, 1, 2, …: another one may be of another order.

    Raises
    ------
    ValueError
        An index of which it is not clear which rows it means.
    """
    index, own = series.index, rows.index
    if own is None:
        if np.array_equal(index.to_numpy(), np.arange(index.size)):
            return None
        raise ValueError(
            f"{name} must be a Series whose index is 0, 1, 2, … or ids of the pool's images, got {index_text(index)}; "
            f"give .to_numpy() where its order is that of the rows, or .reindex(range({rows.n_rows})) where its index "
            "has their numbers"
        )
    if index.equals(own):
        return None
    is_default = np.array_equal(index.to_numpy(), np.arange(index.size))  # what every new Series has
    if not is_default and index.is_unique and own.is_unique:
        found: Int64 = np.asarray(own.get_indexer(index), np.int64)
        if (found >= 0).all():
            return found
    by_index = " or .loc[features.index] where its index has their names" if is_default else ""
    raise ValueError(
        f"{name} must be a Series with the index of {rows.name}, {index_text(own)}, or a part of it, got "
        f"{index_text(index)}; give .to_numpy() where its order is that of the rows{by_index}"
    )
