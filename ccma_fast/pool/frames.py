"""Labels and masks in pandas and polars: which rows a Series is of by its index, and the columns of a frame.

Neither library is imported: who holds its objects has done so.
"""

from __future__ import annotations

import sys
from typing import Any, NoReturn, cast

import numpy as np
import numpy.typing as npt

from .array_like import is_missing
from .rows import Rows

__all__ = ["column_of_frame", "columns_of_frame", "index_text", "is_series", "refuse_lazy", "rows_of_index"]

Int64 = npt.NDArray[np.int64]


# Entries of an index in an error message.
_SHOWN = 3


def is_series(values: Any) -> bool:
    """Whether `values` are a pandas Series, which has an index."""
    return isinstance(values, getattr(sys.modules.get("pandas"), "Series", ()))


def columns_of_frame(frame: Any) -> dict[str, list[Any]] | None:
    """The cells of each column of a pandas or polars DataFrame, None for what is missing; None for anything else.

    Columns of vectors are left out.
    """
    if isinstance(frame, getattr(sys.modules.get("polars"), "LazyFrame", ())):
        refuse_lazy(frame, "a data frame")
    if _is_polars(frame):
        return {column: frame[column].to_list() for column, kind in frame.schema.items() if not kind.is_nested()}
    if not isinstance(frame, getattr(sys.modules.get("pandas"), "DataFrame", ())):
        return None
    frame = cast(Any, frame)
    columns: dict[str, list[Any]] = {}
    for i, column in enumerate(map(str, frame.columns)):
        cells = frame.iloc[:, i].tolist()
        if any(isinstance(cell, (list, tuple)) or np.ndim(cell) for cell in cells[:1]):
            continue
        if column in columns:
            raise ValueError(f"a data frame must have each column once, got {column!r} twice")
        columns[column] = [None if is_missing(cell) else cell for cell in cells]
    return columns


def refuse_lazy(frame: Any, name: str) -> NoReturn:
    """Raise for a polars LazyFrame, which has no rows yet."""
    raise TypeError(f"{name} must be one that holds its rows, got a {type(frame).__name__}; give .collect()")


def column_of_frame(frame: Any, column: str) -> Any:
    """A column, by a name of :func:`columns_of_frame`, as a Series."""
    return frame[column] if _is_polars(frame) else frame.iloc[:, [*map(str, frame.columns)].index(column)]


def _is_polars(frame: Any) -> bool:
    return isinstance(frame, getattr(sys.modules.get("polars"), "DataFrame", ()))


def index_text(index: Any) -> str:
    """The first entries of an index, for an error message."""
    keys = index[:_SHOWN].tolist()
    return f"{', '.join(map(repr, keys))}{', …' if index.size > len(keys) else ''}"


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
