"""Data frames and their columns: pandas, polars and pyarrow objects in memory.

Numbers stay where they are where the library has them in one piece: a frame of one NumPy type, a column of lists in
Arrow's layout. Lists that are Python objects are copied into one matrix.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from ...system.file_integrity import file_under
from ..array_like import is_missing
from ..arrays import ArrayRows, stacked
from ..arrow_columns import id_column_of, ids_of, list_width, values_of_lists
from ..id_columns import ID_CALLS, id_column, plain_header
from ..rows import RowId, Rows

__all__ = ["FrameRows", "rows_of_arrow", "rows_of_pandas", "rows_of_polars"]

# Columns beside the features that a forgotten choice of columns would make features.
_NO_FEATURES = {"label", "index", "unnamed:_0"}


class FrameRows(ArrayRows):
    """The rows of a data frame or of a column of vectors.

    Parameters
    ----------
    array : ndarray, shape (n_rows, n_columns)
    name : str
    ids : list of (str or None), or None
        Of the images.
    index : pandas.Index, optional
        By which Series of labels and masks are joined to the rows.
    """

    def __init__(self, array: npt.NDArray[Any], name: str, ids: list[RowId] | None = None, index: Any = None) -> None:
        super().__init__(array, name, in_use=file_under(array, name))
        self._ids, self.index = ids, index

    def row_ids(self) -> Iterator[RowId] | None:
        return None if self._ids is None else iter(self._ids)

    def ids_at(self, rows: npt.NDArray[np.int64]) -> list[RowId] | None:
        return None if self._ids is None else [self._ids[row] for row in rows.tolist()]


def rows_of_pandas(source: Any, name: str) -> Rows:
    """The rows of a pandas DataFrame or Series.

    A frame has numeric columns alone, each a column of the matrix, none of them called ``label`` or ``index``; or one
    column whose cells are vectors, and any others, of which ``image_path`` has the ids, or another one that
    :func:`ccma_fast.pool.id_columns.id_column` finds. Else an index of text has them. A Series is a column of vectors.

    Raises
    ------
    TypeError
        Columns of another kind, none or several of vectors.
    ValueError
        Vectors that are missing, of different lengths, or have numbers missing.
    """
    pandas = sys.modules["pandas"]
    if isinstance(source, pandas.Series):
        return FrameRows(_of_pandas_column(source, name), name, _index_ids(source), source.index)
    kinds = [*source.dtypes]
    if all(map(_is_pandas_number, kinds)):
        _check_features(source.columns, name)
    if all(isinstance(kind, np.dtype) and kind.kind in "fiu" for kind in kinds):
        return FrameRows(np.asarray(source), name, _index_ids(source), source.index)
    if all(_is_pandas_number(kind) for kind in kinds):  # nullable ones, in which what is missing becomes NaN
        values = source.to_numpy(np.float32, na_value=np.nan)
        return FrameRows(values, name, _index_ids(source), source.index)
    vectors = [i for i, kind in enumerate(kinds) if _is_pandas_vector(kind, source.iloc[:, i])]
    if len(vectors) != 1:
        _refuse_columns(name, dict(zip(map(str, source.columns), map(str, kinds), strict=True)), len(vectors))
    return FrameRows(_of_pandas_column(source.iloc[:, vectors[0]], name), name, _pandas_ids(source, name), source.index)


def _is_pandas_number(kind: Any) -> bool:
    types = sys.modules["pandas"].api.types
    return bool(types.is_numeric_dtype(kind) and not types.is_bool_dtype(kind) and not types.is_complex_dtype(kind))


def _is_pandas_vector(kind: Any, column: Any) -> bool:
    if isinstance(kind, sys.modules["pandas"].ArrowDtype):
        return list_width(kind.pyarrow_dtype) is not None
    return bool(kind == np.dtype(object)) and _holds_vectors(column)


def _holds_vectors(cells: Any) -> bool:
    """Whether the first cell that is there is a vector: text has a length too, and no shape."""
    first = next((cell for cell in cells if not is_missing(cell)), None)
    return isinstance(first, (list, tuple)) or len(getattr(first, "shape", ())) == 1


def _of_pandas_column(column: Any, name: str) -> npt.NDArray[Any]:
    if isinstance(column.dtype, sys.modules["pandas"].ArrowDtype):
        return _of_arrow(column.array.__arrow_array__(), name)
    if column.dtype != np.dtype(object):
        _refuse_numbers(name, f"a Series of {column.dtype}")
    return stacked(column.to_numpy(), name)


def _pandas_ids(source: Any, name: str) -> list[RowId] | None:
    """The ids in a column of text, or else in the index."""
    texts = [(str(column), i) for i, column in enumerate(source.columns) if _is_pandas_text(source.iloc[:, i])]
    ids = _index_ids(source)
    if ids is not None:  # other columns may then be of anything
        texts = [(column, i) for column, i in texts if plain_header(column) in ID_CALLS]
    found = id_column([column for column, _ in texts], name)
    return ids if found is None else _ids(source.iloc[:, dict(texts)[found]].tolist())


def _is_pandas_text(column: Any) -> bool:
    kind = sys.modules["pandas"].api.types.infer_dtype(column.cat.categories if hasattr(column, "cat") else column)
    return bool(kind == "string")


def _index_ids(source: Any) -> list[RowId] | None:
    """The ids in an index of text; None for another one."""
    if sys.modules["pandas"].api.types.infer_dtype(source.index) != "string":
        return None
    return _ids(source.index.tolist())


def rows_of_polars(source: Any, name: str) -> Rows:
    """The rows of a polars DataFrame or Series; as :func:`rows_of_pandas`, without an index."""
    polars = sys.modules["polars"]
    if isinstance(source, polars.Series):
        return FrameRows(_of_polars_column(source, name), name)
    kinds = source.schema
    if all(kind.is_integer() or kind.is_float() for kind in kinds.values()):
        _check_features(kinds, name)
        return FrameRows(source.to_numpy(), name)
    vectors = [
        column
        for column, kind in kinds.items()
        if _is_polars_vector(kind) or (kind == polars.Object and _holds_vectors(source[column]))
    ]
    if len(vectors) != 1:
        _refuse_columns(name, {column: str(kind) for column, kind in kinds.items()}, len(vectors))
    texts = (polars.String, polars.Categorical, polars.Enum)
    ids = id_column([column for column, kind in kinds.items() if kind in texts], name)
    return FrameRows(
        _of_polars_column(source[vectors[0]], name), name, None if ids is None else _ids(source[ids].to_list())
    )


def _is_polars_vector(kind: Any) -> bool:
    inner = getattr(kind, "inner", None)
    return inner is not None and (inner.is_integer() or inner.is_float())


def _of_polars_column(column: Any, name: str) -> npt.NDArray[Any]:
    if column.dtype == sys.modules["polars"].Object:
        return stacked(column.to_list(), name)
    if not _is_polars_vector(column.dtype):
        _refuse_numbers(name, f"a Series of {column.dtype}")
    return _of_arrow(column.to_arrow(), name)


def rows_of_arrow(source: Any, name: str) -> Rows:
    """The rows of a pyarrow Table, as :func:`rows_of_polars`, or of an Array or ChunkedArray of lists."""
    schema = getattr(source, "schema", None)
    if schema is None:
        return FrameRows(_of_arrow(source, name), name)
    types = sys.modules["pyarrow"].types
    if len(schema) and all(types.is_integer(kind) or types.is_floating(kind) for kind in schema.types):
        _check_features(schema.names, name)
        return FrameRows(np.column_stack([column.to_numpy(zero_copy_only=False) for column in source.columns]), name)
    vectors = [i for i, entry in enumerate(schema) if list_width(entry.type) is not None]
    if len(vectors) != 1:
        _refuse_columns(name, {entry.name: str(entry.type) for entry in schema}, len(vectors))
    ids = id_column_of(schema, name)
    return FrameRows(
        _of_arrow(source.column(vectors[0]), name), name, None if ids is None else ids_of(source.column(ids))
    )


def _of_arrow(values: Any, name: str) -> npt.NDArray[Any]:
    """An Arrow array of lists of numbers as a matrix, in place where it is in one piece."""
    width = list_width(values.type)
    if width is None:
        _refuse_numbers(name, f"a column of {values.type}")
    if hasattr(values, "chunks"):
        values = values.chunk(0) if values.num_chunks == 1 else values.combine_chunks()
    if not width:
        lengths = values.drop_null().value_lengths()
        width = lengths[0].as_py() if len(lengths) else 0
    if not width:
        raise ValueError(f"{name} must have a vector in each row, got {len(values)} rows without a number")
    return values_of_lists(values, width, 0, "the column", name)


def _check_features(columns: Iterable[Any], name: str) -> None:
    """Check that no column of numbers says by its name that it is of the labels or of the numbers of rows."""
    for column in columns:
        if isinstance(column, str) and plain_header(column) in _NO_FEATURES:
            raise ValueError(
                f"{name} must have columns of features alone, got one called {column!r}; leave it out, as in "
                f"frame.drop(columns=[{column!r}]), or call it something else"
            )


def _ids(cells: Sequence[Any]) -> list[RowId]:
    return [cell if isinstance(cell, str) and cell else None for cell in cells]


def _refuse_numbers(name: str, got: str) -> NoReturn:
    raise TypeError(f"{name} must be a matrix: a frame of numbers, or a column of lists of numbers, got {got}")


def _refuse_columns(name: str, columns: dict[str, str], n_vectors: int) -> NoReturn:
    first = [f"{column!r} ({kind})" for column, kind in [*columns.items()][:6]]
    there = ", ".join(first) + (", …" if len(columns) > len(first) else "")
    raise TypeError(
        f"{name} must be a frame of numbers alone, or with one column of lists of numbers, got {len(columns)} columns, "
        f"{n_vectors} of lists: {there}; choose columns, as in frame[[…]]"
    )
