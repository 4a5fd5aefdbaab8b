"""The only chooser of a reader: from what the caller has, a path or an object, to the module that reads it."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from ..errors import FileReadError
from .arrays import rows_of_array_like
from .keys import split_key
from .rows import Rows

__all__ = ["open_file", "open_rows"]

# What opens a file by its suffix, given its path, a key or None, and the name for error messages. Modules are imported
# when they are needed, as each brings an optional library.
_FILES = {
    ".npy": "readers.npy:open_npy",
    ".h5": "readers.hdf5:open_hdf5",
    ".hdf5": "readers.hdf5:open_hdf5",
    ".parquet": "readers.parquet:ParquetRows",
    ".arrow": "readers.arrow:ArrowRows",
    ".safetensors": "readers.safetensors:open_safetensors",
}

# What opens a folder of such files, given its path, the name for error messages and a key or None.
_FOLDER = "readers.folder:FolderRows"

# What opens an object of another library, given the object and the name for error messages; NumPy converts the rest.
_OBJECTS = {
    ("torch", "Tensor"): "tensors:TensorRows",
    ("datasets", "Dataset"): "readers.huggingface:DatasetRows",
    ("h5py", "Dataset"): "readers.hdf5:rows_of_dataset",
    ("pandas", "DataFrame"): "readers.data_frames:rows_of_pandas",
    ("pandas", "Series"): "readers.data_frames:rows_of_pandas",
    ("polars", "DataFrame"): "readers.data_frames:rows_of_polars",
    ("polars", "Series"): "readers.data_frames:rows_of_polars",
    ("polars", "LazyFrame"): "frames:refuse_lazy",
    ("pyarrow", "Table"): "readers.data_frames:rows_of_arrow",
    ("pyarrow", "RecordBatch"): "readers.data_frames:rows_of_arrow",
    ("pyarrow", "Array"): "readers.data_frames:rows_of_arrow",
    ("pyarrow", "ChunkedArray"): "readers.data_frames:rows_of_arrow",
}


def open_rows(source: Any, name: str) -> Rows:
    """A matrix in whatever the caller has it, as :class:`~ccma_fast.pool.rows.Rows`; nothing is copied.

    Parameters
    ----------
    source : Rows, ndarray, np.memmap, torch.Tensor, data frame, datasets.Dataset, h5py.Dataset, nested sequence, path
        The rows. A pandas or polars DataFrame has numbers alone, or one column of lists of numbers; a Series or a
        pyarrow array is such a column (:mod:`ccma_fast.pool.readers.data_frames`). A path is that of a ``.npy``,
        ``.h5``, ``.hdf5``, ``.parquet``, ``.arrow`` or ``.safetensors`` file, or of a folder of shards
        (:mod:`ccma_fast.pool.readers.folder`). ``file::key`` names a dataset, column or tensor in a file that holds
        several; without it the file has one matrix only, or an HDF5 file the layout of
        :mod:`ccma_fast.pool.readers.hdf5`.
    name : str
        Its name in error messages.

    Raises
    ------
    TypeError
        Not a matrix of real numbers.
    ValueError
        Not two-dimensional, or a file that cannot be read (:class:`FileReadError`).
    ImportError
        The library that reads the format is not installed; the text names the extra that brings it.
    """
    if isinstance(source, Rows):
        return source
    if isinstance(source, (str, os.PathLike)):
        return _open_path(source, name)
    for (library, kind), reader in _OBJECTS.items():
        loaded = sys.modules.get(library)  # such an object implies that it is imported
        if loaded is not None and isinstance(source, getattr(loaded, kind, ())):
            return _read_by(reader, source, name)
    return rows_of_array_like(source, name)


def _open_path(path: str | os.PathLike[str], name: str) -> Rows:
    file, key = (path, None) if Path(path).exists() else split_key(path)
    if Path(file).is_dir():
        return _read_by(_FOLDER, file, name, key)
    return open_file(file, key, name)


def open_file(file: str | os.PathLike[str], key: str | None, name: str) -> Rows:
    """The rows of one file, of which `key` names the matrix where it may hold several."""
    reader = _FILES.get(Path(file).suffix.lower())
    if reader is None:
        *others, last = _FILES
        raise FileReadError(
            f"{name}: expected a {', '.join(others)} or {last} file or a folder, got {str(Path(file))!r}"
        )
    return _read_by(reader, os.fspath(file), key, name)


def _read_by(reader: str, *arguments: Any) -> Rows:
    """Rows opened by a reader of the tables above."""
    module, _, function = reader.partition(":")
    rows: Rows = getattr(import_module(f".{module}", __package__), function)(*arguments)
    return rows
