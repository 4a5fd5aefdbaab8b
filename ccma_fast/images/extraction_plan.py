"""The remaining work of an extraction: which images become rows of which shards, in which order and batches."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

from ..errors import FileReadError, PoolMismatchError
from ..pool.manifest import Skipped
from .changes import Changes
from .decode import decoder
from .embedding_folder import EmbeddingFolder, digest_of_encoder
from .finished_parts import key_of
from .image_source import Images

__all__ = ["Part", "check_same_shards", "dealt", "planned", "tried_again"]


class Part(NamedTuple):
    """Images that are to become a shard.

    Attributes
    ----------
    key : str
        As :func:`ccma_fast.images.finished_parts.key_of` gives it.
    number : int or None
        The number of the shard; None where that depends on how many images of earlier parts can be read.
    batches : list of sequence of int
        The images of each batch; ranges, where they are consecutive, which are quickly sent to another rank.
    folders : list of int
        The folders that get this shard.
    names : dict of int to str
        The ids of images that had other ones when another folder got this shard.
    again : bool
        All of them were skipped before.
    """

    key: str
    number: int | None
    batches: list[Sequence[int]]
    folders: list[int]
    names: dict[int, str]
    again: bool

    @property
    def n_images(self) -> int:
        return sum(map(len, self.batches))


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
            batches = [_compact([i for i in batch if i in wanted]) for batch in batches]
            former = zip(ordered, known.ids, strict=True)
            plan.append(
                _part(source, folders, batches, k, behind, {i: image for i, image in former if image != source.ids[i]})
            )
        row += shard.n_rows
        tried += shard.n_rows + len(shard.skipped)
    rows, skipped = {*changes.names}, lead.skipped
    left = [i for i, image in enumerate(source.ids) if image not in rows and image not in skipped]
    k = len(lead.shards)
    begin = 0
    while begin < len(left):
        start = tried % shard_size
        items = left[begin : begin + shard_size - start]
        plan.append(_part(source, folders, _batches(_compact(items), start, batch_size), k, everyone))
        tried, begin, k = tried + len(items), begin + len(items), k + 1
    items = [*again.values()]
    plan += [
        _part(source, folders, _batches(items[start : start + shard_size], 0, batch_size), None, everyone, again=True)
        for start in range(0, len(items), shard_size)
    ]
    return plan


def dealt(parts: Sequence[Part], n_ranks: int) -> list[list[Part]]:
    """The parts of each rank: one after the other to the rank that has the fewest images to embed so far.

    So shards are finished nearly in their order, and every rank has as many images as any other, up to a shard.
    """
    hands: list[list[Part]] = [[] for _ in range(n_ranks)]
    load = [0] * n_ranks
    for part in parts:
        rank = load.index(min(load))
        hands[rank].append(part)
        load[rank] += part.n_images * len(part.folders)
    return hands


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


def _part(
    source: Images,
    folders: list[EmbeddingFolder],
    batches: list[Sequence[int]],
    number: int | None,
    chosen: list[int],
    names: dict[int, str] | None = None,
    *,
    again: bool = False,
) -> Part:
    items = [*itertools.chain.from_iterable(batches)]
    names = names or {}
    encoders = {folders[i].name: digest_of_encoder(folders[i].manifest) for i in chosen}
    labels = None if source.labels is None else [source.labels[i] for i in items]
    key = key_of(encoders, number, [names.get(i, source.ids[i]) for i in items], labels, again=again)
    return Part(key, number, batches, chosen, names, again)


def _compact(items: list[int]) -> Sequence[int]:
    """Images as a range, where they are one."""
    return range(items[0], items[-1] + 1) if items and items == [*range(items[0], items[-1] + 1)] else items


def _batches(items: Sequence[int], start: int, batch_size: int) -> list[Sequence[int]]:
    """Images from position `start` of a shard on, cut where the batches of a whole shard are."""
    cuts = [0, *range(batch_size - start % batch_size, len(items), batch_size), len(items)]
    return [items[a:b] for a, b in itertools.pairwise(cuts) if a < b]
