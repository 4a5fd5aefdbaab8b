"""The record of a run: what decides its results, and whether another run may go on with it."""

from __future__ import annotations

import hashlib
import json
import platform
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from . import _dispatch
from ._errors import FileReadError, newer_error
from ._identity import UNKNOWN, digest_of_array, identity, package_digest, qualified_name
from .config import CCMAConfig
from .pool import Rows
from .teacher import Teacher

if TYPE_CHECKING:
    from ._contenders import Contender
    from ._study import Study

__all__ = ["FORMAT", "check_code", "check_format", "code_of", "going_on", "run_record", "what_is_unknown"]

FORMAT = 2
"""Of ``run.json`` and all beside it. Records of format 1 lack the code of strategies and students."""

_OLDEST_KEYS = {"arguments", "contenders", "student", "data", "versions"}
_KEYS = {1: _OLDEST_KEYS, FORMAT: _OLDEST_KEYS | {"package", "arithmetic", "threads"}}

# What a run may be extended by; all else must be the same where it goes on.
_LISTS = ("strategies", "seeds")
_GROWING = (*_LISTS, "rounds")

# Characters of a value in a message.
_MOST_SHOWN = 200


def run_record(study: Study, seeds: Sequence[int], start: str) -> dict[str, Any]:
    """A run as plain values: all that decides its results, and the versions that did the arithmetic."""
    from importlib.metadata import version  # slow to import

    return {
        "format": FORMAT,
        "arguments": {
            "strategies": [contender.label for contender in study.contenders],
            "seeds": list(seeds),
            "rounds": study.rounds,
            "budget": study.budget,
            "n_start": study.n_start,
            "start": start,
            "n_classes": study.n_classes,
            "config": _of_config(study.base),
            "backend": study.backend_name,
        },
        "contenders": {contender.label: _of_contender(contender) for contender in study.contenders},
        "student": _of_student(study.student),
        "data": _of_data(study),
        **({"forced": list(study.forced)} if study.forced else {}),
        "package": {"version": version("ccma-fast"), "sha256": package_digest()},
        "arithmetic": study.backend.arithmetic(),
        "versions": {
            "numpy": np.__version__,
            "torch": version("torch"),
            "python": platform.python_version(),
            "machine": platform.machine(),
        },
        "threads": _dispatch.thread_count(),
    }


def check_format(content: dict[str, Any], file: Path) -> None:
    """A record can be read by this version.

    Raises
    ------
    FileReadError
        A newer version wrote it, or it is not one.
    """
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


def code_of(study: Study) -> dict[str, Any]:
    """Code and values of all that is not this package's, as :func:`run_record` has them."""
    return {
        "contenders": {contender.label: _code_of_contender(contender) for contender in study.contenders},
        "student": None if study.student is None else identity(study.student, seeded=True),
    }


def check_code(study: Study, code: dict[str, Any]) -> None:
    """A study in a worker process has the code of the process that sent it.

    A worker imports anew what the other has imported, and perhaps changed, before.

    Raises
    ------
    ValueError
        A file was changed since, or a value of a module.
    """
    for name, here, there in _differences("", code, code_of(study)):
        if UNKNOWN in here + there:
            continue
        raise ValueError(
            f"in a worker process {name} is {there}, but {here} where it was sent; expected modules that are as they "
            "were imported, or jobs=1"
        )


def what_is_unknown(record: dict[str, Any]) -> list[str]:
    """The parts of strategies, student and teacher that cannot be compared, with the reason of each."""
    parts = _leaves("", {key: record.get(key) for key in ("contenders", "student", "data")})
    return [f"{name} ({text.removeprefix(UNKNOWN)})" for name, text in parts if str(text).startswith(UNKNOWN)]


def going_on(folder: str, found: dict[str, Any], wanted: dict[str, Any]) -> dict[str, Any]:
    """The record of a run that goes on with more strategies, seeds or rounds than it had, or with the same.

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
        It is another run, one that has more, or one of which that is not known; the text says what differs.
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
    if unknown := what_is_unknown(wanted):
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
        differences = _differences("", found["versions"], wanted["versions"])
        changed = [f"{name} {given} instead of {here}" for name, here, given in differences]
        warnings.warn(
            f"the run in {folder!r} goes on with {', '.join(changed)}; the last bits of its results may differ from "
            "those of an undisturbed run",
            RuntimeWarning,
            stacklevel=4,
        )
        resumed.append(wanted["versions"])
    return {**record, "resumed_with": resumed} if resumed else record


def _differing(found: dict[str, Any], wanted: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """(name, value found, value wanted) of all in which a run is not the beginning of another."""
    before, after = found["arguments"], wanted["arguments"]
    for name in _GROWING:
        lost = set(before[name]) - set(after[name]) if name in _LISTS else before[name] > after[name]
        if lost:
            yield f"arguments.{name}", json.dumps(before[name]), json.dumps(after[name])
    for name, here, given in _differences("arguments", before, after):
        if name.removeprefix("arguments.") not in _GROWING:
            yield name, here, given
    for label, contender in found["contenders"].items():
        yield from _differences(f"contenders.{label}", contender, wanted["contenders"].get(label))
    for key in ("student", "data", "arithmetic"):
        yield from _differences(key, found[key], wanted[key])


def _differences(name: str, found: Any, wanted: Any) -> Iterator[tuple[str, str, str]]:
    """(name, value found, value wanted) of every leaf in which two records differ."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        for key in [*found, *(key for key in wanted if key not in found)]:
            inner = f"{name}.{key}" if name else key
            yield from _differences(inner, found.get(key), wanted.get(key))
    elif found != wanted:
        yield name, f"{json.dumps(found):.{_MOST_SHOWN}}", f"{json.dumps(wanted):.{_MOST_SHOWN}}"


def _leaves(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(f"{name}.{key}" if name else key, inner)
    else:
        yield name, value


def _of_contender(contender: Contender) -> dict[str, Any]:
    return {
        "strategy": qualified_name(contender.strategy),
        "start": contender.start,
        "config": _of_config(contender.config),
        "code": _code_of_contender(contender),
    }


def _code_of_contender(contender: Contender) -> dict[str, str]:
    return identity(contender.strategy, contender.first) | _of_derived(contender.config, CCMAConfig)


def _of_config(config: CCMAConfig) -> dict[str, Any]:
    return {constant.name: getattr(config, constant.name) for constant in fields(CCMAConfig)}


def _of_derived(thing: Any, known: type) -> dict[str, str]:
    """Code and values of an object whose class is derived from one of the package's."""
    return {} if type(thing) is known else identity(thing)


def _of_student(student: Any) -> dict[str, Any] | None:
    """Type, code and parameters of a student that was given, but for the random state, which the seed sets."""
    return None if student is None else {"type": qualified_name(type(student)), "code": identity(student, seeded=True)}


def _of_data(study: Study) -> dict[str, Any]:
    """Shape, type and SHA-256 of each input."""
    found: dict[str, Any] = {
        "features": _digest(study.pool),
        "labels": _digest(study.labels),
        "test_features": _digest(study.test),
        "test_labels": _digest(study.test_labels),
    }
    if study.class_names is not None:
        found["class_names"] = study.class_names
    teacher = study.teacher
    if teacher is not None:
        found["teacher"] = {
            **_digest(teacher.source),
            "temperature": teacher.temperature,
            "code": _of_derived(teacher, Teacher),
        }
        if teacher.class_directions is not None:
            found["teacher_classes"] = _digest(teacher.class_directions)
    return found


def _digest(values: Rows | npt.NDArray[Any]) -> dict[str, Any]:
    """Shape, storage type and SHA-256 of rows, read in chunks, or of an array."""
    if not isinstance(values, Rows):
        return {"shape": list(values.shape), "dtype": str(values.dtype), "sha256": digest_of_array(values)}
    digest, dtype = hashlib.sha256(), ""
    for _, chunk in values.chunks():
        dtype = str(chunk.dtype)
        digest.update(chunk.data)
    return {"shape": [values.n_rows, values.n_columns], "dtype": dtype, "sha256": digest.hexdigest()}
