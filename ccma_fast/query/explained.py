"""The explanation of the picks of a query, by the models and the thresholds that it had."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..pool.arrays import ArrayRows
from ..pool.derived import RowSubset
from ..pool.row_digests import row_digests
from ..pool.rows import Rows, to_float32
from ..steps.combination import Combination, CombinedRows
from ..steps.cuts import Cuts
from ..steps.nonconformity import configured_rule
from ..steps.student import softmax
from ..steps.thresholds import row_thresholds
from .explanation import MOST_LISTED, ClassSet, Explanation, PickOrigin, parts_of
from .input_digests import input_digests
from .inputs import Inputs
from .picks import Picks
from .represented import numbers_of
from .settings import RowNumbers
from .thresholds import NO_CUTS

__all__ = ["Evidence", "Models", "explained"]

Bool = npt.NDArray[np.bool_]
Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]

# Without sets a shortlist holds the most probable classes up to this total probability.
_SHORTLIST_MASS = 0.95

_NO_CLASSES = ClassSet((), (), 0)


class Models(NamedTuple):
    """Logits of every row of the pool by each model that there is, computed as they are read."""

    student: Rows | None = None
    teacher: Rows | None = None
    combination: Combination | None = None
    """None where no training has weighed student and teacher: they count alike."""

    @property
    def combined(self) -> Rows | None:
        """Logits of both combined, or of the only one."""
        if self.student is None or self.teacher is None:
            return self.teacher if self.student is None else self.student
        return CombinedRows(self.weights, self.student, self.teacher)

    @property
    def weights(self) -> Combination:
        """How both are combined."""
        return Combination(share=0.5) if self.combination is None else self.combination


class Evidence(NamedTuple):
    """What the explanation of picks is made of, beside the picks."""

    models: Models = Models()
    cuts: Cuts = NO_CUTS
    """The thresholds on which the picks depend."""
    of_sample: Cuts = NO_CUTS
    """Those of a sample, where the picks depend on none."""


def explained(inputs: Inputs, scored: RowNumbers, picks: Picks, evidence: Evidence) -> Explanation:
    """The explanation of the picks.

    Parameters
    ----------
    inputs : Inputs
    scored : AllBut or ndarray, shape (M,)
        The rows among which the positions of the picks are counted.
    picks : Picks
    evidence : Evidence
    """
    models, cuts = evidence.models, _cuts_of_picks(inputs, scored, picks, evidence)
    pool, rows, nearest = inputs.pool, scored[picks.positions], numbers_of(picks.nearest, scored)
    ids = pool.ids_at(np.concatenate([rows, nearest[nearest >= 0]]))
    n, digests = rows.size, row_digests(pool, rows)
    behind = iter((ids or [])[n:])
    found = []
    for k, (student, teacher, shortlist) in enumerate(_sets(inputs, rows, models, cuts)):
        listed = tuple(nearest[k][nearest[k] >= 0].tolist())
        found.append(
            PickOrigin(
                rank=k + 1,
                row=int(rows[k]),
                id=None if ids is None else ids[k],
                digest=digests[k].tobytes().hex(),
                score=float(picks.scores[k]),
                represents=int(picks.represents[k]),
                led_by=str(picks.leaders[k]),
                student_set=student,
                teacher_set=teacher,
                shortlist=shortlist,
                nearest=listed,
                nearest_ids=None if ids is None else tuple(next(behind) for _ in listed),
            )
        )
    return Explanation(
        tuple(found),
        has_ids=ids is not None,
        class_names=None if inputs.class_names is None else tuple(inputs.class_names),
        calibration="" if cuts is None else inputs.settings.config.calibration,
        q_student=math.nan if cuts is None else cuts.q_student,
        q_teacher=math.nan if cuts is None else cuts.q_teacher,
        inputs=input_digests(inputs),
        combined=models.combined,
    )


class _Said(NamedTuple):
    """What one model says of some rows."""

    logits: Float32
    posteriors: Float32
    sets: Bool | None

    def set_of(self, k: int) -> ClassSet | None:
        """The set of one of the rows."""
        return None if self.sets is None else _listed(self.posteriors[k], np.flatnonzero(self.sets[k]))


def _cuts_of_picks(inputs: Inputs, scored: RowNumbers, picks: Picks, evidence: Evidence) -> Cuts | None:
    """The thresholds of the picks' sets, one for all or one for each; None where no sets are formed."""
    (student, teacher, _), cuts, found = evidence
    if cuts is not NO_CUTS:
        of_student, of_teacher = cuts.of_rows(picks.positions)
        return cuts._replace(student=of_student, teacher=of_teacher)
    if found is NO_CUTS:
        return None
    rows, backend, rule = scored[picks.positions], inputs.settings.backend, configured_rule(inputs.settings.config)
    of_student, of_teacher = (
        math.inf if z is None else row_thresholds(RowSubset(z, rows), q, backend, cumulative=rule)
        for z, q in ((student, found.q_student), (teacher, found.q_teacher))
    )
    return found._replace(student=of_student, teacher=of_teacher)


def _sets(
    inputs: Inputs, rows: Int64, models: Models, cuts: Cuts | None
) -> Iterator[tuple[ClassSet | None, ClassSet | None, ClassSet]]:
    """Of each row the student's set, the teacher's and the shortlist, some rows at a time."""
    for part in parts_of(rows.size, inputs.n_classes):
        q_student, q_teacher = (None, None) if cuts is None else cuts.of_rows(part)
        student = _said(inputs, models.student, rows[part], q_student)
        teacher = _said(inputs, models.teacher, rows[part], q_teacher)
        said = [each for each in (student, teacher) if each is not None]
        combined = said[0].posteriors if said else None
        if student is not None and teacher is not None:
            combined = softmax(models.weights(student.logits, teacher.logits))
        sets = [each.sets for each in said if each.sets is not None]
        union = np.logical_or.reduce(sets) if sets else None
        for k in range(rows[part].size):
            if combined is None:
                shortlist = _NO_CLASSES
            elif union is None:
                shortlist = _listed(combined[k], _most_probable(combined[k], _SHORTLIST_MASS))
            else:
                shortlist = _listed(combined[k], np.flatnonzero(union[k]))
            of_student, of_teacher = (None if each is None else each.set_of(k) for each in (student, teacher))
            yield of_student, of_teacher, shortlist


def _said(inputs: Inputs, logits: Rows | None, rows: Int64, cut: float | Float64 | None) -> _Said | None:
    if logits is None:
        return None
    z = to_float32(logits.take(rows))
    sets = None if cut is None else inputs.settings.backend.prediction_sets(ArrayRows(z, logits.name), cut)
    return _Said(z, softmax(z), sets)


def _listed(p: Float32, members: Int64) -> ClassSet:
    """A set of classes, ascending, with their probabilities."""
    top = members
    if members.size > MOST_LISTED:
        top = members[p[members] >= np.partition(p[members], -MOST_LISTED)[-MOST_LISTED]]
    top = top[np.argsort(-p[top], kind="stable")][:MOST_LISTED]
    return ClassSet(tuple(top.tolist()), tuple(p[top].tolist()), members.size)


def _most_probable(p: Float32, mass: float) -> Int64:
    """The fewest classes, ascending, whose total probability reaches a mass; of equal ones the lower."""
    descending = np.sort(p)[::-1]
    size = min(p.size, int(np.searchsorted(np.cumsum(descending, dtype=np.float64), mass)) + 1)
    least = descending[size - 1]
    above, equal = np.flatnonzero(p > least), np.flatnonzero(p == least)
    return np.union1d(above, equal[: size - above.size])
