"""The file in which a labelling page exports answers, and its reader."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Collection
from datetime import datetime
from pathlib import Path
from typing import Any

from ...errors import FileReadError
from ...system.bounded_read import read_whole
from ...version import newer_error
from .answer import Answer
from .imported import Imported
from .outline import Outline

__all__ = ["FORMAT", "ORDERS", "read", "read_page_export", "recognises"]

_NAME, _NEWEST = "ccma_fast page answers", 1

FORMAT = f"{_NAME} {_NEWEST}"
"""What a file of answers begins with."""

ORDERS = ("likeliest", "shuffled", "listed")
"""How the classes beside an image can be ordered."""

_EXPECTED: dict[Any, str] = {str: "text", list: "a list", bool: "true or false"}

_CAMPAIGN = re.compile(r"[0-9a-f]{32}")


def recognises(outline: Outline) -> bool:
    """Whether a file is of this format."""
    return outline.kind == "json" and {"format", "campaign", "answers", "saw"} <= outline.names


def read(file: Path, *, images: str = "", ids: Collection[str] = ()) -> Imported:
    """Read the answers that a person exported from a labelling page.

    Parameters
    ----------
    file : Path
    images : str, optional
        Not used.
    ids : collection of str, optional
        Not used.

    Returns
    -------
    Imported

    Raises
    ------
    FileReadError
        As :func:`read_page_export`.
    """
    campaign, answers = read_page_export(file)
    return Imported(answers, campaigns=frozenset({campaign}))


def read_page_export(path: str | os.PathLike[str]) -> tuple[str, list[Answer]]:
    """Read the answers that a person exported from a labelling page.

    The file has an answer for each answered image, the last one. An answer that was changed before it was ever exported
    is not in it: it was a slip. One that was changed after an export has another key and a later time than in the
    earlier file; what did not change has the same key in every export.

    Parameters
    ----------
    path : path

    Returns
    -------
    campaign : str
        The campaign that the answers are for, 32 hexadecimal digits. Whether it is the right one is for the caller to
        check.
    answers : list of Answer
        In the order of the assignment.

    Raises
    ------
    FileReadError
        No such file, a damaged one, no such export, or one of a newer version.
    """
    file = os.fspath(path)
    try:
        content = json.loads(read_whole(path))
        if not isinstance(content, dict):
            raise ValueError(f"expected an object, got {type(content).__name__}")
        name = _get(content, "format", str)
        known = re.fullmatch(rf"{re.escape(_NAME)} ([1-9]\d{{0,8}})", name)
        if known is None:
            raise ValueError(f"expected the format '{FORMAT}', got {name!r:.80}")
        if int(known[1]) <= _NEWEST:
            return _answers(content)
    except FileNotFoundError:
        raise FileReadError(f"no file {file!r}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise FileReadError(f"cannot read {file!r} as the answers of a page: {error}") from error
    raise newer_error(file, f"format {known[1]}", version=content.get("version"))


def _answers(content: dict[str, Any]) -> tuple[str, list[Answer]]:
    campaign = _get(content, "campaign", str)
    if not _CAMPAIGN.fullmatch(campaign):
        raise ValueError(f"campaign must be 32 hexadecimal digits, got {campaign!r:.80}")
    annotator, saw = _get(content, "annotator", str), _get(content, "saw", str)
    entries = _get(content, "answers", list)
    answers = [_numbered_answer(number, entry, annotator, saw) for number, entry in enumerate(entries)]
    for what, values in (("key", [a.key for a in answers]), ("image", [a.image for a in answers])):
        if len({*values}) < len(values):
            twice = next(value for i, value in enumerate(values) if value in values[:i])
            raise ValueError(f"each {what} must stand there once, got {twice!r} again")
    return campaign, answers


def _numbered_answer(number: int, entry: Any, annotator: str, saw: str) -> Answer:
    try:
        return _answer(entry, annotator, saw)
    except ValueError as error:
        raise ValueError(f"answer {number}: {error}") from error


def _answer(entry: Any, annotator: str, saw: str) -> Answer:
    if not isinstance(entry, dict):
        raise ValueError(f"expected an object, got {type(entry).__name__}")
    texts = {name: _get(entry, name, str) for name in ("image", "key", "time", "order", "note")}
    for name in ("image", "key"):
        if not texts[name]:
            raise ValueError(f"{name} must not be empty")
    if texts["order"] not in ORDERS:
        raise ValueError(f"order must be one of {', '.join(ORDERS)}, got {texts['order']!r:.80}")
    shown = _get(entry, "shown", list)
    if not all(isinstance(name, str) for name in shown):
        raise ValueError(f"shown must be names of classes, got {shown!r:.80}")
    seconds = _get(entry, "seconds", (int, float))
    if not (math.isfinite(seconds) and seconds >= 0):
        raise ValueError(f"seconds must be finite and at least 0, got {seconds}")
    said = {name: _get(entry, name, str) for name in ("label", "refusal") if entry.get(name) is not None}
    for name, text in said.items():
        if not text.strip():
            raise ValueError(f"{name} must not be empty")
    return Answer(
        image=texts["image"],
        label=said.get("label"),
        refusal=said.get("refusal"),
        annotator=annotator,
        answered=datetime.fromisoformat(texts["time"]),
        key=texts["key"],
        seconds=float(seconds),
        shown=tuple(shown),
        order=texts["order"],
        probabilities=_get(entry, "probabilities", bool),
        saw=saw,
        note=texts["note"],
    )


def _get(mapping: dict[str, Any], name: str, kind: type | tuple[type, ...]) -> Any:
    """A field of a JSON object that must be there and of a type."""
    if name not in mapping:
        raise ValueError(f"it has no field {name!r}")
    value = mapping[name]
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        expected = _EXPECTED.get(kind, "a number")
        raise ValueError(f"{name} must be {expected}, got {type(value).__name__}")
    return value
