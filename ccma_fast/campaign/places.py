"""Where the images of a campaign are in today's pool: images are known by their ids, whatever row they have."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..errors import LabelWarning, PoolMismatchError
from ..pool.row_digests import row_digests
from ..pool.row_ids import distinct_rows, rows_with_ids
from ..pool.rows import Rows
from .log.state import State

__all__ = [
    "Located",
    "Place",
    "check_distinct_ids",
    "check_no_other_has",
    "check_same_naming",
    "has_ids",
    "known_places",
    "located",
    "names_of",
    "places_of",
]

Int64 = npt.NDArray[np.int64]


class Place(NamedTuple):
    """Where an image was when it was last looked at."""

    row: int
    digest: str
    """Of what the row held, see :func:`ccma_fast.pool.row_digests.row_digests`."""


def check_distinct_ids(rows: Rows) -> None:
    """Check that each row of a pool that has ids has one of its own.

    Raises
    ------
    ValueError
        A row without id, or two rows of one.
    """
    ids = rows.row_ids()
    if ids is None:
        return
    # Of a hundred million ids the hashes fit into memory, not the ids.
    hashes = np.empty(rows.n_rows, np.int64)
    for row, image in enumerate(ids):
        if image is None:
            raise ValueError(f"every row of {rows.name} must have the id of its image, got none at row {row}")
        hashes[row] = hash(image)
    order = np.argsort(hashes, kind="stable")
    equal = np.flatnonzero(hashes[order[1:]] == hashes[order[:-1]])
    if equal.size:
        names_of(rows, np.unique(np.concatenate([order[equal], order[equal + 1]])))  # equal ids, or hashes alone


def has_ids(rows: Rows) -> bool:
    """Whether the rows of a pool have ids."""
    return rows.ids_at(np.empty(0, np.int64)) is not None


def check_same_naming(rows: Rows, *, has_ids_there: bool) -> None:
    """Check that a pool has ids where the campaign has, and only there: else its images are called otherwise.

    Raises
    ------
    PoolMismatchError
        It is not so.
    """
    if has_ids(rows) != has_ids_there:
        with_or_without = "with ids" if has_ids_there else "without ids, whose images are called by their rows"
        raise PoolMismatchError(
            f"{rows.name} must be a pool {with_or_without}, as the one that the campaign was begun with, got one "
            f"{'without' if has_ids_there else 'with ids'}"
        )


def names_of(rows: Rows, numbers: Int64) -> list[str]:
    """What images are called in a campaign: their ids, or the numbers of their rows where the pool has no ids.

    Raises
    ------
    ValueError
        A row that has no id, in a pool that has, or two rows of one.
    """
    ids = rows.ids_at(numbers)
    if ids is None:
        return [str(number) for number in numbers.tolist()]
    seen: dict[str, int] = {}
    for image, row in zip(ids, numbers.tolist(), strict=True):
        if image is None:
            raise ValueError(f"every row of {rows.name} must have the id of its image, got none at row {row}")
        if seen.setdefault(image, row) != row:
            raise ValueError(
                f"each image of {rows.name} must have an id of its own, got {image!r} at rows {seen[image]} and {row}"
            )
    return ids  # type: ignore[return-value]  # none of them is None


def places_of(rows: Rows, given: npt.ArrayLike) -> dict[str, Place]:
    """Images by their ids or row numbers, as callers give them, and where they are.

    Raises
    ------
    ValueError, TypeError
        As :func:`ccma_fast.pool.row_ids.distinct_rows`.
    """
    numbers = distinct_rows(rows, given)
    found = row_digests(rows, numbers)
    places = [Place(row, digest.tobytes().hex()) for row, digest in zip(numbers.tolist(), found, strict=True)]
    return dict(zip(names_of(rows, numbers), places, strict=True))


def known_places(state: State) -> dict[str, Place]:
    """Where each image that was issued or answered about was when it was last looked at."""
    found: dict[str, Place] = {}
    for batch in state.undone_batches:
        places = zip(batch.images, map(Place, batch.rows, batch.digests), strict=True)
        found.update((image, place) for image, place in places if image in state.images)
    found.update((image, Place(*given.place)) for image, given in state.images.items() if given.place is not None)
    for batch in state.batches:
        found.update(zip(batch.images, map(Place, batch.rows, batch.digests), strict=True))
    return found


class Located(NamedTuple):
    """Where images are in today's pool.

    Attributes
    ----------
    rows : ndarray, shape (n,), int64
        −1 for those that are no longer there.
    renamed : dict of str to str
        What images that were found by a former name are called now.
    """

    rows: Int64
    renamed: dict[str, str]


def located(places: Mapping[str, Place], rows: Rows) -> Located:
    """Find images in today's pool.

    Parameters
    ----------
    places : mapping of str to Place
        Where they were.
    rows : Rows
        The pool. With ids, an image may be at any row; without, it must be where it was and hold what it held.

    Raises
    ------
    PoolMismatchError
        A pool without ids whose rows hold other values, or an id that several images have now.

    Warns
    -----
    LabelWarning
        Images are gone, or hold other values where the rest shows that the encoder is the same.
    """
    images, before = [*places], np.array([place.row for place in places.values()], dtype=np.int64)
    by_ids = has_ids(rows)
    if not by_ids and before.size and int(before.max()) >= rows.n_rows:
        raise PoolMismatchError(
            f"{rows.name} must be the pool of the campaign, or have more rows, got {rows.n_rows} rows where image "
            f"{images[int(before.argmax())]!r} was one of more"
        )
    now = _found_by_ids(images, before, rows) if by_ids else before
    there = np.flatnonzero(now >= 0)
    if there.size < now.size:
        first = images[int(np.flatnonzero(now < 0)[0])]
        warnings.warn(
            f"{now.size - there.size} of {now.size} images that were issued or labelled are no longer in {rows.name}, "
            f"first {first!r}; what people said of them is kept",
            LabelWarning,
            stacklevel=4,
        )
    _check_values(images, [place.digest for place in places.values()], now, there, rows, by_ids=by_ids)
    names = names_of(rows, now[there])
    renamed = {images[k]: name for k, name in zip(there.tolist(), names, strict=True) if name != images[k]}
    for image, name in renamed.items():
        if name in places and places[name] != places[image]:  # else one image, of which people spoke by both names
            raise PoolMismatchError(
                f"image {image!r} of the campaign is called {name!r} in {rows.name}, and so was another image of it; "
                "expected names that no two images of the campaign ever shared"
            )
    return Located(now, renamed)


def check_no_other_has(former: Mapping[str, str], rows: Rows) -> None:
    """Check that no other image of a pool has a former name: nobody could say which is meant.

    Parameters
    ----------
    former : mapping of str to str
        Former names of images of the campaign, and their names now.
    rows : Rows
        The pool, whose images may have got their former names again.

    Raises
    ------
    PoolMismatchError
        One has.
    """
    by_id = (rows_with_ids(rows, {*former, *former.values()}) if former else None) or {}
    for before, now in former.items() if by_id else ():
        others = np.array([row for row in by_id[before] if row not in by_id[now]], dtype=np.int64)
        if before in (rows.ids_at(others) or ()):
            raise PoolMismatchError(
                f"{rows.name} has an image {before!r}, which is what {now!r} of the campaign was called before it was "
                "renamed; expected names that no two images of the campaign ever shared"
            )


def _found_by_ids(images: list[str], before: Int64, rows: Rows) -> Int64:
    inside = before[before < rows.n_rows]
    if inside.size == before.size and rows.ids_at(inside) == images:
        return before  # without reading every id of the pool
    by_id = rows_with_ids(rows, images) or {}
    for image in images:
        if len(by_id[image]) > 1:
            raise PoolMismatchError(
                f"each image of the campaign must have one row of {rows.name}, got {image!r} at rows "
                f"{by_id[image][:3]!r}: an image may have been renamed, and another one have its name now"
            )
    return np.array([(by_id[image] or [-1])[0] for image in images], dtype=np.int64)


def _check_values(images: list[str], digests: list[str], now: Int64, there: Int64, rows: Rows, *, by_ids: bool) -> None:
    found = [digest.tobytes().hex() for digest in row_digests(rows, now[there])]
    other = [k for k, digest in zip(there.tolist(), found, strict=True) if digest != digests[k]]
    if not other or (by_ids and len(other) == there.size):  # all of them: those of another encoder
        return
    first = f"first image {images[other[0]]!r} at row {rows.row_number(int(now[other[0]]))}"
    if not by_ids:
        raise PoolMismatchError(
            f"{rows.name} must be the pool of the campaign in the same order, for it has no ids, got other values than "
            f"they held at {len(other)} of {there.size} rows: {first}"
        )
    warnings.warn(
        f"{len(other)} of {there.size} images of the campaign hold other values in {rows.name} than they held, where "
        f"those of all others are the same: {first}; another image may have its name now",
        LabelWarning,
        stacklevel=5,
    )
