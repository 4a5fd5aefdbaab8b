"""Penalised softmax regression, solved to its optimum, on the host or a device.

Of rows x with targets t, weights w and offsets o, W minimises

    F(W) = Σ w CE(t, softmax(W x + o)) + penalty / 2 · ‖W‖²

in nats: convex, with one optimum. It is found by limited-memory BFGS (Nocedal & Wright, Numerical Optimization, 7.2)
whose first metric, where one pays, is the curvature at W = 0, 1/C Σ w x xᵀ + penalty I for each class (Böhning,
Multinomial logistic regression algorithm, 1992, bounds the curvature everywhere by C/2 times the first term).

Without soft targets and offsets all classes without a label have the same row w of W, since F does not change where two
of them are exchanged. k of them count as one class then, of coefficients √k w and logits w x + ln k: ‖W‖² stays what it
is, and so does every step of the search, which takes the time and memory of the classes that have labels.

The host's sums are formed in an order that depends on the shapes alone, by the backend's own products: not a bit
depends on the number of threads.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt

from ..backends.protocol import Backend, HostBackend, on_device, on_host
from .regression_rows import DeviceRows, HostRows, Metric, RegressionRows

__all__ = ["SoftmaxRegression", "Solution"]

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]

# F is divided by a power of two that leaves the largest weight between 1 and 2, or a large penalty near this: float32
# holds neither the squares of very large gradients nor those of very small ones.
_LARGEST_PENALTY = 16.0

# Steps that the metric remembers.
_MEMORY = 5

# Evaluations after which the search ends in any case; well-scaled problems take a tenth.
_MOST_EVALUATIONS = 1000

# A step is taken where F falls by this share of what its slope promises.
_SUFFICIENT = 1e-4

# F is known to this relative precision: beyond it a step is judged by its slope.
_LOSS_PRECISION = 1e-6

# Evaluations without progress after which float32 has said all it can.
_PATIENCE = 30

# ‖∇F‖ whose square float32 cannot hold, which is an error, and ‖∇F‖ whose square it cannot tell from zero, which ends a
# search.
_MOST_GRADIENT, _LEAST_GRADIENT = 2.0**63, 2.0**-74

# Halvings of a step that does not lower F, at most.
_MOST_TRIALS = 20


class _MergedClasses(NamedTuple):
    """The classes that have labels, and all others as one behind them."""

    present: Int64
    """Ascending."""
    n_others: int

    @property
    def n_classes(self) -> int:
        return self.present.size + 1

    @property
    def scale(self) -> Float32:
        """Coefficients of logits, as a share of those that F is of; shape (classes, 1)."""
        scale = np.ones((self.n_classes, 1), np.float32)
        scale[-1] = 1.0 / math.sqrt(self.n_others)
        return scale

    @property
    def offset(self) -> Float32:
        """What is added to the logits of every row, shape (classes,)."""
        offset = np.zeros(self.n_classes, np.float32)
        offset[-1] = math.log(self.n_others)
        return offset

    def labels(self, labels: Int64) -> Int64:
        """Classes by their number here."""
        found: Int64 = np.searchsorted(self.present, labels)
        return found

    def of_whole(self, coef: Float32) -> Float32:
        """Of the coefficients (C, D) of all classes those here; the first of the others stands for them."""
        in_order = np.append(self.present == np.arange(self.present.size), False)
        other = coef[int(in_order.argmin())]
        return np.concatenate([coef[self.present], [other / self.scale[-1]]]).astype(np.float32)

    def whole(self, coef: Float32) -> Float32:
        """Of coefficients here, those of all classes, (C, D)."""
        whole = np.empty((self.present.size + self.n_others, coef.shape[1]), np.float32)
        whole[:] = self.scale[-1] * coef[-1]
        whole[self.present] = coef[:-1]
        return whole


class Solution(NamedTuple):
    """The optimum, and how it was found."""

    found: Float32
    """W of the classes that were told apart."""
    n_evaluations: int
    """How often F and its gradient were computed."""
    loss: float
    """F, nats."""
    gradient_ratio: float
    """‖∇F‖ there as a share of ‖∇F‖ at W = 0; above the tolerance only where float32 resolves no more."""
    merged: _MergedClasses | None = None
    """Where these are not all classes."""

    @property
    def coef(self) -> Float32:
        """W, shape (C, D)."""
        return self.found if self.merged is None else self.merged.whole(self.found)

    def logits(self, x: Float32, labels: Int64, backend: Backend) -> tuple[Float32, Int64]:
        """Logits of rows and their labels, classes of the regression's labels, by the classes that were told apart."""
        if self.merged is None:
            return backend.linear(x, self.found), labels
        return backend.linear(x, self.merged.scale * self.found, self.merged.offset), self.merged.labels(labels)


class SoftmaxRegression:
    """Rows and what they are to be, for any number of weights and penalties.

    Folds are solved best as one problem with weights of zero, the rows of a fold next to each other: what depends on
    the rows alone is then computed once.

    Parameters
    ----------
    x : ndarray or tensor on the backend's device, shape (n + m, D), float32
        Rows with labels, then rows with soft targets; finite, and with a column for the intercept where one is wanted.
    labels : ndarray, shape (n,), int64
        Classes from 0 to C − 1. n may be 0, and classes may lack labels.
    n_classes : int
        C.
    backend : Backend
    soft : ndarray, shape (m, C), float32, optional
        Probabilities, each row's summing to 1.
    offset : ndarray, shape (n + m, C), float32, optional
        A fixed part of the logits.
    like : SoftmaxRegression, optional
        One of nearly the same rows, whose curvature serves here as well.
    """

    def __init__(
        self,
        x: Any,
        labels: Int64,
        *,
        n_classes: int,
        backend: Backend,
        soft: Float32 | None = None,
        offset: Float32 | None = None,
        like: SoftmaxRegression | None = None,
    ) -> None:
        self.n_rows, self.n_columns, self.n_classes = len(x), x.shape[1], n_classes
        if not self.n_rows:
            raise ValueError(f"x must have rows, got shape {tuple(x.shape)}")
        self._n_labels = len(labels)
        if offset is not None and offset.shape != (self.n_rows, n_classes):
            raise ValueError(f"offset must have shape {(self.n_rows, n_classes)}, got {offset.shape}")
        for name, given in (("soft", soft), ("offset", offset)):
            if given is not None and not np.isfinite(given.sum(dtype=np.float64)):
                raise ValueError(f"{name} must be finite, got NaN or infinity")
        targets = np.ascontiguousarray(labels, np.int64), _soft_targets(soft, self.n_rows - len(labels), n_classes)
        are_alike = len(labels) == self.n_rows and offset is None
        self._merged = _merged_classes(targets[0], n_classes) if are_alike else None
        if self._merged is not None:
            targets = self._merged.labels(targets[0]), np.empty((0, self._merged.n_classes), np.float32)
            offset = np.tile(self._merged.offset, (self.n_rows, 1))
        offset = None if offset is None else np.ascontiguousarray(offset, np.float32)
        device = on_device(backend)
        self._rows: RegressionRows
        if device is None:
            self._rows = HostRows(x, *targets, offset, cast(HostBackend, backend))
        else:
            self._rows = DeviceRows(x, *targets, offset, device.training())
        self._metrics: _Metrics = _Metrics(self._rows) if like is None else like._metrics
        self._zero: tuple[Float32, _Point] | None = None

    def solve(
        self,
        *,
        penalty: float,
        soft_weight: float = 0.0,
        label_weights: npt.NDArray[Any] | None = None,
        start: Float32 | Solution | None = None,
        tolerance: float = 1e-4,
    ) -> Solution:
        """W of least F.

        Parameters
        ----------
        penalty : float
            Above zero.
        soft_weight : float, default 0.0
            w of each row with a soft target, at least 0.
        label_weights : ndarray, shape (n,), optional
            w of the rows with labels, at least 0; 1 by default.
        start : ndarray, shape (C, D), float32, or Solution of this regression, optional
            Where the search starts, 0 by default. The optimum does not depend on it, beyond the tolerance.
        tolerance : float, default 1e-4
            The search ends where ‖∇F‖ is at most this share of what it is at W = 0, or where float32 cannot tell it
            from zero.

        Returns
        -------
        Solution

        Raises
        ------
        ValueError
            A shape or a weight that does not fit; numbers of rows with a weight that are not finite, or too large for
            float32.
        """
        weights, unit = self._weights(penalty, soft_weight, label_weights)
        penalty, soft_weight = penalty / unit, soft_weight / unit
        rows, merged = self._rows, self._merged
        n_classes = self.n_classes if merged is None else merged.n_classes
        begin = start.found if isinstance(start, Solution) else self._begin(start)
        with rows.settings():
            scale = None if merged is None else rows.vector(merged.scale)
            problem = _Problem(rows, rows.vector(weights), penalty, scale)
            if self._zero is None or not np.array_equal(self._zero[0], weights):
                # The penalty is not felt at W = 0: a chain of penalties shares it.
                self._zero = weights, problem.at(rows.vector(np.zeros((n_classes, self.n_columns), np.float32)))
            at_zero = self._zero[1]
            if not math.isfinite(at_zero.size):
                raise ValueError("x must be finite, got NaN or infinity")
            if at_zero.size > _MOST_GRADIENT:
                raise ValueError(f"x must be smaller: the gradient at W = 0 is {at_zero.size:.1e}, float32 takes 1e19")
            first = at_zero if begin is None else problem.at(rows.vector(begin))
            metric = self._metrics.at(penalty, soft_weight, weights[: self._n_labels])
            found = _descend(problem, first, metric, max(tolerance * at_zero.size, _LEAST_GRADIENT))
            ratio = found.size / at_zero.size if found.size > _LEAST_GRADIENT else 0.0
            return Solution(np.array(on_host(found.coef)), problem.n_evaluations, unit * found.loss, ratio, merged)

    def _begin(self, start: Float32 | None) -> Float32 | None:
        shape = self.n_classes, self.n_columns
        if start is not None and start.shape != shape:
            raise ValueError(f"start must have shape {shape}, got {start.shape}")
        return start if start is None or self._merged is None else self._merged.of_whole(start)

    def _weights(
        self, penalty: float, soft_weight: float, label_weights: npt.NDArray[Any] | None
    ) -> tuple[Float32, float]:
        """The weights of all rows in units that suit float32, and this unit."""
        if not (penalty > 0.0 and math.isfinite(penalty)):
            raise ValueError(f"penalty must be a finite number above 0, got {penalty}")
        weights = np.full(self.n_rows, soft_weight, np.float64)
        weights[: self._n_labels] = 1.0
        if label_weights is not None:
            if np.shape(label_weights) != (self._n_labels,):
                raise ValueError(f"label_weights must have shape ({self._n_labels},), got {np.shape(label_weights)}")
            weights[: self._n_labels] = label_weights
        if not ((weights >= 0.0) & np.isfinite(weights)).all():
            raise ValueError("weights must be finite numbers of at least 0")
        _, exponent = math.frexp(max(float(weights.max(initial=0.0)), penalty / _LARGEST_PENALTY))
        unit = math.ldexp(1.0, exponent - 1)
        return (weights / unit).astype(np.float32), unit


class _Metrics:
    """Inverses of the curvature of some rows at W = 0."""

    def __init__(self, rows: RegressionRows) -> None:
        self._rows = rows
        self._found: dict[tuple[float, float, float], Metric | None] = {}

    def at(self, penalty: float, soft_weight: float, label_weights: Float32) -> Metric | None:
        """That of all labelled rows as if they had one weight.

        Which of them a fold leaves out hardly changes it, so that it is computed once for all folds.
        """
        mean = float(label_weights.sum(dtype=np.float64)) / max(1, int(np.count_nonzero(label_weights)))
        key = penalty, soft_weight, mean
        if key not in self._found:
            self._found[key] = self._rows.metric(mean, soft_weight, penalty)
        return self._found[key]


def _merged_classes(labels: Int64, n_classes: int) -> _MergedClasses | None:
    """None where fewer than two classes have no label, or none has one."""
    present = np.unique(labels)
    n_others = n_classes - present.size
    return _MergedClasses(present, n_others) if present.size and n_others > 1 else None


def _soft_targets(soft: Float32 | None, m: int, n_classes: int) -> Float32:
    """Shape (m, C)."""
    if soft is None:
        soft = np.empty((0, n_classes), np.float32)
    if soft.shape != (m, n_classes):
        raise ValueError(
            f"soft must have shape {(m, n_classes)}, a row for each row of x without a label, got {soft.shape}"
        )
    return np.ascontiguousarray(soft, np.float32)


class _Point(NamedTuple):
    """F somewhere."""

    coef: Any
    loss: float
    gradient: Any
    size: float
    """‖∇F‖."""
    slope: float
    """Of F along the step that was asked about."""


class _Problem:
    """F of some weights and a penalty, and how often it was computed."""

    def __init__(self, rows: RegressionRows, weights: Any, penalty: float, scale: Any) -> None:
        self.rows, self.n_evaluations = rows, 0
        self._weights, self._penalty, self._scale = weights, penalty, scale

    def at(self, coef: Any, direction: Any = None) -> _Point:
        """F at `coef`, and its slope along `direction`."""
        self.n_evaluations += 1
        rows = self.rows
        loss, gradient = rows.loss_and_gradient(coef if self._scale is None else self._scale * coef, self._weights)
        if self._scale is not None:
            gradient *= self._scale
        gradient += self._penalty * coef
        along = gradient if direction is None else direction
        numbers = rows.fetched(
            [loss, *(rows.dots(a[None], b)[0] for a, b in ((coef, coef), (gradient, gradient), (along, gradient)))]
        )
        loss, of_coef, squared, slope = map(float, numbers)
        return _Point(coef, loss + 0.5 * self._penalty * of_coef, gradient, math.sqrt(squared), slope)


def _descend(problem: _Problem, point: _Point, metric: Metric | None, goal: float) -> _Point:
    """Steps until ‖∇F‖ is at most `goal`."""
    memory = _Memory(problem.rows, metric, point.gradient)
    least, last_gain = math.inf, 0
    while point.size > goal and problem.n_evaluations < _MOST_EVALUATIONS:
        if point.size < least:
            least, last_gain = point.size, problem.n_evaluations
        if problem.n_evaluations - last_gain > _PATIENCE:
            break
        direction, slope = memory.direction()
        step = _step(problem, point, direction, slope)
        if step is not None:
            memory.add(point, step)
            point = step
        elif not memory.is_empty:
            memory.forget()
        elif metric is not None:
            metric = None
            memory = _Memory(problem.rows, metric, point.gradient)
        else:
            break
    return point


def _step(problem: _Problem, point: _Point, direction: Any, slope: float) -> _Point | None:
    """A point along `direction` where F is low enough, None where float32 finds none."""
    if not slope < 0.0:
        return None
    t = 1.0
    for _ in range(_MOST_TRIALS):
        new = problem.at(point.coef + t * direction, direction)
        change = new.loss - point.loss
        if change <= _SUFFICIENT * t * slope:
            return new
        if change <= _LOSS_PRECISION * abs(point.loss) and new.slope <= (2.0 * _SUFFICIENT - 1.0) * slope:
            return new
        t *= _shrinkage(t, change, slope, new.slope)
    return None


def _shrinkage(t: float, change: float, slope: float, new_slope: float) -> float:
    """Where the cubic of two values and slopes has its minimum, as a share of t, kept from 0.1 to 0.5."""
    if not (math.isfinite(change) and math.isfinite(new_slope)):
        return 0.1
    sum_of = slope + new_slope - 3.0 * change / t
    root = math.sqrt(max(0.0, sum_of * sum_of - slope * new_slope))
    below = new_slope - slope + 2.0 * root
    share = 1.0 - (new_slope + root - sum_of) / below if below > 0.0 else 0.5
    return min(0.5, max(0.1, share))


class _Memory:
    """The inverse curvature that the last steps have shown, over the first metric M.

    Of each step s and change of gradient y the stack holds s and M y, after M g of the present gradient g: a direction
    is a combination of the stack, and its factors follow from products of vectors alone.
    """

    def __init__(self, rows: RegressionRows, metric: Metric | None, gradient: Any) -> None:
        self._rows, self._metric = rows, metric
        self._stack = rows.stack(1 + 2 * _MEMORY)
        self._step_change = [[0.0] * _MEMORY for _ in range(_MEMORY)]  # s_i · y_j, of i no later than j
        self._change_change = [[0.0] * _MEMORY for _ in range(_MEMORY)]  # y_i · M y_j
        self._slots: list[int] = []  # from the oldest step to the newest
        self._put_gradient(gradient)
        self._of_gradient: list[float] = rows.fetched([rows.dots(self._stack[:1], gradient)])[0].tolist()

    @property
    def is_empty(self) -> bool:
        return not self._slots

    def forget(self) -> None:
        """Nothing but M is left."""
        self._slots = []

    def _put_gradient(self, gradient: Any) -> None:
        self._stack[0] = gradient if self._metric is None else self._metric(gradient)

    def add(self, old: _Point, new: _Point) -> None:
        """A step was taken."""
        rows, stack = self._rows, self._stack
        slot = (self._slots[-1] + 1) % _MEMORY if self._slots else 0
        of_step, of_change = 1 + 2 * slot, 2 + 2 * slot
        stack[of_step] = new.coef - old.coef
        stack[of_change] = stack[0]
        self._put_gradient(new.gradient)
        stack[of_change] = stack[0] - stack[of_change]
        change = new.gradient - old.gradient
        self._slots = [*self._slots[-(_MEMORY - 1) :], slot]
        used = stack[: 1 + 2 * len(self._slots)]
        of_y, self._of_gradient = rows.fetched([rows.dots(used, change), rows.dots(used, new.gradient)]).tolist()
        for i in self._slots:
            self._step_change[i][slot] = of_y[1 + 2 * i]
            self._change_change[i][slot] = self._change_change[slot][i] = of_y[2 + 2 * i]
        if not (self._step_change[slot][slot] > 0.0 and self._change_change[slot][slot] > 0.0):
            self.forget()

    def direction(self) -> tuple[Any, float]:
        """−H g and its slope, H by the recursion of the method, first from the newest step back and then forth."""
        slots, sy, yy, of_gradient = self._slots, self._step_change, self._change_change, self._of_gradient
        scale = sy[slots[-1]][slots[-1]] / yy[slots[-1]][slots[-1]] if slots else 1.0
        # No `sum`: since Python 3.12 it rounds sums of floats otherwise.
        back, steps = [0.0] * _MEMORY, [0.0] * _MEMORY
        for at in reversed(range(len(slots))):
            i, along = slots[at], of_gradient[1 + 2 * slots[at]]
            for j in slots[at + 1 :]:
                along -= sy[i][j] * back[j]
            back[i] = along / sy[i][i]
        for at, i in enumerate(slots):
            along = of_gradient[2 + 2 * i]
            for j in slots:
                along -= yy[i][j] * back[j]
            along *= scale
            for j in slots[:at]:
                along += sy[j][i] * steps[j]
            steps[i] = back[i] - along / sy[i][i]
        factors, slope = [-scale], -scale * of_gradient[0]
        for i in range(len(slots)):
            factors += [-steps[i], scale * back[i]]
            slope += factors[-2] * of_gradient[1 + 2 * i] + factors[-1] * of_gradient[2 + 2 * i]
        return self._rows.combination(self._stack[: len(factors)], np.array(factors)), slope
