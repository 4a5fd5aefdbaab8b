"""The interface of a student's training on a device."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ..pool.rows import Rows

__all__ = ["DeviceTraining"]


class DeviceTraining(Protocol):
    """The student's training on a device; nothing here synchronises the host with the device."""

    def full_precision(self) -> AbstractContextManager[None]:
        """A context in which float32 products do not use TF32, whatever PyTorch's settings are."""
        ...

    def rows(self, rows: Rows) -> Any:
        """All rows, a tensor of shape (n, D), float32."""
        ...

    def tensor(self, array: npt.NDArray[np.float32] | npt.NDArray[np.int64]) -> Any:
        """An array on the device."""
        ...

    def dropout(self, values: Any, keep: int, states: Any) -> Any:
        """A copy of `values` (n, D) with dropout of keep probability `keep` / 2¹⁶, unscaled.

        An element is zeroed where its 16 random bits are not below `keep`. The bits are those that the generators of
        `states`, an int64 tensor, draw, see :mod:`ccma_fast.backends.dropout_streams`.
        """
        ...

    def cross_entropy(self, logits: Any, targets: Any) -> Any:
        """The loss of each row in nats, shape (n,); its gradient takes the place of the logits (n, C)."""
        ...

    def adamw(
        self, parameters: Any, gradient: Any, first: Any, second: Any, factors: Any, n_rows: int, decay: float
    ) -> None:
        """A step of AdamW in place, by the mean over `n_rows` of a summed gradient.

        Parameters
        ----------
        parameters, gradient, first, second : tensor, shape (n,), float32
        factors : tensor, shape (2,), float64
            Of the first moment, and of the root of the second.
        n_rows : int
        decay : float
            Share of the parameters that the step takes away.
        """
        ...

    def repeated(self, work: Callable[[], None]) -> Callable[[], None]:
        """What does the same as `work` when it is called, faster where the device can record what it launches.

        `work` has been called before, takes no number from the host or to it, and its tensors stay where they are.
        """
        ...
