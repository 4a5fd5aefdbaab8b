"""The rows of a clustering on the host: distances to centroids."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ... import _core
from ...pool.arrays import ArrayRows
from ...pool.checked import check_lengths
from ...pool.rows import Chunk, Rows, to_float32
from ..kmeans_origin import origin_of, sample_positions
from .kmeans_directions import Directions, Sketched, find_directions
from .rows import row_lengths
from .sorting import top_m

__all__ = ["Before", "ClusteredRows", "Joined"]

Float32 = npt.NDArray[np.float32]
Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]


class Before(NamedTuple):
    """The result of an assignment, and which centroids have moved since."""

    squared: Float32
    moved: Bool


Joined = Callable[[Chunk, Float32 | None, Int32, slice], None]
"""Takes a chunk with its rows' scales, labels and positions."""


class ClusteredRows:
    """The rows of a clustering: stored values times a factor per row (1 / length for unit rows).

    They are compared from the origin once :meth:`look_from` has said where that is.
    """

    def __init__(self, rows: Rows, *, unit: bool, chunk_size: int | None) -> None:
        self.n_rows, self.n_columns = rows.n_rows, rows.n_columns
        self._rows, self._chunk_size = rows, chunk_size
        self._scale: Float32 | None = np.empty(rows.n_rows, np.float32) if unit else None
        shortest, longest = np.inf, 0.0
        for start, chunk in rows.chunks(chunk_size):
            lengths = row_lengths(chunk)
            check_lengths(rows, start, lengths, directions=unit)
            if self._scale is not None:
                self._scale[start : start + len(chunk)] = 1.0 / lengths
                lengths[:] = 1.0
            shortest = min(shortest, float(lengths.min(where=lengths > 0.0, initial=np.inf)))
            longest = max(longest, float(lengths.max(initial=0.0)))
            del chunk  # before the next is read
        self.lengths = shortest, longest
        self._origin = np.zeros(rows.n_columns, np.float32)
        self._directions: Directions | None = None
        self._sketched: Sketched | None = None

    def take(self, indices: Int64) -> Float32:
        """Some rows as they are clustered."""
        taken = to_float32(self._rows.take(indices))
        if self._scale is not None:
            taken = taken * self._scale[indices, None]
        return taken

    @classmethod
    def of_matrix(cls, x: Float32) -> ClusteredRows:
        """Rows of a matrix as they are."""
        rows = cls(ArrayRows(x, "candidates"), unit=False, chunk_size=None)
        rows.look_from(origin_of(x[sample_positions(len(x))]))
        return rows

    def look_from(self, origin: Float32) -> None:
        """The origin that rows and centroids are compared from."""
        self._origin = origin

    def top_m(self, scores: Float32, m: int) -> Int64:
        """Positions of the m largest scores, largest first; ties go to the lower index."""
        return top_m(scores, m)

    def find_directions(self, sample: Float32, n_centroids: float, kept_bytes: int) -> None:
        """Find directions to compare along from a sample, if it pays when each row meets so many centroids in all.

        What the rows are along them is kept where it fits into `kept_bytes`.
        """
        self._directions = find_directions(sample, self._origin, self.n_rows, n_centroids)
        if self._directions is None:
            return
        width = len(self._directions.matrix)
        if self.n_rows * (width + 12) <= kept_bytes:
            along, of_rows = np.empty((self.n_rows, width), np.int8), np.empty((self.n_rows, 3), np.float32)
            for part, chunk, scale in self._chunks():
                along[part], of_rows[part] = self._directions.core.project(chunk, scale)
                del chunk  # before the next is read
            self._sketched = along, of_rows

    def forget_directions(self) -> None:
        """Keep nothing of the rows along directions any more."""
        self._directions = self._sketched = None

    def nearest(
        self,
        centroids: Float32,
        *,
        hints: Int32 | None = None,
        before: Before | None = None,
        within: Float32 | None = None,
        join: Joined | None = None,
    ) -> tuple[Int32, Float32]:
        """The nearest centroid of each row (ties: the lower index) and the squared distance to it.

        With `within` the label is −1, and the squared distance `within`, where no centroid is nearer than that. Hints
        make it faster the nearer they are; where they are what was found `before`, the results take their place and
        that of its squared distances. Every row may `join` others of its label while it is at hand.
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
            if join is not None:
                join(chunk, scale, labels[part], part)
            del chunk  # before the next is read
        return labels, squared

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
