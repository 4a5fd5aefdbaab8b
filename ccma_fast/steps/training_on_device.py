"""The training of a linear head on a device."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import reference
from ..backends.device_training import DeviceTraining
from ..backends.dropout_streams import DROPOUT_STEPS
from ..pool.checked import check_rows
from ..pool.rows import Rows
from .training_draws import BATCH_NORM_EPS, BATCH_NORM_MOMENTUM, Draws, Recipe, piece_count, step_factors

__all__ = ["train_on_device"]

Int64 = npt.NDArray[np.int64]
Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]


def train_on_device(
    rows: Rows, labels: Int64, draws: Draws, recipe: Recipe, device: DeviceTraining
) -> tuple[Float32, Float64, int, float]:
    """Parameters and running moments of the best epoch, the epochs until training stopped, and the best loss."""
    import torch

    with torch.inference_mode(), device.full_precision():
        inputs = device.rows(rows)
        if not torch.isfinite(inputs.sum(dtype=torch.float64)):  # no sum of finite float32 values overflows
            check_rows(rows, reference.row_lengths)
        head = _Head(device.tensor(draws.start), rows.n_columns, recipe.min_gain, recipe.patience)
        data = _Data(inputs, device.tensor(labels), len(draws.batches), 1.0 - recipe.dropout)
        epochs = _Epochs(head, data, draws, recipe, device)
        for epoch in range(recipe.max_epochs):
            if epoch and epoch % epochs.CHECK_EVERY == 0 and head.best.is_last():
                break
            epochs.run(epoch)
        parameters, moments = (tensor.cpu().numpy() for tensor in head.best.tensors)
        return parameters, moments, int(head.best.n_epochs), float(head.best.loss)


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
        moments += BATCH_NORM_MOMENTUM * (batch.moments - moments)
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
        self.values = values.mul_(1.0 / (torch.sqrt(variance + BATCH_NORM_EPS) * keep)).float()
        self.moments = torch.stack([mean, variance * (n / (n - 1))])


class _Epochs:
    """Epochs, a batch as a whole, with the random streams of its pieces.

    All that an epoch takes from the host, it reads from one tensor: the order of its rows, the states of its streams
    and the factors of its steps. So it may be recorded once and launched again; the numbers of several epochs are
    copied to the device together.
    """

    CHECK_EVERY = 16  # a check waits for the device, while an epoch too many costs a tenth of a millisecond

    def __init__(
        self,
        head: _Head,
        data: _Data,
        draws: Draws,
        recipe: Recipe,
        device: DeviceTraining,
    ) -> None:
        import torch

        self._head, self._data, self._draws, self._device = head, data, draws, device
        self._learning_rate, self._max_epochs = recipe.learning_rate, recipe.max_epochs
        self._decay = recipe.learning_rate * recipe.weight_decay
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
        order = self._draws.order()
        words = [] if order is None else [order]
        for part in self._draws.batches:
            self._n_steps += 1
            words.append(self._draws.states(part).view(np.int64).ravel())
            words.append(np.array(step_factors(self._learning_rate, self._n_steps)).view(np.int64))
        return np.concatenate(words)

    def _epoch(self) -> None:
        """An epoch of tensors that stay where they are: it takes nothing else from the host, and tells it nothing."""
        import torch

        head, batches, now = self._head, self._draws.batches, self._now
        n, at = self._data.n_rows, 0 if len(batches) == 1 else self._data.n_rows
        total: Any = 0.0
        for part in batches:
            values, target = self._data.batch(None if len(batches) == 1 else now[:n][part], head.moments)
            end = at + 4 * piece_count(len(target))
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


def _weight_and_bias(parameters: Any, d: int) -> tuple[Any, Any]:
    """Views of the linear layer's (C · D + C,) parameters: (C, D) and (C,)."""
    n_classes = len(parameters) // (d + 1)
    return parameters[: n_classes * d].view(n_classes, d), parameters[n_classes * d :]
