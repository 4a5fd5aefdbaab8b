"""The folders of a pool that is being extracted: shards that are written one after another, and what they hold."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ._errors import PoolMismatchError
from ._extras import optional
from ._files import remove_leftovers, write_whole
from .encoders import Encoder
from .manifest import (
    MANIFEST,
    Manifest,
    Shard,
    chained,
    check_shards,
    differing_encoders,
    digest_of_file,
    read_manifest,
    shard_columns,
    write_manifest,
)

__all__ = ["ImageFiles", "Target", "remove_unfinished", "write_classes"]

_SIZES, _CHECKSUMS = "file_bytes", "file_crc32"


class ImageFiles(NamedTuple):
    """The files of some images: their sizes in bytes and their CRC-32, None where an image is in no file."""

    sizes: list[int | None]
    checksums: list[int | None]


class Target:
    """A folder that gets the embeddings of one encoder."""

    def __init__(self, folder: Path, encoder: Encoder, wanted: Manifest) -> None:
        self.folder, self.encoder = folder, encoder
        found = read_manifest(folder, "out")
        if found is None:
            if folder.exists() and any(not entry.name.startswith(".") for entry in folder.iterdir()):
                raise ValueError(
                    f"{str(folder)!r} holds files but no manifest; expected a new or empty folder, or one that was "
                    "extracted"
                )
            folder.mkdir(exist_ok=True)
            found = replace(wanted, folder=folder)
            write_manifest(folder, found)
        self.manifest = found
        differing = differing_encoders("images in out", found, "this call", wanted)
        if differing is None and found.precision != wanted.precision:
            precisions = f"{found.precision!r} in {found} and {wanted.precision!r} in this call"
            differing = f"out must be of one precision, got {precisions}"
        if differing is not None:
            raise PoolMismatchError(f"{differing}; expected another folder for another encoder")
        check_shards(found, "out")
        for name in ("img_emb", "metadata"):
            (folder / name).mkdir(exist_ok=True)
        self.shard_ids, self.shard_files, self.labels = _read_metadata(found)

    @property
    def skipped(self) -> dict[str, str]:
        return {image: why for shard in self.manifest.shards for image, why in shard.skipped.items()}

    def add(
        self,
        rows: npt.NDArray[np.float16],
        ids: list[str],
        files: ImageFiles,
        labels: list[Any] | None,
        skipped: dict[str, str],
    ) -> None:
        """Write the next shard. An image of it that was skipped before is so no longer."""
        k = len(self.manifest.shards)
        file, metadata = f"img_emb/img_emb_{k}.npy", f"metadata/metadata_{k}.parquet"
        columns: dict[str, list[Any]] = {"image_path": ids}
        if labels is not None:
            columns["label"] = labels
        if any(size is not None for size in files.sizes):
            columns |= {_SIZES: files.sizes, _CHECKSUMS: files.checksums}
        write_whole(self.folder / file, lambda handle: np.save(handle, rows))
        _write_parquet(self.folder / metadata, columns)
        shard = Shard(
            file,
            metadata,
            len(rows),
            digest_of_file(self.folder / file),
            digest_of_file(self.folder / metadata),
            chained(self.manifest.rows_sha256, ids),
            skipped,
        )
        self._replace([*self._skipping(dict.fromkeys(ids)), shard])
        self.shard_ids.append(ids)
        self.shard_files.append(files)

    def explain(self, failures: dict[str, str]) -> None:
        """Images that are skipped still are, perhaps for another reason."""
        shards = self._skipping(failures)
        if shards != [*self.manifest.shards]:
            self._replace(shards)

    def _skipping(self, changes: dict[str, Any]) -> list[Shard]:
        """The shards with other reasons why images are skipped, None for those that no longer are."""
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

    def _replace(self, shards: Sequence[Shard]) -> None:
        self.manifest = replace(self.manifest, shards=tuple(shards))
        write_manifest(self.folder, self.manifest)


def remove_unfinished(folder: Path) -> None:
    """Remove what a killed process left half-written in a folder of embeddings."""
    remove_leftovers(folder, re.escape(MANIFEST))
    for name, files in (("img_emb", r"img_emb_\d+\.npy"), ("text_emb", r"text_emb_\d+\.npy")):
        remove_leftovers(folder / name, files)
    remove_leftovers(folder / "metadata", r"metadata_\d+\.parquet")


def write_classes(folder: Path, names: list[str], features: npt.NDArray[np.float32], manifest: Manifest) -> None:
    """Write the features of classes, one shard, and what :func:`ccma_fast.encoders.class_features` says of them."""
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


def _read_metadata(manifest: Manifest) -> tuple[list[list[str]], list[ImageFiles], dict[str, Any]]:
    """The ids of the rows of each shard, their files, and the labels of those that have one."""
    ids: list[list[str]] = []
    files: list[ImageFiles] = []
    labels: dict[str, Any] = {}
    for shard in manifest.shards:
        columns = shard_columns(manifest, shard, ["image_path", "label", _SIZES, _CHECKSUMS])
        ids.append(columns["image_path"])
        files.append(ImageFiles(*(columns.get(name, [None] * shard.n_rows) for name in (_SIZES, _CHECKSUMS))))
        if "label" in columns:
            labels.update(zip(ids[-1], columns["label"], strict=True))
    return ids, files, labels
