"""The student's training on labels and, as far as they help out of fold, on the teacher's posteriors of other rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..backends.protocol import Backend
from .selection import TOLERANCE, Candidate, likeliest, simplest, tempered_log_likelihoods, unseen
from .softmax_regression import SoftmaxRegression

__all__ = ["Distilled", "distilled"]

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]

# Labels that all soft targets together weigh as much as. None of them outweighs a label.
_SOFT_WEIGHTS = (1000.0, 100.0, 10.0)

# Of ‖W‖² / 2, for rows of unit size: the one that the weight is chosen with, and the ways from there.
_PENALTY = 0.03
_STRONGER, _WEAKER = (0.03, 0.1, 0.3), (0.03, 0.01)


class Distilled(NamedTuple):
    """What was learnt."""

    coef: Float32
    """For standardised rows, shape (C, D + 1)."""
    penalty: float
    soft_weight: float
    """Of all soft targets together, in labels."""
    n_evaluations: int
    """Of the loss and its gradient in the last fit."""
    out_of_fold: Float32
    """z^S of the held-out rows, each by a student that never saw its label, shape (h, C)."""


def distilled(
    x: Float32,
    labels: Int64,
    n_classes: int,
    fold: Int64,
    backend: Backend,
    *,
    soft_rows: Float32,
    soft_of_folds: Sequence[Float32] | None,
    soft: Float32 | None,
) -> Distilled:
    """The student of largest likelihood out of fold.

    First the weight of the soft targets is chosen, zero included, then the penalty.

    Parameters
    ----------
    x : ndarray, shape (n, D + 1), float32
        The labelled rows, standardised.
    labels, fold : ndarray, shape (n,), int64
        Of the fold −1 are rows that are not held out.
    n_classes : int
    backend : Backend
    soft_rows : ndarray, shape (m, D + 1), float32
    soft_of_folds, soft : ndarray, shape (m, C), float32, or None
        The teacher's posteriors of those rows, by the labels outside each fold, and by all; None for none.
    """
    n_folds, m = int(fold.max()) + 1, len(soft_rows)
    has_soft = soft_of_folds is not None and soft is not None and m > 0

    def fit(train: npt.NDArray[np.bool_], targets: Float32 | None, like: _Fit | None) -> _Fit:
        return _Fit(x[train], labels[train], n_classes, backend, soft_rows if has_soft else None, targets, like)

    whole = fit(np.ones(labels.size, np.bool_), soft, None)
    folds = [fit(fold != k, soft_of_folds[k] if has_soft and soft_of_folds else None, whole) for k in range(n_folds)]
    z: Float32 = np.empty((labels.size, n_classes), np.float32)

    def held_out(constants: tuple[float, float]) -> Float32:
        for k in range(n_folds):
            z[fold == k] = backend.linear(x[fold == k], folds[k].at(*constants))
        return z[fold >= 0]

    known, seen = labels[fold >= 0], ~unseen(labels, fold)

    def told(weight: float, penalty: float) -> Float64:
        return tempered_log_likelihoods(held_out((weight, penalty)), known)

    def told_alone(penalty: float) -> Float64:
        # A student that learns from labels alone knows nothing of a class whose labels are all held out, and will know
        # it once they are not: there it is taken to tell half of what there is to tell, ln C.
        found = np.full(known.size, -0.5 * math.log(n_classes))
        found[seen] = tempered_log_likelihoods(held_out((0.0, penalty))[seen], known[seen])
        return found

    alone = _best_penalty(told_alone if has_soft else partial(told, 0.0))
    weight, penalty = 0.0, alone.constant
    if has_soft:
        weights = dict.fromkeys(min(weight, float(m)) for weight in _SOFT_WEIGHTS)
        candidates = [Candidate(0.0, alone.log_likelihoods), *likeliest(weights, lambda weight: told(weight, _PENALTY))]
        weight = simplest(sorted(candidates, key=lambda candidate: candidate.constant)).constant
        if weight:
            penalty = _best_penalty(partial(told, weight)).constant
    coef = whole.at(weight, penalty, start=folds[0].at(weight, penalty))
    return Distilled(coef, penalty, weight, whole.n_evaluations, held_out((weight, penalty)))


def _best_penalty(log_likelihoods_at: Callable[[float], Float64]) -> Candidate:
    """The likeliest penalty, on the ways to stronger and to weaker ones."""
    candidates = [*likeliest(_STRONGER, log_likelihoods_at), *likeliest(_WEAKER, log_likelihoods_at)]
    return max(candidates, key=lambda candidate: candidate.likelihood)


class _Fit:
    """The students of some labelled rows."""

    def __init__(
        self,
        x: Float32,
        labels: Int64,
        n_classes: int,
        backend: Backend,
        soft_rows: Float32 | None,
        soft: Float32 | None,
        like: _Fit | None,
    ) -> None:
        self._m = 0 if soft_rows is None else len(soft_rows)
        self._alone = SoftmaxRegression(x, labels, n_classes=n_classes, backend=backend)
        self._both = None
        if soft_rows is not None:
            rows = np.concatenate([x, soft_rows])
            self._both = SoftmaxRegression(
                rows, labels, n_classes=n_classes, backend=backend, soft=soft, like=None if like is None else like._both
            )
        self._found: dict[tuple[float, float], Float32] = {}
        self.n_evaluations = 0

    def at(self, weight: float, penalty: float, start: Float32 | None = None) -> Float32:
        """The coefficients; the search starts where the last one ended, which saw the same rows."""
        if (weight, penalty) not in self._found:
            if start is None and self._found:
                start = next(reversed(self._found.values()))
            if weight == 0.0 or self._both is None:
                found = self._alone.solve(penalty=penalty, start=start, tolerance=TOLERANCE)
            else:
                found = self._both.solve(
                    penalty=penalty, soft_weight=weight / self._m, start=start, tolerance=TOLERANCE
                )
            self._found[weight, penalty], self.n_evaluations = found.coef, found.n_evaluations
        return self._found[weight, penalty]
