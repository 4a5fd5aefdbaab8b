"""Labels of a pool's rows from arrays, ``.npy``, CSV, parquet and HDF5 files, and extracted pools.

Labels are joined to rows by the ids of their images where both have ids: the numbers of rows change when images come
and go.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..checks import check_same_rows
from ..errors import FileReadError, LabelWarning
from ..system.file_integrity import loaded, stamp_of
from .class_codes import class_codes, plain_labels
from .frames import check_row_numbers, column_of_frame, columns_of_frame, has_ids, is_series, rows_of_index
from .keys import split_key
from .label_table import ID, INDEX, LabelTable, check_in_order, joined
from .manifest_file import check_shards, names_now, read_manifest, shard_columns
from .readers.npy import load_npy
from .rows import Rows
from .tables import SUFFIXES, is_text, read_columns, wanted_columns

__all__ = ["ReadLabels", "read_labels"]

Int64 = npt.NDArray[np.int64]

_LABEL = "label"

# Columns of picks, whose column `index` always has row numbers.
_OF_PICKS = {"rank", "represents"}

# Suffixes of files that hold labels.
_FILES = frozenset((*SUFFIXES, ".txt", ".npy", ".h5", ".hdf5"))


@dataclass(frozen=True, eq=False)
class ReadLabels:
    """Labels that :func:`read_labels` has read: positions, whatever the classes are called.

    Attributes
    ----------
    codes : ndarray, shape (N,), int64
        −1 where there is no label.
    """

    codes: Int64


def read_labels(
    source: Any,
    rows: Rows,
    *,
    n_classes: int | None = None,
    class_names: Sequence[str] | None = None,
    name: str = "labels",
) -> Int64:
    """The class of each row of a pool, from labels in any of several forms.

    Parameters
    ----------
    source : array_like, path, sequence of pathlib.Path, ReadLabels or None
        Labels as :func:`ccma_fast.pool.class_codes.class_codes` takes them, one for each row. The index of a pandas
        Series has ids; or that of the data frame that the pool is, or a part of it; or, where the pool is something
        else, the row numbers in order: other integers may be positions or names, and are refused. A pandas or polars
        DataFrame or a pyarrow Table has columns as a file has them. Or a path, that of

        - a ``.npy`` file, or an HDF5 file (:mod:`ccma_fast.pool.readers.hdf5`), with one label for each row;
        - a CSV (``.csv``, ``.tsv``, or ``.txt`` as spreadsheets call it) or parquet file with a column ``label``. A
          column ``image_path`` (or as
          :func:`ccma_fast.pool.tables.read_columns` says) has the ids of the images that the labels are of, exactly
          as the pool has them. Where the pool has no ids, or several images of one id, a column ``index`` has the
          numbers of their rows. Rows that are not named have no label. Without both there is one label for each row,
          and no other column that may say which rows they are. Other columns are left alone, so that the picks of
          ``ccma-fast select`` need a column ``label`` and nothing else. In the file in which the pool itself lies each
          label is of its row. A CSV file of one column needs no header;
        - the folder of an extracted pool, whose metadata has ids and a column ``label``.

        Several paths (objects of :mod:`pathlib`: text in a sequence is a label) are joined.
    rows : Rows
        The pool.
    n_classes : int, optional
        C; as many as there are names where it is not given.
    class_names : sequence of str, optional
        What labels that are text mean: their positions here.
    name : str
        Their name in error messages.

    Returns
    -------
    ndarray, shape (N,), int64
        −1 where there is no label.

    Raises
    ------
    FileReadError
        No such file or column, a damaged file, or a row number that is none; the text names the file and the row.
    ValueError, TypeError
        As :func:`ccma_fast.pool.class_codes.class_codes`; labels of another number of rows, of images that the pool
        does not have or has several times, or two that contradict each other in one file; ids where the pool has none;
        a column that may be of ids and is not called so.

    Warns
    -----
    LabelWarning
        An id is that of another row than the number beside it (the id decides), or files contradict each other (the
        last decides).
    """
    if source is None:
        return np.full(rows.n_rows, -1, dtype=np.int64)
    if isinstance(source, ReadLabels):
        return _Reader(rows, n_classes, None, name).of_values(source.codes)
    reader = _Reader(rows, n_classes, class_names, name)
    if isinstance(source, (str, os.PathLike)):
        return reader.of_path(source)
    if isinstance(source, (list, tuple)) and source and all(isinstance(part, os.PathLike) for part in source):
        return reader.of_paths(source)
    reader.check_no_paths(source)
    return reader.of_values(source)


class _Reader(NamedTuple):
    """The pool and the classes that labels are read for; see :func:`read_labels`."""

    rows: Rows
    n_classes: int | None
    class_names: Sequence[str] | None
    name: str

    def check_no_paths(self, values: Any) -> None:
        """Check that labels in memory are neither text that means files nor a mapping, which has no order of rows."""
        if isinstance(values, Mapping):
            raise TypeError(
                f"{self.name} must have a label for each row, got a {type(values).__name__}; give an array of them, or "
                f"a pandas Series or a table of which the index or a column {ID!r} has the ids"
            )
        if not (isinstance(values, (list, tuple)) and values and all(isinstance(value, str) for value in values)):
            return
        files = [value for value in values if Path(split_key(value)[0]).suffix.lower() in _FILES]
        if len(files) == len(values) and not {*files} <= {*(self.class_names or ())}:
            raise TypeError(
                f"{self.name} must be labels, or files as objects of pathlib, got the text {files[0]!r}, which in a "
                f"sequence is the name of a class; give [pathlib.Path({files[0]!r}), ...]"
            )

    def of_values(self, values: Any) -> Int64:
        """Labels in memory."""
        columns = columns_of_frame(values)
        if columns is not None:
            return self._of_frame(values, columns)
        values = plain_labels(values, self.name)
        if isinstance(values, np.ndarray):
            values = loaded(values, self.name)
        try:
            shape = np.shape(values)
        except ValueError as error:
            raise ValueError(f"{self.name} must have shape ({self.rows.n_rows},): {error}") from None
        if len(shape) != 1:
            raise ValueError(f"{self.name} must have shape ({self.rows.n_rows},), got {shape}")
        if is_series(values):
            if has_ids(values, self.rows):
                return self.of_table(LabelTable(values.tolist(), list(values.index), None, "", typed=True))
            places = rows_of_index(values, self.rows, self.name)
            if places is not None:
                labels = np.full(self.rows.n_rows, -1, np.int64)
                labels[places] = self._classes(values)
                return labels
        check_same_rows(self.name, shape[0], self.rows.name, self.rows.n_rows)
        return self._classes(values)

    def _of_frame(self, frame: Any, columns: dict[str, list[Any]]) -> Int64:
        """Labels in a column of a data frame, joined to the rows as those of a file are."""
        place = "a data frame"
        found = wanted_columns(columns, place, self.name, (_LABEL, INDEX, ID), only=_LABEL)
        if ID in found.wanted or INDEX in found.wanted:
            labels, ids, numbers = (found.wanted.get(column) for column in (_LABEL, ID, INDEX))
            by_ids = ids is not None and self.rows.row_ids() is not None
            if numbers is not None and not by_ids and not _OF_PICKS.issubset(found.others):
                check_row_numbers(numbers, self.rows, self.name)
            return self.of_table(LabelTable(labels or [], ids, numbers, f" of {place}", typed=True))
        check_in_order(found, f" of {place}", self.rows, self.name)
        (column,) = columns.keys() - found.others.keys()
        return self.of_values(column_of_frame(frame, column))

    def of_paths(self, paths: Iterable[str | os.PathLike[str]]) -> Int64:
        """Labels in several files."""
        merged = np.full(self.rows.n_rows, -1, dtype=np.int64)
        for path in paths:
            labels = self.of_path(path)
            differing = np.flatnonzero((labels >= 0) & (merged >= 0) & (labels != merged))
            if differing.size:
                row, names = differing[0], self.class_names
                new, old = ((c if names is None else repr(names[c])) for c in (labels[row], merged[row]))
                warnings.warn(
                    f"{self.name}: {os.fspath(path)!r} gives {differing.size} rows another label than the files before "
                    f"it, first row {row} class {new} instead of {old}; the last file is taken",
                    LabelWarning,
                    stacklevel=4,
                )
            np.copyto(merged, labels, where=labels >= 0)
        return merged

    def of_path(self, path: str | os.PathLike[str]) -> Int64:
        """Labels in a file or a folder."""
        file, key = split_key(path)
        suffix = Path(file).suffix.lower()
        if suffix in (".h5", ".hdf5"):
            from .readers.hdf5 import hdf5_vector

            return self.of_values(hdf5_vector(file, key, self.name, self.rows))
        if suffix == ".npy":
            return self.of_values(load_npy(file, self.name))
        if Path(file).is_dir():
            return self._of_pool(file)
        if suffix not in (*SUFFIXES, ".txt"):
            stamp_of(file, self.name)  # of a pipe, which has no suffix, it is said that it is one
            raise FileReadError(
                f"{self.name}: expected a .npy, {', '.join(SUFFIXES)}, .txt, .h5 or .hdf5 file or the folder of a "
                f"pool, got {file!r}"
            )
        names = set(self.class_names or ())
        found = read_columns(file, self.name, (_LABEL, INDEX, ID), only=_LABEL, is_value=names.__contains__)
        columns, place = found.wanted, f" of {file!r}"
        if self._is_pool(file):
            return self.of_table(LabelTable(columns[_LABEL], None, None, place, typed=True))
        if INDEX not in columns and ID not in columns:
            check_in_order(found, place, self.rows, self.name)
        return self.of_table(
            LabelTable(columns[_LABEL], columns.get(ID), columns.get(INDEX), place, typed=not is_text(file))
        )

    def _is_pool(self, file: str) -> bool:
        """Whether the file of the labels is that of the vectors, so that each label is in its row."""
        of_rows = getattr(self.rows, "file", None)
        return of_rows is not None and os.path.exists(of_rows) and os.path.samefile(file, of_rows)

    def _of_pool(self, folder: str) -> Int64:
        manifest = read_manifest(folder, self.name)
        if manifest is None:
            raise FileReadError(
                f"{self.name}: no manifest in the folder {folder!r}; expected one that ccma-fast extract wrote"
            )
        check_shards(manifest, self.name, metadata_only=True)
        labels: list[Any] = []
        ids: list[Any] = []
        for k, shard in enumerate(manifest.shards):
            columns = shard_columns(manifest, shard, [ID, _LABEL])
            if _LABEL not in columns:
                raise FileReadError(
                    f"{self.name}: no column {_LABEL!r} in {str(Path(folder) / shard.metadata)!r}: the images came "
                    "without labels"
                )
            labels += columns[_LABEL]
            ids += names_now(manifest, k, columns[ID], range(shard.n_rows))
        return self.of_table(LabelTable(labels, ids, None, f" of {folder!r}", typed=True))

    def of_table(self, table: LabelTable) -> Int64:
        """Labels with an id or the number of a row beside each, or in the order of the rows."""
        return joined(table, self._classes(table.labels, table.place, typed=table.typed), self.rows, self.name)

    def _classes(self, values: Any, place: str = "", *, typed: bool = True) -> Int64:
        return class_codes(
            values,
            class_names=self.class_names,
            n_classes=self.n_classes,
            name=self.name,
            place=place,
            typed=typed,
        )
