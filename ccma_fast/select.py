"""The query: the method's steps 1 to 6, top to bottom."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from . import _dispatch
from ._dispatch import Backend
from ._validate import (
    check_integer,
    check_labels,
    check_same_rows,
)
from .clustering import cluster
from .config import CCMAConfig
from .conformal import Cuts, calibrated_cuts, labelled_scores, open_logits, trust
from .coverage import UnitRows, class_quotas, greedy_coverage
from .pool import Rows, RowSubset, open_rows
from .readers.labels import open_labels
from .reference import KMeans, RowScores, representatives
from .student import (
    LinearHead,
    check_student,
    check_two_classes,
    class_count,
    fit_student,
    out_of_fold_scores,
)
from .student import (
    student_logits as logits_of_student,
)
from .teacher import Teacher

__all__ = ["Report", "Selection", "Stage", "query", "select"]

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]

# Logits of the scored rows are kept between the threshold and the score while both fit into this.
_KEPT_LOGITS_BYTES = 1 << 29


@dataclass(frozen=True)
class Stage:
    """What one stage of a query took."""

    seconds: float
    """Wall time."""
    bytes_read: int
    """Bytes taken from features, logits and teacher, wherever they lie."""


@dataclass
class Report:
    """What a query did, in the order in which it did it.

    Counts are rows. Thresholds are in units of the nonconformity score, for "lac" −ln p in nats: the median over the
    scored rows where calibration is weighted, NaN where there is none. Set sizes and the overlap are mean numbers of
    classes over the scored rows.
    """

    backend: str = ""
    mode: str = ""
    """"cold start" (no labels and no student logits: unit weights over the pool) or "query"."""
    n_rows: int = 0
    n_labelled: int = 0
    n_unlabelled: int = 0
    n_classes: int = 0
    """0 at cold start without a teacher."""
    n_subpool_clusters: int = 0
    """0 where every row was scored."""
    n_scored: int = 0
    calibration: str = ""
    """"coverage" or "target_size"; empty where no sets were formed."""
    q_student: float = float("nan")
    q_teacher: float = float("nan")
    mean_student_set: float = float("nan")
    mean_teacher_set: float = float("nan")
    mean_overlap: float = float("nan")
    top1_disagreement: float = float("nan")
    """Share of the scored rows whose most probable classes differ, in [0, 1]."""
    trust: float = float("nan")
    """t, the share of the picks that the teacher led but for rounding, see :func:`select`; NaN where the default's
    query was not asked.
    """
    n_candidates: int = 0
    n_clusters: int = 0
    """Clusters of the coverage step's k-means, all classes together."""
    kmeans_iterations: int = 0
    """The most of any of its clusterings."""
    inertia: float = 0.0
    """Its objective Σ δ ‖v − μ‖² on unit rows."""
    forced: list[str] = field(default_factory=list)
    """What the manifests of the pool's parts say against each other, taken all the same."""
    stages: dict[str, Stage] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The report as plain Python values, for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        lines = [f"{name:20} {value}" for name, value in self.to_dict().items() if name != "stages"]
        lines += [f"{name:20} {s.seconds:.3f} s, {s.bytes_read / 1e6:.1f} MB read" for name, s in self.stages.items()]
        return "\n".join(lines)


class _Picks(NamedTuple):
    """Chosen rows, by their positions among the scored ones."""

    positions: Int64
    scores: Float32
    represents: Int64

    def in_order(self, order: Int64) -> _Picks:
        return _Picks(self.positions[order], self.scores[order], self.represents[order])

    @classmethod
    def joined(cls, parts: Sequence[_Picks]) -> _Picks:
        positions, scores, represents = zip(*parts, strict=True)
        return cls(np.concatenate(positions), np.concatenate(scores), np.concatenate(represents))


_NO_PICKS = _Picks(np.empty(0, np.int64), np.empty(0, np.float32), np.empty(0, np.int64))


@dataclass(frozen=True, eq=False)
class Selection:
    """The rows to label.

    Attributes
    ----------
    indices : ndarray, shape (B,), int64
        Positions in `features`, distinct, never a labelled row, in the order of choice: those that the teacher leads,
        largest δ first, then those that the student leads; with ``acquisition="delta"`` and without labels the first
        pick of every cluster, heaviest cluster first, then second picks.
    scores : ndarray, shape (B,), float32
        δ of each pick, see :func:`select`; NaN at cold start.
    represents : ndarray, shape (B,), int64
        How many candidate rows stand behind each pick, itself included: its cluster, or those nearest to it.
    report : Report
    """

    indices: Int64
    scores: Float32
    represents: Int64
    report: Report

    def __len__(self) -> int:
        return int(self.indices.size)


def select(
    features: Any,
    budget: int,
    *,
    labels: Any = None,
    teacher: Teacher | None = None,
    student: Any = None,
    student_logits: Any = None,
    config: CCMAConfig | None = None,
    random_state: int = 0,
    backend: str = "auto",
    chunk_size: int | None = None,
) -> Selection:
    """Choose the rows of a pool whose labels teach a classifier the most.

    One query of Conformal Cross-Modal Acquisition (Nguyen et al., arXiv 2603.23159), by default with the package's own
    rule for who chooses, ``CCMAConfig(acquisition="trust")``. The labelled rows calibrate the conformal sets of student
    (out of fold) and teacher to the same coverage; the teacher is trusted with the share t of the student's ambiguity
    that it resolves, t = max(0, 1 − (|Γ_T| − 1) / (|Γ_S| − 1)) of the mean set sizes, and leads that share of the
    picks. Its picks go to its own classes, those with the fewest labels first; in each, of the κ rows for each pick of
    largest δ = max p^T · (m + J / ln 2) (the teacher is sure, while the student is not, m = 1 − (p^S_1 − p^S_2), or
    says otherwise, J inside the union of both sets), k-means weighted by δ finds the most central. The student leads
    the other picks: of the rows of largest δ = m those that, one after the other, reduce Σ δ · min ‖x − x_j‖² the most,
    where j runs over all that is labelled or picked. So a teacher whose sets are no smaller than the student's has no
    say, and the query is uncertainty coverage in the student's space.

    Without labels and student logits a teacher chooses the first labels alone: of each of its classes the most central
    rows of the quarter that it is surest of. Without a teacher they cover the pool: k-means on the L2-normalised rows,
    one row per cluster. Student logits without any label leave nothing to judge the teacher by: t = 0.

    ``acquisition="delta"`` is the published query instead: δ = g · J + (1 − g) · H, the κ · B rows of largest δ, and
    δ-weighted k-means coverage of those.

    Parameters
    ----------
    features : array_like, np.memmap, torch.Tensor, datasets.Dataset or path, shape (N, D_S)
        The student's embeddings x, in anything that :func:`ccma_fast.pool.open_rows` opens. float16, bfloat16 and
        float32 are read as they are, chunk by chunk.
    budget : int
        B ≥ 1.
    labels : array_like or path, shape (N,), optional
        Class of each row from 0 to C − 1; −1 or NaN where there is none. Files as in
        :func:`ccma_fast.readers.labels.open_labels`.
    teacher : Teacher, optional
        Zero-shot posteriors, and the space in which coverage runs (the student's, where it has no features). Without a
        teacher the student leads every pick; with ``acquisition="delta"`` δ is then its entropy.
    student : object with `fit` and `predict_proba`, optional
        Fitted on the labelled rows (a copy is); a :class:`LinearHead` by default.
    student_logits : array_like, shape (N, C), optional
        z^S of every row, instead of fitting a student.
    config : CCMAConfig, optional
        Every constant of the method.
    random_state : int, default 0
        Seed of the subpool, the student and the k-means of the coverage, where the query has them. The same seed gives
        the same picks, whatever the number of threads, the chunk size or the storage of the features.
    backend : {"auto", "cuda", "cpu", "reference"}
    chunk_size : int, optional
        Rows read at once; by default some 32 MiB of them.

    Returns
    -------
    Selection
        Exactly min(B, number of unlabelled rows) picks.

    Raises
    ------
    PoolMismatchError
        The teacher's images are by their manifest not those of `features`.
    ValueError
        NaN or infinity (the row is named), a zero vector where coverage needs a direction, shapes or row counts that do
        not agree, labels out of range or of fewer than two classes, a budget below 1.
    TypeError
        Inputs of the wrong type.

    Examples
    --------
    >>> import numpy as np, ccma_fast as cf
    >>> x = np.random.default_rng(0).standard_normal((1000, 16), dtype=np.float32)
    >>> picks = cf.select(x, 5)
    >>> len(set(picks.indices.tolist()))
    5
    """
    check_arguments(teacher, student, config)
    if chunk_size is not None:
        check_integer("chunk_size", chunk_size, minimum=1)
    check_integer("random_state", random_state, minimum=0)
    pool = open_rows(features, "features")
    query = _Query(pool, config or CCMAConfig(), _dispatch.choose(backend, pool), random_state, chunk_size)
    return query.run(check_integer("budget", budget, minimum=1), labels, teacher, student, student_logits)


def query(
    features: Rows,
    budget: int,
    *,
    labels: Int64,
    teacher: Teacher | None,
    fitted: Any,
    config: CCMAConfig,
    random_state: int,
    backend: Backend,
) -> Selection:
    """:func:`select` for a loop that has checked its inputs and fitted the student on the labelled rows."""
    state = _Query(features, config, backend, random_state, None)
    return state.run(budget, labels, teacher, fitted, None, is_fitted=True)


def check_arguments(teacher: Any, student: Any, config: Any) -> None:
    """What a query is asked with is of the right types."""
    if config is not None and not isinstance(config, CCMAConfig):
        raise TypeError(f"config must be a CCMAConfig, got {type(config).__name__}")
    if teacher is not None and not isinstance(teacher, Teacher):
        raise TypeError(f"teacher must be a ccma_fast.Teacher, got {type(teacher).__name__}")
    if student is not None:
        check_student(student)


class _Query:
    """One query: its inputs, its random streams, and the report that it writes."""

    def __init__(
        self, pool: Rows, config: CCMAConfig, backend: Backend, random_state: int, chunk_size: int | None
    ) -> None:
        self.pool, self.config, self.backend, self.chunk_size = pool, config, backend, chunk_size
        streams = np.random.SeedSequence(random_state).spawn(3)
        self.rng_subpool, self.rng_student, self.rng_coverage = map(np.random.default_rng, streams)
        self.report = Report(backend=backend.describe(), n_rows=pool.n_rows)
        self._sources: list[tuple[Rows, int]] = []  # what is read, and how much of it had been read before
        self._add_source(pool)

    def run(
        self,
        budget: int,
        labels: Any,
        teacher: Teacher | None,
        student: Any,
        student_logits: Any,
        *,
        is_fitted: bool = False,
    ) -> Selection:
        """The query. A student that `is_fitted` on the labelled rows is used as it is."""
        report = self.report
        with self._stage("check"):
            given = None if student_logits is None else self._given_logits(student_logits)
            n_classes = self._class_count(teacher, given)
            names = None if teacher is None else teacher.class_names
            y = check_labels(open_labels(labels, self.pool.n_rows, class_names=names), self.pool.n_rows, n_classes)
            space = self._coverage_space(teacher)
            labelled, unlabelled = np.flatnonzero(y >= 0), np.flatnonzero(y < 0)
            if given is not None and student is not None:
                raise ValueError("give student or student_logits, not both")
            cold = labelled.size == 0 and given is None
            if cold and student is not None:
                raise ValueError("a student needs labels of at least two classes, got no labelled row")
            if n_classes is None and not cold:
                n_classes = class_count(student, y)
            if not cold and given is None:
                check_two_classes(y[labelled])
            by_trust = self.config.acquisition == "trust"
            self._check_values({space} if cold or not by_trust else {space, self.pool})
        report.mode = "cold start" if cold else "query"
        report.n_labelled, report.n_unlabelled = labelled.size, unlabelled.size
        report.n_classes = n_classes or 0
        budget = min(budget, unlabelled.size)
        if budget == 0:
            return self._selection(unlabelled, _NO_PICKS)
        z_teacher = None if teacher is None else teacher.logits(self.backend)
        if cold:
            with self._stage("coverage"):
                if by_trust and z_teacher is not None:
                    return self._selection(unlabelled, self._first_by_class(z_teacher, space, unlabelled, budget))
                report.n_candidates = unlabelled.size
                picks, represents = self._cover(space, unlabelled, None, budget)
                return self._selection(unlabelled, _Picks(picks, np.full(budget, np.nan, np.float32), represents))

        assert n_classes is not None, "a query has labels or logits"
        # 1. Subpool
        with self._stage("subpool"):
            scored = self._subpool(space, unlabelled, budget)
        # 2. Posteriors
        with self._stage("posteriors"):
            if given is None:
                if student is None:
                    student = LinearHead.from_config(self.config, n_classes, self.rng_student)
                fitted = student
                if not is_fitted:
                    fitted = fit_student(student, RowSubset(self.pool, labelled), y[labelled], n_classes)
                z_student = logits_of_student(fitted, self.pool, n_classes, self.backend)
            else:
                z_student = given
            of_scored = RowSubset(z_student, scored)
            scored_student = self.backend.kept(of_scored, _KEPT_LOGITS_BYTES, self.chunk_size)
            scored_teacher = None
            if z_teacher is not None:
                scored_teacher = self.backend.kept(RowSubset(z_teacher, scored), _KEPT_LOGITS_BYTES, self.chunk_size)
        # 3. Conformal sets
        rows: RowScores | None = None
        with self._stage("thresholds"):
            cuts = Cuts(np.inf, np.inf, np.nan, np.nan)
            # Uncertainty alone, which is what the default does without a teacher that can be judged, needs no sets.
            judged = not by_trust or (z_teacher is not None and labelled.size > 0)
            report.calibration = self.config.calibration if judged else ""
            if judged and scored_student is of_scored and self.config.has_sizes_only:
                # Thresholds that depend on all logits, and logits that are not kept: both steps in one pass.
                q_student, q_teacher, rows = self.backend.score_at_sizes(
                    scored_student,
                    scored_teacher,
                    self.config.student_set_size,
                    self.config.teacher_set_size,
                    chunk_size=self.chunk_size,
                )
                cuts = Cuts(q_student, q_teacher, q_student, np.nan if scored_teacher is None else q_teacher)
            elif judged:
                of_labelled = RowSubset(z_student, labelled)
                student_scores = None
                if self.config.calibration == "coverage":
                    if given is None:
                        student_scores = out_of_fold_scores(
                            student,
                            RowSubset(self.pool, labelled),
                            y[labelled],
                            n_classes,
                            self.config,
                            self.rng_student,
                            self.backend,
                        )
                    else:
                        student_scores = labelled_scores(of_labelled, y[labelled], self.config)
                teacher_logits = None
                if z_teacher is not None and scored_teacher is not None:
                    teacher_logits = RowSubset(z_teacher, labelled), scored_teacher
                cuts = calibrated_cuts(
                    (of_labelled, scored_student),
                    teacher_logits,
                    y[labelled],
                    self.config,
                    self.backend,
                    student_scores=student_scores,
                    chunk_size=self.chunk_size,
                )
            report.q_student, report.q_teacher = cuts.q_student, cuts.q_teacher
        # 4. Disagreement
        with self._stage("disagreement"):
            if rows is None:
                rows = self.backend.score(
                    scored_student, scored_teacher, cuts.student, cuts.teacher, chunk_size=self.chunk_size
                )
        report.n_scored = scored.size
        if report.calibration:
            report.mean_student_set = float(rows.student_size.mean())
        if teacher is not None:
            report.top1_disagreement = float(rows.top1_differs.mean())
            if report.calibration:
                report.mean_teacher_set, report.mean_overlap = (
                    float(rows.teacher_size.mean()),
                    float(rows.overlap.mean()),
                )
        # 5. Candidates and 6. Coverage
        with self._stage("coverage"):
            if by_trust:
                return self._selection(scored, self._picks_by_trust(rows, space, scored, y, budget))
            return self._selection(scored, self._picks_by_delta(rows.delta, space, scored, budget))

    def _picks_by_delta(self, delta: Float32, space: Rows, scored: Int64, budget: int) -> _Picks:
        """Steps 5 and 6 as published: the κ · B rows of largest δ, spread by k-means."""
        candidates = np.sort(self.backend.top_m(delta, self.config.kappa * budget))
        self.report.n_candidates = candidates.size
        picks, represents = self._cover(space, scored[candidates], delta[candidates], budget)
        return _Picks(candidates[picks], delta[candidates[picks]], represents)

    def _picks_by_trust(self, rows: RowScores, space: Rows, scored: Int64, y: Int64, budget: int) -> _Picks:
        """Steps 5 and 6 of the default: the teacher leads as large a share of the picks as it is trusted."""
        report = self.report
        report.trust = 0.0
        if report.calibration:
            report.trust = trust(report.mean_student_set, report.mean_teacher_set)
        n_led = int(report.trust * budget + 0.5)
        labelled = np.flatnonzero(y >= 0)
        uncertainty = 1.0 - rows.margin
        led = _NO_PICKS
        if n_led:
            disagreement = rows.confidence * (uncertainty + rows.divergence / np.float32(np.log(2.0)))
            already = np.bincount(y[labelled], minlength=report.n_classes)
            led = self._picks_by_class(
                disagreement, rows.teacher_top1, already, space, scored, n_led, kappa=self.config.kappa
            )
        if n_led == budget:
            return led
        free = np.delete(np.arange(scored.size), led.positions)
        covered = np.concatenate([labelled, scored[led.positions]])
        return _Picks.joined([led, self._picks_by_student(uncertainty, free, covered, scored, budget - n_led)])

    def _picks_by_class(
        self,
        scores: Float32,
        classes: npt.NDArray[np.int32],
        already: Int64,
        space: Rows,
        scored: Int64,
        n_picks: int,
        *,
        kappa: int | None,
    ) -> _Picks:
        """Of the teacher's classes, those with the fewest labels first: their best rows, spread by k-means.

        The best are the κ of largest score for each pick or, where κ is None, the configured share of a class.
        """
        n_rows = np.bincount(classes, minlength=already.size)
        by_class = np.argsort(classes, kind="stable")
        ends = np.cumsum(n_rows)
        parts = []
        for c, quota in enumerate(class_quotas(n_rows, already, n_picks)):
            if quota == 0:
                continue
            members = by_class[ends[c] - n_rows[c] : ends[c]]
            m = kappa * quota if kappa is not None else max(quota, int(self.config.confident_share * members.size))
            candidates = members[np.sort(self.backend.top_m(scores[members], int(m)))]
            self.report.n_candidates += candidates.size
            weights = None if kappa is None else scores[candidates]
            picks, represents = self._cover(space, scored[candidates], weights, int(quota))
            parts.append(_Picks(candidates[picks], scores[candidates[picks]], represents))
        whole = _Picks.joined(parts)
        return whole.in_order(np.lexsort((whole.positions, -whole.scores)))

    def _picks_by_student(
        self, uncertainty: Float32, free: Int64, covered: Int64, scored: Int64, n_picks: int
    ) -> _Picks:
        """Of the most uncertain rows, greedily those that are nearest to what neither labels nor picks are near to.

        Minimises Σ_i u_i · min_j ‖x_i − x_j‖² over the candidates i, j running over labelled rows and picks.
        """
        most = max(self.config.candidate_limit, 2 * n_picks)
        n_candidates = min(self.config.student_kappa * n_picks, most)
        candidates = free[np.sort(self.backend.top_m(uncertainty[free], n_candidates))]
        self.report.n_candidates += candidates.size
        rows = UnitRows(RowSubset(self.pool, scored[candidates]), self.backend)
        near = rows.nearest(UnitRows(RowSubset(self.pool, covered), self.backend), -1.0)
        picks = greedy_coverage(
            rows,
            np.arange(candidates.size),
            n_picks,
            near=near,
            kernel=lambda similarity: similarity,
            rng=self.rng_coverage,
            weights=uncertainty[candidates],
        )
        nearest = np.concatenate([part.argmax(axis=1) for _, part in rows.similarities(rows.take(picks))])
        nearest[picks] = np.arange(n_picks)  # a pick stands for itself, also where an equal row was picked before it
        represents = np.bincount(nearest, minlength=n_picks)
        return _Picks(candidates[picks], uncertainty[candidates[picks]], represents)

    def _first_by_class(self, z_teacher: Rows, space: Rows, unlabelled: Int64, budget: int) -> _Picks:
        """The first labels, by the teacher: of the rows that it is surest of, the most central ones of each class."""
        rows = self.backend.score(RowSubset(z_teacher, unlabelled), chunk_size=self.chunk_size)
        none = np.zeros(self.report.n_classes, dtype=np.int64)
        found = self._picks_by_class(rows.margin, rows.student_top1, none, space, unlabelled, budget, kappa=None)
        return found._replace(scores=np.full(budget, np.nan, np.float32))

    def _selection(self, rows: Int64, picks: _Picks) -> Selection:
        return Selection(rows[picks.positions], picks.scores, picks.represents, self.report)

    def _given_logits(self, source: Any) -> Rows:
        logits = open_logits(source, "student_logits")
        check_same_rows("student_logits", logits.n_rows, "features", self.pool.n_rows)
        self._add_source(logits)
        return logits

    def _class_count(self, teacher: Teacher | None, given: Rows | None) -> int | None:
        if teacher is not None:
            self.report.forced = teacher.check_rows(self.pool)
            if given is not None and given.n_columns != teacher.n_classes:
                raise ValueError(
                    f"student_logits has {given.n_columns} classes but the teacher has {teacher.n_classes}; "
                    "both must describe the same classes"
                )
            return teacher.n_classes
        return None if given is None else given.n_columns

    def _coverage_space(self, teacher: Teacher | None) -> Rows:
        """v, or x where the teacher has none."""
        space = self.pool if teacher is None or teacher.features is None else teacher.features
        if teacher is not None and teacher.source is not self.pool:
            self._add_source(teacher.source)
        return space

    def _check_values(self, spaces: set[Rows]) -> None:
        """Every row of every source is finite, also where it will not be scored; those of `spaces` have a direction."""
        for rows, _ in self._sources:
            self.backend.check_rows(rows, directions=rows in spaces, chunk_size=self.chunk_size)

    def _subpool(self, space: Rows, unlabelled: Int64, budget: int) -> Int64:
        """Step 1: the rows to score, ascending."""
        limit = self.config.pool_limit
        if limit is not None and unlabelled.size > (limit := max(limit, budget)):
            unlabelled = np.sort(self.rng_subpool.choice(unlabelled, limit, replace=False))
        n_rows = self.config.subpool_rows(unlabelled.size, budget)
        if n_rows == unlabelled.size:
            return unlabelled
        n_clusters = self.config.cluster_count(unlabelled.size, n_rows)
        found = cluster(
            self.backend,
            RowSubset(space, unlabelled),
            n_clusters,
            method=self.config.subpool_method,
            init="random",
            max_iter=self.config.subpool_max_iter,
            tol=self.config.kmeans_tol,
            random_state=self.rng_subpool,
            unit=True,
            chunk_size=self.chunk_size,
        )
        self.report.n_subpool_clusters = n_clusters
        kept, _ = self._representatives(found, n_rows, None, None)
        return np.sort(unlabelled[kept])

    def _cover(self, space: Rows, rows: Int64, weights: Float32 | None, budget: int) -> tuple[Int64, Int64]:
        """Step 6: positions in `rows` of the picks, and how many rows stand behind each."""
        if rows.size <= budget:
            order = np.arange(rows.size) if weights is None else self.backend.top_m(weights, rows.size)
            return order, np.ones(rows.size, dtype=np.int64)
        n_clusters = self.config.cluster_count(rows.size, budget)
        found = self.backend.weighted_kmeans(
            RowSubset(space, rows),
            n_clusters,
            weights=weights if self.config.weighted_coverage else None,
            max_iter=self.config.kmeans_max_iter,
            tol=self.config.kmeans_tol,
            random_state=self.rng_coverage,
            unit=True,
            chunk_size=self.chunk_size,
        )
        self.report.n_clusters += n_clusters
        self.report.kmeans_iterations = max(self.report.kmeans_iterations, found.n_iter)
        self.report.inertia += found.inertia
        preference = weights if self.config.pick == "highest" else None
        return self._representatives(found, budget, weights if self.config.weighted_coverage else None, preference)

    def _representatives(
        self, found: KMeans, n_picks: int, weights: Float32 | None, preference: Float32 | None
    ) -> tuple[Int64, Int64]:
        ones = np.ones(found.labels.size, np.float32)
        return representatives(
            found.labels,
            found.squared_distances,
            n_picks,
            ones if weights is None else weights,
            len(found.centroids),
            preference=preference,
        )

    @contextmanager
    def _stage(self, name: str) -> Iterator[None]:
        start, before = time.perf_counter(), self._bytes_read()
        yield
        self.report.stages[name] = Stage(time.perf_counter() - start, self._bytes_read() - before)

    def _bytes_read(self) -> int:
        return sum(rows.bytes_read - before for rows, before in self._sources)

    def _add_source(self, rows: Rows) -> None:
        self._sources.append((rows, rows.bytes_read))
