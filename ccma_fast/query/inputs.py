"""The inputs of a query: they agree with each other, and no row of the pool has been read yet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..pool.rows import Rows
from ..steps.student import ChunkedStudent
from ..steps.teacher_rows import TeacherRows
from ..steps.trained import Trained
from .selectable_rows import SelectableRows
from .settings import RowNumbers, Settings

__all__ = ["Inputs"]

Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Inputs:
    """The inputs of a query, which :func:`ccma_fast.query.arguments.inputs_of` makes of its arguments."""

    settings: Settings
    pool: Rows
    """The student's embeddings x."""
    acquisition: str
    """By which rows are selected, a key of :data:`~.acquisitions.table.ACQUISITIONS`."""
    space: Rows
    """Embedding space of the clusterings: the teacher's embeddings v, or x where it has none or the student leads."""
    sources: tuple[Rows, ...]
    """Everything that is read, in the order in which it is validated."""
    teacher: TeacherRows | None
    student: Any
    """The estimator to fit on the labelled rows; None for the configured head."""
    trained: Trained | None
    """Student and teacher, where they are trained on the labelled rows already."""
    student_logits: Rows | None
    """Ready-made logits of the student."""
    n_classes: int
    """0 at cold start without a teacher and class names."""
    class_names: list[str] | None
    """Names of the classes, in their order."""
    labelled: Int64
    """Rows that have a label, ascending."""
    classes: Int64
    """Labels of the labelled rows."""
    has_labels: bool
    """Whether labels were given, even if no row has one."""
    rows: SelectableRows
    """Which of the others can be selected, and which cannot."""
    cold: bool
    """Whether no student can be fitted: labels of fewer than two classes, and no logits."""
    min_distance: float
    """The least distance of picks from others; 0 where none is asked for."""
    shares: npt.NDArray[np.float64] | None
    """Wanted shares of the classes among labels and picks, shape (C,), where they are asked for."""
    budget: int
    """Rows to select, capped at the number of rows that can be selected."""
    forced: list[str]
    """Manifest mismatches of the teacher that were overridden by `force`."""

    @property
    def student_is_head(self) -> bool:
        """Whether the student reads rows itself, as :class:`ccma_fast.LinearHead` does, and is not of another class."""
        student = self.student if self.trained is None else self.trained.student
        return student is None or isinstance(student, ChunkedStudent)

    @property
    def unlabelled(self) -> RowNumbers:
        """Rows that can be selected, ascending."""
        return self.rows.selectable

    @property
    def covered(self) -> Int64:
        """Rows relative to which others are covered, ascending: labelled and pending ones."""
        return np.union1d(self.labelled, self.rows.pending)

    @property
    def n_left(self) -> int:
        """Number of selectable rows that may be scored: all, or a random sample."""
        limit = self.settings.config.pool_limit
        n_unlabelled = self.unlabelled.size
        return n_unlabelled if limit is None else min(n_unlabelled, max(limit, self.budget))

    @property
    def n_scored(self) -> int:
        """Number of rows of the subpool, or of all that may be scored."""
        return self.settings.config.subpool_rows(self.n_left, self.budget)

    def labels_by_class(self) -> Int64:
        """Number of labelled rows of each class, shape (C,)."""
        return np.bincount(self.classes, minlength=self.n_classes)
