"""Students that are one affine map of the features: what they share, whatever way the map is learnt."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from ..backends.choose import choose_backend
from ..backends.dropout_streams import DROPOUT_STEPS, random_bits
from ..backends.protocol import Backend
from ..pool.array_like import as_array, row_weights, uncoerced
from ..pool.arrays import KeptRows
from ..pool.checked import check_rows
from ..pool.class_limits import MOST_CLASSES, check_class_count, check_trainable, inferred_count
from ..pool.derived import LinearRows
from ..pool.open import open_rows
from ..pool.rows import Chunk, Rows, to_float32
from .student import ChunkedStudent, ProbabilityRows, check_two_classes

__all__ = ["AffineHead"]

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]
Head = TypeVar("Head", bound="AffineHead")
Check = Callable[[str, Any], Any]  # of a name and a value; returns the value as it is kept

# Of a saved head, beside its numbers.
_ARRAYS = ("classes", "coef", "intercept", "mean")


class AffineHead(ChunkedStudent):
    """z^S = W x + b. A subclass learns W and b, and says its constructor's arguments and its own numbers.

    scikit-learn's tools, such as `cross_val_score`, take it for one of their classifiers; it does without scikit-learn.

    Attributes
    ----------
    classes_ : ndarray, shape (C,), int64
        0 to C − 1, the columns of all outputs.
    coef_ : ndarray, shape (C, D), float32
    intercept_ : ndarray, shape (C,), float32
    mean_ : ndarray, shape (D,), float32
        The mean of the inputs, as which a dropped one counts.
    """

    _PARAMETERS: tuple[str, ...]
    _NUMBERS: Mapping[str, Check]  # fitted ones, and how they are checked
    _estimator_type = "classifier"  # what scikit-learn before 1.6 asks for

    classes_: Int64
    coef_: Float32
    intercept_: Float32
    mean_: Float32

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The constructor's arguments, as scikit-learn's tools expect."""
        return {name: getattr(self, name) for name in self._PARAMETERS}

    def set_params(self: Head, **params: Any) -> Head:
        """Change constructor arguments."""
        for name, value in params.items():
            if name not in self._PARAMETERS:
                raise ValueError(
                    f"{type(self).__name__} has no parameter {name!r}, expected one of {', '.join(self._PARAMETERS)}"
                )
            setattr(self, name, value)
        return self

    def __sklearn_tags__(self) -> Any:
        """What scikit-learn, which calls this and so is there, is to know: a classifier of several classes."""
        from sklearn.utils import ClassifierTags, Tags, TargetTags  # type: ignore[import-untyped]

        target_tags = TargetTags(required=True)
        return Tags(estimator_type="classifier", target_tags=target_tags, classifier_tags=ClassifierTags())

    def score(self, X: Any, y: npt.ArrayLike, sample_weight: npt.ArrayLike | None = None) -> float:
        """Accuracy: the share of rows whose class is the most probable one.

        Parameters
        ----------
        X : array_like, torch.Tensor or path, shape (M, D)
            M ≥ 1.
        y : array_like, shape (M,), int
            Classes; one that the head does not know counts as wrong.
        sample_weight : array_like, shape (M,), optional
            Rows' weights, at least 0; 1 by default, and where all are 0.
        """
        predicted = self.predict(X)
        is_right = predicted == _integer_labels(y, predicted.size)
        if not is_right.size:
            raise ValueError("X must have at least one row, got none")
        return float(np.average(is_right, weights=row_weights(sample_weight, predicted.size, "sample_weight")))

    def decision_function(self, X: Any) -> Float32:
        """Logits z^S, shape (M, C), float32; of two classes z_1 − z_0, shape (M,), as scikit-learn's tools expect."""
        z = KeptRows(self._checked_logits(X)).float32()
        return z if z.shape[1] != 2 else z[:, 1] - z[:, 0]

    def predict_proba(self, X: Any) -> Float32:
        """p^S = softmax(z^S), shape (M, C), float32."""
        return ProbabilityRows(self._checked_logits(X)).float32()

    def state_dict(self) -> dict[str, Any]:
        """The fitted state, as plain arrays, which are copies, and numbers.

        It is enough for :meth:`load_state_dict` to predict the same bits, on one machine.
        """
        self._check_fitted()
        arrays = {name: np.array(getattr(self, f"{name}_")) for name in _ARRAYS}
        return arrays | {name: getattr(self, f"{name}_") for name in self._NUMBERS}

    def load_state_dict(self: Head, state: Mapping[str, Any]) -> Head:
        """Take over a copy of what another head learnt, as :meth:`state_dict` returned it.

        Raises
        ------
        ValueError
            Missing or unknown keys, shapes that do not agree with each other or with `n_classes`, numbers out of range
            or not finite. This head is left as it was then.
        TypeError
            Numbers of another type.
        """
        for name, value in _checked_state(state, self.n_classes, self._NUMBERS).items():
            setattr(self, f"{name}_", value)
        return self

    def predict(self, X: Any) -> Int64:
        """The most probable class of each row (ties: the lowest)."""
        logits = self._checked_logits(X)
        classes = np.empty(logits.n_rows, np.int64)
        for start, chunk in logits.chunks():
            classes[start : start + len(chunk)] = chunk.argmax(axis=1)
        return classes

    def logits(self, rows: Rows, backend: Backend) -> Rows:
        """z^S of rows, computed as chunks are read."""
        return LinearRows(rows, "student_logits", backend, self.coef_, self.intercept_)

    def dropout_logits(self, chunk: Chunk, dropout: float, rng: np.random.Generator, backend: Backend) -> Float32:
        """z^S with dropout of inputs: one Monte-Carlo pass over a chunk of rows.

        Parameters
        ----------
        chunk : ndarray, shape (M, D)
            In a storage type of :mod:`ccma_fast.pool.rows`.
        dropout : float
            Share of inputs that count as their mean, in [0, 1). The others count as if they were 1 / (1 − dropout)
            times as far from it.
        rng : Generator
            Draws which inputs of which row are dropped, afresh for every call.
        backend : Backend

        Returns
        -------
        ndarray, shape (M, C), float32
            The mean over many passes tends to the logits without dropout.
        """
        self._check_fitted()
        keep = round((1.0 - dropout) * DROPOUT_STEPS)
        centred = to_float32(chunk) - self.mean_
        centred *= random_bits(rng, centred.shape) < keep
        centred *= np.float32(DROPOUT_STEPS / keep)
        return backend.linear(centred, self.coef_, self.intercept_ + self.coef_ @ self.mean_)

    def _checked_logits(self, X: Any) -> Rows:
        self._check_fitted()
        rows = open_rows(X, "X")
        if rows.n_columns != self.coef_.shape[1]:
            raise ValueError(f"X must have {self.coef_.shape[1]} columns as in fit, got {rows.n_columns}")
        backend = choose_backend("auto")
        check_rows(rows, backend.row_lengths)
        return self.logits(rows, backend)

    def _check_fitted(self) -> None:
        if not hasattr(self, "coef_"):
            raise ValueError(f"{type(self).__name__} must be fitted first: call fit(X, y)")

    def _training_labels(self, y: npt.ArrayLike, rows: Rows) -> tuple[Int64, int]:
        """The classes of rows that are learnt from, and C."""
        if self.n_classes is not None:
            self.n_classes = check_class_count("n_classes", self.n_classes)
        labels = _checked_labels(y, rows.n_rows, self.n_classes)
        n_classes = inferred_count(labels, rows.n_rows, "y") if self.n_classes is None else self.n_classes
        check_trainable(n_classes, rows.n_columns, self.weight_bytes)
        return labels, n_classes


def _checked_state(state: Mapping[str, Any], n_classes: int | None, numbers: Mapping[str, Check]) -> dict[str, Any]:
    """Copies of the arrays of a saved head, and what the checks make of its numbers.

    `n_classes` are those of the head that takes them over, None for any number.
    """
    if not isinstance(state, Mapping):
        raise TypeError(f"state must be a mapping, such as state_dict returns, got {type(state).__name__}")
    expected = {*_ARRAYS, *numbers}
    if set(state) != expected:
        raise ValueError(f"state must have the keys {sorted(expected)}, got {sorted(state, key=str)}")
    checked = {name: check(name, state[name]) for name, check in numbers.items()}
    coef, intercept, mean = (_float32_copy(name, state[name]) for name in ("coef", "intercept", "mean"))
    if coef.ndim != 2 or coef.shape[1] == 0 or not 2 <= len(coef) <= MOST_CLASSES:
        raise ValueError(
            f"coef must have a row for each of 2 to {MOST_CLASSES} classes and a column for each feature, got shape "
            f"{coef.shape}"
        )
    classes = as_array("classes", state["classes"])
    if not np.array_equal(classes, np.arange(len(coef))):
        raise ValueError(f"classes must be 0 to {len(coef) - 1}, one for each row of coef, got {classes!r:.200}")
    for name, array, shape in (("intercept", intercept, coef.shape[:1]), ("mean", mean, coef.shape[1:])):
        if array.shape != shape:
            raise ValueError(f"{name} must have shape {shape} beside coef of shape {coef.shape}, got {array.shape}")
    if n_classes not in (None, len(coef)):
        raise ValueError(f"state must be of a head of n_classes={n_classes}, got coef of {len(coef)} classes")
    return {"classes": np.arange(len(coef)), "coef": coef, "intercept": intercept, "mean": mean, **checked}


def _float32_copy(name: str, values: Any) -> Float32:
    """Finite numbers as an array of its own, in C order."""
    array = as_array(name, values)
    if array.dtype.kind not in "fiu":
        raise TypeError(f"{name} must be real numbers, got dtype {array.dtype}")
    with np.errstate(over="ignore"):  # infinity is refused
        copy = np.array(array, np.float32, order="C")
    if not np.isfinite(copy).all():
        at = np.unravel_index(int(np.isfinite(copy).argmin()), copy.shape)
        raise ValueError(f"{name} must be finite in float32, got {array[at]} at {tuple(map(int, at))}")
    return copy


def _integer_labels(y: npt.ArrayLike, n_rows: int) -> npt.NDArray[Any]:
    labels = as_array("y", uncoerced(y))
    if labels.dtype.kind not in "iu":
        is_text = labels.size and all(isinstance(label, str) for label in labels.ravel().tolist())
        hint = "; of names give positions: classes, y = numpy.unique(names, return_inverse=True)" if is_text else ""
        raise TypeError(f"y must be integers (classes), got dtype {labels.dtype}{hint}")
    if labels.shape != (n_rows,):
        raise ValueError(f"y must have shape ({n_rows},) as X has rows, got {labels.shape}")
    return labels


def _checked_labels(y: npt.ArrayLike, n_rows: int, n_classes: int | None) -> Int64:
    labels = _integer_labels(y, n_rows)
    upper = MOST_CLASSES if n_classes is None else n_classes
    bad = np.flatnonzero((labels < 0) | (labels >= upper))
    if bad.size:
        least_only = n_classes is None and labels[bad[0]] < 0
        expected = "a class of at least 0" if least_only else f"a class from 0 to {upper - 1}"
        raise ValueError(f"y must be {expected}, got {labels[bad[0]]} at row {bad[0]}")
    check_two_classes(labels)
    return labels.astype(np.int64)
