"""What a campaign keeps of a query: where each pick came from, and what the models said of a fixed part of the pool."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..pool.row_digests import row_digests
from ..pool.rows import Rows
from ..query.explanation import ClassSet, Explanation, PickOrigin
from ..query.report import Selection
from ..system.json_text import finite
from .audit import drawn_rows
from .log.class_list import ClassList
from .log.database import Records

__all__ = ["NamedSet", "PickRecord", "QueryRecord", "records_of"]

# Rows of which every query tells the predicted class: of so many a share has a standard error of at most 0.011.
_STOP_SET = 2048


@dataclass(frozen=True)
class NamedSet:
    """Classes of an image.

    Attributes
    ----------
    labels : tuple of int
        Numbers of the events that added them, whatever they are called; the most probable first.
    probabilities : tuple of float
    size : int
        Classes in the whole set, of which many are not all listed.
    """

    labels: tuple[int, ...]
    probabilities: tuple[float, ...]
    size: int

    @classmethod
    def of(cls, found: ClassSet, labels: Sequence[int]) -> NamedSet:
        return cls(tuple(labels[c] for c in found.classes), found.probabilities, found.size)

    def now(self, classes: ClassList) -> tuple[tuple[str, float], ...]:
        """The classes as they are called now, with their probabilities; merged ones count together."""
        found: dict[str, float] = {}
        for label, probability in zip(self.labels, self.probabilities, strict=True):
            called = classes.find_name(label)
            if called is not None:
                found[called] = min(1.0, found.get(called, 0.0) + probability)
        return tuple(sorted(found.items(), key=lambda pair: -pair[1]))


@dataclass(frozen=True)
class PickRecord:
    """Where a pick came from, see :class:`ccma_fast.query.explanation.PickOrigin`."""

    score: float
    represents: int
    led_by: str
    student_set: NamedSet | None
    teacher_set: NamedSet | None
    shortlist: NamedSet
    nearest: tuple[str, ...]
    """Ids of the images that it stands for, the nearest first."""

    @classmethod
    def of(cls, pick: PickOrigin, labels: Sequence[int]) -> PickRecord:
        student, teacher = (
            None if found is None else NamedSet.of(found, labels) for found in (pick.student_set, pick.teacher_set)
        )
        ids = pick.nearest if pick.nearest_ids is None else pick.nearest_ids
        shortlist = NamedSet.of(pick.shortlist, labels)
        return cls(pick.score, pick.represents, pick.led_by, student, teacher, shortlist, tuple(map(str, ids)))

    @property
    def said(self) -> tuple[str | None, str | None, int | None]:
        """What :attr:`QueryRecord.said` has of it."""
        sets = (self.student_set, self.teacher_set)
        student, teacher = (None if found is None else f",{','.join(map(str, found.labels))}," for found in sets)
        return student, teacher, next(iter(self.shortlist.labels), None)

    def to_json(self) -> str:
        score = None if math.isnan(self.score) else self.score
        sets = (self.student_set, self.teacher_set, self.shortlist)
        listed = [None if found is None else [found.labels, found.probabilities, found.size] for found in sets]
        return json.dumps([score, self.represents, self.led_by, *listed, self.nearest], separators=(",", ":"))

    @classmethod
    def of_json(cls, text: str) -> PickRecord:
        score, represents, led_by, *sets, nearest = json.loads(text)
        student, teacher, shortlist = (
            None if found is None else NamedSet(tuple(found[0]), tuple(found[1]), found[2]) for found in sets
        )
        assert shortlist is not None, "every pick has a shortlist, which may be empty"
        score = math.nan if score is None else score
        return cls(score, represents, led_by, student, teacher, shortlist, tuple(nearest))


@dataclass(frozen=True)
class QueryRecord:
    """What a query says of itself.

    Attributes
    ----------
    about : dict
        Its report, and what it was asked about.
    stop_set : str
        Digest of the rows of the stop set and of what they hold; empty where there was no model.
    predicted : tuple of int
        The most probable class of each of them.
    said : list
        Of each pick the classes in the student's set and in the teacher's, None where there was none, and the likeliest
        class by both together: what is compared with the labels, without what else is known of the picks. A set is a
        text such as ",3,17,", of which a hundred thousand are read in a fraction of a second.
    """

    about: dict[str, Any]
    stop_set: str
    predicted: tuple[int, ...]
    said: list[tuple[str | None, str | None, int | None]]

    def to_json(self) -> str:
        content = [finite(self.about), self.stop_set, self.predicted, self.said]
        return json.dumps(content, separators=(",", ":"), allow_nan=False)

    @property
    def n_labelled(self) -> int:
        """Labels that the models were trained on."""
        return int(self.about["report"]["n_labelled"])

    @classmethod
    def of_json(cls, text: str) -> QueryRecord:
        about, stop_set, predicted, said = json.loads(text)
        return cls(about, stop_set, tuple(predicted), said)


def records_of(selection: Selection, pool: Rows, n_rows: int, labels: Sequence[int]) -> Records:
    """What a campaign keeps of a query.

    Parameters
    ----------
    selection : Selection
        With an explanation.
    pool : Rows
    n_rows : int
        Rows that the pool had when the campaign began, of which the stop set is drawn.
    labels : sequence of int
        Numbers of the events that added the classes, in the order of the classes.
    """
    told = selection.explanation
    assert told is not None, "a campaign asks for explanations"
    picks = [PickRecord.of(pick, labels) for pick in told.picks]
    about = {
        "report": selection.report.to_dict(),
        "inputs": told.inputs,
        "calibration": told.calibration,
        "q_student": told.q_student,
        "q_teacher": told.q_teacher,
    }
    of_query = QueryRecord(about, *_predicted(told, pool, n_rows, labels), [pick.said for pick in picks])
    return Records(of_query.to_json(), [pick.to_json() for pick in picks])


def _predicted(told: Explanation, pool: Rows, n_rows: int, labels: Sequence[int]) -> tuple[str, tuple[int, ...]]:
    """The stop set and what is predicted of it, as :class:`QueryRecord` has them."""
    every = np.arange(min(n_rows, pool.n_rows))
    rows = np.sort(drawn_rows(every, min(_STOP_SET, every.size), 0))
    predicted = told.predict(rows)
    if predicted is None:
        return "", ()
    digest = hashlib.blake2b(rows.astype("<i8").tobytes() + row_digests(pool, rows).tobytes(), digest_size=16)
    return digest.hexdigest(), tuple(labels[c] for c in predicted.classes.tolist())
