"""The record of a run: its format, and the JSON file that holds it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..errors import FileReadError
from ..system.bounded_read import read_whole
from ..version import check_format

__all__ = ["FORMAT", "UNKNOWN", "read_record"]

FORMAT = 2
"""Version of ``run.json`` and the files beside it. Records of format 1 lack the code of strategies and students."""

UNKNOWN = "unknown: "
"""Prefix of the text of a part that cannot be compared; the rest says why."""

_OLDEST_KEYS = {"arguments", "contenders", "student", "data", "versions"}

_KEYS = {1: _OLDEST_KEYS, FORMAT: _OLDEST_KEYS | {"package", "arithmetic", "threads"}}


def read_record(file: Path) -> dict[str, Any]:
    """The record in ``run.json`` or ``results.json``.

    Raises
    ------
    FileReadError
        It is not there or damaged, a newer version wrote it, or it is no record of a run.
    """
    try:
        content = json.loads(read_whole(file))
    except FileNotFoundError:
        raise FileReadError(f"no run in {str(file.parent)!r}: there is no file {str(file)!r}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise FileReadError(f"cannot read {str(file)!r}: {error}") from error
    if not isinstance(content, dict) or "format" not in content:
        raise FileReadError(f"cannot read {str(file)!r}: it is not the record of a run")
    _check_format(content, file)
    return content


def _check_format(content: dict[str, Any], file: Path) -> None:
    """A record can be read by this version."""
    package = content.get("package")
    written_by = package.get("version") if isinstance(package, dict) else None
    found = check_format(str(file), content["format"], FORMAT, written_by)
    missing = _KEYS[found] - content.keys()
    if missing:
        raise FileReadError(f"cannot read {str(file)!r}: it is not the record of a run, without {min(missing)!r}")
