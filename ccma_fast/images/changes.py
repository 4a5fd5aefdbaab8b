"""What happened to the images of a pool since they were embedded: which vanished, were renamed or were changed."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from ..errors import PoolMismatchError
from .embedding_folder import EmbeddingFolder
from .image_source import ImageFile, Images

__all__ = ["Changes", "changed_error", "changes_of"]

# Most files that are read again as only their time is another: all of a pool that was copied would take hours.
_MOST_READ_AGAIN = 1000

# Most files that are read again as others have their size and time: renumbered, they would look the same.
_MOST_ALIKE = 1000

# Images named in an error message.
_SHOWN = 3


class Changes(NamedTuple):
    """What happened to the images of a pool's rows.

    Attributes
    ----------
    names : list of str
        The current id of each row's image.
    vanished : list of int
        Rows whose images are gone, ascending.
    elsewhere : list of int
        Rows whose images are not in the source, but may still be where they were.
    renamed : dict of str to int
        As :attr:`ccma_fast.pool.manifest.Manifest.renamed`.
    moved : dict of str
        The new name of each image that was renamed since the last call.
    """

    names: list[str]
    vanished: list[int]
    elsewhere: list[int]
    renamed: dict[str, int]
    moved: dict[str, str]


class _Row(NamedTuple):
    """What is known of a row besides its id."""

    file: ImageFile
    root: str | None
    group: str | int
    """Rows of one origin: the root of their ids where it is known, else the shard."""
    label: Any


def changes_of(source: Images, folders: Sequence[EmbeddingFolder], lead: EmbeddingFolder) -> Changes:
    """Compare the rows of a pool with the images of a source.

    An image that is not in the source has vanished if nothing is in its place, and the source covers it: it is the
    place that the row came from, or has other images that came from there. It was renamed where one new image, and no
    other, has its size, checksum and label.

    Parameters
    ----------
    source : Images
    folders : sequence of EmbeddingFolder
    lead : EmbeddingFolder
        The one with the most rows.

    Raises
    ------
    PoolMismatchError
        An image of the pool comes under another name because its folder was given otherwise, has another label, or has
        another file, by its size (of all) or its checksum: of 1,000 at most of those whose time is another, and of as
        many of those that have size and time in common.
    """
    rows, names = _rows_of(lead)
    renamed: dict[str, int] = {}
    for folder in folders:
        renamed |= folder.manifest.renamed
    for name, row in renamed.items():
        names[row] = name
    known = {*names}
    numbers = {image: i for i, image in enumerate(source.ids) if image not in known or not source.is_gone(i)}
    _check_names(source, lead, rows, names, numbers)
    missing = [row for row, name in enumerate(names) if name not in numbers]
    lost = [row for row in missing if not source.is_there(names[row], rows[row].root)]
    moved: dict[str, str] = {}
    for row, name in _renamed(source, lead, rows, names, lost):
        moved[names[row]], names[row] = name, name
        renamed.pop(name, None)  # the last name of a row stands last
        renamed[name] = row
    gone_before = {row for folder in folders for row in folder.manifest.vanished}
    covered = source.roots | {rows[row].group for row, name in enumerate(names) if name in numbers}
    vanished = [row for row in lost if names[row] not in numbers and (rows[row].group in covered or row in gone_before)]
    found = {*vanished}
    elsewhere = [row for row in missing if names[row] not in numbers and row not in found]
    _check_files(source, lead, rows, names, numbers)
    return Changes(names, vanished, elsewhere, renamed, moved)


def changed_error(lead: EmbeddingFolder, changed: Sequence[tuple[str, str, object]]) -> PoolMismatchError:
    """The error for images whose files were changed: the id of each, what it had, and what it has."""
    first = "; ".join(f"{image!r} has {had}, got {has}" for image, had, has in changed[:_SHOWN])
    return PoolMismatchError(
        f"images must be those of {str(lead.path)!r}, got {len(changed)} that changed since, first {first}; expected "
        "the same file under the same name, another name for another image, or another out"
    )


def _rows_of(lead: EmbeddingFolder) -> tuple[list[_Row], list[str]]:
    rows, names = [], []
    for k, shard in enumerate(lead.shards):
        labels = [None] * len(shard.ids) if shard.labels is None else shard.labels
        names += shard.ids
        rows += [
            _Row(file, root, k if root is None else root, label)
            for file, root, label in zip(shard.files, shard.roots, labels, strict=True)
        ]
    return rows, names


def _renamed(
    source: Images, lead: EmbeddingFolder, rows: Sequence[_Row], names: Sequence[str], lost: Iterable[int]
) -> list[tuple[int, str]]:
    """Rows whose images were renamed, and the new ids."""

    def key(file: ImageFile, label: Any) -> tuple[int | None, int | None, str]:
        return file.n_bytes, file.checksum, "" if source.labels is None else str(label)

    before: defaultdict[Any, list[int]] = defaultdict(list)
    for row in lost:
        if rows[row].file.n_bytes is not None:
            before[key(rows[row].file, rows[row].label)].append(row)
    sizes = {size for size, *_ in before}
    known = lead.skipped.keys() | {*names} if sizes else ()
    now: defaultdict[Any, list[str]] = defaultdict(list)
    for i, image in enumerate(source.ids if sizes else ()):
        if image not in known and (status := source.listed(i)) is not None and status.n_bytes in sizes:
            now[key(source.fingerprint(i), None if source.labels is None else source.labels[i])].append(image)
    pairs = ((before[found], now[found]) for found in before.keys() & now.keys())
    return sorted((own[0], images[0]) for own, images in pairs if len(own) == len(images) == 1)


def _check_names(
    source: Images, lead: EmbeddingFolder, rows: Sequence[_Row], names: Sequence[str], numbers: dict[str, int]
) -> None:
    """Check that no image of the pool comes again under another id or with another label."""
    known = lead.skipped.keys() | {*names}
    for image in source.ids if known else ():
        other = source.other_id(image)
        if image not in known and other in known and other not in numbers:
            raise PoolMismatchError(
                f"images must keep their ids, got {image!r} for {other!r} in {str(lead.path)!r}; expected the same "
                "folders as before (of several, ids begin with their names), or another out"
            )
    for row, image in enumerate(names if source.labels is not None else ()):
        if (i := numbers.get(image)) is None or source.labels is None:
            continue
        here, there = rows[row].label, source.labels[i]
        if here != there and str(here) != str(there):
            raise PoolMismatchError(
                f"labels must be those of {str(lead.path)!r}, where {image!r} has {here!r}, got {there!r}; expected "
                "another out for other labels"
            )


def _check_files(
    source: Images, lead: EmbeddingFolder, rows: Sequence[_Row], names: Sequence[str], numbers: dict[str, int]
) -> None:
    """Check that no other image has the id of a row."""
    changed: list[tuple[str, str, object]] = []
    touched: list[int] = []
    same: defaultdict[ImageFile, list[int]] = defaultdict(list)
    for row, image in enumerate(names):
        file, i = rows[row].file, numbers.get(image)
        if i is None or file.n_bytes is None or (now := source.listed(i)) is None:
            continue
        if now.n_bytes != file.n_bytes:
            changed.append((image, f"{file.n_bytes} bytes", now.n_bytes))
        elif now.mtime_ns != file.mtime_ns:
            touched.append(row)
        else:
            same[file._replace(checksum=None)].append(row)
    alike = sorted(itertools.chain.from_iterable(group for group in same.values() if len(group) > 1))
    for row in sorted(_spread(touched, _MOST_READ_AGAIN) + _spread(alike, _MOST_ALIKE)):
        checksum = source.fingerprint(numbers[names[row]]).checksum
        if checksum not in (None, rows[row].file.checksum):
            changed.append((names[row], f"the CRC-32 {rows[row].file.checksum}", checksum))
    if changed:
        raise changed_error(lead, changed)


def _spread(rows: list[int], most: int) -> list[int]:
    """At most so many of some rows, spread evenly."""
    return rows[:: max(1, -(-len(rows) // most))]
