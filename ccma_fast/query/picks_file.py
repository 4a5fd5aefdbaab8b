"""Files of picks: CSV, JSON, or the row numbers alone as ``.npy``; and whether a file holds picks and nothing else."""

from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ..pool.rows import RowId
from ..system.csv_text import write_csv
from ..system.file_integrity import open_regular

__all__ = ["SUFFIXES", "as_bytes", "as_csv", "columns_of", "holds_picks_alone"]

SUFFIXES = (".csv", ".json", ".npy")

# For pools without and with ids.
_COLUMNS = (["rank", "index", "score", "represents"], ["rank", "index", "image_path", "score", "represents"])


class _Report(Protocol):
    def to_dict(self) -> dict[str, Any]: ...


class _Picks(Protocol):
    """A selection, as far as its files go."""

    @property
    def indices(self) -> npt.NDArray[np.int64]: ...

    @property
    def ids(self) -> list[RowId] | None: ...

    @property
    def scores(self) -> npt.NDArray[np.float32]: ...

    @property
    def represents(self) -> npt.NDArray[np.int64]: ...

    @property
    def report(self) -> _Report: ...


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


def as_bytes(picks: _Picks, suffix: str) -> bytes:
    """The content of a file with a suffix of :data:`SUFFIXES`."""
    if suffix == ".csv":
        return as_csv(picks).encode()
    if suffix == ".json":
        return _json(picks).encode()
    buffer = io.BytesIO()
    np.save(buffer, picks.indices)
    return buffer.getvalue()


def columns_of(picks: _Picks) -> dict[str, Any]:
    """The columns of the picks by their names, in order; ``image_path`` where the pool has ids."""
    columns = {
        "rank": np.arange(1, picks.indices.size + 1),
        "index": picks.indices,
        "image_path": picks.ids,
        "score": picks.scores,
        "represents": picks.represents,
    }
    return {name: cells for name, cells in columns.items() if cells is not None}


def as_csv(picks: _Picks) -> str:
    """A table with a header."""
    # str() of a float32 is the shortest text that reads back as the same float32.
    columns = {**columns_of(picks), "score": list(map(str, picks.scores))}
    text = io.StringIO(newline="")
    write_csv(text, [tuple(columns), *zip(*columns.values(), strict=True)])
    return text.getvalue()


def _json(picks: _Picks) -> str:
    columns = {name: cells if isinstance(cells, list) else cells.tolist() for name, cells in columns_of(picks).items()}
    # One line per key: indented JSON would have one line per number.
    whole = {**columns, "report": picks.report.to_dict()}
    lines = [f'  "{key}": {json.dumps(_finite(value), allow_nan=False)}' for key, value in whole.items()]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _finite(value: Any) -> Any:
    """`value` with None for NaN and infinities, which JSON does not have."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
