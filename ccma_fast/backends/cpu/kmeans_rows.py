"""The rows of a clustering on the host: distances to centroids, and sums of clusters."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ... import _core
from ...pool.arrays import ArrayRows
from ...pool.checked import check_lengths
from ...pool.derived import RowSubset
from ...pool.rows import Chunk, Rows, to_float32
from .kmeans_directions import Directions, Sketched, find_directions
from .rows import row_lengths
from .sorting import top_m

__all__ = ["Before", "ClusteredRows", "Totals"]

Float32 = npt.NDArray[np.float32]
Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]

# Rows, spread evenly, from which the origin and the directions are found.
_SAMPLE = 2048


class Before(NamedTuple):
    """The result of an assignment, and which centroids have moved since."""

    squared: Float32
    moved: Bool


class Totals:
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


class ClusteredRows:
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
        self._directions: Directions | None = None
        self._sketched: Sketched | None = None

    def take(self, indices: Int64) -> Float32:
        """Some rows as they are clustered."""
        taken = to_float32(self._rows.take(indices))
        if self._scale is not None:
            taken = taken * self._scale[indices, None]
        return taken

    def among(self, indices: Int64) -> ClusteredRows:
        """Some rows, as rows of their own."""
        return ClusteredRows(ArrayRows(self.take(indices), "candidates"), unit=False, chunk_size=None)

    def top_m(self, scores: Float32, m: int) -> Int64:
        """Positions of the m largest scores, largest first; ties go to the lower index."""
        return top_m(scores, m)

    def find_directions(self, n_centroids: float, kept_bytes: int) -> None:
        """Find directions to compare along, if it pays when each row meets so many centroids in all.

        What the rows are along them is kept where it fits into `kept_bytes`.
        """
        self._directions = find_directions(self._sample, self._origin, self.n_rows, n_centroids)
        if self._directions is None:
            return
        width = len(self._directions.matrix)
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
        before: Before | None = None,
        within: Float32 | None = None,
        totals: Totals | None = None,
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

    def recount(self, totals: Totals, labels: Int32, moved: Int32) -> None:
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
