"""The published acquisition: the rows of largest δ = g · J + (1 − g) · H, spread by k-means."""

from __future__ import annotations

import numpy as np

from ...backends.protocol import on_host
from ..cost_inputs import CostInputs
from ..inputs import Inputs
from ..picks import Picks, picks_among
from ..scores import Columns, Scores
from ..settings import RowNumbers
from ..stage_costs import StageCost, chunk_rows, clustering_cost, kept_bytes, picked_bytes

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
        candidates = np.sort(settings.backend.top_m(delta, settings.config.kappa * inputs.budget))
        of_candidates = on_host(delta[candidates])
        picks = picks_among(settings, inputs.space, scored, candidates, of_candidates, inputs.budget, weighted=True)
        return picks.led_by("student" if inputs.teacher is None else "both")

    def coverage_cost(self, given: CostInputs) -> StageCost:
        """The candidates are read once where they can be kept, else in each pass of the k-means."""
        config, space = given.config, given.space
        n = min(given.n_scored, config.kappa * given.budget)
        n_clusters = config.cluster_count(n, given.budget)
        kept = kept_bytes(given, space, n)
        passes, memory, work = clustering_cost(
            given, space, n, n_clusters, config.kmeans_max_iter, with_start=True, is_kept=kept > 0
        )
        filled = picked_bytes(space, min(n, chunk_rows(given, space)))
        return StageCost({space: n if kept else n * passes}, max(memory, filled) + kept, work)
