"""Image files whose compressed pixels end in zeros, as of a file that was allocated but only partly written.

Decoders silently turn the zeros into grey or garbage. Formats with checksums need no such test, and uncompressed pixels
may well end black.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["zeros_for_pixels"]

# More zeros in a row than data of an arithmetic or dictionary coder ends with.
_LEAST = 64

_START_OF_SCAN, _FILL = 0xDA, 0xFF
_END_OF_IMAGE = b"\xff\xd9"
_JPEG2000_DATA = b"\xff\x93"
_QOI_END = bytes(7) + b"\1"

# Of TIFF: offsets and lengths of strips, and of tiles; and what of its compressions ends in zeros unnoticed.
_DATA = ((273, 279), (324, 325))
_COMPRESSION, _LOSES_ITS_END = 259, {2, 3, 4, 5, 7}
_JPEG_TABLES = 347


def zeros_for_pixels(file: BinaryIO, image: Image.Image) -> int:
    """The number of zeros at the end of a file that stand in place of pixels. The file's position is restored.

    Parameters
    ----------
    file : binary file
    image : PIL.Image.Image
        Opened from it.
    """
    is_whole = _IS_WHOLE.get(image.format or "")
    if is_whole is None:
        return 0
    before = file.tell()
    try:
        file.seek(-1, os.SEEK_END)
        if file.read(1) != b"\0":
            return 0
        file.seek(0)
        content = file.read()
    finally:
        file.seek(before)
    n_bytes = len(content.rstrip(b"\0"))
    return 0 if is_whole(content, n_bytes, image) else len(content) - n_bytes


def _jpeg(content: bytes, n_bytes: int, image: Any) -> bool:
    at = 2
    while content[at : at + 1] == b"\xff" and content[at + 1] != _START_OF_SCAN:  # a thumbnail has an end of its own
        at += 1 if content[at + 1] == _FILL else 2 + int.from_bytes(content[at + 2 : at + 4], "big")
    return content.find(_END_OF_IMAGE, at, n_bytes) >= 0


def _jpeg2000(content: bytes, n_bytes: int, image: Any) -> bool:
    return content.find(_END_OF_IMAGE, content.find(_JPEG2000_DATA), n_bytes) >= 0


def _qoi(content: bytes, n_bytes: int, image: Any) -> bool:
    return content.endswith(_QOI_END, 0, n_bytes)


def _webp(content: bytes, n_bytes: int, image: Any) -> bool:
    at = 12
    while at < n_bytes:
        kind, size = content[at : at + 4], int.from_bytes(content[at + 4 : at + 8], "little")
        at += 8 + size
        if kind in (b"VP8 ", b"VP8L", b"ANMF"):
            return at - n_bytes < _LEAST
        at += size % 2
    return True  # of a layout that is not known


def _avif(content: bytes, n_bytes: int, image: Any) -> bool:
    at = 0
    while at < n_bytes:
        size, kind = int.from_bytes(content[at : at + 4], "big"), content[at + 4 : at + 8]
        if size == 1:
            size = int.from_bytes(content[at + 8 : at + 16], "big")
        end = at + size if size else len(content)
        if kind == b"mdat" and min(end, len(content)) - n_bytes >= _LEAST:
            return False
        at = max(end, at + 8)
    return True


def _tiff(content: bytes, n_bytes: int, image: Any) -> bool:
    tags = image.tag_v2
    order: Literal["little", "big"] = "little" if content[:2] == b"II" else "big"
    if content[2:4] in (b"*\0", b"\0*"):  # a tag of zeros is none; the classic layout alone has 12 bytes for each
        at = int.from_bytes(content[4:8], order)
        if at + 2 + 12 * int.from_bytes(content[at : at + 2], order) - n_bytes >= 12:
            return False
    if tags.get(_COMPRESSION) not in _LOSES_ITS_END:
        return True
    if not tags.get(_JPEG_TABLES, _END_OF_IMAGE).endswith(_END_OF_IMAGE):
        return False
    ends = [
        start + size
        for starts, sizes in _DATA
        for start, size in zip(tags.get(starts, ()), tags.get(sizes, ()), strict=False)
    ]
    return max(ends, default=0) - n_bytes < _LEAST


_IS_WHOLE: dict[str, Callable[[bytes, int, Any], bool]] = {
    "AVIF": _avif,
    "JPEG": _jpeg,
    "JPEG2000": _jpeg2000,
    "MPO": _jpeg,
    "QOI": _qoi,
    "TIFF": _tiff,
    "WEBP": _webp,
}
