"""Carry out a plan: batches of images are decoded, embedded and gathered into shards, which are written."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import FileReadError
from ..pool.manifest import Skipped
from ..system.streams import progress_bar
from .changes import changed_error
from .decode import decoder
from .embedding_folder import EmbeddingFolder, ShardMetadata
from .extraction_plan import Part
from .image_source import ImageFile, Images
from .preprocessing import Batch, preprocessed

__all__ = ["embed"]

# A shard is closed after so long: a kill costs no more than this, and the files of a day are still few.
_SHARD_SECONDS = 300.0


def embed(source: Images, folders: list[EmbeddingFolder], plan: list[Part], workers: int, progress: bool) -> None:
    """Make the shards of a plan, and write them.

    Parameters
    ----------
    source : Images
    folders : list of EmbeddingFolder
    plan : list of Part
    workers : int
        Processes that decode; 0 for this one.
    progress : bool
        Show a bar on stderr.
    """
    batches = [(batch, part.folders) for part in plan for batch in part.batches]
    preprocess = [folder.encoder.preprocess for folder in folders]
    n_left = sum(len(batch) for part in plan for batch in part.batches)
    with (
        progress_bar(len(source.ids), len(source.ids) - n_left, "image", is_shown=progress) as bar,
        closing(preprocessed(source, batches, preprocess, workers)) as made,
    ):
        for part in plan:
            shard = _GrowingShard(source, folders, part)
            for number in range(1, len(part.batches) + 1):
                batch = next(made)
                shard.add(batch)
                bar.update(len(batch.items) + len(batch.failures))
                if number < len(part.batches) and part.ids is None and shard.seconds >= _SHARD_SECONDS:
                    shard.close()
                    shard = _GrowingShard(source, folders, part)
            shard.close()


class _GrowingShard:
    """The next shard of some folders, as it grows."""

    def __init__(self, source: Images, folders: list[EmbeddingFolder], part: Part) -> None:
        self._source, self._folders, self._part = source, folders, part
        self._rows: list[list[npt.NDArray[np.float16]]] = [[] for _ in part.folders]
        self._read: list[int] = []
        self._files: list[ImageFile] = []
        self._failures: dict[str, Skipped] = {}
        self._decoder = decoder()  # a worker may have other plugins
        self._begin = time.monotonic()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._begin

    def add(self, batch: Batch) -> None:
        names = [self._source.ids[item] for item in batch.items]
        for own, number, inputs in zip(
            self._rows, self._part.folders, batch.inputs, strict=False
        ):  # no inputs where no image was read
            own.append(_embedded(self._folders[number], inputs, names))
        self._read += batch.items
        self._files += batch.files
        for item, why in batch.failures.items():
            self._failures[self._source.ids[item]] = replace(why, decoder=self._decoder)

    def close(self) -> None:
        source, part = self._source, self._part
        ids = [source.ids[item] if part.ids is None else part.ids[item] for item in self._read]
        labels = None if source.labels is None else [source.labels[item] for item in self._read]
        roots = [source.root(item) for item in self._read]
        known = ShardMetadata(ids, self._files, roots, labels)
        skipped = self._failures if part.skipped is None else part.skipped
        for own, number in zip(self._rows, part.folders, strict=True):
            folder = self._folders[number]
            whole = np.concatenate([np.empty((0, folder.manifest.n_columns), np.float16), *own])
            _check_same_images(folder, self._folders, known)
            if ids or not part.again:
                folder.add(whole, known, {} if part.again else skipped)
            if part.again:
                folder.explain(skipped)


def _embedded(folder: EmbeddingFolder, inputs: Any, ids: list[str]) -> npt.NDArray[np.float16]:
    manifest = folder.manifest
    rows = folder.encoder.embed(inputs, precision=manifest.precision, normalize=manifest.normalized)
    bad = np.flatnonzero(~np.isfinite(rows).all(axis=1))
    if bad.size:
        raise ValueError(
            f"{folder.encoder.description['model']!r} must give numbers that float16 holds, got NaN or infinity for "
            f"{ids[bad[0]]!r} in {manifest.precision}"
        )
    return rows


def _check_same_images(folder: EmbeddingFolder, folders: list[EmbeddingFolder], known: ShardMetadata) -> None:
    """Check that a shard that another folder already has is of the same images there."""
    k = len(folder.shards)
    for other in folders:
        if len(other.shards) <= k:
            continue
        there = other.shards[k]
        if there.ids != known.ids:
            changed = next(iter({*there.ids} ^ {*known.ids}))
            raise FileReadError(
                f"images: {changed!r} can be read now or could be when {str(other.path)!r} was made, but not both; "
                "expected the same images for both encoders"
            )
        for image, before, now in zip(known.ids, there.files, known.files, strict=True):
            if before.checksum is not None and now.checksum not in (None, before.checksum):
                raise changed_error(other, [(image, f"the CRC-32 {before.checksum}", now.checksum)])
