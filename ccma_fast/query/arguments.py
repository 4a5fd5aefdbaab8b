"""The arguments of a query: checked one by one, then against each other; and which rows may be picked."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..backends.choose import choose_backend
from ..backends.protocol import Backend
from ..checks import check_integer, check_number, check_same_rows
from ..config import CCMAConfig
from ..pool.agreement import accepted, differing_images
from ..pool.class_names import agreed_class_names
from ..pool.class_shares import read_class_shares
from ..pool.derived import RowMask
from ..pool.labels import read_labels
from ..pool.logits import open_logits
from ..pool.open import open_rows
from ..pool.row_masks import read_row_mask
from ..pool.rows import Rows
from ..steps.student import check_head, check_student, class_count, has_two_classes
from ..steps.teacher import Teacher
from ..steps.trained import Trained
from ..system.memory import Memory, check_memory_limit
from .inputs import Inputs
from .selectable_rows import selectable_rows
from .settings import Settings, random_streams

__all__ = ["Arguments", "check_arguments", "checked_arguments", "inputs_of"]

Int64 = npt.NDArray[np.int64]

_NO_ROWS = np.empty(0, np.int64)


@dataclass(frozen=True, eq=False)
class Arguments:
    """The arguments of a query, each of the right type; :func:`inputs_of` checks them against each other."""

    pool: Rows
    budget: int
    labels: Any
    class_names: Any
    teacher: Teacher | None
    student: Any
    student_logits: Any
    config: CCMAConfig
    random_state: int
    backend: Backend
    chunk_size: int | None
    memory: Memory
    vanished: Int64
    """Rows whose images are gone, ascending."""
    exclude: RowMask | None = None
    pending: RowMask | None = None
    include: RowMask | None = None
    min_distance: float = 0.0
    class_distribution: Any = None
    trained: Trained | None = None
    """Student and teacher, where they are trained on the labelled rows already."""


def check_arguments(teacher: Any, student: Any, config: Any) -> None:
    """Teacher, student and configuration are of the right types."""
    if config is not None and not isinstance(config, CCMAConfig):
        raise TypeError(f"config must be a CCMAConfig, got {type(config).__name__}")
    if teacher is not None and not isinstance(teacher, Teacher):
        raise TypeError(f"teacher must be a ccma_fast.Teacher, got {type(teacher).__name__}")
    if student is not None:
        check_student(student)


def checked_arguments(
    features: Any,
    budget: Any,
    *,
    labels: Any,
    class_names: Any,
    teacher: Any,
    student: Any,
    student_logits: Any,
    config: Any,
    random_state: Any,
    backend: Any,
    chunk_size: Any,
    memory_limit: Any,
    exclude: Any,
    pending: Any,
    include: Any,
    min_distance: Any,
    class_distribution: Any,
) -> Arguments:
    """The arguments of :func:`ccma_fast.select`, checked one by one; the pool is opened."""
    check_arguments(teacher, student, config)
    if chunk_size is not None:
        chunk_size = check_integer("chunk_size", chunk_size, minimum=1)
    random_state = check_integer("random_state", random_state, minimum=0, maximum=math.inf)
    chosen, memory = choose_backend(backend), check_memory_limit(memory_limit)
    pool = open_rows(features, "features")
    vanished = pool.vanished()

    def mask(name: str, given: Any) -> RowMask | None:
        return None if given is None else read_row_mask(given, pool, name)

    return Arguments(
        pool=pool,
        budget=check_integer("budget", budget, minimum=1),
        labels=labels,
        class_names=class_names,
        teacher=teacher,
        student=student,
        student_logits=student_logits,
        config=config or CCMAConfig(),
        random_state=random_state,
        backend=chosen,
        chunk_size=chunk_size,
        memory=memory,
        vanished=vanished,
        exclude=mask("exclude", exclude),
        pending=mask("pending", pending),
        include=mask("include", include),
        min_distance=_distance(min_distance),
        class_distribution=class_distribution,
    )


def inputs_of(arguments: Arguments) -> Inputs:
    """Check the arguments against each other, as far as that needs no row of the pool."""
    pool, teacher, student = arguments.pool, arguments.teacher, arguments.student
    given = None if arguments.student_logits is None else _opened_logits(arguments.student_logits, pool)
    names = agreed_class_names(arguments.class_names, teacher)
    forced = [] if teacher is None else teacher.check_rows(pool, *([] if given is None else [given]))
    n_classes = _class_count(teacher, given, names)
    labelled, classes = _NO_ROWS, _NO_ROWS
    if arguments.labels is not None:
        y = read_labels(arguments.labels, pool, n_classes=n_classes, class_names=names)
        labelled = np.flatnonzero(y >= 0)
        classes = y[labelled]
    if given is not None and student is not None:
        raise ValueError("give student or student_logits, not both")
    cold = given is None and not has_two_classes(classes)
    if student is not None and labelled.size == 0:
        raise ValueError("a student needs labels of at least two classes, got no labelled row")
    if n_classes is None and labelled.size:
        counted = class_count(student, y, pool.n_rows)
        n_classes = None if cold else counted
    if n_classes is not None and given is None and not cold:
        check_head(student, n_classes, pool.n_columns)
    acquisition = arguments.config.chosen_acquisition(learns_from_teacher=_learns_from_teacher(arguments))
    in_pool = acquisition == "coverage"
    sources = [pool, *([] if given is None else [given])]
    if teacher is not None and teacher.source is not pool:
        sources.append(teacher.source)
    chunk_size = arguments.chunk_size
    if chunk_size is None:
        chunk_size = arguments.memory.chunk_rows([*(rows.n_columns for rows in sources), n_classes or 1])
    rows = selectable_rows(
        pool.n_rows,
        labelled,
        arguments.vanished,
        exclude=arguments.exclude,
        pending=arguments.pending,
        include=arguments.include,
    )
    streams = random_streams(arguments.random_state)
    return Inputs(
        settings=Settings(arguments.config, arguments.backend, arguments.memory, chunk_size, streams),
        pool=pool,
        acquisition=acquisition,
        space=pool if in_pool or teacher is None or teacher.features is None else teacher.features,
        sources=tuple(sources),
        teacher=teacher,
        student=student,
        trained=arguments.trained,
        student_logits=given,
        n_classes=n_classes or 0,
        class_names=names,
        labelled=labelled,
        classes=classes,
        has_labels=arguments.labels is not None,
        rows=rows,
        cold=cold,
        min_distance=arguments.min_distance,
        shares=_shares(arguments, n_classes, names, has_model=not cold or teacher is not None),
        budget=min(arguments.budget, rows.selectable.size),
        forced=forced,
    )


def _learns_from_teacher(arguments: Arguments) -> bool:
    """Whether the student is, or will be, trained on the teacher's posteriors as well, as far as they help."""
    if arguments.config.head != "distilled":
        return False
    if arguments.trained is not None:
        return arguments.trained.teacher is not None
    return arguments.student is None and arguments.student_logits is None


def _distance(given: Any) -> float:
    if given is None:
        return 0.0
    distance = check_number("min_distance", given, minimum=0.0)
    if distance > 2.0:
        raise ValueError(f"min_distance must be at most 2, the largest distance of unit rows, got {given}")
    return distance


def _shares(
    arguments: Arguments, n_classes: int | None, names: list[str] | None, *, has_model: bool
) -> npt.NDArray[np.float64] | None:
    if arguments.class_distribution is None:
        return None
    if not has_model or n_classes is None:
        raise ValueError(
            "class_distribution needs a model that predicts classes: labels of two of them, student_logits or a teacher"
        )
    return read_class_shares(arguments.class_distribution, n_classes, names)


def _opened_logits(source: Any, pool: Rows) -> Rows:
    logits = open_logits(source, "student_logits")
    check_same_rows("student_logits", logits.n_rows, "features", pool.n_rows)
    accepted([differing_images(logits, pool)], force=None)
    return logits


def _class_count(teacher: Teacher | None, given: Rows | None, names: list[str] | None) -> int | None:
    """C as given by anything but the labels, else None."""
    if teacher is not None:
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
