"""Logits: a matrix with a column for each of at least two classes."""

from __future__ import annotations

from typing import Any

from .class_limits import check_class_count
from .open import open_rows
from .rows import Rows

__all__ = ["open_logits"]


def open_logits(source: Any, name: str) -> Rows:
    """Logits of at least two classes."""
    rows = open_rows(source, name)
    if rows.n_columns < 2:
        raise ValueError(f"{name} must have at least two columns (classes), got shape {(rows.n_rows, rows.n_columns)}")
    check_class_count(f"the columns (classes) of {name}", rows.n_columns)
    return rows
