"""Multinomial logistic regression as a student, its penalty chosen by out-of-fold likelihood."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping
from functools import partial
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import reference
from ..backends.choose import choose_backend
from ..backends.protocol import Backend
from ..checks import check_integer, check_number, random_generator
from ..pool.array_like import row_weights
from ..pool.checked import check_rows
from ..pool.class_limits import LOGISTIC_WEIGHT_BYTES
from ..pool.open import open_rows
from ..pool.rows import Rows
from .affine_head import AffineHead
from .scaling import Scaling
from .selection import stratified_folds
from .softmax_regression import SoftmaxRegression, Solution

__all__ = ["PENALTIES", "LogisticHead"]

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]

PENALTIES = (0.3, 0.1, 0.03, 0.01)
"""What the penalty is chosen from, the strongest first."""

# Of the gradient at the start: what decides between penalties, and what is kept.
_FOLD_TOLERANCE, _TOLERANCE = 1e-2, 1e-4


class LogisticHead(AffineHead):
    """Multinomial logistic regression with an L2 penalty, solved to its optimum.

    Rows are centred by their mean m and divided by s, so that their mean squared length is 1; with z = (x − m) / s and
    a constant of 0.3 in an additional column, W minimises

        Σ_i w_i CE(y_i, softmax(W z_i)) + penalty / 2 · ‖W‖²,

    in nats. The intercept is penalised like all else, so that a class without a label stays possible.

    Parameters
    ----------
    n_classes : int, optional
        C, at most 2²⁰; by default the largest label + 1, which then may be no more than there are rows, or 10,000.
    penalty : "auto" or float, default "auto"
        Above zero; scikit-learn's 1 / C. "auto" takes the one of 0.3, 0.1, 0.03 and 0.01 of the largest likelihood out
        of fold (ties: the larger), each row weighted as in training.
    n_folds : int, default 3
        Folds of "auto", at least 2, stratified; no more of them than rows are made.
    class_weight : None, "balanced", mapping or array_like, shape (C,), default None
        Factors of the rows' weights by class, as scikit-learn has them: "balanced" gives all classes with labels the
        same total; a mapping need not name all classes, the others have 1. At least 0; 1 where all are 0.
    random_state : int, Generator, SeedSequence or None, default 0
        Shuffles the rows before they are dealt into folds. No global generator is drawn from.

    Attributes
    ----------
    classes_ : ndarray, shape (C,), int64
        0 to C − 1, the columns of all outputs.
    coef_ : ndarray, shape (C, D), float32
        Of features as they are, scale folded in.
    intercept_ : ndarray, shape (C,), float32
        Likewise, centring and constant column folded in.
    mean_ : ndarray, shape (D,), float32
        m.
    scale_ : float
        s.
    penalty_ : float
        The one that was given or chosen.
    n_iter_ : int
        Evaluations of the loss and its gradient that the last fit took.

    Notes
    -----
    The optimum is unique, and found until the gradient is at most 1e-4 of what it is at W = 0. No bit depends on the
    number of threads.

    Examples
    --------
    >>> import numpy as np, ccma_fast as cf
    >>> rng = np.random.default_rng(0)
    >>> y = np.arange(200) % 3
    >>> x = (4 * np.eye(3, 8)[y] + rng.standard_normal((200, 8))).astype(np.float32)
    >>> head = cf.LogisticHead().fit(x[:150], y[:150])
    >>> head.coef_.shape, head.predict_proba(x[150:]).shape
    ((3, 8), (50, 3))
    >>> bool(head.score(x[150:], y[150:]) > 0.9)
    True
    """

    weight_bytes = LOGISTIC_WEIGHT_BYTES
    _PARAMETERS = ("n_classes", "penalty", "n_folds", "class_weight", "random_state")
    _NUMBERS = MappingProxyType(
        {
            "scale": partial(check_number, above=0.0),
            "penalty": partial(check_number, above=0.0),
            "n_iter": partial(check_integer, minimum=0),
        }
    )

    def __init__(
        self,
        n_classes: int | None = None,
        *,
        penalty: float | str = "auto",
        n_folds: int = 3,
        class_weight: str | Mapping[int, float] | npt.ArrayLike | None = None,
        random_state: int | np.random.Generator | np.random.SeedSequence | None = 0,
    ) -> None:
        self.n_classes = n_classes
        self.penalty = penalty
        self.n_folds = n_folds
        self.class_weight = class_weight
        self.random_state = random_state

    def fit(self, X: Any, y: npt.ArrayLike, sample_weight: npt.ArrayLike | None = None) -> LogisticHead:
        """Solve for W.

        Parameters
        ----------
        X : array_like, torch.Tensor or path, shape (n, D)
            n ≥ 2.
        y : array_like, shape (n,), int
            Classes from 0 to C − 1, at least two of them.
        sample_weight : array_like, shape (n,), optional
            w, at least 0; 1 by default, and where all are 0. A weight of 2 is that row twice.

        Raises
        ------
        ValueError
            Wrong shapes, labels or weights out of range, fewer than two classes, no row with a weight above 0, NaN or
            infinity in a row (which is named).
        TypeError
            Inputs of the wrong type.
        """
        return self.fit_rows(open_rows(X, "X"), y, sample_weight=sample_weight)

    def fit_rows(
        self,
        rows: Rows,
        y: npt.ArrayLike,
        backend: Backend | None = None,
        *,
        sample_weight: npt.ArrayLike | None = None,
        scaling: Scaling | None = None,
    ) -> LogisticHead:
        """:meth:`fit` on rows, on the device of a backend that has one, in the scale of a pool where that is given.

        A few labelled rows may lie far from the pool's mean: with `scaling`, such as ``Scaling.of`` a sample of the
        pool gives, they are centred by the pool's.
        """
        _check_parameters(self)
        labels, n_classes = self._training_labels(y, rows)
        weights = _row_weights(labels, n_classes, sample_weight, self.class_weight)
        x = rows.float32()
        if not np.isfinite(x.sum(dtype=np.float64)):  # no sum of finite float32 values overflows
            check_rows(rows, reference.row_lengths)
        scaling = scaling or Scaling.of(x, weights)
        backend = backend or choose_backend("auto")
        folds = np.zeros(len(labels), np.int64)
        if isinstance(self.penalty, str):
            folds = stratified_folds(labels, self.n_folds, random_generator(copy.deepcopy(self.random_state)))
        order = np.argsort(folds, kind="stable")  # rows that are held out together lie together
        scaled, labels, weights, folds = scaling(x)[order], labels[order], weights[order], folds[order]
        regression = SoftmaxRegression(scaled, labels, n_classes=n_classes, backend=backend)
        penalty, start = self.penalty, None
        if isinstance(penalty, str):
            penalty, start = _likeliest_penalty(regression, scaled, labels, weights, folds, backend)
        solution = regression.solve(penalty=penalty, label_weights=weights, start=start, tolerance=_TOLERANCE)
        if solution.gradient_ratio > 10.0 * _TOLERANCE:
            warnings.warn(
                f"the regression was not solved: its gradient is still {solution.gradient_ratio:.1e} of what it was at "
                f"the start, after {solution.n_evaluations} evaluations; expected a larger penalty, or weights that "
                "differ less",
                RuntimeWarning,
                stacklevel=2,
            )
        self.coef_, self.intercept_ = scaling.of_raw(solution.coef)
        self.mean_, self.scale_ = scaling.mean.astype(np.float32), scaling.scale
        self.classes_, self.penalty_, self.n_iter_ = np.arange(n_classes), float(penalty), solution.n_evaluations
        return self


def _check_parameters(head: LogisticHead) -> None:
    if isinstance(head.penalty, str) and head.penalty != "auto":
        raise ValueError(f"penalty must be 'auto' or a number, got {head.penalty!r}")
    if not isinstance(head.penalty, str):
        head.penalty = check_number("penalty", head.penalty, above=0.0)
    head.n_folds = check_integer("n_folds", head.n_folds, minimum=2)


def _likeliest_penalty(
    regression: SoftmaxRegression, scaled: Float32, labels: Int64, weights: Float64, folds: Int64, backend: Backend
) -> tuple[float, Solution]:
    """The penalty of the least weighted loss out of fold, and a fold's solution for it.

    Each fold has a chain of its own, from strong to weak: a start that has seen the rows would leak to them.
    """
    losses = np.zeros(len(PENALTIES))
    solutions: list[Solution] = []
    for fold in range(int(folds.max()) + 1):
        held_out = folds == fold
        trained = np.where(held_out, 0.0, weights)
        solutions, start = [], None
        for i, penalty in enumerate(PENALTIES):
            start = regression.solve(penalty=penalty, label_weights=trained, start=start, tolerance=_FOLD_TOLERANCE)
            losses[i] += _loss(*start.logits(scaled[held_out], labels[held_out], backend), weights[held_out])
            solutions.append(start)
    best = int(losses.argmin())
    return PENALTIES[best], solutions[best]


def _loss(logits: Float32, labels: Int64, weights: Float64) -> float:
    """Σ w CE of rows of logits, nats."""
    below = logits - logits.max(axis=1, keepdims=True)
    of_label = below[np.arange(len(labels)), labels].astype(np.float64)
    losses = np.log(np.exp(below, out=below).sum(axis=1, dtype=np.float64)) - of_label
    return float((weights * losses).sum())


def _row_weights(labels: Int64, n_classes: int, sample_weight: npt.ArrayLike | None, class_weight: Any) -> Float64:
    """The weight of each row, shape (n,), at least one of them above zero."""
    weights = row_weights(sample_weight, len(labels), "sample_weight")
    if class_weight is None:
        return weights
    of_class = np.ones(n_classes)
    if isinstance(class_weight, str):
        if class_weight != "balanced":
            raise ValueError(f"class_weight must be None, 'balanced', a mapping or an array, got {class_weight!r}")
        totals = np.bincount(labels, weights, n_classes)
        present = totals > 0.0
        of_class[present] = totals.sum() / (present.sum() * totals[present])
    elif isinstance(class_weight, Mapping):
        for label, weight in class_weight.items():
            number = check_integer("a class of class_weight", label, minimum=0, maximum=n_classes - 1)
            of_class[number] = check_number(f"class_weight of class {number}", weight, minimum=0.0)
        of_class = row_weights(of_class, n_classes, "class_weight")
    else:
        of_class = row_weights(class_weight, n_classes, "class_weight")
    product: Float64 = weights * of_class[labels]
    if not product.any():
        raise ValueError("class_weight must leave a row of y with a weight above 0, got 0 for the classes of all")
    return product
