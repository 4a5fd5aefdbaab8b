"""Files of CSV."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from ..system.csv_text import write_csv
from .kept_labels import write_keeping_labels

__all__ = ["write_csv_file"]


def write_csv_file(path: Path, rows: Iterable[Sequence[Any]]) -> None:
    """Write an output of rows of cells, the header first; whole or not at all, and never over labels."""

    def write(file: BinaryIO) -> None:
        text = io.TextIOWrapper(file, encoding="utf-8", newline="")
        write_csv(text, rows)
        text.detach()  # flushes; the file is closed by whoever opened it

    write_keeping_labels(path, write)
