"""The file that ``ccma-fast select --out`` writes: CSV, JSON, or the row numbers alone as ``.npy``."""

from __future__ import annotations

import argparse
import csv
import io
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..system.csv_text import write_csv
from ..system.file_integrity import open_regular

if TYPE_CHECKING:
    from ..query.report import Selection

__all__ = ["SUFFIXES", "as_bytes", "as_csv", "holds_picks_alone", "picks_path", "record_path"]

SUFFIXES = (".csv", ".json", ".npy")

# For pools without and with ids.
_COLUMNS = (["rank", "index", "score", "represents"], ["rank", "index", "image_path", "score", "represents"])


def picks_path(text: str) -> Path:
    """An argument type."""
    file = Path(text)
    if file.suffix.lower() not in SUFFIXES:
        raise argparse.ArgumentTypeError(f"must end in {', '.join(SUFFIXES)}, got {text!r}")
    return file


def record_path(out: Path) -> Path:
    """Where the record of the picks in a file goes."""
    return out.with_suffix(".selection.json")


def holds_picks_alone(file: Path) -> bool:
    """Whether a file is empty or holds picks and nothing else. False for ``.npy``: any integers may be row numbers."""
    suffix = file.suffix.lower()
    try:
        with io.TextIOWrapper(open_regular(file), encoding="utf-8") as handle:
            content = handle.read()
        if suffix == ".json" and content:
            found = json.loads(content)
            is_whole = isinstance(found, dict) and list(found) in ([*columns, "report"] for columns in _COLUMNS)
            return is_whole and _are_picks({name: cells for name, cells in found.items() if name != "report"})
        rows = list(csv.reader(io.StringIO(content, newline=""), strict=True)) if suffix == ".csv" else []
    except (ValueError, RecursionError, csv.Error):
        return False
    if not rows:
        return not content
    header, *cells = rows
    is_whole = header in _COLUMNS and all(len(row) == len(header) for row in cells)
    return is_whole and _are_picks({name: [row[i] for row in cells] for i, name in enumerate(header)})


def _are_picks(columns: dict[str, Any]) -> bool:
    """Whether the columns have the numbers that picks have, and ranks 1, 2, 3, …"""
    try:
        ranks = [int(cell) for cell in columns["rank"]]
        for cell in (*columns["index"], *columns["represents"]):
            int(cell)
        for cell in columns["score"]:
            float("nan" if cell is None else cell)
    except (TypeError, ValueError):
        return False
    return ranks == list(range(1, len(ranks) + 1))


def as_bytes(picks: Selection, suffix: str) -> bytes:
    """The content of a file with a suffix of :data:`SUFFIXES`."""
    if suffix == ".csv":
        return as_csv(picks).encode()
    if suffix == ".json":
        return _json(picks).encode()
    buffer = io.BytesIO()
    np.save(buffer, picks.indices)
    return buffer.getvalue()


def _columns(picks: Selection) -> dict[str, list[Any]]:
    columns = {
        "rank": list(range(1, len(picks) + 1)),
        "index": picks.indices.tolist(),
        "image_path": picks.ids,
        "score": picks.scores.tolist(),
        "represents": picks.represents.tolist(),
    }
    return {name: cells for name, cells in columns.items() if cells is not None}


def as_csv(picks: Selection) -> str:
    """A table with a header."""
    # str() of a float32 is the shortest text that reads back as the same float32.
    columns = {**_columns(picks), "score": list(map(str, picks.scores))}
    text = io.StringIO(newline="")
    write_csv(text, [tuple(columns), *zip(*columns.values(), strict=True)])
    return text.getvalue()


def _json(picks: Selection) -> str:
    whole = {**_columns(picks), "report": picks.report.to_dict()}
    # One line per key: indented JSON would have one line per number.
    lines = [f'  "{key}": {json.dumps(_finite(value), allow_nan=False)}' for key, value in whole.items()]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _finite(value: Any) -> Any:
    """`value` with None for NaN and infinities, which JSON does not have."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
