"""The record of a selection, ``selection.json``: all that tells where its picks come from."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import FileReadError
from ..system.bounded_read import read_whole
from ..system.json_text import as_json
from ..version import check_format
from .environment import environment
from .report import Selection

__all__ = ["FORMAT", "SavedSelection", "is_selection", "read_selection", "selection_record"]

FORMAT = 1

_KEYS = {
    "package": dict,
    "versions": dict,
    "threads": int,
    "written": str,
    "command": list,
    "parent": (str, type(None)),
    "report": dict,
    "class_names": (list, type(None)),
    "calibration": str,
    "inputs": dict,
    "picks": list,
}
_SETS = {"classes": list, "probabilities": list, "size": int}
_PICK_KEYS = {
    "rank": int,
    "row": int,
    "id": (str, type(None)),
    "digest": str,
    "score": (float, int, type(None)),
    "represents": int,
    "led_by": str,
    "student_set": (dict, type(None)),
    "teacher_set": (dict, type(None)),
    "shortlist": dict,
    "nearest": list,
    "nearest_ids": (list, type(None)),
}


def selection_record(picks: Selection, *, command: Sequence[str], parent: str | None = None) -> bytes:
    """The content of ``selection.json``.

    Parameters
    ----------
    picks : Selection
        With its explanation, see :func:`ccma_fast.select`.
    command : sequence of str
        What was called: the words of a command line, or ``["ccma_fast.select"]``.
    parent : str, optional
        SHA-256 of the record of the selection before; in a campaign the digest by which its log knows that.

    Returns
    -------
    bytes
        JSON, ASCII alone. ``report`` has version, seed, configuration, backend with its instruction set, and trust;
        ``inputs`` shapes and digests of what was asked about; ``picks`` an entry for each pick, as
        :class:`ccma_fast.query.explanation.PickOrigin`. NaN is null.

    Raises
    ------
    ValueError
        The picks have no explanation.
    """
    if picks.explanation is None:
        raise ValueError("a record needs picks with an explanation: expected those of select(..., explain=True)")
    return as_json(
        {
            "format": FORMAT,
            **environment(),
            "written": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "command": list(command),
            "parent": parent,
            "report": picks.report.to_dict(),
            **picks.explanation.to_dict(),
        }
    )


class SavedSelection(NamedTuple):
    """A record that was read."""

    content: dict[str, Any]
    sha256: str
    """Of the file: the `parent` of the selection after."""


def read_selection(path: str | os.PathLike[str]) -> SavedSelection:
    """Read what :func:`~ccma_fast.query.provenance.selection_record` made.

    Raises
    ------
    FileReadError
        No such file, or no record of a selection, or one of a newer version.
    """
    file = Path(path)
    try:
        text = read_whole(file)
        content = json.loads(text)
    except (OSError, ValueError, RecursionError) as error:
        raise FileReadError(f"cannot read {str(file)!r}: {error}") from error
    if not isinstance(content, dict) or not {"format", "picks"} <= content.keys():
        raise FileReadError(f"cannot read {str(file)!r}: it is not the record of a selection")
    package = content.get("package")
    check_format(str(file), content["format"], FORMAT, package.get("version") if isinstance(package, dict) else None)
    try:
        _check(content)
    except ValueError as error:
        raise FileReadError(f"cannot read {str(file)!r}: {error}") from None
    return SavedSelection(content, hashlib.sha256(text).hexdigest())


def is_selection(path: str | os.PathLike[str]) -> bool:
    """Whether a file is such a record."""
    try:
        read_selection(path)
    except FileReadError:
        return False
    return True


def _check(content: dict[str, Any]) -> None:
    """The record has what a record has."""
    _check_keys("the record", content, _KEYS)
    for k, pick in enumerate(content["picks"]):
        name = f"pick {k + 1}"
        _check_keys(name, pick, _PICK_KEYS)
        if pick["rank"] != k + 1 or pick["row"] < 0:
            raise ValueError(f"{name} must have that rank and a row, got rank {pick['rank']} and row {pick['row']}")
        for which in ("student_set", "teacher_set", "shortlist"):
            if pick[which] is not None:
                _check_keys(f"{which} of {name}", pick[which], _SETS)


def _check_keys(name: str, found: Any, wanted: dict[str, Any]) -> None:
    if not isinstance(found, dict):
        raise ValueError(f"{name} must be a mapping, got {found!r:.80}")
    for key, kind in wanted.items():
        if key not in found:
            raise ValueError(f"{name} has no {key!r}")
        if not isinstance(found[key], kind) or isinstance(found[key], bool):
            raise ValueError(f"{key!r} of {name} is of another type, got {found[key]!r:.80}")
