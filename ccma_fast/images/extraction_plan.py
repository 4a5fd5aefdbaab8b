"""The remaining work of an extraction: which images become rows of which shards, in which order and batches."""

from __future__ import annotations

import itertools
from typing import NamedTuple

from ..errors import FileReadError, PoolMismatchError
from ..pool.manifest import Skipped
from .changes import Changes
from .decode import decoder
from .embedding_folder import EmbeddingFolder
from .image_source import Images

__all__ = ["Part", "check_same_shards", "planned", "tried_again"]


class Part(NamedTuple):
    """Images that are to become shards.

    Attributes
    ----------
    batches : list of list of int
        The images of each batch.
    folders : list of int
        The folders that get these shards.
    ids : dict of int to str, or None
        Their ids in the shard that another folder already has; None where no folder has it yet.
    skipped : dict of str to Skipped
        Those of that shard in the other folder.
    again : bool
        All of them were skipped before.
    """

    batches: list[list[int]]
    folders: list[int]
    ids: dict[int, str] | None = None
    skipped: dict[str, Skipped] | None = None
    again: bool = False


def planned(
    source: Images,
    folders: list[EmbeddingFolder],
    lead: EmbeddingFolder,
    changes: Changes,
    again: dict[str, int],
    shard_size: int,
    batch_size: int,
) -> list[Part]:
    """The parts that are still to be made, in order.

    A folder that is behind another one, as it was added later or a kill came between the two, first gets the shards
    that the other has, of the same images. Then come new images, and last those that were skipped before. Shards and
    batches end where they would without any interruption.
    """
    numbers = {image: i for i, image in enumerate(source.ids)}
    everyone = list(range(len(folders)))
    plan: list[Part] = []
    row = tried = 0
    for k, (known, shard) in enumerate(zip(lead.shards, lead.manifest.shards, strict=True)):
        names = changes.names[row : row + shard.n_rows]
        behind = [i for i, folder in enumerate(folders) if len(folder.shards) <= k]
        if behind:
            gone = next((image for image in names if image not in numbers), None)
            if gone is not None:
                raise FileReadError(
                    f"images: no image {gone!r}, which is a row in {str(lead.path)!r}; expected it for the other "
                    "encoder as well, a call without that one, or another out"
                )
            ordered = [numbers[image] for image in names]
            wanted = {*ordered}
            items = sorted(wanted | {numbers[image] for image in shard.skipped if image in numbers})
            if [i for i in items if i in wanted] != ordered:  # they come in another order
                items = ordered
            batches = _batches(items, tried % shard_size, batch_size)
            batches = [[i for i in batch if i in wanted] for batch in batches]
            plan.append(Part(batches, behind, dict(zip(ordered, known.ids, strict=True)), shard.skipped))
        row += shard.n_rows
        tried += shard.n_rows + len(shard.skipped)
    rows, skipped = {*changes.names}, lead.skipped
    left = [i for i, image in enumerate(source.ids) if image not in rows and image not in skipped]
    while left:
        start = tried % shard_size
        items, left = left[: shard_size - start], left[shard_size - start :]
        plan.append(Part(_batches(items, start, batch_size), everyone))
        tried += len(items)
    items = [*again.values()]
    plan += [
        Part(_batches(items[start : start + shard_size], 0, batch_size), everyone, again=True)
        for start in range(0, len(items), shard_size)
    ]
    return plan


def tried_again(source: Images, skipped: dict[str, Skipped]) -> dict[str, int]:
    """The skipped images that may be readable now, and their numbers: those whose file or decoder has changed."""
    again, here = {}, decoder()
    for i, image in enumerate(source.ids if skipped else ()):
        if (why := skipped.get(image)) is not None:
            status = source.status(i)
            is_same = status is not None and status == (why.n_bytes, why.mtime_ns, why.ctime_ns)
            if why.passing or why.decoder != here or not is_same:
                again[image] = i
    return {image: again[image] for image in skipped if image in again}


def check_same_shards(folders: list[EmbeddingFolder], lead: EmbeddingFolder) -> None:
    """Check that shards that several folders have are of the same images."""
    for folder in folders:
        for own, shard in zip(folder.manifest.shards, lead.manifest.shards, strict=False):
            if own.rows_sha256 != shard.rows_sha256:
                raise PoolMismatchError(
                    f"shards in {str(folder.path)!r} and {str(lead.path)!r} must be of the same images in the same "
                    f"order, got others in {own.file!r}; expected another folder for other images"
                )


def _batches(items: list[int], start: int, batch_size: int) -> list[list[int]]:
    """Images from position `start` of a shard on, cut where the batches of a whole shard are."""
    cuts = [0, *range(batch_size - start % batch_size, len(items), batch_size), len(items)]
    return [items[a:b] for a, b in itertools.pairwise(cuts) if a < b]
