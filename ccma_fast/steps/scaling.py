"""Features as a regression with one penalty for all columns takes them."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..checks import LEAST_LENGTH

__all__ = ["INTERCEPT", "Scaling"]

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]

INTERCEPT = 0.3
"""Value of the constant column. Its coefficient is penalised like the others, or the logit of a class without labels
would fall without end and a label of it, once it comes, would cost all likelihood."""


class Scaling(NamedTuple):
    """The map of features to what a regression is fitted on: centred, of mean squared length 1, with a constant."""

    mean: Float64
    """Shape (D,)."""
    scale: float

    @classmethod
    def of(cls, x: Float32, weights: Float64 | None = None) -> Scaling:
        """Of rows (n, D), n > 0: their mean, and the root of the mean squared distance from it (1 where that is 0).

        `weights` (n,) say how often each row counts; where all are 0 they are alike.
        """
        if weights is not None and not weights.any():
            weights = None
        mean = np.average(x.astype(np.float64), axis=0, weights=weights)
        scale = math.sqrt(float(np.average(np.square(x - mean).sum(axis=1), weights=weights)))
        return cls(mean, scale if scale > LEAST_LENGTH else 1.0)

    def __call__(self, x: Float32) -> Float32:
        """Shape (n, D + 1), float32."""
        scaled = np.full((len(x), x.shape[1] + 1), INTERCEPT, np.float32)
        scaled[:, :-1] = (x - self.mean) / self.scale
        return scaled

    def of_raw(self, coef: Float32) -> tuple[Float32, Float32]:
        """Coefficients (C, D) and intercept (C,) for features as they are."""
        raw = coef[:, :-1] / self.scale
        # A sum over columns in NumPy's own order: a product's would depend on threads.
        intercept = INTERCEPT * coef[:, -1].astype(np.float64) - (raw * self.mean).sum(axis=1)
        return raw.astype(np.float32), intercept.astype(np.float32)
