"""Keys of matrices in files that hold several: ``file::key``, or the key that an argument is expected under."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence

from ..errors import FileReadError

__all__ = ["chosen_key", "is_of_another_role", "split_key"]

# Words in the key of a matrix that show that it is not for an argument.
_NEVER = {
    "features": {"text", "test"},
    "image_features": {"text", "test"},
    "test_features": {"text", "train"},
    "X": {"text"},
    "class_features": {"img", "image", "images", "train", "test"},
    "labels": {"test"},
    "test_labels": {"train"},
}


def split_key(path: str | os.PathLike[str]) -> tuple[str, str | None]:
    """The file and the key of ``file::key``; None where there is no key."""
    file, separator, key = os.fspath(path).partition("::")
    return file, key if separator else None


def chosen_key(name: str, file: str, key: str | None, found: Mapping[str, str], usual: Sequence[str], what: str) -> str:
    """The key of the matrix that is meant in a file.

    Parameters
    ----------
    name : str
        Name of the matrix in error messages.
    file : str
    key : str or None
        The caller's.
    found : mapping
        Key and description of every matrix in the file.
    usual : sequence of str
        Keys under which it is expected where the caller gives none; the first that is there is taken, and where none
        is, the only matrix of the file, unless that is plainly for another argument (:func:`is_of_another_role`).
    what : str
        What the format calls a matrix.

    Raises
    ------
    FileReadError
        It is not there, or several are and none is the expected one.
    """
    if key is not None:
        if key in found:
            return key
        expected = f"no {what} {key!r}"
    else:
        for candidate in usual:
            if candidate in found:
                return candidate
        if len(found) == 1 and not is_of_another_role(name, next(iter(found))):
            return next(iter(found))
        expected = f"no {what} {usual[0]!r}" if usual else f"not one {what} only"
    there = ", ".join(f"{known!r} ({described})" for known, described in found.items()) or "none"
    raise FileReadError(f"{name}: {expected} in {file!r}, got {there}; expected one of them as {file}::{what}")


def is_of_another_role(argument: str, key: str) -> bool:
    """Whether the matrix called `key` is plainly not for an argument: texts for images, test rows for the pool.

    It is then not taken by default; a caller who names it gets it.
    """
    return not _NEVER.get(argument, set()).isdisjoint(re.split(r"[^a-z]+", key.lower()))
