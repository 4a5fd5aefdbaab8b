"""What a file is at first sight, by which its format is found out."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, NamedTuple

from ...errors import FileReadError
from ...pool.id_columns import plain_header
from ...system.csv_text import read_csv
from .outside_files import first_bytes, is_json, is_zip, member_names, opened_zip, read_bytes, read_json

__all__ = ["Outline", "outline_of"]

Kind = Literal["csv", "json", "xml", "zip", "folder"]


class Outline(NamedTuple):
    """A file at first sight."""

    kind: Kind
    names: frozenset[str]
    """Columns of CSV as :func:`ccma_fast.pool.id_columns.plain_header` spells them, keys of a JSON object or of the
    first one in a list, files in an archive or a folder.
    """


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
    try:
        rows = read_csv(read_bytes(file, "CSV")).rows
    except FileReadError:
        raise
    except ValueError as error:
        raise FileReadError(f"cannot read {str(file)!r} as CSV: {error}") from error
    return Outline("csv", frozenset(map(plain_header, rows[0] if rows else ())))


def _keys(content: Any) -> frozenset[str]:
    if isinstance(content, list):
        content = content[0] if content else {}
    return frozenset(content) if isinstance(content, dict) else frozenset()
