"""What student and teacher predict together on test rows, beside either alone, at every number of labels.

The labels are those that a contender of a finished simulation chose. The models of each round are trained again, which
gives the simulation's own bits.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

import ccma_fast as cf
from ccma_fast.backends.choose import choose_backend
from ccma_fast.pool.open import open_rows
from ccma_fast.research.contenders import contenders_of
from ccma_fast.research.curves import LearningCurve, mean_and_error
from ccma_fast.research.results import Results
from ccma_fast.research.study import Contender, Study, open_study
from ccma_fast.research.trial import models_of_round
from ccma_fast.steps.student import student_logits
from ccma_fast.steps.trained import Trained

from .tabulate import table

__all__ = ["Pool", "TeacherLogits", "accuracy_of_all_labels", "combined", "mean_text", "prediction_table"]

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]


class TeacherLogits(NamedTuple):
    """z^T of a teacher of temperature 1."""

    pool: Float32
    """Shape (N, C)."""
    test: Float32
    """Shape (M, C)."""


class Pool(NamedTuple):
    """One student's features with labels, and every teacher's logits."""

    features: Float32
    labels: Int64
    test_features: Float32
    test_labels: Int64
    teachers: dict[str, TeacherLogits]


def accuracy_of_all_labels(pool: Pool, logits: TeacherLogits) -> float:
    """The default student's on the test rows, once every row of the pool has its label."""
    study, contender = _study(pool, logits, "random")
    trained = models_of_round(study, contender, 0, 0, study.labels)
    return float((_student_logits(study, trained).argmax(axis=1) == pool.test_labels).mean())


def combined(pool: Pool, logits: TeacherLogits, results: Results, label: str) -> LearningCurve:
    """The accuracy of student and teacher together, with the labels of a contender of `results`."""
    study, contender = _study(pool, logits, label)
    of_teacher = open_rows(logits.test, "teacher_logits")
    of_student = results.curve(label)
    accuracy = np.empty_like(of_student.accuracy)
    for i, seed in enumerate(results.seeds):
        own = (results.picks["strategy"] == label) & (results.picks["seed"] == seed)
        rows, rounds = results.picks["row"][own], results.picks["round"][own]
        for r in range(results.n_rounds + 1):
            known = np.full(study.labels.size, -1, np.int64)
            known[rows[rounds <= r]] = study.labels[rows[rounds <= r]]
            trained = models_of_round(study, contender, seed, r, known)
            z_student = _student_logits(study, trained)
            if (z_student.argmax(axis=1) == pool.test_labels).mean() != of_student.accuracy[i, r]:
                raise RuntimeError(f"round {r} of {label!r} with seed {seed} was not trained as in the simulation")
            if trained.teacher is None or trained.combination is None:
                raise ValueError(f"{label!r} must have a head that corrects the teacher, got {contender.config.head!r}")
            z = trained.combination(z_student, trained.teacher.logits(of_teacher, study.backend).float32())
            accuracy[i, r] = (z.argmax(axis=1) == pool.test_labels).mean()
    return LearningCurve(f"{label}, with the teacher", of_student.n_labels, accuracy)


def prediction_table(both: LearningCurve, student: LearningCurve, alone: LearningCurve, teacher: float) -> str:
    """Student and teacher together beside either alone, at every number of labels; differences are paired by seed.

    Parameters
    ----------
    both, student : LearningCurve
        Student and teacher together, and the student of the same labels.
    alone : LearningCurve
        The student of a loop without a teacher, of the same seeds.
    teacher : float
        The teacher's accuracy.
    """
    rows, below = [], []
    for r, n_labels in enumerate(both.n_labels):
        best = np.full(both.n_seeds, teacher) if teacher >= alone.mean[r] else alone.accuracy[:, r]
        mean, error = mean_and_error(both.accuracy[:, r] - best)
        if mean < -np.nan_to_num(error):
            below.append(str(n_labels))
        cells = [mean_text(curve.accuracy[:, r]) for curve in (alone, student, both)]
        rows.append([str(n_labels), f"{teacher:.4f}", *cells, mean_text(both.accuracy[:, r] - best)])
    header = [
        "labels",
        "teacher",
        "student without a teacher",
        "student",
        "both",
        "both minus the better of the first two",
    ]
    verdict = f"at {', '.join(below)} labels" if below else "nowhere"
    areas = {
        "that of the teacher": np.full(both.n_seeds, teacher),
        "that of the student without a teacher": alone.area,
        "that of the student": student.area,
    }
    less = "".join(f"; minus {name} {mean_text(both.area - area)}" for name, area in areas.items())
    return (
        f"Area of both: {mean_text(both.area)}{less}. Below the better of teacher and student without a teacher by "
        f"more than one standard error: {verdict}.\n\n{table(header, rows)}"
    )


def mean_text(values: Float64) -> str:
    """Mean ± standard error."""
    mean, error = map(float, mean_and_error(values))
    return f"{mean:.4f}" if values.size == 1 else f"{mean:.4f} ± {error:.4f}"


def _study(pool: Pool, logits: TeacherLogits, label: str) -> tuple[Study, Contender]:
    """A contender's study, as :func:`ccma_fast.simulate` opens it."""
    config = cf.CCMAConfig()
    contenders = contenders_of([label], "random", config, has_student=False)
    study = open_study(
        (pool.features, pool.labels),
        (pool.test_features, pool.test_labels),
        contenders=contenders,
        base=config,
        teacher=cf.Teacher.from_logits(logits.pool),
        student=None,
        class_names=None,
        backend_name=choose_backend().NAME,
        force=False,
    )
    return replace(study, budget=study.n_classes), contenders[0]


def _student_logits(study: Study, trained: Trained) -> Float32:
    return student_logits(trained.student, study.test, study.n_classes, study.backend).float32()
