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


class _Said(NamedTuple):
    """What one model says of some rows."""

    logits: Float32
    posteriors: Float32
    sets: Bool | None


def _sets(
    inputs: Inputs, rows: Int64, models: Models, cuts: Cuts | None
) -> Iterator[tuple[ClassSet | None, ClassSet | None, ClassSet]]:
    """Of each row the student's set, the teacher's and the shortlist, some rows at a time."""
    for part in parts_of(rows.size, inputs.n_classes):
        q_student, q_teacher = (None, None) if cuts is None else cuts.of_rows(part)
        student = _said(inputs, models.student, rows[part], q_student)
        teacher = _said(inputs, models.teacher, rows[part], q_teacher)
        said = [each for each in (student, teacher) if each is not None]
        if not said:
            yield from [(None, None, _NO_CLASSES)] * rows[part].size
            continue
        combined = said[0].posteriors
        if student is not None and teacher is not None:
            combined = softmax(models.weights(student.logits, teacher.logits))
        sets = [each.sets for each in said if each.sets is not None]
        union = np.logical_or.reduce(sets) if sets else _most_probable(combined, _SHORTLIST_MASS)
        own = [
            [None] * len(union) if each is None or each.sets is None else _listed(each.posteriors, each.sets)
            for each in (student, teacher)
        ]
        yield from zip(*own, _listed(combined, union), strict=True)


def _said(inputs: Inputs, logits: Rows | None, rows: Int64, cut: float | Float64 | None) -> _Said | None:
    if logits is None:
        return None
    z = to_float32(logits.take(rows))
    sets = None if cut is None else inputs.settings.backend.prediction_sets(ArrayRows(z, logits.name), cut)
    return _Said(z, softmax(z), sets)


def _listed(p: Float32, sets: Bool) -> list[ClassSet]:
    """The sets of rows, with the probabilities of their classes, shape (n, C)."""
    sizes = sets.sum(axis=1)
    large = np.flatnonzero(sizes > MOST_LISTED)
    if large.size:
        least = np.partition(np.where(sets[large], p[large], -1.0), -MOST_LISTED, axis=1)[:, -MOST_LISTED]
        sets = sets.copy()
        sets[large] &= p[large] >= least[:, None]
    row, found = np.nonzero(sets)
    probability = p[row, found]
    order = np.lexsort((-probability, row))  # of equal ones the first
    ends = np.cumsum(np.bincount(row, minlength=len(p)))
    starts = (ends - np.diff(ends, prepend=0)).tolist()
    classes, probabilities = found[order].tolist(), probability[order].tolist()
    listed = []
    for start, end, size in zip(starts, ends.tolist(), sizes.tolist(), strict=True):
        own = slice(start, min(end, start + MOST_LISTED))
        listed.append(ClassSet(tuple(classes[own]), tuple(probabilities[own]), size))
    return listed


def _most_probable(p: Float32, mass: float) -> Bool:
    """The fewest classes of each row whose total probability reaches a mass; of equal ones the lower."""
    descending = np.sort(p, axis=1)[:, ::-1]
    sizes = 1 + (np.cumsum(descending, axis=1, dtype=np.float64)[:, :-1] < mass).sum(axis=1)
    least = descending[np.arange(len(p)), sizes - 1, None]
    above, equal = p > least, p == least
    missing = sizes - above.sum(axis=1)
    above |= equal & (np.cumsum(equal, axis=1) <= missing[:, None])
    return above
