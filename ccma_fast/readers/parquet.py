"""Parquet: a column of lists, or of lists of fixed size, read some rows at a time within each row group."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .._errors import FileReadError
from .._extras import optional
from ..pool import check_matrix
from ._blocks import BlockRows, chosen, rows_of_block

__all__ = ["ParquetRows", "list_width", "opened", "values_of_lists"]

# Compressed pages are read in pieces of this size instead of whole row groups.
_BUFFER_BYTES = 1 << 20


class ParquetRows(BlockRows):
    """A column of vectors in a ``.parquet`` file.

    Rows of one row group are decoded from its beginning: in files of large row groups reading in order is fast, and
    reading a few rows from anywhere takes as long as reading all that stand before them in their group.

    Parameters
    ----------
    file : str
    key : str or None
        The column; without it the one that is called `name`, or the only one of lists of numbers.
    name : str
        What error messages call it.

    Raises
    ------
    FileReadError
        No such file or column, a damaged file, or a row that is missing or of another length.
    ImportError
        pyarrow is not installed.
    """

    def __init__(self, file: str, key: str | None, name: str) -> None:
        self._parquet = opened(file, name)
        schema = self._parquet.schema_arrow
        found = {
            entry.name: str(entry.type) for entry in schema if key is not None or list_width(entry.type) is not None
        }
        self._column = chosen(name, file, key, found, [name], "column")
        kind = schema.field(self._column).type
        width = list_width(kind)
        if width is None:
            raise TypeError(f"{name} must be a column of lists of numbers, got {self._column!r} of {kind} in {file!r}")
        dtype = np.dtype(kind.value_type.to_pandas_dtype())
        metadata = self._parquet.metadata
        group_rows = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
        if width == 0:  # lists of any length: as long as the first
            width = _first_length(self._parquet, self._column, sum(group_rows), file, name)
        check_matrix((sum(group_rows), width), dtype, name)
        self._step = rows_of_block(width * dtype.itemsize)
        firsts = np.cumsum([0, *group_rows])
        starts = [np.arange(first, first + n, self._step) for first, n in zip(firsts, group_rows, strict=False)]
        self._group_starts = firsts
        self._stream: tuple[int, Iterator[Any]] | None = None  # the next block, and where it comes from
        super().__init__(name, file, width, dtype, np.concatenate([*starts, firsts[-1:]]))

    def _read(self, block: int) -> npt.NDArray[Any]:
        assert self.file is not None, "it was opened by its name"
        start, stop = int(self._starts[block]), int(self._starts[block + 1])
        group = int(np.searchsorted(self._group_starts, start, side="right")) - 1
        first = int(np.searchsorted(self._starts, self._group_starts[group]))
        if self._parquet is None:
            self._parquet = opened(self.file, self.name)
        if self._stream is None or not first <= self._stream[0] <= block:
            batches = self._parquet.iter_batches(self._step, row_groups=[group], columns=[self._column])
            self._stream = first, batches
        at, batches = self._stream
        self._stream = None  # an error leaves none behind
        try:
            for _ in range(at, block):
                next(batches)
            batch = next(batches)
        except (OSError, StopIteration, ValueError) as error:
            raise FileReadError(
                f"{self.name}: cannot read rows {start} to {stop - 1} of {self.file!r}: {error}"
            ) from error
        if block + 1 < len(self._starts) - 1 and stop < self._group_starts[group + 1]:
            self._stream = block + 1, batches
        values = values_of_lists(batch.column(0), self.n_columns, start, self.file, self.name)
        assert len(values) == stop - start, "batches are as long as was asked for"
        return values

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_parquet": None, "_stream": None}  # each process opens the file itself


def opened(file: str, name: str) -> Any:
    """A ``pyarrow.parquet.ParquetFile``."""
    parquet = optional("pyarrow.parquet", "a parquet file")
    if not Path(file).exists():
        raise FileReadError(f"{name}: no file {file!r}")
    try:
        return parquet.ParquetFile(file, buffer_size=_BUFFER_BYTES, pre_buffer=False)
    except (OSError, ValueError) as error:
        raise FileReadError(f"{name}: cannot read {file!r} as parquet: {error}") from error


def list_width(kind: Any) -> int | None:
    """How long the lists of numbers of an Arrow type are: 0 where of any length, None where it is no such type."""
    types = optional("pyarrow.types", "a parquet file")
    is_list = types.is_list(kind) or types.is_large_list(kind)
    if not (is_list or types.is_fixed_size_list(kind)):
        return None
    if not (types.is_floating(kind.value_type) or types.is_integer(kind.value_type)):
        return None
    return 0 if is_list else int(kind.list_size)


def values_of_lists(lists: Any, n_columns: int, start: int, file: str, name: str) -> npt.NDArray[Any]:
    """An Arrow array of lists as a matrix.

    Parameters
    ----------
    lists : pyarrow.Array
    n_columns : int
        How long each must be.
    start : int
        The number of the first row, for error messages.
    file, name : str

    Raises
    ------
    FileReadError
        A row that is missing, of another length, or has a number missing.
    """

    def refuse(bad: npt.NDArray[np.bool_], what: str) -> None:
        if bad.any():
            row = int(np.flatnonzero(bad)[0])
            raise FileReadError(
                f"{name}: {file!r} must have {n_columns} numbers in each row, got {what} at row {start + row}"
            )

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


def _first_length(parquet: Any, column: str, n_rows: int, file: str, name: str) -> int:
    if n_rows == 0:
        raise FileReadError(f"{name}: {file!r} has no row, and so tells no number of columns")
    first = next(parquet.iter_batches(1, columns=[column])).column(0)
    if first.null_count:
        raise FileReadError(f"{name}: {file!r} must have a list of numbers in each row, got none at row 0")
    return len(first[0])
