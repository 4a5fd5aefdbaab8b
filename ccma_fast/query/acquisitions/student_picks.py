"""The student's picks: uncertainty coverage, relative to the labelled, the pending and the selected rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ...backends.protocol import Kernel, on_host
from ...config import CCMAConfig
from ...pool.rows import Rows
from ...steps.coverage import unit_rows
from ...steps.greedy import greedy_coverage
from ...steps.nearer_pairs import most_pair_bytes
from ..cost_inputs import CostInputs
from ..picks import Picks, Tally
from ..represented import NO_NEAREST, nearest_represented, numbers_of
from ..settings import RowNumbers, Settings
from ..stage_costs import COMPARED_ROWS, SIMILARITY_BYTES, StageCost, Work, chunk_rows, kept_bytes, picked_bytes

__all__ = ["picks_of_student", "student_picks_cost"]

# Bytes per component of the rows on the other side of a comparison: float32, before and after normalisation.
_COMPARED = 16


def picks_of_student(
    settings: Settings,
    pool: Rows,
    covered: npt.NDArray[np.int64],
    scored: RowNumbers,
    uncertainty: Any,
    led: npt.NDArray[np.int64],
    n_picks: int,
) -> Picks:
    """Greedy facility location among the most uncertain rows, relative to the covered and the selected rows.

    Minimises Σ_i u_i · min_j ‖x_i − x_j‖² over the candidates i, with j over the covered and selected rows. Where no
    row reduces it, as among equal rows, the most uncertain come first. The rows `led` are the teacher's picks; their
    uncertainty is set below that of all others.
    """
    backend = settings.backend
    n_candidates = _candidates(settings.config, n_picks, scored.size - led.size)
    candidates = np.sort(backend.top_m(uncertainty, n_candidates))
    known_rows = np.concatenate([covered, scored[led]])
    x, x_known = (settings.kept(pool, of) for of in (scored[candidates], known_rows))
    rows, known = (unit_rows(of, backend) for of in (x, x_known))
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
    behind = NO_NEAREST
    if settings.explains:
        behind = numbers_of(nearest_represented(backend, x, chosen, nearest), candidates)
    picks = Picks(candidates[chosen], of_candidates[chosen], represents, Tally(candidates.size), nearest=behind)
    return picks.led_by("student")


def student_picks_cost(given: CostInputs) -> StageCost:
    """Reads, memory and work of :func:`picks_of_student` for the whole budget, for the cost model."""
    config, pool = given.config, given.pool
    n = _candidates(config, given.budget, given.n_scored)
    filled = picked_bytes(pool, min(n, chunk_rows(given, pool)))
    greedy = SIMILARITY_BYTES + _COMPARED * min(n, COMPARED_ROWS) * pool.n_columns + most_pair_bytes(n)
    memory = kept_bytes(given, pool, n) + max(filled, greedy)
    return StageCost({pool: n + given.n_covered}, memory, Work(products=2.0 * n * n * pool.n_columns))


def _candidates(config: CCMAConfig, n_picks: int, n_rows: int) -> int:
    """Number of student candidates among n selectable rows; bounded, since all pairs of candidates are compared."""
    return min(config.student_kappa * n_picks, max(config.candidate_limit, 2 * n_picks), n_rows)
