"""The query: the method's steps 1 to 6, top to bottom."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..backends.choose import choose_backend
from ..backends.protocol import Backend, Kernel, on_device, on_host
from ..checks import check_integer, check_same_rows
from ..config import CCMAConfig
from ..errors import TeacherWarning
from ..pool.agreement import accepted, differing_images
from ..pool.arrays import KeptRows, ReadRows
from ..pool.checked import LEAST_LENGTH, JudgedRows
from ..pool.class_names import agreed_class_names
from ..pool.derived import AllBut, DerivedRows, RowSubset
from ..pool.labels import Classes, read_labels
from ..pool.logits import open_logits
from ..pool.open import open_rows
from ..pool.rows import Chunk, Rows, in_step
from ..reference import RowScores
from ..steps.clustering import cluster
from ..steps.coverage import squared_distances, unit_rows
from ..steps.cuts import Cuts, calibrated_cuts, trust
from ..steps.greedy import greedy_coverage
from ..steps.linear_head import LinearHead
from ..steps.nonconformity import labelled_scores
from ..steps.out_of_fold import out_of_fold_scores
from ..steps.quotas import class_quotas
from ..steps.representatives import representatives
from ..steps.student import check_head, check_student, class_count, fit_student, has_two_classes
from ..steps.student import student_logits as logits_of_student
from ..steps.suspicions import probability_suspicions, suspicions
from ..steps.teacher import Teacher
from ..system.memory import Memory, PeakMemory, check_memory_limit
from .cost_model import forecast
from .plan import Plan
from .problem import Problem
from .rates import machine_rates
from .report import Report, Selection, Stage

__all__ = ["Float32", "Int64", "check_arguments", "plan", "query", "select"]

Float32 = npt.NDArray[np.float32]

Float64 = npt.NDArray[np.float64]

Int64 = npt.NDArray[np.int64]

_LN_2 = np.float32(np.log(2.0))


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


_NO_ROWS = np.empty(0, np.int64)

_NO_PICKS = _Picks(_NO_ROWS, np.empty(0, np.float32), _NO_ROWS)


def select(
    features: Any,
    budget: int,
    *,
    labels: Any = None,
    class_names: Any = None,
    teacher: Teacher | None = None,
    student: Any = None,
    student_logits: Any = None,
    config: CCMAConfig | None = None,
    random_state: int = 0,
    backend: str = "auto",
    chunk_size: int | None = None,
    memory_limit: int | str | None = None,
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

    Until there are labels of two classes, or student logits, nobody can fit a student, and a teacher chooses alone: of
    its classes, those with the fewest labels first, the most central rows of the quarter that it is surest of. Without
    a teacher the picks cover the pool: k-means on the L2-normalised rows, one row per cluster; where some are labelled,
    each other row weighs as much as its squared distance from the nearest of them. Student logits without any label
    leave nothing to judge the teacher by: t = 0.

    ``acquisition="delta"`` is the published query instead: δ = g · J + (1 − g) · H, the κ · B rows of largest δ, and
    δ-weighted k-means coverage of those.

    Parameters
    ----------
    features : array_like, np.memmap, torch.Tensor, datasets.Dataset or path, shape (N, D_S)
        The student's embeddings x, in anything that :func:`ccma_fast.pool.open.open_rows` opens. float16, bfloat16 and
        float32 are read as they are, chunk by chunk.
    budget : int
        B ≥ 1.
    labels : array_like, path or sequence of pathlib.Path, shape (N,), optional
        Class of each row from 0 to C − 1, or its name; −1, NaN or None where there is none. Files as in
        :func:`ccma_fast.pool.labels.read_labels`: those that say which images they are of are joined to the rows by
        their ids.
    class_names : sequence of str, mapping or path, optional
        What classes are called, in their order, see :func:`ccma_fast.pool.class_names.read_class_names`; by default
        the teacher's, where it knows them.
    teacher : Teacher, optional
        Zero-shot posteriors, and the space in which coverage runs (the student's, where it has no features). Without a
        teacher the student leads every pick; with ``acquisition="delta"`` δ is then its entropy.
    student : object with `fit` and `predict_proba`, optional
        Fitted on the labelled rows (a copy is), once they are of two classes; a :class:`LinearHead` by default.
    student_logits : array_like, shape (N, C), optional
        z^S of every row, instead of fitting a student.
    config : CCMAConfig, optional
        Every constant of the method.
    random_state : int, default 0
        Seed of the subpool, the student and the k-means of the coverage, where the query has them. The same seed gives
        the same picks on one machine, whatever the number of threads, the chunk size or the storage of the features;
        where `student` or the reference multiply by BLAS, chunks of another size may round otherwise.
    backend : {"auto", "cuda", "cpu", "reference"}
    chunk_size : int, optional
        Rows read at once; by default some 32 MiB of them.
    memory_limit : int or str, optional
        What the query may add to the process's resident memory, the pages of mapped files included, beside at most 32
        bytes a row of the pool: bytes, or text such as "4GB" (10⁹) or "4GiB" (2³⁰). By default a quarter of what the
        machine has, or of what the tightest of its control groups and resource limits allows, but no more than half of
        what is left of that; at least 512 MB. It decides what is kept between steps and what is read or computed again,
        never what is picked. What classes, labelled rows and candidates take by themselves (:func:`plan` tells it) has
        to fit.

    Returns
    -------
    Selection
        Exactly min(B, number of unlabelled rows) picks; rows whose images have vanished, as :func:`ccma_fast.extract`
        found, do not count as such.

    Warns
    -----
    TeacherWarning
        The labelled rows speak against the teacher or `student_logits`; the report holds the same text. Suspected are
        probabilities where logits belong, which need no labels to be seen; a teacher's temperature that is more than
        ten times too large or too small, such as logit_scale, which is 1 / τ; classes in another order than the
        labels': all by one rule (shifted, reversed, sorted by name), some exchanged, or most by any; and a teacher that
        is no better than chance. Some 10 to 50 labels tell of a temperature or a rule, 50 of chance; an exchange of two
        takes 10 of each. Of more than 16,384 labelled rows, or 2²¹ of their logits, a random share is asked.

    Raises
    ------
    PoolMismatchError
        By their manifests, ids or shards the images of the teacher or of `student_logits` are not those of `features`.
    FileReadError
        A file that cannot be read.
    ValueError
        NaN or infinity (the row is named), a zero vector where coverage needs a direction, shapes or row counts that do
        not agree, labels out of range or without a name, a student without any label, names that are not the teacher's,
        a budget below 1.
    TypeError
        Inputs of the wrong type.

    Notes
    -----
    How often the pool is read: where every unlabelled row is scored, once, features and teacher alike. In that pass
    each row is checked and then turned into logits; those are cut and scored while in memory, with target-size
    thresholds too where the pool has 2¹⁰ rows or more (a sample, which is read before, says where they must lie).
    Before it the labelled rows are read, after it the candidates. What needs a number from all rows first
    takes one more pass each: target-size thresholds of a smaller pool whose logits are not kept, ``reweight``, "aps"
    and "raps" cuts, ``nonempty="raise"``. A source that no logits come from (features at a cold start with a teacher or
    beside `student_logits`) is read once, to be checked, and so is everything before a student of one's own or a
    clustered subpool. k-means reads all rows that it clusters once in each iteration and some times before:
    :func:`plan` counts them.

    Files are asked for one chunk ahead, and the pages of what has been read are let go. Beside chunks and what
    `memory_limit` allows, a row takes 4 bytes with the published score and 14 with the default, and some 16 more while
    it is sorted; at a cold start without a teacher some 32. Cuts of "aps", "raps" and ``reweight`` are 8 bytes a row
    and model more.

    Examples
    --------
    >>> import numpy as np, ccma_fast as cf
    >>> x = np.random.default_rng(0).standard_normal((1000, 16), dtype=np.float32)
    >>> picks = cf.select(x, 5)
    >>> len(set(picks.indices.tolist()))
    5
    """
    state = _opened(features, config, teacher, student, random_state, backend, chunk_size, memory_limit)
    budget = check_integer("budget", budget, minimum=1)
    state.pool.ids_at(np.arange(min(1, state.pool.n_rows)))  # where ids cannot be read, that is said now
    picks = state.run(budget, labels, class_names, teacher, student, student_logits)
    if picks.report.warnings:
        warnings.warn("\n".join(picks.report.warnings), TeacherWarning, stacklevel=2)
    return replace(picks, ids=state.pool.ids_at(picks.indices))


def plan(
    features: Any,
    budget: int,
    *,
    labels: Any = None,
    class_names: Any = None,
    teacher: Teacher | None = None,
    student: Any = None,
    student_logits: Any = None,
    config: CCMAConfig | None = None,
    backend: str = "auto",
    chunk_size: int | None = None,
    memory_limit: int | str | None = None,
) -> Plan:
    """What :func:`select` would take with the same arguments: passes, bytes, memory and seconds of each stage.

    Nothing of the query runs. The arguments are checked as far as shapes and labels tell; under a second goes into
    measuring this machine's rates, on a little of the pool. How costs follow from shapes is told in
    :mod:`ccma_fast.query.cost_model`. Bytes and memory also stand in every report, beside what was measured.

    Parameters
    ----------
    features, budget, labels, class_names, teacher, student, student_logits, config, backend, chunk_size, memory_limit
        As in :func:`select`.

    Returns
    -------
    Plan
        Prints as a table. Memory is how far the process's resident memory, mapped files included, will rise above
        where it is when the query begins, PyTorch being imported. Seconds are an expectation: how many epochs and
        iterations it will take, nobody knows.

    Raises
    ------
    ValueError, TypeError
        As :func:`select`, but for what only shows when the pool is read.

    Examples
    --------
    >>> import numpy as np, ccma_fast as cf
    >>> x = np.random.default_rng(0).standard_normal((1000, 16), dtype=np.float32)
    >>> cf.plan(x, 5).stages["check"].bytes_read == x.nbytes
    True
    """
    state = _opened(features, config, teacher, student, 0, backend, chunk_size, memory_limit)
    budget = check_integer("budget", budget, minimum=1)
    inputs = state.prepare(labels, class_names, teacher, student, student_logits)
    problem = state.problem(inputs, teacher, student, budget)
    return forecast(problem, machine_rates(problem, state.backend))


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
    memory_limit: int,
) -> Selection:
    """:func:`select` for a loop that has checked its inputs and fitted the student on the labelled rows.

    Nobody looks at the images, so that it does not matter which have vanished. The picks are the same bits under every
    limit.
    """
    memory = Memory(memory_limit, has_fixed_chunks=True)
    state = _Query(features, config, backend, random_state, None, memory, with_vanished=True)
    return state.run(budget, Classes(labels), None, teacher, fitted, None, is_fitted=True)


def check_arguments(teacher: Any, student: Any, config: Any) -> None:
    """What a query is asked with is of the right types."""
    if config is not None and not isinstance(config, CCMAConfig):
        raise TypeError(f"config must be a CCMAConfig, got {type(config).__name__}")
    if teacher is not None and not isinstance(teacher, Teacher):
        raise TypeError(f"teacher must be a ccma_fast.Teacher, got {type(teacher).__name__}")
    if student is not None:
        check_student(student)


def _opened(
    features: Any,
    config: Any,
    teacher: Any,
    student: Any,
    random_state: int,
    backend: str,
    chunk_size: int | None,
    memory_limit: int | str | None,
) -> _Query:
    """A query whose arguments are of the right types."""
    check_arguments(teacher, student, config)
    if chunk_size is not None:
        chunk_size = check_integer("chunk_size", chunk_size, minimum=1)
    random_state = check_integer("random_state", random_state, minimum=0, maximum=math.inf)
    chosen, memory = choose_backend(backend), check_memory_limit(memory_limit)
    return _Query(open_rows(features, "features"), config or CCMAConfig(), chosen, random_state, chunk_size, memory)


class _Inputs(NamedTuple):
    """What a query is asked with, checked; no row of the pool has been read yet."""

    given: Rows | None
    """Ready-made logits of the student."""
    space: Rows
    """Where coverage runs."""
    n_classes: int | None
    """None at cold start without a teacher."""
    labelled: Int64
    """Rows that have a label, ascending."""
    classes: Int64
    """Their labels."""
    unlabelled: AllBut
    cold: bool
    has_labels: bool
    """Whether labels were given, be they none."""
    names: list[str] | None
    """What the classes are called."""


class _Scores:
    """What the picks depend on of the scores of M rows, and the means of the rest.

    Arrays, or tensors where the backend has a device: what is done with them is what both can do, but for `on_host`.
    """

    def __init__(self, n_rows: int, fields: Mapping[str, npt.DTypeLike]) -> None:
        self.n_rows = n_rows
        self.of_rows: dict[str, Any] = {name: np.empty(n_rows, dtype) for name, dtype in fields.items()}
        self._totals = dict.fromkeys(("student_size", "teacher_size", "overlap", "top1_differs"), 0)

    def put(self, rows: slice | Int64, part: RowScores) -> None:
        """Take the scores of some rows, see :data:`ccma_fast.backends.protocol.PutScores`."""
        for name, values in self.of_rows.items():
            values[rows] = getattr(part, name)
        self._add(part)

    def put_tensors(self, whole: Any) -> None:
        """Take the scores of all rows and leave them where they are."""
        self.of_rows = {name: getattr(whole, name) for name in self.of_rows}
        self._add(whole)

    def _add(self, part: Any) -> None:
        for name in self._totals:
            self._totals[name] += int(getattr(part, name).sum())

    def __getitem__(self, name: str) -> Any:
        return self.of_rows[name]

    def mean(self, name: str) -> float:
        """Of a size, an overlap or a share, over all rows."""
        return self._totals[name] / self.n_rows


class _Query:
    """One query: its inputs, its random streams, and the report that it writes."""

    def __init__(
        self,
        pool: Rows,
        config: CCMAConfig,
        backend: Backend,
        random_state: int,
        chunk_size: int | None,
        memory: Memory,
        *,
        with_vanished: bool = False,
    ) -> None:
        self.pool, self.config, self.backend, self.memory = pool, config, backend, memory
        self.chunk_size = chunk_size
        self._vanished = _NO_ROWS if with_vanished else pool.vanished()
        streams = np.random.SeedSequence(random_state).spawn(3)
        self.rng_subpool, self.rng_student, self.rng_coverage = map(np.random.default_rng, streams)
        self.report = Report(backend=backend.describe(), n_rows=pool.n_rows)
        self._sources: list[tuple[Rows, int]] = []  # what is read, and how much of it had been read before
        self._add_source(pool)
        self._directions: set[Rows] = set()  # sources whose rows must not be of length zero
        self._unread: set[Rows] = set()  # sources of which each row is checked when it is read
        self._peak = PeakMemory()

    def run(
        self,
        budget: int,
        labels: Any,
        class_names: Any,
        teacher: Teacher | None,
        student: Any,
        student_logits: Any,
        *,
        is_fitted: bool = False,
    ) -> Selection:
        """The query. A student that `is_fitted` on the labelled rows is used as it is."""
        with self._peak:
            with self._stage("check"):
                inputs = self.prepare(labels, class_names, teacher, student, student_logits)
                budget = min(budget, inputs.unlabelled.size)
                problem = self.problem(inputs, teacher, student, budget)
                self.report.plan = forecast(problem)
                x_labelled = self._checked(inputs, problem)
                if inputs.cold or inputs.labelled.size == 0:
                    self._suspect_unlabelled(inputs.given, teacher)
            if budget == 0:
                return self._selection(inputs.unlabelled, _NO_PICKS)
            if inputs.cold:
                with self._stage("coverage"):
                    return self._first(inputs, teacher, budget)
            return self._query(inputs, teacher, student, x_labelled, budget, is_fitted=is_fitted)

    def prepare(
        self, labels: Any, class_names: Any, teacher: Teacher | None, student: Any, student_logits: Any
    ) -> _Inputs:
        """Check what is asked with, as far as it shows without reading the pool."""
        given = None if student_logits is None else self._given_logits(student_logits)
        names = agreed_class_names(class_names, teacher)
        n_classes = self._class_count(teacher, given, names)
        labelled, classes = _NO_ROWS, _NO_ROWS
        if labels is not None:
            y = read_labels(labels, self.pool, n_classes=n_classes, class_names=names)
            labelled = np.flatnonzero(y >= 0)
            classes = y[labelled]
        space = self._coverage_space(teacher)
        if given is not None and student is not None:
            raise ValueError("give student or student_logits, not both")
        cold = given is None and not has_two_classes(classes)
        if student is not None and labelled.size == 0:
            raise ValueError("a student needs labels of at least two classes, got no labelled row")
        if n_classes is None and labels is not None and labelled.size:
            counted = class_count(student, y, self.pool.n_rows)
            n_classes = None if cold else counted
        if n_classes is not None and given is None and not cold:
            check_head(student, n_classes, self.pool.n_columns)
        if self.chunk_size is None:
            columns = [rows.n_columns for rows, _ in self._sources]
            self.chunk_size = self.memory.chunk_rows([*columns, n_classes or 1])
        withheld = np.union1d(labelled, self._vanished)
        unlabelled = AllBut(self.pool.n_rows, withheld)
        report = self.report
        report.n_vanished = withheld.size - labelled.size
        report.mode = "cold start" if cold else "query"
        report.n_labelled, report.n_unlabelled = labelled.size, unlabelled.size
        report.n_classes = n_classes or 0
        return _Inputs(given, space, n_classes, labelled, classes, unlabelled, cold, labels is not None, names)

    def _first(self, inputs: _Inputs, teacher: Teacher | None, budget: int) -> Selection:
        """The picks that no student has a say in."""
        unlabelled = inputs.unlabelled
        if self.config.acquisition == "trust" and teacher is not None:
            z_teacher = teacher.reading(self._judged(teacher.source)).logits(self.backend)
            return self._selection(unlabelled, self._first_by_class(z_teacher, inputs, budget))
        self.report.n_candidates = unlabelled.size
        rows = RowSubset(inputs.space, unlabelled)
        weights = None
        if inputs.labelled.size:
            weights = squared_distances(rows, self._kept(inputs.space, inputs.labelled), self.backend)
        picks, represents = self._cover(rows, weights, budget)
        return self._selection(unlabelled, _Picks(picks, np.full(budget, np.nan, np.float32), represents))

    def _query(
        self,
        inputs: _Inputs,
        teacher: Teacher | None,
        student: Any,
        x_labelled: Rows,
        budget: int,
        *,
        is_fitted: bool,
    ) -> Selection:
        """The picks with labels or logits."""
        report = self.report
        given, space, n_classes, labelled, classes, unlabelled, *_ = inputs
        by_trust = self.config.acquisition == "trust"
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
                    fitted = fit_student(student, x_labelled, classes, n_classes, self.backend)
                z = [logits_of_student(fitted, self._judged(self.pool), n_classes, self.backend)]
            else:
                z = [self._judged(given)]
            if teacher is not None:
                z.append(teacher.reading(self._judged(teacher.source)).logits(self.backend))
            logits = self._kept_logits(z, scored)
        # 3. Conformal sets
        rows: _Scores | None = None
        with self._stage("thresholds"):
            cuts = Cuts(np.inf, np.inf, np.nan, np.nan)
            # Uncertainty alone, which is what the default does without a teacher that can be judged, needs no sets.
            judged = not by_trust or (teacher is not None and labelled.size > 0)
            report.calibration = self.config.calibration if judged else ""
            if judged and self.config.has_sizes_only:
                # Thresholds that depend on all logits: both steps in one pass.
                rows = self._no_scores(scored.size, teacher is not None)
                found = self.backend.score_at_sizes(
                    logits[0],
                    logits[1] if teacher is not None else None,
                    self.config.student_set_size,
                    self.config.teacher_set_size,
                    rows.put,
                    chunk_size=self.chunk_size,
                )
                if found is None:
                    rows = None
                else:
                    cuts = Cuts(*found, found[0], np.nan if teacher is None else found[1])
            if judged and rows is None:
                of_labelled = [RowSubset(of, labelled) for of in z]
                student_scores = None
                if self.config.calibration == "coverage":
                    if given is None:
                        student_scores = out_of_fold_scores(
                            student, x_labelled, classes, n_classes, self.config, self.rng_student, self.backend
                        )
                    else:
                        student_scores = labelled_scores(of_labelled[0], classes, self.config)
                cuts = calibrated_cuts(
                    (of_labelled[0], logits[0]),
                    None if teacher is None else (of_labelled[1], logits[1]),
                    classes,
                    self.config,
                    self.backend,
                    student_scores=student_scores,
                    chunk_size=self.chunk_size,
                )
            report.q_student, report.q_teacher = cuts.q_student, cuts.q_teacher
        # 4. Disagreement
        with self._stage("disagreement"):
            if rows is None:
                rows = self._no_scores(scored.size, teacher is not None)
                self._score(logits, cuts, rows)
            del logits
            if labelled.size:
                self._suspect([RowSubset(of, labelled) for of in z], inputs, teacher, rows)
        report.n_scored = scored.size
        if report.calibration:
            report.mean_student_set = rows.mean("student_size")
        if teacher is not None:
            report.top1_disagreement = rows.mean("top1_differs")
            if report.calibration:
                report.mean_teacher_set, report.mean_overlap = rows.mean("teacher_size"), rows.mean("overlap")
        # 5. Candidates and 6. Coverage
        with self._stage("coverage"):
            if by_trust:
                return self._selection(scored, self._picks_by_trust(rows, space, scored, labelled, classes, budget))
            return self._selection(scored, self._picks_by_delta(rows["delta"], space, scored, budget))

    def _suspect(self, of_labelled: Sequence[Rows], inputs: _Inputs, teacher: Teacher | None, rows: _Scores) -> None:
        """What the labelled rows say against logits that are not from a student fitted on them."""
        report, names = self.report, inputs.names
        if inputs.given is not None:
            report.warnings += suspicions("the student", of_labelled[0], inputs.classes, names).texts
        if teacher is not None:
            # Whoever learnt from the labels contradicts a teacher of another order on most rows, not on chosen ones.
            found = suspicions(
                "the teacher",
                of_labelled[1],
                inputs.classes,
                names,
                temperature=teacher.temperature,
                ready_made=teacher.class_directions is None,
                whole_order=rows.mean("top1_differs") >= 0.5,
            )
            report.likeliest_temperature = found.likeliest_temperature
            report.warnings += found.texts

    def _suspect_unlabelled(self, given: Rows | None, teacher: Teacher | None) -> None:
        """What ready-made logits show by themselves."""
        if given is not None:
            self.report.warnings += probability_suspicions("the student", given)
        if teacher is not None and teacher.class_directions is None:
            self.report.warnings += probability_suspicions("the teacher", teacher.source)

    def _kept_logits(self, z: Sequence[Rows], scored: AllBut | Int64) -> list[Rows]:
        """Logits of the scored rows: those that are computed once and for all, where all of them fit."""
        n_bytes = sum(4 * scored.size * rows.n_columns for rows in z if isinstance(rows, DerivedRows))
        if n_bytes > self.memory.logits:
            return [RowSubset(rows, scored) for rows in z]
        return [
            self.backend.kept(RowSubset(rows, scored), self.memory.logits, self.chunk_size)
            if isinstance(rows, DerivedRows)
            else RowSubset(rows, scored)
            for rows in z
        ]

    def _no_scores(self, n_rows: int, has_teacher: bool) -> _Scores:
        """Room for what the picks will depend on."""
        if self.config.acquisition == "delta":
            return _Scores(n_rows, {"delta": np.float32})
        fields: dict[str, npt.DTypeLike] = {"margin": np.float32}
        if has_teacher:
            # As few bits as a class takes: NumPy sorts 16 of them by counting.
            top1 = np.uint16 if self.report.n_classes <= 1 << 16 else np.int32
            fields |= {"confidence": np.float32, "divergence": np.float32, "teacher_top1": top1}
        return _Scores(n_rows, fields)

    def _score(self, logits: Sequence[Rows], cuts: Cuts, scores: _Scores) -> None:
        """Steps 3 and 4 of every row, the thresholds being known: each logit read once."""
        device = on_device(self.backend)
        if device is not None:
            every = slice(0, scores.n_rows)
            student, teacher = (*logits, None)[:2]
            assert student is not None
            scores.put_tensors(device.score_here(student, teacher, *cuts.of_rows(every), chunk_size=self.chunk_size))
            return
        for start, chunks in in_step(*logits, chunk_size=self.chunk_size):
            rows = slice(start, start + len(chunks[0]))
            pieces = [ReadRows(of, chunk, start) for of, chunk in zip(logits, chunks, strict=True)]
            student, teacher = (*pieces, None)[:2]
            assert student is not None
            scores.put(rows, self.backend.score(student, teacher, *cuts.of_rows(rows)))
            del chunks, pieces, student, teacher  # before the next are computed

    def _picks_by_delta(self, delta: Any, space: Rows, scored: AllBut | Int64, budget: int) -> _Picks:
        """Steps 5 and 6 as published: the κ · B rows of largest δ, spread by k-means."""
        candidates = np.sort(self.backend.top_m(delta, self.config.kappa * budget))
        self.report.n_candidates = candidates.size
        of_candidates = on_host(delta[candidates])
        picks, represents = self._cover(self._kept(space, scored[candidates]), of_candidates, budget)
        return _Picks(candidates[picks], of_candidates[picks], represents)

    def _picks_by_trust(
        self, rows: _Scores, space: Rows, scored: AllBut | Int64, labelled: Int64, classes: Int64, budget: int
    ) -> _Picks:
        """Steps 5 and 6 of the default: the teacher leads as large a share of the picks as it is trusted."""
        report = self.report
        report.trust = 0.0
        if report.calibration:
            report.trust = trust(report.mean_student_set, report.mean_teacher_set)
        n_led = int(report.trust * budget + 0.5)
        uncertainty = rows["margin"]
        uncertainty *= -1.0
        uncertainty += 1.0
        led = _NO_PICKS
        if n_led:
            disagreement = rows["divergence"]
            disagreement /= float(_LN_2)
            disagreement += uncertainty
            disagreement *= rows["confidence"]
            already = np.bincount(classes, minlength=report.n_classes)
            led = self._picks_by_class(
                disagreement, rows["teacher_top1"], already, space, scored, n_led, kappa=self.config.kappa
            )
        if n_led == budget:
            return led
        uncertainty[led.positions] = -1.0  # less than that of any row
        covered = np.concatenate([labelled, scored[led.positions]])
        n_free = scored.size - led.positions.size
        return _Picks.joined([led, self._picks_by_student(uncertainty, n_free, covered, scored, budget - n_led)])

    def _picks_by_class(
        self,
        scores: Any,
        classes: Any,
        already: Int64,
        space: Rows,
        scored: AllBut | Int64,
        n_picks: int,
        *,
        kappa: int | None,
    ) -> _Picks:
        """Of the teacher's classes, those with the fewest labels first: their best rows, spread by k-means.

        The best are the κ of largest score for each pick or, where κ is None, the configured share of a class.
        """
        device = on_device(self.backend)
        if device is None:
            by_class, n_rows = np.argsort(classes, kind="stable"), np.bincount(classes, minlength=already.size)
        else:
            by_class, n_rows = device.grouped(classes, already.size)
        ends = np.cumsum(n_rows)
        parts = []
        for c, quota in enumerate(class_quotas(n_rows, already, n_picks)):
            if quota == 0:
                continue
            members = by_class[ends[c] - n_rows[c] : ends[c]]
            m = kappa * quota if kappa is not None else max(quota, int(self.config.confident_share * n_rows[c]))
            candidates = on_host(members[np.sort(self.backend.top_m(scores[members], int(m)))])
            self.report.n_candidates += candidates.size
            of_candidates = on_host(scores[candidates])
            weights = None if kappa is None else of_candidates
            picks, represents = self._cover(self._kept(space, scored[candidates]), weights, int(quota))
            parts.append(_Picks(candidates[picks], of_candidates[picks], represents))
        whole = _Picks.joined(parts)
        return whole.in_order(np.lexsort((whole.positions, -whole.scores)))

    def _picks_by_student(
        self, uncertainty: Any, n_free: int, covered: Int64, scored: AllBut | Int64, n_picks: int
    ) -> _Picks:
        """Of the most uncertain rows, greedily those that are nearest to what neither labels nor picks are near to.

        Minimises Σ_i u_i · min_j ‖x_i − x_j‖² over the candidates i, j running over labelled rows and picks. The
        `n_free` rows that can be picked are more uncertain than the others.
        """
        most = max(self.config.candidate_limit, 2 * n_picks)
        n_candidates = min(self.config.student_kappa * n_picks, most, n_free)
        candidates = np.sort(self.backend.top_m(uncertainty, n_candidates))
        self.report.n_candidates += candidates.size
        rows, known = (unit_rows(self._kept(self.pool, of), self.backend) for of in (scored[candidates], covered))
        of_candidates = on_host(uncertainty[candidates])
        picks = greedy_coverage(
            rows,
            known,
            np.arange(candidates.size),
            n_picks,
            kernel=Kernel(),
            rng=self.rng_coverage,
            weights=of_candidates,
            least=-1.0,
        )
        nearest = rows.most_similar(picks)
        nearest[picks] = np.arange(n_picks)  # a pick stands for itself, also where an equal row was picked before it
        represents = np.bincount(nearest, minlength=n_picks)
        return _Picks(candidates[picks], of_candidates[picks], represents)

    def _first_by_class(self, z_teacher: Rows, inputs: _Inputs, budget: int) -> _Picks:
        """The first labels, by the teacher: of the rows that it is surest of, the most central ones of each class."""
        unlabelled = inputs.unlabelled
        rows = _Scores(unlabelled.size, {"margin": np.float32, "student_top1": np.int32})
        self._score([RowSubset(z_teacher, unlabelled)], Cuts(np.inf, np.inf, np.nan, np.nan), rows)
        already = np.bincount(inputs.classes, minlength=self.report.n_classes)
        found = self._picks_by_class(
            rows["margin"], rows["student_top1"], already, inputs.space, unlabelled, budget, kappa=None
        )
        return found._replace(scores=np.full(budget, np.nan, np.float32))

    def _selection(self, rows: AllBut | Int64, picks: _Picks) -> Selection:
        return Selection(rows[picks.positions], picks.scores, picks.represents, self.report)

    def _given_logits(self, source: Any) -> Rows:
        logits = open_logits(source, "student_logits")
        check_same_rows("student_logits", logits.n_rows, "features", self.pool.n_rows)
        accepted([differing_images(logits, self.pool)], force=None)
        self._add_source(logits)
        return logits

    def _class_count(self, teacher: Teacher | None, given: Rows | None, names: list[str] | None) -> int | None:
        if teacher is not None:
            self.report.forced = teacher.check_rows(self.pool, *([] if given is None else [given]))
            if given is not None and given.n_columns != teacher.n_classes:
                raise ValueError(
                    f"student_logits has {given.n_columns} classes but the teacher has {teacher.n_classes}; "
                    "both must describe the same classes"
                )
            return teacher.n_classes
        if given is not None and names is not None and given.n_columns != len(names):
            raise ValueError(f"student_logits has {given.n_columns} classes but there are {len(names)} class_names")
        if given is not None:
            return given.n_columns
        return None if names is None else len(names)

    def _coverage_space(self, teacher: Teacher | None) -> Rows:
        """v, or x where the teacher has none."""
        space = self.pool if teacher is None or teacher.features is None else teacher.features
        if teacher is not None and teacher.source is not self.pool:
            self._add_source(teacher.source)
        return space

    def problem(self, inputs: _Inputs, teacher: Teacher | None, student: Any, budget: int) -> Problem:
        """What decides about the cost of the query, and what is read when."""
        n_unlabelled = inputs.unlabelled.size
        budget = min(budget, n_unlabelled)
        limit = self.config.pool_limit
        n_left = n_unlabelled if limit is None else min(n_unlabelled, max(limit, budget))
        n_scored = self.config.subpool_rows(n_left, budget)
        is_own = student is not None and not isinstance(student, LinearHead)
        of_student = [] if inputs.cold else [self.pool if inputs.given is None else inputs.given]
        of_teacher = [] if teacher is None else [teacher.source]
        # Sources whose unlabelled rows will all be scored are checked then. A student of somebody else's sees nothing
        # of a pool with a row that is not finite.
        unread: list[Rows] = []
        if budget and inputs.cold and self.backend.ON_HOST:
            unread = of_teacher if self.config.acquisition == "trust" else []
        elif budget and n_scored == n_unlabelled and self.backend.ON_HOST:
            unread = (of_student if inputs.given is not None or not is_own else []) + of_teacher
        computed = of_student if inputs.given is None else []
        if teacher is not None and isinstance(teacher.logits(self.backend), DerivedRows):
            computed = computed + of_teacher
        return Problem(
            config=self.config,
            memory=self.memory,
            chunk_size=self.chunk_size,
            pool=self.pool,
            given=inputs.given,
            teacher=None if teacher is None else teacher.source,
            space=inputs.space,
            computed=tuple(computed),
            unread=frozenset(unread),
            n_labelled=inputs.labelled.size,
            n_unlabelled=n_unlabelled,
            has_labels=inputs.has_labels,
            n_left=n_left,
            n_scored=n_scored,
            n_classes=inputs.n_classes or 0,
            budget=budget,
            cold=inputs.cold,
            trains=not (inputs.cold or is_own) and inputs.given is None,
        )

    def _checked(self, inputs: _Inputs, problem: Problem) -> Rows:
        """The student's embeddings of the labelled rows; every row of every source is finite and, where coverage needs
        it, has a direction, also where it will not be scored.

        Of sources that will be scored as a whole only the labelled rows are read for that: each other row is checked
        before anything else is done with it.
        """
        by_trust = self.config.acquisition == "trust"
        self._directions = {inputs.space} if inputs.cold or not by_trust else {inputs.space, self.pool}
        self._unread = set(problem.unread)
        self._check_values(rows for rows, _ in self._sources if rows not in self._unread)
        x_labelled = self._kept(self._judged(self.pool), inputs.labelled)
        for rows in self._unread - {self.pool} if isinstance(x_labelled, KeptRows) else self._unread:
            for _ in RowSubset(self._judged(rows), inputs.labelled).chunks(self.chunk_size):
                pass
        return x_labelled

    def _check_values(self, sources: Iterable[Rows]) -> None:
        for rows in sources:
            self.backend.check_rows(rows, directions=rows in self._directions, chunk_size=self.chunk_size)

    def _judged(self, rows: Rows) -> Rows:
        """`rows`, each checked when it is read where that has not been done."""
        if rows not in self._unread:
            return rows
        least = LEAST_LENGTH if rows in self._directions else 0.0

        def judge(chunk: Chunk) -> None:
            lengths = self.backend.row_lengths(chunk)
            if not (np.isfinite(lengths) & (lengths >= least)).all():
                self._check_values(source for source, _ in self._sources)  # raises for the first such row

        return JudgedRows(rows, judge)

    def _kept(self, rows: Rows, indices: Int64) -> Rows:
        """Some rows, which will be read several times."""
        return self.backend.kept(RowSubset(rows, indices), self.memory.rows, self.chunk_size)

    def _subpool(self, space: Rows, unlabelled: AllBut, budget: int) -> AllBut | Int64:
        """Step 1: the rows to score, ascending."""
        limit = self.config.pool_limit
        left: AllBut | Int64 = unlabelled
        if limit is not None and unlabelled.size > (limit := max(limit, budget)):
            left = unlabelled[np.sort(self.rng_subpool.choice(unlabelled.size, limit, replace=False))]
        n_rows = self.config.subpool_rows(left.size, budget)
        if n_rows == left.size:
            return left
        n_clusters = self.config.cluster_count(left.size, n_rows)
        found = cluster(
            self.backend,
            RowSubset(space, left) if isinstance(left, AllBut) else self._kept(space, left),
            n_clusters,
            method=self.config.subpool_method,
            init="random",
            max_iter=self.config.subpool_max_iter,
            tol=self.config.kmeans_tol,
            random_state=self.rng_subpool,
            unit=True,
            chunk_size=self.chunk_size,
            kept_bytes=self.memory.sketch,
        )
        self.report.n_subpool_clusters = n_clusters
        positions, _ = representatives(found, n_rows)
        return left[np.sort(positions)]

    def _cover(self, rows: Rows, weights: Float32 | None, budget: int) -> tuple[Int64, Int64]:
        """Step 6: positions in `rows` of the picks, and how many rows stand behind each."""
        n = rows.n_rows
        if n <= budget:
            order = np.arange(n) if weights is None else self.backend.top_m(weights, n)
            return order, np.ones(n, dtype=np.int64)
        n_clusters = self.config.cluster_count(n, budget)
        of_clusters = weights if self.config.weighted_coverage else None
        found = self.backend.weighted_kmeans(
            rows,
            n_clusters,
            weights=of_clusters,
            max_iter=self.config.kmeans_max_iter,
            tol=self.config.kmeans_tol,
            random_state=self.rng_coverage,
            unit=True,
            chunk_size=self.chunk_size,
            kept_bytes=self.memory.sketch,
        )
        self.report.n_clusters += n_clusters
        self.report.kmeans_iterations = max(self.report.kmeans_iterations, found.n_iter)
        self.report.inertia += found.inertia
        preference = weights if self.config.pick == "highest" else None
        return representatives(found, budget, of_clusters, preference)

    @contextmanager
    def _stage(self, name: str) -> Iterator[None]:
        start, before = time.perf_counter(), self._bytes_read()
        yield
        self.report.stages[name] = Stage(time.perf_counter() - start, self._bytes_read() - before, self._peak.lap())

    def _bytes_read(self) -> int:
        return sum(rows.bytes_read - before for rows, before in self._sources)

    def _add_source(self, rows: Rows) -> None:
        self._sources.append((rows, rows.bytes_read))
