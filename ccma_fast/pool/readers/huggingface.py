"""Hugging Face `datasets`: the column of vectors of a dataset, through Arrow."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from ...system.file_integrity import FileInUse
from ..arrow_columns import described, id_column_of, ids_of, list_width, value_type, values_of_lists
from ..blocks import BlockRows, rows_of_block
from ..rows import RowId, check_matrix

__all__ = ["DatasetRows"]

# A dataset's own maps keep every page that was read resident until they are opened anew.
_MAPPED_BYTES = 256 << 20


class DatasetRows(BlockRows):
    """The only column of lists of numbers in a ``datasets.Dataset``.

    Indices, concatenations and slices of the dataset are applied; transforms and formats set on it are not.

    Parameters
    ----------
    dataset : datasets.Dataset
        One split. Of several columns of vectors, take one by ``dataset.select_columns``.
    name : str
        Its name in error messages.

    Raises
    ------
    ValueError
        Not one column of lists of numbers.
    """

    def __init__(self, dataset: Any, name: str) -> None:
        schema = dataset.features.arrow_schema
        found = described(schema)
        if len(found) != 1:
            columns = ", ".join(f"{entry.name!r} ({entry.type})" for entry in schema) or "no column"
            raise ValueError(
                f"{name} must have one column of lists of numbers, got {columns}; expected it alone, as in "
                "dataset.select_columns"
            )
        (column,) = found
        kind = schema.field(column).type
        self._dataset = dataset.select_columns([column]).with_format("arrow")
        self._column = column
        ids = self._id_column = id_column_of(schema, name)
        self._ids: Any = None if ids is None else dataset.select_columns([ids]).with_format("arrow")
        self._unmapped_after = 0
        dtype, width = value_type(kind), list_width(kind)
        if not width:
            if not len(dataset):
                raise ValueError(f"{name} has no row, and so tells no number of columns")
            width = len(self._dataset[:1][column][0])
        check_matrix((len(dataset), width), dtype, name)
        step = rows_of_block(width * dtype.itemsize)
        in_use = [FileInUse(entry["filename"], name) for entry in dataset.cache_files]
        super().__init__(name, None, in_use, width, dtype, np.append(np.arange(0, len(dataset), step), len(dataset)))

    def row_ids(self) -> Iterator[RowId] | None:
        if self._ids is None:
            return None
        bounds = pairwise(self._starts.tolist())
        return (row_id for start, stop in bounds for row_id in ids_of(self._ids[start:stop][self._id_column]))

    def ids_at(self, rows: npt.NDArray[np.int64]) -> list[RowId] | None:
        return None if self._ids is None else ids_of(self._ids[rows.tolist()][self._id_column])

    def _read(self, block: int) -> npt.NDArray[Any]:
        if self._dataset.cache_files and self.bytes_read >= self._unmapped_after:
            # A copy has maps of its own, which are closed with it.
            self._dataset = pickle.loads(pickle.dumps(self._dataset))
            for in_use in self.in_use:
                in_use.hold_maps()
            self._unmapped_after = self.bytes_read + _MAPPED_BYTES
        start, stop = int(self._starts[block]), int(self._starts[block + 1])
        lists = self._dataset[start:stop][self._column].combine_chunks()
        return np.array(values_of_lists(lists, self.n_columns, start, "the dataset", self.name))
