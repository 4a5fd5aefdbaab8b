"""CSV as the commands write it."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from ..system.output_files import write_whole

__all__ = ["write_csv", "write_csv_file"]


def write_csv(text: TextIO, rows: Iterable[Sequence[Any]]) -> None:
    """Write rows of cells, the header first."""
    plain, quoting = csv.writer(text, lineterminator="\n"), csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\n")
    for row in rows:
        # Left to itself, Python before 3.13 leaves a carriage return unquoted, and then reads two rows.
        writer = quoting if any("\r" in str(cell) for cell in row) else plain
        writer.writerow(row)


def write_csv_file(path: Path, rows: Iterable[Sequence[Any]]) -> None:
    """Write a file of rows of cells, the header first; whole or not at all."""

    def write(file: BinaryIO) -> None:
        text = io.TextIOWrapper(file, encoding="utf-8", newline="")
        write_csv(text, rows)
        text.detach()  # flushes; the file is closed by whoever opened it

    write_whole(path, write)
