"""The strategies and the data of a simulation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from ..backends.choose import choose_backend
from ..backends.protocol import Backend
from ..checks import check_flag
from ..config import CCMAConfig
from ..pool.agreement import accepted, differing_encoders
from ..pool.arrays import kept
from ..pool.checked import check_rows
from ..pool.class_names import agreed_class_names
from ..pool.labels import read_labels
from ..pool.open import open_rows
from ..pool.rows import Rows
from ..steps.student import check_head, class_count, has_two_classes
from ..steps.teacher import Teacher
from ..steps.teacher_rows import teacher_suspicions
from ..strategies.registry import Strategy
from ..system.memory import LEAST_LIMIT, Memory

__all__ = ["Contender", "Study", "open_study"]

Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Contender:
    """A strategy with its constants, and the strategy that chooses its first labels."""

    label: str
    strategy: Strategy
    start: str
    config: CCMAConfig
    first: Strategy
    """The strategy that is named `start`, which another process may not have registered."""


@dataclass(frozen=True)
class Study:
    """The data of a simulation, and how many labels are asked for. It is sent to the worker processes."""

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
    """Bytes, of each process."""

    @property
    def kept_bytes(self) -> int:
        """Most bytes of logits that are kept in memory: the student's of a round, and as many of the teacher's."""
        return Memory(self.memory_limit).logits // 2

    @cached_property
    def backend(self) -> Backend:
        return choose_backend(self.backend_name)

    @cached_property
    def teacher_logits(self) -> Rows | None:
        """z^T of the pool, the same in every round; kept in memory where they fit."""
        return None if self.teacher is None else kept(self.teacher.logits(self.backend), self.kept_bytes)

    def check(self) -> None:
        """Check that the pool has enough rows, and that every row is finite."""
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
        """Sanity checks of the teacher by the pool's labels."""
        if self.teacher is None:
            return []
        logits = self.teacher.logits(self.backend)
        return teacher_suspicions(self.teacher, logits, self.labels, self.class_names).texts


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
    """The data that are the arguments of :func:`ccma_fast.simulate`, opened and checked against each other."""
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
