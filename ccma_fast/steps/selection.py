"""Folds, and the choice of constants by likelihood out of fold."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from .temperature import log_likelihoods, smoothed_temperature

__all__ = [
    "TOLERANCE",
    "Candidate",
    "likeliest",
    "n_held_out",
    "simplest",
    "stratified_folds",
    "tempered_log_likelihoods",
    "unseen",
]

TOLERANCE = 1e-2
"""Of the gradient at W = 0, up to which regressions are solved, of a fold and of all labels alike."""

# Held-out rows that are enough: where some of the folds have so many, the others are not held out.
_HELD_OUT = 512

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]


class Candidate(NamedTuple):
    """A constant, and what the labels say of it."""

    constant: float
    log_likelihoods: Float64
    """ln p of the label of each held-out row, in nats, shape (h,)."""

    @property
    def likelihood(self) -> float:
        return float(self.log_likelihoods.mean())


def stratified_folds(labels: Int64, n_folds: int, rng: np.random.Generator) -> Int64:
    """The fold of each row, shape (n,): rows are shuffled, sorted by class and dealt out in turn.

    Parameters
    ----------
    labels : ndarray, shape (n,), int64
    n_folds : int
        At most n folds are made.
    rng : Generator
    """
    order = rng.permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    folds = np.empty(len(labels), np.int64)
    folds[order] = np.arange(len(labels)) % min(n_folds, len(labels))
    return folds


def n_held_out(n_labels: int, n_folds: int) -> int:
    """How many of some folds are held out in turn: as many as have enough rows together."""
    return min(n_folds, math.ceil(_HELD_OUT * n_folds / n_labels))


def tempered_log_likelihoods(logits: npt.NDArray[np.float32], labels: Int64) -> Float64:
    """ln softmax(z / τ)_y at the likeliest τ: of models that differ in how sure they are.

    A few labels under a penalty make a model unsure that is right all the same. Shape (n,), n may be 0.
    """
    if labels.size == 0:
        return np.empty(0)
    return log_likelihoods(logits / np.float32(smoothed_temperature(logits, labels)), labels)


def unseen(labels: Int64, fold: Int64) -> npt.NDArray[np.bool_]:
    """Whether all labels of a held-out row's class are held out with it, for each row of a fold ≥ 0, shape (h,)."""
    n_folds, n_classes = int(fold.max()) + 1, int(labels.max()) + 1
    cells = (fold + 1) * n_classes + labels
    of_fold = np.bincount(cells, minlength=(n_folds + 1) * n_classes)
    alone: npt.NDArray[np.bool_] = of_fold[cells] == np.bincount(labels)[labels]
    return alone[fold >= 0]


def likeliest(path: Iterable[float], log_likelihoods_at: Callable[[float], Float64]) -> list[Candidate]:
    """The constants of a path up to the first whose likelihood does not rise, in rising order of likelihood."""
    found: list[Candidate] = []
    for constant in path:
        candidate = Candidate(constant, log_likelihoods_at(constant))
        if found and candidate.likelihood <= found[-1].likelihood:
            return [candidate, *found]
        found.append(candidate)
    return found


def simplest(candidates: Sequence[Candidate]) -> Candidate:
    """The first candidate whose mean log-likelihood is within a standard error of the largest.

    The one-standard-error rule (Breiman et al. 1984) for candidates from the simplest to the boldest, where the error
    is that of the mean difference: a few held-out rows that happen to like a bold one do not decide.
    """
    best = max(candidates, key=lambda candidate: candidate.likelihood)
    for candidate in candidates:
        lost = best.log_likelihoods - candidate.log_likelihoods
        error = float(lost.std(ddof=1)) / lost.size**0.5 if lost.size > 1 else np.inf
        if candidate is best or float(lost.mean()) <= error:
            return candidate
    return best
