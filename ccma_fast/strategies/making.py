"""Rounds for tests of a strategy, and for a look at what one gets."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..backends.choose import choose_backend
from ..checks import check_integer
from ..config import CCMAConfig
from ..pool.checked import check_rows
from ..pool.labels import read_labels
from ..pool.open import open_rows
from ..query.arguments import check_arguments
from ..steps.classes import declared_classes
from ..steps.student import check_head, check_two_classes, class_count
from ..steps.teacher import Teacher
from ..steps.train import train
from ..steps.trained import Trained
from .registry import Round

__all__ = ["make_round"]


# long: its docstring
def make_round(
    features: Any,
    labels: Any,
    budget: int,
    *,
    teacher: Teacher | None = None,
    student: Any = None,
    n_classes: int | None = None,
    class_names: Any = None,
    config: CCMAConfig | None = None,
    random_state: int = 0,
    backend: str = "auto",
) -> Round:
    """A round as a strategy gets it, with models that are trained on the labels.

    To test a strategy of one's own; :func:`ccma_fast.simulate` and :func:`ccma_fast.select` make their own.

    Parameters
    ----------
    features : array_like, path, ..., shape (N, D_S)
        The pool, as for :func:`ccma_fast.select`.
    labels : array_like or path, shape (N,), or None
        As for :func:`ccma_fast.select`. Without any label the round has no student, as the one that chooses the first
        labels.
    budget : int
        Rows to choose, at most as many as have no label.
    teacher : Teacher, optional
    student : object with `fit` and `predict_proba`, optional
        A copy of it is fitted; by default what ``CCMAConfig(head=)`` names.
    n_classes : int, optional
        C; by default that of the names, the teacher's, the student's, or the largest label + 1.
    class_names : sequence of str, mapping or path, optional
        Where labels are names.
    config : CCMAConfig, optional
    random_state : int, default 0
        Seed of the training and of the round's generator.
    backend : {"auto", "cuda", "cpu", "reference"}

    Returns
    -------
    Round

    Raises
    ------
    ValueError, TypeError
        What is wrong with an argument; labels of one class alone; a row that is not finite; no label, and nothing else
        that tells the number of classes.

    Examples
    --------
    >>> import numpy as np, ccma_fast as cf
    >>> y = np.arange(60) % 3
    >>> x = (4 * np.eye(3, 8)[y] + np.random.default_rng(0).standard_normal((60, 8))).astype(np.float32)
    >>> state = cf.strategies.make_round(x, np.where(np.arange(60) < 12, y, -1), budget=5)
    >>> state.unlabelled_logits.float32().shape, state.student.predict_proba(x).shape
    ((48, 3), (60, 3))
    >>> def first(state):
    ...     return state.unlabelled[: state.budget]
    >>> cf.strategies.pick(first, state)
    array([12, 13, 14, 15, 16])
    """
    check_arguments(teacher, student, config)
    rows, chosen, config = open_rows(features, "features"), choose_backend(backend), config or CCMAConfig()
    seed = check_integer("random_state", random_state, minimum=0, maximum=math.inf)
    classes = declared_classes(n_classes, class_names, teacher, student)
    codes = read_labels(labels, rows, n_classes=classes.n_classes, class_names=classes.names).copy()
    codes.flags.writeable = False
    labelled = np.flatnonzero(codes >= 0)
    if classes.n_classes is None and not labelled.size:
        raise ValueError("n_classes must be given where there is no label, teacher or name of a class to tell it")
    n = classes.n_classes or class_count(student, codes, rows.n_rows)
    check_head(student, n, rows.n_columns)
    budget = check_integer("budget", budget, minimum=1, maximum=rows.n_rows - labelled.size)
    sources = [rows]
    if teacher is not None:
        teacher.check_rows(rows)
        sources.append(teacher.source)
    for source in sources:
        needs_directions = teacher is not None and source is teacher.features
        check_rows(source, chosen.row_lengths, directions=needs_directions)
    of_training, of_round = np.random.SeedSequence(seed).spawn(2)
    trained: Trained | None = None
    if labelled.size:
        check_two_classes(codes[labelled])
        trained = train(
            student,
            rows,
            labelled,
            codes[labelled],
            n,
            teacher=teacher,
            teacher_source=None if teacher is None else teacher.source,
            config=config,
            rng=np.random.default_rng(of_training),
            backend=chosen,
        )
    return Round(rows, codes, n, budget, trained, teacher, config, np.random.default_rng(of_round), chosen)
