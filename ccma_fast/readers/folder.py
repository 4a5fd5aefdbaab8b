"""A folder of shards: ``.npy`` files that hold the rows one after the other.

Where the folder has a manifest (:mod:`ccma_fast.manifest`), it says which files and in what order, and what they must
hold: they are read once and compared with their checksums when the folder is opened. Where it has none, they are all
its ``.npy`` files, or those of its ``img_emb`` or ``text_emb`` as clip-retrieval writes them, in the order of their
names, ``part-2`` before ``part-10``. Shards that are added behind those that were there join the pool
(:meth:`FolderRows.grown`), and the rows that were there keep their numbers.
"""

from __future__ import annotations

import os
import re
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from .._errors import FileReadError
from ..manifest import check_shards, read_manifest
from ..pool import BFLOAT16_BITS, Chunk, Rows, ShardedRows, open_npy

__all__ = ["FolderRows"]

_CLIP_RETRIEVAL = ("img_emb", "text_emb")

# A map holds its file open, and 1,024 open files are the usual limit of a process.
_MOST_MAPPED = 256


class FolderRows(ShardedRows):
    """The rows of all shards in a folder.

    Parameters
    ----------
    folder : path
    name : str
        What error messages call it.
    before : FolderRows, optional
        The folder as it was: its shards are not opened and compared again.

    Raises
    ------
    FileReadError
        No shard, one that cannot be read or is not what the manifest says, or shards that are not those of `before`
        and then others.
    ValueError
        Shards of different columns or dtypes.
    """

    def __init__(self, folder: str | os.PathLike[str], name: str, before: FolderRows | None = None) -> None:
        self.folder = Path(folder)
        self.manifest = read_manifest(self.folder, name)
        self.files: list[Path]
        known = [] if before is None else before.files
        if self.manifest is None:
            self.files = _in_natural_order(self.folder)
        else:
            self.files = [self.folder / shard.file for shard in self.manifest.shards]
        if not self.files:
            raise FileReadError(f"{name}: no .npy file in the folder {str(folder)!r}")
        for i, file in enumerate(known):
            if i >= len(self.files) or self.files[i] != file:
                got = "none" if i >= len(self.files) else repr(str(self.files[i]))
                raise FileReadError(
                    f"{name}: {str(file)!r} must stay shard {i} of its folder, got {got} in its place; expected new "
                    "shards behind the old ones, or rows would get other numbers"
                )
        if self.manifest is not None:
            check_shards(self.manifest, name, first=len(known))
        shards: list[Rows] = [] if before is None else list(before._shards)
        shards += [_Shard(file, name) for file in self.files[len(known) :]]
        for file, shard in zip(self.files, shards, strict=True):
            if shard.n_columns != shards[0].n_columns or shard.slice(0, 0).dtype != shards[0].slice(0, 0).dtype:
                raise ValueError(
                    f"{name}: shards must agree in columns and dtype, got {_shape_of(shards[0])} in "
                    f"{self.files[0].name!r} and {_shape_of(shard)} in {file.name!r}"
                )
        super().__init__(shards, name)

    def grown(self) -> Rows:
        now = FolderRows(self.folder, self.name, before=self)
        return self if len(now.files) == len(self.files) else now


class _Shard(Rows):
    """A ``.npy`` file that is mapped while it is among those read last."""

    def __init__(self, file: Path, name: str) -> None:
        self.name, self._file, self._stamp = name, file, _stamp(file)
        self.bytes_read = 0
        self.n_rows, self.n_columns = self._rows.n_rows, self._rows.n_columns

    @property
    def _rows(self) -> Rows:
        return _mapped(self._file, self.name, self._stamp)

    @property
    def row_bytes(self) -> int:
        return self._rows.row_bytes

    def _counted(self, chunk: Chunk) -> Chunk:
        self.bytes_read += chunk.nbytes
        return chunk

    def slice(self, start: int, stop: int) -> Chunk:
        return self._counted(self._rows.slice(start, stop))

    def take(self, indices: npt.NDArray[np.int64]) -> Chunk:
        return self._counted(self._rows.take(indices))

    def row_number(self, row: int) -> int:
        return self._rows.row_number(row)

    def expect(self, start: int, stop: int) -> None:
        self._rows.expect(start, stop)

    def release(self, start: int, stop: int) -> None:
        self._rows.release(start, stop)


@lru_cache(maxsize=_MOST_MAPPED)
def _mapped(file: Path, name: str, stamp: tuple[int, ...]) -> Rows:
    rows = open_npy(file, name)
    if _stamp(file) != stamp:
        raise FileReadError(f"{name}: {str(file)!r} was changed while it was in use; expected it as it was opened")
    return rows


def _stamp(file: Path) -> tuple[int, ...]:
    """What tells a file from one that replaced it."""
    try:
        found = file.stat()
    except OSError:  # opening it will say so
        return ()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _in_natural_order(folder: Path) -> list[Path]:
    """The shards of a folder without a manifest."""
    places = [folder, *(folder / name for name in _CLIP_RETRIEVAL)]
    filled = [files for files in ([*place.glob("*.npy")] for place in places) if files]
    return sorted(filled[0], key=_natural_order) if filled else []


def _natural_order(file: Path) -> list[str | int]:
    """Parts of a file's name that compare as text and as numbers in turn."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", file.name)]


def _shape_of(rows: Rows) -> str:
    dtype = rows.slice(0, 0).dtype
    return f"{rows.n_columns} columns of {'bfloat16' if dtype == BFLOAT16_BITS else dtype}"
