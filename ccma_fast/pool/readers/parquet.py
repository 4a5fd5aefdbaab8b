"""Parquet: a column of lists, or of lists of fixed size, read some rows at a time within each row group."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from ...errors import FileReadError
from ...system.file_integrity import FileInUse
from ..arrow_columns import id_column_of, ids_of, values_of_lists, vector_column
from ..blocks import BlockRows, ids_of_parts, rows_of_block
from ..parquet_file import opened
from ..rows import RowId, check_matrix

__all__ = ["ParquetRows", "ids_at", "read_ids"]

Int64 = npt.NDArray[np.int64]

# A few bytes can stand for lists of any length. In row groups of more bytes than this the length of the lists is not
# read but computed from the number of all values.
_MOST_LOOK_BYTES = 64 << 20


class ParquetRows(BlockRows):
    """A column of vectors in a ``.parquet`` file.

    A row group is decoded from its beginning: with large row groups sequential reads are fast, and a few scattered rows
    take as long as all rows before them in their group.

    Parameters
    ----------
    file : str
    key : str or None
        The column; without it the one that is called `name`, or the only one of lists of numbers.
    name : str
        Its name in error messages.

    Raises
    ------
    FileReadError
        No such file or column, a damaged file, or a row that is missing or of another length.
    ImportError
        pyarrow is not installed.
    """

    def __init__(self, file: str, key: str | None, name: str) -> None:
        in_use = FileInUse(file, name)
        self._parquet = opened(file, name)
        schema = self._parquet.schema_arrow
        self.column, width, dtype = vector_column(schema, key, name, file)
        self._id_column = id_column_of(schema, name)
        firsts = _group_starts(self._parquet)
        n_rows = int(firsts[-1])
        groups = _large_groups(self._parquet.metadata, self.column, dtype.itemsize)
        if not width:  # lists of any length: as long as the first
            if groups:
                n_of_group, n_values = groups[0]
                width = n_values // n_of_group
            else:
                width = _first_length(self._parquet, self.column, n_rows, file, name)
        check_matrix((n_rows, width), dtype, name)
        for n_of_group, n_values in groups:
            if n_values != n_of_group * width or width * dtype.itemsize > _MOST_LOOK_BYTES:
                raise FileReadError(
                    f"{name}: {file!r} must have as many numbers in each row, in at most {_MOST_LOOK_BYTES} bytes, got "
                    f"{n_values} in {n_of_group} rows of one row group"
                )
        self._step = rows_of_block(width * dtype.itemsize)
        starts = [np.arange(first, end, self._step) for first, end in pairwise(firsts.tolist())]
        self._group_starts = firsts
        self._stream: tuple[int, Iterator[Any]] | None = None  # the next block, and where it comes from
        super().__init__(name, file, [in_use], width, dtype, np.concatenate([*starts, firsts[-1:]]))

    def _read(self, block: int) -> npt.NDArray[Any]:
        assert self.file is not None, "it was opened by its name"
        start, stop = int(self._starts[block]), int(self._starts[block + 1])
        group = int(np.searchsorted(self._group_starts, start, side="right")) - 1
        first = int(np.searchsorted(self._starts, self._group_starts[group]))
        if self._stream is None or not first <= self._stream[0] <= block:
            batches = self._opened().iter_batches(self._step, row_groups=[group], columns=[self.column])
            self._stream = first, batches
        at, batches = self._stream
        self._stream = None  # dropped where an error follows
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
        values = values_of_lists(batch.column(self.column), self.n_columns, start, repr(self.file), self.name)
        assert len(values) == stop - start, "batches are as long as was asked for"
        return values

    def row_ids(self) -> Iterator[RowId] | None:
        return None if self._id_column is None else read_ids(self._opened(), self._id_column, self.in_use[0])

    def ids_at(self, rows: Int64) -> list[RowId] | None:
        column = self._id_column
        return None if column is None else ids_at(self._opened(), column, rows, self.in_use[0])

    def _opened(self) -> Any:
        """The file that was opened, also where another has its name by now."""
        assert self.file is not None, "it was opened by its name"
        self._parquet = self._parquet or opened(self.file, self.name)
        return self._parquet

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_parquet": None, "_stream": None}  # each process opens the file itself


def read_ids(parquet: Any, column: str, in_use: FileInUse) -> Iterator[RowId]:
    """The ids in a column of a ``pyarrow.parquet.ParquetFile``, in order."""
    with _reading_ids(column, in_use):
        for batch in parquet.iter_batches(columns=[column]):
            in_use.check()
            yield from ids_of(batch.column(column))


def ids_at(parquet: Any, column: str, rows: Int64, in_use: FileInUse) -> list[RowId]:
    """The ids of some rows of a ``pyarrow.parquet.ParquetFile``; only row groups that hold any are read."""

    def read(group: int, here: Int64) -> list[RowId]:
        return ids_of(parquet.read_row_group(group, columns=[column]).column(column).take(here))

    with _reading_ids(column, in_use):
        return ids_of_parts(rows, _group_starts(parquet), read)


@contextmanager
def _reading_ids(column: str, in_use: FileInUse) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:
        in_use.check()
        raise FileReadError(f"{in_use.name}: cannot read {column!r} in {in_use.file!r}: {error}") from error
    in_use.check()


def _large_groups(metadata: Any, column: str, itemsize: int) -> list[tuple[int, int]]:
    """Numbers of rows and values, by the metadata, of the row groups in which a list might not fit into memory."""
    found = []
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        for leaf in map(group.column, range(group.num_columns)):
            is_of_column = leaf.path_in_schema.rsplit(".", 2)[0] == column
            if is_of_column and leaf.num_values * itemsize > _MOST_LOOK_BYTES:
                found.append((group.num_rows, leaf.num_values))
    return found


def _group_starts(parquet: Any) -> Int64:
    """First row of each row group, and the number of rows."""
    metadata = parquet.metadata
    starts: Int64 = np.cumsum([0, *(metadata.row_group(group).num_rows for group in range(metadata.num_row_groups))])
    return starts


def _first_length(parquet: Any, column: str, n_rows: int, file: str, name: str) -> int:
    if n_rows == 0:
        raise FileReadError(f"{name}: {file!r} has no row, and so tells no number of columns")
    try:
        first = next(parquet.iter_batches(1, columns=[column])).column(column)
    except (OSError, ValueError) as error:
        raise FileReadError(f"{name}: cannot read row 0 of {file!r}: {error}") from error
    if first.null_count:
        raise FileReadError(f"{name}: {file!r} must have a list of numbers in each row, got none at row 0")
    return len(first[0])
