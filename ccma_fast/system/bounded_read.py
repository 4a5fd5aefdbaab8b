"""Reads of whole files, whose size is checked before anything is in memory."""

from __future__ import annotations

import math
import os
import zipfile
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt
from numpy.lib import format as npy

from .file_integrity import open_regular

__all__ = ["MOST_BYTES", "Arrays", "read_whole"]

MOST_BYTES = 1 << 30
"""Largest file that is read whole, in bytes. The manifest of a hundred million images takes a hundredth."""


def read_whole(file: str | os.PathLike[str]) -> bytes:
    """The content of a file.

    Raises
    ------
    ValueError
        It has more than :data:`MOST_BYTES`, or is no regular file (:class:`FileReadError`).
    """
    with open_regular(file) as handle:
        size = os.fstat(handle.fileno()).st_size
        if size > MOST_BYTES:
            raise ValueError(f"it has {size} bytes, expected at most {MOST_BYTES}")
        return handle.read(MOST_BYTES)


class _Entry(NamedTuple):
    """An array in an archive, by its header."""

    member: zipfile.ZipInfo
    shape: tuple[int, ...]
    n_bytes: int
    """Size of its values, uncompressed."""


class Arrays:
    """The arrays of a ``.npz`` file, each unpacked on demand and no larger than expected.

    Compressed, a few bytes of such a file can stand for a thousand times as many.

    Parameters
    ----------
    handle : BinaryIO

    Raises
    ------
    Exception
        The file is no such archive; its parser raises whatever it meets.
    """

    def __init__(self, handle: BinaryIO) -> None:
        self._archive = zipfile.ZipFile(handle)
        members = self._archive.infolist()
        self._entries = {Path(member.filename).stem: self._described(member) for member in members}
        if len(self._entries) < len(members):
            raise ValueError("an array stands there twice")

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def n_rows(self, name: str) -> int:
        """The length of an array along its first axis, 1 where it has none."""
        return next(iter(self._found(name).shape), 1)

    def read(self, name: str, most_bytes: int) -> npt.NDArray[Any]:
        """An array of at most so many bytes."""
        entry = self._found(name)
        if entry.n_bytes > most_bytes:
            raise ValueError(
                f"{name} would have {entry.n_bytes} bytes in shape {entry.shape}, expected at most {most_bytes}"
            )
        with self._archive.open(entry.member) as stream:
            return np.asarray(npy.read_array(stream, allow_pickle=False))

    def packed_bytes(self, name: str) -> int:
        """Compressed size of an array in the file."""
        return self._found(name).member.compress_size

    def _found(self, name: str) -> _Entry:
        if name not in self._entries:
            raise ValueError(f"it has no array {name!r}")
        return self._entries[name]

    def _described(self, member: zipfile.ZipInfo) -> _Entry:
        with self._archive.open(member) as stream:
            version = npy.read_magic(stream)
            if version != (1, 0):  # later ones allow headers of any length
                raise ValueError(f"{member.filename!r} is of version {version} of the format .npy, expected (1, 0)")
            shape, _, dtype = npy.read_array_header_1_0(stream)
            n_bytes = math.prod(shape) * dtype.itemsize
            if stream.tell() + n_bytes != member.file_size:
                raise ValueError(
                    f"{member.filename!r} has {member.file_size} bytes, and shape {shape} of {dtype} takes "
                    f"{stream.tell() + n_bytes}"
                )
        return _Entry(member, shape, n_bytes)
