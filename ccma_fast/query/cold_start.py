"""Cold-start selection, without a fitted student."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..pool.derived import RowSubset
from ..pool.rows import Rows
from ..steps.coverage import squared_distances
from .disagreement import scored_rows
from .inputs import Inputs
from .logits import Logits
from .picks import Picks, cover, picks_by_class
from .thresholds import NO_CUTS

__all__ = ["first_picks"]


def first_picks(inputs: Inputs, z_teacher: Rows | None) -> Picks:
    """Picks among the unlabelled rows: by the teacher where its logits are given, else by coverage of the pool.

    Their scores are NaN.
    """
    picks = _covering_picks(inputs) if z_teacher is None else _picks_of_teacher(inputs, z_teacher)
    return picks._replace(scores=np.full(inputs.budget, np.nan, np.float32))


def _picks_of_teacher(inputs: Inputs, z_teacher: Rows) -> Picks:
    """Class-balanced quotas; per class k-means on the rows of the teacher's largest margins."""
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
    ).led_by("teacher")


def _covering_picks(inputs: Inputs) -> Picks:
    """One row per k-means cluster, each row weighted by its squared distance to the nearest covered row, if any."""
    rows = RowSubset(inputs.space, inputs.unlabelled)
    weights: npt.NDArray[np.float32] | None = None
    covered = inputs.covered
    if covered.size:
        known = inputs.settings.kept(inputs.space, covered)
        weights = squared_distances(rows, known, inputs.settings.backend)
    return cover(inputs.settings, rows, weights, inputs.budget).picks(inputs.settings, rows).led_by("coverage")
