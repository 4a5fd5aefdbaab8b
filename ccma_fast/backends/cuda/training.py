"""The training of a student on the device, see :class:`ccma_fast.backends.protocol.DeviceTraining`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ...kernels import adamw, cross_entropy, dropout
from ...pool.rows import Rows
from .device import device
from .graphs import repeated
from .reader import Reader
from .transfers import Uploads

__all__ = ["Training", "training"]

Int64 = npt.NDArray[np.int64]

_WORD = (1 << 64) - 1


class Training:
    """Arrays on the device and dropout there, see :class:`ccma_fast.backends.protocol.DeviceTraining`."""

    def __init__(self) -> None:
        self.device = device()
        self._upload = Uploads(self.device)
        self._n_draws, self._jumps = 1, dropout.jumps(1, self.device)

    @contextmanager
    def full_precision(self) -> Iterator[None]:
        """Products of float32 without TF32, whatever the caller lets PyTorch do."""
        matmul: Any = torch.backends.cuda.matmul
        # Asking by the older name raises where the newer one was set; setting by the older one sets both.
        is_tf32 = matmul.fp32_precision == "tf32" if hasattr(matmul, "fp32_precision") else matmul.allow_tf32
        if is_tf32:
            matmul.allow_tf32 = False
        try:
            yield
        finally:
            if is_tf32:
                matmul.allow_tf32 = True

    def rows(self, rows: Rows) -> torch.Tensor:
        """All rows, shape (n, D), float32."""
        return Reader().float32(rows)

    def tensor(self, array: npt.NDArray[np.float32] | npt.NDArray[np.int64]) -> torch.Tensor:
        """An array on the device, copied without synchronisation."""
        return self._upload(array)

    def stream_states(self, n_rows: int, n_columns: int, streams: Sequence[np.random.Generator]) -> Int64:
        """What :meth:`dropout` of so many values takes from the generators, which are advanced."""
        states = np.empty((len(streams), 4), np.uint64)
        for i, stream in enumerate(streams):
            bits = stream.bit_generator
            assert isinstance(bits, np.random.PCG64), "numpy.random.default_rng makes these"
            of = bits.state["state"]
            states[i] = [of["state"] >> 64, of["state"] & _WORD, of["inc"] >> 64, of["inc"] & _WORD]
            bits.advance(_draws(n_rows // len(streams) + (i < n_rows % len(streams)), n_columns))
        return states.view(np.int64)

    def dropout(self, values: torch.Tensor, keep: int, states: torch.Tensor) -> torch.Tensor:
        """`values` with dropout of keep probability `keep` / 2¹⁶, see :class:`DeviceTraining`."""
        n_draws = _draws(-(-len(values) // len(states)), values.shape[1])
        if n_draws > self._n_draws:
            self._n_draws, self._jumps = n_draws, dropout.jumps(n_draws, self.device)
        dropped: torch.Tensor = dropout.dropout(values, states, keep, self._jumps)
        return dropped

    def cross_entropy(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """The loss of each row, and its gradient in the place of the logits."""
        losses: torch.Tensor = cross_entropy.cross_entropy(logits, targets)
        return losses

    def adamw(self, *arguments: Any) -> None:
        """A step of AdamW, see :class:`DeviceTraining`."""
        adamw.adamw(*arguments)

    def repeated(self, work: Callable[[], None]) -> Callable[[], None]:
        """What does the same with one launch, see :func:`ccma_fast.backends.cuda.graphs.repeated`."""
        return repeated(work, self.device)


def _draws(n_rows: int, n_columns: int) -> int:
    """Number of 64-bit draws for `n_rows` rows."""
    return -(-n_rows * n_columns // 4)


def training() -> Training:
    """A training's own arrays and tables."""
    return Training()
