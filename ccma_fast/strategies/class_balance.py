"""Picks that balance the classes which the student predicts, as PCB and Tail First Sampling choose them."""

from __future__ import annotations

import heapq

import numpy as np
import numpy.typing as npt

from .registry import Round

__all__ = ["rarest_class_first"]

Float32 = npt.NDArray[np.float32]
Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]


def rarest_class_first(state: Round, classes: Int32, scores: Float32) -> Int64:
    """Again and again the row of largest score of the class that has the fewest labels and rows left.

    A pick counts as a label of its class. Ties go to the lower class and, within it, to the lower row. Unlike in
    :func:`ccma_fast.steps.quotas.class_quotas` the order of choice is that of the picks.

    Parameters
    ----------
    state : Round
    classes : ndarray, shape (n,), int32
        Predicted class of each row, n at least the budget.
    scores : ndarray, shape (n,), float32

    Returns
    -------
    ndarray, shape (budget,), int64
        Positions in `classes`, in the order of choice.

    Notes
    -----
    Memory is 8 bytes for each of the n rows.
    """
    n_labelled = np.bincount(state.labels[state.labelled], minlength=state.n_classes)
    sizes = np.bincount(classes, minlength=state.n_classes)
    turns = _turns(n_labelled, sizes, state.budget)
    by_class, ends = np.argsort(classes, kind="stable"), np.cumsum(sizes)
    picks = np.empty(state.budget, np.int64)
    for c in np.unique(turns).tolist():
        members, its_turns = by_class[ends[c] - sizes[c] : ends[c]], turns == c
        picks[its_turns] = members[state.backend.top_m(scores[members], int(its_turns.sum()))]
    return picks


def _turns(n_labelled: Int64, sizes: Int64, budget: int) -> Int64:
    """The class of each pick, shape (budget,)."""
    queue = [(int(n_labelled[c]), int(c)) for c in np.flatnonzero(sizes)]
    heapq.heapify(queue)
    left = sizes.copy()
    turns = np.empty(budget, np.int64)
    for turn in range(budget):
        n_labels, c = queue[0]
        turns[turn] = c
        left[c] -= 1
        if left[c]:
            heapq.heapreplace(queue, (n_labels + 1, c))
        else:
            heapq.heappop(queue)
    return turns
