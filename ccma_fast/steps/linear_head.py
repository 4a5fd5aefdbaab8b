"""The paper's student: a linear head on frozen embeddings."""

from __future__ import annotations

from functools import partial
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from ..backends.protocol import Backend
from ..checks import check_fraction, check_integer, check_number
from ..config import CCMAConfig
from ..pool.class_limits import WEIGHT_BYTES
from ..pool.open import open_rows
from ..pool.rows import Rows
from .affine_head import AffineHead
from .training import train_head

__all__ = ["CONSTANTS", "LinearHead"]

Float32 = npt.NDArray[np.float32]

# Constructor arguments that a configuration has as well.
CONSTANTS = ("dropout", "learning_rate", "weight_decay", "max_epochs", "batch_size", "patience", "min_gain")


class LinearHead(AffineHead):
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
        The inputs' running mean.
    n_iter_ : int
        Epochs trained.
    loss_ : float
        Mean training loss of the best epoch, nats.

    Notes
    -----
    :meth:`fit` trains on the CPU, on the package's threads, and no result depends on how many there are. The inputs
    that dropout zeroes take no time: its products add up those that stay. A query by the backend "cuda" trains on its
    device, with the same initial weights, batches and dropped inputs, so that only sums round differently; it checks
    for early stopping every 16 epochs, and the epochs beyond the last one change nothing.

    Examples
    --------
    >>> import numpy as np, ccma_fast as cf
    >>> rng = np.random.default_rng(0)
    >>> y = np.arange(200) % 3
    >>> x = (4 * np.eye(3, 8)[y] + rng.standard_normal((200, 8))).astype(np.float32)
    >>> head = cf.LinearHead(dropout=0.0, max_epochs=30).fit(x[:150], y[:150])
    >>> head.predict_proba(x[150:]).shape
    (50, 3)
    >>> bool(head.score(x[150:], y[150:]) > 0.9)
    True

    As the student of a query:

    >>> labels = np.where(np.arange(200) < 30, y, -1)
    >>> len(cf.select(x, 5, labels=labels, student=cf.LinearHead(max_epochs=30)))
    5
    """

    weight_bytes = WEIGHT_BYTES
    _PARAMETERS = ("n_classes", *CONSTANTS, "random_state")
    _NUMBERS = MappingProxyType(
        {"n_iter": partial(check_integer, minimum=0), "loss": partial(check_number, minimum=0.0)}
    )

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
        labels, n_classes = self._training_labels(y, rows)
        given = {name: getattr(self, name) for name in (*CONSTANTS, "random_state")}  # a subclass may have more
        trained = train_head(rows, labels, backend, n_classes=n_classes, **given)
        self.coef_, self.intercept_, self.mean_, self.n_iter_, self.loss_ = trained
        self.classes_ = np.arange(n_classes)
        return self


def _check_parameters(head: LinearHead) -> None:
    head.dropout = check_fraction("dropout", head.dropout) if head.dropout != 0.0 else 0.0
    head.learning_rate = check_number("learning_rate", head.learning_rate, above=0.0)
    head.weight_decay = check_number("weight_decay", head.weight_decay, minimum=0.0)
    head.min_gain = check_number("min_gain", head.min_gain, minimum=0.0)
    for name in ("max_epochs", "batch_size", "patience"):
        setattr(head, name, check_integer(name, getattr(head, name), minimum=1))
