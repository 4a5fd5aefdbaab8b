"""Rows by their ids or numbers, as callers give them."""

from __future__ import annotations

import numbers
from collections.abc import Collection
from typing import Any

import numpy as np
import numpy.typing as npt

from .array_like import as_array, uncoerced
from .frames import index_text, is_index, is_series, rows_of_keys
from .rows import RowId, Rows

__all__ = ["check_beside", "distinct_rows", "rows_with_ids"]

Int64 = npt.NDArray[np.int64]


def rows_with_ids(rows: Rows, wanted: Collection[RowId]) -> dict[RowId, list[int]] | None:
    """The rows of each id of `wanted`, possibly none or several; None where the pool has no ids.

    A renamed image is found by its former ids as well. Where another image has such an id now, both are found: either
    may be meant.
    """
    ids = rows.row_ids()
    if ids is None:
        return None
    found: dict[RowId, list[int]] = {row_id: [] for row_id in wanted}
    for row, row_id in enumerate(ids):
        if row_id in found:
            found[row_id].append(row)
    for row_id, of_former in rows.former_ids().items():
        if row_id in found:
            found[row_id] = sorted({*found[row_id], *of_former})
    return found


def distinct_rows(rows: Rows, indices: npt.ArrayLike, name: str = "indices") -> Int64:
    """Distinct rows of a pool, in the given order.

    Parameters
    ----------
    rows : Rows
    indices : array_like, shape (n,), int or str
        Their numbers, or their ids where the pool has ids; or a pandas Index of the data frame that the pool is.
    name : str
        Their name in error messages.

    Raises
    ------
    ValueError
        Rows out of range or repeated, ids of no image or of several.
    TypeError
        Neither integers nor text, or text where the pool has no ids.
    """
    places = rows_of_keys(indices, rows, name) if is_index(indices) else None
    given = as_array(name, uncoerced(indices)) if places is None else places
    if given.ndim != 1:
        raise ValueError(f"{name} must have one dimension, got shape {given.shape}")
    if given.size == 0:
        return np.empty(0, dtype=np.int64)
    if given.dtype.kind in "OUT" and not all(map(_is_integer, given.tolist())):
        given = _rows_of_ids(rows, given.tolist(), name)
    if given.dtype.kind not in "Oiu":
        raise TypeError(f"{name} must be all integers, or all ids of images, got dtype {given.dtype}")
    outside = np.flatnonzero((given < 0) | (given >= rows.n_rows))
    if outside.size:
        raise ValueError(f"{name} must be rows from 0 to {rows.n_rows - 1}, got {given[outside[0]]}")
    unique, counts = np.unique(given, return_counts=True)
    if unique.size < given.size:
        raise ValueError(f"{name} must be distinct, got row {unique[counts > 1][0]} more than once")
    return given.astype(np.int64)


def check_beside(name: str, values: Any, indices: Any, *, of: str = "indices") -> None:
    """Check that the index of `values`, where they are a pandas Series, does not contradict `indices`, called `of`.

    Raises
    ------
    ValueError
        The index of the Series is not 0, 1, 2, … nor, in their order, `indices` or what these have as their own index;
        or it is 0, 1, 2, … where `indices` are these rows in another order.
    """
    if not is_series(values):
        return
    keys, places = values.index.tolist(), np.asarray(indices).tolist()
    if keys == places or (is_series(indices) and keys == indices.index.tolist()):
        return
    if keys != list(range(len(keys))):
        raise ValueError(
            f"{name} must be a Series whose index is 0, 1, 2, … or that of {of}, or {of}, in the same order, got "
            f"{index_text(values.index)}; give .to_numpy() where its order is that of {of}"
        )
    if set(keys) == set(places):
        raise ValueError(
            f"{name} is a Series whose index is 0, 1, 2, …, and {of} are the same rows in another order: it may be "
            f"in either; give .to_numpy() where its order is that of {of}, or .loc[{of}] where it is not"
        )


def _is_integer(value: Any) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, (bool, np.bool_))


def _rows_of_ids(rows: Rows, ids: list[Any], name: str) -> Int64:
    for row_id in ids:
        if not isinstance(row_id, str):
            raise TypeError(
                f"{name} must be all integers, or all ids of images, got {type(row_id).__name__} {row_id!r}"
            )
    found = rows_with_ids(rows, ids)
    if found is None:
        raise TypeError(f"{name} must be integers where {rows.name} has no ids, got {ids[0]!r}")
    for row_id in ids:
        if not found[row_id]:
            known = rows.ids_at(np.arange(min(3, rows.n_rows)))
            raise ValueError(f"{name} must be ids of images of {rows.name}, such as {known!r}, got {row_id!r}")
        if len(found[row_id]) > 1:
            raise ValueError(
                f"{name} must be ids of one image each, got {row_id!r}, which rows {found[row_id][:3]!r} have; give "
                "their numbers"
            )
    return np.array([found[row_id][0] for row_id in ids], dtype=np.int64)
