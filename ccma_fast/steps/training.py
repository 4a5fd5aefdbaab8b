"""The training of a linear head: batch normalisation, dropout, AdamW and early stopping, on the host or a device.

A batch is cut into pieces of at most 1024 rows, each with a stream of random numbers of its own. A device that draws
from the same streams drops the same inputs, so that only its sums round differently.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt

from .. import reference
from ..backends.choose import host_backend
from ..backends.dropout_streams import DROPOUT_STEPS
from ..backends.host_training import Normalization
from ..backends.protocol import Backend, HostBackend, on_device
from ..pool.checked import check_rows
from ..pool.rows import Rows
from .training_draws import BATCH_NORM_EPS, BATCH_NORM_MOMENTUM, Draws, Recipe, step_factors
from .training_on_device import train_on_device

__all__ = ["TrainedHead", "train_head"]

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]


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
    rows: Rows, labels: Int64, backend: Backend | None, *, n_classes: int, random_state: Any, **constants: Any
) -> TrainedHead:
    """Train on rows (n, D) and their classes (n,), on the device of a backend that has one, else on the host.

    The constants are those of :class:`ccma_fast.LinearHead`. A generator in `random_state` is left as it is.

    Raises
    ------
    ValueError
        NaN or infinity in a row, which is named.
    """
    recipe = Recipe(**constants)
    draws = Draws(rows.n_rows, rows.n_columns, n_classes, recipe.batch_size, random_state)
    if backend is None:
        backend = host_backend()
    on = on_device(backend)
    if on is None:
        best = _train_on_host(rows, labels, draws, recipe, cast(HostBackend, backend))
    else:
        best = train_on_device(rows, labels, draws, recipe, on.training())
    return _folded(*best)


def _train_on_host(
    rows: Rows, labels: Int64, draws: Draws, recipe: Recipe, backend: HostBackend
) -> tuple[Float32, Float64, int, float]:
    """As :func:`train_on_device`."""
    x = np.ascontiguousarray(rows.float32())
    with np.errstate(invalid="ignore"):  # infinities of both signs
        is_finite = np.isfinite(x.sum(dtype=np.float64))  # no sum of finite float32 values overflows
    if not is_finite:
        check_rows(rows, reference.row_lengths)
    kept = 1.0 - recipe.dropout
    normalization = Normalization(BATCH_NORM_EPS, BATCH_NORM_MOMENTUM, kept, round(kept * DROPOUT_STEPS))
    training = backend.head_training(x, np.ascontiguousarray(labels), draws.start, normalization)
    decay = recipe.learning_rate * recipe.weight_decay
    best, stale, n_epochs, n_steps = math.inf, 0, 0, 0
    while n_epochs < recipe.max_epochs and stale < recipe.patience:
        order, total = draws.order(), 0.0
        for batch in draws.batches:
            n_steps += 1
            chosen = None if order is None else order[batch]
            factors = step_factors(recipe.learning_rate, n_steps)
            total += training.step(chosen, draws.states(batch), *factors, decay)
        loss = total / rows.n_rows
        gains = loss < best - recipe.min_gain
        if gains or n_epochs == 0:
            training.keep()
            best = loss
        stale = 0 if gains else stale + 1
        n_epochs += 1
    return *training.kept(), n_epochs, best


def _folded(parameters: Float32, moments: Float64, n_epochs: int, loss: float) -> TrainedHead:
    """Parameters after an epoch, and running moments, as one affine map."""
    mean, variance = moments
    weight, bias = np.split(parameters.astype(np.float64), [-(parameters.size // (mean.size + 1))])
    folded = weight.reshape(bias.size, mean.size) / np.sqrt(variance + BATCH_NORM_EPS)
    return TrainedHead(
        folded.astype(np.float32),
        (bias - folded @ mean).astype(np.float32),
        mean.astype(np.float32),
        n_epochs,
        loss,
    )
