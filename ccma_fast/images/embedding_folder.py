"""Folders of embeddings as they are written: shard after shard, with the metadata of its rows, and the manifest."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..errors import PoolMismatchError
from ..pool.agreement import differing_encoders
from ..pool.manifest import Manifest, Shard, Skipped
from ..pool.manifest_file import (
    MANIFEST,
    chained,
    check_shards,
    digest_of_file,
    read_manifest,
    shard_columns,
    write_manifest,
)
from ..system.extras import optional
from ..system.output_files import remove_leftovers, sync_directory, write_whole
from .image_source import ImageFile

__all__ = [
    "EmbeddingFolder",
    "ShardMetadata",
    "digest_of_encoder",
    "remove_unfinished",
    "write_classes",
    "write_shard",
]

_SIZE, _CHECKSUM, _TIME, _ROOT = "file_bytes", "file_crc32", "file_mtime_ns", "file_root"


class ShardMetadata(NamedTuple):
    """The metadata of the rows of a shard.

    Attributes
    ----------
    ids : list of str
        The images' ids when they were embedded.
    files : list of ImageFile
        The files that they were decoded from.
    roots : list of str or None
        The folder that each id is relative to, None where there is none or it was not recorded.
    labels : list or None
        The label of each, None where it has none; None where the images came without labels.
    """

    ids: list[str]
    files: list[ImageFile]
    roots: list[str | None]
    labels: list[Any] | None


class EmbeddingFolder:
    """A folder for the embeddings of one encoder.

    Changes are made to :attr:`manifest`, and written by :meth:`write`.

    Parameters
    ----------
    path : Path
        New, empty, or one that was extracted.
    wanted : Manifest
        What a new one is to say; one that exists must agree with it.

    Raises
    ------
    ValueError
        The folder holds something else.
    PoolMismatchError
        It was made by another encoder, or in another precision.
    FileReadError
        A damaged manifest or shard.
    """

    def __init__(self, path: Path, wanted: Manifest) -> None:
        self.path, self.name = path, path.name
        found = read_manifest(path, "out")
        if found is None:
            if path.exists() and any(not entry.name.startswith(".") for entry in path.iterdir()):
                raise ValueError(
                    f"{str(path)!r} holds files but no manifest; expected a new or empty folder, or one that was "
                    "extracted"
                )
            path.mkdir(exist_ok=True)
            found = replace(wanted, folder=path)
            write_manifest(path, found)
        self.manifest = self._written = found
        differing = differing_encoders("images in out", found, "this call", wanted)
        if differing is None and found.precision != wanted.precision:
            precisions = f"{found.precision!r} in {found} and {wanted.precision!r} in this call"
            differing = f"out must be of one precision, got {precisions}"
        if differing is not None:
            raise PoolMismatchError(f"{differing}; expected another folder for another encoder")
        check_shards(found, "out")
        for name in ("img_emb", "metadata"):
            (path / name).mkdir(exist_ok=True)
        self.shards = [_known(found, shard) for shard in found.shards]

    @property
    def skipped(self) -> dict[str, Skipped]:
        return {image: why for shard in self.manifest.shards for image, why in shard.skipped.items()}

    def holds(self, directory: Path, shard: Shard) -> bool:
        """Whether the files of a shard in another directory are whole, there or where :meth:`moved` has put them."""
        places = zip(
            (shard.file, shard.metadata), self._next_files(), (shard.sha256, shard.metadata_sha256), strict=True
        )
        for name, moved, expected in places:
            found = directory / name if (directory / name).exists() else self.path / moved
            if not found.exists() or digest_of_file(found) != expected:
                return False
        return True

    def known(self, directory: Path, shard: Shard) -> ShardMetadata:
        """The metadata of a shard in another directory."""
        return _known(replace(self.manifest, folder=directory), shard)

    def moved(self, directory: Path, shard: Shard) -> tuple[Shard, ShardMetadata]:
        """The files of a shard in another directory, moved to where the next shard is, and what they hold.

        A file that is there already, as a call that was killed has moved it, stays there.
        """
        file, metadata = self._next_files()
        for name, place in ((shard.file, file), (shard.metadata, metadata)):
            if (directory / name).exists():
                os.replace(directory / name, self.path / place)
        for place in (file, metadata):
            sync_directory((self.path / place).parent)
        own = replace(shard, file=file, metadata=metadata)
        return own, _known(self.manifest, own)

    def add(self, shard: Shard, known: ShardMetadata, skipped: dict[str, Skipped]) -> None:
        """Take in the next shard, which was moved. Its images that were skipped before no longer are."""
        chain = chained(self.manifest.rows_sha256, known.ids)
        shards = (*self._skipping(dict.fromkeys(known.ids)), replace(shard, rows_sha256=chain, skipped=skipped))
        self.manifest = replace(self.manifest, shards=shards)
        self.shards.append(known)

    def explain(self, failures: dict[str, Skipped]) -> None:
        """Record the latest reasons why images are skipped."""
        self.manifest = replace(self.manifest, shards=tuple(self._skipping(failures)))

    def record(self, vanished: Sequence[int], renamed: dict[str, int]) -> None:
        """Record which images vanished or were renamed, for the rows that are here already; see :class:`Manifest`."""
        n_rows = self.manifest.n_rows
        self.manifest = replace(
            self.manifest,
            vanished=[row for row in vanished if row < n_rows],
            renamed={name: row for name, row in renamed.items() if row < n_rows},
        )

    def write(self) -> None:
        """Write the manifest, if there are changes to it."""
        now, before = self.manifest, self._written
        if now != before or [*now.renamed.items()] != [*before.renamed.items()]:
            write_manifest(self.path, now)
            self._written = now

    def _next_files(self) -> tuple[str, str]:
        k = len(self.manifest.shards)
        return f"img_emb/img_emb_{k}.npy", f"metadata/metadata_{k}.parquet"

    def _skipping(self, changes: dict[str, Any]) -> list[Shard]:
        """The shards with changed reasons why images are skipped; None for images that no longer are."""
        return [
            replace(
                shard,
                skipped={
                    image: changes.get(image, why)
                    for image, why in shard.skipped.items()
                    if changes.get(image, why) is not None
                },
            )
            if shard.skipped
            else shard
            for shard in self.manifest.shards
        ]


def write_shard(directory: Path, stem: str, rows: npt.NDArray[np.float16], known: ShardMetadata) -> Shard:
    """Write the rows of a shard and their metadata, as ``stem.npy`` and ``stem.parquet``.

    The result does not know the rows of the shards before it, nor what was skipped.
    """
    file, metadata = f"{stem}.npy", f"{stem}.parquet"
    columns: dict[str, list[Any]] = {"image_path": known.ids}
    if known.labels is not None:
        columns["label"] = known.labels
    if any(entry.n_bytes is not None for entry in known.files):
        columns |= dict(zip((_SIZE, _CHECKSUM, _TIME), map(list, zip(*known.files, strict=True)), strict=True))
    if any(root is not None for root in known.roots):
        columns[_ROOT] = known.roots
    write_whole(directory / file, lambda handle: np.save(handle, rows))
    _write_parquet(directory / metadata, columns)
    return Shard(
        file,
        metadata,
        len(rows),
        digest_of_file(directory / file),
        digest_of_file(directory / metadata),
        rows_sha256="",
    )


def digest_of_encoder(manifest: Manifest) -> str:
    """What identifies an encoder and all that is done to an image, whatever the model is called."""
    encoder = manifest.encoder["library"], manifest.encoder["weights_sha256"]
    known = (*encoder, manifest.preprocessing, manifest.precision, manifest.normalized, manifest.n_columns)
    return hashlib.sha256(repr(known).encode()).hexdigest()


def remove_unfinished(folder: Path) -> None:
    """Remove what a killed process left half-written in a folder of embeddings."""
    remove_leftovers(folder, re.escape(MANIFEST))
    for name, files in (("img_emb", r"img_emb_\d+\.npy"), ("text_emb", r"text_emb_\d+\.npy")):
        remove_leftovers(folder / name, files)
    remove_leftovers(folder / "metadata", r"metadata_\d+\.parquet")


def write_classes(folder: Path, names: list[str], features: npt.NDArray[np.float32], manifest: Manifest) -> None:
    """Write the features of classes as one shard, with the manifest of :func:`class_features`."""
    for name in ("text_emb", "metadata"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    file, metadata = "text_emb/text_emb_0.npy", "metadata/metadata_0.parquet"
    write_whole(folder / file, lambda handle: np.save(handle, features))
    _write_parquet(folder / metadata, {"caption": names})
    (whole,) = manifest.shards
    shard = replace(
        whole,
        file=file,
        metadata=metadata,
        sha256=digest_of_file(folder / file),
        metadata_sha256=digest_of_file(folder / metadata),
    )
    write_manifest(folder, replace(manifest, shards=(shard,)))


def _write_parquet(file: Path, columns: dict[str, list[Any]]) -> None:
    pyarrow = optional("pyarrow", "the metadata of a pool", "extract")
    parquet = optional("pyarrow.parquet", "the metadata of a pool", "extract")
    table = pyarrow.table({name: _arrow_column(cells) for name, cells in columns.items()})
    write_whole(file, lambda handle: parquet.write_table(table, handle))


def _arrow_column(cells: list[Any]) -> Any:
    pyarrow = optional("pyarrow", "the metadata of a pool", "extract")
    if not cells or any(isinstance(cell, str) for cell in cells):
        return pyarrow.array([None if cell is None else str(cell) for cell in cells], pyarrow.string())
    return pyarrow.array(cells, pyarrow.int64())


def _known(manifest: Manifest, shard: Shard) -> ShardMetadata:
    columns = shard_columns(manifest, shard, ["image_path", "label", _SIZE, _CHECKSUM, _TIME, _ROOT])
    none = [None] * shard.n_rows
    files = (columns.get(name, none) for name in (_SIZE, _CHECKSUM, _TIME))
    same: dict[str | None, str | None] = {}  # one string for all rows of a root
    return ShardMetadata(
        columns["image_path"],
        [ImageFile(*file) for file in zip(*files, strict=True)],
        [same.setdefault(root, root) for root in columns.get(_ROOT, none)],
        columns.get("label"),
    )
