"""A folder of shards: ``.npy``, ``.parquet`` or ``.arrow`` files that hold the rows one after the other.

Where the folder has a manifest (:mod:`ccma_fast.pool.manifest`), it says which files and in what order, and what they
must hold: they are read once and compared with their checksums when the folder is opened; in a process group of
``torch.distributed``, whose ranks each read some of them, when the first row of a shard is read. A folder that
``datasets.save_to_disk`` wrote says which files as well. Any other has all its files of one of the three kinds, or
those of its ``img_emb`` or ``text_emb`` as clip-retrieval writes them, in the order of their names, ``part-2`` before
``part-10``; hidden files (``.part-3.npy``) are none of them, and names that show that one is missing are refused.
Shards that are added behind those that were there join the pool (:meth:`FolderRows.grown`), and the rows that were
there keep their numbers.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...errors import FileReadError
from ...system.file_integrity import FileInUse, Stamp
from ...system.processes import is_one_of_several
from ..arrow_columns import id_column_of
from ..blocks import ids_of_parts
from ..keys import is_of_another_role
from ..manifest_file import check_shards, former_ids, ids_of_shard, read_manifest
from ..open import open_file
from ..parquet_file import opened
from ..rows import BFLOAT16_BITS, Chunk, Places, RowId, Rows, sliced_around
from ..shard_names import ShardFile, check_names, natural_order, pattern_of
from ..sharded import ShardedRows
from .arrow import files_of_dataset
from .parquet import ids_at, read_ids

__all__ = ["FolderRows"]

_IMAGES = "img_emb"
_CLIP_RETRIEVAL = (_IMAGES, "text_emb")
_SUFFIXES = (".npy", ".parquet", ".arrow")

Int64 = npt.NDArray[np.int64]

# Most readers kept open. A map holds its file open, and 1,024 open files are the usual limit of a process; other
# readers also cache their last block.
_MOST_MAPPED, _MOST_READERS = 256, 4


class FolderRows(ShardedRows):
    """The rows of all shards in a folder.

    Parameters
    ----------
    folder : path
    name : str
        Its name in error messages.
    key : str, optional
        The column of ``.parquet`` and ``.arrow`` shards.
    before : FolderRows, optional
        The folder as it was opened before: its shards are not opened and compared again.

    Raises
    ------
    FileReadError
        No shard, one that cannot be read or is not what the manifest says, shards that are not those of `before`
        and then others, names that show that one is missing, or matrices of images and of texts side by side.
    ValueError
        Shards of different columns or dtypes.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        name: str,
        key: str | None = None,
        before: FolderRows | None = None,
    ) -> None:
        self.folder, self._key = Path(folder), key
        self.manifest = read_manifest(self.folder, name)
        if self.manifest is None:
            self.files = files_of_dataset(self.folder, name) or _found_shards(self.folder, name)
        else:
            self.files = [self.folder / shard.file for shard in self.manifest.shards]
        if not self.files:
            raise FileReadError(f"{name}: no .npy, .parquet or .arrow file in the folder {str(folder)!r}")
        if self.manifest is not None:
            _check_places({file.parent: [file] for file in self.files}, self.folder, name)
        known = [] if before is None else before.files
        for i, file in enumerate(known):
            if i >= len(self.files) or self.files[i] != file:
                got = "none" if i >= len(self.files) else repr(str(self.files[i]))
                raise FileReadError(
                    f"{name}: {str(file)!r} must stay shard {i} of its folder, got {got} in its place; expected new "
                    "shards behind the old ones, or rows would get other numbers"
                )
        if self.manifest is None:
            check_names(self.files, name)
        new = self.files[len(known) :]
        in_use = {file: FileInUse(file, name) for file in new if file.exists()}  # before they are compared
        compared: list[Callable[[], None] | None] = [None] * len(new)
        if self.manifest is not None:
            if is_one_of_several():  # each rank reads some of the shards
                places = range(len(known), len(self.files))
                compared = [partial(check_shards, self.manifest, name, place, place + 1) for place in places]
            else:
                check_shards(self.manifest, name, first=len(known))
        self._metadata: list[FileInUse | None] = [] if before is None else list(before._metadata)
        self._metadata += [_metadata_of(file, name) for file in new]
        shards: list[_Shard] = [] if before is None else list(before._opened)
        shards += [
            _Shard(file, in_use.get(file) or FileInUse(file, name), key, compare)
            for file, compare in zip(new, compared, strict=True)
        ]
        for file, shard in zip(self.files, shards, strict=True):
            if shard.n_columns != shards[0].n_columns or shard.slice(0, 0).dtype != shards[0].slice(0, 0).dtype:
                raise ValueError(
                    f"{name}: shards must agree in columns and dtype, got {_shape_of(shards[0])} in "
                    f"{self.files[0].name!r} and {_shape_of(shard)} in {file.name!r}"
                )
            if shard.column != shards[0].column:
                raise ValueError(
                    f"{name}: shards must have their rows in one column, got {shards[0].column!r} in "
                    f"{self.files[0].name!r} and {shard.column!r} in {file.name!r}"
                )
        self._opened: list[_Shard] = shards
        super().__init__(shards, name)

    def grown(self) -> Rows:
        now = FolderRows(self.folder, self.name, self._key, before=self)
        return self if len(now.files) == len(self.files) and now.manifest == self.manifest else now

    @property
    def shard_files(self) -> list[ShardFile]:
        return [ShardFile(file, shard.n_rows) for file, shard in zip(self.files, self._shards, strict=True)]

    @cached_property
    def _has_ids(self) -> bool:
        if self.manifest is not None:
            return not self.manifest.class_names
        if self.files[0].suffix.lower() != ".npy":
            return all(shard.has_ids for shard in self._opened)
        return all(table and self._id_column(opened(table.file, self.name)) for table in self._metadata)

    def _id_column(self, table: Any) -> str | None:
        """The column of ids in the metadata of a shard."""
        return id_column_of(table.schema_arrow, self.name)

    def row_ids(self) -> Iterator[RowId] | None:
        if not self._has_ids:
            return None
        return (row_id for k in range(len(self.files)) for row_id in self._ids_of_shard(k))

    def ids_at(self, rows: Int64) -> list[RowId] | None:
        return ids_of_parts(rows, self._starts, self._ids_of_shard) if self._has_ids else None

    def former_ids(self) -> dict[str, list[int]]:
        return self._former_ids

    @cached_property
    def _former_ids(self) -> dict[str, list[int]]:
        return former_ids(self.manifest) if self.manifest is not None and self._has_ids else {}

    def vanished(self) -> Int64:
        return np.array([] if self.manifest is None else self.manifest.vanished, dtype=np.int64)

    def _ids_of_shard(self, k: int, rows: Int64 | None = None) -> list[RowId]:
        """The ids of some rows of a shard, by default of all."""
        if self.manifest is not None:
            return [row_id or None for row_id in ids_of_shard(self.manifest, k, rows)]
        if self.files[0].suffix.lower() != ".npy":
            found = self._shards[k].row_ids() if rows is None else self._shards[k].ids_at(rows)
            assert found is not None, "every shard has ids"
            return list(found)
        in_use = self._metadata[k]
        assert in_use is not None, "every shard has ids"
        in_use.check()
        table, n_rows = opened(in_use.file, self.name), self._shards[k].n_rows
        if table.metadata.num_rows != n_rows:
            raise FileReadError(
                f"{self.name}: {in_use.file!r} must have the {n_rows} rows of {str(self.files[k])!r}, got "
                f"{table.metadata.num_rows}"
            )
        column = self._id_column(table)
        assert column is not None, "every shard has ids"
        return list(read_ids(table, column, in_use)) if rows is None else ids_at(table, column, rows, in_use)


class _Shard(Rows):
    """A file that stays open while it is among those read last; where asked, compared with its manifest first."""

    def __init__(
        self, file: Path, in_use: FileInUse, key: str | None, compare: Callable[[], None] | None = None
    ) -> None:
        self._compare = compare
        self.name, self._file, self.in_use, self._key = in_use.name, file, (in_use,), key
        self._lent: Rows | None = None  # the reader whose rows were handed out
        self.bytes_read = 0
        self.n_rows, self.n_columns = self._rows.n_rows, self._rows.n_columns
        self.has_ids = self._rows.row_ids() is not None
        self.column: str | None = getattr(self._rows, "column", None)

    @property
    def _rows(self) -> Rows:
        opened_file = _mapped if self._file.suffix.lower() == ".npy" else _reader
        try:
            return opened_file(self._file, self._key, self.name, self.in_use[0].stamp)
        finally:
            self.check()  # also where it cannot be opened: this may be why

    @property
    def row_bytes(self) -> int:
        return self._rows.row_bytes

    @property
    def is_mapped(self) -> bool:
        return self._rows.is_mapped

    def resident_bytes(self, n: int, *, picked: bool = False) -> int:
        return self._rows.resident_bytes(n, picked=picked)

    def _counted(self, chunk: Chunk) -> Chunk:
        self.bytes_read += chunk.nbytes
        return chunk

    def slice(self, start: int, stop: int) -> Chunk:
        rows = self._rows
        if start < stop:
            self._compared()
            self._lent = rows
        return self._counted(rows.slice(start, stop))

    def take(self, indices: npt.NDArray[np.int64]) -> Chunk:
        self._compared()
        return self._counted(self._rows.take(indices))

    def around(self, indices: npt.NDArray[np.int64]) -> tuple[Chunk, Places]:
        return sliced_around(self, indices)

    def _compared(self) -> None:
        if self._compare is not None:
            self._compare()
            self._compare = None

    def row_number(self, row: int) -> int:
        return self._rows.row_number(row)

    def row_ids(self) -> Iterator[RowId] | None:
        return self._rows.row_ids()

    def ids_at(self, rows: Int64) -> list[RowId] | None:
        return self._rows.ids_at(rows)

    def expect(self, start: int, stop: int) -> None:
        self._rows.expect(start, stop)

    def release(self, start: int, stop: int) -> None:
        rows, self._lent = self._lent or self._rows, None
        rows.release(start, stop)
        self.check()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_lent": None}  # each process opens the file itself


def _opened_as_it_was(file: Path, key: str | None, name: str, _stamp: Stamp) -> Rows:
    return open_file(file, key, name)


_mapped = lru_cache(maxsize=_MOST_MAPPED)(_opened_as_it_was)
_reader = lru_cache(maxsize=_MOST_READERS)(_opened_as_it_was)


def _found_shards(folder: Path, name: str) -> list[Path]:
    """The shards of a folder that does not list them."""
    places = [folder, *(folder / place for place in _CLIP_RETRIEVAL)]
    there = {place: [file for file in place.glob("*") if not file.name.startswith(".")] for place in places}
    for suffix in _SUFFIXES:
        filled = {place: own for place, files in there.items() if (own := _of_kind(files, suffix))}
        if filled:
            place = _check_places(filled, folder, name)
            shards = sorted(filled[place], key=natural_order)
            _check_kinds(shards, [file for kind in _SUFFIXES for file in _of_kind(there[place], kind)], name)
            return shards
    return []


def _of_kind(files: list[Path], suffix: str) -> list[Path]:
    return [file for file in files if file.suffix.lower() == suffix]


def _check_kinds(shards: list[Path], files: list[Path], name: str) -> None:
    """Check that no file of another format continues the shards' names, as ``part-3.parquet`` does ``part-2.npy``."""
    stems = {file.stem for file in shards}
    patterns = {pattern_of(file) for file in shards}
    for file in files:
        if file not in shards and file.stem not in stems and pattern_of(file) in patterns:
            raise FileReadError(
                f"{name}: {str(file.parent)!r} holds shards of two kinds by their names, {shards[0].name!r} and "
                f"{file.name!r}; expected all rows in files of one kind"
            )


def _check_places(filled: dict[Path, list[Path]], folder: Path, name: str) -> Path:
    """The only one of a folder and its subfolders that holds the matrix for the argument `name`."""
    fitting = [place for place in filled if place == folder or not is_of_another_role(name, place.name)]
    if len(fitting) != 1:
        there = " and ".join(repr(str(place)) for place in filled)
        what = "rows of another kind" if not fitting else "several matrices"
        raise FileReadError(f"{name}: {str(folder)!r} holds {what}, in {there}; expected the folder of one by its name")
    (place,) = fitting
    others = [file for file in filled[place] if is_of_another_role(name, file.stem)]
    if others and len(others) < len(filled[place]):
        own = next(file for file in filled[place] if file not in others)
        raise FileReadError(
            f"{name}: {str(place)!r} holds several matrices, in {own.name!r} and {others[0].name!r}; expected one of "
            "them by its name"
        )
    return place


def _metadata_of(file: Path, name: str) -> FileInUse | None:
    """The metadata that clip-retrieval writes for a shard of images; None where there is none."""
    table = file.parent.parent / "metadata" / f"{file.stem.replace(_IMAGES, 'metadata')}.parquet"
    return FileInUse(table, name) if file.parent.name == _IMAGES and table.exists() else None


def _shape_of(rows: Rows) -> str:
    dtype = rows.slice(0, 0).dtype
    return f"{rows.n_columns} columns of {'bfloat16' if dtype == BFLOAT16_BITS else dtype}"
