"""The file of a saved loop: its labels, which images and classes they are of, and what the next query needs."""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import re
from collections.abc import Collection
from dataclasses import dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..checks import check_integer
from ..config import CCMAConfig
from ..errors import FileReadError
from ..pool.class_limits import MOST_CLASSES, check_class_count
from ..pool.class_names import read_class_names
from ..pool.row_digests import DIGEST_BYTES, Digests
from ..system.bounded_read import Arrays, read_whole
from ..system.output_files import write_whole
from ..version import __version__, newer_error
from .identity import Identity, known_rows

__all__ = ["SavedLoop", "check_may_replace", "read_loop", "write_loop"]

Int64 = npt.NDArray[np.int64]

_FORMAT, _NAME = 2, "ccma_fast.ActiveLearner"

# Rows of a saved loop: at most this many times those of the pool, which may have lost images since, or this many.
_MOST_TIMES, _MOST_ROWS = 10, 10_000_000

# Bytes of the settings, an array of text with four for each character: at most this many, or this many times their
# compressed size. Ids are compressed two hundredfold at most.
_MOST_SETTINGS, _MOST_RATIO = 64 << 20, 500


@dataclass(frozen=True, eq=False)
class SavedLoop:
    """The state of a loop in a file.

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
        return known_rows(self.labels, self.chosen)


def check_may_replace(path: str | os.PathLike[str], own_files: Collection[str], n_rows: int) -> None:
    """Check that there is no file at a path, or one that the loop to be saved was loaded from or saved to.

    Parameters
    ----------
    path : path
    own_files : collection of str
        SHA-256 of these, as :func:`read_loop` and :func:`write_loop` return it.
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
        if _sha256(content) in own_files:
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
    """Write a file for :func:`read_loop`, whole or not at all, and return its SHA-256."""
    assert loop.identity is not None, "a loop has a pool"
    settings = {
        "format": f"{_NAME} {_FORMAT}",
        "version": __version__,
        "n_rounds": loop.n_rounds,
        "n_classes": loop.n_classes,
        "class_names": loop.class_names,
        "random_state": loop.random_state,
        "config": loop.config.to_dict(),
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
    if arrays["settings"].nbytes > _most_settings(Arrays(buffer)):  # repetitive ids: read_loop would refuse them
        buffer = io.BytesIO()
        np.savez(buffer, allow_pickle=False, **arrays)
    content = buffer.getvalue()
    write_whole(path, lambda file: file.write(content))
    return _sha256(content)


def read_loop(path: str | os.PathLike[str], n_rows: int) -> tuple[SavedLoop, str]:
    """The loop in a file that :func:`write_loop` wrote, or one of the first format, and the SHA-256 of the file.

    Parameters
    ----------
    path : path
    n_rows : int
        Number of rows of the current pool, which bounds what is read.

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
    return _read(content, file, n_rows), _sha256(content)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _read(content: bytes, file: str, n_rows: int) -> SavedLoop:
    """The loop in the content of a file."""
    try:
        saved = Arrays(io.BytesIO(content))
        settings = json.loads(str(saved.read("settings", _most_settings(saved))))
        file_format = _file_format(settings)
        if file_format <= _FORMAT:
            return _validated(settings, _arrays(saved, n_rows), file_format)
    except _UnknownSettingError as error:
        raise newer_error(file, f"the setting {error.args[0]!r}", version=settings.get("version")) from None
    except Exception as error:  # a damaged archive raises whatever its parser meets
        raise FileReadError(f"cannot read {file!r} as a saved loop: {error}") from error
    raise newer_error(file, f"format {file_format}", version=settings.get("version"))


def _most_settings(saved: Arrays) -> int:
    """Bytes that the settings in a file may have."""
    return max(_MOST_SETTINGS, _MOST_RATIO * saved.packed_bytes("settings"))


def _arrays(saved: Arrays, n_rows: int) -> dict[str, npt.NDArray[Any]]:
    """The arrays of a file, none larger than a loop on a pool of `n_rows` rows can have."""
    n_labels, most = saved.n_rows("labels"), max(_MOST_ROWS, _MOST_TIMES * n_rows)
    if n_labels > most:
        raise ValueError(f"labels of a pool of {n_labels} rows, expected at most {most} where the pool has {n_rows}")
    sizes = {
        "labels": 8 * n_labels,
        "chosen": 8 * n_labels,
        "row_digests": DIGEST_BYTES * n_labels,
        "class_digests": DIGEST_BYTES * MOST_CLASSES,
    }
    return {name: saved.read(name, size) for name, size in sizes.items() if name in saved}


class _UnknownSettingError(ValueError):
    """A setting of a newer version."""


def _file_format(settings: Any) -> int:
    """The number of the format, which :data:`_FORMAT` is the newest of."""
    text = settings["format"]
    found = re.fullmatch(rf"{re.escape(_NAME)} (\d{{1,9}})", text)
    if found is None:
        raise ValueError(f"expected the format '{_NAME} {_FORMAT}', got {text!r}")
    return int(found[1])


def _validated(settings: dict[str, Any], arrays: dict[str, npt.NDArray[Any]], file_format: int) -> SavedLoop:
    """The loop that a file holds, once all of it is known to be valid."""
    # A loop that was saved before there was a choice of heads goes on with the one that there was.
    config = {"head": "published"} | settings["config"]
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
    if file_format > 1:
        names = settings["class_names"]
        if names is not None:
            if not isinstance(names, list):  # text would be the name of a file
                raise ValueError(f"class_names must be a list, got {names!r:.80}")
            names = read_class_names(names)
        identity = Identity(settings["n_columns"], settings["ids"], arrays["row_digests"])
        digests = arrays.get("class_digests")
        n_known = known_rows(labels, chosen).size
        if identity.row_digests.shape != (n_known, DIGEST_BYTES) or len(identity.ids or range(n_known)) != n_known:
            raise ValueError(f"expected a digest, and an id or none, of each of {n_known} rows")
        if digests is not None and digests.shape != (n_classes, DIGEST_BYTES):
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
