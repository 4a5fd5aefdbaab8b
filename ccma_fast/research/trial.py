"""One trial of a simulation: a strategy and a seed, round by round."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
import numpy.typing as npt

from ..config import CCMAConfig
from ..pool.arrays import kept
from ..pool.derived import RowSubset
from ..steps.student import has_two_classes, student_logits
from ..steps.train import train
from ..steps.trained import Trained
from ..strategies.registry import Round, pick
from .evaluation import evaluate_sets, evaluate_student
from .rounds import METRICS, SET_METRICS, RoundRecord
from .study import Contender, Study

__all__ = ["models_of_round", "run_trial"]

Int64 = npt.NDArray[np.int64]

# Draws of the first labels until two classes are among them.
_MOST_STARTS = 100

# Independent random streams of one seed.
_START, _STUDENT, _STRATEGY, _FOLDS = range(4)


def run_trial(study: Study, label: str, seed: int, done: Sequence[RoundRecord]) -> Iterator[RoundRecord]:
    """The rounds of a trial that are not among the finished ones.

    A round begins with the choice of its rows, so that it depends on the picks of the rounds before alone.
    """
    contender = next(contender for contender in study.contenders if contender.label == label)
    # Loaded here, once in a process, so that no stage of the first trial is charged for it.
    _ = study.backend
    known = np.full(study.labels.size, -1, dtype=np.int64)
    for before in done:
        known[before.picks] = study.labels[before.picks]
    trained = models_of_round(study, contender, seed, len(done) - 1, known) if done else None
    for r in range(len(done), study.rounds + 1):
        try:
            seconds: dict[str, float] = {}
            with _timed(seconds, "select"):
                picks = _start(study, contender, seed) if r == 0 else _query(study, contender, seed, r, known, trained)
            known[picks] = study.labels[picks]
            with _timed(seconds, "fit"):
                trained = models_of_round(study, contender, seed, r, known)
            with _timed(seconds, "evaluate"):
                measured = _evaluated(study, trained)
            with _timed(seconds, "diagnose"):
                measured |= _diagnosed(study, contender, known, trained)
        except Exception as error:  # of a strategy or student of the user's
            text = f"strategy {contender.label!r} with seed {seed} in round {r}: {error}"
            raise _of_the_same_type(error, text) from error
        yield RoundRecord(picks.tolist(), {name: measured[name] for name in METRICS}, seconds)


def _start(study: Study, contender: Contender, seed: int) -> Int64:
    """The rows of the first labels, which are of two classes at least."""
    unknown = np.full(study.labels.size, -1, dtype=np.int64)
    for attempt in range(_MOST_STARTS):
        state = _round(study, unknown, study.n_start, None, study.base, _stream(seed, _START, attempt))
        picks = pick(contender.first, state)
        if has_two_classes(study.labels[picks]):
            return picks
    raise ValueError(
        f"the first {study.n_start} labels, chosen by {contender.start!r}, were of one class {_MOST_STARTS} times; "
        "expected two classes at least: give a larger n_start"
    )


def _query(study: Study, contender: Contender, seed: int, r: int, known: Int64, trained: Trained | None) -> Int64:
    """The rows that the strategy chooses in a round."""
    state = _round(study, known, study.budget, trained, contender.config, _stream(seed, _STRATEGY, r))
    return pick(contender.strategy, state)


def _round(
    study: Study,
    known: Int64,
    budget: int,
    trained: Trained | None,
    config: CCMAConfig,
    stream: np.random.SeedSequence,
) -> Round:
    seen = known.copy()
    seen.flags.writeable = False
    rng = np.random.default_rng(stream)
    left = study.memory_limit - study.kept_bytes
    return Round(study.pool, seen, study.n_classes, budget, trained, study.teacher, config, rng, study.backend, left)


def _student(study: Study, stream: np.random.SeedSequence) -> Any:
    """A given student, unfitted, with the random state of a round; None for the configured head."""
    get_params = getattr(study.student, "get_params", None)
    if get_params is None or "random_state" not in get_params(deep=False):
        return study.student
    seeded = copy.deepcopy(study.student)
    seeded.set_params(random_state=int(stream.generate_state(1)[0]))
    return seeded


def models_of_round(study: Study, contender: Contender, seed: int, r: int, known: Int64) -> Trained:
    """The models of a round, trained on the rows whose label is known: the same bits wherever it is called.

    Parameters
    ----------
    study : Study
    contender : Contender
    seed, r : int
        They draw whatever training draws.
    known : ndarray, shape (N,), int64
        −1 where there is no label.
    """
    labelled = np.flatnonzero(known >= 0)
    stream = _stream(seed, _STUDENT, r)
    return train(
        _student(study, stream),
        study.pool,
        labelled,
        known[labelled],
        study.n_classes,
        teacher=study.teacher,
        teacher_source=None if study.teacher is None else study.teacher.source,
        config=contender.config,
        rng=np.random.default_rng(stream),
        fold_rng=np.random.default_rng(_stream(seed, _FOLDS, r)),
        backend=study.backend,
    )


def _evaluated(study: Study, trained: Trained) -> dict[str, float]:
    """The student on the test rows."""
    logits = student_logits(trained.student, study.test, study.n_classes, study.backend)
    return evaluate_student(logits, study.test_labels, study.kept_bytes)


def _diagnosed(study: Study, contender: Contender, known: Int64, trained: Trained) -> dict[str, float]:
    """The prediction sets of the unlabelled rows."""
    labelled, unlabelled = np.flatnonzero(known >= 0), np.flatnonzero(known < 0)
    if unlabelled.size == 0:
        return dict.fromkeys(SET_METRICS, math.nan)
    logits = student_logits(trained.student, study.pool, study.n_classes, study.backend)
    student = RowSubset(logits, labelled), kept(RowSubset(logits, unlabelled), study.kept_bytes)
    config, teacher = contender.config, None
    if study.teacher is not None and study.teacher_logits is not None:
        of_teacher = study.teacher_logits
        if trained.teacher is not None:
            of_teacher = trained.teacher_logits(study.teacher, study.teacher.source, study.backend)
        teacher = RowSubset(of_teacher, labelled), RowSubset(of_teacher, unlabelled)
    student_scores = teacher_scores = None
    if config.calibration == "coverage":
        student_scores = trained.student_scores
        teacher_scores = trained.teacher_scores(known[labelled], config, study.backend)
    return evaluate_sets(
        student,
        teacher,
        (known[labelled], study.labels[unlabelled]),
        config,
        study.backend,
        student_scores=student_scores,
        teacher_scores=teacher_scores,
    )


def _of_the_same_type(error: Exception, text: str) -> Exception:
    """An exception with another text, of the most derived of an exception's types that takes a text alone."""
    for kind in type(error).__mro__:
        if kind is StopIteration:  # a generator that raises it gets a RuntimeError
            continue
        with suppress(Exception):  # a constructor may raise anything
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
