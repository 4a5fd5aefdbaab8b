"""Facility-location coverage of a pool by cosine similarity, on the host; for devices it is in their backends."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np
import numpy.typing as npt

from ..backends.protocol import Backend, on_device, on_host
from ..backends.unit_rows import Kernel, ListedCoverage, UnitRows, listing
from ..pool.checked import check_lengths
from ..pool.rows import Rows, to_float32

__all__ = ["HostUnitRows", "Limits", "most_pair_bytes", "squared_distances", "unit_rows"]

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]

# Rows of which gains are added up in one go: fixed, so that the order of a sum never depends on what else is computed.
_SUM_ROWS = 256

# Similarities of one product, 16 MiB of them, and rows and columns of a square one.
_BLOCK = 1 << 22
_SQUARE = 1024

# Candidates of one product.
_BATCH = 1024

# Candidates whose gains are evaluated together: first, and at most.
_FIRST_EVALUATED, _MOST_EVALUATED = 64, 1024

# Pairs of rows that are listed at most, and bytes of one: as the core finds it, and in the list.
_MOST_PAIRS, _PAIR = 12 << 20, 6 + 8

# Share of pairs with a gain from which on the kernel is computed densely, for all pairs.
_DENSE = 0.25

# Relative error bound of a sum in another order than that of `gains`.
_ROUNDING = 1e-6


class Limits(Protocol):
    """What limits a greedy choice, beside the number of picks."""

    closed: npt.NDArray[np.bool_]
    """Rows that cannot be picked any more, shape (N,)."""

    def admits(self, row: int) -> bool:
        """Whether a row may be picked; then it is. Either way it is closed, and others may be."""
        ...


def unit_rows(rows: Rows, backend: Backend) -> UnitRows:
    """Rows for :func:`ccma_fast.steps.greedy.greedy_coverage`, on the backend's device where it has one."""
    device = on_device(backend)
    return HostUnitRows(rows, backend) if device is None else device.unit_rows(rows)


def squared_distances(rows: Rows, others: Rows, backend: Backend) -> Float32:
    """‖x − x_j‖² of each row to the nearest of `others`, of unit rows both, shape (N,), from 0 to 4."""
    similarity: Float32 = on_host(unit_rows(rows, backend).nearest(unit_rows(others, backend), -1.0))
    distances: Float32 = np.maximum(np.float32(2.0) - np.float32(2.0) * similarity, np.float32(0.0))
    return distances


class HostUnitRows:
    """The rows of a pool divided by their lengths, computed whenever they are read.

    Parameters
    ----------
    rows : Rows, shape (N, D)
    backend : Backend
        Computes lengths and products.

    Attributes
    ----------
    scale : ndarray, shape (N,), float32
        What each row is multiplied with.

    Raises
    ------
    ValueError
        NaN, infinity or a zero vector in a row, which is named.
    """

    def __init__(self, rows: Rows, backend: Backend) -> None:
        self.n_rows = rows.n_rows
        self.backend = backend
        self.rows = rows
        self.scale = np.empty(rows.n_rows, np.float32)
        for start, chunk in rows.chunks():
            lengths = backend.row_lengths(chunk)
            check_lengths(rows, start, lengths, directions=True)
            self.scale[start : start + len(chunk)] = 1.0 / lengths
            del chunk  # before the next is read

    def take(self, indices: Int64) -> Float32:
        """Some rows, shape (M, D), float32."""
        unit: Float32 = to_float32(self.rows.take(indices)) * self.scale[indices, None]
        return unit

    def between(self, start: int, stop: int) -> Float32:
        """Rows start to stop − 1, shape (stop − start, D), float32."""
        unit: Float32 = to_float32(self.rows.read(start, stop)) * self.scale[start:stop, None]
        return unit

    def similarities(self, others: Float32) -> Iterator[tuple[slice, Float32]]:
        """Cosine similarities s of all rows to `others`, shape (M, D), unit rows too: (rows, (m, M) float32) pieces."""
        step = min(self.rows.chunk_rows(), _BLOCK // max(1, len(others)))
        for start, chunk in self.rows.chunks(max(_SUM_ROWS, step - step % _SUM_ROWS)):
            part = slice(start, start + len(chunk))
            yield part, self.backend.linear(chunk, others, scale=self.scale[part])
            del chunk  # before the next is read

    def nearest(self, others: HostUnitRows, least: float) -> Float32:
        """Similarity of each row to the most similar of `others`, at least `least`; shape (N,)."""
        near = np.full(self.n_rows, least, np.float32)
        for start in range(0, others.n_rows, _SQUARE):
            for part, similarity in self.similarities(others.between(start, min(start + _SQUARE, others.n_rows))):
                np.maximum(near[part], similarity.max(axis=1), out=near[part])
        return near

    def coverage(
        self,
        covered: HostUnitRows,
        least: float,
        candidates: Int64,
        kernel: Kernel,
        weights: Float32 | None,
    ) -> HostCoverage:
        """The start of a greedy coverage of all rows, see :class:`ccma_fast.backends.protocol.UnitRows`."""
        return HostCoverage(self, self.nearest(covered, least), candidates, kernel, weights)

    def most_similar(self, picks: Int64) -> Int64:
        """Position in `picks` of the most similar row, for each row, shape (N,); ties: the first."""
        return np.concatenate([part.argmax(axis=1) for _, part in self.similarities(self.take(picks))])


class HostCoverage:
    """Candidates and their gains, see :class:`ccma_fast.backends.protocol.Coverage`.

    Parameters
    ----------
    pool : HostUnitRows, shape (N, D)
    near : ndarray, shape (N,), float32
        Similarity of each row to the most similar of those that cover already; kept up to date until pairs are listed.
    candidates : ndarray, shape (n,), int64
        Rows, ascending.
    kernel : Kernel
    weights : ndarray, shape (N,), float32, optional
    """

    def __init__(
        self, pool: HostUnitRows, near: Float32, candidates: Int64, kernel: Kernel, weights: Float32 | None
    ) -> None:
        self._products = ByProducts(pool, near, candidates, kernel, weights)
        self._listed: ListedCoverage | None = None
        self._start()

    @property
    def is_listed(self) -> bool:
        """Whether the pairs of rows with a gain are listed, so that no gain takes a product."""
        return self._listed is not None

    def choose(self, n_picks: int, limits: Limits | None = None) -> Int64:
        """See :meth:`ccma_fast.backends.protocol.Coverage.choose`; within `limits` where there are any."""
        chosen: list[int] = []
        while len(chosen) < n_picks:
            gains = self._products if self._listed is None else self._listed
            if (row := gains.take(None if limits is None else limits.closed)) < 0:
                break
            if limits is not None and not limits.admits(row):
                continue
            gains.cover(row)
            chosen.append(row)
            # Selected rows leave fewer pairs with a gain: try again to list them after the same work without lists.
            if self._listed is None and self._products.have_taken_a_pass:
                self._start()
        return np.searchsorted(self._products.rows, np.asarray(chosen, np.int64))

    def _start(self) -> None:
        self._listed = self._products.listed()
        if self._listed is None:
            self._products.bound()


class ByProducts:
    """Σ_i w_i · k(s_i), s_i the similarity of row i to the nearest already-selected row, and the gains of candidates.

    Parameters
    ----------
    pool, near, candidates, kernel, weights
        As of :class:`HostCoverage`.
    """

    def __init__(
        self, pool: HostUnitRows, near: Float32, candidates: Int64, kernel: Kernel, weights: Float32 | None
    ) -> None:
        self._pool, self._near, self._kernel = pool, near, kernel
        self._weights = np.ones(pool.n_rows, np.float32) if weights is None else weights
        self._added: list[int] = []  # selected rows that are not yet in `near`
        self.rows = candidates
        # Where most rows are candidates, a product for each two rows takes less than the gains by themselves.
        self._of_pairs = 2 * candidates.size >= pool.n_rows
        # A sentinel behind the last candidate, with a bound below all.
        self._bounds = np.append(np.full(candidates.size, np.inf), -np.inf)
        self._n_evaluated = 0  # candidates whose gain was computed since all were bounded

    @property
    def have_taken_a_pass(self) -> bool:
        """Whether gains have taken the products of each two rows since :meth:`bound` did."""
        return self._of_pairs and self._n_evaluated > self._pool.n_rows // 2

    def cover(self, row: int) -> None:
        """Select one more row."""
        self._added.append(row)

    def listed(self) -> ListedCoverage | None:
        """The same by pairs of rows; None where there are too many, or few candidates."""
        backend = listing(self._pool.backend)
        if backend is None or not self._of_pairs or not self._pool.n_rows:
            return None
        self._cover_added()
        is_open = np.zeros(self._pool.n_rows, np.bool_)
        is_open[self.rows] = self._bounds[:-1] > -np.inf
        rows, scale = self._pool.rows, self._pool.scale
        return backend.listed_coverage(
            rows, scale, self._near, self._kernel, self._weights, is_open, _MOST_PAIRS, _SUM_ROWS
        )

    def bound(self) -> None:
        """Bounds all gains anew, from above."""
        gains = self._bounds_of_all()[self.rows] if self._of_pairs else self.gains(self.rows)
        np.minimum(self._bounds[:-1], gains, out=self._bounds[:-1])
        self._n_evaluated = 0

    def take(self, closed: npt.NDArray[np.bool_] | None = None) -> int:
        """The row of largest gain among the candidates (ties: the first), once; −1 where no gain is positive.

        By submodularity earlier gains are bounds, and those of largest bound are evaluated first.
        """
        order = np.argsort(-self._bounds, kind="stable")
        best, best_gain = -1, 0.0
        start, size = 0, _FIRST_EVALUATED
        while True:
            stop = min(start + size, self.rows.size)
            candidate, gain = self._best_of(order[start:stop], closed)
            following = int(order[stop])
            bound = float(self._bounds[following])
            if gain > best_gain or (gain == best_gain and candidate < best):
                best, best_gain = candidate, gain
            if bound <= 0.0 or bound < best_gain or (bound == best_gain and following > best):
                break
            start, size = stop, min(2 * size, _MOST_EVALUATED)
        if best < 0:
            return best
        self._bounds[best] = -np.inf
        return int(self.rows[best])

    def _best_of(self, candidates: Int64, closed: npt.NDArray[np.bool_] | None) -> tuple[int, float]:
        """That of largest gain among some candidates (ties: the first) and its gain; −1 where none is positive."""
        candidates = np.sort(candidates)
        gains = self.gains(self.rows[candidates])
        gains[self._bounds[candidates] == -np.inf] = -np.inf
        if closed is not None:
            gains[closed[self.rows[candidates]]] = -np.inf
        self._bounds[candidates] = gains
        first = int(gains.argmax())
        return (int(candidates[first]), float(gains[first])) if gains[first] > 0.0 else (-1, 0.0)

    def gains(self, rows: Int64) -> Float64:
        """Marginal gain of each of `rows`, shape (M,); each is summed in the same order whatever else is in `rows`."""
        gains = np.zeros(rows.size)
        for start in range(0, rows.size, _BATCH):
            others = rows[start : start + _BATCH]
            self._add_products(others, gains[start : start + _BATCH])
        self._n_evaluated += rows.size
        return gains

    def _cover_added(self) -> None:
        self._add_products(np.empty(0, np.int64), np.empty(0))

    def _add_products(self, rows: Int64, gains: Float64) -> None:
        # The rows added last are columns of the same product: no pass over the pool of their own.
        added, self._added = self._added, []
        others = np.append(np.asarray(added, np.int64), rows)
        for part, similarity in self._pool.similarities(self._pool.take(others)) if others.size else ():
            for column in range(len(added)):
                np.maximum(self._near[part], similarity[:, column], out=self._near[part])
            self._add_gains(gains, similarity[:, len(added) :], part)

    def _bounds_of_all(self) -> Float64:
        """Upper bounds, tight up to rounding, of the gain of each row of the pool, shape (N,).

        Each pair of rows is multiplied once, for the gains of both.
        """
        n = self._pool.n_rows
        gains = np.zeros(n)
        self._cover_added()
        for start in range(0, n, _SQUARE):
            rows = slice(start, min(start + _SQUARE, n))
            unit = self._pool.between(rows.start, rows.stop)
            for other in range(0, start + 1, _SQUARE):
                columns = slice(other, min(other + _SQUARE, n))
                similarity = self._pool.backend.linear(unit, self._pool.between(columns.start, columns.stop))
                self._add_gains(gains[columns], similarity, rows)
                if other < start:
                    self._add_gains(gains[rows], similarity.T, columns)
        return gains * (1.0 + _ROUNDING)

    def _add_gains(self, gains: Float64, similarity: Float32, rows: slice) -> None:
        """Adds Σ_i w_i · max(0, k(s_ij) − k(s_i)) over some rows i to the gain of each column j."""
        near, weights = self._near[rows, None], self._weights[rows, None]
        covered = self._kernel(near)
        for start in range(0, len(similarity), _SUM_ROWS):
            piece = slice(start, start + _SUM_ROWS)
            part = similarity[piece]
            nearer = part > near[piece]
            if np.count_nonzero(nearer) > _DENSE * nearer.size:
                gained = self._kernel(np.maximum(part, near[piece]))
                gained -= covered[piece]
                gained *= weights[piece]
                gains += gained.sum(axis=0, dtype=np.float64)
            else:
                # Few rows are nearer to a candidate than to a selected row: compute the kernel of those alone.
                i, j = _positions(nearer)
                gained = self._kernel(part[i, j]) - covered[piece][i, 0]
                gained *= weights[piece][i, 0]
                gains += np.bincount(j, gained, minlength=gains.size)


def _positions(mask: npt.NDArray[np.bool_]) -> tuple[Int64, Int64]:
    """numpy.nonzero of a matrix that lies in memory by rows or by columns, a column's rows ascending; far faster."""
    if mask.flags.c_contiguous:
        i, j = np.divmod(np.flatnonzero(mask), mask.shape[1])
    else:
        j, i = np.divmod(np.flatnonzero(mask.T), mask.shape[0])
    return i, j


def most_pair_bytes(n_rows: int) -> int:
    """Bytes of the listed pairs of so many rows, at most."""
    return _PAIR * min(n_rows * n_rows, _MOST_PAIRS)
