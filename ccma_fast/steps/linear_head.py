"""The paper's student: a linear head on frozen embeddings, and its training."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import reference
from ..backends.choose import choose_backend
from ..backends.core import thread_count
from ..backends.protocol import Backend, DeviceTraining, on_device
from ..checks import check_fraction, check_integer, check_number, random_generator
from ..config import CCMAConfig
from ..pool.array_like import as_array, uncoerced
from ..pool.arrays import KeptRows
from ..pool.checked import check_rows
from ..pool.class_limits import MOST_CLASSES, check_class_count, check_trainable, inferred_count
from ..pool.derived import LinearRows
from ..pool.open import open_rows
from ..pool.rows import Chunk, Rows, to_float32

__all__ = ["LinearHead", "check_two_classes", "has_two_classes", "probabilities"]

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]

# torch.nn.BatchNorm1d's own.
_BATCH_NORM_EPS = 1e-5

_BATCH_NORM_MOMENTUM = 0.1

# Dropout compares 16 random bits with a threshold: rates are exact to 8e-6.
_DROPOUT_STEPS = 2**16

# Epochs on a device between two looks whether training is over: some milliseconds that go on for nothing at the end.
_EPOCHS_UNSEEN = 16

# Most rows of a piece of a batch. Smaller ones would fit the cache, but their threads would wait for Python's lock.
_PIECE_ROWS = 1024


class LinearHead:
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
    looks every 16 epochs whether training is over, and what it trained beyond that changes nothing.
    """

    _PARAMETERS = (
        "n_classes",
        "dropout",
        "learning_rate",
        "weight_decay",
        "max_epochs",
        "batch_size",
        "patience",
        "min_gain",
        "random_state",
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
        names = ("dropout", "learning_rate", "weight_decay", "max_epochs", "batch_size", "patience", "min_gain")
        return cls(n_classes, random_state=random_state, **{name: getattr(config, name) for name in names})

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
        self._check_parameters()
        labels = _training_labels(y, rows.n_rows, self.n_classes)
        n_classes = inferred_count(labels, rows.n_rows, "y") if self.n_classes is None else int(self.n_classes)
        check_trainable(n_classes, rows.n_columns)
        device = None if backend is None else on_device(backend)
        self._train(rows, labels, n_classes, None if device is None else device.training())
        self.classes_ = np.arange(n_classes)
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
        self._check_columns(rows)
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
        keep = round((1.0 - self.dropout) * _DROPOUT_STEPS)
        centred = to_float32(chunk) - self.mean_
        centred *= _random_bits(rng, centred.shape) < keep
        centred *= np.float32(_DROPOUT_STEPS / keep)
        return backend.linear(centred, self.coef_, self.intercept_ + self.coef_ @ self.mean_)

    def state_dict(self) -> dict[str, Any]:
        """What was learnt, as plain arrays and numbers.

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
        expected = {"classes", "coef", "intercept", "mean", "n_iter", "loss"}
        if set(state) != expected:
            raise ValueError(f"state must have the keys {sorted(expected)}, got {sorted(state)}")
        classes = as_array("classes", state["classes"])
        if not np.array_equal(classes, np.arange(len(state["coef"]))):
            raise ValueError(
                f"classes must be 0 to {len(state['coef']) - 1}, one for each row of coef, got {classes!r:.200}"
            )
        self.classes_ = classes.astype(np.int64)
        self.coef_ = np.ascontiguousarray(state["coef"], dtype=np.float32)
        self.intercept_ = np.ascontiguousarray(state["intercept"], dtype=np.float32)
        self.mean_ = np.ascontiguousarray(state["mean"], dtype=np.float32)
        self.n_iter_ = check_integer("n_iter", state["n_iter"], minimum=0)
        self.loss_ = float(state["loss"])
        return self

    def _check_parameters(self) -> None:
        if self.n_classes is not None:
            self.n_classes = check_class_count("n_classes", self.n_classes)
        self.dropout = check_fraction("dropout", self.dropout) if self.dropout != 0.0 else 0.0
        self.learning_rate = check_number("learning_rate", self.learning_rate, above=0.0)
        self.weight_decay = check_number("weight_decay", self.weight_decay, minimum=0.0)
        self.min_gain = check_number("min_gain", self.min_gain, minimum=0.0)
        for name in ("max_epochs", "batch_size", "patience"):
            setattr(self, name, check_integer(name, getattr(self, name), minimum=1))

    def _check_fitted(self) -> None:
        if not hasattr(self, "coef_"):
            raise ValueError("LinearHead must be fitted first: call fit(X, y)")

    def _check_columns(self, rows: Rows) -> None:
        if rows.n_columns != self.coef_.shape[1]:
            raise ValueError(f"X must have {self.coef_.shape[1]} columns as in fit, got {rows.n_columns}")

    def _train(self, rows: Rows, labels: Int64, n_classes: int, device: DeviceTraining | None) -> None:
        import torch

        n, d = rows.n_rows, rows.n_columns
        rng = random_generator(copy.deepcopy(self.random_state))
        keep = 1.0 - self.dropout
        most_pieces = _piece_count(min(n, max(2, self.batch_size) + 1))
        streams = [np.random.default_rng(seed) for seed in rng.integers(2**63, size=most_pieces)]
        bound = d**-0.5  # torch.nn.Linear's own
        start = rng.uniform(-bound, bound, n_classes * (d + 1)).astype(np.float32)
        # Whatever the caller's default dtype, number of threads and precision of products are.
        with ExitStack() as settings:
            settings.enter_context(_one_torch_thread())
            settings.enter_context(torch.inference_mode())
            map_pieces = settings.enter_context(_pieces_map(1 if device else most_pieces))
            if device is not None:
                settings.enter_context(device.full_precision())
            to_tensor = torch.from_numpy if device is None else device.tensor
            inputs = torch.from_numpy(np.array(rows.float32())) if device is None else device.rows(rows)
            if not torch.isfinite(inputs.sum(dtype=torch.float64)):  # no sum of finite float32 values overflows
                check_rows(rows, reference.row_lengths)
            parameters, targets = to_tensor(start), to_tensor(labels)
            gradient = torch.empty_like(parameters)
            step = _AdamW(parameters, self.learning_rate, self.weight_decay)
            moments = torch.zeros((2, d), dtype=torch.float64, device=inputs.device)  # running mean and variance
            moments[1] = 1.0
            best = _Best((parameters, moments), self.min_gain, self.patience)
            gradients: _Gradients | _DeviceGradients
            if device is None:
                gradients = _Gradients(keep, streams, parameters, map_pieces)
            else:
                gradients = _DeviceGradients(keep, streams, device)
            whole = _Normalized(inputs, keep) if n <= max(2, self.batch_size) else None
            for epoch in range(self.max_epochs):
                if epoch % gradients.EPOCHS_UNSEEN == 0 and best.is_last():
                    break
                total: Any = 0.0
                for order in _batches(n, self.batch_size, rng):
                    chosen = None if order is None else to_tensor(order)
                    batch = whole or _Normalized(inputs[chosen], keep)
                    target = targets if whole else targets[chosen]
                    moments += _BATCH_NORM_MOMENTUM * (batch.moments - moments)
                    total = total + gradients(parameters, batch.values, target, gradient)
                    step(gradient.div_(len(target)))
                best.take(total / n)
            parameters, moments = (tensor.cpu() for tensor in best.tensors)
            best_weight, best_bias = (part.double().numpy() for part in _weight_and_bias(parameters, d))
            mean, variance = moments.numpy()
            self.n_iter_, self.loss_ = int(best.n_epochs), float(best.loss)
        folded = best_weight / np.sqrt(variance + _BATCH_NORM_EPS)
        self.coef_ = folded.astype(np.float32)
        self.intercept_ = (best_bias - folded @ mean).astype(np.float32)
        self.mean_ = mean.astype(np.float32)


class _Best:
    """The best epoch so far and when to stop: numbers on the host, and what tells them on a device, where losses are.

    Attributes
    ----------
    tensors : list of torch.Tensor
        Copies of what was trained, as they were after the best epoch.
    loss, n_epochs : float, int
        Its loss, and the epochs until training stopped; later ones change nothing.
    """

    def __init__(self, trained: Sequence[Any], min_gain: float, patience: int) -> None:
        self._trained, self._min_gain, self._patience = trained, min_gain, patience
        self.tensors = [tensor.clone() for tensor in trained]
        self.loss: Any = math.inf
        self.n_epochs: Any = 0
        self._stale: Any = 0

    def is_last(self) -> bool:
        """Whether training has stopped; waits for the device."""
        return bool(self._stale >= self._patience)

    def take(self, loss: Any) -> None:
        """Account for an epoch of this mean loss."""
        runs = self._stale < self._patience
        gains = runs & (loss < self.loss - self._min_gain)
        is_best = gains | (self.n_epochs == 0)
        for best, trained in zip(self.tensors, self._trained, strict=True):
            if is_best is not False:
                best.copy_(_choice(is_best, trained, best))
        self.loss = _choice(is_best, loss, self.loss)
        self.n_epochs = self.n_epochs + runs
        self._stale = _choice(gains, 0, self._stale + 1)


def _choice(condition: Any, a: Any, b: Any) -> Any:
    """`a` where the condition holds, a truth value or a tensor of one, and else `b`."""
    import torch

    return torch.where(condition, a, b) if isinstance(condition, torch.Tensor) else a if condition else b


class _Normalized:
    """A batch as batch normalisation leaves it.

    Attributes
    ----------
    values : torch.Tensor, shape (n, D), float32
        Divided by the share that dropout keeps.
    moments : torch.Tensor, shape (2, D), float64
        What goes into the running ones: mean and unbiased variance of the batch.
    """

    def __init__(self, inputs: Any, keep: float) -> None:
        import torch

        n = len(inputs)
        values = inputs.double()
        mean = values.mean(dim=0)
        variance = values.sub_(mean).square().mean(dim=0)  # torch.var_mean takes five times as long
        self.values = values.mul_(1.0 / (torch.sqrt(variance + _BATCH_NORM_EPS) * keep)).float()
        self.moments = torch.stack([mean, variance * (n / (n - 1))])


class _Gradients:
    """The summed loss of a batch under dropout and its gradient: pieces of it on threads."""

    EPOCHS_UNSEEN = 1

    def __init__(
        self, keep: float, streams: Sequence[np.random.Generator], parameters: Any, map_pieces: Callable[..., Any]
    ) -> None:
        self._keep, self._streams, self._map = round(keep * _DROPOUT_STEPS), streams, map_pieces
        self._of_pieces = parameters.new_empty(len(streams), len(parameters))

    def __call__(self, parameters: Any, values: Any, target: Any, gradient: Any) -> float:
        import torch

        n_pieces = _piece_count(len(values))

        def piece_loss(piece: tuple[Any, ...]) -> float:
            values, target, gradient, rng = piece
            with torch.inference_mode():  # of this thread
                dropped = torch.empty_like(values)
                np.multiply(values.numpy(), _random_bits(rng, values.shape) < self._keep, out=dropped.numpy())
                return float(_loss(parameters, dropped, target, gradient))

        split = values.tensor_split(n_pieces), target.tensor_split(n_pieces)
        total = sum(self._map(piece_loss, zip(*split, self._of_pieces, self._streams, strict=False)))
        torch.sum(self._of_pieces[:n_pieces], dim=0, out=gradient)
        return float(total)


class _DeviceGradients:
    """The same on a device, a batch as a whole; the streams are still those of its pieces."""

    EPOCHS_UNSEEN = _EPOCHS_UNSEEN

    def __init__(self, keep: float, streams: Sequence[np.random.Generator], device: DeviceTraining) -> None:
        self._keep, self._streams, self._device = round(keep * _DROPOUT_STEPS), streams, device

    def __call__(self, parameters: Any, values: Any, target: Any, gradient: Any) -> Any:
        dropped = self._device.dropout(values, self._keep, self._streams[: _piece_count(len(values))])
        return _loss(parameters, dropped, target, gradient).double()


def _loss(parameters: Any, dropped: Any, target: Any, gradient: Any) -> Any:
    """The summed loss of some rows as dropout left them; its gradient goes into `gradient`.

    By hand: a step of this size would spend more time in autograd than in arithmetic.
    """
    import torch
    from torch.nn import functional

    d = dropped.shape[1]
    weight, bias = _weight_and_bias(parameters, d)
    weight_gradient, bias_gradient = _weight_and_bias(gradient, d)
    log_p = functional.log_softmax(torch.addmm(bias, dropped, weight.T), dim=1)
    loss = -log_p.gather(1, target[:, None]).sum()
    residual = log_p.exp_()
    residual[torch.arange(len(target), device=target.device), target] -= 1.0
    torch.mm(residual.T, dropped, out=weight_gradient)
    torch.sum(residual, dim=0, out=bias_gradient)
    return loss


def _weight_and_bias(parameters: Any, d: int) -> tuple[Any, Any]:
    """Views of the linear layer's (C · D + C,) parameters: (C, D) and (C,)."""
    n_classes = len(parameters) // (d + 1)
    return parameters[: n_classes * d].view(n_classes, d), parameters[n_classes * d :]


def _piece_count(n: int) -> int:
    return -(-n // _PIECE_ROWS)


@contextmanager
def _pieces_map(n_pieces: int) -> Iterator[Any]:
    """`map`, on as many threads as the package has and pieces there are."""
    import torch

    n_threads = min(thread_count(), n_pieces)
    if n_threads == 1:
        yield map
        return
    with ThreadPoolExecutor(n_threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        yield pool.map


def _random_bits(rng: np.random.Generator, shape: tuple[int, ...]) -> npt.NDArray[np.uint16]:
    n = math.prod(shape)
    # Whole 64-bit draws: rng.bytes takes six times as long.
    draws = rng.integers(0, 2**64, size=-(-n // 4), dtype=np.uint64)
    return draws.view(np.uint16)[:n].reshape(shape)


class _AdamW:
    """torch.optim.AdamW with its default constants, on one tensor, in place."""

    def __init__(self, parameters: Any, learning_rate: float, weight_decay: float) -> None:
        import torch

        self._parameters, self._learning_rate, self._weight_decay = parameters, learning_rate, weight_decay
        self._first, self._second = torch.zeros_like(parameters), torch.zeros_like(parameters)
        self._steps = 0

    def __call__(self, gradient: Any) -> None:
        self._steps += 1
        first_decay, second_decay = 0.9, 0.999
        self._parameters.mul_(1.0 - self._learning_rate * self._weight_decay)
        self._first.lerp_(gradient, 1.0 - first_decay)
        self._second.mul_(second_decay).addcmul_(gradient, gradient, value=1.0 - second_decay)
        step = self._learning_rate / (1.0 - first_decay**self._steps)
        spread = self._second.sqrt().mul_((1.0 - second_decay**self._steps) ** -0.5).add_(1e-8)
        self._parameters.addcdiv_(self._first, spread, value=-step)


@contextmanager
def _one_torch_thread() -> Iterator[None]:
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _batches(n: int, batch_size: int, rng: np.random.Generator) -> Iterator[Any]:
    """Shuffled batches of an epoch, None for the whole set. A lone last row, which has no variance, joins the rest."""
    batch_size = max(2, batch_size)
    if n <= batch_size:
        yield None
        return
    order = rng.permutation(n)
    start = 0
    while start < n:
        stop = n if n - start <= batch_size + 1 else start + batch_size
        yield order[start:stop]
        start = stop


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


def has_two_classes(labels: npt.NDArray[Any]) -> bool:
    """Whether a student can be fitted on these labels."""
    return bool((labels != labels[:1]).any())


def check_two_classes(labels: npt.NDArray[Any]) -> None:
    """A student needs labels of at least two classes."""
    if not has_two_classes(labels):
        found = np.unique(labels)
        raise ValueError(f"a student needs labels of at least two classes, got {found.size} ({found.tolist()})")


def probabilities(logits: Rows) -> Float32:
    """Of each row's classes, from a chunk of logits at a time: shape (M, C)."""
    p = np.empty((logits.n_rows, logits.n_columns), np.float32)
    for start, chunk in logits.chunks():
        e = np.exp(chunk - chunk.max(axis=1, keepdims=True))
        p[start : start + len(chunk)] = e / e.sum(axis=1, keepdims=True)
    return p
