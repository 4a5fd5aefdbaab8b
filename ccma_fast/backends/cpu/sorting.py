"""The largest scores."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ... import _core

__all__ = ["top_m"]

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]


def top_m(scores: Float32, m: int) -> Int64:
    """Positions of the m largest scores, largest first; ties go to the lower index."""
    positions: Int64 = _core.top_m(np.ascontiguousarray(scores, np.float32), m)
    return positions
