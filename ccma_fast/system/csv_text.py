"""CSV as the package writes it."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from typing import Any, TextIO

__all__ = ["write_csv"]


def write_csv(text: TextIO, rows: Iterable[Sequence[Any]]) -> None:
    """Write rows of cells, the header first."""
    plain, quoting = csv.writer(text, lineterminator="\n"), csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\n")
    for row in rows:
        # Left to itself, Python before 3.13 leaves a carriage return unquoted, and then reads two rows.
        writer = quoting if any("\r" in str(cell) for cell in row) else plain
        writer.writerow(row)
