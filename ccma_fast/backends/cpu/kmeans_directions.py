"""Directions along which the search for the nearest centroid compares first.

How the search finds the nearest centroid without computing most distances is in ``csrc/include/ccma/nearest.hpp``.
Which directions, and how many, changes the time and nothing else.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ... import _core

__all__ = ["Directions", "Sketched", "find_directions"]

Float32 = npt.NDArray[np.float32]
Sketched = tuple[npt.NDArray[np.int8], Float32]

# Rows, spread evenly over the sample, on which a number of directions is tried, each with so many centroids.
_PROBES = 64
_PROBED_CENTROIDS = 1024

# Directions at most; a prefix of them is looked at, in steps of what the kernels pad rows to.
_WIDTH = 192
_WIDTH_STEP = 32

# Times that the space of the directions is turned towards the leading one.
_POWER_STEPS = 2

# Multiply-adds of all assignments from which on finding the directions pays, and centroids that each row must meet.
_LEAST_PRODUCTS = 2e10
_LEAST_CENTROIDS = 512


def find_directions(sample: Float32, origin: Float32, n_rows: int, n_centroids: float) -> Directions | None:
    """Directions, found from a sample of the rows, or None where comparing along them would not pay.

    Parameters
    ----------
    sample : ndarray, shape (m, D), float32
    origin : ndarray, shape (D,), float32
        What rows and centroids are compared from.
    n_rows : int
        Rows of the clustering.
    n_centroids : float
        Centroids that each row meets in all assignments.
    """
    n_dimensions = sample.shape[1]
    width = min(_WIDTH, n_dimensions // 3 // _WIDTH_STEP * _WIDTH_STEP)
    few = n_centroids < _LEAST_CENTROIDS or n_rows * n_dimensions * n_centroids < _LEAST_PRODUCTS
    if width == 0 or few or not np.ptp(sample, axis=0).any():
        return None
    return Directions(sample, origin, width)


class Directions:
    """The directions that a clustering compares along, and the rows on which their number is chosen."""

    def __init__(self, sample: Float32, origin: Float32, width: int) -> None:
        self.matrix = _leading_directions(sample - origin, width)
        self.core = _core.Sketch(self.matrix, origin)
        self._origin = origin
        self._settled = 0
        self._panels = _core.Panels(self.matrix)
        self._probes = _spread(sample, _PROBES) - origin
        self._costs = _Costs.of_machine()

    def width(self, centroids: Float32, *, hinted: bool) -> int:
        """Number of directions that minimises the cost of the centroid search; 0 where that is all dimensions.

        With hints some directions are found once: centroids that settle let ever fewer others survive.
        """
        if not hinted:
            return self._cheapest(centroids, hinted=False)
        if self._settled == 0:
            self._settled = self._cheapest(centroids, hinted=True)
        return self._settled

    def _cheapest(self, centroids: Float32, *, hinted: bool) -> int:
        # By the core's products: NumPy's threads spin for a while after each and take the cores away.
        x, c, costs = self._probes, centroids - self._origin, self._costs
        n_centroids, n_dimensions = c.shape
        best = (_core.Panels(x).multiply(c) - 0.5 * _squares(c)[:, None]).max(axis=0)
        c = _spread(c, _PROBED_CENTROIDS)
        x_along, c_along = self._panels.multiply(x), self._panels.multiply(c)
        x_left, c_left = _squares(x), _squares(c)
        scores = np.repeat(-0.5 * c_left[:, None], len(x), axis=1)
        survivors = {}
        for w in range(_WIDTH_STEP, len(self.matrix) + 1, _WIDTH_STEP):
            x_w, c_w = (np.ascontiguousarray(along[:, w - _WIDTH_STEP : w]) for along in (x_along, c_along))
            scores += _core.Panels(x_w).multiply(c_w)
            x_left, c_left = x_left - _squares(x_w), c_left - _squares(c_w)
            bounds = scores + np.sqrt(np.maximum(c_left, 0.0))[:, None] * np.sqrt(np.maximum(x_left, 0.0))
            survivors[w] = float((bounds >= best).mean()) * n_centroids
        # Without a hint the bound to reach is not the best distance from the start.
        tried = survivors[len(self.matrix)] * (1.0 if hinted else 2.0)
        cost_of = {
            w: n_centroids * (costs.product * w / 16 + costs.bound)
            + n * costs.survivor
            + tried * costs.distance * n_dimensions / 16
            for w, n in survivors.items()
        }
        cost_of[0] = n_centroids * (costs.product * n_dimensions / 16 + costs.bound)
        return min(cost_of, key=cost_of.__getitem__)


class _Costs(NamedTuple):
    """Cycles of one core that the parts of a search take, measured on server processors: only their ratios count."""

    product: float  # sixteen dimensions of a row with a centroid
    bound: float  # looking at one bound
    survivor: float  # a centroid that the first directions do not rule out
    distance: float  # sixteen dimensions of a distance

    @classmethod
    def of_machine(cls) -> _Costs:
        return cls(0.16 if _core.simd_level() == "avx512_vnni" else 1.1, bound=1.0, survivor=180.0, distance=8.0)


def _leading_directions(x: Float32, width: int) -> Float32:
    """Orthonormal rows, shape (width, D), that hold most of the variance of centred rows x, most telling first."""
    # Halko, Martinsson and Tropp 2011 (arXiv 0909.4061): a random subspace, turned towards the leading one.
    x = x / np.abs(x).max()
    space = np.random.default_rng(0).standard_normal((x.shape[1], width), dtype=np.float32)
    for _ in range(_POWER_STEPS):
        space = x.T @ (x @ space)
        space /= np.abs(space).max()
    space, _ = np.linalg.qr(space)
    along = x @ space
    _, turn = np.linalg.eigh(along.T @ along)
    return np.ascontiguousarray((space @ turn[:, ::-1]).T)


def _squares(x: Float32) -> Float32:
    squares: Float32 = np.einsum("ij,ij->i", x, x)
    return squares


def _spread(x: Float32, n: int) -> Float32:
    """At most n rows, spread evenly."""
    n = min(n, len(x))
    return x[(np.arange(n) * len(x)) // n]
