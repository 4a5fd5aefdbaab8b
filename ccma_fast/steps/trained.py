"""Student and teacher, trained on the labelled rows of a pool."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..backends.protocol import Backend
from ..config import CCMAConfig
from ..pool.arrays import ArrayRows
from ..pool.rows import Rows
from .combination import Combination, CombinedRows
from .corrected_teacher import CorrectedTeacher
from .nonconformity import labelled_scores
from .student import student_logits
from .teacher_rows import TeacherRows

__all__ = ["NO_CHOICE", "Choice", "HeldOut", "Trained"]

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]


class Choice(NamedTuple):
    """What was chosen out of fold; NaN where there was no choice."""

    penalty: float = math.nan
    """Of the student's ‖W‖² / 2."""
    soft_weight: float = math.nan
    """What all the teacher's soft labels together weigh, in labels."""
    teacher_temperature: float = math.nan
    """τ of the teacher, in units of its own logits' temperature."""
    correction_penalty: float = math.nan
    """Of the teacher's correction; infinite where the labels speak for none."""
    student_share: float = math.nan
    """Of the student in the combination with the teacher."""


NO_CHOICE = Choice()


class HeldOut(NamedTuple):
    """Labelled rows by models that never saw their labels."""

    rows: Int64
    """Their positions among the labelled rows, ascending: all, or some of many. Shape (h,)."""
    student: Float32
    """z^S, shape (h, C)."""
    teacher: Float32 | None
    """z^T, corrected, shape (h, C)."""


@dataclass(frozen=True, eq=False)
class Trained:
    """Student and teacher after training."""

    student: Any
    """Fitted on all labelled rows."""
    teacher: CorrectedTeacher | None = None
    """None without a teacher, and where a student of another kind was fitted: the teacher counts as it is then."""
    combination: Combination | None = None
    choice: Choice = NO_CHOICE
    held_out: HeldOut | None = None
    """None for a student of another kind, whose folds are fitted when :attr:`student_scores` are asked for."""
    disagreement: float | None = None
    """Share of a sample of the pool on which student and uncorrected teacher name different classes; None where the
    teacher is not corrected."""
    _student_scores: Callable[[], Float64] | None = None
    _refits: Callable[[], tuple[HeldOut, Combination | None]] | None = None
    """Of a student of another kind."""

    @cached_property
    def student_scores(self) -> Float64:
        """The student's out-of-fold calibration scores of labelled rows, of all of them or of those held out."""
        assert self._student_scores is not None, "a student was fitted here"
        return self._student_scores()

    @cached_property
    def out_of_fold(self) -> tuple[HeldOut, Combination | None]:
        """:attr:`held_out` and :attr:`combination`; of a student of another kind, whose folds are fitted when this is
        asked for, beside the teacher as it is."""
        if self.held_out is not None:
            return self.held_out, self.combination
        assert self._refits is not None, "a student was fitted here"
        return self._refits()

    def combined_logits(self, rows: Rows, teacher: TeacherRows | None, n_classes: int, backend: Backend) -> Rows:
        """Logits of every row by student and teacher combined, or without a teacher by the student alone.

        `teacher` has the rows of `rows`, and was trained on others of its kind.
        """
        z = student_logits(self.student, rows, n_classes, backend)
        if teacher is None:
            return z
        _, combined = self.out_of_fold
        assert combined is not None, "trained with a teacher"
        return CombinedRows(combined, z, self.teacher_logits(teacher, teacher.source, backend))

    def teacher_scores(self, labels: Int64, config: CCMAConfig, backend: Backend) -> Float64 | None:
        """The same of a teacher that was corrected by labels; None where it is as it was."""
        if self.held_out is None or self.held_out.teacher is None:
            return None
        logits = ArrayRows(self.held_out.teacher, "teacher_logits")
        return labelled_scores(logits, labels[self.held_out.rows], config, backend)

    def teacher_logits(self, teacher: TeacherRows, source: Rows, backend: Backend) -> Rows:
        """z^T of every row of a source, computed as chunks are read."""
        if self.teacher is None:
            return teacher.reading(source).logits(backend)
        return self.teacher.logits(source, backend)
