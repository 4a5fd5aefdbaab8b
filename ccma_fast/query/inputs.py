"""The inputs of a query: they agree with each other, and no row of the pool has been read yet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..pool.derived import AllBut
from ..pool.rows import Rows
from ..steps.student import ChunkedStudent
from ..steps.teacher_rows import TeacherRows
from .settings import Settings

__all__ = ["Inputs"]

Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Inputs:
    """The inputs of a query, which :func:`ccma_fast.query.arguments.inputs_of` makes of its arguments."""

    settings: Settings
    pool: Rows
    """The student's embeddings x."""
    space: Rows
    """Where coverage runs: the teacher's embeddings v, or x where it has none."""
    sources: tuple[Rows, ...]
    """Everything that is read, in the order in which it is validated."""
    teacher: TeacherRows | None
    student: Any
    """To be fitted on the labelled rows; None for a head with the configured training."""
    is_fitted: bool
    """Whether the student is fitted on the labelled rows already."""
    student_logits: Rows | None
    """Ready-made logits of the student."""
    n_classes: int
    """0 at cold start without a teacher and names of classes."""
    class_names: list[str] | None
    """What the classes are called, in their order."""
    labelled: Int64
    """Rows that have a label, ascending."""
    classes: Int64
    """Their labels."""
    has_labels: bool
    """Whether labels were given, be they none."""
    unlabelled: AllBut
    """Rows that can be picked: without a label, and their images have not vanished."""
    n_vanished: int
    """Rows without a label that cannot."""
    cold: bool
    """Whether no student can be fitted: labels of fewer than two classes, and no logits."""
    budget: int
    """Rows to pick, at most as many as can be."""
    forced: list[str]
    """What manifests say against the teacher, taken all the same."""

    @property
    def student_is_head(self) -> bool:
        """Whether the student reads rows itself, as :class:`ccma_fast.LinearHead` does, and is not of another class."""
        return self.student is None or isinstance(self.student, ChunkedStudent)

    @property
    def n_left(self) -> int:
        """Unlabelled rows that may be scored: all, or a random share."""
        limit = self.settings.config.pool_limit
        n_unlabelled = self.unlabelled.size
        return n_unlabelled if limit is None else min(n_unlabelled, max(limit, self.budget))

    @property
    def n_scored(self) -> int:
        """Rows of the subpool, or all that may be scored."""
        return self.settings.config.subpool_rows(self.n_left, self.budget)

    def labels_by_class(self) -> Int64:
        """How many labelled rows each class has."""
        return np.bincount(self.classes, minlength=self.n_classes)
