"""The published acquisition: the rows of largest δ = g · J + (1 − g) · H, spread by k-means."""

from __future__ import annotations

import numpy as np

from ...backends.protocol import on_host
from ...pool.rows import Rows
from ..cost_inputs import CostInputs
from ..inputs import Inputs
from ..picks import Picks, filled, picks_among, picks_by_class
from ..scores import Columns, Scores
from ..settings import RowNumbers
from ..spacing import Spacing
from ..stage_costs import StageCost, chunk_rows, clustering_cost, kept_bytes, picked_bytes, spaced_rows
from ..wire_costs import best_rows, best_rows_of_classes, fetched

__all__ = ["Published"]


class Published:
    """The κ · B rows of largest δ, spread by k-means."""

    covers_pool = False
    teacher_first = False

    def forms_sets(self, has_teacher: bool, n_labelled: int) -> bool:
        """Always: J is taken inside the sets."""
        return True

    def columns(self, has_teacher: bool, n_classes: int) -> Columns:
        """δ alone, which without a teacher is the student's entropy."""
        return {"delta": np.float32}

    def score_bytes(self, has_teacher: bool) -> int:
        """Bytes of δ, a float32."""
        return 4

    def picks(self, inputs: Inputs, scored: RowNumbers, scores: Scores) -> Picks:
        """Steps 5 and 6: the κ · B rows of largest δ, and k-means coverage of those, weighted by δ."""
        settings, delta = inputs.settings, scores["delta"]
        spacing = Spacing.of(inputs.settings, inputs.pool, inputs.covered, inputs.min_distance)
        leader = "student" if inputs.teacher is None else "both"
        if inputs.shares is not None:
            picks = picks_by_class(
                settings,
                inputs.space,
                scored,
                delta,
                scores["student_top1"],
                inputs.labels_by_class(),
                inputs.budget,
                n_candidates=lambda quota, n_rows: settings.config.kappa * quota,
                weighted=True,
                shares=inputs.shares,
                spacing=spacing,
            )
            return picks.kept_apart(spacing).led_by(leader)
        candidates = np.sort(settings.backend.top_m(delta, settings.config.kappa * inputs.budget))
        of_candidates = on_host(delta[candidates])
        picks = picks_among(
            settings,
            inputs.space,
            scored,
            candidates,
            of_candidates,
            inputs.budget,
            weighted=True,
            spacing=spacing,
        )
        return filled(picks, settings, scored, delta, inputs.budget, spacing).kept_apart(spacing).led_by(leader)

    def coverage_cost(self, given: CostInputs) -> StageCost:
        """The candidates are read once where they can be kept, else in each pass of the k-means."""
        config, space = given.config, given.space
        n = min(given.n_scored, config.kappa * given.budget)
        n_clusters = config.cluster_count(n, given.budget)
        kept = kept_bytes(given, space, n)
        passes, memory, work = clustering_cost(
            given, space, n, n_clusters, config.kmeans_max_iter, with_start=True, is_kept=kept > 0
        )
        touched = picked_bytes(space, min(n, chunk_rows(given, space)))
        read: dict[Rows, float] = {space: n if kept else n * passes}
        best = best_rows_of_classes if given.class_bytes else best_rows
        wire = best(given, n, given.n_scored).plus(fetched(given, space, read[space]))
        read[given.pool] = read.get(given.pool, 0) + (n_spaced := spaced_rows(given))
        wire = wire.plus(fetched(given, given.pool, n_spaced))
        of_other = picked_bytes(space, min(given.of_rank(n), chunk_rows(given, space)))
        return StageCost(read, max(memory, touched) + kept, alone=work, memory_of_other=of_other, wire=wire)
