"""What a query says against logits that are not from a student fitted on the labelled rows."""

from __future__ import annotations

import math

from ..steps.suspicions import Suspicions, probability_suspicions, suspicions
from .inputs import Inputs
from .logits import Logits

__all__ = ["suspicions_from_labels", "suspicions_from_logits"]


def suspicions_from_logits(inputs: Inputs) -> list[str]:
    """What ready-made logits show without labels, a sentence each."""
    texts = []
    if inputs.student_logits is not None:
        texts += probability_suspicions("the student", inputs.student_logits)
    if inputs.teacher is not None and inputs.teacher.class_directions is None:
        texts += probability_suspicions("the teacher", inputs.teacher.source)
    return texts


def suspicions_from_labels(inputs: Inputs, pool_logits: Logits, top1_disagreement: float) -> Suspicions:
    """What the labelled rows, where there are some, say against the teacher and ready-made logits of the student.

    Parameters
    ----------
    inputs : Inputs
    pool_logits : Logits
        Of every row of the pool.
    top1_disagreement : float
        Share of the scored rows whose most probable classes differ.
    """
    texts: list[str] = []
    likeliest = math.nan
    if inputs.labelled.size == 0:
        return Suspicions(likeliest, texts)
    labelled = pool_logits.of(inputs.labelled)
    if inputs.student_logits is not None:
        texts += suspicions("the student", labelled.student, inputs.classes, inputs.class_names).texts
    if inputs.teacher is not None and labelled.teacher is not None:
        # Whoever learnt from the labels contradicts a teacher of another order on most rows, not on chosen ones.
        found = inputs.teacher.suspicions(
            labelled.teacher, inputs.classes, inputs.class_names, whole_order=top1_disagreement >= 0.5
        )
        likeliest = found.likeliest_temperature
        texts += found.texts
    return Suspicions(likeliest, texts)
