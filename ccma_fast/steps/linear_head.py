"""The paper's student: a linear head on frozen embeddings."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ..backends.choose import choose_backend
from ..backends.protocol import Backend
from ..checks import check_fraction, check_integer, check_number
from ..config import CCMAConfig
from ..pool.array_like import as_array, uncoerced
from ..pool.arrays import KeptRows
from ..pool.checked import check_rows
from ..pool.class_limits import MOST_CLASSES, check_class_count, check_trainable, inferred_count
from ..pool.derived import LinearRows
from ..pool.open import open_rows
from ..pool.rows import Chunk, Rows, to_float32
from .student import ChunkedStudent, check_two_classes, probabilities
from .training import DROPOUT_STEPS, TrainedHead, random_bits, train_head

__all__ = ["CONSTANTS", "LinearHead"]

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]

# Constructor arguments that a configuration has as well.
CONSTANTS = ("dropout", "learning_rate", "weight_decay", "max_epochs", "batch_size", "patience", "min_gain")


class LinearHead(ChunkedStudent):
    """The paper's student: batch normalisation without affine terms, dropout, one linear layer.

    Trained by AdamW on the cross-entropy, in whole epochs, stopped early on the mean training loss of an epoch, with
    the parameters of the best epoch kept. After fitting it is one affine map, applied by the package's own product.

    Parameters
    ----------
    n_classes : int, optional
        C, at most 2²⁰; by default the largest label + 1, which then may be no more than there are rows, or 10,000.
        Classes without a label are learnt as never occurring.
    dropout : float, default 0.75
        Share of inputs zeroed in training, in [0, 1).
    learning_rate, weight_decay : float, default 1e-2
        Of AdamW. The paper uses a learning rate of 1e-3 on sets of 10 classes.
    max_epochs : int, default 400
    batch_size : int, default 4096
        Rows; never fewer than two, for one row has no variance.
    patience : int, default 20
        Epochs without a gain of `min_gain` (nats) in the training loss after which training stops.
    min_gain : float, default 1e-3
    random_state : int, Generator, SeedSequence or None, default 0
        Initial weights, dropout and batch order. No global generator is drawn from.

    Attributes
    ----------
    classes_ : ndarray, shape (C,), int64
        0 to C − 1, the columns of all outputs.
    coef_ : ndarray, shape (C, D), float32
        The affine map's weights, normalisation folded in.
    intercept_ : ndarray, shape (C,), float32
    mean_ : ndarray, shape (D,), float32
        The inputs' running mean: a dropped input counts as its mean.
    n_iter_ : int
        Epochs trained.
    loss_ : float
        Mean training loss of the best epoch, nats.

    Notes
    -----
    :meth:`fit` trains on the CPU, whatever PyTorch is set to. A batch is cut into pieces of at most 1024 rows, each
    with a stream of random numbers and a gradient of its own, and the gradients are added in order: the package's
    threads share the pieces, and the result does not depend on how many there are. A query by the backend "cuda" trains
    on its device, with the same initial weights, batches and dropped inputs, so that only sums round differently; it
    checks for early stopping every 16 epochs, and the epochs beyond the last one change nothing.
    """

    _PARAMETERS = ("n_classes", *CONSTANTS, "random_state")

    def __init__(
        self,
        n_classes: int | None = None,
        *,
        dropout: float = CCMAConfig.dropout,
        learning_rate: float = CCMAConfig.learning_rate,
        weight_decay: float = CCMAConfig.weight_decay,
        max_epochs: int = CCMAConfig.max_epochs,
        batch_size: int = CCMAConfig.batch_size,
        patience: int = CCMAConfig.patience,
        min_gain: float = CCMAConfig.min_gain,
        random_state: int | np.random.Generator | np.random.SeedSequence | None = 0,
    ) -> None:
        self.n_classes = n_classes
        self.dropout = dropout
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.patience = patience
        self.min_gain = min_gain
        self.random_state = random_state

    @classmethod
    def from_config(
        cls, config: CCMAConfig, n_classes: int | None, random_state: np.random.Generator | np.random.SeedSequence | int
    ) -> LinearHead:
        """The head with the constants of `config`."""
        return cls(n_classes, random_state=random_state, **{name: getattr(config, name) for name in CONSTANTS})

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The constructor's arguments, as scikit-learn's tools expect."""
        return {name: getattr(self, name) for name in self._PARAMETERS}

    def set_params(self, **params: Any) -> LinearHead:
        """Change constructor arguments."""
        for name, value in params.items():
            if name not in self._PARAMETERS:
                raise ValueError(f"LinearHead has no parameter {name!r}, expected one of {', '.join(self._PARAMETERS)}")
            setattr(self, name, value)
        return self

    def fit(self, X: Any, y: npt.ArrayLike) -> LinearHead:
        """Train from scratch.

        Parameters
        ----------
        X : array_like, torch.Tensor or path, shape (n, D)
            n ≥ 2.
        y : array_like, shape (n,), int
            Classes from 0 to C − 1, at least two of them.

        Raises
        ------
        ValueError
            Wrong shapes, labels out of range, fewer than two classes, NaN or infinity in a row (which is named).
        TypeError
            Inputs of the wrong type.
        """
        return self.fit_rows(open_rows(X, "X"), y)

    def fit_rows(self, rows: Rows, y: npt.ArrayLike, backend: Backend | None = None) -> LinearHead:
        """:meth:`fit` on rows, on the device of a backend that has one."""
        _check_parameters(self)
        labels = _training_labels(y, rows.n_rows, self.n_classes)
        n_classes = inferred_count(labels, rows.n_rows, "y") if self.n_classes is None else int(self.n_classes)
        check_trainable(n_classes, rows.n_columns)
        given = {name: getattr(self, name) for name in (*CONSTANTS, "random_state")}  # a subclass may have more
        self._learnt(train_head(rows, labels, backend, n_classes=n_classes, **given))
        return self

    def decision_function(self, X: Any) -> Float32:
        """Logits z^S, shape (M, C), float32."""
        return KeptRows(self._checked_logits(X)).float32()

    def predict_proba(self, X: Any) -> Float32:
        """p^S = softmax(z^S), shape (M, C), float32."""
        return probabilities(self._checked_logits(X))

    def predict(self, X: Any) -> Int64:
        """The most probable class of each row (ties: the lowest)."""
        logits = self._checked_logits(X)
        classes = np.empty(logits.n_rows, np.int64)
        for start, chunk in logits.chunks():
            classes[start : start + len(chunk)] = chunk.argmax(axis=1)
        return classes

    def _checked_logits(self, X: Any) -> Rows:
        self._check_fitted()
        rows = open_rows(X, "X")
        if rows.n_columns != self.coef_.shape[1]:
            raise ValueError(f"X must have {self.coef_.shape[1]} columns as in fit, got {rows.n_columns}")
        backend = choose_backend("auto")
        check_rows(rows, backend.row_lengths)
        return self.logits(rows, backend)

    def logits(self, rows: Rows, backend: Backend) -> Rows:
        """z^S of rows, computed as chunks are read."""
        return LinearRows(rows, "student_logits", backend, self.coef_, self.intercept_)

    def dropout_logits(self, chunk: Chunk, rng: np.random.Generator, backend: Backend) -> Float32:
        """z^S with dropout left on: one Monte-Carlo pass over a chunk of rows.

        Parameters
        ----------
        chunk : ndarray, shape (M, D)
            In a storage type of :mod:`ccma_fast.pool.rows`.
        rng : Generator
            Draws which inputs of which row are dropped, afresh for every call.
        backend : Backend

        Returns
        -------
        ndarray, shape (M, C), float32
            The mean over many passes tends to the logits without dropout.
        """
        self._check_fitted()
        keep = round((1.0 - self.dropout) * DROPOUT_STEPS)
        centred = to_float32(chunk) - self.mean_
        centred *= random_bits(rng, centred.shape) < keep
        centred *= np.float32(DROPOUT_STEPS / keep)
        return backend.linear(centred, self.coef_, self.intercept_ + self.coef_ @ self.mean_)

    def state_dict(self) -> dict[str, Any]:
        """The fitted state, as plain arrays and numbers.

        It is enough for :meth:`load_state_dict` to predict the same bits, on one machine.
        """
        self._check_fitted()
        return {
            "classes": self.classes_,
            "coef": self.coef_,
            "intercept": self.intercept_,
            "mean": self.mean_,
            "n_iter": self.n_iter_,
            "loss": self.loss_,
        }

    def load_state_dict(self, state: dict[str, Any]) -> LinearHead:
        """Take over what another head learnt."""
        return self._learnt(_checked_state(state))

    def _learnt(self, trained: TrainedHead) -> LinearHead:
        self.coef_, self.intercept_, self.mean_, self.n_iter_, self.loss_ = trained
        self.classes_ = np.arange(len(trained.coef))
        return self

    def _check_fitted(self) -> None:
        if not hasattr(self, "coef_"):
            raise ValueError("LinearHead must be fitted first: call fit(X, y)")


def _check_parameters(head: LinearHead) -> None:
    if head.n_classes is not None:
        head.n_classes = check_class_count("n_classes", head.n_classes)
    head.dropout = check_fraction("dropout", head.dropout) if head.dropout != 0.0 else 0.0
    head.learning_rate = check_number("learning_rate", head.learning_rate, above=0.0)
    head.weight_decay = check_number("weight_decay", head.weight_decay, minimum=0.0)
    head.min_gain = check_number("min_gain", head.min_gain, minimum=0.0)
    for name in ("max_epochs", "batch_size", "patience"):
        setattr(head, name, check_integer(name, getattr(head, name), minimum=1))


def _checked_state(state: dict[str, Any]) -> TrainedHead:
    """The arrays and numbers of :meth:`LinearHead.state_dict`."""
    expected = {"classes", "coef", "intercept", "mean", "n_iter", "loss"}
    if set(state) != expected:
        raise ValueError(f"state must have the keys {sorted(expected)}, got {sorted(state)}")
    classes = as_array("classes", state["classes"])
    if not np.array_equal(classes, np.arange(len(state["coef"]))):
        raise ValueError(
            f"classes must be 0 to {len(state['coef']) - 1}, one for each row of coef, got {classes!r:.200}"
        )
    coef, intercept, mean = (
        np.ascontiguousarray(state[name], dtype=np.float32) for name in ("coef", "intercept", "mean")
    )
    return TrainedHead(coef, intercept, mean, check_integer("n_iter", state["n_iter"], minimum=0), float(state["loss"]))


def _training_labels(y: npt.ArrayLike, n_rows: int, n_classes: int | None) -> Int64:
    labels = as_array("y", uncoerced(y))
    if labels.dtype.kind not in "iu":
        raise TypeError(f"y must be integers (classes), got dtype {labels.dtype}")
    if labels.shape != (n_rows,):
        raise ValueError(f"y must have shape ({n_rows},) as X has rows, got {labels.shape}")
    upper = MOST_CLASSES if n_classes is None else n_classes
    bad = np.flatnonzero((labels < 0) | (labels >= upper))
    if bad.size:
        least_only = n_classes is None and labels[bad[0]] < 0
        expected = "a class of at least 0" if least_only else f"a class from 0 to {upper - 1}"
        raise ValueError(f"y must be {expected}, got {labels[bad[0]]} at row {bad[0]}")
    check_two_classes(labels)
    return labels.astype(np.int64)
