"""The record of a run: its format, and the JSON file that holds it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import FileReadError
from ..system.bounded_read import read_whole
from ..version import newer_error

__all__ = ["FORMAT", "UNKNOWN", "as_json", "read_record"]

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


def as_json(content: Mapping[str, Any]) -> bytes:
    """A record, or one with the table of its results, as it stands in a file."""
    return f"{_text(content, 0)}\n".encode()


def _check_format(content: dict[str, Any], file: Path) -> None:
    """A record can be read by this version."""
    found = content.get("format")
    if isinstance(found, bool) or not isinstance(found, int) or found < 1:
        raise FileReadError(f"cannot read {str(file)!r}: its format must be a number from 1 to {FORMAT}, got {found!r}")
    if found > FORMAT:
        package = content.get("package")
        written_by = package.get("version") if isinstance(package, dict) else None
        raise newer_error(str(file), f"format {found}", version=written_by)
    missing = _KEYS[found] - content.keys()
    if missing:
        raise FileReadError(f"cannot read {str(file)!r}: it is not the record of a run, without {min(missing)!r}")


def _text(value: Any, depth: int) -> str:
    """JSON with a line for each entry of a mapping, but one line for a list: columns have thousands of entries.

    NaN becomes null and the infinities the texts "inf" and "-inf", which JSON does not have.
    """
    if isinstance(value, Mapping) and value:
        indent = "  " * depth
        entries = [f"{indent}  {json.dumps(key)}: {_text(item, depth + 1)}" for key, item in value.items()]
        return "{\n" + ",\n".join(entries) + f"\n{indent}}}"
    return json.dumps(_finite(value), allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    return value
