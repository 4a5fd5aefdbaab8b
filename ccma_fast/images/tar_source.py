"""Images in WebDataset tars, read where they lie."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from .image_files import FileStatus, status_of
from .image_source import Images, Place
from .webdataset import Member, apart, members_of

__all__ = ["TarImages"]


class TarImages(Images):
    """The images in uncompressed tar files of the WebDataset layout: ``key.jpg``, and its label in ``key.cls``.

    A key is the whole name without the suffix, so that ``22.05.jpg`` and ``22.06.jpg`` are two; WebDataset would end it
    at the first dot. Where that makes a difference to which image a label belongs to, the file is refused.
    """

    def __init__(self, files: Sequence[Path], suffixes: tuple[str, ...] | None, left_out: Counter[str]) -> None:
        self._members: list[tuple[Path, Member]] = []
        self._folders = {file.name: os.path.abspath(file.parent) for file in files}
        self.roots = frozenset(self._folders.values())
        self._listed = {file: status_of(file) for file in files}
        labels: list[int | None] = []
        for file in files:
            members, classes = members_of(file, suffixes, left_out)
            members = apart(file, members, classes, suffixes is not None, left_out)
            self._members += [(file, member) for member in members]
            labels += [classes.get(member.key) for member in members]
        ids = [f"{file.name}/{member.name}" for file, member in self._members]
        known = any(label is not None for label in labels)
        source = ", ".join(repr(str(file)) for file in files[:3])
        super().__init__(ids, labels if known else None, source, left_out)

    def listed(self, i: int) -> FileStatus | None:
        file, member = self._members[i]
        found = self._listed[file]
        return None if found is None else found._replace(n_bytes=member.size)

    def root(self, i: int) -> str:
        return self._folders[self._members[i][0].name]

    def is_there(self, image_id: str, root: str | None) -> bool:
        archive = image_id.partition("/")[0]  # of what lies in those that were not given nothing is known
        return archive not in self._folders and super().is_there(archive, root)

    def _place(self, i: int) -> Place:
        file, member = self._members[i]
        return Place(file, member.offset, member.size, self._listed[file])
