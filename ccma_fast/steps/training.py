"""The training of a linear head: batch normalisation, dropout, AdamW and early stopping, on the host or a device.

A batch is cut into pieces of at most 1024 rows, each with a stream of random numbers and, on the host, a gradient of
its own; the gradients are added in order. So the result does not depend on the number of threads, and a device that
draws from the same streams drops the same inputs.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .. import reference
from ..backends.core import thread_count
from ..backends.protocol import Backend, DeviceTraining, on_device
from ..checks import random_generator
from ..pool.checked import check_rows
from ..pool.rows import Rows

__all__ = ["DROPOUT_STEPS", "TrainedHead", "random_bits", "train_head"]

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]

# Dropout compares 16 random bits with a threshold: rates are exact to 8e-6.
DROPOUT_STEPS = 2**16

# torch.nn.BatchNorm1d's own.
_BATCH_NORM_EPS = 1e-5
_BATCH_NORM_MOMENTUM = 0.1

# Most rows of a piece of a batch. Smaller ones would fit the cache, but their threads would wait for Python's lock.
_PIECE_ROWS = 1024


class TrainedHead(NamedTuple):
    """The affine map that was learnt, batch normalisation folded in, and how."""

    coef: Float32
    """Shape (C, D)."""
    intercept: Float32
    """Shape (C,)."""
    mean: Float32
    """The inputs' running mean, shape (D,)."""
    n_epochs: int
    loss: float
    """Mean training loss of the best epoch, nats."""


def train_head(
    rows: Rows,
    labels: Int64,
    backend: Backend | None,
    *,
    n_classes: int,
    dropout: float,
    learning_rate: float,
    weight_decay: float,
    max_epochs: int,
    batch_size: int,
    patience: int,
    min_gain: float,
    random_state: Any,
) -> TrainedHead:
    """Train on rows (n, D) and their classes (n,), on the device of a backend that has one, else on the host.

    The constants are those of :class:`ccma_fast.LinearHead`. A generator in `random_state` is left as it is.

    Raises
    ------
    ValueError
        NaN or infinity in a row, which is named.
    """
    import torch

    on = None if backend is None else on_device(backend)
    device = None if on is None else on.training()
    n, d = rows.n_rows, rows.n_columns
    rng = random_generator(copy.deepcopy(random_state))
    keep = 1.0 - dropout
    most_pieces = _piece_count(min(n, max(2, batch_size) + 1))
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
        step = _AdamW(parameters, learning_rate, weight_decay)
        moments = torch.zeros((2, d), dtype=torch.float64, device=inputs.device)  # running mean and variance
        moments[1] = 1.0
        best = _Best((parameters, moments), min_gain, patience)
        gradients: _Gradients | _DeviceGradients
        if device is None:
            gradients = _Gradients(keep, streams, parameters, map_pieces)
        else:
            gradients = _DeviceGradients(keep, streams, device)
        whole = _Normalized(inputs, keep) if n <= max(2, batch_size) else None
        for epoch in range(max_epochs):
            if epoch % gradients.CHECK_EVERY == 0 and best.is_last():
                break
            total: Any = 0.0
            for order in _batches(n, batch_size, rng):
                chosen = None if order is None else to_tensor(order)
                batch = whole or _Normalized(inputs[chosen], keep)
                target = targets if whole else targets[chosen]
                moments += _BATCH_NORM_MOMENTUM * (batch.moments - moments)
                total = total + gradients(parameters, batch.values, target, gradient)
                step(gradient.div_(len(target)))
            best.take(total / n)
        return _folded(best, d)


class _Best:
    """Early stopping: the best epoch so far, and whether training is over. Its numbers lie where the losses do.

    Attributes
    ----------
    tensors : list of torch.Tensor
        Copies of what was trained, as they were after the best epoch.
    loss, n_epochs : float, int
        The loss of the best epoch, and the epochs until training stopped; later ones change nothing.
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


def _folded(best: _Best, d: int) -> TrainedHead:
    """The parameters of the best epoch as one affine map."""
    parameters, moments = (tensor.cpu() for tensor in best.tensors)
    weight, bias = (part.double().numpy() for part in _weight_and_bias(parameters, d))
    mean, variance = moments.numpy()
    folded = weight / np.sqrt(variance + _BATCH_NORM_EPS)
    return TrainedHead(
        folded.astype(np.float32),
        (bias - folded @ mean).astype(np.float32),
        mean.astype(np.float32),
        int(best.n_epochs),
        float(best.loss),
    )


def _choice(condition: Any, a: Any, b: Any) -> Any:
    """`a` where the condition holds, a truth value or a tensor of one, and else `b`."""
    import torch

    return torch.where(condition, a, b) if isinstance(condition, torch.Tensor) else a if condition else b


class _Normalized:
    """A batch after batch normalisation.

    Attributes
    ----------
    values : torch.Tensor, shape (n, D), float32
        Divided by the share that dropout keeps.
    moments : torch.Tensor, shape (2, D), float64
        Mean and unbiased variance of the batch, for the running ones.
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
    """The summed loss of a batch under dropout and its gradient on the host, the pieces of the batch on threads."""

    CHECK_EVERY = 1
    """Epochs between two checks for early stopping."""

    def __init__(
        self, keep: float, streams: Sequence[np.random.Generator], parameters: Any, map_pieces: Callable[..., Any]
    ) -> None:
        self._keep, self._streams, self._map = round(keep * DROPOUT_STEPS), streams, map_pieces
        self._of_pieces = parameters.new_empty(len(streams), len(parameters))

    def __call__(self, parameters: Any, values: Any, target: Any, gradient: Any) -> float:
        import torch

        n_pieces = _piece_count(len(values))

        def piece_loss(piece: tuple[Any, ...]) -> float:
            values, target, gradient, rng = piece
            with torch.inference_mode():  # of this thread
                dropped = torch.empty_like(values)
                np.multiply(values.numpy(), random_bits(rng, values.shape) < self._keep, out=dropped.numpy())
                return float(_loss(parameters, dropped, target, gradient))

        split = values.tensor_split(n_pieces), target.tensor_split(n_pieces)
        total = sum(self._map(piece_loss, zip(*split, self._of_pieces, self._streams, strict=False)))
        torch.sum(self._of_pieces[:n_pieces], dim=0, out=gradient)
        return float(total)


class _DeviceGradients:
    """The same on a device: the batch as a whole, with the random streams of its pieces."""

    CHECK_EVERY = 16  # a check waits for the device, while an epoch too many costs some milliseconds

    def __init__(self, keep: float, streams: Sequence[np.random.Generator], device: DeviceTraining) -> None:
        self._keep, self._streams, self._device = round(keep * DROPOUT_STEPS), streams, device

    def __call__(self, parameters: Any, values: Any, target: Any, gradient: Any) -> Any:
        dropped = self._device.dropout(values, self._keep, self._streams[: _piece_count(len(values))])
        return _loss(parameters, dropped, target, gradient).double()


def _loss(parameters: Any, dropped: Any, target: Any, gradient: Any) -> Any:
    """The summed loss of rows after dropout; its gradient is written into `gradient`.

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
    """`map` over pieces, on the package's threads."""
    import torch

    n_threads = min(thread_count(), n_pieces)
    if n_threads == 1:
        yield map
        return
    with ThreadPoolExecutor(n_threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        yield pool.map


def random_bits(rng: np.random.Generator, shape: tuple[int, ...]) -> npt.NDArray[np.uint16]:
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
