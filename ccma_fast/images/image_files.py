"""Which files are images: by their suffixes, or by their first bytes where they have none."""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from .decode import HEAD_BYTES, formats_read, kind_of

__all__ = [
    "FileStatus",
    "checked_suffixes",
    "ending_of",
    "files_below",
    "is_gone",
    "is_hidden",
    "is_utf8",
    "status_of",
    "suffixes_of_images",
    "why_no_image",
]

_NO_SUFFIX = frozenset("*?,/ ")

# What systems leave in folders and archives beside a user's files.
_LITTER = {"__MACOSX", "@eaDir", "$RECYCLE.BIN"}


class FileStatus(NamedTuple):
    """Size of a file in bytes, and the times in ns of the last change to its content and to its status."""

    n_bytes: int
    mtime_ns: int
    ctime_ns: int


def suffixes_of_images() -> frozenset[str]:
    """The suffixes of the formats that are read, plugins of the caller included, in lower case."""
    from PIL import Image

    read = set(formats_read())
    return frozenset(suffix for suffix, kind in Image.registered_extensions().items() if kind in read)


def why_no_image(
    name: str, wanted: tuple[str, ...] | None, known: frozenset[str], head: Callable[[], bytes]
) -> str | None:
    """Why a file is not an image, as a kind to count; None where it is one."""
    if is_hidden(name):
        return "hidden"
    if not is_utf8(name):
        return "with names that are not UTF-8"
    suffix = PurePosixPath(name).suffix.lower()
    if wanted is not None:
        return None if ending_of(name, wanted) else suffix or "without a suffix"
    if suffix in known:
        return None
    if suffix.strip(".") and not suffix[1:].isdecimal():  # 22.05 has no suffix
        return suffix
    return None if kind_of(head()) else suffix or "without a suffix"


def files_below(root: Path, suffixes: tuple[str, ...] | None, left_out: Counter[str]) -> dict[str, FileStatus]:
    """The images below a folder by their paths, sorted, and the status of each file; other files are counted.

    Links to folders are followed, each folder once, and last, so that a folder goes by its own path where it has one.
    """
    found: dict[str, FileStatus] = {}
    known = suffixes_of_images()
    entered: set[str] = set()
    waiting = [str(root)]

    def refused(error: OSError) -> None:
        left_out["folders that cannot be read"] += 1

    while waiting:
        start = waiting.pop(0)
        for at, folders, files in os.walk(start, onerror=refused):
            if (real := os.path.realpath(at)) in entered:
                folders.clear()
                continue
            entered.add(real)
            left_out["hidden"] += sum(map(is_hidden, folders))
            folders[:] = sorted(name for name in folders if not is_hidden(name))
            waiting += [path for name in folders if os.path.islink(path := os.path.join(at, name))]
            below = os.path.relpath(at, root)
            for name in files:
                file, path = os.path.join(at, name), name if below == "." else f"{below}/{name}"
                if (status := status_of(file)) is None:  # a link that leads nowhere, a pipe
                    left_out["no regular files"] += 1
                    continue
                why = why_no_image(path, suffixes, known, partial(_head_of, file))
                if why is None:
                    found[path] = status
                else:
                    left_out[why] += 1
    return dict(sorted(found.items()))


def status_of(file: str | os.PathLike[str]) -> FileStatus | None:
    """The status of a regular file; None where there is none."""
    try:
        found = os.stat(file)
    except (OSError, ValueError):
        return None
    return FileStatus(found.st_size, found.st_mtime_ns, found.st_ctime_ns) if stat.S_ISREG(found.st_mode) else None


def is_gone(file: str | os.PathLike[str]) -> bool:
    """Whether nothing has this path; False also where that cannot be seen, as in a folder without permission."""
    try:
        os.stat(file)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except (OSError, ValueError):
        return False
    return False


def is_hidden(path: str) -> bool:
    return any((part.startswith(".") and part != "..") or part in _LITTER for part in PurePosixPath(path).parts)


def is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def ending_of(name: str, wanted: tuple[str, ...]) -> str:
    """The longest of the suffixes that a name ends with, "" for none."""
    fits = [suffix for suffix in wanted if name.lower().endswith(suffix) and len(name) > len(suffix)]
    return max(fits, key=len, default="")


def checked_suffixes(suffixes: Sequence[str]) -> tuple[str, ...]:
    given = [suffixes] if isinstance(suffixes, str) else list(suffixes)
    for suffix in given:
        if not isinstance(suffix, str):
            raise TypeError(f"image_suffixes must be strings, got {type(suffix).__name__}")
        if not suffix.strip(".") or not _NO_SUFFIX.isdisjoint(suffix):
            raise ValueError(f"image_suffixes must be such as 'jpg' or 'seg.png', got {suffix!r}")
    if not given:
        raise ValueError("image_suffixes must be at least one, got none")
    return tuple(f".{suffix.lower().lstrip('.')}" for suffix in given)


def _head_of(file: str) -> bytes:
    try:
        with open(file, "rb") as handle:
            return handle.read(HEAD_BYTES)
    except OSError:
        return b""
