"""The terms of the cost model for the thresholds of conformal sets."""

from __future__ import annotations

from collections.abc import Sequence

from ..backends.order_statistic import bracket_sample, size_sample
from ..pool.rows import Rows
from ..steps.pool_sample import sample_size
from .cost_inputs import CostInputs
from .stage_costs import (
    SCORED_ROW,
    StageCost,
    Work,
    keeps_logits,
    picked_bytes,
    posterior_work,
    scored_chunk,
    training_bytes,
    training_work,
)
from .wire_costs import COMMAND, NO_WIRE, Wire, fetched, models, scored, scores_inside, weights

__all__ = ["cuts_wire", "one_pass_sample", "thresholds_cost"]

# Scores inside the bracket of a threshold.
_BRACKETED_BYTES, _BRACKETED_SHARE = 3 * (8 << 22), 0.05

# Scores that a pass keeps at most, of all ranks together.
_MOST_KEPT = 1 << 22

# Rows whose sets differ between the two ends of the brackets: their share times the square root of the sample size, as
# measured on synthetic pools, and the bytes kept of each.
_OPEN_SHARE, _OPEN_ROW = 13.0, 200

# Scores between the two ends: two times 2.6 standard deviations of a mean set size, which is guessed to be as large as
# the size itself, by the square root of the sample size.
_INSIDE = 5.2


def one_pass_sample(given: CostInputs) -> int:
    """Rows of the sample that lets one pass give thresholds and scores; 0 where it takes several."""
    if not (given.forms_sets and given.config.has_sizes_only and given.has_brackets):
        return 0
    return size_sample(given.n_scored, given.n_classes)


def thresholds_cost(given: CostInputs, score_bytes: int) -> StageCost:
    if not given.forms_sets:
        return StageCost({}, 0) if given.teacher is None else _comparison_cost(given, given.teacher)
    if given.config.calibration == "coverage":
        cost = _calibration_cost(given)
        return cost._replace(wire=cost.wire.plus(_passes_wire(given, given.posteriors, given.n_scored)))
    m, is_kept, n_sample = given.n_scored, keeps_logits(given), one_pass_sample(given)
    if not n_sample:
        again: dict[Rows, float] = {} if is_kept else dict.fromkeys(given.posteriors, m)
        chunk = 0 if is_kept else scored_chunk(given, is_kept=False)
        work, bracketed = posterior_work(given, m), _bracketed_bytes(given)
        wire = _sizes_wire(given).plus(scored(given), _passes_wire(given, given.posteriors, m))
        return StageCost(again, chunk + bracketed, work, memory_of_other=chunk + bracketed, wire=wire)
    sample = n_sample * (4 * given.n_classes + max(rows.row_bytes for rows in given.posteriors))
    n_open = m * min(1.0, _OPEN_SHARE / n_sample**0.5)
    scores = given.of_rank(m) * score_bytes
    of_pass = scores + scored_chunk(given, is_kept=is_kept) + int(n_open / given.n_ranks * _OPEN_ROW)
    rows = m + n_sample
    read: dict[Rows, float] = {} if is_kept else dict.fromkeys(given.posteriors, rows)
    work = Work(scored=rows * given.n_classes) if is_kept else posterior_work(given, rows)
    wire = scored(given).plus(*(fetched(given, of, n_sample) for of in given.posteriors))
    n_inside = _INSIDE * sum(_sizes(given)) * m / n_sample**0.5
    wire = wire.plus(models(given, given.posteriors), scores_inside(given, n_inside), COMMAND)
    return StageCost(read, max(sample, of_pass), work, memory_of_other=of_pass, wire=wire)


def _sizes(given: CostInputs) -> tuple[float, ...]:
    """The wanted mean size of the sets of each model."""
    return (given.config.student_set_size, given.config.teacher_set_size)[: len(given.posteriors)]


def _sizes_wire(given: CostInputs) -> Wire:
    """What target sizes in several passes send: two samples, and then all rows between likely thresholds."""
    m, wire = given.n_scored, NO_WIRE
    n_sample = bracket_sample(m)
    for rows, size in zip(given.posteriors, _sizes(given), strict=True):
        share = min(1.0, 8.0 * max(1.0, size) / (n_sample**0.5 * given.n_classes))
        n_inside = min(m * given.n_classes * share, _MOST_KEPT)
        of_models = models(given, [rows]).times(3)
        wire = wire.plus(of_models, Wire(8 * n_sample), scores_inside(given, 2 * n_inside / m * n_sample + n_inside))
    return wire


def _passes_wire(given: CostInputs, sources: Sequence[Rows], m: int) -> Wire:
    """What the thresholds of m rows send beside what calibrates them, where they depend on all of these."""
    config = given.config
    n_passes = (config.nonempty == "raise") + (config.nonconformity != "lac")
    wire = NO_WIRE
    if n_passes:
        wire = weights(given, *sources).times(n_passes).plus(COMMAND.times(n_passes * len(sources)))
    if _has_weighted_sets(given):  # the most probable class of each row, by one of the models
        wire = wire.plus(weights(given, *sources[-1:]).times(2), Wire(of_rows=4 * m, commands=4))
    return wire.plus(cuts_wire(given, sources, m) if config.nonconformity != "lac" else NO_WIRE)


def _has_weighted_sets(given: CostInputs) -> bool:
    return given.config.reweight and given.config.calibration == "coverage"


def cuts_wire(given: CostInputs, sources: Sequence[Rows], m: int) -> Wire:
    """A threshold of each row for each model, where they differ."""
    return Wire(8 * m * len(sources) * _has_weighted_sets(given))


def _comparison_cost(given: CostInputs, teacher: Rows) -> StageCost:
    """The thresholds stage, where only the report depends on them: a sample by both models."""
    n, sources = sample_size(given.n_scored, given.n_classes), [given.student_source, teacher]
    is_calibrated = given.n_labelled > 0 and given.config.calibration == "coverage"
    calibration = _calibration_cost(given) if is_calibrated else StageCost({}, 0)
    read = {rows: n + calibration.read.get(rows, 0) for rows in sources}
    logits = n * (8 * given.n_classes + SCORED_ROW)
    memory = max(calibration.memory, logits + max(picked_bytes(rows, n) for rows in sources))
    columns = sum(rows.n_columns for rows in sources)  # at most: some logits are read
    work = Work(products=n * columns * given.n_classes, scored=n * given.n_classes)
    wire = calibration.wire.plus(Wire(8 * n, commands=1), weights(given, *sources), _passes_wire(given, sources, n))
    wire = wire.plus(cuts_wire(given, sources, n) if given.config.nonconformity == "lac" else NO_WIRE)
    return StageCost(read, memory, work, alone=calibration.alone, memory_of_other=memory, wire=wire)


def _calibration_cost(given: CostInputs) -> StageCost:
    """The thresholds stage, where labelled rows calibrate the sets."""
    if given.is_logistic:  # they were held out when student and teacher were trained
        return StageCost({}, 0)
    ready_made = (given.student_logits, given.teacher)
    read: dict[Rows, float] = dict.fromkeys([rows for rows in ready_made if rows is not None], given.n_labelled)
    labelled = [picked_bytes(rows, given.n_labelled) + 4 * given.n_classes * given.n_labelled for rows in read]
    folds = training_work(given, given.config.n_folds - 1.0)
    wire = NO_WIRE.plus(*(fetched(given, rows, given.n_labelled) for rows in read))
    return StageCost(read, max([training_bytes(given), *labelled]), alone=folds, wire=wire)


def _bracketed_bytes(given: CostInputs) -> int:
    """Bytes of the scores inside the brackets, as float64, concatenated and partitioned."""
    return int(min(_BRACKETED_BYTES, _BRACKETED_SHARE * 3 * 8 * given.n_scored * given.n_classes))
