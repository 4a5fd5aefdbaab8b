"""Step 3: the thresholds of the conformal sets."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from ..backends.protocol import on_ranks
from ..pool.rows import Rows
from ..steps.cuts import Cuts, calibrated_cuts
from ..steps.nonconformity import labelled_scores
from ..steps.trained import Trained
from .inputs import Inputs
from .logits import Logits
from .scores import Columns, Scores
from .settings import Settings

__all__ = ["NO_CUTS", "thresholds"]

Float64 = npt.NDArray[np.float64]

NO_CUTS = Cuts(math.inf, math.inf, math.nan, math.nan)
"""Every set holds every class: none are formed."""


def thresholds(
    inputs: Inputs, columns: Columns, pool_logits: Logits, logits: Logits, trained: Trained
) -> tuple[Cuts, Scores | None]:
    """Thresholds as configured, and the scores of all rows where the same pass gives both.

    Parameters
    ----------
    inputs : Inputs
    columns : mapping of str to dtype
        Columns of the scores.
    pool_logits, logits : Logits
        Logits of all rows of the pool, and of the scored rows.
    trained : Trained
        With the scores of the labelled rows by models that never saw their labels.
    """
    settings = inputs.settings
    if settings.config.has_sizes_only:
        found = _cuts_and_scores(settings, logits, columns)
        if found is not None:
            return found
    held_out = slice(None) if trained.held_out is None else trained.held_out.rows
    classes, labelled = inputs.classes[held_out], pool_logits.of(inputs.labelled[held_out])
    of_teacher = None
    if labelled.teacher is not None and logits.teacher is not None:
        of_teacher = labelled.teacher, logits.teacher
    student_scores, teacher_scores = _calibration_scores(inputs, labelled.student, trained)
    cuts = calibrated_cuts(
        (labelled.student, logits.student),
        of_teacher,
        classes,
        settings.config,
        settings.backend,
        student_scores=student_scores,
        teacher_scores=teacher_scores,
        chunk_size=settings.chunk_size,
    )
    return cuts, None


def _cuts_and_scores(settings: Settings, logits: Logits, columns: Columns) -> tuple[Cuts, Scores] | None:
    """Thresholds for target set sizes, and the scores, both from one pass.

    None where the backend needs a pass for each.
    """
    config, spread = settings.config, on_ranks(settings.backend)
    if spread is not None:
        scored = spread.score_columns_at_sizes(*logits, config.student_set_size, config.teacher_set_size, columns)
        if scored is None:
            return None
        both, *of_rows = scored
        return _cuts(both, logits), Scores.of(logits.student.n_rows, *of_rows)
    scores = Scores(logits.student.n_rows, columns)
    found = settings.backend.score_at_sizes(
        logits.student,
        logits.teacher,
        config.student_set_size,
        config.teacher_set_size,
        scores.put,
        chunk_size=settings.chunk_size,
    )
    return None if found is None else (_cuts(found, logits), scores)


def _cuts(found: tuple[float, float], logits: Logits) -> Cuts:
    return Cuts(*found, found[0], math.nan if logits.teacher is None else found[1])


def _calibration_scores(inputs: Inputs, logits: Rows, trained: Trained) -> tuple[Float64 | None, Float64 | None]:
    """The out-of-fold scores of the labelled rows by student and, where it was corrected, teacher.

    None where the calibration is by target size.
    """
    config, backend = inputs.settings.config, inputs.settings.backend
    if config.calibration != "coverage":
        return None, None
    if inputs.student_logits is not None:
        return labelled_scores(logits, inputs.classes, config, backend), None
    return trained.student_scores, trained.teacher_scores(inputs.classes, config, backend)
