"""A loop in a file: its labels, and of which images and classes they are, so that no others get them."""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import re
import warnings
from collections import Counter
from collections.abc import Collection
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..checks import check_integer
from ..config import CCMAConfig
from ..errors import FileReadError, LabelWarning, PoolMismatchError, newer_error
from ..pool.class_limits import MOST_CLASSES, check_class_count
from ..pool.class_names import agreed_class_names, differing_names, read_class_names
from ..pool.derived import RowSubset
from ..pool.row_ids import rows_with_ids
from ..pool.rows import RowId, Rows, to_float32
from ..steps.teacher import Teacher
from ..system.bounded_read import Arrays, read_whole
from ..system.output_files import write_whole

__all__ = [
    "Identity",
    "Remembered",
    "SavedLoop",
    "agreed_classes",
    "check_is_known",
    "class_digests",
    "placed",
    "read_loop",
    "write_loop",
]

Int64 = npt.NDArray[np.int64]
Digests = npt.NDArray[np.uint8]

_FORMAT, _NAME = 2, "ccma_fast.ActiveLearner"
_DIGEST_BYTES = 16
_UNKNOWN = bytes(_DIGEST_BYTES)

# A pool may have lost images since: a loop is taken of as many times its rows, and of so many in any case.
_MOST_TIMES, _MOST_ROWS = 10, 10_000_000

# Bytes of the settings, which are an array of text: four for each letter. Ids shrink two hundredfold at most.
_MOST_SETTINGS, _MOST_RATIO = 64 << 20, 500


@dataclass(frozen=True, eq=False)
class Identity:
    """Of which images the labels are.

    Attributes
    ----------
    n_columns : int
    ids : list or None
        The id of each row that was labelled or chosen; None where the pool has none.
    row_digests : ndarray, shape (n, 16), uint8
        Of the values of each of these rows; zeros of a row that could not be read any more when it was asked for.
    """

    n_columns: int
    ids: list[RowId] | None
    row_digests: Digests

    @property
    def is_unknown(self) -> npt.NDArray[np.bool_]:
        """Which rows could not be read any more."""
        unknown: npt.NDArray[np.bool_] = np.logical_not(self.row_digests.any(axis=1))
        return unknown


@dataclass(frozen=True, eq=False)
class SavedLoop:
    """What a file holds of a loop.

    Attributes
    ----------
    labels : ndarray, shape (N,), int64
        −1 where there is none.
    chosen : ndarray, int64
        Rows that a query has returned, ascending.
    n_rounds, random_state : int
    n_classes : int or None
    class_names : list of str or None
    config : CCMAConfig
    identity : Identity or None
        None in files of the first format, which cannot be checked.
    class_digests : ndarray, shape (C, 16), uint8, or None
        Of the teacher's class directions, where it has any.
    """

    labels: Int64
    chosen: Int64
    n_rounds: int
    random_state: int
    n_classes: int | None
    class_names: list[str] | None
    config: CCMAConfig
    identity: Identity | None
    class_digests: Digests | None

    @property
    def known(self) -> Int64:
        """The rows that were labelled or chosen, ascending."""
        return _known(self.labels, self.chosen)


class Remembered:
    """What rows held, and which images they were, when they were chosen or labelled.

    A pool that was damaged since takes no label with it: all that is written of these rows is known already.
    """

    def __init__(self) -> None:
        self._of_row: dict[int, tuple[RowId, bytes]] = {}
        self._has_ids = False

    def add(self, rows: Rows, numbers: Int64) -> None:
        """Look at some rows of a pool, but those that are remembered already.

        Raises
        ------
        FileReadError
            They cannot be read any more.
        """
        new = np.array([row for row in numbers.tolist() if row not in self._of_row], dtype=np.int64)
        ids, digests = rows.ids_at(new), _row_digests(rows, new)
        self._has_ids = ids is not None
        for row, row_id, digest in zip(new.tolist(), ids or [None] * new.size, digests, strict=True):
            self._of_row[row] = row_id, digest.tobytes()

    def identity(self, rows: Rows, labels: Int64, chosen: Int64) -> Identity:
        """Of which images of a pool the labels and choices are.

        Warns
        -----
        LabelWarning
            The pool cannot be read any more, and of some rows nobody knows what they held.
        """
        known = _known(labels, chosen)
        try:
            self.add(rows, known)
        except FileReadError as error:
            unknown = [row for row in known.tolist() if row not in self._of_row]
            if unknown:
                warnings.warn(
                    f"the labels are saved, but of {len(unknown)} of {known.size} rows that were labelled or chosen, "
                    f"first row {unknown[0]}, nobody can say what they held: {error}",
                    LabelWarning,
                    stacklevel=3,
                )
        found = [self._of_row.get(row, (None, _UNKNOWN)) for row in known.tolist()]
        digests = np.frombuffer(b"".join(digest for _, digest in found), dtype=np.uint8).reshape(-1, _DIGEST_BYTES)
        return Identity(rows.n_columns, [row_id for row_id, _ in found] if self._has_ids else None, digests)


def class_digests(teacher: Teacher | None) -> Digests | None:
    """Digests of a teacher's class directions; None where it has none."""
    if teacher is None or teacher.class_directions is None:
        return None
    return _digests(teacher.class_directions)


def check_is_known(path: str | os.PathLike[str], versions: Collection[str], n_rows: int) -> None:
    """What is at a path is nothing, or one of the versions that a loop comes from.

    Parameters
    ----------
    path : path
    versions : collection of str
        As :func:`read_loop` and :func:`write_loop` return them.
    n_rows : int
        Of the pool.

    Raises
    ------
    FileExistsError
        Something else is there; the text says what, and what can be done.
    """
    file, expected = Path(path), "another path, or overwrite=True to replace it all the same"
    try:
        content, written = read_whole(file), datetime.fromtimestamp(file.stat().st_mtime)
        if _version(content) in versions:
            return
        there = _read(content, str(file), n_rows)
    except FileNotFoundError:
        return
    except ValueError as error:
        raise FileExistsError(
            f"{str(file)!r} is there and no loop that can be read ({error}); expected {expected}"
        ) from None
    raise FileExistsError(
        f"{str(file)!r} holds another loop, or another version of this one, with {int((there.labels >= 0).sum())} "
        f"labels after {there.n_rounds} rounds, written {written:%Y-%m-%d %H:%M:%S}, whose labels would be lost; "
        f"expected to load it and tell the labels there, {expected}"
    )


def write_loop(path: str | os.PathLike[str], loop: SavedLoop) -> str:
    """Write a file for :func:`read_loop`, whole or not at all, and tell which version it is."""
    from .. import __version__

    assert loop.identity is not None, "a loop has a pool"
    settings = {
        "format": f"{_NAME} {_FORMAT}",
        "version": __version__,
        "n_rounds": loop.n_rounds,
        "n_classes": loop.n_classes,
        "class_names": loop.class_names,
        "random_state": loop.random_state,
        "config": asdict(loop.config),
        "n_columns": loop.identity.n_columns,
        "ids": loop.identity.ids,
    }
    arrays: dict[str, npt.NDArray[Any]] = {
        "labels": loop.labels,
        "chosen": loop.chosen,
        "row_digests": loop.identity.row_digests,
    }
    if loop.class_digests is not None:
        arrays["class_digests"] = loop.class_digests
    arrays["settings"] = np.array(json.dumps(settings))
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    if arrays["settings"].nbytes > _most_settings(Arrays(buffer)):  # ids that repeat themselves shrink too well
        buffer = io.BytesIO()
        np.savez(buffer, allow_pickle=False, **arrays)
    content = buffer.getvalue()
    write_whole(path, lambda file: file.write(content))
    return _version(content)


def read_loop(path: str | os.PathLike[str], n_rows: int) -> tuple[SavedLoop, str]:
    """What :func:`write_loop` wrote, or the first format, and which version it is: the SHA-256 of the file.

    Parameters
    ----------
    path : path
    n_rows : int
        Of the pool that there is now, which says how large a file of it can be.

    Raises
    ------
    FileReadError
        No such file, not a saved loop, a damaged one, one that a newer version wrote, or one that would unpack to more
        than a loop on such a pool has.
    """
    file = os.fspath(path)
    try:
        content = read_whole(file)
    except FileNotFoundError:
        raise FileReadError(f"no file {file!r}") from None
    except (OSError, ValueError) as error:
        raise FileReadError(f"cannot read {file!r} as a saved loop: {error}") from error
    return _read(content, file, n_rows), _version(content)


def _version(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _read(content: bytes, file: str, n_rows: int) -> SavedLoop:
    """The loop in the content of a file."""
    try:
        saved = Arrays(io.BytesIO(content))
        settings = json.loads(str(saved.read("settings", _most_settings(saved))))
        version = _format(settings)
        if version <= _FORMAT:
            return _checked(settings, _arrays(saved, n_rows), version)
    except _UnknownSettingError as error:
        raise newer_error(file, f"the setting {error.args[0]!r}", version=settings.get("version")) from None
    except Exception as error:  # a damaged archive raises whatever its parser meets
        raise FileReadError(f"cannot read {file!r} as a saved loop: {error}") from error
    raise newer_error(file, f"format {version}", version=settings.get("version"))


def placed(loop: SavedLoop, rows: Rows, path: str | os.PathLike[str], missing: str) -> tuple[Int64, Int64]:
    """The labels and the chosen rows of a loop in the pool that there is now.

    Where both pools have ids these say which row is which; else the values of the rows say whether they stayed.

    Parameters
    ----------
    loop : SavedLoop
    rows : Rows
    path : path
        For error messages.
    missing : {"raise", "drop"}
        What becomes of images that the pool no longer has.

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


def agreed_classes(
    loop: SavedLoop, class_names: Any, teacher: Teacher | None, path: str | os.PathLike[str]
) -> list[str] | None:
    """The names of the classes, where those of a loop are those of the caller and the teacher.

    A teacher may be of another encoder, or of other prompts, where names say that its classes are the same.

    Raises
    ------
    ValueError
        Other classes, or another order.
    """
    names = agreed_class_names(class_names, teacher)
    expected = f"the classes must be those of the loop in {os.fspath(path)!r}"
    n_classes = teacher.n_classes if teacher is not None else None if names is None else len(names)
    if loop.n_classes is not None and n_classes not in (None, loop.n_classes):
        raise ValueError(f"{expected}, which has {loop.n_classes}, got {n_classes}")
    most = int(loop.labels.max(initial=-1))
    if n_classes is not None and most >= n_classes:
        raise ValueError(f"{expected}, which has labels up to {most}, got {n_classes} classes")
    if names is not None and loop.class_names is not None:
        differing = differing_names(names, loop.class_names)
        if differing:
            c = differing[0]
            raise ValueError(
                f"{expected} in the same order, got {len(differing)} other names: first {names[c]!r} for class {c}, "
                f"which the loop calls {loop.class_names[c]!r}"
            )
    now, before = class_digests(teacher), loop.class_digests
    if now is not None and before is not None:
        class_before = {digest.tobytes(): c for c, digest in enumerate(before)}
        for c in np.flatnonzero((now != before).any(axis=1)).tolist():
            moved = class_before.get(now[c].tobytes())
            if moved is not None:
                raise ValueError(f"{expected} in the same order, got as the teacher's class {c} what was class {moved}")
            if names is None or loop.class_names is None:
                raise ValueError(
                    f"{expected}, got a teacher whose class {c} has another direction, and no names that say that it "
                    "is the same class"
                )
    return loop.class_names if names is None else names


def _most_settings(saved: Arrays) -> int:
    """Bytes that the settings in a file may have."""
    return max(_MOST_SETTINGS, _MOST_RATIO * saved.packed_bytes("settings"))


def _arrays(saved: Arrays, n_rows: int) -> dict[str, npt.NDArray[Any]]:
    """The arrays of a file, each no larger than that of a loop on so many rows."""
    n_labels, most = saved.n_rows("labels"), max(_MOST_ROWS, _MOST_TIMES * n_rows)
    if n_labels > most:
        raise ValueError(f"labels of a pool of {n_labels} rows, expected at most {most} where the pool has {n_rows}")
    sizes = {
        "labels": 8 * n_labels,
        "chosen": 8 * n_labels,
        "row_digests": _DIGEST_BYTES * n_labels,
        "class_digests": _DIGEST_BYTES * MOST_CLASSES,
    }
    return {name: saved.read(name, size) for name, size in sizes.items() if name in saved}


class _UnknownSettingError(ValueError):
    """A setting of a newer version."""


def _format(settings: Any) -> int:
    """The number of a file's format."""
    text = settings["format"]
    found = re.fullmatch(rf"{re.escape(_NAME)} (\d{{1,9}})", text)
    if found is None:
        raise ValueError(f"expected the format '{_NAME} {_FORMAT}', got {text!r}")
    return int(found[1])


def _checked(settings: dict[str, Any], arrays: dict[str, npt.NDArray[Any]], version: int) -> SavedLoop:
    """A loop from what a file holds."""
    config = dict(settings["config"])
    unknown = sorted(set(config) - {entry.name for entry in fields(CCMAConfig)})
    if unknown:
        raise _UnknownSettingError(unknown[0])
    labels, chosen, n_classes = arrays["labels"], arrays["chosen"], settings["n_classes"]
    if n_classes is not None:
        n_classes = check_class_count("n_classes", n_classes)
    for name, array, least, end in (
        ("labels", labels, -1, MOST_CLASSES if n_classes is None else n_classes),
        ("chosen", chosen, 0, labels.size),
    ):
        if array.dtype != np.int64 or array.ndim != 1 or ((array < least) | (array >= end)).any():
            raise ValueError(f"{name} must be integers from {least} to below {end}, got {array!r:.200}")
    identity = digests = names = None
    if version > 1:
        names = settings["class_names"]
        if names is not None:
            if not isinstance(names, list):  # text would be the name of a file
                raise ValueError(f"class_names must be a list, got {names!r:.80}")
            names = read_class_names(names)
        identity = Identity(settings["n_columns"], settings["ids"], arrays["row_digests"])
        digests = arrays.get("class_digests")
        n_known = _known(labels, chosen).size
        if identity.row_digests.shape != (n_known, _DIGEST_BYTES) or len(identity.ids or range(n_known)) != n_known:
            raise ValueError(f"expected a digest, and an id or none, of each of {n_known} rows")
        if digests is not None and digests.shape != (n_classes, _DIGEST_BYTES):
            raise ValueError(f"expected a digest of each of {n_classes} classes, got shape {digests.shape}")
    return SavedLoop(
        labels=labels,
        chosen=np.unique(chosen),
        n_rounds=check_integer("n_rounds", settings["n_rounds"], minimum=0),
        random_state=check_integer("random_state", settings["random_state"], minimum=0, maximum=math.inf),
        n_classes=n_classes,
        class_names=names,
        config=CCMAConfig(**config),
        identity=identity,
        class_digests=digests,
    )


def _known(labels: Int64, chosen: Int64) -> Int64:
    known: Int64 = np.union1d(np.flatnonzero(labels >= 0), chosen)
    return known


def _rows_now(loop: SavedLoop, identity: Identity, rows: Rows, file: str, missing: str) -> Int64:
    """Where the rows that were labelled or chosen are now; −1 for those that were dropped."""
    known = loop.known
    there = None if identity.ids is None else rows_with_ids(rows, set(identity.ids))
    if identity.ids is None or there is None:
        _check_length(loop, rows, file)
        _check_values(identity, rows, known, np.arange(known.size), file)
        return known
    now: Int64 = known.copy()
    uncertain: list[int] = []
    gone: list[int] = []
    uses, is_unknown = Counter(identity.ids), identity.is_unknown
    for k, (row, row_id) in enumerate(zip(known.tolist(), identity.ids, strict=True)):
        found = there[row_id]
        if is_unknown[k]:
            uncertain.append(k)
        elif not found:
            gone.append(k)
        elif row_id is not None and len(found) == uses[row_id] == 1:
            now[k] = found[0]
        elif row in found:  # several images have this id, so that only the values can say which one this is
            uncertain.append(k)
        else:
            raise PoolMismatchError(
                f"{rows.name} must be the images of the loop in {file!r}, got none of the id {row_id!r} at row {row}, "
                f"and {len(found)} of it at others, where {uses[row_id]} had labels or were chosen"
            )
    _check_values(identity, rows, known, np.array(uncertain, dtype=np.int64), file)
    certain = np.setdiff1d(np.arange(known.size), [*uncertain, *gone])
    _warn_of_other_values(identity, rows, now, certain, file)
    if gone:
        lost = f"{len(gone)} of the {known.size} that were labelled or chosen: {identity.ids[gone[0]]!r}"
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


def _warn_of_other_values(identity: Identity, rows: Rows, now: Int64, at: Int64, file: str) -> None:
    """Rows that were found by their ids hold what they held where others do, so that the encoder is the same."""
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
    """The rows at the positions `at` of those that are known hold what they held."""
    expected = f"{rows.name} must be the images of the loop in {file!r}"
    if identity.n_columns != rows.n_columns and (at.size or identity.ids is None):
        raise PoolMismatchError(
            f"{expected}, whose rows have {identity.n_columns} columns and no ids that would say so of another "
            f"encoder's, got {rows.n_columns} columns"
        )
    unknown = at[identity.is_unknown[at]]
    if unknown.size and known[unknown].max() >= rows.n_rows:
        raise PoolMismatchError(f"{expected}, got {rows.n_rows} rows and a label for row {known[unknown].max()}")
    other = _differing(identity, rows, known, np.setdiff1d(at, unknown))
    if other.size:
        k = int(other[0])
        image = "" if identity.ids is None else f", the image {identity.ids[k]!r}"
        raise PoolMismatchError(
            f"{expected} in the same order, got other values than it had at row {rows.row_number(int(known[k]))}"
            f"{image}, the first of {other.size} such rows among {known.size} that were labelled or chosen"
        )
    if unknown.size:
        warnings.warn(
            f"{unknown.size} of {known.size} rows that were labelled or chosen in the loop in {file!r}, first row "
            f"{known[unknown[0]]}, could not be read when it was saved; nobody can tell whether {rows.name} still has "
            "their images there",
            LabelWarning,
            stacklevel=5,
        )


def _differing(identity: Identity, rows: Rows, now: Int64, at: Int64) -> Int64:
    """Those of the positions `at` whose rows, which are `now`, hold other values than they held."""
    differing: Int64 = at[(_row_digests(rows, now[at]) != identity.row_digests[at]).any(axis=1)]
    return differing


def _row_digests(rows: Rows, numbers: Int64) -> Digests:
    """Digests of some rows as float32, so that no matter which type holds the same values they are the same."""
    parts = [_digests(to_float32(chunk)) for _, chunk in RowSubset(rows, numbers).chunks()]
    return np.concatenate([np.empty((0, _DIGEST_BYTES), dtype=np.uint8), *parts])


def _digests(values: npt.NDArray[np.float32]) -> Digests:
    rows = np.ascontiguousarray(values, dtype="<f4")
    text = b"".join(hashlib.blake2b(row, digest_size=_DIGEST_BYTES).digest() for row in rows)
    return np.frombuffer(text, dtype=np.uint8).reshape(len(rows), _DIGEST_BYTES)
