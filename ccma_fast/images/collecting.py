"""Finished parts are taken into the folders of a pool, in the order of the plan, by the first rank alone."""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Sequence

from ..errors import FileReadError, PoolMismatchError
from ..pool.manifest import Skipped
from .changes import changed_error
from .embedding_folder import EmbeddingFolder, ShardMetadata, digest_of_encoder
from .extraction_plan import Part
from .finished_parts import FinishedPart, FinishedParts
from .image_source import Images

__all__ = ["Collector", "still_finished", "take_up"]

# Most of the time that goes into writing manifests, which name all shards, again and again.
_SHARE = 0.05


def take_up(folders: Sequence[EmbeddingFolder], finished: FinishedParts) -> None:
    """Take in the finished parts that an ended call has left, as far as they are the next shards of their folders."""
    left = finished.all()
    for folder in folders:
        for part in left:
            shard = part.shards.get(folder.name)
            if shard is None or part.number != len(folder.shards):
                continue
            is_own = part.encoders[folder.name] == digest_of_encoder(folder.manifest)
            if not is_own or not folder.holds(finished.directory, shard):
                continue
            own, known = folder.moved(finished.directory, shard)
            ahead = _ahead(folder, folders)
            if ahead is None or ahead.shards[part.number].ids == known.ids:
                folder.add(own, known, _skipped(part, ahead, part.number))
                if part.again:
                    folder.explain(part.skipped)
        folder.write()


def still_finished(
    source: Images, plan: Sequence[Part], folders: Sequence[EmbeddingFolder], finished: FinishedParts
) -> set[str]:
    """The keys of the parts of a plan that an ended call has finished, and whose files were not changed since."""
    keys = set()
    for part in plan:
        if (found := finished.read(part.key)) is None:
            continue
        numbers = {part.names.get(i, source.ids[i]): i for i in itertools.chain.from_iterable(part.batches)}
        chosen = [folders[i] for i in part.folders]
        if all(folder.holds(finished.directory, found.shards[folder.name]) for folder in chosen):
            try:
                known = chosen[0].known(finished.directory, found.shards[chosen[0].name])
            except FileReadError:  # it was being moved
                continue
            files = zip(known.ids, known.files, strict=True)
            if all(source.is_unchanged(numbers[image], file) for image, file in files):
                keys.add(part.key)
    return keys


class Collector:
    """Takes the finished parts of a plan into the folders of their pool.

    Parameters
    ----------
    source : Images
    plan : sequence of Part
    folders : sequence of EmbeddingFolder
    finished : FinishedParts
    ranks : sequence of str
        The names of the ranks.
    """

    def __init__(
        self,
        source: Images,
        plan: Sequence[Part],
        folders: Sequence[EmbeddingFolder],
        finished: FinishedParts,
        ranks: Sequence[str],
    ) -> None:
        self._source, self._folders, self._finished, self._ranks = source, folders, finished, ranks
        self._pending = deque(plan)
        self._not_before = 0.0

    def collect(self, *, now: bool = False) -> list[Part]:
        """Take in the parts that are next and finished, but not too often if it need not be `now`; and return them."""
        begin = time.monotonic()
        if not now and begin < self._not_before:
            return []
        taken: list[tuple[Part, FinishedPart]] = []
        while self._pending and (found := self._finished.read(self._pending[0].key)) is not None:
            self._take(self._pending[0], found)
            taken.append((self._pending.popleft(), found))
        if taken:
            for folder in self._folders:
                folder.write()
            for _, found in taken:
                self._finished.drop(found)
            end = time.monotonic()
            self._not_before = end + (end - begin) / _SHARE
        return [part for part, _ in taken]

    @property
    def next(self) -> Part | None:
        """The part that is to be taken in next; None once all are."""
        return self._pending[0] if self._pending else None

    def _take(self, part: Part, found: FinishedPart) -> None:
        folders = [self._folders[i] for i in part.folders]
        try:
            self._check_readable(found)
            if found.shards[folders[0].name].n_rows or not part.again:
                number = len(folders[0].shards)
                if found.number != number:  # by which it is found again after a kill in between
                    self._finished.write(found._replace(number=number))
                for folder in folders:
                    own, known = folder.moved(self._finished.directory, found.shards[folder.name])
                    ahead = _ahead(folder, self._folders)
                    _check_same_images(ahead, known, number)
                    folder.add(own, known, _skipped(found, ahead, number))
        except (FileReadError, PoolMismatchError):
            self._finished.drop(found)
            raise
        if part.again:
            for folder in folders:
                folder.explain(found.skipped)

    def _check_readable(self, found: FinishedPart) -> None:
        """Check that no rank but the first was without a file."""
        if found.rank and found.unreadable:
            numbers = {image: i for i, image in enumerate(self._source.ids)}
            for image in found.unreadable:
                if self._source.fingerprint(numbers[image]).n_bytes is not None:
                    raise FileReadError(
                        f"images: {self._ranks[found.rank]} cannot read {image!r}, which {self._ranks[0]} can "
                        f"({found.skipped[image].reason}); expected all ranks to see the same files"
                    )


def _ahead(folder: EmbeddingFolder, folders: Sequence[EmbeddingFolder]) -> EmbeddingFolder | None:
    """Another folder that has what is the next shard of this one."""
    return next((other for other in folders if len(other.shards) > len(folder.shards)), None)


def _skipped(part: FinishedPart, ahead: EmbeddingFolder | None, k: int) -> dict[str, Skipped]:
    """The skipped images that a shard lists: where another folder has it, those that are listed there."""
    if part.again:
        return {}
    return part.skipped if ahead is None else ahead.manifest.shards[k].skipped


def _check_same_images(ahead: EmbeddingFolder | None, known: ShardMetadata, k: int) -> None:
    """Check that a shard that another folder already has is of the same images there."""
    if ahead is None:
        return
    there = ahead.shards[k]
    if there.ids != known.ids:
        changed = next(iter({*there.ids} ^ {*known.ids}))
        raise FileReadError(
            f"images: {changed!r} can be read now or could be when {str(ahead.path)!r} was made, but not both; "
            "expected the same images for both encoders"
        )
    for image, before, now in zip(known.ids, there.files, known.files, strict=True):
        if before.checksum is not None and now.checksum not in (None, before.checksum):
            raise changed_error(ahead, [(image, f"the CRC-32 {before.checksum}", now.checksum)])
