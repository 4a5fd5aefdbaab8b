"""Where ``ccma-fast select --out`` writes picks, and the record beside them."""

from __future__ import annotations

import argparse
from pathlib import Path

__all__ = ["picks_path", "record_path"]


def picks_path(text: str) -> Path:
    """An argument type."""
    from ..query.picks_file import SUFFIXES

    file = Path(text)
    if file.suffix.lower() not in SUFFIXES:
        raise argparse.ArgumentTypeError(f"must end in {', '.join(SUFFIXES)}, got {text!r}")
    return file


def record_path(out: Path) -> Path:
    """Where the record of the picks in a file goes."""
    return out.with_suffix(".selection.json")
