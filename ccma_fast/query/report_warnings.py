"""Sanity checks of supplied logits (the teacher's, ready-made ones of the student), for `report.warnings`."""

from __future__ import annotations

import math

from ..pool.derived import RowSubset
from ..pool.rows import Rows
from ..steps.suspicions import Suspicions, probability_suspicions, suspicions
from ..steps.teacher_rows import teacher_suspicions
from .inputs import Inputs

__all__ = ["suspicions_from_labels", "suspicions_from_logits"]


def suspicions_from_logits(inputs: Inputs) -> list[str]:
    """Warnings about ready-made logits that need no labels."""
    texts = []
    if inputs.student_logits is not None:
        texts += probability_suspicions("the student", inputs.student_logits)
    if inputs.teacher is not None and inputs.teacher.class_directions is None:
        texts += probability_suspicions("the teacher", inputs.teacher.source)
    return texts


def suspicions_from_labels(inputs: Inputs, student_logits: Rows, top1_disagreement: float) -> Suspicions:
    """Warnings about the teacher and ready-made student logits, by the labelled rows; none without labels.

    Parameters
    ----------
    inputs : Inputs
    student_logits : Rows
        The student's logits of every row of the pool.
    top1_disagreement : float
        Share of rows whose most probable classes by student and uncorrected teacher differ.
    """
    texts: list[str] = []
    likeliest = math.nan
    if inputs.labelled.size == 0:
        return Suspicions(likeliest, texts)
    if inputs.student_logits is not None:
        labelled = RowSubset(student_logits, inputs.labelled)
        texts += suspicions("the student", labelled, inputs.classes, inputs.class_names).texts
    if inputs.teacher is not None:
        # Where the teacher's classes are permuted, a student fitted on the labels contradicts it on most of the pool,
        # not only on the rows that were selected for disagreement.
        found = teacher_suspicions(
            inputs.teacher,
            RowSubset(inputs.teacher.logits(inputs.settings.backend), inputs.labelled),
            inputs.classes,
            inputs.class_names,
            whole_order=top1_disagreement >= 0.5,
        )
        likeliest = found.likeliest_temperature
        texts += found.texts
    return Suspicions(likeliest, texts)
