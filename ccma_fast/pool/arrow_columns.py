"""Columns of vectors in Arrow's types: lists of numbers, of fixed size or not, and tensors of one dimension."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..errors import FileReadError
from ..system.extras import optional
from .id_columns import id_column
from .keys import chosen_key
from .rows import RowId

__all__ = [
    "VectorColumn",
    "described",
    "id_column_of",
    "ids_of",
    "list_width",
    "value_type",
    "values_of_lists",
    "vector_column",
]

# Metadata of a field whose stored values are to be read as those of an extension type.
_EXTENSION = b"ARROW:extension:name"


class VectorColumn(NamedTuple):
    """A column of vectors."""

    name: str
    width: int
    """Their length; 0 where the type does not fix it."""
    dtype: np.dtype[Any]


def list_width(kind: Any) -> int | None:
    """Length of the lists of numbers of an Arrow type: 0 where it is not fixed, None for another type."""
    types = optional("pyarrow.types", "a parquet file")
    kind = _storage(kind)
    is_list = types.is_list(kind) or types.is_large_list(kind)
    if not (is_list or types.is_fixed_size_list(kind)):
        return None
    if not (types.is_floating(kind.value_type) or types.is_integer(kind.value_type)):
        return None
    return 0 if is_list else int(kind.list_size)


def value_type(kind: Any) -> np.dtype[Any]:
    """The type of the numbers in the lists of an Arrow type."""
    dtype: np.dtype[Any] = np.dtype(_storage(kind).value_type.to_pandas_dtype())
    return dtype


def vector_column(schema: Any, key: str | None, name: str, file: str) -> VectorColumn:
    """The column of vectors: `key`, or the one called `name`, or the only one of lists of numbers.

    Raises
    ------
    FileReadError
        There is none, there are several, or two columns have its name.
    TypeError
        It holds something else.
    """
    found = described(schema, every=key is not None)
    column = chosen_key(name, file, key, found, [name], "column")
    if schema.names.count(column) > 1:
        raise FileReadError(f"{name}: {file!r} must have one column {column!r}, got {schema.names.count(column)}")
    field = schema.field(column)
    kind = field.type
    width = list_width(kind)
    if width is None:
        raise TypeError(f"{name} must be a column of lists of numbers, got {column!r} of {kind} in {file!r}")
    for part in (field, _storage(kind).value_field):
        if extension := (part.metadata or {}).get(_EXTENSION):
            raise TypeError(
                f"{name} must be a column of lists of numbers, got {column!r} in {file!r} of the extension type "
                f"{extension.decode(errors='replace')!r}, which nobody knows here; its numbers may be codes"
            )
    return VectorColumn(column, width, value_type(kind))


def described(schema: Any, *, every: bool = False) -> Mapping[str, str]:
    """The columns of lists of numbers, or all, and their types."""
    return {entry.name: str(entry.type) for entry in schema if every or list_width(entry.type) is not None}


def id_column_of(schema: Any, name: str) -> str | None:
    """The column of text that has the images' ids, see :func:`ccma_fast.pool.id_columns.id_column`."""
    types = optional("pyarrow.types", "a parquet file")
    are_text = (types.is_string, types.is_large_string, types.is_string_view)
    kinds = [(entry.name, entry.type) for entry in schema]
    kinds = [(column, kind.value_type if types.is_dictionary(kind) else kind) for column, kind in kinds]
    return id_column([column for column, kind in kinds if any(is_text(kind) for is_text in are_text)], name)


def ids_of(column: Any) -> list[RowId]:
    """The ids in an Arrow array; None for empty text."""
    return [row_id or None for row_id in column.to_pylist()]


def values_of_lists(lists: Any, n_columns: int, start: int, place: str, name: str) -> npt.NDArray[Any]:
    """An Arrow array of lists as a matrix.

    Parameters
    ----------
    lists : pyarrow.Array
    n_columns : int
        Required length of each list.
    start : int
        The number of the first row, for error messages.
    place : str
        Where they are, for error messages.
    name : str

    Raises
    ------
    FileReadError
        A row that is missing, of another length, or has a number missing.
    """

    def refuse(bad: npt.NDArray[np.bool_], what: str) -> None:
        if bad.any():
            row = int(np.flatnonzero(bad)[0])
            raise FileReadError(
                f"{name}: {place} must have {n_columns} numbers in each row, got {what} at row {start + row}"
            )

    lists = getattr(lists, "storage", lists)
    if lists.null_count:
        refuse(lists.is_null().to_numpy(zero_copy_only=False), "none")
    if not list_width(lists.type):
        lengths = lists.value_lengths().to_numpy(zero_copy_only=False)
        other = lengths != n_columns
        refuse(other, f"{lengths[other][0]}" if other.any() else "")
    values = lists.flatten()
    if values.null_count:
        missing = values.is_null().to_numpy(zero_copy_only=False).reshape(len(lists), n_columns)
        refuse(missing.any(axis=1), "one that is missing")
    return np.asarray(values.to_numpy(zero_copy_only=False)).reshape(len(lists), n_columns)


def _storage(kind: Any) -> Any:
    """The storage type of a tensor of one dimension; other types as they are.

    A row of more dimensions could be flattened in more than one order.
    """
    tensor = optional("pyarrow", "a parquet file").FixedShapeTensorType
    return kind.storage_type if isinstance(kind, tensor) and len(kind.shape) == 1 else kind
