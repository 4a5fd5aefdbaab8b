"""Trust: a fraction t of the batch by the teacher's criterion, the rest by the student's."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...backends.protocol import on_host
from ...steps.cuts import teacher_share
from ..cost_inputs import CostInputs
from ..inputs import Inputs
from ..picks import NO_PICKS, Picks, picks_by_class
from ..scores import Columns, Scores, class_type
from ..settings import RowNumbers
from ..spacing import Spacing
from ..stage_costs import SORTED_ROW, StageCost
from ..wire_costs import COMMAND, best_rows_of_classes, fetched
from .student_picks import WantedClasses, picks_of_student, student_picks_cost

__all__ = ["Trust"]

_LN_2 = np.float32(np.log(2.0))


class Trust:
    """The teacher's picks, by class, and behind them the student's, by uncertainty coverage."""

    covers_pool = True
    teacher_first = True

    def forms_sets(self, has_teacher: bool, n_labelled: int) -> bool:
        """Only with a teacher and labels, which give the trust t; the student's criterion is its uncertainty alone."""
        return has_teacher and n_labelled > 0

    def columns(self, has_teacher: bool, n_classes: int) -> Columns:
        """The student's margin; with a teacher also its confidence max p^T, its top-1 class and the divergence J."""
        if not has_teacher:
            return {"margin": np.float32}
        of_teacher = {"confidence": np.float32, "divergence": np.float32, "teacher_top1": class_type(n_classes)}
        return {"margin": np.float32, **of_teacher}

    def score_bytes(self, has_teacher: bool) -> int:
        """Bytes of the columns per row, for up to 2¹⁶ classes."""
        return 14 if has_teacher else 4

    def picks(self, inputs: Inputs, scored: RowNumbers, scores: Scores) -> Picks:
        """Steps 5 and 6: round(t · B) picks by the teacher's criterion, then the rest by the student's."""
        share = 0.0
        if self.forms_sets(inputs.teacher is not None, inputs.labelled.size):
            share = teacher_share(scores.mean("student_size"), scores.mean("teacher_size"))
        n_led = int(share * inputs.budget + 0.5)
        uncertainty = scores["margin"]
        uncertainty *= -1.0
        uncertainty += 1.0
        spacing = Spacing.of(inputs.settings, inputs.pool, inputs.covered, inputs.min_distance)
        led = _picks_of_teacher(inputs, scored, scores, uncertainty, n_led, spacing) if n_led else NO_PICKS
        if led.positions.size == inputs.budget:
            return led._replace(trust=share).kept_apart(spacing)
        uncertainty[led.positions] = -1.0  # below that of every other row
        wanted = None
        if inputs.shares is not None:
            already = inputs.labels_by_class()
            if led.positions.size:
                already += np.bincount(on_host(scores["teacher_top1"][led.positions]), minlength=inputs.n_classes)
            wanted = WantedClasses(scores["student_top1"], already, inputs.shares)
        by_student = picks_of_student(
            inputs.settings,
            inputs.pool,
            inputs.covered,
            scored,
            uncertainty,
            led.positions,
            inputs.budget - led.positions.size,
            spacing=spacing,
            wanted=wanted,
        )
        return Picks.joined([led, by_student])._replace(trust=share).kept_apart(spacing)

    def coverage_cost(self, given: CostInputs) -> StageCost:
        """The student's candidates, the labelled rows, and the teacher's candidates, assuming t = 1/2."""
        config, m, b = given.config, given.n_scored, given.budget
        cost = student_picks_cost(given)
        if not self.forms_sets(given.teacher is not None, given.n_labelled):
            return cost
        read = dict(cost.read)
        n_led = min(m, config.kappa * b // 2)
        read[given.space] = read.get(given.space, 0) + n_led
        alone = cost.alone._replace(clusterings=min(given.n_classes, b) / 2)
        sorting = given.of_rank(m) * SORTED_ROW
        wire = cost.wire.plus(best_rows_of_classes(given, n_led, m), fetched(given, given.space, n_led))
        return StageCost(
            read,
            max(cost.memory, sorting),
            alone=alone,
            memory_of_other=max(cost.memory_of_other, sorting),
            wire=wire.plus(COMMAND.times(4)),
        )


def _picks_of_teacher(
    inputs: Inputs, scored: RowNumbers, scores: Scores, uncertainty: Any, n_picks: int, spacing: Spacing | None
) -> Picks:
    """Class-balanced quotas; per class weighted k-means on the κ · quota rows of largest δ."""
    kappa = inputs.settings.config.kappa
    disagreement = scores["divergence"]
    disagreement /= float(_LN_2)
    disagreement += uncertainty
    disagreement *= scores["confidence"]
    return picks_by_class(
        inputs.settings,
        inputs.space,
        scored,
        disagreement,
        scores["teacher_top1"],
        inputs.labels_by_class(),
        n_picks,
        n_candidates=lambda quota, n_rows: kappa * quota,
        weighted=True,
        shares=inputs.shares,
        spacing=spacing,
    ).led_by("teacher")
