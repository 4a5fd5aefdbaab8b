"""The only chooser of a reader: a matrix in whatever the caller has it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import FileReadError
from ..system.in_use import file_under, reading
from .array_like import check_unmasked
from .arrays import rows_of_array
from .paths import split_key
from .readers.npy import mapped_npy
from .rows import Rows
from .tensors import TensorRows

__all__ = ["open_file", "open_rows"]


def open_rows(source: Any, name: str) -> Rows:
    """A matrix in whatever the caller has it, as :class:`Rows`; nothing is copied.

    Parameters
    ----------
    source : Rows, ndarray, np.memmap, torch.Tensor, datasets.Dataset, nested sequence, or path
        The rows. A path is that of a ``.npy``, ``.h5``, ``.hdf5``, ``.parquet``, ``.arrow`` or ``.safetensors`` file,
        or of a folder of shards (:mod:`ccma_fast.pool.readers.folder`). ``file::key`` names a dataset, column or tensor
        in a file that holds several; without it the file has one matrix only, or an HDF5 file the layout of
        :mod:`ccma_fast.pool.readers.hdf5`.
    name : str
        What error messages call it.

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
    if _is_a(source, "torch", "Tensor"):
        return TensorRows(source, name)
    if _is_a(source, "datasets", "Dataset"):
        from .readers.huggingface import DatasetRows

        return DatasetRows(source, name)
    if _is_a(source, "h5py", "Dataset"):
        from .readers.hdf5 import check_dataset

        check_dataset(source, source.file.filename, name)
    check_unmasked(name, source)
    try:
        with reading():
            array = np.asarray(source)
    except (TypeError, ValueError, RuntimeError) as error:  # PyTorch's, of tensors in a list that are part of a graph
        raise TypeError(f"{name} must be a matrix of real numbers, got {type(source).__name__} ({error})") from error
    if array.dtype == object and array.ndim == 0:
        raise TypeError(f"{name} must be a matrix of real numbers, got {type(source).__name__}")
    return rows_of_array(array, name, in_use=file_under(array, name))


def _open_path(path: str | os.PathLike[str], name: str) -> Rows:
    file, key = (path, None) if Path(path).exists() else split_key(path)
    if Path(file).is_dir():
        from .readers.folder import FolderRows

        return FolderRows(file, name, key)
    return open_file(file, key, name)


def open_file(file: str | os.PathLike[str], key: str | None, name: str) -> Rows:
    """The rows of one file, of which `key` names the matrix where it may hold several."""
    suffix = Path(file).suffix.lower()
    if suffix in (".h5", ".hdf5"):
        from .readers.hdf5 import open_hdf5

        return open_hdf5(os.fspath(file), key, name)
    if suffix == ".parquet":
        from .readers.parquet import ParquetRows

        return ParquetRows(os.fspath(file), key, name)
    if suffix == ".arrow":
        from .readers.arrow import ArrowRows

        return ArrowRows(os.fspath(file), key, name)
    if suffix == ".safetensors":
        from .readers.safetensors import open_safetensors

        return open_safetensors(os.fspath(file), key, name)
    if key is not None and suffix == ".npy":
        raise FileReadError(f"{name}: {str(file)!r} holds one matrix, and none called {key!r}")
    array, in_use = mapped_npy(file, name)
    return rows_of_array(array, name, file, in_use)


def _is_a(source: Any, module: str, kind: str) -> bool:
    # Without importing the module: whoever holds such an object has imported it.
    import sys

    loaded = sys.modules.get(module)
    return loaded is not None and isinstance(source, getattr(loaded, kind, ()))
