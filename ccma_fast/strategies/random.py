"""Random choice."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .registry import Round, register

__all__ = ["random"]


@register("random", needs_labels=False)
def random(state: Round) -> npt.NDArray[np.int64]:
    """Unlabelled rows drawn uniformly without replacement: the baseline of baselines."""
    return state.rng.choice(state.unlabelled, state.budget, replace=False)
