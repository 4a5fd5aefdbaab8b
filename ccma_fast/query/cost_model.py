"""What a query will take, before it runs: the cost model of every stage.

Bytes and memory follow from shapes and the configuration alone. Seconds need the machine's rates, which
:func:`ccma_fast.query.rates.machine_rates` measures in under a second.

What is read, in rows of each source (n labelled, U unlabelled, M scored, κ · B or fewer candidates):

- check: the labelled rows of every source that the posteriors are computed from, and all rows of every other source.
  Where a student of somebody else's is fitted, or not every unlabelled row is scored, all rows of every source.
- subpool: its clustering reads U rows once for their lengths, once for the directions it compares along, twice for the
  assignment to its start and two times in each iteration (update and assignment).
- posteriors: the M rows once, where their logits fit into a quarter of the limit and are kept.
- thresholds: the teacher's labelled rows, with target sizes and logits that are not kept 2¹⁵ rows more for a sample (as
  many times as its logits are needed, where they do not fit either), the M rows once for thresholds and scores together
  and once again those few whose sets both ends of the bracket do not settle. Below 2¹⁸ rows two times the M rows.
- disagreement: the M rows once, unless thresholds or posteriors have read them; with labels the rows of the teacher and
  of ready-made logits that suspicions are looked for in, 16,384 at most.
- coverage: the candidates, and for the student's picks the labelled rows; at cold start without a teacher a clustering
  of all unlabelled rows, which where some are labelled are read before for their distances from these.

What is resident, beyond what was when the query began: at most 32 bytes a row; the labelled rows, and what training a
head on them takes; logits that are kept; a chunk of each source and its logits; the candidates, and what k-means holds
for K clusters; some MB for buffers of libraries. A chunk takes the pages of a mapped file, and a copy where labelled
rows stand between the others or shards are joined; rows from all over a file take some of its pages beside their copy.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from ..backends.order_statistic import size_sample
from ..pool.derived import DerivedRows
from ..pool.rows import Rows
from ..steps.suspicions import sampled_rows
from .acquisitions.acquisition import Acquisition
from .costs import (
    COMPARED_ROWS,
    COUNTED_ROW,
    SIMILARITIES,
    SIMILARITY_BYTES,
    SORTED_ROW,
    StageCost,
    Work,
    chunk_rows,
    clustering_cost,
    computed_chunk,
    kept_bytes,
    logit_rows,
    logits_bytes,
    picked_bytes,
    posterior_work,
    scored_chunk,
    training_bytes,
    training_work,
)
from .inputs import Inputs
from .plan import Plan, StagePlan
from .problem import Problem
from .rates import Rates

__all__ = ["forecast", "problem_of"]

# Resident memory that libraries, threads and the allocator take once something runs, and PyTorch once it trains.
_OVERHEAD, _TRAINER = 4 << 20, 12 << 20

# What telling from the logits of labelled rows takes for each: in float32, and in float64 beside its exponential and
# copies.
_SUSPECTED_LOGIT = 40

# Scores inside the bracket of a threshold.
_BRACKETED_BYTES, _BRACKETED_SHARE = 3 * (8 << 22), 0.05

# Share of what training held that lies scattered, so that it cannot be given back.
_RETAINED = 0.25

# Of rows whose sets the ends of the brackets do not settle: the share, times the root of the sample's rows, about what
# it was on made-up pools, and bytes kept of each.
_OPEN_SHARE, _OPEN_ROW = 13.0, 200


def problem_of(inputs: Inputs, lazy: frozenset[Rows]) -> Problem:
    """What decides about the cost of a query, the sources being known that are validated as they are read."""
    settings, teacher, given = inputs.settings, inputs.teacher, inputs.student_logits
    computed = [] if inputs.cold or given is not None else [inputs.pool]
    if teacher is not None and isinstance(teacher.logits(settings.backend), DerivedRows):
        computed.append(teacher.source)
    return Problem(
        config=settings.config,
        memory=settings.memory,
        chunk_size=settings.chunk_size,
        pool=inputs.pool,
        student_logits=given,
        teacher=None if teacher is None else teacher.source,
        space=inputs.space,
        computed=tuple(computed),
        lazy=lazy,
        n_labelled=inputs.labelled.size,
        n_unlabelled=inputs.unlabelled.size,
        has_labels=inputs.has_labels,
        n_left=inputs.n_left,
        n_scored=inputs.n_scored,
        n_classes=inputs.n_classes,
        budget=inputs.budget,
        cold=inputs.cold,
        trains=inputs.student_is_head and not inputs.cold and given is None,
    )


def forecast(problem: Problem, acquisition: Acquisition, rates: Rates | None = None) -> Plan:
    """The plan of a query; with seconds where the machine's rates are known."""
    stages, held = {}, _OVERHEAD
    for name, cost in _stage_costs(problem, acquisition):
        stage = _stage_plan(problem, cost, held)
        if rates is not None:
            stage = replace(stage, seconds=cost.work._replace(read=stage.bytes_read).seconds(rates))
        stages[name] = stage
        held += cost.keeps
    return Plan(problem.memory.limit, stages)


def _stage_costs(problem: Problem, acquisition: Acquisition) -> Iterator[tuple[str, StageCost]]:
    """Every stage, in the order in which they run."""
    yield "check", _check_cost(problem)
    if not problem.budget:
        return
    if problem.cold:
        by_teacher = acquisition.teacher_first and problem.teacher is not None
        yield "coverage", _teacher_first_cost(problem) if by_teacher else _cover_cost(problem)
        return
    yield "subpool", _subpool_cost(problem)
    yield "posteriors", _posteriors_cost(problem)
    yield "thresholds", _thresholds_cost(problem, acquisition)
    yield "disagreement", _disagreement_cost(problem, acquisition)
    yield "coverage", acquisition.coverage_cost(problem)


def _stage_plan(problem: Problem, cost: StageCost, held: int) -> StagePlan:
    """A stage's cost, so much being resident when it begins."""
    n_bytes = int(sum(n * rows.row_bytes for rows, n in cost.read.items()))
    n_all = problem.n_unlabelled
    passes = {rows.name: int(n // n_all) for rows, n in cost.read.items() if n_all and n >= n_all}
    return StagePlan(passes, n_bytes, int(held + cost.memory))


def _check_cost(p: Problem) -> StageCost:
    kept = kept_bytes(p, p.pool, p.n_labelled)
    read: dict[Rows, float] = {
        rows: p.n_labelled if rows in p.lazy else rows.n_rows + (p.n_labelled if rows is p.pool and kept else 0)
        for rows in p.sources
    }
    chunks = [rows.resident_bytes(n := chunk_rows(p, rows)) + 8 * n for rows in p.sources if rows not in p.lazy]
    chunks += [picked_bytes(rows, min(p.n_labelled, chunk_rows(p, rows))) for rows in p.lazy]
    labels = 9 * p.pool.n_rows if p.has_labels else 0
    return StageCost(read, max(labels, picked_bytes(p.pool, 0) * (kept > 0), *chunks) + kept, keeps=kept)


def _teacher_first_cost(p: Problem) -> StageCost:
    """The coverage stage at cold start, where a teacher chooses."""
    assert p.teacher is not None, "a teacher chooses first"
    n = p.n_unlabelled
    share = p.config.confident_share * min(1.0, p.budget / p.n_classes)
    n_candidates = min(n, max(1, int(share * n / p.n_classes)))
    candidates = kept_bytes(p, p.space, n_candidates) + picked_bytes(p.space, 0)
    chunk = scored_chunk(p, is_kept=False)
    n_chunk = logit_rows(p, p.teacher)
    # The allocator still has what a chunk's copy took.
    copied = p.teacher.resident_bytes(n_chunk, picked=p.leaves_rows_out)
    copied -= n_chunk * p.teacher.row_bytes * p.teacher.is_mapped
    memory = 8 * n + max(n * SORTED_ROW + candidates + copied, chunk)
    read: dict[Rows, float] = dict.fromkeys(p.posteriors, n)
    read[p.space] = read.get(p.space, 0) + max(share * n, min(p.budget, n))
    return StageCost(read, memory, posterior_work(p, n))


def _cover_cost(p: Problem) -> StageCost:
    """The coverage stage at cold start, where the picks cover the unlabelled rows."""
    n = p.n_unlabelled
    if n <= p.budget:
        return StageCost({}, 16 * n)
    n_clusters = p.config.cluster_count(n, p.budget)
    passes, memory, work = clustering_cost(p, p.space, n, n_clusters, p.config.kmeans_max_iter, with_start=True)
    if p.n_labelled:  # distances from what is labelled: lengths once, and products with so many rows at a time
        passes += 1 + -(-p.n_labelled // COMPARED_ROWS)
        chunk = min(n, p.space.chunk_rows())
        compared = min(p.n_labelled, COMPARED_ROWS)
        similarities = min(SIMILARITY_BYTES, 8 * chunk * compared)
        of_lengths = p.space.resident_bytes(chunk, picked=True) + chunk * COUNTED_ROW
        of_similarities = similarities + int(min(1.0, SIMILARITIES / (chunk * compared)) * of_lengths)
        memory = max(memory, 8 * n + max(of_lengths, of_similarities)) + kept_bytes(p, p.space, p.n_labelled)
        work = work._replace(products=work.products + float(n) * p.space.n_columns * p.n_labelled)
    return StageCost({p.space: passes * n + p.n_labelled}, memory, work)


def _subpool_cost(p: Problem) -> StageCost:
    if p.n_scored == p.n_left:
        return StageCost({}, 0)
    n_clusters = p.config.cluster_count(p.n_left, p.n_scored)
    is_share = p.n_left < p.n_unlabelled  # a random one, which is read once where it fits
    kept = kept_bytes(p, p.space, p.n_left) if is_share else 0
    passes, memory, work = clustering_cost(
        p, p.space, p.n_left, n_clusters, p.config.subpool_max_iter, with_start=False, is_kept=kept > 0
    )
    if kept:
        filled = picked_bytes(p.space, min(p.n_left, chunk_rows(p, p.space)))
        memory, passes = kept + max(memory, filled), 1
    return StageCost({p.space: passes * p.n_left}, memory, work)


def _keeps_logits(p: Problem) -> bool:
    """Whether logits that are computed are kept, so that no later stage reads their sources for them."""
    return bool(p.computed) and logits_bytes(p) <= p.memory.logits


def _posteriors_cost(p: Problem) -> StageCost:
    is_kept, logits, training = _keeps_logits(p), logits_bytes(p), training_bytes(p)
    read: dict[Rows, float] = dict.fromkeys(p.computed, p.n_scored) if is_kept else {}
    trainer = _TRAINER if training else 0
    memory: float = training
    work = training_work(p, 1.0)
    if is_kept:
        memory = max(training, _RETAINED * training + logits + max(computed_chunk(p, rows) for rows in p.computed))
        work = work._replace(products=work.products + posterior_work(p, p.n_scored).products)
    keeps = trainer + (logits if is_kept else 0) + int(_RETAINED * training)
    return StageCost(read, trainer + memory, work, keeps)


def _one_pass_sample(p: Problem, acquisition: Acquisition) -> int:
    """Rows of the sample from which thresholds and scores follow in one pass; 0 where they take more."""
    if not acquisition.forms_sets(p.teacher is not None, p.n_labelled) or not p.config.has_sizes_only:
        return 0
    return size_sample(p.n_scored, p.n_classes)


def _thresholds_cost(p: Problem, acquisition: Acquisition) -> StageCost:
    if not acquisition.forms_sets(p.teacher is not None, p.n_labelled):
        return StageCost({}, 0)
    if p.config.calibration == "coverage":
        return _calibration_cost(p)
    m, is_kept, n_sample = p.n_scored, _keeps_logits(p), _one_pass_sample(p, acquisition)
    if not n_sample:
        again: dict[Rows, float] = {} if is_kept else dict.fromkeys(p.posteriors, m)
        chunk = 0 if is_kept else scored_chunk(p, is_kept=False)
        return StageCost(again, chunk + _bracketed_bytes(p), posterior_work(p, m))
    sample = n_sample * (4 * p.n_classes + max(rows.row_bytes for rows in p.posteriors))
    n_open = m * min(1.0, _OPEN_SHARE / n_sample**0.5)
    scores = m * acquisition.score_bytes(p.teacher is not None)
    memory = max(sample, scores + scored_chunk(p, is_kept=is_kept) + int(n_open * _OPEN_ROW))
    rows = m + n_sample
    read: dict[Rows, float] = {} if is_kept else dict.fromkeys(p.posteriors, rows)
    return StageCost(read, memory, Work(scored=rows * p.n_classes) if is_kept else posterior_work(p, rows))


def _calibration_cost(p: Problem) -> StageCost:
    """The thresholds stage, where labelled rows calibrate the sets."""
    read: dict[Rows, float] = dict.fromkeys(p.posteriors[1:] if p.trains else p.posteriors, p.n_labelled)
    if not p.trains and p.student_logits is None:
        read.pop(p.pool, None)
    labelled = [picked_bytes(rows, p.n_labelled) + 4 * p.n_classes * p.n_labelled for rows in read]
    return StageCost(read, max([training_bytes(p), *labelled]), training_work(p, p.config.n_folds - 1.0))


def _bracketed_bytes(p: Problem) -> int:
    """Scores inside the brackets of thresholds, as doubles, joined and partitioned."""
    return int(min(_BRACKETED_BYTES, _BRACKETED_SHARE * 3 * 8 * p.n_scored * p.n_classes))


def _disagreement_cost(p: Problem, acquisition: Acquisition) -> StageCost:
    m, is_kept = p.n_scored, _keeps_logits(p)
    scores = m * acquisition.score_bytes(p.teacher is not None)
    read: dict[Rows, float] = {}
    memory, work = 0.0, Work()
    if not _one_pass_sample(p, acquisition):
        kept = p.computed if is_kept else ()
        read = dict.fromkeys([rows for rows in p.posteriors if rows not in kept], m)
        memory = scored_chunk(p, is_kept=is_kept)
        work = Work(scored=m * p.n_classes) if is_kept else posterior_work(p, m)
    n = sampled_rows(p.n_labelled, p.n_classes)
    for rows in (p.student_logits, p.teacher):
        if rows is not None:
            read[rows] = read.get(rows, 0) + n
            memory = max(memory, _SUSPECTED_LOGIT * p.n_classes * n + picked_bytes(rows, n))
    return StageCost(read, scores + memory, work, scores - (logits_bytes(p) if is_kept else 0))
