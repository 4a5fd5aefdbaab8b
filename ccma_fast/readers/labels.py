"""Labels of a pool's rows, in whatever somebody has them: arrays, ``.npy``, CSV, parquet, HDF5, extracted pools."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .._errors import FileReadError
from .._validate import check_same_rows
from ..manifest import read_manifest
from ..pool import Rows, load_npy, split_key
from .class_names import class_codes
from .tables import parquet_table, read_columns

__all__ = ["Classes", "read_labels"]

Int64 = npt.NDArray[np.int64]

# Rows of a table that a person fills in have numbers of their own: the order in which they are labelled is not theirs.
_INDEX, _LABEL = "index", "label"


@dataclass(frozen=True, eq=False)
class Classes:
    """Labels that :func:`read_labels` has read: classes whatever their names, and not to be checked again.

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
    source : array_like, path, Classes or None
        One label for each row as :func:`ccma_fast.readers.class_names.class_codes` takes them, or a path, that of

        - a ``.npy`` file, or an HDF5 file (:mod:`ccma_fast.readers.hdf5`), with one label for each row;
        - a CSV or parquet file with a column ``label`` and perhaps one called ``index``, the row which the label is
          of; rows that are not named have none. Without ``index`` there is one label for each row. Other columns are
          left alone, so that the picks of ``ccma-fast select`` need a column ``label`` and nothing else. A CSV file of
          one column needs no header;
        - the folder of an extracted pool, whose metadata has a column ``label``.

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
        No such file or column, a damaged file, or a row that is named twice, out of range or not a number; the text
        names the file and the row.
    ValueError, TypeError
        As :func:`ccma_fast.readers.class_names.class_codes`, or labels of another number of rows.
    """
    if source is None:
        return np.full(rows.n_rows, -1, dtype=np.int64)
    if isinstance(source, Classes):
        codes = source.codes
    elif isinstance(source, (str, os.PathLike)):
        codes = _of_path(source, rows, n_classes, class_names, name)
    else:
        shape = np.shape(source)
        if len(shape) != 1:
            raise ValueError(f"{name} must have shape ({rows.n_rows},), got {shape}")
        check_same_rows(name, shape[0], rows.name, rows.n_rows)
        codes = class_codes(source, class_names=class_names, n_classes=n_classes, name=name)
    check_same_rows(name, codes.size, rows.name, rows.n_rows)
    return codes


def _of_path(
    source: str | os.PathLike[str], rows: Rows, n_classes: int | None, class_names: Sequence[str] | None, name: str
) -> Int64:
    file, key = split_key(source)
    suffix = Path(file).suffix.lower()
    if suffix in (".h5", ".hdf5"):
        from .hdf5 import hdf5_vector

        return read_labels(hdf5_vector(file, key, name), rows, n_classes=n_classes, class_names=class_names, name=name)
    if suffix == ".npy":
        return read_labels(load_npy(file, name), rows, n_classes=n_classes, class_names=class_names, name=name)
    if Path(file).is_dir():
        columns = _of_pool(file, name)
    elif suffix in (".csv", ".parquet"):
        columns = read_columns(file, name, (_LABEL, _INDEX), only=_LABEL)
    else:
        raise FileReadError(
            f"{name}: expected a .npy, .csv, .parquet, .h5 or .hdf5 file or the folder of a pool, got {file!r}"
        )
    given = class_codes(
        columns[_LABEL],
        class_names=class_names,
        n_classes=n_classes,
        name=name,
        place=f" of {file!r}",
        typed=suffix != ".csv",
    )
    if _INDEX not in columns:
        return given
    labels = np.full(rows.n_rows, -1, dtype=np.int64)
    named: dict[int, int] = {}
    for row, (cell, label) in enumerate(zip(columns[_INDEX], given.tolist(), strict=True)):
        try:
            index = int(cell)
        except (TypeError, ValueError):
            raise FileReadError(f"{name}: index must be an integer, got {cell!r} at row {row} of {file!r}") from None
        if not 0 <= index < rows.n_rows:
            raise FileReadError(
                f"{name}: index must be a row from 0 to {rows.n_rows - 1}, got {index} at row {row} of {file!r}"
            )
        if index in named:
            raise FileReadError(
                f"{name}: index must name each row once, got {index} at rows {named[index]} and {row} of {file!r}"
            )
        named[index] = row
        labels[index] = label
    return labels


def _of_pool(folder: str, name: str) -> dict[str, list[Any]]:
    manifest = read_manifest(folder, name)
    if manifest is None:
        raise FileReadError(f"{name}: no manifest in the folder {folder!r}; expected one that ccma-fast extract wrote")
    cells: list[Any] = []
    for shard in manifest.shards:
        file = str(Path(folder) / shard.metadata)
        table = parquet_table(file, name)
        if _LABEL not in table:
            raise FileReadError(f"{name}: no column {_LABEL!r} in {file!r}: the images came without labels")
        cells += table[_LABEL]
    return {_LABEL: cells}
