"""The training of a student on the device, see :class:`ccma_fast.backends.protocol.DeviceTraining`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ...kernels import adamw, cross_entropy, dropout
from ...pool.rows import Rows
from ..dropout_streams import n_draws
from .device import device
from .graphs import repeated
from .reader import Reader
from .transfers import Uploads

__all__ = ["Training", "training"]


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

    def dropout(self, values: torch.Tensor, keep: int, states: torch.Tensor) -> torch.Tensor:
        """`values` with dropout of keep probability `keep` / 2¹⁶, see :class:`DeviceTraining`."""
        n = n_draws(-(-len(values) // len(states)) * values.shape[1])
        if n > self._n_draws:
            self._n_draws, self._jumps = n, dropout.jumps(n, self.device)
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


def training() -> Training:
    """A training's own arrays and tables."""
    return Training()
