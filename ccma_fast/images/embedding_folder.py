"""Folders of embeddings as they are written: shard after shard, with the metadata of its rows, and the manifest."""

from __future__ import annotations

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
from ..system.output_files import remove_leftovers, write_whole
from .encoders import Encoder
from .image_source import ImageFile

__all__ = ["EmbeddingFolder", "ShardMetadata", "remove_unfinished", "write_classes"]

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

    Parameters
    ----------
    path : Path
        New, empty, or one that was extracted.
    encoder : Encoder
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

    def __init__(self, path: Path, encoder: Encoder, wanted: Manifest) -> None:
        self.path, self.encoder = path, encoder
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
        self.manifest = found
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

    def add(self, rows: npt.NDArray[np.float16], known: ShardMetadata, skipped: dict[str, Skipped]) -> None:
        """Write the next shard. Its images that were skipped before no longer are."""
        k = len(self.manifest.shards)
        file, metadata = f"img_emb/img_emb_{k}.npy", f"metadata/metadata_{k}.parquet"
        columns: dict[str, list[Any]] = {"image_path": known.ids}
        if known.labels is not None:
            columns["label"] = known.labels
        if any(file.n_bytes is not None for file in known.files):
            columns |= dict(zip((_SIZE, _CHECKSUM, _TIME), map(list, zip(*known.files, strict=True)), strict=True))
        if any(root is not None for root in known.roots):
            columns[_ROOT] = known.roots
        write_whole(self.path / file, lambda handle: np.save(handle, rows))
        _write_parquet(self.path / metadata, columns)
        shard = Shard(
            file,
            metadata,
            len(rows),
            digest_of_file(self.path / file),
            digest_of_file(self.path / metadata),
            chained(self.manifest.rows_sha256, known.ids),
            skipped,
        )
        self._write(shards=(*self._skipping(dict.fromkeys(known.ids)), shard))
        self.shards.append(known)

    def explain(self, failures: dict[str, Skipped]) -> None:
        """Record the latest reasons why images are skipped."""
        self._write(shards=tuple(self._skipping(failures)))

    def record(self, vanished: Sequence[int], renamed: dict[str, int]) -> None:
        """Record which images vanished or were renamed, for the rows that are here already; see :class:`Manifest`."""
        n_rows = self.manifest.n_rows
        self._write(
            vanished=[row for row in vanished if row < n_rows],
            renamed={name: row for name, row in renamed.items() if row < n_rows},
        )

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
            for shard in self.manifest.shards
        ]

    def _write(self, **changes: Any) -> None:
        """Write the manifest with changes, if there are any."""
        changed = replace(self.manifest, **changes)
        if changed != self.manifest or [*changed.renamed.items()] != [*self.manifest.renamed.items()]:
            self.manifest = changed
            write_manifest(self.path, changed)


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
