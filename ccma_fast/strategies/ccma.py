"""Conformal Cross-Modal Acquisition, the package's own."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..query.select import query
from .registry import Round, register

__all__ = ["ccma"]


@register("ccma", needs_labels=False)
def ccma(state: Round) -> npt.NDArray[np.int64]:
    """One query of :func:`ccma_fast.select`, with the round's trained models and its configuration."""
    return query(
        state.features,
        state.budget,
        labels=state.labels,
        teacher=state.teacher,
        trained=state.trained,
        config=state.config,
        random_state=int(state.rng.integers(2**63)),
        backend=state.backend,
        memory_limit=state.memory_limit,
    ).indices
