"""The interface of a source of images: a fixed order, an id for each, and the bytes of the file that it is in."""

from __future__ import annotations

import io
import os
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from ..errors import FileReadError
from .decode import UnreadableImageError, decoded, read_image
from .image_files import FileStatus, is_gone, is_utf8, status_of
from .labels import checked_labels

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["ImageFile", "Images", "Place"]

_READ_BYTES = 1 << 20

# A larger file is not held in memory beside its pixels, but read twice.
_MOST_BYTES = 256 << 20


class ImageFile(NamedTuple):
    """The file of an image as it was read: size in bytes, CRC-32 and time of its content; None without a file."""

    n_bytes: int | None = None
    checksum: int | None = None
    mtime_ns: int | None = None


class Place(NamedTuple):
    """A range of bytes of a file, all of them by default."""

    file: Path
    offset: int = 0
    size: int | None = None
    listed: FileStatus | None = None
    """The status of the file when the range was found, None where that does not matter."""

    def is_moved(self, now: os.stat_result) -> bool:
        """Whether the range may hold other bytes now."""
        return self.listed is not None and (now.st_size, now.st_mtime_ns) != self.listed[:2]


class Images(ABC):
    """Images in a fixed order.

    Attributes
    ----------
    ids : list of str
        The id of each, all distinct.
    labels : list or None
        The label of each, all numbers or all text, None where an image has none; None where the source has no
        labels.
    left_out : dict of str to int
        Number of other files beside the images, by kind, such as ".txt" or "hidden".
    roots : frozenset of str
        The folders that ids are relative to; empty where ids are not paths.
    """

    roots: frozenset[str] = frozenset()

    def __init__(
        self, ids: list[str], labels: Iterable[Any] | None, source: str, left_out: dict[str, int] | None = None
    ) -> None:
        self.left_out = {kind: n for kind, n in sorted((left_out or {}).items()) if n}
        seen: dict[str, int] = {}
        for row, image_id in enumerate(ids):
            if image_id in seen:
                raise FileReadError(
                    f"images: {source} must name each image once, got {image_id!r} at rows {seen[image_id]} and {row}"
                )
            if not isinstance(image_id, str) or not is_utf8(image_id):
                raise FileReadError(f"images: {source} must have names in UTF-8, got {image_id!r} at row {row}")
            seen[image_id] = row
        if not ids:
            beside = ", ".join(f"{n} {kind}" for kind, n in self.left_out.items())
            raise FileReadError(f"images: no image in {source}{beside and f', but {beside}'}")
        self.ids, self.labels = ids, None if labels is None else checked_labels(labels, len(ids), source)

    def read(self, i: int) -> tuple[Image.Image, ImageFile]:
        """The i-th image, decoded, upright, in RGB, and the file that it was decoded from.

        Raises
        ------
        ccma_fast.images.decode.UnreadableImageError
            Also where the file was written to meanwhile.
        OSError, MemoryError
            It cannot be opened or read.
        """
        place = self._place(i)
        if place is None:
            return decoded(lambda: self._item(i)), ImageFile()
        if place.file.exists() and not place.file.is_file():  # a pipe would never end
            raise UnreadableImageError("a folder, a pipe or a device; expected a regular file")
        with open(place.file, "rb") as handle:
            before = os.fstat(handle.fileno())
            if place.is_moved(before):
                raise UnreadableImageError("its archive was written to since its images were listed", passing=True)
            size = before.st_size if place.size is None else place.size
            if place.size is None and size > _MOST_BYTES:
                found = ImageFile(*_checksum(handle, place), before.st_mtime_ns)
                handle.seek(0)
                image = decoded(lambda: self._seen(handle))
            else:
                handle.seek(place.offset)
                content = handle.read(size)
                found = ImageFile(len(content), zlib.crc32(content), before.st_mtime_ns)
                image = decoded(lambda: self._seen(io.BytesIO(content)))
            after = os.fstat(handle.fileno())
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
            raise UnreadableImageError("it was written to while it was read", passing=True)
        return image, found

    def load(self, i: int) -> Image.Image:
        """The i-th image alone, as :meth:`read` gives it."""
        return self.read(i)[0]

    def status(self, i: int) -> FileStatus | None:
        """Size and times of the i-th image's file now; None without a file. Times in an archive are the archive's."""
        place = self._place(i)
        found = None if place is None else status_of(place.file)
        return found if found is None or place is None or place.size is None else found._replace(n_bytes=place.size)

    def listed(self, i: int) -> FileStatus | None:
        """As :meth:`status`, but possibly of the time when the images were listed."""
        return self.status(i)

    def n_bytes(self, i: int) -> int | None:
        """The size of the i-th image's file as it was listed; None where there is none."""
        found = self.listed(i)
        return None if found is None else found.n_bytes

    def is_unchanged(self, i: int, file: ImageFile) -> bool:
        """Whether the i-th image's file is, by size and time, the one that was read; also where neither is known."""
        now = self.listed(i)
        return file.n_bytes is None or now is None or (now.n_bytes, now.mtime_ns) == (file.n_bytes, file.mtime_ns)

    def fingerprint(self, i: int) -> ImageFile:
        """The i-th image's file as it is now, without decoding it; empty where it cannot be read."""
        place = self._place(i)
        try:
            if place is None or not place.file.is_file():
                return ImageFile()
            with open(place.file, "rb") as handle:
                if place.is_moved(os.fstat(handle.fileno())):
                    return ImageFile()
                return ImageFile(*_checksum(handle, place), os.fstat(handle.fileno()).st_mtime_ns)
        except OSError:
            return ImageFile()

    def is_gone(self, i: int) -> bool:
        """Whether the source names the i-th image, but no file is there."""
        return False

    def root(self, i: int) -> str | None:
        """The folder of :attr:`roots` that the i-th image's id is relative to; None where the id is not a path."""
        return next(iter(self.roots), None)

    def is_there(self, image_id: str, root: str | None) -> bool:
        """Whether something exists at the path of an id that is not among these, in a root or in its former `root`."""
        places = self.roots if root is None else {*self.roots, root}
        return any(not is_gone(os.path.join(place, image_id)) for place in places)

    def other_id(self, image_id: str) -> str | None:
        """The id of an image were its folder given alone, or among several; None where that makes no difference."""
        return None

    @abstractmethod
    def _place(self, i: int) -> Place | None:
        """Location of the i-th image; None where it is in no file."""

    def _seen(self, file: BinaryIO) -> Image.Image:
        """The image in an open file."""
        return read_image(file)

    def _item(self, i: int) -> Image.Image:
        """The i-th image, which is in no file."""
        raise NotImplementedError


def _checksum(handle: BinaryIO, place: Place) -> tuple[int, int]:
    """Size and CRC-32 of a range of an open file."""
    handle.seek(place.offset)
    size = checksum = 0
    while part := handle.read(_READ_BYTES if place.size is None else min(place.size - size, _READ_BYTES)):
        size, checksum = size + len(part), zlib.crc32(part, checksum)
    return size, checksum
