"""Names of files and of what is meant in them."""

from __future__ import annotations

import os

__all__ = ["split_key"]


def split_key(path: str | os.PathLike[str]) -> tuple[str, str | None]:
    """The file and what is meant in it, of ``file::key``."""
    file, separator, key = os.fspath(path).partition("::")
    return file, key if separator else None
