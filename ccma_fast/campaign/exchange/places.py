"""Where a labelling program finds images: their ids with something before them, or a part of their ids."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection

from ...images.image_files import is_utf8
from .assignment import Assignment

__all__ = ["Lookup", "check_text_ids", "id_at", "place_of", "without_suffix"]


def place_of(image: str, images: str) -> str:
    """Where an image is: its id below `images`, a folder or a URL; the id itself where that is empty."""
    return f"{images.rstrip('/')}/{image}" if images else image


def id_at(place: str, images: str) -> str:
    """The id of the image at a place; the place itself where it is not below `images`."""
    return place.removeprefix(f"{images.rstrip('/')}/") if images else place


def without_suffix(image: str) -> str:
    """An id without what follows the last dot of its file name."""
    return os.path.splitext(image)[0]


def check_text_ids(assignment: Assignment) -> None:
    """Check that ids are text that can be written.

    Raises
    ------
    ValueError
        The name of a file is not UTF-8.
    """
    for task in assignment.tasks:
        if not is_utf8(task.image):
            raise ValueError(f"ids of images must be text in UTF-8 to be exported, got {task.image!r}")


class Lookup:
    """Ids by a part of them, such as the path without its suffix.

    Parameters
    ----------
    ids : collection of str
        Every id that there is.
    part : callable
        The part of an id.
    """

    def __init__(self, ids: Collection[str], part: Callable[[str], str]) -> None:
        self._by_part: dict[str, list[str]] = {}
        for image in ids:
            self._by_part.setdefault(part(image), []).append(image)

    def found(self, part: str) -> list[str]:
        """The ids that have this part."""
        return self._by_part.get(part, [])
