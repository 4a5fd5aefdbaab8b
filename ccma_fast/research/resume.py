"""Whether a run may be resumed: what may differ between its record and that of the call which resumes it."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from typing import Any

from .record import FORMAT, UNKNOWN

__all__ = ["differences", "resumed", "unknown_parts"]

# What a run may be extended by; all else must be the same where it is resumed.
_LISTS = ("strategies", "seeds")
_GROWING = (*_LISTS, "rounds")

# Characters of a value in a message.
_MOST_SHOWN = 200


def unknown_parts(record: dict[str, Any]) -> list[str]:
    """The parts of the strategies, student and teacher that cannot be compared, with the reason of each."""
    parts = _leaves("", {key: record.get(key) for key in ("contenders", "student", "data")})
    return [f"{name} ({text.removeprefix(UNKNOWN)})" for name, text in parts if str(text).startswith(UNKNOWN)]


def resumed(folder: str, found: dict[str, Any], wanted: dict[str, Any]) -> dict[str, Any]:
    """The record of a run that is resumed, with the same strategies, seeds and rounds or with more.

    Versions need not agree: where they differ from those that began the run, the last bits of its table may do so too,
    which a RuntimeWarning says and the record keeps under ``resumed_with``.

    Parameters
    ----------
    folder : str
        Where the run is.
    found, wanted : dict
        Its record, and that of what is to be run.

    Raises
    ------
    ValueError
        The run in the folder is another one, has more, or cannot be compared; the text says what differs.
    """
    if found["format"] < FORMAT:
        raise ValueError(
            f"{folder!r} holds a run of an earlier version of ccma_fast ({found['versions'].get('ccma-fast')}), which "
            "did not write down the code that decided its results; it can be reported, but not gone on with: expected "
            "another folder"
        )
    if found["package"] != wanted["package"]:
        here, now = found["package"], wanted["package"]
        how = f"version {here['version']}" if here["version"] != now["version"] else "other sources"
        raise ValueError(
            f"{folder!r} holds a run by {how} of ccma_fast, this is {now['version']}: results may differ; expected the "
            "same to go on with it, or another folder"
        )
    if unknown := unknown_parts(wanted):
        raise ValueError(
            f"{folder!r} holds a run, and nobody knows whether it is this one: {', '.join(unknown)} cannot be "
            "compared; expected another folder"
        )
    for name, here, given in _differing(found, wanted):
        raise ValueError(
            f"{folder!r} holds another run: its {name} is {here}, got {given}; expected the same arguments, code and "
            "data to go on with it (more strategies, seeds or rounds are welcome), or another folder"
        )
    record = {**wanted, "versions": found["versions"], "threads": found["threads"]}
    resumed = list(found.get("resumed_with", []))
    if wanted["versions"] not in [found["versions"], *resumed]:
        changed = [
            f"{name} {given} instead of {here}"
            for name, here, given in differences("", found["versions"], wanted["versions"])
        ]
        warnings.warn(
            f"the run in {folder!r} goes on with {', '.join(changed)}; the last bits of its results may differ from "
            "those of an undisturbed run",
            RuntimeWarning,
            stacklevel=4,
        )
        resumed.append(wanted["versions"])
    return {**record, "resumed_with": resumed} if resumed else record


def _differing(found: dict[str, Any], wanted: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """(name, value found, value wanted) of all that forbids to resume one run by another."""
    before, after = found["arguments"], wanted["arguments"]
    for name in _GROWING:
        lost = set(before[name]) - set(after[name]) if name in _LISTS else before[name] > after[name]
        if lost:
            yield f"arguments.{name}", json.dumps(before[name]), json.dumps(after[name])
    for name, here, given in differences("arguments", before, after):
        if name.removeprefix("arguments.") not in _GROWING:
            yield name, here, given
    for label, contender in found["contenders"].items():
        yield from differences(f"contenders.{label}", contender, wanted["contenders"].get(label))
    for key in ("student", "data", "arithmetic"):
        yield from differences(key, found[key], wanted[key])


def differences(name: str, found: Any, wanted: Any) -> Iterator[tuple[str, str, str]]:
    """(name, value found, value wanted) of every leaf in which two records differ."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        for key in [*found, *(key for key in wanted if key not in found)]:
            inner = f"{name}.{key}" if name else key
            yield from differences(inner, found.get(key), wanted.get(key))
    elif found != wanted:
        yield name, f"{json.dumps(found):.{_MOST_SHOWN}}", f"{json.dumps(wanted):.{_MOST_SHOWN}}"


def _leaves(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(f"{name}.{key}" if name else key, inner)
    else:
        yield name, value
