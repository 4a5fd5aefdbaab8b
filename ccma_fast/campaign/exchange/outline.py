"""What a file is at first sight, by which its format is found out."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any, Literal, NamedTuple

from ...errors import FileReadError
from .outside_files import first_bytes, is_json, is_zip, member_names, opened_zip, read_json, read_text

__all__ = ["Outline", "outline_of"]

Kind = Literal["csv", "json", "xml", "zip", "folder"]


class Outline(NamedTuple):
    """A file at first sight."""

    kind: Kind
    names: frozenset[str]
    """Columns of CSV, keys of a JSON object or of the first one in a list, files in an archive or a folder."""


def outline_of(file: Path) -> Outline:
    """What a file or a folder is at first sight.

    Raises
    ------
    FileReadError
        No such file, or none of text.
    """
    if file.is_dir():
        return Outline("folder", frozenset(entry.name for entry in file.iterdir()))
    if is_zip(file):
        with opened_zip(file) as archive:
            return Outline("zip", frozenset(member_names(archive)))
    if is_json(file):
        return Outline("json", _keys(read_json(file)))
    if first_bytes(file).removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"<"):
        return Outline("xml", frozenset())
    text = read_text(file)
    try:
        return Outline("csv", frozenset(next(csv.reader(io.StringIO(text, newline="")), [])))
    except csv.Error as error:
        raise FileReadError(f"cannot read {str(file)!r} as CSV: {error}") from error


def _keys(content: Any) -> frozenset[str]:
    if isinstance(content, list):
        content = content[0] if content else {}
    return frozenset(content) if isinstance(content, dict) else frozenset()
