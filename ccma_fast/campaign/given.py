"""What callers of a campaign give: images, answers, names of annotators, durations."""

from __future__ import annotations

import numbers
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from ..checks import check_same_rows, check_words
from ..pool.array_like import as_array, uncoerced
from ..pool.class_names import same_name
from ..pool.row_ids import check_beside, distinct_rows
from .campaign_pool import CampaignPool
from .exchange.answer import Answer
from .places import names_of

__all__ = ["answers_given", "check_annotator", "check_duration", "images_given"]


def images_given(given: Any, pool: CampaignPool) -> list[str]:
    """What the log calls images that are given by their ids or by rows of the pool.

    Raises
    ------
    ValueError, TypeError
        Rows out of range, repeated images, or neither ids nor rows.
    """
    values = as_array("images", uncoerced([given] if isinstance(given, str) else given))
    if values.ndim != 1:
        raise ValueError(f"images must have one dimension, got shape {values.shape}")
    names: list[Any] = values.tolist()
    if not all(isinstance(name, str) for name in names):
        rows = pool.rows
        return names_of(rows, distinct_rows(rows, given))
    if len(set(names)) < len(names):
        repeated = next(name for k, name in enumerate(names) if name in names[:k])
        raise ValueError(f"images must be distinct, got {repeated!r} more than once")
    return names


def answers_given(images: Sequence[str], said: Any, annotator: str, *, is_refusal: bool) -> list[Answer]:
    """A label of each image, or one refusal of all of them.

    Raises
    ------
    ValueError, TypeError
        Other than one name of a class for each image, or a reason without words.
    """
    if is_refusal:
        if not isinstance(said, str):
            raise TypeError(f"reason must be text, got {type(said).__name__} {said!r}")
        if not said.strip():
            raise ValueError(f"reason must not be empty, got {said!r}")
        return [Answer(image, refusal=said, annotator=annotator) for image in images]
    check_beside("classes", said, images, of="images")
    names = [said] if isinstance(said, str) else as_array("classes", uncoerced(said)).tolist()
    check_same_rows("classes", len(names), "images", len(images))
    for name in names:
        if not isinstance(name, str):
            is_number = isinstance(name, numbers.Integral) and not isinstance(name, bool)
            hint = "; give [campaign.class_names[c] for c in classes]" if is_number else ""
            raise TypeError(f"classes must be names of classes, got {type(name).__name__} {name!r}{hint}")
        if not name.strip():
            raise ValueError(f"classes must be names of classes, got {name!r}")
    return [Answer(image, name, annotator=annotator) for image, name in zip(images, names, strict=True)]


def check_annotator(name: Any) -> str:
    """The name of an annotator, which may be empty, as it is known: without spaces around it, in Unicode's NFC."""
    return same_name(check_words("annotator", name).strip())


def check_duration(name: str, value: Any) -> float:
    """The seconds of a duration that is longer than nothing."""
    if not isinstance(value, timedelta):
        raise TypeError(f"{name} must be a datetime.timedelta, got {type(value).__name__} {value!r}")
    seconds = value.total_seconds()
    if not 0 < seconds < 1e10:
        raise ValueError(f"{name} must be longer than nothing and at most 300 years, got {value!r}")
    return seconds
