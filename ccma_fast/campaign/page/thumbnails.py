"""Reduced copies of images, as text that stands in a page."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import FileReadError
from ...images.decode import UnreadableImageError, reason_of
from ...images.folder_source import ListedImages
from ...images.image_files import is_gone
from ...images.image_source import Images
from ...images.sources import open_images
from ...system.extras import optional

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["thumbnails"]

_QUALITY = 82

# Images as small as these are enlarged on the screen, where what JPEG adds would be seen.
_LOSSLESS_PIXELS = 128


def thumbnails(images: Any, ids: Sequence[str], pixels: int) -> tuple[dict[str, str], dict[str, str]]:
    """Reduced copies of images, upright, without metadata.

    Parameters
    ----------
    images : path, sequence of paths, or data set
        A folder that the ids are paths in, or what :func:`ccma_fast.extract` takes.
    ids : sequence of str
    pixels : int
        Long side.

    Returns
    -------
    uris, missing : dict of str to str
        For each id a ``data:`` URI of a JPEG (of a small image a PNG), or why there is none.

    Raises
    ------
    FileReadError
        None of the images is there.
    """
    optional("PIL", "the page", "extract")
    source = _opened(images, ids)
    rows = {image: row for row, image in enumerate(source.ids)}
    uris: dict[str, str] = {}
    missing: dict[str, str] = {}
    n_there = 0
    for image in ids:
        row = rows.get(image)
        if row is None or source.is_gone(row):
            missing[image] = "no such image"
            continue
        n_there += 1
        try:
            uris[image] = _uri(source.load(row), pixels)
        except Exception as error:  # as extraction: whatever a decoder meets costs that image alone
            missing[image] = str(error) if isinstance(error, UnreadableImageError) else reason_of(error)
    if not n_there:
        raise FileReadError(
            f"images: none of the {len(ids)} images of the assignment is there, first {ids[0]!r}; "
            "expected ids that are paths in the folder of the images"
        )
    return uris, missing


def _opened(images: Any, ids: Sequence[str]) -> Images:
    """The images; of a folder in which the ids are paths without a look at its other files."""
    if isinstance(images, (str, os.PathLike)):
        folder = Path(images)
        if folder.is_dir() and not all(is_gone(folder / image) for image in ids):
            return ListedImages(folder, list(ids), None, repr(str(folder)))
    return open_images(images)


def _uri(image: Image.Image, pixels: int) -> str:
    image.thumbnail((pixels, pixels))
    image.info.clear()  # comments and profiles, which would be written
    buffer = io.BytesIO()
    if max(image.size) <= _LOSSLESS_PIXELS:
        kind = "png"
        image.save(buffer, "PNG", optimize=True)
    else:
        kind = "jpeg"
        image.save(buffer, "JPEG", quality=_QUALITY, optimize=True)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"
