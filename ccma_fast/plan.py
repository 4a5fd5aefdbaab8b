"""What a query will take, before it runs: the cost model of every stage.

Bytes and memory follow from shapes and the configuration alone. Seconds need the machine's rates, which
:func:`machine_rates` measures in under a second.

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
head on them takes; logits that are kept; a chunk of each source (its pages and, with labels, a copy) and its logits;
the candidates, and what k-means holds for K clusters; some MB for buffers of libraries.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from ._dispatch import Backend
from ._in_use import reading
from ._memory import Memory
from ._order_statistic import size_sample
from ._suspicions import judged_rows
from .config import CCMAConfig
from .pool import Rows

__all__ = ["Plan", "Problem", "Rates", "StagePlan", "StageTotals", "forecast", "machine_rates"]

# Resident memory that libraries, threads and the allocator take once something runs.
_OVERHEAD = 6 << 20

# Bytes of one row's scores with "trust" and a teacher, and with "delta"; and of what sorting them by class takes.
_TRUST_ROW, _DELTA_ROW, _SORTED_ROW = 14, 4, 16

# A clustering's labels, distances, weights, factors and potentials of one row.
_CLUSTERED_ROW = 32

# What judging the logits of labelled rows takes for each: in float32, and in float64 beside its exponential and copies.
_JUDGED_LOGIT = 40

# Scores inside the bracket of a threshold.
_BRACKETED_BYTES, _BRACKETED_SHARE = 3 * (8 << 22), 0.05

# Share of what training held that the allocator keeps for later.
_RETAINED = 0.5

# Similarities that greedy coverage looks at together, and bytes of them with what is computed from them.
_SIMILARITIES = 1 << 22
_GREEDY_BYTES = 5 * 4 * _SIMILARITIES

# Labelled rows whose similarities to all others are computed in one pass.
_DISTANCE_ROWS = 1024

# Of rows whose sets the ends of the brackets do not settle: the share, times the root of the sample's rows, about what
# it was on made-up pools, and bytes kept of each.
_OPEN_SHARE, _OPEN_ROW = 13.0, 200

# Directions that a clustering compares along, where it has so many products to take.
_WIDTH, _LEAST_PRODUCTS, _LEAST_CENTROIDS = 192, 2e10, 512

# What is guessed: epochs of a head's training, Lloyd iterations, and the share of the products that directions leave.
_EPOCHS, _ITERATIONS, _SHARE_ALONG = 60, 10, 0.2

# A clustering of one class's candidates, which is as good as all calls and no arithmetic.
_CLUSTERING_SECONDS = 4e-3


class Rates(NamedTuple):
    """What this machine does in a second."""

    products: float
    """float32 multiply-adds of rows with class weights."""
    read: float
    """Bytes of the pool, read and checked."""
    scored: float
    """Pairs of logits of student and teacher."""


@dataclass(frozen=True)
class StagePlan:
    """What one stage is expected to take."""

    passes: dict[str, int]
    """How often all unlabelled rows of a source are read, by its name; at most, for a clustering."""
    bytes_read: int
    """Bytes taken from features, logits and teacher; at most, for a clustering."""
    peak_memory: int
    """Bytes by which resident memory, mapped files included, exceeds that before the query."""
    seconds: float | None = None
    """None where no rates were measured."""


class StageTotals:
    """What follows from the stages of a query, as planned or as they were."""

    stages: Mapping[str, Any]

    @property
    def bytes_read(self) -> int:
        """Of all stages."""
        return sum(stage.bytes_read for stage in self.stages.values())

    @property
    def peak_memory(self) -> int:
        """The most of any stage, in bytes."""
        return max((stage.peak_memory for stage in self.stages.values()), default=0)


@dataclass(frozen=True)
class Plan(StageTotals):
    """What a query is expected to take, see :mod:`ccma_fast.plan`."""

    memory_limit: int
    """Bytes."""
    stages: dict[str, StagePlan] = field(default_factory=dict)

    @property
    def seconds(self) -> float | None:
        """Of all stages; None where no rates were measured."""
        known = [stage.seconds for stage in self.stages.values() if stage.seconds is not None]
        return sum(known) if known else None

    @property
    def passes(self) -> dict[str, int]:
        """How often all unlabelled rows of each source are read."""
        names = dict.fromkeys(name for stage in self.stages.values() for name in stage.passes)
        return {name: sum(stage.passes.get(name, 0) for stage in self.stages.values()) for name in names}

    def to_dict(self) -> dict[str, Any]:
        """The plan as plain Python values, for JSON."""
        total = {name: getattr(self, name) for name in ("passes", "bytes_read", "peak_memory", "seconds")}
        return asdict(self) | {"total": total}

    def __str__(self) -> str:
        whole = StagePlan(self.passes, self.bytes_read, self.peak_memory, self.seconds)
        lines = [f"{'stage':14}{'read':>12}{'peak memory':>14}{'time':>10}  passes"]
        for name, stage in {**self.stages, "total": whole}.items():
            passes = ", ".join(f"{source} {n}" for source, n in stage.passes.items() if n) or "-"
            seconds = "" if stage.seconds is None else f"{stage.seconds:.1f} s"
            read, peak = f"{stage.bytes_read / 1e6:,.1f} MB", f"{stage.peak_memory / 1e6:,.0f} MB"
            lines.append(f"{name:14}{read:>12}{peak:>14}{seconds:>10}  {passes}")
        lines.append(f"memory_limit {self.memory_limit / 1e6:,.0f} MB, and at most 32 bytes a row")
        return "\n".join(lines)


@dataclass(frozen=True)
class Problem:
    """What a query is asked, as far as its cost goes."""

    config: CCMAConfig
    memory: Memory
    chunk_size: int | None
    pool: Rows
    given: Rows | None
    teacher: Rows | None
    space: Rows
    computed: tuple[Rows, ...]
    """Sources whose logits are computed, not read."""
    unread: frozenset[Rows]
    """Sources that are checked while they are scored."""
    n_labelled: int
    has_labels: bool
    """Whether labels were given, be they none."""
    n_left: int
    """Rows that may be scored."""
    n_scored: int
    n_classes: int
    budget: int
    cold: bool
    trains: bool
    """Whether a head is fitted."""

    @property
    def sources(self) -> list[Rows]:
        return list(dict.fromkeys(rows for rows in (self.pool, self.given, self.teacher) if rows is not None))

    @property
    def posteriors(self) -> list[Rows]:
        """Sources of the logits."""
        student = [] if self.cold else [self.pool if self.given is None else self.given]
        return student if self.teacher is None else [*student, self.teacher]


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
        self._copies = 2 if problem.n_labelled else 1  # pages of a chunk, and its rows but for the labelled ones

    def _add(self, name: str, read: dict[Rows, float], memory: float, work: _Work | None = None) -> None:
        """A stage that reads so many rows of each source, and takes `memory` beside what is held."""
        n_bytes = int(sum(n * rows.row_bytes for rows, n in read.items()))
        n_unlabelled = self.p.pool.n_rows - self.p.n_labelled
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
        chunk = max((self._chunk_rows(rows) * rows.row_bytes for rows in p.sources if rows not in p.unread), default=0)
        labels = 9 * p.pool.n_rows if p.has_labels else 0
        self._add("check", read, max(labels, chunk) + kept)
        self._held += kept

    def first(self) -> None:
        """The coverage stage where no student has a say."""
        p = self.p
        n = p.pool.n_rows - p.n_labelled
        if p.teacher is not None and p.config.acquisition == "trust":
            share = p.config.confident_share * min(1.0, p.budget / p.n_classes)
            candidates = self._kept_bytes(p.space, min(n, max(1, int(share * n / p.n_classes))))
            memory = max(n * (8 + _SORTED_ROW), 8 * n + self._posterior_chunk()) + candidates
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
            passes += 1 + -(-p.n_labelled // _DISTANCE_ROWS)
            chunk = min(n, p.space.chunk_rows())
            similarities = 4 * min(_SIMILARITIES, chunk * min(p.n_labelled, _DISTANCE_ROWS))
            distances = 8 * n + similarities + 4 * chunk * p.space.row_bytes  # pages, and copies: two, one freed
            memory = max(memory, distances) + self._kept_bytes(p.space, p.n_labelled)
            work = work._replace(products=work.products + float(n) * p.space.n_columns * p.n_labelled)
        self._add("coverage", {p.space: passes * n + p.n_labelled}, memory, work)

    def query(self) -> None:
        self._subpool()
        is_kept, is_read = self._posteriors()
        is_scored = self._thresholds(is_kept)
        m, by_trust = self.p.n_scored, self.p.config.acquisition == "trust"
        scores = m * (_DELTA_ROW if not by_trust else _TRUST_ROW if self.p.teacher is not None else _DELTA_ROW)
        read: dict[Rows, float] = {}
        memory, work = 0, _Work()
        if not is_scored:
            read = {} if is_read else dict.fromkeys(self.p.posteriors, m)
            memory = 0 if is_kept else self._posterior_chunk()
            work = _Work(scored=m * self.p.n_classes) if is_kept else self._posterior_work(m)
        n_judged = judged_rows(self.p.n_labelled, self.p.n_classes)
        for rows in (self.p.given, self.p.teacher):
            if rows is not None:
                read[rows] = read.get(rows, 0) + n_judged
                memory = max(memory, _JUDGED_LOGIT * n_judged * self.p.n_classes)
        self._add("disagreement", read, scores + memory, work)
        self._held += scores - (self._logits_bytes() if is_kept else 0)
        self._coverage()

    def _subpool(self) -> None:
        p = self.p
        if p.n_scored == p.n_left:
            self._add("subpool", {}, 0)
            return
        n_clusters = p.config.cluster_count(p.n_left, p.n_scored)
        passes, memory, work = self._clustering(
            p.space, p.n_left, n_clusters, p.config.subpool_max_iter, with_start=False
        )
        if p.n_left < p.pool.n_rows - p.n_labelled:  # a random share, which is read once where it fits
            kept = self._kept_bytes(p.space, p.n_left)
            memory, passes = memory + kept, 1 if kept else passes
        self._add("subpool", {p.space: passes * p.n_left}, memory, work)

    def _posteriors(self) -> tuple[bool, bool]:
        """Whether logits are kept, and whether no later stage reads a source for them."""
        p = self.p
        logits = self._logits_bytes()
        is_kept = bool(p.computed) and logits <= p.memory.logits
        read: dict[Rows, float] = dict.fromkeys(p.computed, p.n_scored) if is_kept else {}
        memory = max(self._training_bytes(), logits + self._posterior_chunk() if is_kept else 0)
        work = self._training_work(1.0)
        if is_kept:
            work = work._replace(products=work.products + self._posterior_work(p.n_scored).products)
        self._add("posteriors", read, memory, work)
        self._held += (logits if is_kept else 0) + int(_RETAINED * self._training_bytes())
        return is_kept, is_kept and len(p.computed) == len(p.posteriors)

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
            self._add("thresholds", of_labelled, self._training_bytes(), self._training_work(config.n_folds - 1.0))
            return False
        m = p.n_scored
        n_sample = size_sample(m, p.n_classes) if config.has_sizes_only else 0
        if not n_sample:
            again: dict[Rows, float] = {} if is_kept else dict.fromkeys(p.posteriors, m)
            chunk = 0 if is_kept else self._posterior_chunk()
            self._add("thresholds", again, chunk + self._bracketed_bytes(), self._posterior_work(m))
            return False
        sample = n_sample * (4 * p.n_classes + max(rows.row_bytes for rows in p.posteriors))
        n_open = m * min(1.0, _OPEN_SHARE / n_sample**0.5)
        scores = m * (_TRUST_ROW if by_trust else _DELTA_ROW)
        memory = max(sample, scores + self._posterior_chunk() + int(n_open * _OPEN_ROW))
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
            passes, memory, work = self._clustering(p.space, n, n_clusters, config.kmeans_max_iter, with_start=True)
            self._add("coverage", {p.space: n if kept else n * passes}, memory + kept, work)
            return
        n_student = min(m, config.student_kappa * b, max(config.candidate_limit, 2 * b))
        read[p.pool] = n_student + p.n_labelled
        memory = self._kept_bytes(p.pool, n_student) + _GREEDY_BYTES
        if p.teacher is not None and p.n_labelled:
            memory = max(memory, m * _SORTED_ROW)
            # Half of the picks are taken to be the teacher's.
            read[p.space] = read.get(p.space, 0) + min(m, config.kappa * b // 2)
        led = min(p.n_classes, b) / 2 if p.teacher is not None and p.n_labelled else 0.0
        work = _Work(products=2.0 * n_student * n_student * p.pool.n_columns, clusterings=led)
        self._add("coverage", read, memory, work)

    def _clustering(
        self, rows: Rows, n: int, n_clusters: int, max_iter: int, *, with_start: bool
    ) -> tuple[int, int, _Work]:
        """Passes at most, bytes and work of a k-means; `with_start` by k-means||, else from random rows."""
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
        centroids = n_clusters * d * (4 * 6 + 8) + (8 * n_clusters * d * 2 if with_start else 0)
        chunk = min(n, self._chunk_rows(rows)) * rows.row_bytes
        sample = (20 if along else 4) * min(n, 2048) * d
        memory = _CLUSTERED_ROW * n + sketch + sample + centroids + self._copies * chunk
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

    def _posterior_chunk(self) -> int:
        """A chunk of every source, its pages and its copy, and of its logits."""
        p = self.p
        n = self.p.chunk_size
        if n is None:
            n = min(rows.chunk_rows() for rows in p.posteriors[:1])
            n = min(n, max(1, (32 << 20) // (4 * p.n_classes)))
        n = min(n, p.n_scored)
        logits = 4 * n * p.n_classes * len(p.posteriors)
        return logits + self._copies * n * max(rows.row_bytes for rows in p.posteriors)

    def _bracketed_bytes(self) -> int:
        """Scores inside the brackets of thresholds, as doubles, joined and partitioned."""
        return int(min(_BRACKETED_BYTES, _BRACKETED_SHARE * 3 * 8 * self.p.n_scored * self.p.n_classes))

    def _training_bytes(self) -> int:
        """What training a head holds: embeddings, their doubles, probabilities, weights with AdamW's moments."""
        p = self.p
        if not p.trains:
            return 0
        n, d, c = p.n_labelled, p.pool.n_columns, p.n_classes
        return 36 * n * d + 16 * n * c + 48 * c * d

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


# Rows on which rates are measured, and bytes of the pool.
_RATE_ROWS, _RATE_BYTES = 2048, 16 << 20


def machine_rates(problem: Problem, backend: Backend) -> Rates:
    """The rates of this machine, measured on a little of the pool and on made-up logits; takes under a second."""
    from .pool import ArrayRows

    pool, rng = problem.pool, np.random.default_rng(0)
    n_classes = min(max(2, problem.n_classes), 2048)
    n_rows = min(pool.n_rows, max(1, _RATE_BYTES // pool.row_bytes))
    starts = [(pool.n_rows - n_rows) * i // 2 for i in range(3)]  # some of it may be cached, some not
    start = time.perf_counter()
    for first in starts:
        with reading():
            backend.row_lengths(pool.slice(first, first + n_rows))
            pool.release(first, first + n_rows)
    read = len(starts) * n_rows * pool.row_bytes / (time.perf_counter() - start)
    x = rng.standard_normal((_RATE_ROWS, min(1024, pool.n_columns)), dtype=np.float32)
    weights = rng.standard_normal((n_classes, x.shape[1]), dtype=np.float32)
    logits = ArrayRows(backend.linear(x[:64], weights).repeat(_RATE_ROWS // 64, axis=0), "logits")
    products = x.size * n_classes / _least_seconds(lambda: backend.linear(x, weights))
    scored = logits.n_rows * n_classes / _least_seconds(lambda: backend.score(logits, logits, 2.0, 2.0))
    return Rates(products, read, scored)


def _least_seconds(call: Callable[[], Any]) -> float:
    """Of a few calls: whatever disturbs one makes it longer."""
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return min(seconds)
