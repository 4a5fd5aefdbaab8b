"""Step 3: the thresholds of the conformal sets."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from ..pool.rows import Rows
from ..steps.cuts import Cuts, calibrated_cuts
from ..steps.nonconformity import labelled_scores
from ..steps.out_of_fold import out_of_fold_scores
from .inputs import Inputs
from .logits import Logits
from .scores import Columns, Scores
from .settings import Settings

__all__ = ["NO_CUTS", "thresholds"]

NO_CUTS = Cuts(math.inf, math.inf, math.nan, math.nan)
"""Every set holds every class: none are formed."""


def thresholds(
    inputs: Inputs, columns: Columns, pool_logits: Logits, logits: Logits, student: Any, x_labelled: Rows
) -> tuple[Cuts, Scores | None]:
    """Thresholds as configured, and the scores of all rows where the same pass gives both.

    Parameters
    ----------
    inputs : Inputs
    columns : mapping of str to dtype
        Columns of the scores.
    pool_logits, logits : Logits
        Logits of all rows of the pool, and of the scored rows.
    student : object or None
        The estimator to refit out of fold; None where the student's logits are ready-made.
    x_labelled : Rows
        The student's embeddings of the labelled rows.
    """
    settings = inputs.settings
    if settings.config.has_sizes_only:
        found = _cuts_and_scores(settings, logits, columns)
        if found is not None:
            return found
    labelled = pool_logits.of(inputs.labelled)
    of_teacher = None
    if labelled.teacher is not None and logits.teacher is not None:
        of_teacher = labelled.teacher, logits.teacher
    cuts = calibrated_cuts(
        (labelled.student, logits.student),
        of_teacher,
        inputs.classes,
        settings.config,
        settings.backend,
        student_scores=_calibration_scores(inputs, labelled.student, student, x_labelled),
        chunk_size=settings.chunk_size,
    )
    return cuts, None


def _cuts_and_scores(settings: Settings, logits: Logits, columns: Columns) -> tuple[Cuts, Scores] | None:
    """Thresholds for target set sizes, and the scores, both from one pass.

    None where the backend needs a pass for each.
    """
    config, scores = settings.config, Scores(logits.student.n_rows, columns)
    found = settings.backend.score_at_sizes(
        logits.student,
        logits.teacher,
        config.student_set_size,
        config.teacher_set_size,
        scores.put,
        chunk_size=settings.chunk_size,
    )
    if found is None:
        return None
    return Cuts(*found, found[0], math.nan if logits.teacher is None else found[1]), scores


def _calibration_scores(inputs: Inputs, logits: Rows, student: Any, x_labelled: Rows) -> npt.NDArray[np.float64] | None:
    """The student's out-of-fold scores of the labelled rows; None where the calibration is by target size."""
    settings = inputs.settings
    if settings.config.calibration != "coverage":
        return None
    if inputs.student_logits is not None:
        return labelled_scores(logits, inputs.classes, settings.config, settings.backend)
    return out_of_fold_scores(
        student,
        x_labelled,
        inputs.classes,
        inputs.n_classes,
        settings.config,
        settings.streams.student,
        settings.backend,
    )
