"""What the name of a matrix says against its being what an argument is for: texts among images, test rows in a pool."""

from __future__ import annotations

import re

__all__ = ["is_of_another_role"]

# Words that do not stand in the name of what an argument takes.
_NEVER = {
    "features": {"text", "test"},
    "image_features": {"text", "test"},
    "test_features": {"text", "train"},
    "X": {"text"},
    "class_features": {"img", "image", "images", "train", "test"},
    "labels": {"test"},
    "test_labels": {"train"},
}


def is_of_another_role(argument: str, key: str) -> bool:
    """Whether a matrix, called `key` where it lies, is plainly not for an argument.

    It is not chosen on its own then; who names it gets it.
    """
    return not _NEVER.get(argument, set()).isdisjoint(re.split(r"[^a-z]+", key.lower()))
