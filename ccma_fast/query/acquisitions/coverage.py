"""The default acquisition: uncertainty coverage by a student that knows what the teacher knows."""

from __future__ import annotations

import numpy as np

from ..cost_inputs import CostInputs
from ..inputs import Inputs
from ..picks import Picks
from ..scores import Columns, Scores
from ..settings import RowNumbers
from ..spacing import Spacing
from ..stage_costs import StageCost
from .student_picks import WantedClasses, picks_of_student, student_picks_cost

__all__ = ["Coverage"]


class Coverage:
    """All picks by the student's uncertainty coverage."""

    covers_pool = True
    teacher_first = False

    def forms_sets(self, has_teacher: bool, n_labelled: int) -> bool:
        """Never: the teacher's say is in what the student has learnt."""
        return False

    def columns(self, has_teacher: bool, n_classes: int) -> Columns:
        """The student's margin."""
        return {"margin": np.float32}

    def score_bytes(self, has_teacher: bool) -> int:
        """Bytes of the margin, a float32."""
        return 4

    def picks(self, inputs: Inputs, scored: RowNumbers, scores: Scores) -> Picks:
        """Steps 5 and 6: of the rows of smallest margin those that cover them best, beside the covered ones."""
        uncertainty = scores["margin"]
        uncertainty *= -1.0
        uncertainty += 1.0
        spacing = Spacing.of(inputs.settings, inputs.pool, inputs.covered, inputs.min_distance)
        wanted = None
        if inputs.shares is not None:
            wanted = WantedClasses(scores["student_top1"], inputs.labels_by_class(), inputs.shares)
        picks = picks_of_student(
            inputs.settings,
            inputs.pool,
            inputs.covered,
            scored,
            uncertainty,
            np.empty(0, np.int64),
            inputs.budget,
            spacing=spacing,
            wanted=wanted,
        )
        return picks.kept_apart(spacing)

    def coverage_cost(self, given: CostInputs) -> StageCost:
        """The candidates and the labelled rows."""
        return student_picks_cost(given)
