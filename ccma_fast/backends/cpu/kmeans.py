"""Weighted k-means of the CPU backend.

What is computed is defined by :mod:`ccma_fast.reference`; how the nearest centroid is found without computing most
distances, by ``csrc/include/ccma/nearest.hpp``. Here it is decided along how many directions rows and centroids are
compared first, which changes the time and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ... import _core
from ...pool.array_like import check_weights
from ...pool.arrays import ArrayRows
from ...pool.checked import check_lengths
from ...pool.derived import RowSubset
from ...pool.rows import Chunk, Rows, to_float32
from ...reference import KMeans
from ..kmeans_start import initial_rows

__all__ = ["NAME", "ON_HOST", "row_lengths", "top_m", "weighted_kmeans"]

NAME = "cpu"
ON_HOST = True

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]
Sketched = tuple[npt.NDArray[np.int8], Float32]

# Rows, spread evenly, from which the origin and the directions are found, and those on which a choice is tried, each
# with so many centroids.
_SAMPLE = 2048
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

# What is kept of the rows along the directions, where it fits and nobody says how much may be; else they are projected
# anew in every pass.
_KEPT_BYTES = 1 << 30


def row_lengths(x: Chunk) -> Float64:
    """Euclidean length of each row of a chunk; not finite exactly where the row is not."""
    lengths: Float64 = _core.row_lengths(x)
    return lengths


def top_m(scores: Float32, m: int) -> Int64:
    """Positions of the m largest scores, largest first; ties go to the lower index."""
    positions: Int64 = _core.top_m(np.ascontiguousarray(scores, np.float32), m)
    return positions


# ---------------------------------------------------------------------------------------------------------------------
# Directions


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


class _Costs(NamedTuple):
    """Cycles of one core that the parts of a search take, measured on server processors: only their ratios count."""

    product: float  # sixteen dimensions of a row with a centroid
    bound: float  # looking at one bound
    survivor: float  # a centroid that the first directions do not rule out
    distance: float  # sixteen dimensions of a distance

    @classmethod
    def of_machine(cls) -> _Costs:
        return cls(0.16 if _core.simd_level() == "avx512_vnni" else 1.1, bound=1.0, survivor=180.0, distance=8.0)


class _Directions:
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
        """How many directions make a search among the centroids cheapest; 0 where that is all dimensions.

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


# ---------------------------------------------------------------------------------------------------------------------
# Rows


class _Totals:
    """Weighted sums of the rows of each cluster, in row order, in double."""

    def __init__(self, n_clusters: int, n_columns: int, weights: Float32) -> None:
        self._sums, self._mass = np.zeros((n_clusters, n_columns)), np.zeros(n_clusters)
        self._weights = weights

    def clear(self, clusters: npt.NDArray[Any] | slice = slice(None)) -> None:
        self._sums[clusters] = self._mass[clusters] = 0.0

    def add(self, chunk: Chunk, scale: Float32 | None, labels: Int32, part: slice | Int64) -> None:
        _core.accumulate(chunk, scale, labels, self._weights[part], self._sums, self._mass)

    def means(self, centroids: Float32) -> Float32:
        """The weighted mean of each cluster's rows, or its centroid as it was where they weigh nothing."""
        heavy = self._mass > 0.0
        means = np.empty_like(centroids)
        np.divide(self._sums, np.where(heavy, self._mass, 1.0)[:, None], out=means, casting="same_kind")
        means[~heavy] = centroids[~heavy]
        return means


class _Before(NamedTuple):
    """What an assignment found, and which centroids have moved since."""

    squared: Float32
    moved: Bool


class _ClusteredRows:
    """The rows of a clustering: stored values times a factor per row (1 / length for unit rows)."""

    def __init__(self, rows: Rows, *, unit: bool, chunk_size: int | None) -> None:
        self.n_rows, self._rows, self._chunk_size = rows.n_rows, rows, chunk_size
        self._scale: Float32 | None = np.empty(rows.n_rows, np.float32) if unit else None
        for start, chunk in rows.chunks(chunk_size):
            lengths = row_lengths(chunk)
            check_lengths(rows, start, lengths, directions=unit)
            if self._scale is not None:
                self._scale[start : start + len(chunk)] = 1.0 / lengths
            del chunk  # before the next is read
        n_sample = min(rows.n_rows, _SAMPLE)
        self._sample = self.take((np.arange(n_sample) * rows.n_rows) // n_sample)
        # Distances do not change when all rows move; near the origin they round less.
        self._origin = self._sample.mean(axis=0, dtype=np.float64).astype(np.float32)
        self._directions: _Directions | None = None
        self._sketched: Sketched | None = None

    def take(self, indices: Int64) -> Float32:
        """Some rows as they are clustered."""
        taken = to_float32(self._rows.take(indices))
        if self._scale is not None:
            taken = taken * self._scale[indices, None]
        return taken

    def among(self, indices: Int64) -> _ClusteredRows:
        """Some rows, as rows of their own."""
        return _ClusteredRows(ArrayRows(self.take(indices), "candidates"), unit=False, chunk_size=None)

    def top_m(self, scores: Float32, m: int) -> Int64:
        """Positions of the m largest scores, largest first; ties go to the lower index."""
        return top_m(scores, m)

    def find_directions(self, n_centroids: float, kept_bytes: int = _KEPT_BYTES) -> None:
        """Find directions to compare along, if it pays when each row meets so many centroids in all.

        What the rows are along them is kept where it fits into `kept_bytes`.
        """
        n_dimensions = self._rows.n_columns
        width = min(_WIDTH, n_dimensions // 3 // _WIDTH_STEP * _WIDTH_STEP)
        few = n_centroids < _LEAST_CENTROIDS or self.n_rows * n_dimensions * n_centroids < _LEAST_PRODUCTS
        if width == 0 or few or not np.ptp(self._sample, axis=0).any():
            return
        self._directions = _Directions(self._sample, self._origin, width)
        if self.n_rows * (width + 12) <= kept_bytes:
            along, of_rows = np.empty((self.n_rows, width), np.int8), np.empty((self.n_rows, 3), np.float32)
            for part, chunk, scale in self._chunks():
                along[part], of_rows[part] = self._directions.core.project(chunk, scale)
                del chunk  # before the next is read
            self._sketched = along, of_rows

    def nearest(
        self,
        centroids: Float32,
        *,
        hints: Int32 | None = None,
        before: _Before | None = None,
        within: Float32 | None = None,
        totals: _Totals | None = None,
    ) -> tuple[Int32, Float32]:
        """The nearest centroid of each row (ties: the lower index) and the squared distance to it.

        With `within` the label is −1, and the squared distance `within`, where no centroid is nearer than that. Hints
        make it faster the nearer they are; where they are what was found `before`, the results take their place and
        that of its squared distances. Every row joins the `totals` of its centroid while it is at hand.
        """
        if hints is not None and before is not None:
            labels, squared = hints, before.squared
        else:
            labels, squared = np.empty(self.n_rows, np.int32), np.empty(self.n_rows, np.float32)
        width = 0 if self._directions is None else self._directions.width(centroids, hinted=hints is not None)
        sketch = None if self._directions is None or width == 0 else self._directions.core
        moved = None if before is None else before.moved
        search = _core.Search(np.ascontiguousarray(centroids), self._origin, sketch, width, moved)
        for part, chunk, scale in self._chunks():
            labels[part], squared[part] = search.nearest(
                chunk,
                scale,
                sketched=None if sketch is None else self._sketched_part(sketch, part, chunk, scale),
                hints=None if hints is None else hints[part],
                before=None if before is None else before.squared[part],
                within=None if within is None else within[part],
            )
            if totals is not None:
                totals.add(chunk, scale, labels[part], part)
            del chunk  # before the next is read
        return labels, squared

    def recount(self, totals: _Totals, labels: Int32, moved: Int32) -> None:
        """Let rows move between clusters: the totals of those that lose or gain one, from their rows anew."""
        rows = np.flatnonzero(labels != moved)
        changed = np.unique(np.concatenate([labels[rows], moved[rows]]))
        totals.clear(changed)
        is_changed = np.zeros(int(moved.max()) + 1, np.bool_)
        is_changed[changed[changed < is_changed.size]] = True
        members = np.flatnonzero(is_changed[moved])
        for start, chunk in RowSubset(self._rows, members).chunks(self._chunk_size):
            part = members[start : start + len(chunk)]
            totals.add(chunk, None if self._scale is None else self._scale[part], moved[part], part)

    def _chunks(self) -> Iterator[tuple[slice, Chunk, Float32 | None]]:
        for start, chunk in self._rows.chunks(self._chunk_size):
            part = slice(start, start + len(chunk))
            yield part, chunk, None if self._scale is None else self._scale[part]
            del chunk

    def _sketched_part(self, sketch: Any, part: slice, chunk: Chunk, scale: Float32 | None) -> Sketched:
        if self._sketched is None:
            projected: Sketched = sketch.project(chunk, scale)
            return projected
        along, of_rows = self._sketched
        return along[part], of_rows[part]


# ---------------------------------------------------------------------------------------------------------------------
# Lloyd's algorithm


def weighted_kmeans(
    x: Rows,
    n_clusters: int,
    *,
    weights: Float32 | None = None,
    init: str | Float32 = "k-means||",
    max_iter: int = 20,
    tol: float = 1e-4,
    random_state: np.random.Generator,
    unit: bool = False,
    chunk_size: int | None = None,
    kept_bytes: int = _KEPT_BYTES,
) -> KMeans:
    """Lloyd's algorithm on Σ_i w_i · min_k ‖x_i − μ_k‖², all rows read once per iteration."""
    rows = _ClusteredRows(x, unit=unit, chunk_size=chunk_size)
    w = check_weights(weights, x.n_rows)
    totals = _Totals(n_clusters, x.n_columns, w)

    def assigned(
        centroids: Float32, hints: Int32 | None, before: _Before | None, *, last: bool
    ) -> tuple[Int32, Float32, float]:
        totals.clear()
        labels, squared = rows.nearest(centroids, hints=hints, before=before, totals=None if last else totals)
        return labels, squared, float(np.multiply(w, squared, dtype=np.float64).sum())

    rows.find_directions(n_clusters * (max_iter + 1.0), kept_bytes)
    hints: Int32 | None = None
    if isinstance(init, str):
        start = initial_rows(rows, n_clusters, w, init, random_state)
        centroids, hints = rows.take(start.rows), start.hints
        del start
    else:
        centroids = np.array(init, dtype=np.float32)

    labels, squared, inertia = assigned(centroids, hints, None, last=max_iter == 0)
    n_iter = 0
    while n_iter < max_iter:
        seeded = _reseeded(labels, w * squared, n_clusters)
        if seeded is not labels:
            rows.recount(totals, labels, seeded)
        last, centroids = centroids, totals.means(centroids)
        n_iter += 1
        hints, before, previous = labels, _Before(squared, (centroids != last).any(axis=1)), inertia
        del labels, squared, seeded, last  # before there are new ones
        labels, squared, inertia = assigned(centroids, hints, before, last=n_iter == max_iter)
        if previous - inertia <= tol * previous:
            break
    return KMeans(centroids, labels, inertia, n_iter, NAME, squared)


def _reseeded(labels: Int32, contribution: Float32, n_clusters: int) -> Int32:
    """The labels, with the rows that contribute most to the objective given to the empty clusters."""
    empty = np.flatnonzero(np.bincount(labels, minlength=n_clusters) == 0)
    if empty.size == 0:
        return labels
    seeds = top_m(contribution, empty.size)
    seeds = seeds[contribution[seeds] > 0.0]
    labels = labels.copy()
    labels[seeds] = empty[: seeds.size]
    return labels
