"""What spreadsheets make of the cells of a CSV file: numbers in other forms, and text that they take for a number."""

from __future__ import annotations

import re

__all__ = ["ambiguity", "damage", "is_lost_zero", "whole_number", "with_point"]

# No row number has more digits than an int64.
_MOST_DIGITS = 18

# The integers of a column, also as 3.0 or 3,0.
_WHOLE = re.compile(rf"([+-]?\d{{1,{_MOST_DIGITS}}})([.,]0*)?", re.ASCII)

_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}([.,]\d{3})+", re.ASCII)

_SCIENTIFIC = re.compile(r"[+-]?\d+(?:[.,](\d*))?e\+?(\d{1,4})", re.ASCII | re.IGNORECASE)

_DECIMAL_COMMA = re.compile(r"([+-]?\d+),(\d+)", re.ASCII)

_NUMBER = re.compile(r"\d+([.,]\d*)?(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)

# 2-Jan, 1. Feb, Jan-02, Sep 2; 2030-01-02, 02.01.2030, 1/2/30
_DATE = re.compile(
    r"\d{1,2}(\. |[-. /])[^\W\d_]{3,9}\.?|[^\W\d_]{3,9}\.?[-. ]\d{1,4}"
    r"|\d{4}[-/.]\d{1,2}[-/.]\d{1,2}([ T].*)?|\d{1,2}[-/.]\d{1,2}[-/.](\d{2}|\d{4})"
)

_ERROR = re.compile(r"#(NAME\?|REF!|VALUE!|DIV/0!|N/A|NULL!|NUM!)")

_AS_TEXT = "import the column as text"


def whole_number(cell: str) -> int | None:
    """The integer in a cell, also as 3.0 or 3,0; None for anything else, and where :func:`ambiguity` finds some."""
    text = cell.strip()
    if text.isdecimal() and text.isascii() and len(text) <= _MOST_DIGITS:  # nearly all; the patterns are slow
        return int(text)
    found = _WHOLE.fullmatch(text)
    return int(found[1]) if found and not ambiguity(text) else None


def with_point(cell: str) -> str:
    """A number with a decimal comma as one with a point; other text as it is."""
    return _DECIMAL_COMMA.sub(r"\1.\2", cell) if _DECIMAL_COMMA.fullmatch(cell.strip()) else cell


def ambiguity(cell: str) -> str:
    """Why it is not clear which number a cell means; empty where it is.

    It may have thousands, or be a fraction. It may have been rounded, as 123,456 is to 1E+05 in a narrow column.
    """
    text = cell.strip()
    if _THOUSANDS.fullmatch(text):
        return "which may have thousands or be a fraction"
    found = _SCIENTIFIC.fullmatch(text)
    if found and len(found[1] or "") < int(found[2]):
        return f"which a spreadsheet may have rounded; format the column as a number, or {_AS_TEXT}"
    return ""


def damage(cell: str) -> str:
    """What a spreadsheet may have done to a cell that is not what was expected, for an error message; or empty."""
    text = cell.strip()
    if _ERROR.fullmatch(text):
        return f"; it is an error of a spreadsheet, which took the text for a formula: {_AS_TEXT}"
    if _DATE.fullmatch(text):
        return f"; it looks like a date, which spreadsheets make of names such as 1-2 or MAR1: {_AS_TEXT}"
    return ""


def is_lost_zero(cell: str, text: str) -> bool:
    """Whether a cell is what a spreadsheet makes of a text that looks like a number: 7, 7.0 or 7,0 of 007."""
    found = _NUMBER.fullmatch(cell.strip())
    if not found or not _NUMBER.fullmatch(text) or cell.strip() == text:
        return False
    return float(with_point(cell)) == float(with_point(text))
