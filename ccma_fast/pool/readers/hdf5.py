"""HDF5: a dataset of two dimensions, mapped where it is contiguous, read in bands of its chunks where it is not.

The layout of the published code needs no key: ``train/features`` and ``train/labels`` are the pool, ``test/features``
and ``test/labels`` the test rows, ``text/features`` the classes, in one file for each encoder.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from ...checks import check_same_rows
from ...errors import FileReadError
from ...system.extras import optional
from ...system.file_integrity import FileInUse, stamp_of, unchanged
from ..arrays import ArrayRows, rows_of_array_like
from ..blocks import BlockRows, rows_of_block
from ..keys import chosen_key
from ..rows import Rows, check_matrix

__all__ = ["hdf5_vector", "open_hdf5", "rows_of_dataset"]

# Keys under which the matrix for an argument is expected.
_USUAL = {
    "features": ("train/features", "features"),
    "image_features": ("train/features", "features"),
    "test_features": ("test/features",),
    "class_features": ("text/features",),
    "labels": ("train/labels", "labels"),
    "test_labels": ("test/labels",),
}

# netCDF's attributes of encoded values: value = scale_factor · stored + add_offset.
_CODES = ("scale_factor", "add_offset")

# Most parts of a path, links followed.
_MOST_STEPS = 1000

# Compressed, a few bytes can stand for a thousand times as many.
_MOST_CHUNK_BYTES = 1 << 30

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
        Its name in error messages.

    Raises
    ------
    FileReadError
        No such file or dataset, a damaged file, or values that lie in another file or were never written.
    ImportError
        h5py is not installed.
    """
    in_use = FileInUse(file, name)
    with _told(file, name), _opened(file, name) as handle:
        dataset = handle[_path(handle, file, key, name, ndim=2)]
        _check_dataset(dataset, file, name)
        offset = dataset.id.get_offset() if dataset.size else None  # None where it is chunked or compressed
        # Numbers of the file's own format, such as bfloat16, are of another size there than h5py gives them.
        is_plain = dataset.id.get_type().equal(optional("h5py", "an HDF5 file").h5t.py_create(dataset.dtype))
        if offset is not None and is_plain:
            array = np.memmap(file, dataset.dtype, "r", offset, dataset.shape)
            in_use.hold_array(array)
            return ArrayRows(np.asarray(array), name, file=file, in_use=in_use)
        return _ChunkedRows(name, file, in_use, dataset)


def rows_of_dataset(dataset: Any, name: str) -> Rows:
    """An open ``h5py.Dataset`` of two dimensions, read whole; errors as :func:`_check_dataset`."""
    _check_dataset(dataset, dataset.file.filename, name)
    return rows_of_array_like(dataset, name)


def hdf5_vector(file: str, key: str | None, name: str, rows: Rows) -> npt.NDArray[Any]:
    """A dataset of one dimension: labels of some rows."""
    with unchanged(file, name), _told(file, name), _opened(file, name) as handle:
        dataset = handle[_path(handle, file, key, name, ndim=1)]
        if dataset.ndim == 1:  # a compressed one may be a thousand times as large as its file
            check_same_rows(name, dataset.shape[0], rows.name, rows.n_rows)
        _check_no_codes(dataset, file, name)
        _check_written(dataset, file, name)
        try:
            return np.asarray(dataset[()])
        except OSError as error:
            raise FileReadError(f"{name}: cannot read {dataset.name!r} in {file!r}: {error}") from error


class _ChunkedRows(BlockRows):
    """A dataset that is stored in chunks, compressed or converted."""

    def __init__(self, name: str, file: str, in_use: FileInUse, dataset: Any) -> None:
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
        super().__init__(name, file, [in_use], n_columns, dataset.dtype, np.append(np.arange(0, n_rows, step), n_rows))

    def _read(self, block: int) -> npt.NDArray[Any]:
        assert self.file is not None, "it was opened by its name"
        if self._dataset is None:
            with _told(self.file, self.name):
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


@contextmanager
def _told(file: str, name: str) -> Iterator[None]:
    """Errors of damaged metadata, for which h5py also raises RuntimeError and KeyError."""
    try:
        yield
    except FileReadError:
        raise
    except (OSError, RuntimeError, KeyError) as error:
        raise FileReadError(f"{name}: cannot read {file!r} as HDF5: {error}") from error


def _opened(file: str, name: str, **options: Any) -> Any:
    h5py = optional("h5py", "an HDF5 file")
    stamp_of(file, name)
    try:
        return h5py.File(file, "r", **options)
    except OSError as error:
        raise FileReadError(f"{name}: cannot read {file!r} as HDF5: {error}") from error


def _path(handle: Any, file: str, key: str | None, name: str, ndim: int) -> str:
    """The path of the dataset that is meant, soft links followed."""
    h5py = optional("h5py", "an HDF5 file")
    found: dict[str, str] = {}

    def visit(path: str, thing: Any) -> None:
        if isinstance(thing, h5py.Dataset) and (key is not None or thing.ndim == ndim):
            found[path] = f"{_dtype(thing) or 'a type of its own'} {thing.shape}"

    handle.visititems(visit)
    usual = _USUAL.get(name, ())
    wanted = None if key is None else key.strip("/")
    for path in usual if wanted is None else [wanted]:  # links are not visited
        if path in found:
            break
        if (target := _followed(handle, path, file, name)) is not None:
            visit(path, handle[target or "/"])
    target = _followed(handle, chosen_key(name, file, wanted, found, usual, "dataset"), file, name)
    assert target is not None, "it was found"
    return target


def _followed(handle: Any, path: str, file: str, name: str) -> str | None:
    """A path with its soft links followed; None where nothing is there."""
    h5py = optional("h5py", "an HDF5 file")
    left, at = path.split("/")[::-1], ""
    for _ in range(_MOST_STEPS):
        if not left:
            return at
        part = left.pop()
        if part in ("", "."):
            continue
        group = handle[at or "/"]
        link = group.get(part, getlink=True) if isinstance(group, h5py.Group) else None
        if isinstance(link, h5py.ExternalLink):
            raise FileReadError(
                f"{name}: {path!r} in {file!r} is a link to {link.path!r} in another file, {link.filename!r}; expected "
                "that file by its own name"
            )
        if isinstance(link, h5py.SoftLink):
            left += link.path.split("/")[::-1]
            at = "" if link.path.startswith("/") else at
        elif link is None:
            return None
        else:
            at = f"{at}/{part}"
    raise FileReadError(f"{name}: {path!r} in {file!r} is a link that leads back to itself")


def _check_dataset(dataset: Any, file: str, name: str) -> None:
    """Check that a dataset is a matrix of real numbers, not encoded, all of which were written.

    Raises
    ------
    FileReadError
        Values were never written, lie in another file, or are codes of values by the conventions of netCDF.
    ValueError, TypeError
        It is no matrix of real numbers.
    """
    if (dtype := _dtype(dataset)) is None:
        raise TypeError(
            f"{name} must hold real numbers, got {dataset.name!r} in {file!r} of a type that NumPy does not have"
        )
    check_matrix(dataset.shape or (), dtype, name)
    if dataset.chunks is not None and (size := math.prod(dataset.chunks) * dtype.itemsize) > _MOST_CHUNK_BYTES:
        raise FileReadError(
            f"{name}: {dataset.name!r} in {file!r} must have chunks of at most {_MOST_CHUNK_BYTES} bytes, which are "
            f"read whole, got {size} in shape {dataset.chunks}"
        )
    _check_no_codes(dataset, file, name)
    _check_written(dataset, file, name)


def _check_no_codes(dataset: Any, file: str, name: str) -> None:
    """Check that the values are stored as they are."""
    codes = [key for key in _CODES if key in dataset.attrs]
    if codes:
        raise FileReadError(
            f"{name}: {dataset.name!r} in {file!r} holds codes of values, as its attribute {codes[0]!r} says; expected "
            "a dataset that holds the values"
        )


def _dtype(dataset: Any) -> np.dtype[Any] | None:
    """The NumPy type of a dataset; None where there is none, as for integers of three bytes."""
    try:
        dtype: np.dtype[Any] = dataset.dtype
    except (TypeError, ValueError):
        return None
    return dtype


def _check_written(dataset: Any, file: str, name: str) -> None:
    """Check that every value was written into this file: HDF5 silently gives a fill value for any other."""
    where = f"{dataset.name!r} in {file!r}"
    if dataset.is_virtual:
        raise FileReadError(
            f"{name}: {where} is a virtual dataset, of which what is missing would read as {dataset.fillvalue}; "
            "expected a dataset that holds its values"
        )
    if dataset.external is not None:
        raise FileReadError(
            f"{name}: {where} lies in another file, {dataset.external[0][0]!r}; expected a dataset that holds its "
            "values"
        )
    if dataset.chunks is None:
        is_missing = dataset.size > 0 and dataset.id.get_storage_size() == 0
        row = 0
    else:
        counts = [-(-n // step) for n, step in zip(dataset.shape, dataset.chunks, strict=True)]
        is_missing = dataset.id.get_num_chunks() < math.prod(counts)
        row = _first_unwritten(dataset, counts) if is_missing else 0
    if is_missing:
        raise FileReadError(
            f"{name}: {where} has rows that were never written, from row {row} on; expected all {dataset.shape[0]}"
        )


def _first_unwritten(dataset: Any, counts: list[int]) -> int:
    """The first row of the first chunk that was never written; the number of chunks may not fit into a list."""
    for number in range(math.prod(counts)):
        at: list[int] = []
        for n, step in zip(reversed(counts), reversed(dataset.chunks), strict=True):
            number, place = divmod(number, n)
            at.insert(0, place * step)
        if dataset.id.get_chunk_info_by_coord(tuple(at)).byte_offset is None:
            return at[0]
    return 0
