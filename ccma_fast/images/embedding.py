"""Carry out parts of a plan: batches of images are decoded, embedded and gathered into shards, which are written."""

from __future__ import annotations

import itertools
import time
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import asdict, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..pool.manifest import Manifest, Skipped
from .decode import decoder
from .embedding_folder import ShardMetadata, digest_of_encoder, write_shard
from .encoders import Encoder
from .extraction_plan import Part
from .finished_parts import Checkpoint, FinishedPart, FinishedParts
from .image_source import ImageFile, Images
from .preprocessing import Batch, preprocessed

__all__ = ["Output", "embedded"]

# A part is saved after so long: a kill costs no more than this.
_SAVE_SECONDS = 300.0


class Output(NamedTuple):
    """A folder of embeddings: its name, what embeds, and its manifest without rows."""

    name: str
    encoder: Encoder
    manifest: Manifest


def embedded(
    source: Images,
    outputs: Sequence[Output],
    parts: Sequence[Part],
    finished: FinishedParts,
    workers: int,
    rank: int,
) -> Generator[int, None, None]:
    """Embed parts and write them; the number of images after each batch. Closing the generator ends the workers.

    Parameters
    ----------
    source : Images
    outputs : sequence of Output
        In the order of the parts' folders.
    parts : sequence of Part
    finished : FinishedParts
        Where they are written; what is saved there of these parts is not embedded again.
    workers : int
        Processes that decode; 0 for this one.
    rank : int
        Which one this is.
    """
    shards = [_GrowingShard(source, outputs, part, finished, rank) for part in parts]
    batches = [(batch, shard.part.folders) for shard in shards for batch in shard.left]
    preprocess = [output.encoder.preprocess for output in outputs]
    with closing(preprocessed(source, batches, preprocess, workers)) as made:
        for shard in shards:
            yield shard.n_tried
            for batch in shard.left:
                if shard.seconds >= _SAVE_SECONDS:
                    shard.save()
                shard.add(next(made))
                yield len(batch)
            shard.finish()
            yield 0


class _GrowingShard:
    """The shard of a part, as it grows.

    Attributes
    ----------
    part : Part
    left : list of sequence of int
        The batches that are to be added.
    n_tried : int
        Images that were saved before.
    """

    def __init__(
        self, source: Images, outputs: Sequence[Output], part: Part, finished: FinishedParts, rank: int
    ) -> None:
        self.part, self.left, self.n_tried = part, part.batches, 0
        self._source, self._finished, self._rank = source, finished, rank
        self._outputs = [outputs[i] for i in part.folders]
        self._rows: list[list[npt.NDArray[np.float16]]] = [[] for _ in part.folders]
        self._read: list[int] = []
        self._files: list[ImageFile] = []
        self._failures: dict[int, Skipped] = {}
        self._unreadable: list[int] = []
        self._begin = time.monotonic()
        self._resume()

    @property
    def seconds(self) -> float:
        """Since it was begun or saved."""
        return time.monotonic() - self._begin

    def add(self, batch: Batch) -> None:
        if not self._read and not self._failures:
            self._begin = time.monotonic()
        names = [self._source.ids[item] for item in batch.items]
        for own, output, inputs in zip(
            self._rows, self._outputs, batch.inputs, strict=False
        ):  # no inputs where no image was read
            own.append(_rows_of(output, inputs, names))
        self._read += batch.items
        self._files += batch.files
        here = decoder() if batch.failures else ""  # a worker process may have other plugins
        for item, why in batch.failures.items():
            self._failures[item] = replace(why, decoder=here)
            # The first rank then looks whether it can read the file; its own word counts.
            if self._rank and why.passing and self._source.fingerprint(item).n_bytes is None:
                self._unreadable.append(item)

    def save(self) -> None:
        """Save what was added, to go on with after a kill."""
        positions = {item: i for i, item in enumerate(self._items())}
        state = {
            "read": [positions[item] for item in self._read],
            "files": self._files,
            "failures": [[positions[item], asdict(why)] for item, why in self._failures.items()],
            "unreadable": [positions[item] for item in self._unreadable],
        }
        n_tried = len(self._read) + len(self._failures)
        self._finished.save(self.part.key, Checkpoint(n_tried, self._whole(), state))
        self._begin = time.monotonic()

    def finish(self) -> None:
        """Write the shard to every folder."""
        source, part = self._source, self.part
        ids = [part.names.get(item, source.ids[item]) for item in self._read]
        labels = None if source.labels is None else [source.labels[item] for item in self._read]
        known = ShardMetadata(ids, self._files, [source.root(item) for item in self._read], labels)
        shards = {
            output.name: write_shard(self._finished.directory, f"{part.key}.{output.name}", rows, known)
            for output, rows in zip(self._outputs, self._whole(), strict=True)
        }
        encoders = {output.name: digest_of_encoder(output.manifest) for output in self._outputs}
        skipped = {source.ids[item]: why for item, why in self._failures.items()}
        unreadable = [source.ids[item] for item in self._unreadable]
        self._finished.write(
            FinishedPart(part.key, part.number, part.again, self._rank, shards, encoders, skipped, unreadable)
        )
        self._rows, self._files = [], []  # the parts before take no memory

    def _resume(self) -> None:
        """Go on with what was saved, if it ends where a batch does."""
        ends = [0, *itertools.accumulate(map(len, self.part.batches))]
        saved = self._finished.saved(self.part.key)
        if saved is None or saved.n_tried not in ends:
            return
        items, state = self._items(), saved.state
        files = [ImageFile(*file) for file in state["files"]]
        read = [items[i] for i in state["read"]]
        if not all(self._source.is_unchanged(item, file) for item, file in zip(read, files, strict=True)):
            return
        self.n_tried, self.left = saved.n_tried, self.part.batches[ends.index(saved.n_tried) :]
        self._rows = [[rows] for rows in saved.rows]
        self._read, self._files = read, files
        self._failures = {items[i]: Skipped(**why) for i, why in state["failures"]}
        self._unreadable = [items[i] for i in state["unreadable"]]

    def _items(self) -> list[int]:
        return [*itertools.chain.from_iterable(self.part.batches)]

    def _whole(self) -> list[npt.NDArray[np.float16]]:
        return [
            np.concatenate([np.empty((0, output.manifest.n_columns), np.float16), *own])
            for output, own in zip(self._outputs, self._rows, strict=True)
        ]


def _rows_of(output: Output, inputs: Any, ids: list[str]) -> npt.NDArray[np.float16]:
    manifest = output.manifest
    model = output.encoder.description["model"]
    try:
        rows = output.encoder.embed(inputs, precision=manifest.precision, normalize=manifest.normalized)
    except RuntimeError as error:  # PyTorch's for all that goes wrong on a device, its memory included
        error.args = (f"{model!r} cannot embed {len(ids)} images from {ids[0]!r} on: {error}",)
        raise
    bad = np.flatnonzero(~np.isfinite(rows).all(axis=1))
    if bad.size:
        raise ValueError(
            f"{model!r} must give numbers that float16 holds, got NaN or infinity for "
            f"{ids[bad[0]]!r} in {manifest.precision}"
        )
    return rows
