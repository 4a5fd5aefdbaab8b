"""Image files below folders, or listed in a table."""

from __future__ import annotations

import itertools
import os
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import FileReadError
from .image_files import FileStatus, is_gone
from .image_source import Images, Place

__all__ = ["FolderImages", "ListedImages", "check_folders"]


class ListedImages(Images):
    """Image files listed in a table; their ids are paths relative to its folder."""

    def __init__(self, root: Path, ids: list[str], labels: list[Any] | None, source: str) -> None:
        super().__init__(ids, labels, source)
        self._root, self.roots = root, frozenset([os.path.abspath(root)])

    def is_gone(self, i: int) -> bool:
        return is_gone(self._root / self.ids[i])

    def _place(self, i: int) -> Place:
        return Place(self._root / self.ids[i])


class FolderImages(Images):
    """The image files below folders; ids are paths below the folder, or begin with its name where there are several."""

    def __init__(
        self, found: Sequence[tuple[Path, dict[str, FileStatus]]], left_out: Counter[str], labels: bool
    ) -> None:
        self._several = len(found) > 1
        self._roots = [root for root, files in found for _ in files]
        self._listed = [status for _, files in found for status in files.values()]
        self.roots = frozenset(str(self._begin(root)) for root, _ in found)
        ids = [f"{root.name}/{path}" if self._several else path for root, files in found for path in files]
        source = ", ".join(repr(str(root)) for root, _ in found)
        super().__init__(ids, _folders_of(found) if labels else None, source, left_out)

    def listed(self, i: int) -> FileStatus:
        return self._listed[i]

    def root(self, i: int) -> str:
        return str(self._begin(self._roots[i]))

    def other_id(self, image_id: str) -> str:
        return image_id.partition("/")[2] if self._several else f"{self._roots[0].name}/{image_id}"

    def _place(self, i: int) -> Place:
        return Place(self._begin(self._roots[i]) / self.ids[i])

    def _begin(self, root: Path) -> Path:
        return root.parent if self._several else root


def check_folders(roots: Sequence[Path]) -> None:
    """Check that folders have different names, and that none is inside another."""
    for one, other in itertools.permutations(roots, 2):
        if one.name == other.name or not one.name:
            raise FileReadError(
                f"images: folders must have different names, which their images' ids begin with, got {str(one)!r} and "
                f"{str(other)!r}"
            )
        if one.resolve().is_relative_to(other.resolve()):
            raise FileReadError(f"images: folders must lie apart, got {str(one)!r} in {str(other)!r}")


def _folders_of(found: Sequence[tuple[Path, dict[str, FileStatus]]]) -> list[str | None]:
    """The name of the folder below the root that each image is in, None for images in the root itself."""
    folders: list[str | None] = []
    for root, files in found:
        own = [path.partition("/")[0] if "/" in path else None for path in files]
        if own and not any(own):
            raise FileReadError(f"images: labels_from_folders needs images in folders below {str(root)!r}, got none")
        folders += own
    seen: dict[str, str] = {}
    for folder in filter(None, folders):
        if (other := seen.setdefault(unicodedata.normalize("NFC", folder), folder)) != folder:
            raise FileReadError(
                f"images: labels_from_folders needs folders whose names do not look the same, got {other!a} and "
                f"{folder!a}"
            )
    return folders
