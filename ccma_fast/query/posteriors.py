"""Step 2: the posteriors of student and teacher, as logits."""

from __future__ import annotations

from typing import Any

from ..pool.rows import Rows
from ..steps.linear_head import LinearHead
from ..steps.student import fit_student, student_logits
from .inputs import Inputs
from .logits import Logits
from .validation import Validation

__all__ = ["posteriors", "student_of", "teacher_logits"]


def student_of(inputs: Inputs) -> Any:
    """The estimator to fit on the labelled rows; None where there are ready-made logits."""
    if inputs.student_logits is not None or inputs.student is not None:
        return inputs.student
    return LinearHead.from_config(inputs.settings.config, inputs.n_classes, inputs.settings.streams.student)


def posteriors(inputs: Inputs, student: Any, x_labelled: Rows, validation: Validation) -> Logits:
    """The logits of every row of the pool, computed as they are read; the student is fitted here."""
    if inputs.student_logits is not None:
        of_student = validation.validated(inputs.student_logits)
    else:
        backend, n_classes = inputs.settings.backend, inputs.n_classes
        fitted = student
        if not inputs.is_fitted:
            fitted = fit_student(student, x_labelled, inputs.classes, n_classes, backend)
        of_student = student_logits(fitted, validation.validated(inputs.pool), n_classes, backend)
    return Logits(of_student, teacher_logits(inputs, validation))


def teacher_logits(inputs: Inputs, validation: Validation) -> Rows | None:
    """z^T of every row of the pool, computed as they are read; None without a teacher."""
    teacher = inputs.teacher
    if teacher is None:
        return None
    return teacher.reading(validation.validated(teacher.source)).logits(inputs.settings.backend)
