"""The file of the labels on which people agree, as :meth:`ccma_fast.Campaign.labelled_images` writes it."""

from __future__ import annotations

from pathlib import Path

from .outline import outline_of

__all__ = ["LABEL_COLUMNS", "is_labels_file"]

LABEL_COLUMNS = ("label", "annotators", "n_others")
"""Its columns, beside the one that says of which image a label is."""


def is_labels_file(file: Path) -> bool:
    """Whether a file is one."""
    return file.exists() and set(LABEL_COLUMNS) <= outline_of(file).names
