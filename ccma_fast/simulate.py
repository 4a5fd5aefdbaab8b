"""The loop for research: strategies × seeds × rounds on a pool whose labels are known."""

from __future__ import annotations

import copy
import hashlib
import math
import platform
import sys
import time
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np
import numpy.typing as npt

from . import _dispatch, metrics, reference
from ._files import check_can_write_into
from ._validate import check_choice, check_integer, check_rows
from .config import CCMAConfig
from .conformal import calibrated_cuts, coverage_interval
from .manifest import accepted, differing_encoders
from .pool import ArrayRows, Rows, RowSubset, kept, open_rows
from .readers.labels import read_labels
from .select import check_arguments
from .store import METRICS, Results, RoundRecord, RunFolder, tables
from .strategies import Round, Strategy, find, names, pick
from .student import LinearHead, class_count, fit_student, out_of_fold_scores, student_logits
from .teacher import Teacher

if TYPE_CHECKING:
    from ._workers import Played, Runs

__all__ = ["simulate"]

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]

# Logits of the unlabelled rows, and of the teacher, are kept between two readings where they fit into this. Every
# worker process has both.
_KEPT_LOGITS_BYTES = 1 << 28

# Draws of the first labels until two classes are among them.
_MOST_STARTS = 100

# Rows of the map.
_MAP_ROWS = 5_000

# Independent random streams of one seed.
_START, _STUDENT, _STRATEGY, _FOLDS = range(4)


def simulate(
    features: Any,
    labels: Any,
    *,
    test_features: Any,
    test_labels: Any,
    strategies: Any = ("ccma", "random", "margins"),
    seeds: Sequence[int] = (1, 10, 100, 1000, 10000),
    rounds: int = 20,
    budget: int | None = None,
    n_start: int | None = None,
    start: str = "random",
    teacher: Teacher | None = None,
    student: Any = None,
    config: CCMAConfig | None = None,
    out: str | Path | None = None,
    jobs: int = 1,
    progress: bool = True,
    force: bool = False,
    backend: str = "auto",
) -> Results:
    """Compare strategies on a pool whose labels are known, by the protocol of the paper.

    For every strategy and seed: a few rows get their labels; then, `rounds` times, the student is trained from scratch
    on the labelled rows, measured on the test rows, and the strategy chooses `budget` rows more. The defaults are
    those of Nguyen et al. (arXiv 2603.23159): C random labels, 20 rounds of C more, five seeds.

    Parameters
    ----------
    features : array_like, np.memmap, torch.Tensor, datasets.Dataset or path, shape (N, D_S)
        The student's embeddings x of the pool, in anything that :func:`ccma_fast.pool.open_rows` opens.
    labels : array_like or path, shape (N,)
        The class of every row, from 0 to C − 1. A strategy sees those of the rows that it has asked for. Files as in
        :func:`ccma_fast.readers.labels.read_labels`.
    test_features : array_like, np.memmap, torch.Tensor, datasets.Dataset or path, shape (M, D_S)
    test_labels : array_like or path, shape (M,)
    strategies : sequence of str or callable, or mapping, default ("ccma", "random", "margins")
        What is compared. Each is the name of a registered strategy (:func:`ccma_fast.strategies.names`); such a name
        with options, as in ``"ccma:kappa=5"`` or ``"ccma:paper,start=typiclust"``; or a callable that takes a
        :class:`ccma_fast.strategies.Round` and returns row numbers. Options are the fields of :class:`CCMAConfig`;
        ``paper``, which takes :meth:`CCMAConfig.paper` for `config`; and ``start``, which replaces `start`. In the
        table a strategy goes by the text as given, a callable by its ``__name__``, and an entry of a mapping by its
        key.
    seeds : sequence of int, default (1, 10, 100, 1000, 10000)
        Each fixes the first labels, the student's training in each round, and the strategy's own choices.
    rounds : int, default 20
        Queries; round 0 measures the student on the first labels alone.
    budget : int, optional
        Labels per query; C by default.
    n_start : int, optional
        First labels; C by default, at least 2.
    start : str, default "random"
        The strategy that chooses the first labels, one of ``ccma_fast.strategies.names(needs_labels=False)``. It works
        with `config`, so that all contenders with the same start begin with the same rows. Where those are of fewer
        than two classes, on which no student can be trained, it is asked again with the next random stream of the seed,
        at most 100 times.
    teacher : Teacher, optional
        Of the pool's rows.
    student : object with `fit` and `predict_proba`, optional
        A :class:`LinearHead` with the constants of the contender's configuration by default. Copies of it are fitted;
        its parameter ``random_state``, where it has one, is set by the seed and the round.
    config : CCMAConfig, optional
        What the options of a strategy change.
    out : path, optional
        Folder of the run (see :mod:`ccma_fast.store`). A run that was killed goes on there in the round in which it
        was; a finished one is returned without computing anything.
    jobs : int, default 1
        Processes among which the runs of single strategies and seeds are divided. Each has its share of the threads
        of the C++ core. Files are opened by each of them, arrays are copied to each once.
    progress : bool, default True
        Show a bar for the whole grid on stderr.
    force : bool, default False
        Take test features that by their manifests come from another encoder than the pool's; the record says so.
    backend : {"auto", "cuda", "cpu", "reference"}

    Returns
    -------
    Results
        :attr:`Results.columns` holds the same bits for the same arguments: whatever the number of jobs and threads,
        the other strategies, and how often the run was killed and resumed.

    Raises
    ------
    PoolMismatchError
        By their manifests the teacher's images are others, or the test features come from another encoder.
    ValueError
        Shapes that do not fit each other, rows that are not finite, rows without a label, unknown strategies or
        options, more labels wanted than the pool has, no start with two classes, a strategy that returns something
        else than unlabelled rows, or an `out` that holds another run.
    TypeError
        Inputs of the wrong type, or a strategy that cannot be sent to another process where there are several jobs.
    OSError
        `out` cannot be written into, or another process is working there (:class:`BlockingIOError`); a worker process
        has died (:class:`ChildProcessError`).

    Notes
    -----
    Set sizes, overlap, disagreement, coverage and thresholds are measured on all unlabelled rows, after each round's
    labels are known and in the same way for every strategy, with the contender's constants of step 3: they say what the
    student has become, not what the strategy looked at. With ``calibration="coverage"`` the student's threshold comes
    from out-of-fold scores of the labelled rows, the teacher's from their scores; where rows have thresholds of their
    own, the table has the median. Coverage is the share of unlabelled rows whose true class is in the set, low and high
    the ends of its 95 % interval (:func:`ccma_fast.coverage_interval`).

    Memory is some chunks of rows, the M × C test posteriors in float32, and at most 512 MiB of logits, in every
    process.

    Examples
    --------
    >>> import numpy as np, ccma_fast as cf
    >>> rng = np.random.default_rng(0)
    >>> y = rng.integers(3, size=400)
    >>> x = rng.standard_normal((400, 8), dtype=np.float32) + 2 * np.eye(3, 8, dtype=np.float32)[y]
    >>> results = cf.simulate(
    ...     x[:300], y[:300], test_features=x[300:], test_labels=y[300:], strategies=["random", "margins"],
    ...     seeds=[1, 2], rounds=2, config=cf.CCMAConfig(max_epochs=20), progress=False,
    ... )
    >>> results.columns["n_labels"].tolist()
    [3, 6, 9, 3, 6, 9, 3, 6, 9, 3, 6, 9]
    >>> results.area("random").shape
    (2,)
    """
    check_arguments(teacher, student, config)
    chosen = _dispatch.choose(backend)
    check_integer("jobs", jobs, minimum=1)
    base = config or CCMAConfig()
    check_choice("start", start, names(needs_labels=False))
    contenders = _contenders(strategies, start, base, has_student=student is not None)
    study = _study(features, labels, test_features, test_labels, contenders, base, teacher, student, chosen.NAME, force)
    study = replace(
        study,
        rounds=check_integer("rounds", rounds, minimum=1),
        budget=study.n_classes if budget is None else check_integer("budget", budget, minimum=1),
        n_start=study.n_classes if n_start is None else check_integer("n_start", n_start, minimum=2),
    )
    grid = [(contender, seed) for contender in contenders for seed in _check_seeds(seeds)]
    if out is not None:
        check_can_write_into(out)
    study.check()
    record = _record(study, grid, start, chosen.describe())
    n_jobs = min(jobs, len(grid))
    payload = b"" if n_jobs == 1 else _pickled(study)

    folder = None if out is None else RunFolder(out)
    with nullcontext() if folder is None else folder.locked():
        if folder is not None:
            record = folder.begin(record)
        runs = {
            (contender.label, seed): [] if folder is None else folder.read_rounds(contender.label, seed)
            for contender, seed in grid
        }
        left = [run for run, done in runs.items() if len(done) <= study.rounds]
        with _bar(len(grid) * (study.rounds + 1), sum(map(len, runs.values())), progress) as show:
            played = _played_here(study, left, runs) if n_jobs == 1 else _played_elsewhere(payload, n_jobs, left, runs)
            with closing(played):  # ends the workers, whatever happens here
                for label, seed, done in played:
                    runs[label, seed].append(done)
                    if folder is not None:
                        folder.write_rounds(label, seed, runs[label, seed])
                    show(label, seed)
        results = tables(record, runs)
        if folder is not None and (left or not folder.is_complete()):
            folder.write_results(results, study.pool_map(results.picks["row"]))
    return results


# ---------------------------------------------------------------------------------------------------------------------
# What is compared


@dataclass(frozen=True)
class _Contender:
    """A strategy, who chooses its first labels, and its constants."""

    label: str
    strategy: Strategy
    start: str
    config: CCMAConfig
    first: Strategy
    """The strategy named `start`: another process may not have registered it."""


def _contenders(strategies: Any, start: str, base: CCMAConfig, *, has_student: bool) -> tuple[_Contender, ...]:
    if isinstance(strategies, str) or callable(strategies):
        strategies = (strategies,)
    if isinstance(strategies, Mapping):
        given = list(strategies.items())
    elif isinstance(strategies, Sequence):
        given = [(s if isinstance(s, str) else getattr(s, "__name__", type(s).__name__), s) for s in strategies]
    else:
        raise TypeError(f"strategies must be a sequence or a mapping, got {type(strategies).__name__}")
    if not given:
        raise ValueError("strategies must name at least one strategy, got none")
    contenders: list[_Contender] = []
    for label, what in given:
        if not isinstance(label, str):
            raise TypeError(f"a strategy's label must be a string, got {type(label).__name__}")
        if not label or not label.isprintable():
            raise ValueError(f"a strategy's label must be printable and not empty, got {label!r}")
        if any(label == known.label for known in contenders):
            raise ValueError(f"strategies must have distinct labels, got {label!r} twice; a mapping gives labels")
        if isinstance(what, str):
            contenders.append(_parsed(label, what, start, base, has_student=has_student))
        elif callable(what):
            contenders.append(_Contender(label, what, start, base, find(start)))
        else:
            raise TypeError(f"a strategy must be a name or callable with a Round, got {type(what).__name__}")
    return tuple(contenders)


def _parsed(label: str, text: str, start: str, base: CCMAConfig, *, has_student: bool) -> _Contender:
    """A contender from ``name`` or ``name:option,option``."""
    name, colon, options = text.partition(":")
    strategy, changes = find(name), {}
    hints = get_type_hints(CCMAConfig)
    for option in options.split(",") if colon else ():
        key, equals, value = option.partition("=")
        if option == "paper":
            base = CCMAConfig.paper()
        elif key == "start" and equals:
            check_choice(f"start of strategy {text!r}", value, names(needs_labels=False))
            start = value
        elif key == "temperature" or key not in hints or not equals:
            expected = ", ".join(f"{known}=" for known in ("start", *hints) if known != "temperature")
            raise ValueError(f"strategy {text!r} must have options among paper, {expected}, got {option!r}")
        elif has_student and key in _HEAD_CONSTANTS:
            raise ValueError(f"strategy {text!r}: {key} is a constant of the default student, but a student was given")
        else:
            changes[key] = _value(f"{key} of strategy {text!r}", value, hints[key])
    return _Contender(label, strategy, start, replace(base, **changes), find(start))


_HEAD_CONSTANTS = ("dropout", "learning_rate", "weight_decay", "max_epochs", "batch_size", "patience", "min_gain")


def _value(name: str, text: str, hint: Any) -> Any:
    """A text as the type of a configuration's field."""
    kinds = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    expected: list[str] = []
    for kind in kinds:
        if get_origin(kind) is Literal:
            words: dict[str, Any] = {word: word for word in get_args(kind)}
        elif kind is bool:
            words = {"true": True, "false": False}
        elif kind is type(None):
            words = {"none": None}
        else:
            try:
                return kind(text)
            except ValueError:
                expected.append({int: "an integer", float: "a number"}.get(kind, kind.__name__))
                continue
        if text in words:
            return words[text]
        expected += map(repr, words)
    raise ValueError(f"{name} must be {' or '.join(expected)}, got {text!r}")


def _check_seeds(seeds: Any) -> list[int]:
    if isinstance(seeds, str) or not isinstance(seeds, (Sequence, np.ndarray)):
        raise TypeError(f"seeds must be a sequence of integers, got {type(seeds).__name__}")
    checked = [check_integer("seeds", seed, minimum=0) for seed in seeds]
    if not checked or len(set(checked)) < len(checked):
        raise ValueError(f"seeds must be at least one and distinct, got {checked}")
    return checked


# ---------------------------------------------------------------------------------------------------------------------
# One run


@dataclass(frozen=True)
class _Study:
    """What all runs share: the data, and how long they go on. It travels to the worker processes."""

    pool: Rows
    labels: Int64
    test: Rows
    test_labels: Int64
    contenders: tuple[_Contender, ...]
    n_classes: int
    base: CCMAConfig
    teacher: Teacher | None
    student: Any
    backend_name: str
    forced: tuple[str, ...] = ()
    rounds: int = 0
    budget: int = 0
    n_start: int = 0

    @cached_property
    def backend(self) -> _dispatch.Backend:
        return _dispatch.choose(self.backend_name)

    @cached_property
    def teacher_logits(self) -> Rows | None:
        """z^T of the pool; kept, for they are the same in every round."""
        return None if self.teacher is None else kept(self.teacher.logits(self.backend), _KEPT_LOGITS_BYTES)

    def check(self) -> None:
        """The numbers fit the pool, and every row is finite."""
        wanted = self.n_start + self.rounds * self.budget
        if wanted > self.labels.size:
            raise ValueError(
                f"n_start + rounds × budget must be at most the {self.labels.size} rows of the pool, "
                f"got {self.n_start} + {self.rounds} × {self.budget} = {wanted}"
            )
        sources = [self.pool, self.test] if self.teacher is None else [self.pool, self.test, self.teacher.source]
        for rows in sources:
            has_directions = self.teacher is not None and rows is self.teacher.features
            check_rows(rows, self.backend.row_lengths, directions=has_directions)

    def fingerprint(self) -> dict[str, Any]:
        """Shape, type and SHA-256 of each input."""
        found = {
            "features": _digest(self.pool),
            "labels": _digest(self.labels),
            "test_features": _digest(self.test),
            "test_labels": _digest(self.test_labels),
        }
        if self.teacher is not None:
            found["teacher"] = {**_digest(self.teacher.source), "temperature": self.teacher.temperature}
            if self.teacher.class_directions is not None:
                found["teacher_classes"] = _digest(self.teacher.class_directions)
        return found

    def play(self, label: str, seed: int, done: Sequence[RoundRecord]) -> Iterator[RoundRecord]:
        """The rounds of one run that are not done yet.

        A round begins with the choice of its rows, so that all of it follows from the picks of the rounds before.
        """
        contender = next(contender for contender in self.contenders if contender.label == label)
        known = np.full(self.labels.size, -1, dtype=np.int64)
        for before in done:
            known[before.picks] = self.labels[before.picks]
        fitted = self._fitted(contender, seed, len(done) - 1, known) if done else None
        for r in range(len(done), self.rounds + 1):
            try:
                seconds: dict[str, float] = {}
                with _timed(seconds, "select"):
                    picks = self._start(contender, seed) if r == 0 else self._query(contender, seed, r, known, fitted)
                known[picks] = self.labels[picks]
                with _timed(seconds, "fit"):
                    fitted = self._fitted(contender, seed, r, known)
                with _timed(seconds, "evaluate"):
                    measured = self._evaluate(fitted)
                with _timed(seconds, "diagnose"):
                    measured |= self._diagnose(contender, seed, r, known, fitted)
            except (ValueError, TypeError) as error:
                kind = TypeError if isinstance(error, TypeError) else ValueError
                raise kind(f"strategy {contender.label!r} with seed {seed} in round {r}: {error}") from error
            yield RoundRecord(picks.tolist(), {name: measured[name] for name in METRICS}, seconds)

    def _start(self, contender: _Contender, seed: int) -> Int64:
        """The first labels: of two classes at least."""
        unknown = np.full(self.labels.size, -1, dtype=np.int64)
        for attempt in range(_MOST_STARTS):
            state = self._round(unknown, self.n_start, None, self.base, _stream(seed, _START, attempt))
            picks = pick(contender.first, state)
            if np.unique(self.labels[picks]).size > 1:
                return picks
        raise ValueError(
            f"the first {self.n_start} labels, chosen by {contender.start!r}, were of one class {_MOST_STARTS} times; "
            "expected two classes at least: give a larger n_start"
        )

    def _query(self, contender: _Contender, seed: int, r: int, known: Int64, fitted: Any) -> Int64:
        state = self._round(known, self.budget, fitted, contender.config, _stream(seed, _STRATEGY, r))
        return pick(contender.strategy, state)

    def _round(
        self, known: Int64, budget: int, fitted: Any, config: CCMAConfig, stream: np.random.SeedSequence
    ) -> Round:
        seen = known.copy()
        seen.flags.writeable = False
        rng = np.random.default_rng(stream)
        return Round(self.pool, seen, self.n_classes, budget, fitted, self.teacher, config, rng, self.backend)

    def _student(self, contender: _Contender, stream: np.random.SeedSequence) -> Any:
        if self.student is None:
            return LinearHead.from_config(contender.config, self.n_classes, stream)
        get_params = getattr(self.student, "get_params", None)
        if get_params is None or "random_state" not in get_params(deep=False):
            return self.student
        seeded = copy.deepcopy(self.student)
        seeded.set_params(random_state=int(stream.generate_state(1)[0]))
        return seeded

    def _fitted(self, contender: _Contender, seed: int, r: int, known: Int64) -> Any:
        labelled = np.flatnonzero(known >= 0)
        student = self._student(contender, _stream(seed, _STUDENT, r))
        return fit_student(student, RowSubset(self.pool, labelled), known[labelled], self.n_classes, self.backend)

    def _evaluate(self, fitted: Any) -> dict[str, float]:
        """The student on the test rows."""
        logits = student_logits(fitted, self.test, self.n_classes, self.backend)
        log_p = np.empty((logits.n_rows, logits.n_columns), np.float32)
        predicted = np.empty(logits.n_rows, np.int64)
        for start, chunk in logits.chunks():
            part = slice(start, start + len(chunk))
            predicted[part] = chunk.argmax(axis=1)
            log_p[part] = -reference.nonconformity(chunk, name=logits.name)
        return {
            "accuracy": metrics.accuracy(predicted, self.test_labels),
            "macro_auroc": metrics.macro_auroc(log_p, self.test_labels),
            "macro_f1": metrics.macro_f1(predicted, self.test_labels),
        }

    def _diagnose(self, contender: _Contender, seed: int, r: int, known: Int64, fitted: Any) -> dict[str, float]:
        """The conformal sets of the unlabelled rows."""
        found = dict.fromkeys(METRICS[3:], math.nan)
        labelled, unlabelled = np.flatnonzero(known >= 0), np.flatnonzero(known < 0)
        if unlabelled.size == 0:
            return found
        config, truth = contender.config, self.labels[unlabelled]
        of_student = student_logits(fitted, self.pool, self.n_classes, self.backend)
        z_student = kept(RowSubset(of_student, unlabelled), _KEPT_LOGITS_BYTES)
        z_teacher = None if self.teacher_logits is None else RowSubset(self.teacher_logits, unlabelled)
        student_scores = None
        if config.calibration == "coverage":
            student_scores = out_of_fold_scores(
                self._student(contender, _stream(seed, _STUDENT, r)),
                RowSubset(self.pool, labelled),
                known[labelled],
                self.n_classes,
                config,
                np.random.default_rng(_stream(seed, _FOLDS, r)),
                self.backend,
            )
        of_teacher = None
        if self.teacher_logits is not None and z_teacher is not None:
            of_teacher = RowSubset(self.teacher_logits, labelled), z_teacher
        cuts = calibrated_cuts(
            (RowSubset(of_student, labelled), z_student),
            of_teacher,
            known[labelled],
            config,
            self.backend,
            student_scores=student_scores,
        )
        found["q_student"], found["q_teacher"] = cuts.q_student, cuts.q_teacher
        rows = self.backend.score(z_student, z_teacher, cuts.student, cuts.teacher)
        found["student_set_size"] = float(rows.student_size.mean())
        found |= self._coverage("student", z_student, cuts.student, truth)
        if z_teacher is not None:
            found["teacher_set_size"] = float(rows.teacher_size.mean())
            found["overlap"] = float(rows.overlap.mean())
            found["top1_disagreement"] = float(rows.top1_differs.mean())
            found |= self._coverage("teacher", z_teacher, cuts.teacher, truth)
        return found

    def _coverage(
        self, model: str, logits: Rows, cuts: float | npt.NDArray[np.float64], truth: Int64
    ) -> dict[str, float]:
        """The share of rows whose true class is in the set, and its 95 % interval."""
        n_covered = 0
        for start, chunk in logits.chunks():
            part = slice(start, start + len(chunk))
            of_chunk = cuts[part] if isinstance(cuts, np.ndarray) else cuts
            sets = self.backend.prediction_sets(ArrayRows(chunk, logits.name), of_chunk)
            n_covered += int(sets[np.arange(len(chunk)), truth[part]].sum())
        low, high = coverage_interval(n_covered, truth.size)
        name = f"{model}_coverage"
        return {name: n_covered / truth.size, f"{name}_low": low, f"{name}_high": high}

    def pool_map(self, picked: Int64) -> dict[str, npt.NDArray[Any]]:
        """Up to 5,000 random rows of the pool and every picked one on the first two principal axes of the former."""
        n = self.labels.size
        sample = np.sort(np.random.default_rng(0).choice(n, min(n, _MAP_ROWS), replace=False))
        rows = np.union1d(sample, picked)
        x = RowSubset(self.pool, sample).float32().astype(np.float64)
        mean = x.mean(axis=0)
        _, _, axes = np.linalg.svd(x - mean, full_matrices=False)
        axes = axes[:2]
        axes *= np.where(axes[np.arange(len(axes)), np.abs(axes).argmax(axis=1)] < 0, -1.0, 1.0)[:, None]
        coordinates = np.zeros((rows.size, 2))  # of one column there is one axis
        picked_rows = RowSubset(self.pool, rows)
        for start, stop in picked_rows.bounds():
            chunk = RowSubset(self.pool, rows[start:stop]).float32()
            coordinates[start:stop, : len(axes)] = (chunk - mean) @ axes.T
        return {"rows": rows, "coordinates": coordinates, "classes": self.labels[rows]}


def _study(
    features: Any,
    labels: Any,
    test_features: Any,
    test_labels: Any,
    contenders: tuple[_Contender, ...],
    base: CCMAConfig,
    teacher: Teacher | None,
    student: Any,
    backend_name: str,
    force: bool,
) -> _Study:
    pool, test = open_rows(features, "features"), open_rows(test_features, "test_features")
    if test.n_columns != pool.n_columns:
        raise ValueError(f"test_features must have {pool.n_columns} columns as features, got {test.n_columns}")
    forced = accepted([differing_encoders("test_features", test.manifest, "features", pool.manifest)], force)
    n_classes, class_names = None, None
    if teacher is not None:
        forced += teacher.check_rows(pool)
        n_classes, class_names = teacher.n_classes, teacher.class_names
    y = _known_labels("labels", labels, pool, n_classes, class_names)
    test_y = _known_labels("test_labels", test_labels, test, n_classes, class_names)
    if n_classes is None:
        n_classes = class_count(student, np.concatenate([y, test_y]))
        for name, classes in (("labels", y), ("test_labels", test_y)):
            if classes.max() >= n_classes:
                raise ValueError(f"{name} must be classes from 0 to {n_classes - 1}, got {classes.max()}")
    if np.unique(y).size < 2:
        raise ValueError(f"labels must be of at least two classes, got class {y[0]} alone")
    return _Study(
        pool, y, test, test_y, contenders, n_classes, base, teacher, student, backend_name, forced=tuple(forced)
    )


def _known_labels(
    name: str, labels: Any, rows: Rows, n_classes: int | None, class_names: Sequence[str] | None
) -> Int64:
    y = read_labels(labels, rows, n_classes=n_classes, class_names=class_names, name=name)
    if y.size == 0:
        raise ValueError(f"{name} must have at least one row, got none")
    unknown = np.flatnonzero(y < 0)
    if unknown.size:
        raise ValueError(f"{name} must be known for every row, got none at row {unknown[0]}")
    return y


def _stream(seed: int, purpose: int, number: int) -> np.random.SeedSequence:
    return np.random.SeedSequence(seed, spawn_key=(purpose, number))


@contextmanager
def _timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    begin = time.perf_counter()
    yield
    seconds[stage] = time.perf_counter() - begin


# ---------------------------------------------------------------------------------------------------------------------
# What is written down of a run


def _record(study: _Study, grid: Sequence[tuple[_Contender, int]], start: str, backend: str) -> dict[str, Any]:
    """The run as plain values: what must agree where it is resumed, and versions and backend."""
    from importlib.metadata import version  # slow to import

    contenders = {
        contender.label: {
            "strategy": _described(contender.strategy),
            "start": contender.start,
            "config": asdict(contender.config),
        }
        for contender in study.contenders
    }
    return {
        "format": 1,
        "arguments": {
            "strategies": list(contenders),
            "seeds": list(dict.fromkeys(seed for _, seed in grid)),
            "rounds": study.rounds,
            "budget": study.budget,
            "n_start": study.n_start,
            "start": start,
            "n_classes": study.n_classes,
            "config": asdict(study.base),
            "backend": study.backend_name,
        },
        "contenders": contenders,
        "student": _described_student(study.student),
        "data": study.fingerprint(),
        **({"forced": list(study.forced)} if study.forced else {}),
        "versions": {
            "ccma-fast": version("ccma-fast"),
            "numpy": np.__version__,
            "torch": version("torch"),
            "python": platform.python_version(),
            "machine": platform.machine(),
        },
        "backend": backend,
    }


def _digest(values: Rows | npt.NDArray[Any]) -> dict[str, Any]:
    """Shape, storage type and SHA-256 of rows, read in chunks, or of an array."""
    shape = [values.n_rows, values.n_columns] if isinstance(values, Rows) else list(values.shape)
    digest, dtype = hashlib.sha256(), ""
    for _, chunk in values.chunks() if isinstance(values, Rows) else [(0, values)]:
        dtype = str(chunk.dtype)
        digest.update(chunk.data)
    return {"shape": shape, "dtype": dtype, "sha256": digest.hexdigest()}


def _described(thing: Any) -> str:
    named = thing if hasattr(thing, "__qualname__") else type(thing)
    return f"{named.__module__}.{named.__qualname__}"


def _described_student(student: Any) -> dict[str, Any] | None:
    """Type and parameters of a student that was given, but for the random state, which the seed sets."""
    if student is None:
        return None
    parameters = student.get_params(deep=False) if callable(getattr(student, "get_params", None)) else {}
    return {
        "type": _described(type(student)),
        "parameters": {name: repr(value) for name, value in parameters.items() if name != "random_state"},
    }


# ---------------------------------------------------------------------------------------------------------------------
# Who plays


def _played_here(study: _Study, left: Sequence[tuple[str, int]], runs: Runs) -> Played:
    for label, seed in left:
        for done in study.play(label, seed, list(runs[label, seed])):
            yield label, seed, done


def _played_elsewhere(payload: bytes, n_jobs: int, left: Sequence[tuple[str, int]], runs: Runs) -> Played:
    from ._workers import played_by_workers  # multiprocessing is slow to import

    yield from played_by_workers(payload, n_jobs, left, runs)


def _pickled(study: _Study) -> bytes:
    """The study for worker processes, once for all of them."""
    from ._workers import dumped

    try:
        return dumped(replace(study))  # a copy, which has computed nothing yet
    except Exception as error:
        for contender in study.contenders:
            with _sendable(contender.label):
                dumped((contender.strategy, contender.first))
        raise TypeError(f"data or student cannot be sent to another process ({error}); expected jobs=1") from error


@contextmanager
def _sendable(label: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        raise TypeError(
            f"strategy {label!r} cannot be sent to another process ({error}); expected a function or class at the top "
            "level of a module, or jobs=1"
        ) from error


@contextmanager
def _bar(total: int, done: int, progress: bool) -> Iterator[Callable[[str, int], None]]:
    """A progress bar over all rounds; what it gives is told of every finished one."""
    from tqdm import tqdm  # type: ignore[import-untyped]

    with tqdm(total=total, initial=done, unit="round", disable=not progress, file=sys.stderr) as bar:

        def show(label: str, seed: int) -> None:
            bar.set_description(f"{label}, seed {seed}", refresh=False)
            bar.update()

        yield show
