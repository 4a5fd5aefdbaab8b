"""The training of a linear head by the core."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ... import _core
from ..host_training import HostTraining, Normalization

__all__ = ["head_training"]


def head_training(
    x: npt.NDArray[np.float32],
    labels: npt.NDArray[np.int64],
    start: npt.NDArray[np.float32],
    normalization: Normalization,
) -> HostTraining:
    """A training's own state, see :class:`ccma_fast.backends.protocol.HostBackend`."""
    return _core.HeadTraining(x, labels, start, **normalization._asdict())
