"""The provenance of a run: a record of all that decides its results, to compare other runs with."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy.typing as npt

from ..config import CCMAConfig
from ..pool.rows import Rows
from ..query.environment import environment
from ..steps.teacher import Teacher
from ..system.qualified_names import qualified_name
from .identity import digest_of_array, identity
from .record import FORMAT, UNKNOWN
from .resume import differences
from .study import Contender, Study

__all__ = ["check_code", "code_of", "run_record"]


def run_record(study: Study, seeds: Sequence[int], start: str) -> dict[str, Any]:
    """A run as plain values: all that decides its results, and the versions that did the arithmetic."""
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
            "config": study.base.to_dict(),
            "backend": study.backend_name,
        },
        "contenders": {contender.label: _of_contender(contender) for contender in study.contenders},
        "student": _of_student(study.student),
        "data": _of_data(study),
        **({"forced": list(study.forced)} if study.forced else {}),
        "arithmetic": study.backend.arithmetic(),
        **environment(),
    }


def code_of(study: Study) -> dict[str, Any]:
    """Code and values of strategies and student that are not this package's, as :func:`run_record` has them."""
    return {
        "contenders": {contender.label: _code_of_contender(contender) for contender in study.contenders},
        "student": None if study.student is None else identity(study.student, seeded=True),
    }


def check_code(study: Study, code: dict[str, Any]) -> None:
    """Check that a worker process has the code of the process that sent the study.

    A worker imports anew what the other process imported, and perhaps changed, before.

    Raises
    ------
    ValueError
        A file was changed since, or a value of a module.
    """
    for name, here, there in differences("", code, code_of(study)):
        if UNKNOWN in here + there:
            continue
        raise ValueError(
            f"in a worker process {name} is {there}, but {here} where it was sent; expected modules that are as they "
            "were imported, or jobs=1"
        )


def _of_contender(contender: Contender) -> dict[str, Any]:
    return {
        "strategy": qualified_name(contender.strategy),
        "start": contender.start,
        "config": contender.config.to_dict(),
        "code": _code_of_contender(contender),
    }


def _code_of_contender(contender: Contender) -> dict[str, str]:
    return identity(contender.strategy, contender.first) | _of_derived(contender.config, CCMAConfig)


def _of_derived(thing: Any, known: type) -> dict[str, str]:
    """Code and values of an object that is not of the package's own class."""
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
