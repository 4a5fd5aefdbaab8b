"""CSV as the package writes it, and as spreadsheets and other programs do."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TextIO

from .text_files import decoded

__all__ = ["CsvRows", "read_csv", "write_csv"]

# What separates columns, and what it is called.
_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs"}

# Excel's first line that says the separator.
_DIRECTIVE = re.compile(r'"?sep=(.)"?[,;\t]*(\r\n|\r|\n|$)', re.IGNORECASE)

_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+")

# A character that separates nothing: whatever it splits is one cell.
_NOTHING = "\x1f"


class CsvRows(NamedTuple):
    """The rows of a CSV file, the header first where it has one; an empty line is an empty row."""

    rows: list[list[str]]
    is_cut_off: bool
    """Whether the last row has no end of line, so that it may lack something."""


def read_csv(content: bytes, *, is_value: Callable[[str], bool] = lambda cell: False) -> CsvRows:
    """Read CSV in any form that spreadsheets write.

    Columns are separated by commas, semicolons or tabs: by what a first line ``sep=;`` says, else by the only one that
    splits the first row or, of several, the only one by which all rows are as long as the first. Any end of a line is
    one, and the encoding is that of :func:`ccma_fast.system.text_files.decoded`.

    Parameters
    ----------
    content : bytes
    is_value : callable, optional
        Whether the whole first row is one value, which then is not split, such as the path of an image with a comma.

    Raises
    ------
    ValueError
        Another encoding, a quote that is not closed, or a separator that is not clear.
    """
    text = decoded(content)
    directive = _DIRECTIVE.match(text)
    begin = directive.end() if directive else 0
    if directive:
        separator = directive[1]
        if separator not in _SEPARATORS:
            raise ValueError(f"its first line says sep={separator}, expected one of {_names(_SEPARATORS)}")
    else:
        separator = _separator(text, is_value)
    try:
        rows = list(_rows(text, separator, begin))
    except csv.Error as error:
        raise ValueError(str(error)) from None
    return CsvRows(rows, not text.endswith(("\n", "\r")))


def _separator(text: str, is_value: Callable[[str], bool]) -> str:
    """What separates the columns; a comma where nothing does."""
    whole = _first_row(text, _NOTHING)
    if len(whole) == 1 and is_value(whole[0].strip()):
        return _NOTHING
    found = [separator for separator in _SEPARATORS if len(_first_row(text, separator)) > 1]
    if len(found) > 1:
        splitting, found = found, [separator for separator in found if _is_rectangular(text, separator)]
        if len(found) != 1:
            raise ValueError(
                f"its columns may be separated by {_names(splitting)}, got {text[:_LINE_SHOWN].splitlines()[0]!r}; "
                "expected a first line such as sep=; that says which"
            )
    return found[0] if found else ","


# Characters of a line that an error message shows.
_LINE_SHOWN = 120


def _names(separators: Iterable[str]) -> str:
    return " or ".join(_SEPARATORS[separator] for separator in separators)


def _first_row(text: str, separator: str) -> list[str]:
    """The first row; empty where there is none, or none with this separator."""
    try:
        return next(_rows(text, separator), [])
    except csv.Error:
        return []


def _is_rectangular(text: str, separator: str) -> bool:
    """Whether all rows but empty ones have as many cells as the first."""
    try:
        return len({len(row) for row in _rows(text, separator) if row}) == 1
    except csv.Error:
        return False


def _rows(text: str, separator: str, begin: int = 0) -> Iterator[list[str]]:
    # Not of a StringIO, which holds four bytes of each character.
    lines = (found[0] for found in _LINE.finditer(text, begin))
    return csv.reader(lines, delimiter=separator, strict=True)


def write_csv(text: TextIO, rows: Iterable[Sequence[Any]]) -> None:
    """Write rows of cells, the header first."""
    plain, quoting = csv.writer(text, lineterminator="\n"), csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\n")
    for row in rows:
        # Left to itself, Python before 3.13 leaves a carriage return unquoted, and then reads two rows.
        writer = quoting if any("\r" in str(cell) for cell in row) else plain
        writer.writerow(row)
