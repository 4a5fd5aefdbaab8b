"""Which files are images: by their suffixes, or by their first bytes where they have none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import PurePosixPath

from .decode import NO_PICTURES, kind_of

__all__ = ["checked_suffixes", "ending_of", "is_hidden", "is_utf8", "suffixes_of_images", "why_no_image"]

_NO_SUFFIX = frozenset("*?,/ ")

# What systems leave in folders and archives beside the files of a person.
_LITTER = {"__MACOSX", "@eaDir", "$RECYCLE.BIN"}


def suffixes_of_images() -> frozenset[str]:
    """The suffixes of the pictures that Pillow decodes, plugins of the caller included, in lower case."""
    from PIL import Image

    registered = Image.registered_extensions().items()
    return frozenset(suffix for suffix, kind in registered if kind in Image.OPEN and kind not in NO_PICTURES)


def why_no_image(
    name: str, wanted: tuple[str, ...] | None, known: frozenset[str], head: Callable[[], bytes]
) -> str | None:
    """What a file is instead of an image; None where it is one."""
    if is_hidden(name):
        return "hidden"
    if not is_utf8(name):
        return "with names that are not UTF-8"
    suffix = PurePosixPath(name).suffix.lower()
    if wanted is not None:
        return None if ending_of(name, wanted) else suffix or "without a suffix"
    if suffix in known:
        return None
    if suffix.strip(".") and not suffix[1:].isdecimal():  # the end of 22.05 is none
        return suffix
    return None if kind_of(head()) else suffix or "without a suffix"


def is_hidden(path: str) -> bool:
    return any((part.startswith(".") and part != "..") or part in _LITTER for part in PurePosixPath(path).parts)


def is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def ending_of(name: str, wanted: tuple[str, ...]) -> str:
    """The longest of the suffixes that the name ends with, "" for none."""
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
