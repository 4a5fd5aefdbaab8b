"""Where each pick of a query comes from: who led it, what both models say of it, and what it stands for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..pool.rows import RowId, Rows, to_float32
from ..steps.student import softmax
from ..system import display

__all__ = ["MOST_LISTED", "ClassSet", "Explanation", "PickOrigin", "Predicted", "parts_of"]

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]

MOST_LISTED = 50
"""Classes of a set that are listed."""

# Posteriors of one model that are in memory at once.
_AT_ONCE = 1 << 22


class ClassSet(NamedTuple):
    """Classes of a row, the most probable first (ties: the lower), at most 50 of them."""

    classes: tuple[int, ...]
    probabilities: tuple[float, ...]
    """Posterior probability of each, in [0, 1]."""
    size: int
    """Number of classes in the whole set."""


@dataclass(frozen=True)
class PickOrigin:
    """Where one pick comes from.

    Attributes
    ----------
    rank : int
        Its place in the order of choice, from 1.
    row : int
        Its position in `features`.
    id : str or None
        Of its image; None where the pool has no ids, or none for this row.
    digest : str
        Of the values of the row as float32: 32 hexadecimal digits (BLAKE2b).
    score : float
        δ; NaN at a cold start.
    represents : int
        How many candidates it represents, itself included.
    led_by : str
        By whose criterion it was chosen: "student", "teacher", "both" (``acquisition="delta"`` with a teacher, whose δ
        is of both models), or "coverage" (of the pool, at a cold start).
    student_set, teacher_set : ClassSet or None
        The conformal sets, with the model's own posterior probabilities; None where no sets were formed, or where there
        is no such model.
    shortlist : ClassSet
        The union of both sets, the most probable by student and teacher combined first, with these probabilities. Where
        no sets were formed: the most probable classes up to a total probability of 0.95, which is not calibrated; of
        the teacher alone where no student was trained. Without any model it is empty.
    nearest : tuple of int
        The rows nearest to the pick among those that it represents, by their cosines, at most 10, the pick itself not
        among them. In a cluster of more than 32 rows they are looked for among the 32 nearest to its centroid.
    nearest_ids : tuple of (str or None), or None
        The ids of their images; None where the pool has no ids.
    """

    rank: int
    row: int
    id: RowId
    digest: str
    score: float
    represents: int
    led_by: str
    student_set: ClassSet | None
    teacher_set: ClassSet | None
    shortlist: ClassSet
    nearest: tuple[int, ...]
    nearest_ids: tuple[RowId, ...] | None

    def to_dict(self) -> dict[str, Any]:
        """The record as plain Python values, for JSON."""
        sets = ("student_set", "teacher_set", "shortlist")
        return asdict(self) | {
            name: None if (found := getattr(self, name)) is None else found._asdict() for name in sets
        }


class Predicted(NamedTuple):
    """The most probable class of rows."""

    classes: Int64
    """Shape (n,); ties: the lower."""
    probabilities: Float32
    """Of that class, shape (n,)."""


@dataclass(frozen=True, eq=False)
class Explanation:
    """Where the picks of a query come from.

    Attributes
    ----------
    picks : tuple of PickOrigin
        In the order of choice.
    has_ids : bool
        Whether the pool has ids.
    class_names : tuple of str, or None
        Names of the classes, in their order.
    calibration : str
        Of the sets: "coverage" or "target_size"; empty where no sets were formed.
    q_student, q_teacher : float
        Their thresholds, in units of the nonconformity score; the median of thresholds per row. NaN where there is no
        such set.
    inputs : dict
        What the query was asked about, see :func:`ccma_fast.query.input_digests.input_digests`.
    combined : Rows or None
        Logits of student and teacher combined, of every row of the pool, computed as they are read; of the only model
        where there is one. A student and a teacher whose weights no training chose, as ready-made logits, count alike.
        None where there is no model.
    """

    picks: tuple[PickOrigin, ...]
    has_ids: bool
    class_names: tuple[str, ...] | None
    calibration: str
    q_student: float
    q_teacher: float
    inputs: dict[str, Any]
    combined: Rows | None = field(repr=False)

    @property
    def ids(self) -> list[RowId] | None:
        """The ids of the picks; None where the pool has none."""
        return [pick.id for pick in self.picks] if self.has_ids else None

    def predict(self, rows: Int64) -> Predicted | None:
        """The most probable class of rows of the pool, by the models of the query; None where there is none."""
        if self.combined is None:
            return None
        predicted = Predicted(np.empty(rows.size, np.int64), np.empty(rows.size, np.float32))
        for part in parts_of(rows.size, self.combined.n_columns):
            p = softmax(to_float32(self.combined.take(rows[part])))
            predicted.classes[part], predicted.probabilities[part] = p.argmax(axis=1), p.max(axis=1)
        return predicted

    def to_dict(self) -> dict[str, Any]:
        """The explanation as plain Python values, for JSON; without the logits."""
        return {
            "class_names": None if self.class_names is None else list(self.class_names),
            "calibration": self.calibration,
            "q_student": self.q_student,
            "q_teacher": self.q_teacher,
            "inputs": self.inputs,
            "picks": [pick.to_dict() for pick in self.picks],
        }

    def named(self, found: ClassSet | None, shown: int = 3) -> str:
        """A set of classes as text: the most probable ones by name, with their probabilities."""
        if found is None:
            return "–"

        def text(entry: tuple[int, float]) -> str:
            c, p = entry
            share = f"{100 * p:.0f} %" if p >= 0.005 else "<1 %"
            return f"{c if self.class_names is None else self.class_names[c]} {share}"

        listed = zip(found.classes, found.probabilities, strict=True)
        return display.few(listed, found.size, shown=shown, of=text)

    def __repr__(self) -> str:
        sets = f"sets by {self.calibration}" if self.calibration else "no sets"
        return display.line("Explanation", f"{len(self.picks):,} picks", sets)

    def _repr_html_(self) -> str:
        return display.notebook_html(f"Explanation: where {len(self.picks):,} picks come from", *self.html_parts())

    def html_parts(self) -> list[str]:
        """What a notebook shows below the title."""
        header = ["rank", "index", *(["image_path"] if self.has_ids else []), "score", "led by", "probably"]
        header += ["student's set", "teacher's set", "stands for"]
        rows = (
            (
                *(pick.rank, pick.row, *([pick.id] if self.has_ids else []), pick.score, pick.led_by),
                *map(self.named, (pick.shortlist, pick.student_set, pick.teacher_set)),
                pick.represents,
            )
            for pick in self.picks
        )
        sets = {"sets by": self.calibration, "q student": self.q_student, "q teacher": self.q_teacher}
        known = {name: value for name, value in sets.items() if value and value == value}
        return [display.table(header, rows, len(self.picks)), display.facts(known)]


def parts_of(n_rows: int, n_classes: int) -> Iterator[slice]:
    """Rows whose posteriors are in memory at once."""
    step = max(1, _AT_ONCE // max(1, n_classes))
    for start in range(0, n_rows, step):
        yield slice(start, min(start + step, n_rows))
