"""Labels that come with images, in a data set or a table, as numbers or text."""

from __future__ import annotations

import numbers
import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from ..pool.array_like import is_exact, is_missing
from ..pool.class_limits import MOST_CLASSES
from .image_files import is_utf8

__all__ = ["checked_labels", "targets_of", "typed"]

# The empty text is no label; 007 is a name.
_INTEGER = re.compile(r"(-1|0|[1-9]\d{0,17})?", re.ASCII)


def typed(cells: list[str]) -> list[int | None] | list[str]:
    """Labels of a CSV file as numbers where all are numbers: cells are text, whether they were names or numbers."""
    if not all(_INTEGER.fullmatch(cell) for cell in cells):
        return cells
    return [int(cell) if cell else None for cell in cells]


def targets_of(dataset: Any, n_images: int, name: str) -> list[Any] | None:
    """The ``targets`` of a data set, one for each image; None where it has none."""
    targets, transform = getattr(dataset, "targets", None), getattr(dataset, "target_transform", None)
    if targets is None:
        return None
    if isinstance(targets, (Mapping, str)):  # of which list() would take the keys, or the letters
        raise ValueError(f"labels of {name} must be in the order of its images, got a {type(targets).__name__}")
    labels: list[Any] = getattr(targets, "tolist", lambda: list(targets))()
    if len(labels) != n_images:
        raise ValueError(f"labels of {name} must be one for each image, got {len(labels)} for {n_images} images")
    return labels if transform is None else [transform(label) for label in labels]


def checked_labels(labels: Iterable[Any], n_images: int, source: str) -> list[Any]:
    """Labels as integers or text, None where there is none."""
    checked = [_label(label, row, source) for row, label in enumerate(labels)]
    if len(checked) != n_images:
        raise ValueError(f"labels of {source} must be one for each image, got {len(checked)} for {n_images} images")
    kinds = {type(label).__name__ for label in checked if label is not None}
    if len(kinds) > 1:
        raise ValueError(f"labels of {source} must be all numbers or all text, got both")
    return checked


def _label(label: Any, row: int, source: str) -> int | str | None:
    is_rounded = isinstance(label, np.floating) and not is_exact(label)
    if getattr(label, "shape", None) == ():
        label = label.item()
    if is_missing(label) or (isinstance(label, str) and not label):
        return None
    if isinstance(label, str) and is_utf8(label):
        return str.__str__(label)  # of an enumeration str() gives another text
    is_whole = isinstance(label, numbers.Integral) or (isinstance(label, float) and label.is_integer())
    if isinstance(label, bool) or is_rounded or not is_whole or not -1 <= label < MOST_CLASSES:
        raise ValueError(
            f"labels of {source} must be one class for each image, a number or a name, or -1 for none, got "
            f"{label!r:.80} at row {row}"
            + (", which its type may have rounded" if is_rounded else "")
            + (f"; numbers are below {MOST_CLASSES}" if is_whole and label >= MOST_CLASSES else "")
        )
    return int(label)
