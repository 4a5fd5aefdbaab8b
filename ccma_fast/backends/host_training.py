"""The interface of a linear head's training on the host."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

__all__ = ["HostTraining", "Normalization"]


class Normalization(NamedTuple):
    """What is done to a batch before the linear layer."""

    epsilon: float
    """Added to the variances of its columns."""
    momentum: float
    """Share of its moments in the running ones."""
    kept: float
    """Share of the values that dropout leaves, by which they are divided."""
    below: int
    """The values whose random bits are below it stay, see :mod:`ccma_fast.backends.dropout_streams`."""


class HostTraining(Protocol):
    """A linear layer on rows under batch normalisation and dropout, and the state of AdamW."""

    def step(
        self,
        chosen: npt.NDArray[np.int64] | None,
        streams: npt.NDArray[np.uint64],
        rate: float,
        spread: float,
        decay: float,
    ) -> float:
        """One step by the mean cross-entropy of a batch; returns the sum of it before the step, in nats.

        Parameters
        ----------
        chosen : ndarray, shape (n,), int64
            The rows of the batch, at least two; None for all, in every step.
        streams : ndarray, shape (P, 4), uint64
            What dropout draws, see :func:`ccma_fast.backends.dropout_streams.stream_states`.
        rate, spread : float
            Factors of the gradient's first moment and of the root of its second.
        decay : float
            Share of the parameters that the step takes away.
        """
        ...

    def keep(self) -> None:
        """Remember the parameters, and the running moments of the columns, as they are."""
        ...

    def kept(self) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float64]]:
        """What was remembered, or what it began with.

        Returns
        -------
        parameters : ndarray, shape (C · D + C,), float32
            Weights (C, D), then intercepts.
        moments : ndarray, shape (2, D), float64
            Running means and variances.
        """
        ...
