"""The default acquisition: a fraction t of the batch by the teacher's criterion, the rest by the student's."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ...backends.protocol import Kernel, on_host
from ...config import CCMAConfig
from ...pool.rows import Rows
from ...steps.coverage import unit_rows
from ...steps.cuts import teacher_share
from ...steps.greedy import greedy_coverage
from ..cost_inputs import CostInputs
from ..inputs import Inputs
from ..picks import NO_PICKS, Picks, Tally, picks_by_class
from ..scores import Columns, Scores
from ..settings import RowNumbers
from ..stage_costs import (
    COMPARED_ROWS,
    SIMILARITY_BYTES,
    SORTED_ROW,
    StageCost,
    Work,
    chunk_rows,
    kept_bytes,
    picked_bytes,
)

__all__ = ["Trust"]

_LN_2 = np.float32(np.log(2.0))

# Bytes per component of the rows on the other side of a comparison: float32, before and after normalisation.
_COMPARED = 16


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
        # The narrowest dtype that holds every class: NumPy sorts 16-bit integers by radix sort.
        top1 = np.uint16 if n_classes <= 1 << 16 else np.int32
        return {"margin": np.float32, "confidence": np.float32, "divergence": np.float32, "teacher_top1": top1}

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
        led = _picks_of_teacher(inputs, scored, scores, uncertainty, n_led) if n_led else NO_PICKS
        if n_led == inputs.budget:
            return led._replace(trust=share)
        uncertainty[led.positions] = -1.0  # below that of every other row
        by_student = _picks_of_student(inputs, scored, uncertainty, led.positions, inputs.budget - n_led)
        return Picks.joined([led, by_student])._replace(trust=share)

    def coverage_cost(self, given: CostInputs) -> StageCost:
        """The student's candidates, the labelled rows, and the teacher's candidates, assuming t = 1/2."""
        config, pool = given.config, given.pool
        m, b = given.n_scored, given.budget
        n = _candidates_of_student(config, b, m)
        read: dict[Rows, float] = {pool: n + given.n_labelled}
        filled = picked_bytes(pool, min(n, chunk_rows(given, pool)))
        greedy = SIMILARITY_BYTES + _COMPARED * min(n, COMPARED_ROWS) * pool.n_columns
        memory = kept_bytes(given, pool, n) + max(filled, greedy)
        clusterings = 0.0
        if self.forms_sets(given.teacher is not None, given.n_labelled):
            memory = max(memory, m * SORTED_ROW)
            read[given.space] = read.get(given.space, 0) + min(m, config.kappa * b // 2)
            clusterings = min(given.n_classes, b) / 2
        return StageCost(read, memory, Work(products=2.0 * n * n * pool.n_columns, clusterings=clusterings))


def _picks_of_teacher(inputs: Inputs, scored: RowNumbers, scores: Scores, uncertainty: Any, n_picks: int) -> Picks:
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
    )


def _picks_of_student(
    inputs: Inputs, scored: RowNumbers, uncertainty: Any, led: npt.NDArray[np.int64], n_picks: int
) -> Picks:
    """Greedy facility location among the most uncertain rows, relative to the labelled and the selected rows.

    Minimises Σ_i u_i · min_j ‖x_i − x_j‖² over the candidates i, with j over the labelled and selected rows. The rows
    `led` are the teacher's picks; their uncertainty is set below that of all others.
    """
    settings = inputs.settings
    backend = settings.backend
    n_candidates = _candidates_of_student(settings.config, n_picks, scored.size - led.size)
    candidates = np.sort(backend.top_m(uncertainty, n_candidates))
    covered = np.concatenate([inputs.labelled, scored[led]])
    rows, known = (unit_rows(settings.kept(inputs.pool, of), backend) for of in (scored[candidates], covered))
    of_candidates = on_host(uncertainty[candidates])
    chosen = greedy_coverage(
        rows,
        known,
        np.arange(candidates.size),
        n_picks,
        kernel=Kernel(),
        rng=settings.streams.coverage,
        weights=of_candidates,
        least=-1.0,
    )
    nearest = rows.most_similar(chosen)
    nearest[chosen] = np.arange(n_picks)  # a pick represents itself, also where an equal row was picked before it
    represents = np.bincount(nearest, minlength=n_picks)
    return Picks(candidates[chosen], of_candidates[chosen], represents, Tally(candidates.size))


def _candidates_of_student(config: CCMAConfig, n_picks: int, n_rows: int) -> int:
    """Number of student candidates among n selectable rows; bounded, since all pairs of candidates are compared."""
    return min(config.student_kappa * n_picks, max(config.candidate_limit, 2 * n_picks), n_rows)
