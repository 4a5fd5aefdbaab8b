"""HDF5: a dataset of two dimensions, mapped where it lies in one piece, read in bands of its chunks where it does not.

The layout of the published code needs no key: ``train/features`` and ``train/labels`` are the pool, ``test/features``
and ``test/labels`` the test rows, ``text/features`` the classes, in one file for each encoder.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .._errors import FileReadError
from .._extras import optional
from ..pool import ArrayRows, Rows, check_matrix
from ._blocks import BlockRows, chosen, rows_of_block

__all__ = ["hdf5_vector", "open_hdf5"]

# Under which keys an argument is expected.
_USUAL = {
    "features": ("train/features", "features"),
    "image_features": ("train/features", "features"),
    "test_features": ("test/features",),
    "class_features": ("text/features",),
    "labels": ("train/labels", "labels"),
    "test_labels": ("test/labels",),
}

# Chunks of one band are decompressed together; a band above this is decompressed again for each block of it.
_MOST_CACHE_BYTES = 256 << 20


def open_hdf5(file: str, key: str | None, name: str) -> Rows:
    """A dataset of two dimensions in an HDF5 file.

    Parameters
    ----------
    file : str
    key : str or None
        The dataset's path in the file; without it the one of the published layout that belongs to the argument
        `name`, or the only one of two dimensions.
    name : str
        What error messages call it.

    Raises
    ------
    FileReadError
        No such file or dataset, or a damaged file.
    ImportError
        h5py is not installed.
    """
    with _opened(file, name) as handle:
        dataset = handle[_path(handle, file, key, name, ndim=2)]
        check_matrix(dataset.shape, dataset.dtype, name)
        offset = dataset.id.get_offset()  # None where it is chunked, compressed or empty
        if offset is not None and dataset.external is None:
            array = np.memmap(file, dataset.dtype, "r", offset, dataset.shape)
            return ArrayRows(np.asarray(array), name, file=file)
        return _ChunkedRows(name, file, dataset)


def hdf5_vector(file: str, key: str | None, name: str) -> npt.NDArray[Any]:
    """A dataset of one dimension: labels."""
    with _opened(file, name) as handle:
        return np.asarray(handle[_path(handle, file, key, name, ndim=1)][:])


class _ChunkedRows(BlockRows):
    """A dataset that HDF5 has to put together."""

    def __init__(self, name: str, file: str, dataset: Any) -> None:
        n_rows, n_columns = dataset.shape
        row_bytes = n_columns * dataset.dtype.itemsize
        chunk_rows = dataset.chunks[0] if dataset.chunks else 1
        # Whole bands of chunks, so that none is decompressed twice.
        step = max(1, rows_of_block(row_bytes) // chunk_rows) * chunk_rows
        if step * row_bytes > _MOST_CACHE_BYTES:
            step = rows_of_block(row_bytes)
        self._path = dataset.name
        self._cache_bytes = min(_MOST_CACHE_BYTES, chunk_rows * row_bytes)
        self._dataset: Any = None
        super().__init__(name, file, n_columns, dataset.dtype, np.append(np.arange(0, n_rows, step), n_rows))

    def _read(self, block: int) -> npt.NDArray[Any]:
        assert self.file is not None, "it was opened by its name"
        if self._dataset is None:
            self._dataset = _opened(self.file, self.name, rdcc_nbytes=self._cache_bytes)[self._path]
        start, stop = int(self._starts[block]), int(self._starts[block + 1])
        try:
            return np.asarray(self._dataset[start:stop])
        except OSError as error:
            raise FileReadError(
                f"{self.name}: cannot read rows {start} to {stop - 1} of {self.file!r}: {error}"
            ) from error

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_dataset": None}  # each process opens the file itself


def _opened(file: str, name: str, **options: Any) -> Any:
    h5py = optional("h5py", "an HDF5 file")
    if not Path(file).exists():
        raise FileReadError(f"{name}: no file {file!r}")
    try:
        return h5py.File(file, "r", **options)
    except OSError as error:
        raise FileReadError(f"{name}: cannot read {file!r} as HDF5: {error}") from error


def _path(handle: Any, file: str, key: str | None, name: str, ndim: int) -> str:
    h5py = optional("h5py", "an HDF5 file")
    found: dict[str, str] = {}

    def visit(path: str, thing: Any) -> None:
        if isinstance(thing, h5py.Dataset) and (key is not None or thing.ndim == ndim):
            found[path] = f"{thing.dtype} {thing.shape}"

    handle.visititems(visit)
    wanted = None if key is None else key.strip("/")
    return chosen(name, file, wanted, found, _USUAL.get(name, ()), "dataset")
