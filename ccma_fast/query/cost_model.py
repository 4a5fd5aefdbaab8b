"""The cost model of a query: expected reads, memory and seconds of every stage, before it runs.

Bytes and memory follow from shapes and the configuration alone. Seconds need the machine's rates, which
:func:`ccma_fast.query.rates.machine_rates` measures in under a second.

What is read, in rows of each source (n labelled, U selectable, M scored, κ · B or fewer candidates):

- check: the labelled rows of every source that the posteriors are computed from, the pending rows of the features, and
  all rows of every other source. Where a user's own estimator is fitted, or not every selectable row is scored, all
  rows of every source. Excluded rows are never read.
- import: of PyTorch, where it is needed and not there yet; takes time and memory, and reads nothing of the pool.
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
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

import numpy as np

from ..backends.order_statistic import size_sample
from ..pool.derived import DerivedRows
from ..pool.rows import Rows
from ..steps.logistic_head import LogisticHead
from ..steps.pool_sample import sample_size
from ..steps.suspicions import sampled_rows
from .acquisitions.acquisition import Acquisition, scores_teacher
from .cost_inputs import CostInputs, ImportCost
from .inputs import Inputs
from .plan import IMPORT, Plan, StagePlan
from .rates import Rates
from .scores import class_type
from .stage_costs import (
    COMPARED_ROWS,
    COUNTED_ROW,
    SCORED_ROW,
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
    selected_bytes,
    spaced_rows,
    training_bytes,
    training_work,
)

__all__ = ["cost_inputs_of", "forecast"]

# Resident memory that libraries, threads and the allocator take once something runs, and PyTorch once it trains.
_OVERHEAD, _TRAINER = 4 << 20, 12 << 20

# Bytes per labelled row's logit in the sanity checks: in float32, and in float64 beside its exponential and copies.
_SUSPECTED_LOGIT = 40

# Scores inside the bracket of a threshold.
_BRACKETED_BYTES, _BRACKETED_SHARE = 3 * (8 << 22), 0.05

# Share of the training's memory that stays resident afterwards, by fragmentation: of the published head and of logistic
# regressions.
_RETAINED, _RETAINED_REGRESSIONS = 0.25, 0.5

# Rows whose sets differ between the two ends of the brackets: their share times the square root of the sample size, as
# measured on synthetic pools, and the bytes kept of each.
_OPEN_SHARE, _OPEN_ROW = 13.0, 200


def cost_inputs_of(inputs: Inputs, acquisition: Acquisition, lazy: frozenset[Rows]) -> CostInputs:
    """The inputs of the cost model, given the lazily validated sources."""
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
    )


def _head(inputs: Inputs) -> Literal["", "published", "ridge", "distilled"]:
    if inputs.cold or inputs.student_logits is not None or inputs.trained is not None or not inputs.student_is_head:
        return ""
    if inputs.student is None:
        return inputs.settings.config.head
    return "ridge" if isinstance(inputs.student, LogisticHead) else "published"


def forecast(
    given: CostInputs, acquisition: Acquisition, rates: Rates | None = None, *, importing: ImportCost | None = None
) -> Plan:
    """The plan of a query, with seconds where the machine's rates are given, and an import where there will be one."""
    stages, held = {}, _OVERHEAD
    for name, cost in _stage_costs(given, acquisition):
        stage = _stage_plan(given, cost, held)
        if rates is not None:
            stage = replace(stage, seconds=cost.work._replace(read=stage.bytes_read).seconds(rates))
        stages[name] = stage
        held += cost.keeps
        if name == "check" and importing is not None:
            held += importing.n_bytes
            stages[IMPORT] = StagePlan({}, 0, held, None if rates is None else importing.seconds)
    return Plan(given.memory.limit, stages)


def _stage_costs(given: CostInputs, acquisition: Acquisition) -> Iterator[tuple[str, StageCost]]:
    """Every stage, in the order in which they run."""
    yield "check", _check_cost(given)
    if not given.budget:
        return
    if given.cold:
        by_teacher = acquisition.teacher_first and given.teacher is not None
        yield "coverage", _teacher_first_cost(given) if by_teacher else _cover_cost(given)
        return
    yield "subpool", _subpool_cost(given)
    yield "posteriors", _posteriors_cost(given)
    yield "thresholds", _thresholds_cost(given, acquisition)
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
    return StageCost(read, max(labels, picked_bytes(given.pool, 0) * (kept > 0), *chunks) + kept, keeps=kept)


def _teacher_first_cost(given: CostInputs) -> StageCost:
    """The coverage stage at cold start with a teacher."""
    assert given.teacher is not None, "a teacher chooses first"
    n = given.n_unlabelled
    share = given.config.confident_share * min(1.0, given.budget / given.n_classes)
    n_candidates = min(n, max(1, int(share * n / given.n_classes)))
    candidates = kept_bytes(given, given.space, n_candidates) + picked_bytes(given.space, 0)
    chunk = scored_chunk(given, is_kept=False)
    n_chunk = logit_rows(given, given.teacher)
    # The allocator retains the memory of a chunk's copy.
    copied = given.teacher.resident_bytes(n_chunk, picked=given.leaves_rows_out)
    copied -= n_chunk * given.teacher.row_bytes * given.teacher.is_mapped
    memory = 8 * n + max(n * SORTED_ROW + candidates + copied, chunk)
    read: dict[Rows, float] = dict.fromkeys(given.posteriors, n)
    read[given.space] = read.get(given.space, 0) + max(share * n, min(given.budget, n))
    read[given.pool] = read.get(given.pool, 0) + spaced_rows(given)
    return StageCost(read, memory, posterior_work(given, n))


def _cover_cost(given: CostInputs) -> StageCost:
    """The coverage stage at cold start without a teacher."""
    n = given.n_unlabelled
    if n <= given.budget:
        return StageCost({}, 16 * n)
    # For a class distribution the teacher's classes that have a quota are clustered, one after the other.
    n_clustered = int(n * min(1.0, given.budget / given.n_classes)) if given.posteriors else n
    n_clusters = given.config.cluster_count(n_clustered, given.budget)
    passes, memory, work = clustering_cost(
        given, given.space, n_clustered, n_clusters, given.config.kmeans_max_iter, with_start=True
    )
    read: dict[Rows, float] = {given.space: passes * n_clustered + given.n_covered}
    if given.n_covered:  # distances to the covered rows: lengths once, and products in blocks of them
        read[given.space] += n * (1 + -(-given.n_covered // COMPARED_ROWS))
        chunk = min(n, given.space.chunk_rows())
        compared = min(given.n_covered, COMPARED_ROWS)
        similarities = min(SIMILARITY_BYTES, 8 * chunk * compared)
        of_lengths = selected_bytes(given, given.space, chunk, picked=True) + chunk * COUNTED_ROW
        of_similarities = similarities + int(min(1.0, SIMILARITIES / (chunk * compared)) * of_lengths)
        # The allocator may retain the memory of a chunk's copy: half of it is wrong by the least either way.
        copied = given.space.resident_bytes(chunk, picked=True) - chunk * given.space.row_bytes * given.space.is_mapped
        memory = max(copied // 2 + memory, 8 * n + max(of_lengths, of_similarities)) + kept_bytes(
            given, given.space, given.n_covered
        )
        work = work._replace(products=work.products + float(n) * given.space.n_columns * given.n_covered)
    if n_spaced := spaced_rows(given):
        read[given.pool] = read.get(given.pool, 0) + n_spaced
        memory += picked_bytes(given.pool, n_spaced)
    for rows in given.posteriors:  # the teacher's
        read[rows] = read.get(rows, 0) + n
        memory = max(memory, scored_chunk(given, is_kept=False)) + 12 * n
        work = Work(work.products, work.read, n * given.n_classes, work.clusterings)
    return StageCost(read, memory, work)


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
        memory, passes = kept + max(memory, filled), 1
    return StageCost({given.space: passes * given.n_left}, memory, work)


def _keeps_logits(given: CostInputs) -> bool:
    """Whether computed logits are cached, so that no later stage reads their sources again."""
    return bool(given.computed) and logits_bytes(given) <= given.memory.logits


def _posteriors_cost(given: CostInputs) -> StageCost:
    is_kept, logits, training = _keeps_logits(given), logits_bytes(given), training_bytes(given)
    read: dict[Rows, float] = dict.fromkeys(given.computed, given.n_scored) if is_kept else {}
    if given.is_logistic:
        n_sample = sample_size(given.n_population, given.n_classes)
        read[given.pool] = read.get(given.pool, 0) + n_sample
        if given.teacher is not None:
            read[given.teacher] = read.get(given.teacher, 0) + n_sample + given.n_labelled
    trainer = _TRAINER if given.head == "published" else 0
    retained = int((_RETAINED_REGRESSIONS if given.is_logistic else _RETAINED) * training)
    memory: float = training
    work = training_work(given, 1.0)
    if is_kept:
        memory = max(training, retained + logits + max(computed_chunk(given, rows) for rows in given.computed))
        work = work._replace(products=work.products + posterior_work(given, given.n_scored).products)
    keeps = trainer + (logits if is_kept else 0) + retained
    return StageCost(read, trainer + memory, work, keeps)


def _one_pass_sample(given: CostInputs) -> int:
    """Rows of the sample that lets one pass give thresholds and scores; 0 where it takes several."""
    if not (given.forms_sets and given.config.has_sizes_only):
        return 0
    return size_sample(given.n_scored, given.n_classes)


def _thresholds_cost(given: CostInputs, acquisition: Acquisition) -> StageCost:
    if not given.forms_sets:
        return StageCost({}, 0) if given.teacher is None else _comparison_cost(given, given.teacher)
    if given.config.calibration == "coverage":
        return _calibration_cost(given)
    m, is_kept, n_sample = given.n_scored, _keeps_logits(given), _one_pass_sample(given)
    if not n_sample:
        again: dict[Rows, float] = {} if is_kept else dict.fromkeys(given.posteriors, m)
        chunk = 0 if is_kept else scored_chunk(given, is_kept=False)
        return StageCost(again, chunk + _bracketed_bytes(given), posterior_work(given, m))
    sample = n_sample * (4 * given.n_classes + max(rows.row_bytes for rows in given.posteriors))
    n_open = m * min(1.0, _OPEN_SHARE / n_sample**0.5)
    scores = m * (acquisition.score_bytes(given.teacher is not None) + given.class_bytes)
    memory = max(sample, scores + scored_chunk(given, is_kept=is_kept) + int(n_open * _OPEN_ROW))
    rows = m + n_sample
    read: dict[Rows, float] = {} if is_kept else dict.fromkeys(given.posteriors, rows)
    return StageCost(read, memory, Work(scored=rows * given.n_classes) if is_kept else posterior_work(given, rows))


def _comparison_cost(given: CostInputs, teacher: Rows) -> StageCost:
    """The thresholds stage, where only the report depends on them: a sample by both models."""
    n, sources = sample_size(given.n_scored, given.n_classes), [given.student_source, teacher]
    is_calibrated = given.n_labelled > 0 and given.config.calibration == "coverage"
    calibration = _calibration_cost(given) if is_calibrated else StageCost({}, 0)
    read = {rows: n + calibration.read.get(rows, 0) for rows in sources}
    logits = n * (8 * given.n_classes + SCORED_ROW)
    memory = max(calibration.memory, logits + max(picked_bytes(rows, n) for rows in sources))
    columns = sum(rows.n_columns for rows in sources)  # at most: some logits are read
    work = Work(products=n * columns * given.n_classes + calibration.work.products, scored=n * given.n_classes)
    return StageCost(read, memory, work)


def _calibration_cost(given: CostInputs) -> StageCost:
    """The thresholds stage, where labelled rows calibrate the sets."""
    if given.is_logistic:  # they were held out when student and teacher were trained
        return StageCost({}, 0)
    ready_made = (given.student_logits, given.teacher)
    read: dict[Rows, float] = dict.fromkeys([rows for rows in ready_made if rows is not None], given.n_labelled)
    labelled = [picked_bytes(rows, given.n_labelled) + 4 * given.n_classes * given.n_labelled for rows in read]
    return StageCost(read, max([training_bytes(given), *labelled]), training_work(given, given.config.n_folds - 1.0))


def _bracketed_bytes(given: CostInputs) -> int:
    """Bytes of the scores inside the brackets, as float64, concatenated and partitioned."""
    return int(min(_BRACKETED_BYTES, _BRACKETED_SHARE * 3 * 8 * given.n_scored * given.n_classes))


def _disagreement_cost(given: CostInputs, acquisition: Acquisition) -> StageCost:
    m, is_kept = given.n_scored, _keeps_logits(given)
    scores = m * (acquisition.score_bytes(given.teacher is not None and given.forms_sets) + given.class_bytes)
    read: dict[Rows, float] = {}
    memory, work = 0.0, Work()
    if not _one_pass_sample(given):
        kept = given.computed if is_kept else ()
        read = dict.fromkeys([rows for rows in given.posteriors if rows not in kept], m)
        memory = scored_chunk(given, is_kept=is_kept)
        work = Work(scored=m * given.n_classes) if is_kept else posterior_work(given, m)
    n = sampled_rows(given.n_labelled, given.n_classes)
    for rows in (given.student_logits, given.teacher):
        if rows is not None:
            read[rows] = read.get(rows, 0) + n
            memory = max(memory, _SUSPECTED_LOGIT * given.n_classes * n + picked_bytes(rows, n))
    return StageCost(read, scores + memory, work, scores - (logits_bytes(given) if is_kept else 0))
