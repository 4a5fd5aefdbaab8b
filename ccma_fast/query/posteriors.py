"""Step 2: the posteriors of student and teacher, as logits."""

from __future__ import annotations

from ..pool.rows import Rows
from ..steps.student import student_logits
from ..steps.train import train
from ..steps.trained import Trained
from .inputs import Inputs
from .logits import Logits
from .validation import Validation

__all__ = ["posteriors", "teacher_logits", "trained_models"]


def trained_models(inputs: Inputs, x_labelled: Rows, validation: Validation) -> Trained:
    """Student and teacher, trained on the labelled rows; as they are where logits are ready-made."""
    if inputs.trained is not None:
        return inputs.trained
    if inputs.student_logits is not None:
        return Trained(None)
    settings, teacher = inputs.settings, inputs.teacher
    return train(
        inputs.student,
        validation.validated(inputs.pool),
        inputs.labelled,
        inputs.classes,
        inputs.n_classes,
        teacher=teacher,
        teacher_source=None if teacher is None else validation.validated(teacher.source),
        config=settings.config,
        rng=settings.streams.student,
        backend=settings.backend,
        x_labelled=x_labelled,
        population=inputs.rows.population,
    )


def posteriors(inputs: Inputs, trained: Trained, validation: Validation) -> Logits:
    """The logits of every row of the pool, computed as they are read."""
    if inputs.student_logits is not None:
        of_student = validation.validated(inputs.student_logits)
    else:
        backend, pool = inputs.settings.backend, validation.validated(inputs.pool)
        of_student = student_logits(trained.student, pool, inputs.n_classes, backend)
    return Logits(of_student, teacher_logits(inputs, validation, trained))


def teacher_logits(inputs: Inputs, validation: Validation, trained: Trained | None = None) -> Rows | None:
    """z^T of every row of the pool, corrected where it was trained; None without a teacher."""
    teacher = inputs.teacher
    if teacher is None:
        return None
    source = validation.validated(teacher.source)
    return (trained or Trained(None)).teacher_logits(teacher, source, inputs.settings.backend)
