"""What the report tells of student and teacher together, where the picks depend on the student alone."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..steps.cuts import Cuts
from ..steps.pool_sample import pool_sample
from ..steps.trained import Trained
from .disagreement import scored_rows
from .inputs import Inputs
from .logits import Logits, kept_logits
from .scores import Scores
from .settings import RowNumbers
from .thresholds import NO_CUTS, thresholds

__all__ = ["compared", "sampled_cuts"]


def compared(inputs: Inputs, pool_logits: Logits, scored: RowNumbers, trained: Trained) -> tuple[Cuts, Scores]:
    """Thresholds and mean scores of a random sample of the scored rows; without labels no sets are formed.

    A report alone is not worth a pass over the teacher's rows, as long as the student's, and of 4,096 rows a share has
    a standard error of at most 0.008.
    """
    settings = inputs.settings
    logits = kept_logits(pool_logits, _sample(inputs, scored), settings)
    cuts, scores = NO_CUTS, None
    if inputs.labelled.size:
        cuts, scores = thresholds(inputs, {}, pool_logits, logits, trained)
    return cuts, scored_rows(settings, logits, cuts, {}) if scores is None else scores


def sampled_cuts(inputs: Inputs, pool_logits: Logits, scored: RowNumbers, trained: Trained) -> Cuts:
    """The thresholds alone, of the same sample; none where that would take more training.

    A sample is read only where the thresholds depend on more than the calibration scores.
    """
    if not inputs.labelled.size or (trained.held_out is None and inputs.student_logits is None):
        return NO_CUTS
    cuts, _ = thresholds(inputs, {}, pool_logits, pool_logits.of(_sample(inputs, scored)), trained)
    return cuts


def _sample(inputs: Inputs, scored: RowNumbers) -> npt.NDArray[np.int64]:
    return scored[pool_sample(scored.size, inputs.n_classes, inputs.settings.streams.comparison)]
