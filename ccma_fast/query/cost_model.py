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
  of ready-made logits that are judged, 16,384 at most.
- coverage: the candidates, and for the student's picks the labelled rows; at cold start without a teacher a clustering
  of all unlabelled rows, which where some are labelled are read before for their distances from these.

What is resident, beyond what was when the query began: at most 32 bytes a row; the labelled rows, and what training a
head on them takes; logits that are kept; a chunk of each source and its logits; the candidates, and what k-means holds
for K clusters; some MB for buffers of libraries. A chunk takes the pages of a mapped file, and a copy where labelled
rows stand between the others or shards are joined; rows from all over a file take some of its pages beside their copy.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from ..backends.order_statistic import size_sample
from ..pool.class_limits import WEIGHT_BYTES
from ..pool.rows import Rows
from ..steps.suspicions import sampled_rows
from ..system.mapped import SCATTERED_BYTES
from .plan import Plan, StagePlan
from .problem import Problem
from .rates import Rates

__all__ = ["forecast"]

# Resident memory that libraries, threads and the allocator take once something runs, and PyTorch once it trains.
_OVERHEAD, _TRAINER = 4 << 20, 12 << 20

# Bytes of one row's scores with "trust" and a teacher, and with "delta"; and of what sorting them by class takes.
_TRUST_ROW, _DELTA_ROW, _SORTED_ROW = 14, 4, 16

# A clustering's labels, distances, weights, factors and potentials of one row, and bytes of a centroid's component: as
# float32 before and after an update, its sum, and what a search packs; at k-means||'s start its candidates as well.
_CLUSTERED_ROW = 32

_CENTROID, _STARTING_CENTROID = 22, 38

# Scores of a chunk's row as the core writes them and as they are put together, lengths and factors; and, where rows are
# left out, the numbers of those that are not.
_SCORED_ROW, _COUNTED_ROW = 88, 24

# What judging the logits of labelled rows takes for each: in float32, and in float64 beside its exponential and copies.
_JUDGED_LOGIT = 40

# Scores inside the bracket of a threshold.
_BRACKETED_BYTES, _BRACKETED_SHARE = 3 * (8 << 22), 0.05

# Share of what training held that lies scattered, so that it cannot be given back.
_RETAINED = 0.25

# Similarities that greedy coverage looks at together, of which the last are there while the next are computed; and rows
# that others are compared with in one pass, in float32 before and after they are divided by their lengths.
_SIMILARITIES = 1 << 22

_SIMILARITY_BYTES = 2 * 4 * _SIMILARITIES

_COMPARED_ROWS, _COMPARED = 1024, 16

# Of rows whose sets the ends of the brackets do not settle: the share, times the root of the sample's rows, about what
# it was on made-up pools, and bytes kept of each.
_OPEN_SHARE, _OPEN_ROW = 13.0, 200

# Directions that a clustering compares along, where it has so many products to take.
_WIDTH, _LEAST_PRODUCTS, _LEAST_CENTROIDS = 192, 2e10, 512

# What is guessed: epochs of a head's training, Lloyd iterations, and the share of the products that directions leave.
_EPOCHS, _ITERATIONS, _SHARE_ALONG = 60, 10, 0.2

# A clustering of one class's candidates, which is as good as all calls and no arithmetic.
_CLUSTERING_SECONDS = 4e-3


class _Work(NamedTuple):
    """What takes time: multiply-adds, bytes that are read, pairs of logits that are scored, and small clusterings."""

    products: float = 0.0
    read: float = 0.0
    scored: float = 0.0
    clusterings: float = 0.0

    def seconds(self, rates: Rates) -> float:
        of_rates = self.products / rates.products + self.read / rates.read + self.scored / rates.scored
        return of_rates + self.clusterings * _CLUSTERING_SECONDS


def forecast(problem: Problem, rates: Rates | None = None) -> Plan:
    """The plan of a query; with seconds where the machine's rates are known."""
    model = _Model(problem)
    model.check()
    if problem.budget:
        if problem.cold:
            model.first()
        else:
            model.query()
    stages = model.stages
    if rates is not None:
        stages = {name: replace(stage, seconds=model.work[name].seconds(rates)) for name, stage in stages.items()}
    return Plan(problem.memory.limit, stages)


class _Model:
    """The stages of a query, one after the other, and what stays in memory from each to the next."""

    def __init__(self, problem: Problem) -> None:
        self.p = problem
        self.stages: dict[str, StagePlan] = {}
        self.work: dict[str, _Work] = {}
        self._held = _OVERHEAD
        self._is_picked = problem.n_unlabelled < problem.pool.n_rows  # chunks leave the others out

    def _add(self, name: str, read: dict[Rows, float], memory: float, work: _Work | None = None) -> None:
        """A stage that reads so many rows of each source, and takes `memory` beside what is held."""
        n_bytes = int(sum(n * rows.row_bytes for rows, n in read.items()))
        n_unlabelled = self.p.n_unlabelled
        passes = {rows.name: int(n // n_unlabelled) for rows, n in read.items() if n_unlabelled and n >= n_unlabelled}
        self.stages[name] = StagePlan(passes, n_bytes, int(self._held + memory))
        self.work[name] = (work or _Work())._replace(read=n_bytes)

    def check(self) -> None:
        p = self.p
        kept = self._kept_bytes(p.pool, p.n_labelled)
        read: dict[Rows, float] = {
            rows: p.n_labelled if rows in p.unread else rows.n_rows + (p.n_labelled if rows is p.pool and kept else 0)
            for rows in p.sources
        }
        chunks = [
            rows.resident_bytes(n := self._chunk_rows(rows)) + 8 * n for rows in p.sources if rows not in p.unread
        ]
        chunks += [self._picked_bytes(rows, min(p.n_labelled, self._chunk_rows(rows))) for rows in p.unread]
        labels = 9 * p.pool.n_rows if p.has_labels else 0
        self._add("check", read, max(labels, self._picked_bytes(p.pool, 0) * (kept > 0), *chunks) + kept)
        self._held += kept

    def first(self) -> None:
        """The coverage stage where no student has a say."""
        p = self.p
        n = p.n_unlabelled
        if p.teacher is not None and p.config.acquisition == "trust":
            share = p.config.confident_share * min(1.0, p.budget / p.n_classes)
            n_candidates = min(n, max(1, int(share * n / p.n_classes)))
            candidates = self._kept_bytes(p.space, n_candidates) + self._picked_bytes(p.space, 0)
            chunk = self._scored_chunk(is_kept=False)
            n_chunk = self._logit_rows(p.teacher)
            # The allocator still has what a chunk's copy took.
            copied = p.teacher.resident_bytes(n_chunk, picked=self._is_picked)
            copied -= n_chunk * p.teacher.row_bytes * p.teacher.is_mapped
            memory = 8 * n + max(n * _SORTED_ROW + candidates + copied, chunk)
            read: dict[Rows, float] = dict.fromkeys(p.posteriors, n)
            read[p.space] = read.get(p.space, 0) + max(share * n, min(p.budget, n))
            self._add("coverage", read, memory, self._posterior_work(n))
            return
        if n <= p.budget:
            self._add("coverage", {}, 16 * n)
            return
        n_clusters = p.config.cluster_count(n, p.budget)
        passes, memory, work = self._clustering(p.space, n, n_clusters, p.config.kmeans_max_iter, with_start=True)
        if p.n_labelled:  # distances from what is labelled: lengths once, and products with so many rows at a time
            passes += 1 + -(-p.n_labelled // _COMPARED_ROWS)
            chunk = min(n, p.space.chunk_rows())
            compared = min(p.n_labelled, _COMPARED_ROWS)
            similarities = min(_SIMILARITY_BYTES, 8 * chunk * compared)
            of_lengths = p.space.resident_bytes(chunk, picked=True) + chunk * _COUNTED_ROW
            of_similarities = similarities + int(min(1.0, _SIMILARITIES / (chunk * compared)) * of_lengths)
            memory = max(memory, 8 * n + max(of_lengths, of_similarities)) + self._kept_bytes(p.space, p.n_labelled)
            work = work._replace(products=work.products + float(n) * p.space.n_columns * p.n_labelled)
        self._add("coverage", {p.space: passes * n + p.n_labelled}, memory, work)

    def query(self) -> None:
        self._subpool()
        is_kept = self._posteriors()
        is_scored = self._thresholds(is_kept)
        m, by_trust = self.p.n_scored, self.p.config.acquisition == "trust"
        scores = m * (_DELTA_ROW if not by_trust else _TRUST_ROW if self.p.teacher is not None else _DELTA_ROW)
        read: dict[Rows, float] = {}
        memory, work = 0.0, _Work()
        if not is_scored:
            kept = self.p.computed if is_kept else ()
            read = dict.fromkeys([rows for rows in self.p.posteriors if rows not in kept], m)
            memory = self._scored_chunk(is_kept=is_kept)
            work = _Work(scored=m * self.p.n_classes) if is_kept else self._posterior_work(m)
        n_judged = sampled_rows(self.p.n_labelled, self.p.n_classes)
        for rows in (self.p.given, self.p.teacher):
            if rows is not None:
                read[rows] = read.get(rows, 0) + n_judged
                judged = _JUDGED_LOGIT * self.p.n_classes * n_judged
                memory = max(memory, judged + self._picked_bytes(rows, n_judged))
        self._add("disagreement", read, scores + memory, work)
        self._held += scores - (self._logits_bytes() if is_kept else 0)
        self._coverage()

    def _subpool(self) -> None:
        p = self.p
        if p.n_scored == p.n_left:
            self._add("subpool", {}, 0)
            return
        n_clusters = p.config.cluster_count(p.n_left, p.n_scored)
        is_share = p.n_left < p.n_unlabelled  # a random one, which is read once where it fits
        kept = self._kept_bytes(p.space, p.n_left) if is_share else 0
        passes, memory, work = self._clustering(
            p.space, p.n_left, n_clusters, p.config.subpool_max_iter, with_start=False, is_kept=kept > 0
        )
        if kept:
            filled = self._picked_bytes(p.space, min(p.n_left, self._chunk_rows(p.space)))
            memory, passes = kept + max(memory, filled), 1
        self._add("subpool", {p.space: passes * p.n_left}, memory, work)

    def _posteriors(self) -> bool:
        """Whether logits that are computed are kept, so that no later stage reads their sources for them."""
        p = self.p
        logits = self._logits_bytes()
        is_kept = bool(p.computed) and logits <= p.memory.logits
        read: dict[Rows, float] = dict.fromkeys(p.computed, p.n_scored) if is_kept else {}
        training = self._training_bytes()
        self._held += _TRAINER if training else 0
        computed = [self._computed_chunk(rows) for rows in p.computed]
        memory = max(training, _RETAINED * training + logits + max(computed) if is_kept else 0)
        work = self._training_work(1.0)
        if is_kept:
            work = work._replace(products=work.products + self._posterior_work(p.n_scored).products)
        self._add("posteriors", read, memory, work)
        self._held += (logits if is_kept else 0) + int(_RETAINED * training)
        return is_kept

    def _thresholds(self, is_kept: bool) -> bool:
        """Whether the rows have been scored as well."""
        p, config = self.p, self.p.config
        by_trust = config.acquisition == "trust"
        if by_trust and (p.teacher is None or not p.n_labelled):
            self._add("thresholds", {}, 0)
            return False
        if config.calibration == "coverage":
            of_labelled: dict[Rows, float] = dict.fromkeys(p.posteriors[1:] if p.trains else p.posteriors, p.n_labelled)
            if not p.trains and p.given is None:
                of_labelled.pop(p.pool, None)
            labelled = [self._picked_bytes(rows, p.n_labelled) + 4 * p.n_classes * p.n_labelled for rows in of_labelled]
            memory = max([self._training_bytes(), *labelled])
            self._add("thresholds", of_labelled, memory, self._training_work(config.n_folds - 1.0))
            return False
        m = p.n_scored
        n_sample = size_sample(m, p.n_classes) if config.has_sizes_only else 0
        if not n_sample:
            again: dict[Rows, float] = {} if is_kept else dict.fromkeys(p.posteriors, m)
            chunk = 0 if is_kept else self._scored_chunk(is_kept=False)
            self._add("thresholds", again, chunk + self._bracketed_bytes(), self._posterior_work(m))
            return False
        sample = n_sample * (4 * p.n_classes + max(rows.row_bytes for rows in p.posteriors))
        n_open = m * min(1.0, _OPEN_SHARE / n_sample**0.5)
        scores = m * (_TRUST_ROW if by_trust else _DELTA_ROW)
        memory = max(sample, scores + self._scored_chunk(is_kept=is_kept) + int(n_open * _OPEN_ROW))
        rows = m + n_sample
        read: dict[Rows, float] = {} if is_kept else dict.fromkeys(p.posteriors, rows)
        work = _Work(scored=rows * p.n_classes) if is_kept else self._posterior_work(rows)
        self._add("thresholds", read, memory, work)
        return True

    def _coverage(self) -> None:
        p, config = self.p, self.p.config
        m, b = p.n_scored, p.budget
        read: dict[Rows, float] = {}
        if config.acquisition == "delta":
            n = min(m, config.kappa * b)
            n_clusters = config.cluster_count(n, b)
            kept = self._kept_bytes(p.space, n)
            passes, memory, work = self._clustering(
                p.space, n, n_clusters, config.kmeans_max_iter, with_start=True, is_kept=kept > 0
            )
            filled = self._picked_bytes(p.space, min(n, self._chunk_rows(p.space)))
            self._add("coverage", {p.space: n if kept else n * passes}, max(memory, filled) + kept, work)
            return
        n_student = min(m, config.student_kappa * b, max(config.candidate_limit, 2 * b))
        read[p.pool] = n_student + p.n_labelled
        filled = self._picked_bytes(p.pool, min(n_student, self._chunk_rows(p.pool)))
        greedy = _SIMILARITY_BYTES + _COMPARED * min(n_student, _COMPARED_ROWS) * p.pool.n_columns
        memory = self._kept_bytes(p.pool, n_student) + max(filled, greedy)
        if p.teacher is not None and p.n_labelled:
            memory = max(memory, m * _SORTED_ROW)
            # Half of the picks are taken to be the teacher's.
            read[p.space] = read.get(p.space, 0) + min(m, config.kappa * b // 2)
        led = min(p.n_classes, b) / 2 if p.teacher is not None and p.n_labelled else 0.0
        work = _Work(products=2.0 * n_student * n_student * p.pool.n_columns, clusterings=led)
        self._add("coverage", read, memory, work)

    def _clustering(
        self, rows: Rows, n: int, n_clusters: int, max_iter: int, *, with_start: bool, is_kept: bool = False
    ) -> tuple[int, int, _Work]:
        """Passes at most, bytes and work of a k-means; `with_start` by k-means||, else from random rows.

        Where the rows are kept, that they are is not counted here.
        """
        d = rows.n_columns
        width = min(_WIDTH, d // 3 // 32 * 32)
        products = float(n) * d * n_clusters
        along = (
            width > 0
            and n_clusters * (max_iter + 1) >= _LEAST_CENTROIDS
            and products * (max_iter + 1) >= _LEAST_PRODUCTS
        )
        sketch = n * (width + 12)
        if not along or sketch > self.p.memory.sketch:
            sketch = 0
        centroids = n_clusters * d * (_STARTING_CENTROID if with_start else _CENTROID)
        is_picked = self._is_picked or n < self.p.pool.n_rows
        n_chunk = min(n, self._chunk_rows(rows))
        chunk = rows.resident_bytes(n_chunk, picked=is_picked) + n_chunk * (8 + _COUNTED_ROW * is_picked)
        # Or the rows of two clusters, one of which was empty: they stand all over.
        chunk = 0 if is_kept else max(chunk, self._picked_bytes(rows, min(n_chunk, 2 * n // n_clusters)))
        n_sample = min(n, 2048)
        sample = 4 * n_sample * d
        # Before there are centroids: of the sample, and of the directions that are found in it.
        first = max(self._picked_bytes(rows, n_sample) * (not is_kept) + sample, 4 * sample * along)
        memory = _CLUSTERED_ROW * n + sample + max(first, sketch + centroids + chunk)
        passes = 2 + bool(sketch) + max_iter + (4 if with_start else 0)
        share = _SHARE_ALONG if along else 1.0
        return passes, memory, _Work(products=products * (min(max_iter, _ITERATIONS) + 2) * share)

    def _chunk_rows(self, rows: Rows) -> int:
        return min(rows.n_rows, rows.chunk_rows(self.p.chunk_size))

    def _kept_bytes(self, rows: Rows, n: int) -> int:
        """Bytes of n rows that are kept, 0 where they do not fit."""
        return n * rows.row_bytes if 4 * n * rows.n_columns <= self.p.memory.rows else 0

    def _logits_bytes(self) -> int:
        return 4 * self.p.n_scored * self.p.n_classes * len(self.p.computed)

    def _picked_bytes(self, rows: Rows, n: int) -> int:
        """A copy of n rows from all over a source, and its pages that are touched for it."""
        return n * rows.row_bytes + rows.is_mapped * min(SCATTERED_BYTES, rows.n_rows * rows.row_bytes)

    def _read_bytes(self, rows: Rows, n: int) -> int:
        """A chunk of n of the scored rows of a source."""
        if self.p.n_scored < self.p.n_left or self.p.n_left < self.p.n_unlabelled:
            return self._picked_bytes(rows, n)
        return rows.resident_bytes(n, picked=self._is_picked) + n * _COUNTED_ROW * self._is_picked

    def _logit_rows(self, rows: Rows | None) -> int:
        """Rows of a chunk of logits that are computed from `rows`, or lie somewhere."""
        n = self.p.chunk_size
        if n is None:
            n = max(1, (32 << 20) // (4 * self.p.n_classes))
            n = n if rows is None else min(n, rows.chunk_rows())
        return min(n, self.p.n_scored)

    def _computed_chunk(self, rows: Rows) -> int:
        """What computing a chunk of logits takes."""
        n = self._logit_rows(rows)
        return self._read_bytes(rows, n) + n * (4 * self.p.n_classes + 16)

    def _scored_chunk(self, *, is_kept: bool) -> int:
        """A chunk of all logits in step, and its scores."""
        p = self.p
        again = () if is_kept else p.computed
        n = self._logit_rows(p.posteriors[0] if p.posteriors[0] in again else None)
        read = sum(self._read_bytes(rows, n) for rows in p.posteriors if rows in again or rows not in p.computed)
        return read + n * (4 * p.n_classes * len(again) + _SCORED_ROW)

    def _bracketed_bytes(self) -> int:
        """Scores inside the brackets of thresholds, as doubles, joined and partitioned."""
        return int(min(_BRACKETED_BYTES, _BRACKETED_SHARE * 3 * 8 * self.p.n_scored * self.p.n_classes))

    def _training_bytes(self) -> int:
        """What training a head holds: embeddings, a batch's doubles and probabilities, weights with AdamW's moments."""
        p = self.p
        if not p.trains:
            return 0
        n, d, c = p.n_labelled, p.pool.n_columns, p.n_classes
        batch = min(n, p.config.batch_size)
        return 8 * n * d + 32 * batch * d + 16 * batch * c + WEIGHT_BYTES * c * d

    def _training_work(self, share: float) -> _Work:
        """Of training heads on so many times the labelled rows; on one thread, at half the rate of a product."""
        p = self.p
        if not p.trains:
            return _Work()
        epochs = min(p.config.max_epochs, _EPOCHS)
        return _Work(products=4.0 * share * epochs * p.n_labelled * p.pool.n_columns * p.n_classes)

    def _posterior_work(self, n: float) -> _Work:
        columns = sum(rows.n_columns for rows in self.p.posteriors if rows in self.p.computed)
        return _Work(products=n * columns * self.p.n_classes, scored=n * self.p.n_classes)
