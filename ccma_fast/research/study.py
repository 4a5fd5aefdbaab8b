"""One run of a simulation: a strategy and a seed on a pool whose labels are known, round by round."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import reference
from ..backends.choose import choose_backend
from ..backends.protocol import Backend
from ..checks import check_flag
from ..config import CCMAConfig
from ..pool.agreement import accepted, differing_encoders
from ..pool.arrays import ArrayRows, kept
from ..pool.checked import check_rows
from ..pool.class_names import agreed_class_names
from ..pool.derived import RowSubset
from ..pool.labels import read_labels
from ..pool.open import open_rows
from ..pool.rows import Rows
from ..steps.cuts import calibrated_cuts
from ..steps.intervals import coverage_interval
from ..steps.linear_head import LinearHead
from ..steps.out_of_fold import out_of_fold_scores
from ..steps.student import check_head, class_count, fit_student, has_two_classes, student_logits
from ..steps.teacher import Teacher
from ..strategies import Round, pick
from ..system.memory import LEAST_LIMIT, Memory
from . import metrics
from .contenders import Contender
from .store import METRICS, RoundRecord

__all__ = ["Study", "open_study"]

Int64 = npt.NDArray[np.int64]

# Draws of the first labels until two classes are among them.
_MOST_STARTS = 100

# Rows of the map.
_MAP_ROWS = 5_000

# Independent random streams of one seed.
_START, _STUDENT, _STRATEGY, _FOLDS = range(4)


@dataclass(frozen=True)
class Study:
    """What all runs share: the data, and how long they go on. It travels to the worker processes."""

    pool: Rows
    labels: Int64
    test: Rows
    test_labels: Int64
    contenders: tuple[Contender, ...]
    n_classes: int
    class_names: list[str] | None
    base: CCMAConfig
    teacher: Teacher | None
    student: Any
    backend_name: str
    forced: tuple[str, ...] = ()
    rounds: int = 0
    budget: int = 0
    n_start: int = 0
    memory_limit: int = LEAST_LIMIT
    """Of each process that plays runs."""

    @property
    def kept_bytes(self) -> int:
        """What logits may take that are read several times: of the student, and of the teacher in all rounds."""
        return Memory(self.memory_limit).logits // 2

    @cached_property
    def backend(self) -> Backend:
        return choose_backend(self.backend_name)

    @cached_property
    def teacher_logits(self) -> Rows | None:
        """z^T of the pool; kept, for they are the same in every round."""
        return None if self.teacher is None else kept(self.teacher.logits(self.backend), self.kept_bytes)

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

    def suspicions(self) -> list[str]:
        """What the pool's labels say against the teacher."""
        if self.teacher is None:
            return []
        return self.teacher.suspicions(self.teacher.logits(self.backend), self.labels, self.class_names).texts

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
            except Exception as error:  # of a strategy or student of the user's
                text = f"strategy {contender.label!r} with seed {seed} in round {r}: {error}"
                raise _of_the_same_type(error, text) from error
            yield RoundRecord(picks.tolist(), {name: measured[name] for name in METRICS}, seconds)

    def _start(self, contender: Contender, seed: int) -> Int64:
        """The first labels: of two classes at least."""
        unknown = np.full(self.labels.size, -1, dtype=np.int64)
        for attempt in range(_MOST_STARTS):
            state = self._round(unknown, self.n_start, None, self.base, _stream(seed, _START, attempt))
            picks = pick(contender.first, state)
            if has_two_classes(self.labels[picks]):
                return picks
        raise ValueError(
            f"the first {self.n_start} labels, chosen by {contender.start!r}, were of one class {_MOST_STARTS} times; "
            "expected two classes at least: give a larger n_start"
        )

    def _query(self, contender: Contender, seed: int, r: int, known: Int64, fitted: Any) -> Int64:
        state = self._round(known, self.budget, fitted, contender.config, _stream(seed, _STRATEGY, r))
        return pick(contender.strategy, state)

    def _round(
        self, known: Int64, budget: int, fitted: Any, config: CCMAConfig, stream: np.random.SeedSequence
    ) -> Round:
        seen = known.copy()
        seen.flags.writeable = False
        rng = np.random.default_rng(stream)
        left = self.memory_limit - self.kept_bytes
        return Round(self.pool, seen, self.n_classes, budget, fitted, self.teacher, config, rng, self.backend, left)

    def _student(self, contender: Contender, stream: np.random.SeedSequence) -> Any:
        if self.student is None:
            return LinearHead.from_config(contender.config, self.n_classes, stream)
        get_params = getattr(self.student, "get_params", None)
        if get_params is None or "random_state" not in get_params(deep=False):
            return self.student
        seeded = copy.deepcopy(self.student)
        seeded.set_params(random_state=int(stream.generate_state(1)[0]))
        return seeded

    def _fitted(self, contender: Contender, seed: int, r: int, known: Int64) -> Any:
        labelled = np.flatnonzero(known >= 0)
        student = self._student(contender, _stream(seed, _STUDENT, r))
        return fit_student(student, RowSubset(self.pool, labelled), known[labelled], self.n_classes, self.backend)

    def _evaluate(self, fitted: Any) -> dict[str, float]:
        """The student on the test rows."""
        logits = student_logits(fitted, self.test, self.n_classes, self.backend)
        predicted = np.empty(logits.n_rows, np.int64)
        areas: list[float] = []
        width = max(1, min(self.n_classes, self.kept_bytes // (4 * logits.n_rows)))
        for first in range(0, self.n_classes, width):  # as many columns at a time as fit
            classes = slice(first, min(first + width, self.n_classes))
            log_p = np.empty((logits.n_rows, classes.stop - first), np.float32)
            for start, chunk in logits.chunks():
                part = slice(start, start + len(chunk))
                predicted[part] = chunk.argmax(axis=1)
                log_p[part] = -reference.nonconformity(chunk, name=logits.name)[:, classes]
            areas += metrics.class_areas(log_p, self.test_labels, first)
            del log_p  # before the next
        return {
            "accuracy": metrics.accuracy(predicted, self.test_labels),
            "macro_auroc": float(np.mean(areas)),
            "macro_f1": metrics.macro_f1(predicted, self.test_labels),
        }

    def _diagnose(self, contender: Contender, seed: int, r: int, known: Int64, fitted: Any) -> dict[str, float]:
        """The conformal sets of the unlabelled rows."""
        found = dict.fromkeys(METRICS[3:], math.nan)
        labelled, unlabelled = np.flatnonzero(known >= 0), np.flatnonzero(known < 0)
        if unlabelled.size == 0:
            return found
        config, truth = contender.config, self.labels[unlabelled]
        of_student = student_logits(fitted, self.pool, self.n_classes, self.backend)
        z_student = kept(RowSubset(of_student, unlabelled), self.kept_bytes)
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


def open_study(
    pool_and_labels: tuple[Any, Any],
    test_and_labels: tuple[Any, Any],
    *,
    contenders: tuple[Contender, ...],
    base: CCMAConfig,
    teacher: Teacher | None,
    student: Any,
    class_names: Any,
    backend_name: str,
    force: bool,
) -> Study:
    """The data of a simulation, as the arguments of :func:`ccma_fast.simulate` give them, opened and compared."""
    (features, labels), (test_features, test_labels) = pool_and_labels, test_and_labels
    check_flag("force", force)
    pool, test = open_rows(features, "features"), open_rows(test_features, "test_features")
    if test.n_columns != pool.n_columns:
        raise ValueError(f"test_features must have {pool.n_columns} columns as features, got {test.n_columns}")
    forced = accepted([differing_encoders("test_features", test.manifest, "features", pool.manifest)], force)
    names = agreed_class_names(class_names, teacher)
    n_classes = None if names is None else len(names)
    if teacher is not None:
        forced += teacher.check_rows(pool)
        n_classes = teacher.n_classes
    y = _known_labels("labels", labels, pool, n_classes, names)
    test_y = _known_labels("test_labels", test_labels, test, n_classes, names)
    if n_classes is None:
        known = (("labels", y), ("test_labels", test_y))
        n_classes = max(class_count(student, classes, max(pool.n_rows, test.n_rows), name) for name, classes in known)
        for name, classes in known:
            if classes.max() >= n_classes:
                raise ValueError(f"{name} must be classes from 0 to {n_classes - 1}, got {classes.max()}")
    check_head(student, n_classes, pool.n_columns)
    if not has_two_classes(y):
        raise ValueError(f"labels must be of at least two classes, got class {y[0]} alone")
    return Study(
        pool, y, test, test_y, contenders, n_classes, names, base, teacher, student, backend_name, tuple(forced)
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


def _of_the_same_type(error: Exception, text: str) -> Exception:
    """An exception with another text, of the first of an exception's types that is made of a text."""
    for kind in type(error).__mro__:
        if kind is StopIteration:  # no generator may raise it
            continue
        with suppress(Exception):  # whatever a constructor does with a text
            made = kind(text)
            if isinstance(made, Exception) and text in map(str, made.args):
                return made
    raise AssertionError("Exception is made of a text")


def _stream(seed: int, purpose: int, number: int) -> np.random.SeedSequence:
    return np.random.SeedSequence(seed, spawn_key=(purpose, number))


@contextmanager
def _timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    begin = time.perf_counter()
    yield
    seconds[stage] = time.perf_counter() - begin
