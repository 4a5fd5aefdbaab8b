"""Records as JSON, which every parser reads."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

__all__ = ["as_json", "finite"]


def as_json(content: Mapping[str, Any]) -> bytes:
    """A record as it stands in a file: ASCII, with what is not ASCII escaped, lone surrogates too.

    A line for each entry of a mapping, and for each mapping in a list of them, but one line for other lists: columns
    have thousands of entries. NaN becomes null and the infinities the texts "inf" and "-inf", which JSON does not have.
    """
    return f"{_text(content, 0)}\n".encode()


def _text(value: Any, depth: int) -> str:
    indent = "  " * depth
    if isinstance(value, Mapping) and value:
        entries = [f"{indent}  {json.dumps(key)}: {_text(item, depth + 1)}" for key, item in value.items()]
        return "{\n" + ",\n".join(entries) + f"\n{indent}}}"
    if isinstance(value, (list, tuple)) and value and all(isinstance(item, Mapping) for item in value):
        lines = [f"{indent}  {json.dumps(finite(item), allow_nan=False)}" for item in value]
        return "[\n" + ",\n".join(lines) + f"\n{indent}]"
    return json.dumps(finite(value), allow_nan=False)


def finite(value: Any) -> Any:
    """A value for JSON, which has neither NaN (null here) nor infinities (texts here)."""
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    return value
