"""What the training of a linear head draws, wherever it is done."""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..backends.dropout_streams import stream_states
from ..checks import random_generator

__all__ = ["BATCH_NORM_EPS", "BATCH_NORM_MOMENTUM", "Draws", "Recipe", "piece_count", "step_factors"]

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]
UInt64 = npt.NDArray[np.uint64]

# torch.nn.BatchNorm1d's own.
BATCH_NORM_EPS = 1e-5
BATCH_NORM_MOMENTUM = 0.1

# torch.optim.AdamW's own.
_FIRST_DECAY, _SECOND_DECAY = 0.9, 0.999

# Most rows of a piece of a batch, for which dropout has a generator.
_PIECE_ROWS = 1024


class Recipe(NamedTuple):
    """The constants of a training, those of :class:`ccma_fast.LinearHead`."""

    dropout: float
    learning_rate: float
    weight_decay: float
    max_epochs: int
    batch_size: int
    patience: int
    min_gain: float


class Draws:
    """The first parameters, the order of the rows in each epoch, and dropout; a generator given is left as it is.

    Attributes
    ----------
    batches : list of slice
        Of an epoch, in its order of the rows.
    start : ndarray, shape (C · D + C,), float32
        The first weights (C, D), then intercepts.
    """

    def __init__(self, n_rows: int, n_columns: int, n_classes: int, batch_size: int, random_state: Any) -> None:
        self._n_rows, self._n_columns = n_rows, n_columns
        self._rng = random_generator(copy.deepcopy(random_state))
        self.batches = _batches(n_rows, batch_size)
        most_pieces = piece_count(min(n_rows, max(2, batch_size) + 1))
        self._streams = [np.random.default_rng(seed) for seed in self._rng.integers(2**63, size=most_pieces)]
        bound = n_columns**-0.5  # torch.nn.Linear's own
        self.start: Float32 = self._rng.uniform(-bound, bound, n_classes * (n_columns + 1)).astype(np.float32)

    def order(self) -> Int64 | None:
        """The rows in the order of the next epoch, None where they are one batch."""
        return self._rng.permutation(self._n_rows) if len(self.batches) > 1 else None

    def states(self, batch: slice) -> UInt64:
        """What dropout takes for the next step, see :func:`ccma_fast.backends.dropout_streams.stream_states`."""
        n = batch.stop - batch.start
        return stream_states(n, self._n_columns, self._streams[: piece_count(n)])


def step_factors(learning_rate: float, n_steps: int) -> tuple[float, float]:
    """What AdamW's step multiplies the first moment by, and the root of the second: both start at zero."""
    return learning_rate / (1.0 - _FIRST_DECAY**n_steps), float((1.0 - _SECOND_DECAY**n_steps) ** -0.5)


def piece_count(n: int) -> int:
    return -(-n // _PIECE_ROWS)


def _batches(n: int, batch_size: int) -> list[slice]:
    """The batches of an epoch of n rows. A lone last row, which has no variance, joins the rest."""
    batch_size = max(2, batch_size)
    starts = list(range(0, max(1, n - 1), batch_size)) if n > batch_size else [0]
    return [slice(start, stop) for start, stop in zip(starts, [*starts[1:], n], strict=True)]
