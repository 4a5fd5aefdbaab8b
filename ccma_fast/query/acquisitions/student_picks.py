"""The student's picks: uncertainty coverage, relative to the labelled, the pending and the selected rows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ...backends.choose import backend_for_small
from ...backends.protocol import on_host
from ...backends.unit_rows import Kernel
from ...config import CCMAConfig
from ...pool.rows import Rows
from ...steps.coverage import HostUnitRows, most_pair_bytes, unit_rows
from ...steps.greedy import greedy_coverage, limited_coverage
from ...steps.quotas import class_quotas
from ..cost_inputs import CostInputs
from ..picks import Picks, Tally, best_of_classes, class_sizes, filled
from ..represented import NO_NEAREST, nearest_represented, numbers_of
from ..settings import RowNumbers, Settings
from ..spacing import PickLimits, Spacing
from ..stage_costs import COMPARED_ROWS, SIMILARITY_BYTES, StageCost, Work, chunk_rows, kept_bytes, picked_bytes
from ..wire_costs import COMMAND, best_rows, best_rows_of_classes, fetched

__all__ = ["WantedClasses", "picks_of_student", "student_picks_cost"]

Int64 = npt.NDArray[np.int64]

# Bytes per component of the rows on the other side of a comparison: float32, before and after normalisation.
_COMPARED = 16


class WantedClasses(NamedTuple):
    """A class distribution that is asked for."""

    of_rows: Any
    """The student's class of each scored row, shape (M,): an array or tensor."""
    already: Int64
    """Labels and other picks of each class, shape (C,)."""
    shares: npt.NDArray[np.float64]
    """The wanted shares of all labels and picks, shape (C,)."""


def picks_of_student(
    settings: Settings,
    pool: Rows,
    covered: Int64,
    scored: RowNumbers,
    uncertainty: Any,
    led: Int64,
    n_picks: int,
    *,
    spacing: Spacing | None = None,
    wanted: WantedClasses | None = None,
) -> Picks:
    """Greedy facility location among the most uncertain rows, relative to the covered and the selected rows.

    Minimises Σ_i u_i · min_j ‖x_i − x_j‖² over the candidates i, with j over the covered and selected rows. Where no
    row reduces it, as among equal rows, the most uncertain come first. The rows `led` are the teacher's picks; their
    uncertainty is set below that of all others.

    Within a minimum distance or quotas of classes the candidates are covered on the host wherever they lie, since each
    pick has to be admitted, and where they run out the most uncertain of all other scored rows follow.
    """
    known_rows = np.concatenate([covered, scored[led]])
    if spacing is not None or wanted is not None:
        return _limited_picks(settings, pool, known_rows, scored, uncertainty, led, n_picks, spacing, wanted)
    backend = settings.backend
    n_candidates = _candidates(settings.config, n_picks, scored.size - led.size)
    candidates = np.sort(backend.top_m(uncertainty, n_candidates))
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


def _limited_picks(
    settings: Settings,
    pool: Rows,
    known_rows: Int64,
    scored: RowNumbers,
    uncertainty: Any,
    led: Int64,
    n_picks: int,
    spacing: Spacing | None,
    wanted: WantedClasses | None,
) -> Picks:
    """:func:`picks_of_student` within limits."""
    on_core = replace(settings, backend=backend_for_small(settings.backend))
    classes, room = None, None
    if wanted is None:
        n_candidates = _candidates(settings.config, n_picks, scored.size - led.size)
        candidates = np.sort(settings.backend.top_m(uncertainty, n_candidates))
    else:
        classes = wanted.of_rows
        room, candidates = _candidates_of_classes(settings, uncertainty, led, n_picks, wanted)
    numbers = scored[candidates]
    x, x_known = (on_core.kept(pool, of) for of in (numbers, known_rows))
    rows, known = (HostUnitRows(of, on_core.backend) for of in (x, x_known))
    of_candidates = on_host(uncertainty[candidates])
    of_class = None if classes is None else on_host(classes[candidates])
    limits = PickLimits(numbers, spacing, rows, classes=of_class, room=room)
    chosen = limited_coverage(rows, known, n_picks, limits, weights=of_candidates, least=-1.0)
    represents, behind = np.ones(chosen.size, np.int64), NO_NEAREST
    if chosen.size:
        nearest = rows.most_similar(chosen)
        nearest[chosen] = np.arange(chosen.size)
        represents = np.bincount(nearest, minlength=chosen.size)
        if settings.explains:
            behind = numbers_of(nearest_represented(on_core.backend, x, chosen, nearest), candidates)
    picks = Picks(candidates[chosen], of_candidates[chosen], represents, Tally(candidates.size), nearest=behind)
    whole = filled(picks, settings, scored, uncertainty, n_picks, spacing, taken=led, classes=classes, room=room)
    return whole.led_by("student")


def _candidates_of_classes(
    settings: Settings, uncertainty: Any, led: Int64, n_picks: int, wanted: WantedClasses
) -> tuple[Int64, Int64]:
    """The quotas of the student's classes, and the candidates, ascending: of each class its most uncertain rows."""
    classes, n_classes = wanted.of_rows, wanted.shares.size
    sizes = class_sizes(settings, classes, n_classes)
    left = sizes - np.bincount(on_host(classes[led]), minlength=n_classes)
    quotas = class_quotas(left, wanted.already, n_picks, wanted.shares)
    most = _candidates(settings.config, n_picks, int(left.sum()))
    n_candidates = np.minimum(left, -(-most * quotas // n_picks))
    return quotas, np.sort(best_of_classes(settings, uncertainty, classes, sizes, n_candidates))


def student_picks_cost(given: CostInputs) -> StageCost:
    """Reads, memory and work of :func:`picks_of_student` for the whole budget, for the cost model."""
    config, pool = given.config, given.pool
    n = _candidates(config, given.budget, given.n_scored)
    filled = picked_bytes(pool, min(n, chunk_rows(given, pool)))
    greedy = SIMILARITY_BYTES + _COMPARED * min(n, COMPARED_ROWS) * pool.n_columns + most_pair_bytes(n)
    memory = kept_bytes(given, pool, n) + max(filled, greedy)
    n_known = given.n_covered * (2 if given.has_spacing else 1)
    of_other = picked_bytes(pool, min(given.of_rank(n), chunk_rows(given, pool)))
    best, n_commands = (best_rows_of_classes, 4) if given.class_bytes else (best_rows, 2)
    wire = best(given, n, given.n_scored).plus(COMMAND.times(n_commands))
    wire = wire.plus(fetched(given, pool, n), fetched(given, pool, n_known))
    work = Work(products=2.0 * n * n * pool.n_columns)
    return StageCost({pool: n + n_known}, memory, alone=work, memory_of_other=of_other, wire=wire)


def _candidates(config: CCMAConfig, n_picks: int, n_rows: int) -> int:
    """Number of student candidates among n selectable rows; bounded, since all pairs of candidates are compared."""
    return min(config.student_kappa * n_picks, max(config.candidate_limit, 2 * n_picks), n_rows)
