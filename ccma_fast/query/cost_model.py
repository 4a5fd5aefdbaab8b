"""The cost model of a query: expected reads, memory and seconds of every stage, before it runs.

Bytes and memory follow from shapes and the configuration alone. Seconds need the machine's rates, which
:func:`ccma_fast.query.rates.machine_rates` measures in under a second.

What is read, in rows of each source (n labelled, U selectable, M scored, κ · B or fewer candidates):

- check: the labelled rows of every source that the posteriors are computed from, the pending rows of the features, and
  all rows of every other source. Where a user's own estimator is fitted, or not every selectable row is scored, all
  rows of every source. Excluded rows are never read.
- subpool: its clustering reads U rows once for their lengths, once for the directions it compares along, twice for the
  assignment to its start and two times in each iteration (update and assignment).
- posteriors: a sample of the pool and of the teacher, and the teacher's labelled rows, where the default student is
  fitted; the M rows once, where their logits fit into a quarter of the limit and are kept.
- thresholds, where the picks depend on sets: the teacher's labelled rows, unless student and teacher were trained
  together; with target sizes and logits that are not kept 2¹⁵ rows more for a sample (as many times as its logits are
  needed, where they do not fit either), the M rows once for thresholds and scores together and once again those few
  whose sets both ends of the bracket do not settle. Below 2¹⁸ rows two times the M rows. Where the picks depend on no
  sets, a sample of the M rows by both models, for the report.
- disagreement: the M rows once, unless thresholds or posteriors have read them, those of the teacher only where the
  picks depend on sets; with labels the rows of the teacher and of ready-made logits that the sanity checks look at,
  16,384 at most.
- coverage: the candidates, and for the student's picks the labelled and pending rows; at cold start without a teacher a
  clustering of all selectable rows, which where some are labelled or pending are read before for their distances from
  these.

What is resident, beyond what was when the query began: at most 32 bytes a row; the labelled rows, and what training a
head on them takes; logits that are kept; a chunk of each source and its logits; the candidates, and what k-means holds
for K clusters; some MB for buffers of libraries. A chunk takes the pages of a mapped file, and a copy where labelled
rows stand between the others or shards are joined; rows from all over a file take some of its pages beside their copy.

On several ranks each one reads, computes and keeps what concerns its own rows, and none keeps logits; the first one
trains the models and covers the candidates while the others wait. What they send: :mod:`ccma_fast.query.wire_costs`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

import numpy as np

from ..backends.protocol import by_brackets
from ..pool.derived import DerivedRows
from ..pool.rows import Rows
from ..steps.logistic_head import LogisticHead
from ..steps.pool_sample import sample_size
from ..steps.suspicions import sampled_rows
from .acquisitions.acquisition import Acquisition, scores_teacher
from .cold_start_costs import cover_cost, teacher_first_cost
from .cost_inputs import CostInputs
from .inputs import Inputs
from .plan import Plan, StagePlan
from .rank_plan import RANKS, RankCost, RankPlan, RankStagePlan, Seconds
from .rates import Rates
from .scores import class_type
from .stage_costs import (
    StageCost,
    Work,
    chunk_rows,
    clustering_cost,
    computed_chunk,
    keeps_logits,
    kept_bytes,
    logits_bytes,
    picked_bytes,
    posterior_work,
    scored_chunk,
    training_bytes,
    training_work,
)
from .threshold_costs import cuts_wire, one_pass_sample, thresholds_cost
from .wire_costs import (
    COMMAND,
    NO_WIRE,
    READ_COUNTS,
    Network,
    Wire,
    clustering,
    fetched,
    left,
    models,
    outcome,
    population,
    scored,
)

__all__ = ["cost_inputs_of", "forecast"]

# Resident memory that libraries, threads and the allocator take once something runs.
_OVERHEAD = 4 << 20

# Bytes per labelled row's logit in the sanity checks: in float32, and in float64 beside its exponential and copies.
_SUSPECTED_LOGIT = 40

# Share of the training's memory that stays resident afterwards, by fragmentation: of the published head and of logistic
# regressions.
_RETAINED, _RETAINED_REGRESSIONS = 0.25, 0.5


def cost_inputs_of(
    inputs: Inputs, acquisition: Acquisition, lazy: frozenset[Rows], *, n_ranks: int | None = None
) -> CostInputs:
    """The inputs of the cost model, given the lazily validated sources; on as many ranks as run, or on others."""
    settings, teacher, ready_made = inputs.settings, inputs.teacher, inputs.student_logits
    posteriors = [] if inputs.cold else [inputs.pool if ready_made is None else ready_made]
    computed = [rows for rows in posteriors if ready_made is None]
    if teacher is not None and scores_teacher(acquisition, inputs):
        posteriors.append(teacher.source)
        if isinstance(teacher.logits(settings.backend), DerivedRows):
            computed.append(teacher.source)
    return CostInputs(
        config=settings.config,
        memory=settings.memory,
        chunk_size=settings.chunk_size,
        pool=inputs.pool,
        student_logits=ready_made,
        teacher=None if teacher is None else teacher.source,
        space=inputs.space,
        posteriors=tuple(posteriors),
        computed=tuple(computed),
        lazy=lazy,
        n_labelled=inputs.labelled.size,
        n_covered=inputs.covered.size,
        n_population=inputs.rows.population.size,
        n_unlabelled=inputs.unlabelled.size,
        has_labels=inputs.has_labels,
        n_left=inputs.n_left,
        n_scored=inputs.n_scored,
        n_classes=inputs.n_classes,
        budget=inputs.budget,
        cold=inputs.cold,
        class_bytes=0 if inputs.shares is None else np.dtype(class_type(inputs.n_classes)).itemsize,
        has_spacing=inputs.min_distance > 0.0,
        forms_sets=acquisition.forms_sets(teacher is not None, inputs.labelled.size),
        head=_head(inputs),
        has_brackets=by_brackets(settings.backend) is not None,
        n_ranks=n_ranks or inputs.settings.n_ranks,
    )


def _head(inputs: Inputs) -> Literal["", "published", "ridge", "distilled"]:
    if inputs.cold or inputs.student_logits is not None or inputs.trained is not None or not inputs.student_is_head:
        return ""
    if inputs.student is None:
        return inputs.settings.config.head
    return "ridge" if isinstance(inputs.student, LogisticHead) else "published"


def forecast(
    given: CostInputs,
    acquisition: Acquisition,
    rates: Rates | None = None,
    *,
    network: Network | None = None,
) -> Plan:
    """The plan of a query, with seconds where the machine's rates are given.

    On several ranks it is a :class:`~ccma_fast.query.rank_plan.RankPlan`; `rates` are those of each, and `network` is
    what is between them.
    """
    if given.n_ranks > 1:
        return _forecast_of_ranks(given, acquisition, rates, network or Network())
    stages, held = {}, _OVERHEAD
    for name, cost in _stage_costs(given, acquisition):
        stage = _stage_plan(given, cost, held)
        if rates is not None:
            work = cost.work.plus(cost.alone)
            stage = replace(stage, seconds=work._replace(read=stage.bytes_read).seconds(rates))
        stages[name] = stage
        held += cost.keeps
    return Plan(given.memory.limit, stages)


def _forecast_of_ranks(
    given: CostInputs,
    acquisition: Acquisition,
    rates: Rates | None,
    network: Network,
) -> RankPlan:
    n_ranks = given.n_ranks
    stages, held, held_of_other = {}, _OVERHEAD, _OVERHEAD
    for name, cost in [*_stage_costs(given, acquisition), (RANKS, StageCost({}, 0, wire=outcome(given)))]:
        whole = _stage_plan(given, cost, held)
        wire = cost.wire.plus(READ_COUNTS) if cost.wire.commands else cost.wire
        exchanged, messages = int(wire.bytes_exchanged(n_ranks)), int(wire.messages(n_ranks))
        read, seconds, spent = whole.bytes_read // n_ranks, None, None
        if rates is not None:
            spent = Seconds(
                reading=read / rates.read,
                computing=cost.work.shared(n_ranks).seconds(rates),
                leading=cost.alone.seconds(rates),
                sending=wire.bytes_in_turn(n_ranks) / (1.25e8 * network.gbit_s),
                waiting=1e-3 * messages * network.latency_ms,
            )
            seconds = sum(vars(spent).values())
        stages[name] = RankStagePlan(
            whole.passes,
            whole.bytes_read,
            whole.peak_memory,
            seconds,
            bytes_exchanged=exchanged,
            messages=messages,
            first=RankCost(read, whole.peak_memory, int(wire.bytes_of_first(n_ranks))),
            other=RankCost(read, int(held_of_other + cost.memory_of_other), int(wire.bytes_of_other(n_ranks))),
            spent=spent,
        )
        held += cost.keeps
        held_of_other += cost.keeps_of_other
    return RankPlan(given.memory.limit, stages, n_ranks, network)


def _stage_costs(given: CostInputs, acquisition: Acquisition) -> Iterator[tuple[str, StageCost]]:
    """Every stage, in the order in which they run."""
    yield "check", _check_cost(given)
    if not given.budget:
        return
    if given.cold:
        by_teacher = acquisition.teacher_first and given.teacher is not None
        yield "coverage", teacher_first_cost(given) if by_teacher else cover_cost(given)
        return
    yield "subpool", _subpool_cost(given)
    yield "posteriors", _posteriors_cost(given)
    yield "thresholds", thresholds_cost(given, _score_bytes(given, acquisition))
    yield "disagreement", _disagreement_cost(given, acquisition)
    yield "coverage", acquisition.coverage_cost(given)


def _stage_plan(given: CostInputs, cost: StageCost, held: int) -> StagePlan:
    """The plan of a stage, given the bytes resident when it begins."""
    n_bytes = int(sum(n * rows.row_bytes for rows, n in cost.read.items()))
    n_all = given.n_unlabelled
    passes = {rows.name: int(n // n_all) for rows, n in cost.read.items() if n_all and n >= n_all}
    return StagePlan(passes, n_bytes, int(held + cost.memory))


def _check_cost(given: CostInputs) -> StageCost:
    kept = kept_bytes(given, given.pool, given.n_labelled)
    read: dict[Rows, float] = {
        rows: (given.n_covered if rows is given.pool else given.n_labelled)
        if rows in given.lazy
        else given.n_population + (given.n_labelled if rows is given.pool and kept else 0)
        for rows in given.sources
    }
    is_picked = given.n_population < given.pool.n_rows
    chunks = [
        rows.resident_bytes(n := chunk_rows(given, rows), picked=is_picked) + 8 * n
        for rows in given.sources
        if rows not in given.lazy
    ]
    chunks += [picked_bytes(rows, min(given.n_labelled, chunk_rows(given, rows))) for rows in given.lazy]
    labels = (10 if given.has_labels else 2) * given.pool.n_rows
    memory = max(labels, picked_bytes(given.pool, 0) * (kept > 0), *chunks) + kept
    return StageCost(read, memory, keeps=kept, memory_of_other=max(chunks), wire=_check_wire(given, kept > 0))


def _check_wire(given: CostInputs, is_kept: bool) -> Wire:
    wire = population(given)
    for rows in given.sources:
        is_lazy, n = rows in given.lazy, given.n_labelled
        if rows is given.pool:
            n = n * (is_lazy or is_kept) + (given.n_covered - n) * is_lazy
            wire = wire.plus(fetched(given, rows, n))
        elif is_lazy:
            wire = wire.plus(fetched(given, rows, n))
        if not is_lazy:
            wire = wire.plus(COMMAND)
    return wire


def _subpool_cost(given: CostInputs) -> StageCost:
    if given.n_scored == given.n_left:
        return StageCost({}, 0)
    n_clusters = given.config.cluster_count(given.n_left, given.n_scored)
    is_share = given.n_left < given.n_unlabelled  # a random sample, which is read once where it fits
    kept = kept_bytes(given, given.space, given.n_left) if is_share else 0
    passes, memory, work = clustering_cost(
        given, given.space, given.n_left, n_clusters, given.config.subpool_max_iter, with_start=False, is_kept=kept > 0
    )
    if kept:
        filled = picked_bytes(given.space, min(given.n_left, chunk_rows(given, given.space)))
        wire = fetched(given, given.space, given.n_left)
        return StageCost({given.space: given.n_left}, kept + max(memory, filled), alone=work, wire=wire)
    wire = clustering(
        given.space,
        given.n_left,
        n_clusters,
        given.config.subpool_max_iter,
        given.n_scored,
        init="random",
        method=given.config.subpool_method,
    )
    read: dict[Rows, float] = {given.space: passes * given.n_left}
    return StageCost(read, memory, work, memory_of_other=memory, wire=wire.plus(left(given)))


def _posteriors_cost(given: CostInputs) -> StageCost:
    is_kept, logits, training = keeps_logits(given), logits_bytes(given), training_bytes(given)
    read: dict[Rows, float] = dict.fromkeys(given.computed, given.n_scored) if is_kept else {}
    wire = NO_WIRE
    if given.is_logistic:
        n_sample = sample_size(given.n_population, given.n_classes)
        read[given.pool] = read.get(given.pool, 0) + n_sample
        wire = fetched(given, given.pool, n_sample)
        if given.teacher is not None:
            read[given.teacher] = read.get(given.teacher, 0) + n_sample + given.n_labelled
            wire = wire.plus(fetched(given, given.teacher, n_sample), fetched(given, given.teacher, given.n_labelled))
    retained = int((_RETAINED_REGRESSIONS if given.is_logistic else _RETAINED) * training)
    memory: float = training
    work = Work()
    if is_kept:
        memory = max(training, retained + logits + max(computed_chunk(given, rows) for rows in given.computed))
        work = Work(products=posterior_work(given, given.n_scored).products)
    keeps = retained + (logits if is_kept else 0)
    return StageCost(read, memory, work, keeps, alone=training_work(given, 1.0), wire=wire)


def _score_bytes(given: CostInputs, acquisition: Acquisition) -> int:
    """Bytes of what is kept of a scored row."""
    return acquisition.score_bytes(given.teacher is not None and given.forms_sets) + given.class_bytes


def _disagreement_cost(given: CostInputs, acquisition: Acquisition) -> StageCost:
    m, is_kept = given.n_scored, keeps_logits(given)
    scores = given.of_rank(m) * _score_bytes(given, acquisition)
    read: dict[Rows, float] = {}
    memory, work, wire = 0.0, Work(), NO_WIRE
    if not one_pass_sample(given):
        wire = models(given, given.posteriors)
        if not (given.forms_sets and given.config.calibration == "target_size"):
            wire = wire.plus(scored(given))
        if given.forms_sets and given.config.nonconformity == "lac":
            wire = wire.plus(cuts_wire(given, given.posteriors, m))
        kept = given.computed if is_kept else ()
        read = dict.fromkeys([rows for rows in given.posteriors if rows not in kept], m)
        memory = scored_chunk(given, is_kept=is_kept)
        work = Work(scored=m * given.n_classes) if is_kept else posterior_work(given, m)
    of_other = memory
    n = sampled_rows(given.n_labelled, given.n_classes)
    for rows in (given.student_logits, given.teacher):
        if rows is not None:
            read[rows] = read.get(rows, 0) + n
            memory = max(memory, _SUSPECTED_LOGIT * given.n_classes * n + picked_bytes(rows, n))
            wire = wire.plus(fetched(given, rows, n))
    return StageCost(
        read,
        scores + memory,
        work,
        scores - (logits_bytes(given) if is_kept else 0),
        memory_of_other=scores + of_other,
        keeps_of_other=scores,
        wire=wire,
    )
