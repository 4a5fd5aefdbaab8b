"""The training of student and teacher on the labelled rows of a pool."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..backends.protocol import Backend
from ..config import CCMAConfig
from ..pool.arrays import ArrayRows
from ..pool.derived import AllBut, RowSubset
from ..pool.rows import Rows
from .combination import Combination, combination
from .corrected_teacher import CorrectedTeacher, Correction, TeacherSample
from .distillation import Distilled, distilled
from .linear_head import LinearHead
from .logistic_head import LogisticHead
from .nonconformity import labelled_scores
from .out_of_fold import Refit, out_of_fold_logits, out_of_fold_scores, refits
from .pool_sample import pool_sample
from .scaling import Scaling
from .selection import n_held_out, stratified_folds, unseen
from .student import fit_student, softmax
from .teacher_correction import corrected, read_teacher
from .teacher_rows import TeacherRows
from .trained import Choice, HeldOut, Trained

__all__ = ["is_logistic", "train"]

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]


def is_logistic(student: Any, config: CCMAConfig) -> bool:
    """Whether the default student of a configuration is meant, and is not the published one."""
    return student is None and config.head != "published"


def train(
    student: Any,
    pool: Rows,
    labelled: Int64,
    labels: Int64,
    n_classes: int,
    *,
    teacher: TeacherRows | None,
    teacher_source: Rows | None,
    config: CCMAConfig,
    rng: np.random.Generator,
    fold_rng: np.random.Generator | None = None,
    backend: Backend,
    x_labelled: Rows | None = None,
    population: AllBut | Int64 | None = None,
    hold_all_out: bool = False,
) -> Trained:
    """Train on the labelled rows.

    Parameters
    ----------
    student : estimator or None
        A copy of it is fitted; None for the head of the configuration.
    pool : Rows, shape (N, D)
    labelled, labels : ndarray, shape (n,), int64
        Rows of the pool, ascending, and their classes.
    n_classes : int
    teacher : TeacherRows or None
    teacher_source : Rows or None
        What the teacher's rows are read from.
    config : CCMAConfig
    rng : Generator
    fold_rng : Generator, optional
        Draws the folds; `rng` by default.
    backend : Backend
    x_labelled : Rows, optional
        The labelled rows of the pool, where they are in memory.
    population : AllBut or ndarray, int64, optional
        The rows that the sample of the pool is drawn from, ascending; all by default.
    hold_all_out : bool
        Hold every row out, also of many.
    """
    known = RowSubset(pool, labelled) if x_labelled is None else x_labelled
    if is_logistic(student, config):
        of_teacher = None if teacher is None or teacher_source is None else (teacher, teacher_source)
        return _logistic(
            pool,
            known,
            labelled,
            labels,
            n_classes,
            of_teacher,
            config,
            rng,
            fold_rng or rng,
            backend,
            AllBut(pool.n_rows, np.empty(0, np.int64)) if population is None else population,
            hold_all_out,
        )
    if student is None:
        student = LinearHead.from_config(config, n_classes, rng)
    fitted = fit_student(student, known, labels, n_classes, backend)

    def folds() -> Iterator[Refit]:
        return refits(student, known, labels, n_classes, config, fold_rng or rng, backend)

    def of_both() -> tuple[HeldOut, Combination | None]:
        rows, z = out_of_fold_logits(folds(), labels.size, n_classes)
        if teacher is None or teacher_source is None:
            return HeldOut(rows, z, None), None
        z_teacher = teacher.reading(RowSubset(teacher_source, labelled[rows])).logits(backend).float32()
        # Where no row could be held out, nothing tells the models apart.
        combined = combination(z, z_teacher, labels[rows]) if rows.size else Combination(share=0.5)
        return HeldOut(rows, z, z_teacher), combined

    return Trained(
        fitted,
        _student_scores=lambda: out_of_fold_scores(folds(), labels, config, backend),
        _refits=of_both,
    )


def _logistic(
    pool: Rows,
    known: Rows,
    labelled: Int64,
    labels: Int64,
    n_classes: int,
    of_teacher: tuple[TeacherRows, Rows] | None,
    config: CCMAConfig,
    rng: np.random.Generator,
    fold_rng: np.random.Generator,
    backend: Backend,
    population: AllBut | Int64,
    hold_all_out: bool,
) -> Trained:
    """A logistic regression, with the teacher's soft labels of a sample of the pool as far as they help."""
    sample = population[pool_sample(population.size, n_classes, rng)]
    x, x_sample = known.float32(), RowSubset(pool, sample).float32()
    scaling = Scaling.of(x_sample)
    x, x_sample = scaling(x), scaling(x_sample)
    fold = stratified_folds(labels, config.n_folds, fold_rng)
    if not hold_all_out:
        fold[fold >= n_held_out(labels.size, config.n_folds)] = -1
    held_out = np.flatnonzero(fold >= 0)

    judged, soft, soft_of_folds = None, None, None
    if of_teacher is not None:
        judged = _judged(of_teacher, labelled, labels, sample, fold, backend)
        if config.head == "distilled":
            soft, *soft_of_folds = (
                softmax(correction(judged.sample, backend)) for correction in (judged.correction, *judged.of_folds)
            )
    found = distilled(
        x,
        labels,
        n_classes,
        fold,
        backend,
        soft_rows=x_sample if soft is not None else x_sample[:0],
        soft_of_folds=soft_of_folds,
        soft=soft,
    )

    def scores() -> Float64:
        return labelled_scores(ArrayRows(found.out_of_fold, "student_logits"), labels[held_out], config, backend)

    head = _head(found, scaling, n_classes)
    if judged is None or of_teacher is None:
        choice = Choice(found.penalty)
        known_out = HeldOut(held_out, found.out_of_fold, None)
        return Trained(head, choice=choice, held_out=known_out, _student_scores=scores)
    teacher, _ = of_teacher
    beta, _, correction_penalty = judged.correction
    # A student without soft labels cannot be compared on classes that it has not seen.
    fair = np.flatnonzero(~unseen(labels, fold) | (found.soft_weight > 0.0))
    combined = combination(found.out_of_fold[fair], judged.out_of_fold[fair], labels[held_out][fair])
    return Trained(
        head,
        CorrectedTeacher(
            teacher.class_directions, teacher.temperature, teacher.n_classes, judged.correction, judged.scaling
        ),
        combined,
        Choice(
            found.penalty,
            found.soft_weight,
            math.inf if beta == 0.0 else 1.0 / beta,
            correction_penalty,
            combined.share,
        ),
        HeldOut(held_out, found.out_of_fold, judged.out_of_fold),
        float((backend.linear(x_sample, found.coef).argmax(axis=1) != judged.sample.logits.argmax(axis=1)).mean()),
        scores,
    )


def _head(found: Distilled, scaling: Scaling, n_classes: int) -> LogisticHead:
    """What was learnt, as a student of rows as they come."""
    coef, intercept = scaling.of_raw(found.coef)
    return LogisticHead(n_classes).load_state_dict(
        {
            "classes": np.arange(n_classes),
            "coef": coef,
            "intercept": intercept,
            "mean": scaling.mean,
            "scale": scaling.scale,
            "penalty": found.penalty,
            "n_iter": found.n_evaluations,
        }
    )


class _Judged(NamedTuple):
    """The teacher, corrected by all labels and by those outside each fold."""

    sample: TeacherSample
    """Its rows of the pool's sample."""
    scaling: Scaling
    correction: Correction
    of_folds: list[Correction]
    out_of_fold: Float32


def _judged(
    of_teacher: tuple[TeacherRows, Rows],
    labelled: Int64,
    labels: Int64,
    sample: Int64,
    fold: Int64,
    backend: Backend,
) -> _Judged:
    teacher, source = of_teacher
    z, features = read_teacher(teacher, RowSubset(source, labelled), backend)
    z_sample, features_sample = read_teacher(teacher, RowSubset(source, sample), backend)
    scaling = Scaling.of(features_sample)
    of_labelled = TeacherSample(z, scaling(features))
    correction, of_folds = corrected(of_labelled, labels, fold, backend)
    out_of_fold = np.empty_like(z)
    for k, of_fold in enumerate(of_folds):
        out_of_fold[fold == k] = of_fold(of_labelled.of(fold == k), backend)
    of_sample = TeacherSample(z_sample, scaling(features_sample))
    return _Judged(of_sample, scaling, correction, of_folds, out_of_fold[fold >= 0])
