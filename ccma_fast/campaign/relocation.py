"""The rows of today's pool that the labels of a saved loop belong to: found by ids, checked by values."""

from __future__ import annotations

import os
import warnings
from collections import Counter

import numpy as np
import numpy.typing as npt

from ..errors import LabelWarning, PoolMismatchError
from ..pool.row_digests import row_digests
from ..pool.row_ids import rows_with_ids
from ..pool.rows import RowId, Rows
from .identity import Identity
from .saved_loop import SavedLoop

__all__ = ["relocated"]

Int64 = npt.NDArray[np.int64]

# Every `stacklevel` here leads to the caller of ActiveLearner.load.


def relocated(loop: SavedLoop, rows: Rows, path: str | os.PathLike[str], missing: str) -> tuple[Int64, Int64]:
    """The labels and the chosen rows of a saved loop, as rows of the pool that there is now.

    Where both pools have ids, rows are found by these; else they must hold the values that they held.

    Parameters
    ----------
    loop : SavedLoop
    rows : Rows
    path : path
        For error messages.
    missing : {"raise", "drop"}
        What to do about images that the pool no longer has.

    Returns
    -------
    labels : ndarray, shape (N,), int64
    chosen : ndarray, int64

    Raises
    ------
    PoolMismatchError
        Other images.

    Warns
    -----
    LabelWarning
        Rows have moved or were dropped, or the file cannot be checked.
    """
    file, known = os.fspath(path), loop.known
    if loop.identity is None:
        warnings.warn(
            f"the loop in {file!r} was written by a version of ccma_fast that did not say of which images its labels "
            "are; only the number of rows can be checked",
            LabelWarning,
            stacklevel=3,
        )
        _check_length(loop, rows, file)
        now = known
    else:
        now = _rows_now(loop, loop.identity, rows, file, missing)
    labels = np.full(rows.n_rows, -1, dtype=np.int64)
    there = now >= 0
    labels[now[there]] = loop.labels[known[there]]
    return labels, np.sort(now[there & np.isin(known, loop.chosen)])


def _rows_now(loop: SavedLoop, identity: Identity, rows: Rows, file: str, missing: str) -> Int64:
    """Current positions of the labelled or chosen rows; −1 for dropped ones."""
    known = loop.known
    rows_of_id = None if identity.ids is None else rows_with_ids(rows, set(identity.ids))
    if identity.ids is None or rows_of_id is None:
        _check_length(loop, rows, file)
        _check_values(identity, rows, known, np.arange(known.size), file)
        return known
    now, uncertain, gone = _found_by_ids(identity, identity.ids, rows_of_id, known, rows.name, file)
    _check_values(identity, rows, known, uncertain, file)
    certain = np.setdiff1d(np.arange(known.size), np.concatenate([uncertain, gone]))
    _warn_of_other_values(identity, rows, now, certain, file)
    if gone.size:
        lost = f"{gone.size} of the {known.size} that were labelled or chosen: {identity.ids[gone[0]]!r}"
        if missing != "drop":
            raise PoolMismatchError(
                f"{rows.name} must have the images of the loop in {file!r}, got a pool without {lost} first; "
                'missing="drop" forgets them'
            )
        warnings.warn(
            f"{rows.name} no longer has the images of the loop in {file!r}, and it forgets {lost} first",
            LabelWarning,
            stacklevel=4,
        )
        now[gone] = -1
    moved = np.flatnonzero((now >= 0) & (now != known))
    if moved.size:
        first = int(moved[0])
        warnings.warn(
            f"{moved.size} of the {known.size} images that were labelled or chosen in the loop in {file!r} have moved, "
            f"first {identity.ids[first]!r} from row {known[first]} to row {now[first]} of {rows.name}; their ids are "
            "taken",
            LabelWarning,
            stacklevel=4,
        )
    return now


def _found_by_ids(
    identity: Identity,
    ids: list[RowId],
    rows_of_id: dict[RowId, list[int]],
    known: Int64,
    name: str,
    file: str,
) -> tuple[Int64, Int64, Int64]:
    """Current positions of rows by their ids.

    Returns
    -------
    now : ndarray, shape (n,), int64
        The row of each of the n that were labelled or chosen; as before where its id does not say.
    uncertain : ndarray, int64
        Positions among the n of which only the values can say whether the row is the same.
    gone : ndarray, int64
        Positions of images that the pool no longer has.

    Raises
    ------
    PoolMismatchError
        An id of several images, none of which is where it was.
    """
    now: Int64 = known.copy()
    uncertain: list[int] = []
    gone: list[int] = []
    uses, is_unreadable = Counter(ids), identity.is_unreadable
    for k, (row, row_id) in enumerate(zip(known.tolist(), ids, strict=True)):
        found = rows_of_id[row_id]
        if is_unreadable[k]:
            uncertain.append(k)
        elif not found:
            gone.append(k)
        elif row_id is not None and len(found) == uses[row_id] == 1:
            now[k] = found[0]
        elif row in found:  # one of several images of this id
            uncertain.append(k)
        else:
            raise PoolMismatchError(
                f"{name} must be the images of the loop in {file!r}, got none of the id {row_id!r} at row {row}, "
                f"and {len(found)} of it at others, where {uses[row_id]} had labels or were chosen"
            )
    return now, np.array(uncertain, dtype=np.int64), np.array(gone, dtype=np.int64)


def _warn_of_other_values(identity: Identity, rows: Rows, now: Int64, at: Int64, file: str) -> None:
    """Warn of rows found by ids that hold other values, where the rest shows that the encoder is the same."""
    if identity.ids is None or identity.n_columns != rows.n_columns or not at.size:
        return
    other = _differing(identity, rows, now, at)
    if 0 < other.size < at.size:
        k = int(other[0])
        warnings.warn(
            f"{other.size} of {at.size} images of the loop in {file!r} hold other values than they held, where those "
            f"of all others are the same: {identity.ids[k]!r} first, at row {rows.row_number(int(now[k]))} of "
            f"{rows.name}; another image may have its name now",
            LabelWarning,
            stacklevel=5,
        )


def _check_length(loop: SavedLoop, rows: Rows, file: str) -> None:
    if rows.n_rows < loop.labels.size:
        raise PoolMismatchError(
            f"{rows.name} must have the {loop.labels.size} rows of the loop in {file!r}, or more, got {rows.n_rows}"
        )


def _check_values(identity: Identity, rows: Rows, known: Int64, at: Int64, file: str) -> None:
    """Check that the known rows at the positions `at` hold the values that they held."""
    expected = f"{rows.name} must be the images of the loop in {file!r}"
    if identity.n_columns != rows.n_columns and (at.size or identity.ids is None):
        raise PoolMismatchError(
            f"{expected}, whose rows have {identity.n_columns} columns and no ids that would say so of another "
            f"encoder's, got {rows.n_columns} columns"
        )
    unreadable = at[identity.is_unreadable[at]]
    if unreadable.size and known[unreadable].max() >= rows.n_rows:
        raise PoolMismatchError(f"{expected}, got {rows.n_rows} rows and a label for row {known[unreadable].max()}")
    other = _differing(identity, rows, known, np.setdiff1d(at, unreadable))
    if other.size:
        k = int(other[0])
        image = "" if identity.ids is None else f", the image {identity.ids[k]!r}"
        raise PoolMismatchError(
            f"{expected} in the same order, got other values than it had at row {rows.row_number(int(known[k]))}"
            f"{image}, the first of {other.size} such rows among {known.size} that were labelled or chosen"
        )
    if unreadable.size:
        warnings.warn(
            f"{unreadable.size} of {known.size} rows that were labelled or chosen in the loop in {file!r}, first row "
            f"{known[unreadable[0]]}, could not be read when it was saved; nobody can tell whether {rows.name} still "
            "has their images there",
            LabelWarning,
            stacklevel=5,
        )


def _differing(identity: Identity, rows: Rows, now: Int64, at: Int64) -> Int64:
    """Those of the positions `at` whose rows, which are at `now`, hold other values than they held."""
    differing: Int64 = at[(row_digests(rows, now[at]) != identity.row_digests[at]).any(axis=1)]
    return differing
