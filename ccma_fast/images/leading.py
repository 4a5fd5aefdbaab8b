"""The work of an extraction: the first rank plans it and writes the pool; all embed what it deals to them.

One process is the first rank of one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from ..errors import FileReadError
from ..pool.manifest import Skipped
from ..system.ranks import Ranks
from ..system.streams import progress_bar
from .changes import Changes, changes_of
from .collecting import Collector, still_finished, take_up
from .cooperation import check_one_pool, wait_until_there
from .embedding import Output, embedded
from .embedding_folder import EmbeddingFolder, remove_unfinished
from .extraction_plan import Part, check_same_shards, dealt, planned, tried_again
from .finished_parts import FinishedParts
from .image_source import Images

__all__ = ["Outcome", "Work", "lead", "serve"]


class Work(NamedTuple):
    """What is to be embedded into what, and by whom.

    Attributes
    ----------
    source : Images
    pool : Path
    outputs : sequence of Output
        One for each encoder.
    workers : int
        Processes of a rank that decode; 0 for its own.
    ranks : Ranks or None
        None for one process.
    """

    source: Images
    pool: Path
    outputs: Sequence[Output]
    workers: int
    ranks: Ranks | None


class Outcome(NamedTuple):
    """What has become of the images: in the folder with the most rows, since it was written, and in this call.

    Attributes
    ----------
    folder : EmbeddingFolder
    changes : Changes
    skipped : dict of str to Skipped
        Images that were skipped before this call.
    again : collection of str
        Those of them that were tried again.
    """

    folder: EmbeddingFolder
    changes: Changes
    skipped: dict[str, Skipped]
    again: dict[str, int]


def serve(work: Work, ranks: Ranks) -> None:
    """Embed what the first rank deals to this one."""
    check_one_pool(ranks, work.pool)
    parts: list[Part] = ranks.broadcast()[ranks.rank]
    finished = FinishedParts(work.pool)
    with closing(embedded(work.source, work.outputs, parts, finished, work.workers, ranks.rank)) as made:
        for _ in made:
            ranks.check()
    ranks.gather(None)


def lead(
    work: Work, *, batch_size: int, shard_size: int, write_classes: Callable[[], None] | None, progress: bool
) -> Outcome:
    """Make the pool what the images are, with the help of the other ranks. The pool's lock is held.

    Parameters
    ----------
    work : Work
    batch_size, shard_size : int
    write_classes : callable or None
        What this rank does besides, before it embeds.
    progress : bool
        Show a bar on stderr.
    """
    source, ranks = work.source, work.ranks
    if ranks is not None:
        check_one_pool(ranks, work.pool)
    folders = _opened(work)
    finished = FinishedParts(work.pool)
    finished.prepare()
    take_up(folders, finished)
    longest = max(folders, key=lambda folder: len(folder.shards))
    check_same_shards(folders, longest)
    changes, skipped = changes_of(source, folders, longest), longest.skipped
    again = tried_again(source, skipped)
    plan = planned(source, folders, longest, changes, again, shard_size, batch_size)
    done = still_finished(source, plan, folders, finished)
    finished.clear(done, {part.key for part in plan})
    hands = dealt([part for part in plan if part.key not in done], 1 if ranks is None else ranks.size)
    if ranks is not None:
        ranks.broadcast(hands)
    if write_classes is not None:
        write_classes()
    _record(folders, longest, changes)
    _embed(work, plan, hands, Collector(source, plan, folders, finished, _names(ranks)), finished, progress)
    finished.remove()
    _record(folders, longest, changes)  # also what was behind
    return Outcome(longest, changes, skipped, again)


def _embed(
    work: Work, plan: list[Part], hands: list[list[Part]], collector: Collector, finished: FinishedParts, progress: bool
) -> None:
    """Embed what is dealt to the first rank, and take in what any rank has finished.

    The bar moves with the images of this rank, and with the shards of the others.
    """
    source, ranks = work.source, work.ranks
    theirs = {part.key for hand in hands[1:] for part in hand}
    n_left = sum(part.n_images for hand in hands for part in hand)
    n_done = len(source.ids) - n_left
    with (
        progress_bar(len(source.ids), n_done, "image", is_shown=progress) as bar,
        closing(embedded(source, work.outputs, hands[0], finished, work.workers, 0)) as made,
    ):

        def collect(*, now: bool = False) -> None:
            taken = collector.collect(now=now)
            bar.update(sum(part.n_images for part in taken if part.key in theirs))

        for n_images in made:
            bar.update(n_images)
            collect()
            if ranks is not None:
                ranks.check()
        if ranks is not None:
            ranks.gather(None)
        collect(now=True)
        while (part := collector.next) is not None:
            if not wait_until_there(finished.file(part.key)):
                rank = next(rank for rank, hand in enumerate(hands) if part in hand)
                raise FileReadError(
                    f"out must be on a file system that all ranks share, but {_names(ranks)[0]} does not see "
                    f"{str(finished.file(part.key))!r}, which {_names(ranks)[rank]} has written"
                )
            collect(now=True)


def _names(ranks: Ranks | None) -> Sequence[str]:
    return ("this process",) if ranks is None else ranks.names


def _opened(work: Work) -> list[EmbeddingFolder]:
    """The folders of the encoders, cleared of what a killed call left half-written."""
    for name in ("student", "teacher", "classes"):
        remove_unfinished(work.pool / name)
    return [EmbeddingFolder(work.pool / output.name, output.manifest) for output in work.outputs]


def _record(folders: list[EmbeddingFolder], longest: EmbeddingFolder, changes: Changes) -> None:
    """Record the same of the images in every folder: a kill may have come between two."""
    for folder in folders:
        folder.record(changes.vanished, changes.renamed)
        folder.explain(longest.skipped)
        folder.write()
