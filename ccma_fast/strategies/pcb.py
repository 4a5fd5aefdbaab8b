"""Pseudo-class balance."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .class_balance import rarest_class_first
from .registry import Round, register

__all__ = ["pcb"]

# γ: candidates as a share of the pool, the published code's.
_CANDIDATE_SHARE = 0.1


@register("pcb")
def pcb(state: Round) -> npt.NDArray[np.int64]:
    """Among the tenth of the pool of largest entropy, rows at random of the predicted class with the fewest labels.

    Bang, Ahn and Lee, "Active Prompt Learning in Vision Language Models" (PCB), arXiv 2311.11178: an active-learning
    rule proposes γ · N candidates, γ = 0.1, and from them picks are drawn one by one, each from the predicted class
    that has the fewest labels, drawn ones included (ties: the lower class). Of the rules that they publish (entropy,
    core-set and BADGE) this is entropy, in nats, ties to the lower index: it asks for probabilities alone and costs one
    pass, where the others choose a tenth of the pool one row after the other.

    Departures: there are at least B candidates; and where the rarest class has no candidate left, the next rarest that
    has one is drawn from, while their code draws all further picks at random.

    Raises
    ------
    ValueError
        NaN or infinity in a row, which is named.

    Notes
    -----
    Memory is some 50 bytes per row of the pool.
    """
    scores = state.backend.score(state.unlabelled_logits)
    n_candidates = max(int(_CANDIDATE_SHARE * state.labels.size), state.budget)
    candidates = np.sort(state.backend.top_m(scores.delta, n_candidates))
    lots = state.rng.random(candidates.size, dtype=np.float32)
    return state.unlabelled[candidates[rarest_class_first(state, scores.student_top1[candidates], lots)]]
