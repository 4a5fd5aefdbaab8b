"""The finished rounds of a trial: what each measured, and the file that holds them.

The file has a line of JSON for each round, with a checksum of its own: damage costs the rounds from there on alone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import FileReadError
from ..system.bounded_read import read_whole

__all__ = ["METRICS", "SET_METRICS", "TEST_METRICS", "RoundRecord", "read_rounds", "rounds_as_bytes"]

TEST_METRICS = ("accuracy", "macro_auroc", "macro_f1")
"""Metrics on the test rows."""

SET_METRICS = (
    "student_set_size",
    "teacher_set_size",
    "overlap",
    "top1_disagreement",
    "student_coverage",
    "student_coverage_low",
    "student_coverage_high",
    "teacher_coverage",
    "teacher_coverage_low",
    "teacher_coverage_high",
    "q_student",
    "q_teacher",
)
"""Metrics of the prediction sets of the unlabelled rows."""

METRICS = (*TEST_METRICS, *SET_METRICS)
"""Metrics of a round, in the order of the table's columns."""


@dataclass(frozen=True)
class RoundRecord:
    """One finished round of a trial.

    Attributes
    ----------
    picks : list of int
        Rows that got their label at the beginning of this round, in the order of choice; in round 0 the first labels.
    metrics : dict
        A float64 for each of :data:`METRICS`; NaN where there is none.
    seconds : dict
        Wall time of each stage.
    """

    picks: list[int]
    metrics: dict[str, float]
    seconds: dict[str, float]


def rounds_as_bytes(label: str, seed: int, records: Sequence[RoundRecord]) -> bytes:
    """The content of a file of finished rounds."""
    return b"".join(_line(label, seed, r, record) for r, record in enumerate(records))


def read_rounds(file: Path, label: str, seed: int) -> tuple[list[RoundRecord], bool]:
    """The intact rounds at the beginning of a file, and whether they are all that it holds."""
    try:
        lines = read_whole(file).splitlines(keepends=True)
    except FileNotFoundError:
        return [], True
    except (OSError, ValueError) as error:
        raise FileReadError(f"cannot read {str(file)!r}: {error}") from error
    records: list[RoundRecord] = []
    for line in lines:
        record = _parsed(line, {"strategy": label, "seed": seed, "round": len(records)})
        if record is None:
            break
        records.append(record)
    return records, len(records) == len(lines)


def _line(label: str, seed: int, number: int, record: RoundRecord) -> bytes:
    content = {
        "strategy": label,
        "seed": seed,
        "round": number,
        "picks": record.picks,
        "metrics": {name: repr(value) for name, value in record.metrics.items()},
        "seconds": record.seconds,
    }
    return _with_checksum(content)


def _with_checksum(content: dict[str, Any]) -> bytes:
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    return json.dumps({**content, "sha256": digest}).encode() + b"\n"


def _parsed(line: bytes, expected: dict[str, Any]) -> RoundRecord | None:
    """The record in a line, None where it is not what was written for this round."""
    try:
        content = json.loads(line)
        del content["sha256"]
        if _with_checksum(content) != line or any(content[key] != value for key, value in expected.items()):
            return None
        metrics = {name: float(text) for name, text in content["metrics"].items()}
        return RoundRecord(content["picks"], metrics, content["seconds"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
