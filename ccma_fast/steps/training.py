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
from ..backends.device_training import DeviceTraining
from ..backends.protocol import Backend, on_device
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

# torch.optim.AdamW's own.
_FIRST_DECAY, _SECOND_DECAY = 0.9, 0.999

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
    batches = _batches(n, batch_size)
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
        head = _Head(to_tensor(start), d, min_gain, patience)
        drawn = _Drawn(batches, streams, rng)
        data = _Data(inputs, to_tensor(labels), len(batches), 1.0 - dropout)
        constants = learning_rate, weight_decay
        epochs: _HostEpochs | _DeviceEpochs
        if device is None:
            epochs = _HostEpochs(head, data, drawn, *constants, map_pieces)
        else:
            epochs = _DeviceEpochs(head, data, drawn, *constants, max_epochs, device)
        for epoch in range(max_epochs):
            if epoch and epoch % epochs.CHECK_EVERY == 0 and head.best.is_last():
                break
            epochs.run(epoch)
        return _folded(head.best, d)


class _Drawn(NamedTuple):
    """What a training draws, and the batches for which it does."""

    batches: list[slice]
    """Of an epoch, in its order of the rows."""
    streams: list[np.random.Generator]
    """Of dropout, one for each piece of a batch."""
    rng: np.random.Generator
    """Of the order."""

    def order(self) -> Int64 | None:
        """The rows in the order of an epoch, None where they are one batch."""
        return self.rng.permutation(self.batches[-1].stop) if len(self.batches) > 1 else None


class _Head:
    """What is trained, where it lies."""

    def __init__(self, start: Any, d: int, min_gain: float, patience: int) -> None:
        import torch

        self.parameters, self.gradient = start, torch.empty_like(start)
        self.moments = torch.zeros((2, d), dtype=torch.float64, device=start.device)  # running mean and variance
        self.moments[1] = 1.0
        self.best = _Best((self.parameters, self.moments), min_gain, patience)


class _Data:
    """The rows and their classes, of which each batch is normalised."""

    def __init__(self, inputs: Any, targets: Any, n_batches: int, keep: float) -> None:
        self.n_rows, self.keep = len(inputs), keep
        self._inputs, self._targets = inputs, targets
        self._whole = _Normalized(inputs, keep) if n_batches == 1 else None

    def batch(self, chosen: Any, moments: Any) -> tuple[Any, Any]:
        """Values and classes of some rows, None for all; the running `moments` take theirs in."""
        batch = self._whole or _Normalized(self._inputs[chosen], self.keep)
        moments += _BATCH_NORM_MOMENTUM * (batch.moments - moments)
        return batch.values, self._targets if self._whole else self._targets[chosen]


class _Best:
    """Early stopping: the best epoch so far, and whether training is over; all of it where the parameters lie.

    Attributes
    ----------
    tensors : list of torch.Tensor
        Copies of what was trained, as they were after the best epoch.
    loss, n_epochs : torch.Tensor
        The loss of the best epoch, and the epochs until training stopped; later ones change nothing.
    """

    def __init__(self, trained: Sequence[Any], min_gain: float, patience: int) -> None:
        import torch

        self._trained, self._min_gain, self._patience = trained, min_gain, patience
        self.tensors = [tensor.clone() for tensor in trained]
        self.loss = torch.full((), math.inf, dtype=torch.float64, device=trained[0].device)
        self.n_epochs = torch.zeros((), dtype=torch.int64, device=self.loss.device)
        self._stale = torch.zeros_like(self.n_epochs)

    def is_last(self) -> bool:
        """Whether training has stopped; waits for the device."""
        return bool(self._stale >= self._patience)

    def take(self, loss: Any) -> None:
        """Account for an epoch of this mean loss, a tensor; in place."""
        import torch

        runs = self._stale < self._patience
        gains = runs & (loss < self.loss - self._min_gain)
        is_best = gains | (self.n_epochs == 0)
        for best, trained in zip([*self.tensors, self.loss], [*self._trained, loss], strict=True):
            torch.where(is_best, trained, best, out=best)
        self.n_epochs += runs
        self._stale += 1
        self._stale.masked_fill_(gains, 0)


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


class _HostEpochs:
    """Epochs on the host, the pieces of a batch on threads: each has a gradient of its own, and they are added up."""

    CHECK_EVERY = 1
    """Epochs between two checks for early stopping."""

    def __init__(
        self,
        head: _Head,
        data: _Data,
        drawn: _Drawn,
        learning_rate: float,
        weight_decay: float,
        map_pieces: Callable[..., Any],
    ) -> None:
        self._head, self._data, self._drawn, self._map = head, data, drawn, map_pieces
        self._keep = round(data.keep * DROPOUT_STEPS)
        self._of_pieces = head.parameters.new_empty(len(drawn.streams), len(head.parameters))
        self._step = _AdamW(head.parameters, learning_rate, weight_decay)

    def run(self, epoch: int) -> None:
        """One epoch."""
        import torch

        head, order, total = self._head, self._drawn.order(), 0.0
        for part in self._drawn.batches:
            chosen = None if order is None else torch.from_numpy(order[part])
            values, target = self._data.batch(chosen, head.moments)
            total += self._loss(values, target)
            self._step(head.gradient.div_(len(target)))
        head.best.take(torch.tensor(total / self._data.n_rows, dtype=torch.float64))

    def _loss(self, values: Any, target: Any) -> float:
        """The summed loss under dropout; its gradient becomes the head's."""
        import torch

        n_pieces, parameters = _piece_count(len(values)), self._head.parameters

        def piece_loss(piece: tuple[Any, ...]) -> float:
            values, target, gradient, rng = piece
            with torch.inference_mode():  # of this thread
                dropped = torch.empty_like(values)
                np.multiply(values.numpy(), random_bits(rng, values.shape) < self._keep, out=dropped.numpy())
                return float(_loss(parameters, dropped, target, gradient))

        split = values.tensor_split(n_pieces), target.tensor_split(n_pieces)
        total = math.fsum(self._map(piece_loss, zip(*split, self._of_pieces, self._drawn.streams, strict=False)))
        torch.sum(self._of_pieces[:n_pieces], dim=0, out=self._head.gradient)
        return total


class _DeviceEpochs:
    """The same epochs on a device, a batch as a whole, with the random streams of its pieces.

    All that an epoch takes from the host, it reads from one tensor: the order of its rows, the states of its streams
    and the factors of its steps. So it may be recorded once and launched again; the numbers of several epochs are
    copied to the device together.
    """

    CHECK_EVERY = 16  # a check waits for the device, while an epoch too many costs a tenth of a millisecond

    def __init__(
        self,
        head: _Head,
        data: _Data,
        drawn: _Drawn,
        learning_rate: float,
        weight_decay: float,
        max_epochs: int,
        device: DeviceTraining,
    ) -> None:
        import torch

        self._head, self._data, self._drawn, self._device = head, data, drawn, device
        self._learning_rate, self._decay, self._max_epochs = learning_rate, learning_rate * weight_decay, max_epochs
        self._keep = round(data.keep * DROPOUT_STEPS)
        self._first, self._second = torch.zeros_like(head.parameters), torch.zeros_like(head.parameters)
        self._n_steps = 0
        self._ahead: Any = None  # what the next epochs take, a row each
        self._now: Any = None  # and this one
        self._repeat: Callable[[], None] = self._epoch

    def run(self, epoch: int) -> None:
        """One epoch; nothing waits for it."""
        if epoch % self.CHECK_EVERY == 0:
            n_ahead = min(self.CHECK_EVERY, self._max_epochs - epoch)
            self._ahead = self._device.tensor(np.stack([self._numbers() for _ in range(n_ahead)]))
        if self._now is None:
            self._now = self._ahead[0].clone()
        else:
            self._now.copy_(self._ahead[epoch % self.CHECK_EVERY])
        if epoch == 1:  # the first one compiled the kernels
            self._repeat = self._device.repeated(self._epoch)
        self._repeat()

    def _numbers(self) -> Int64:
        """What the next epoch takes from the host, as words."""
        order = self._drawn.order()
        words = [] if order is None else [order]
        d = self._head.moments.shape[1]
        for part in self._drawn.batches:
            n = part.stop - part.start
            self._n_steps += 1
            words.append(self._device.stream_states(n, d, self._drawn.streams[: _piece_count(n)]).ravel())
            words.append(np.array(_step_factors(self._learning_rate, self._n_steps)).view(np.int64))
        return np.concatenate(words)

    def _epoch(self) -> None:
        """An epoch of tensors that stay where they are: it takes nothing else from the host, and tells it nothing."""
        import torch

        head, batches, now = self._head, self._drawn.batches, self._now
        n, at = self._data.n_rows, 0 if len(batches) == 1 else self._data.n_rows
        total: Any = 0.0
        for part in batches:
            values, target = self._data.batch(None if len(batches) == 1 else now[:n][part], head.moments)
            end = at + 4 * _piece_count(len(target))
            dropped = self._device.dropout(values, self._keep, now[at:end].view(-1, 4))
            weight, bias = _weight_and_bias(head.parameters, dropped.shape[1])
            weight_gradient, bias_gradient = _weight_and_bias(head.gradient, dropped.shape[1])
            residual = torch.addmm(bias, dropped, weight.T)
            total = total + self._device.cross_entropy(residual, target).sum(dtype=torch.float64)
            torch.mm(residual.T, dropped, out=weight_gradient)
            torch.sum(residual, dim=0, out=bias_gradient)
            at = end + 2
            factors = now[end:at].view(torch.float64)
            moments = self._first, self._second
            self._device.adamw(head.parameters, head.gradient, *moments, factors, len(target), self._decay)
        head.best.take(total / n)


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
        self._parameters.mul_(1.0 - self._learning_rate * self._weight_decay)
        self._first.lerp_(gradient, 1.0 - _FIRST_DECAY)
        self._second.mul_(_SECOND_DECAY).addcmul_(gradient, gradient, value=1.0 - _SECOND_DECAY)
        step, of_spread = _step_factors(self._learning_rate, self._steps)
        spread = self._second.sqrt().mul_(of_spread).add_(1e-8)
        self._parameters.addcdiv_(self._first, spread, value=-step)


def _step_factors(learning_rate: float, n_steps: int) -> tuple[float, float]:
    """What AdamW's step multiplies the first moment by, and the root of the second: both start at zero."""
    return learning_rate / (1.0 - _FIRST_DECAY**n_steps), float((1.0 - _SECOND_DECAY**n_steps) ** -0.5)


@contextmanager
def _one_torch_thread() -> Iterator[None]:
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _batches(n: int, batch_size: int) -> list[slice]:
    """The batches of an epoch of n rows. A lone last row, which has no variance, joins the rest."""
    batch_size = max(2, batch_size)
    starts = list(range(0, max(1, n - 1), batch_size)) if n > batch_size else [0]
    return [slice(start, stop) for start, stop in zip(starts, [*starts[1:], n], strict=True)]
