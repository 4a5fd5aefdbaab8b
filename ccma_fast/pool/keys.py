"""Keys of matrices in files that hold several: ``file::key``, or the key that an argument is expected under."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence

from ..errors import FileReadError

__all__ = ["chosen_key", "is_of_another_role", "split_key"]

# Words that do not stand in the name of what an argument takes.
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
    """The file and what is meant in it, of ``file::key``."""
    file, separator, key = os.fspath(path).partition("::")
    return file, key if separator else None


def chosen_key(name: str, file: str, key: str | None, found: Mapping[str, str], usual: Sequence[str], what: str) -> str:
    """Which of the matrices in a file is meant.

    Parameters
    ----------
    name : str
        What error messages call the matrix.
    file : str
    key : str or None
        What the caller asked for.
    found : mapping
        Key and description of every matrix that there is.
    usual : sequence of str
        Keys under which it is expected where the caller asked for none; the first that is there is taken, and where
        none is, the only matrix, unless that is plainly for another argument (:func:`is_of_another_role`).
    what : str
        What the format calls a matrix.

    Raises
    ------
    FileReadError
        It is not there, or there are several and nothing tells which.
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
    """Whether a matrix, called `key` where it lies, is plainly not for an argument.

    It is not chosen on its own then; who names it gets it.
    """
    return not _NEVER.get(argument, set()).isdisjoint(re.split(r"[^a-z]+", key.lower()))
