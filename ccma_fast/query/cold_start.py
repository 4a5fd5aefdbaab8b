"""Cold-start selection, without a fitted student."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from ..backends.protocol import on_host, on_ranks
from ..pool.derived import RowSubset
from ..pool.rows import Rows
from ..steps.coverage import squared_distances
from ..steps.quotas import class_quotas
from .disagreement import scored_rows
from .inputs import Inputs
from .logits import Logits
from .picks import Picks, cover, filled, picks_by_class
from .settings import RowNumbers
from .spacing import Spacing
from .thresholds import NO_CUTS

__all__ = ["first_picks"]


def first_picks(inputs: Inputs, z_teacher: Rows | None, *, teacher_leads: bool) -> Picks:
    """Picks among the selectable rows, of score NaN: by the teacher where it leads, else by coverage of the pool.

    Parameters
    ----------
    inputs : Inputs
    z_teacher : Rows or None
        The teacher's logits, where it leads or tells the classes for a class distribution.
    teacher_leads : bool
        Whether the teacher chooses, where there is one.
    """
    spacing = Spacing.of(inputs.settings, inputs.pool, inputs.covered, inputs.min_distance)
    if z_teacher is not None and teacher_leads:
        picks = _picks_of_teacher(inputs, z_teacher, spacing)
    else:
        picks = _covering_picks(inputs, z_teacher, spacing)
    return picks._replace(scores=np.full(picks.positions.size, np.nan, np.float32)).kept_apart(spacing)


def _picks_of_teacher(inputs: Inputs, z_teacher: Rows, spacing: Spacing | None) -> Picks:
    """Quotas of its classes; per class k-means on the rows of the teacher's largest margins."""
    settings, unlabelled = inputs.settings, inputs.unlabelled
    share = settings.config.confident_share
    z = Logits(RowSubset(z_teacher, unlabelled))
    scores = scored_rows(settings, z, NO_CUTS, {"margin": np.float32, "student_top1": np.int32})
    return picks_by_class(
        settings,
        inputs.space,
        unlabelled,
        scores["margin"],
        scores["student_top1"],
        inputs.labels_by_class(),
        inputs.budget,
        n_candidates=lambda quota, n_rows: max(quota, int(share * n_rows)),
        weighted=False,
        shares=inputs.shares,
        spacing=spacing,
    ).led_by("teacher")


def _covering_picks(inputs: Inputs, z_teacher: Rows | None, spacing: Spacing | None) -> Picks:
    """One row per k-means cluster, each row weighted by its squared distance to the nearest covered row, if any.

    Where a class distribution is wanted, each of the teacher's classes is clustered by itself.
    """
    settings, unlabelled = inputs.settings, inputs.unlabelled
    weights: Any = None
    covered = inputs.covered
    if covered.size:
        known = settings.kept(inputs.space, covered)
        spread, others = on_ranks(settings.backend), RowSubset(inputs.space, unlabelled)
        if spread is not None:
            weights = spread.squared_distances(others, known)
        else:
            weights = squared_distances(others, known, settings.backend)
    parts, turns = [], []
    for members, quota in _groups(inputs, z_teacher):
        numbers: RowNumbers = unlabelled if members is None else unlabelled[members]
        of_members = weights if weights is None or members is None else weights[members]
        rows = RowSubset(inputs.space, numbers)
        found = cover(settings, rows, of_members, quota, numbers=numbers, spacing=spacing)
        parts.append(found.picks(settings, rows, members))
        turns.append(np.arange(found.positions.size))
    picks = Picks.joined(parts)
    if len(parts) > 1:  # the first of each class before the second ones
        picks = picks.in_order(np.argsort(np.concatenate(turns), kind="stable"))
    order = np.zeros(unlabelled.size, np.float32) if weights is None else weights
    return filled(picks, settings, unlabelled, order, inputs.budget, spacing).led_by("coverage")


def _groups(inputs: Inputs, z_teacher: Rows | None) -> Iterator[tuple[npt.NDArray[np.int64] | None, int]]:
    """The classes that have a quota: positions of their rows among the selectable ones, and the quota.

    Without a distribution all rows are one class.
    """
    if z_teacher is None:
        yield None, inputs.budget
        return
    z = Logits(RowSubset(z_teacher, inputs.unlabelled))
    classes = on_host(scored_rows(inputs.settings, z, NO_CUTS, {"student_top1": np.int32})["student_top1"])
    sizes = np.bincount(classes, minlength=inputs.n_classes)
    quotas = class_quotas(sizes, inputs.labels_by_class(), inputs.budget, inputs.shares)
    by_class, ends = np.argsort(classes, kind="stable"), np.cumsum(sizes)
    for c in np.flatnonzero(quotas).tolist():
        yield by_class[ends[c] - sizes[c] : ends[c]], int(quotas[c])
