"""Labels of a pool's rows, in whatever somebody has them: arrays, ``.npy``, CSV, parquet, HDF5, extracted pools.

Whoever knows which image a label is of says so by its id, and the pool knows the row of each id; numbers of rows change
when images come and go.
"""

from __future__ import annotations

import os
import re
import sys
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..checks import check_same_rows
from ..errors import FileReadError, LabelWarning
from ..system.file_integrity import loaded
from .array_like import is_exact
from .class_codes import class_codes, plain_labels
from .keys import split_key
from .manifest_file import check_shards, names_now, read_manifest, shard_columns
from .readers.npy import load_npy
from .row_ids import rows_with_ids
from .rows import RowId, Rows
from .tables import Columns, read_columns

__all__ = ["Classes", "read_labels"]

Int64 = npt.NDArray[np.int64]

_ID, _INDEX, _LABEL = "image_path", "index", "label"

# What pandas calls an index without a name, in CSV and in parquet.
_UNNAMED = ("", "Unnamed: 0", "__index_level_0__")

# Programs turn the integers of a column with gaps into 3.0. No pool has a row of more digits than an int64.
_INTEGER = re.compile(r"[+-]?\d{1,18}(\.0*)?", re.ASCII)

# Ids that an error message shows.
_SHOWN = 3


@dataclass(frozen=True, eq=False)
class Classes:
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
    """The class of each row of a pool, from whatever somebody has as labels.

    Parameters
    ----------
    source : array_like, path, sequence of pathlib.Path, Classes or None
        Labels as :func:`ccma_fast.pool.class_codes.class_codes` takes them, one for each row; a pandas Series must
        have the row numbers as its index, or ids. Or a path, that of

        - a ``.npy`` file, or an HDF5 file (:mod:`ccma_fast.pool.readers.hdf5`), with one label for each row;
        - a CSV or parquet file with a column ``label``. A column ``image_path`` (or as
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
        What error messages call them.

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
    if isinstance(source, Classes):
        return _Reader(rows, n_classes, None, name).of_values(source.codes)
    reader = _Reader(rows, n_classes, class_names, name)
    if isinstance(source, (str, os.PathLike)):
        return reader.of_path(source)
    if isinstance(source, (list, tuple)) and source and all(isinstance(part, os.PathLike) for part in source):
        return reader.of_paths(source)
    return reader.of_values(source)


class _Table(NamedTuple):
    """Labels that say what they are of."""

    labels: Sequence[Any]
    ids: Sequence[Any] | None
    row_numbers: Sequence[Any] | None
    place: str
    """What error messages say behind the number of a row."""
    typed: bool


class _Reader(NamedTuple):
    """What labels are read for; see :func:`read_labels`."""

    rows: Rows
    n_classes: int | None
    class_names: Sequence[str] | None
    name: str

    def of_values(self, values: Any) -> Int64:
        """Labels in memory."""
        values = plain_labels(values, self.name)
        if isinstance(values, np.ndarray):
            values = loaded(values, self.name)
        try:
            shape = np.shape(values)
        except ValueError as error:
            raise ValueError(f"{self.name} must have shape ({self.rows.n_rows},): {error}") from None
        if len(shape) != 1:
            raise ValueError(f"{self.name} must have shape ({self.rows.n_rows},), got {shape}")
        pandas = sys.modules.get("pandas")  # whoever holds a Series has imported it
        if pandas is not None and isinstance(values, pandas.Series):
            if self.rows.row_ids() is not None and all(isinstance(key, str) for key in values.index):
                return self.of_table(_Table(values.tolist(), list(values.index), None, "", typed=True))
            if not np.array_equal(values.index.to_numpy(), np.arange(shape[0])):
                raise ValueError(
                    f"{self.name} must be a Series whose index is 0, 1, 2, … or ids of the pool's images, got "
                    f"{values.index!r:.200}; give .to_numpy() where its order is that of the rows"
                )
        check_same_rows(self.name, shape[0], self.rows.name, self.rows.n_rows)
        return self._classes(values)

    def of_paths(self, paths: Iterable[str | os.PathLike[str]]) -> Int64:
        """Labels that lie in several files."""
        joined = np.full(self.rows.n_rows, -1, dtype=np.int64)
        for path in paths:
            labels = self.of_path(path)
            differing = np.flatnonzero((labels >= 0) & (joined >= 0) & (labels != joined))
            if differing.size:
                row = differing[0]
                warnings.warn(
                    f"{self.name}: {os.fspath(path)!r} gives {differing.size} rows another label than the files before "
                    f"it, first row {row} class {labels[row]} instead of {joined[row]}; the last file is taken",
                    LabelWarning,
                    stacklevel=4,
                )
            np.copyto(joined, labels, where=labels >= 0)
        return joined

    def of_path(self, path: str | os.PathLike[str]) -> Int64:
        """Labels that lie in a file or a folder."""
        file, key = split_key(path)
        suffix = Path(file).suffix.lower()
        if suffix in (".h5", ".hdf5"):
            from .readers.hdf5 import hdf5_vector

            return self.of_values(hdf5_vector(file, key, self.name, self.rows))
        if suffix == ".npy":
            return self.of_values(load_npy(file, self.name))
        if Path(file).is_dir():
            return self._of_pool(file)
        if suffix not in (".csv", ".parquet"):
            raise FileReadError(
                f"{self.name}: expected a .npy, .csv, .parquet, .h5 or .hdf5 file or the folder of a pool, got {file!r}"
            )
        names = set(self.class_names or ())
        found = read_columns(file, self.name, (_LABEL, _INDEX, _ID), only=_LABEL, is_value=names.__contains__)
        columns, place = found.wanted, f" of {file!r}"
        if self._is_pool(file):
            return self.of_table(_Table(columns[_LABEL], None, None, place, typed=True))
        if _INDEX not in columns and _ID not in columns:
            self._check_in_order(found, place)
        return self.of_table(
            _Table(columns[_LABEL], columns.get(_ID), columns.get(_INDEX), place, typed=suffix != ".csv")
        )

    def _is_pool(self, file: str) -> bool:
        """Whether the labels lie beside the vectors themselves, and so at their rows."""
        of_rows = getattr(self.rows, "file", None)
        return of_rows is not None and os.path.exists(of_rows) and os.path.samefile(file, of_rows)

    def _check_in_order(self, columns: Columns, place: str) -> None:
        """Rows of a table that nothing names are those of the pool, if no other column could say otherwise."""
        for column, cells in columns.others.items():
            if column not in _UNNAMED and not _may_name_rows(cells, ascending=self.rows.row_ids() is not None):
                continue
            for row, cell in enumerate(cells):
                if str(cell) != str(row):
                    raise ValueError(
                        f"{self.name} must be in the order of the rows, or have a column {_INDEX!r} or {_ID!r}, got "
                        f"{cell!r} at row {row}{place} in its column {column!r}"
                    )

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
            columns = shard_columns(manifest, shard, [_ID, _LABEL])
            if _LABEL not in columns:
                raise FileReadError(
                    f"{self.name}: no column {_LABEL!r} in {str(Path(folder) / shard.metadata)!r}: the images came "
                    "without labels"
                )
            labels += columns[_LABEL]
            ids += names_now(manifest, k, columns[_ID], range(shard.n_rows))
        return self.of_table(_Table(labels, ids, None, f" of {folder!r}", typed=True))

    def of_table(self, table: _Table) -> Int64:
        """Labels with an id or the number of a row beside each, or in the order of the rows."""
        given = self._classes(table.labels, table.place, typed=table.typed)
        if table.ids is None and table.row_numbers is None:
            check_same_rows(self.name, given.size, self.rows.name, self.rows.n_rows)
            return given
        known = np.flatnonzero(given >= 0)
        if table.ids is not None and self.rows.row_ids() is not None:
            return self._placed(table, given, known, self._rows_of_ids(table, known))
        if table.row_numbers is None:
            raise ValueError(
                f"{self.name} have the ids of their images{table.place} where {self.rows.name} has none; expected a "
                f"column {_INDEX!r} with the row of each, or the folder that ccma-fast extract wrote as "
                f"{self.rows.name}"
            )
        numbers = _integers(table, self.name)
        outside = np.flatnonzero((numbers < 0) | (numbers >= self.rows.n_rows))
        if outside.size:
            row = outside[0]
            raise FileReadError(
                f"{self.name}: {_INDEX} must be a row from 0 to {self.rows.n_rows - 1}, got "
                f"{table.row_numbers[row]!s} at row {row}{table.place}"
            )
        return self._placed(table, given, known, numbers[known])

    def _classes(self, values: Any, place: str = "", *, typed: bool = True) -> Int64:
        return class_codes(
            values,
            class_names=self.class_names,
            n_classes=self.n_classes,
            name=self.name,
            place=place,
            typed=typed,
        )

    def _rows_of_ids(self, table: _Table, known: Int64) -> Int64:
        """The rows of the ids of the labels that are known."""
        ids = [_id(table, row, self.name) for row in known.tolist()]
        numbers = np.full(known.size, -1, dtype=np.int64)
        if table.row_numbers is not None:
            numbers = _integers(table, self.name, missing=-1)[known]
        there = rows_with_ids(self.rows, set(ids))
        assert there is not None, "the caller has seen to it"
        if None in there and not there[None]:
            row = known[ids.index(None)]
            raise ValueError(f"{self.name} must have an {_ID} beside each label, got '' at row {row}{table.place}")
        self._check_known([row_id for row_id in dict.fromkeys(ids) if not there[row_id]], table.place)
        found: Int64 = known.copy()
        for k, (row_id, number) in enumerate(zip(ids, numbers.tolist(), strict=True)):
            rows = there[row_id]
            if len(rows) == 1 and row_id is not None:
                found[k] = rows[0]
            elif number in rows:
                found[k] = number
            else:
                raise ValueError(
                    f"{self.name} must say by {_INDEX} which they are of where several images have one {_ID}, or none, "
                    f"got {row_id!r} at row {known[k]}{table.place}, which rows {rows[:_SHOWN]!r} of {self.rows.name} "
                    "have"
                )
        moved = np.flatnonzero((numbers != -1) & (numbers != found))
        if moved.size:
            first = moved[0]
            warnings.warn(
                f"{self.name}: {moved.size} of {known.size} labels{table.place} are of another row than their "
                f"{_INDEX} says, first {ids[first]!r}, which is row {found[first]} and not {numbers[first]}; "
                f"{_ID} is taken",
                LabelWarning,
                stacklevel=5,
            )
        return found

    def _check_known(self, missing: list[RowId], place: str) -> None:
        """No label is of an image that the pool does not have."""
        if missing:
            own = self.rows.ids_at(np.arange(min(_SHOWN, self.rows.n_rows))) or []
            shards = () if self.rows.manifest is None else self.rows.manifest.shards
            unreadable = len({row_id for shard in shards for row_id in shard.skipped}.intersection(missing))
            raise ValueError(
                f"{self.name} must be of images of {self.rows.name}, whose ids are {', '.join(map(repr, own))}, …, got "
                f"{len(missing)} others{place}: {', '.join(map(repr, missing[:_SHOWN]))}"
                + (", …" if missing[_SHOWN:] else "")
                + (f" ({unreadable} could not be read when they were extracted)" if unreadable else "")
            )

    def _placed(self, table: _Table, given: Int64, known: Int64, of_known: Int64) -> Int64:
        """The labels at their rows."""
        labels = np.full(self.rows.n_rows, -1, dtype=np.int64)
        labels[of_known] = given[known]  # the last of several
        differing = np.flatnonzero(labels[of_known] != given[known])
        if differing.size:
            row = int(of_known[differing[0]])
            first, last = int(known[differing[0]]), int(known[np.flatnonzero(of_known == row)[-1]])
            what = f"row {row}" if table.ids is None else repr(table.ids[first])
            raise ValueError(
                f"{self.name} must be one for each image, got {table.labels[first]!r} at row {first} and "
                f"{table.labels[last]!r} at row {last}{table.place} for {what}"
            )
        return labels


def _may_name_rows(cells: Sequence[Any], *, ascending: bool) -> bool:
    """Whether the cells of a column could be names or numbers of rows: text or integers, all different.

    Numbers that ascend are in the order of the rows, unless `ascending` ones are to count: names of images in the order
    of text are not, such as 1.png, 10.png, 2.png.
    """
    if len(cells) < 2 or len(set(cells)) < len(cells):
        return False
    texts = [str(cell).strip() for cell in cells if isinstance(cell, (str, int, float))]
    are_integers = [_INTEGER.fullmatch(text) is not None for text in texts]
    if len(texts) < len(cells) or not all(map(_is_name, texts, are_integers)):
        return False
    if ascending or not all(are_integers):
        return True
    numbers = [int(text.partition(".")[0]) for text in texts]
    return numbers != sorted(numbers)


def _is_name(text: str, is_integer: bool) -> bool:
    """Whether text is a number of a row or no number at all."""
    try:
        float(text)
    except ValueError:
        return bool(text)
    return is_integer


def _id(table: _Table, row: int, name: str) -> RowId:
    """The id at a row of a table; those of a data set are numbers, which stay such in parquet."""
    assert table.ids is not None, "the caller has seen to it"
    found = table.ids[row]
    if found is None or isinstance(found, str) or (isinstance(found, int) and not isinstance(found, bool)):
        return None if found is None else str(found) or None
    raise ValueError(f"{name} must have an {_ID} beside each label, got {found!r} at row {row}{table.place}")


def _integers(table: _Table, name: str, missing: int | None = None) -> Int64:
    """The numbers of rows in a table; `missing`, where that is allowed, for those that are not there."""
    assert table.row_numbers is not None, "the caller has seen to it"
    found = np.empty(len(table.row_numbers), dtype=np.int64)
    for row, cell in enumerate(table.row_numbers):
        text = "" if cell is None else str(cell).strip()
        if isinstance(cell, np.floating) and not is_exact(cell):
            raise FileReadError(
                f"{name}: {_INDEX} must be exact, got {cell:g} at row {row}{table.place} in {cell.dtype}, which rounds "
                "such integers"
            )
        if _INTEGER.fullmatch(text):
            found[row] = int(text.partition(".")[0])
        elif missing is not None and text in ("", "nan"):
            found[row] = missing
        else:
            raise FileReadError(f"{name}: {_INDEX} must be an integer, got {cell!r} at row {row}{table.place}")
    return found
