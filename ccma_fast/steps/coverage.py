"""Steps 5 and 6, and the clusterings of step 1: quotas, weighted k-means, and greedy coverage."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from ..backends import protocol
from ..backends.choose import choose_backend
from ..backends.protocol import Backend, Coverage, Kernel, on_device, on_host
from ..checks import check_choice, check_integer, check_number, random_generator
from ..config import KMEANS_METHODS
from ..pool.array_like import check_weights
from ..pool.checked import check_lengths
from ..pool.open import open_rows
from ..pool.rows import Rows, to_float32
from ..reference import TIE, KMeans
from .clustering import cluster

__all__ = [
    "Kernel",
    "UnitRows",
    "class_quotas",
    "greedy_coverage",
    "representatives",
    "squared_distances",
    "unit_rows",
    "weighted_kmeans",
]

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]

# Rows of which gains are added up in one go: fixed, so that the order of a sum never depends on what else is computed.
_SUM_ROWS = 256

# Rows of a whole pool that are gone through at a time.
_PART = 1 << 18

# Similarities of one product, 16 MiB of them, and rows and columns of a square one.
_BLOCK = 1 << 22
_SQUARE = 1024

# Candidates that are evaluated together, first and at most.
_FIRST_BATCH, _LARGEST_BATCH = 64, 1024

# Share of pairs that count from which the kernel of all of them is computed at once.
_DENSE = 0.25

# A sum in another order than the evaluation's differs by less than this share.
_ROUNDING = 1e-6

_INITS = ("k-means||", "k-means++", "random")


def weighted_kmeans(
    X: Any,
    n_clusters: int,
    *,
    weights: npt.ArrayLike | None = None,
    init: str | npt.ArrayLike = "k-means||",
    method: str = "full",
    max_iter: int = 20,
    tol: float = 1e-4,
    random_state: int | np.random.Generator | np.random.SeedSequence | None = None,
    backend: str = "auto",
) -> KMeans:
    """Lloyd's algorithm on Σ_i w_i · min_k ‖x_i − μ_k‖² (step 6).

    Parameters
    ----------
    X : array_like, torch.Tensor or path, shape (M, D)
        Rows as they are: normalise them first where directions are meant. float32, float16 and bfloat16 are read in
        place, chunk by chunk; sums are float32 or better.
    n_clusters : int
        K, from 1 to M.
    weights : array_like, shape (M,), optional
        w, finite and not negative; they count in the initialisation, the update and the objective. Unit weights where
        missing or all zero.
    init : {"k-means||", "k-means++", "random"} or array_like, shape (K, D), default "k-means||"
        k-means|| with 3 rounds of K/2 candidates (Bahmani et al., arXiv 1203.6402), k-means++ (Arthur and Vassilvitskii
        2007), distinct rows drawn by weight, or the centroids to start from.
    method : {"full", "sample", "two-level"}, default "full"
        Every row in every iteration; for many clusters of many rows, training on 64 · K random rows and one exact
        assignment of all; or √K coarse clusters by a sample, each split by itself, where a row's label is the nearest
        centroid of its own coarse cluster. What they cost in inertia is measured in ``bench/``.
    max_iter : int, default 20
        Most centroid updates.
    tol : float, default 1e-4
        Stop when the objective falls by no more than tol · objective.
    random_state : int, Generator, SeedSequence or None
        None draws fresh entropy. No global generator is drawn from.
    backend : {"auto", "cuda", "cpu", "reference"}

    Returns
    -------
    KMeans
        Centroids, labels (ties go to the lower index), inertia, n_iter, backend, squared distances. An empty cluster is
        re-seeded from the row that contributes most to the objective. The core gives the same bits at any number of
        threads.

    Raises
    ------
    ValueError
        Wrong shapes, more clusters than rows, NaN or infinity in a row (which is named), negative weights.
    TypeError
        Inputs that are not real numbers, or `n_clusters` not an integer.
    """
    rows = open_rows(X, "X")
    n_clusters = check_integer("n_clusters", n_clusters, minimum=1)
    if n_clusters > rows.n_rows:
        raise ValueError(f"n_clusters must be at most the number of rows, {rows.n_rows}, got {n_clusters}")
    max_iter = check_integer("max_iter", max_iter, minimum=1)
    tol = check_number("tol", tol, minimum=0.0)
    check_choice("method", method, KMEANS_METHODS)
    start: str | npt.NDArray[np.float32]
    if isinstance(init, str):
        check_choice("init", init, _INITS)
        start = init
    else:
        if method != "full":
            raise ValueError(f"centroids to start from need method='full', got {method!r}")
        start = open_rows(init, "init").float32()
        if start.shape != (n_clusters, rows.n_columns):
            raise ValueError(f"init must have shape {(n_clusters, rows.n_columns)}, got {start.shape}")
        if not np.isfinite(start).all():
            raise ValueError("init must be finite, got NaN or infinity")
    return cluster(
        choose_backend(backend, rows),
        rows,
        n_clusters,
        method=method,
        weights=check_weights(weights, rows.n_rows),
        init=start,
        max_iter=max_iter,
        tol=tol,
        random_state=random_generator(random_state),
    )


def class_quotas(available: npt.ArrayLike, labelled: npt.ArrayLike, budget: int) -> Int64:
    """How many picks each class gets so that the labels become as balanced as they can: water-filling.

    One pick after the other goes to the class with the fewest labels, chosen ones included, that has rows left; ties go
    to the class with more rows, then to the lower index.

    Parameters
    ----------
    available, labelled : array_like, shape (C,), int
        Rows that can be picked and labels that are there already, of each class.
    budget : int
        At most the number of available rows.

    Returns
    -------
    ndarray, shape (C,), int64
        Adds up to `budget`.
    """
    rows, labels = np.asarray(available), np.asarray(labelled)
    quotas = np.zeros(rows.size, dtype=np.int64)
    queue = [(int(labels[c]), -int(rows[c]), int(c)) for c in np.flatnonzero(rows)]
    heapq.heapify(queue)
    for _ in range(budget):
        n_labels, minus_rows, c = queue[0]
        quotas[c] += 1
        if quotas[c] < rows[c]:
            heapq.heapreplace(queue, (n_labels + 1, minus_rows, c))
        else:
            heapq.heappop(queue)
    return quotas


def representatives(
    found: KMeans, n_picks: int, weights: Float32 | None = None, preference: Float32 | None = None
) -> tuple[Int64, Int64]:
    """What :func:`ccma_fast.reference.representatives` gives, in ten bytes a row.

    Parameters
    ----------
    found : KMeans
        Of M rows.
    n_picks : int
        At most M.
    weights : ndarray, shape (M,), float32, optional
        The weights of the clustering; unit weights where missing.
    preference : ndarray, shape (M,), float32, optional
        What to prefer instead of nearness.

    Returns
    -------
    picks, represents : ndarray, shape (n_picks,), int64
        Rows, and how many stand behind each.
    """
    labels, n_clusters = found.labels, len(found.centroids)
    cost = found.squared_distances.copy() if preference is None else -preference
    counts, mass, least = np.zeros(n_clusters, np.int64), np.zeros(n_clusters), np.full(n_clusters, np.inf, np.float32)
    for part in _parts(labels.size):
        counts += np.bincount(labels[part], minlength=n_clusters)
        np.minimum.at(least, labels[part], cost[part])
        np.add.at(mass, labels[part], 1.0 if weights is None else weights[part].astype(np.float64))
    for part in _parts(labels.size):
        best = least[labels[part]]
        cost[part] = np.where(cost[part] <= best.astype(np.float64) + TIE, best, cost[part])
    picks: list[Int64] = []
    missing = n_picks
    while missing:
        # The next of every cluster: of the least cost, the first of several.
        least[:] = np.inf
        for part in _parts(labels.size):
            np.minimum.at(least, labels[part], cost[part])
        rows = np.concatenate(
            [part.start + np.flatnonzero(cost[part] <= least[labels[part]]) for part in _parts(labels.size)]
        )
        _, first = np.unique(labels[rows], return_index=True)
        rows = rows[first]
        rows = rows[np.isfinite(cost[rows])]
        turn = rows[np.lexsort((labels[rows], -mass[labels[rows]]))][:missing]
        cost[turn] = np.inf
        picks.append(turn)
        missing -= turn.size
    later = np.bincount(labels[np.concatenate(picks[1:])], minlength=n_clusters) if len(picks) > 1 else 0
    alone = np.ones(n_picks - picks[0].size, np.int64)
    return np.concatenate(picks), np.concatenate([(counts - later)[labels[picks[0]]], alone])


def _parts(n_rows: int) -> list[slice]:
    return [slice(start, min(start + _PART, n_rows)) for start in range(0, n_rows, _PART)]


def unit_rows(rows: Rows, backend: Backend) -> protocol.UnitRows:
    """Rows for :func:`greedy_coverage`, on the backend's device where it has one."""
    device = on_device(backend)
    return UnitRows(rows, backend) if device is None else device.unit_rows(rows)


def squared_distances(rows: Rows, others: Rows, backend: Backend) -> Float32:
    """‖x − x_j‖² of each row to the nearest of `others`, of unit rows both, shape (N,), from 0 to 4."""
    similarity: Float32 = on_host(unit_rows(rows, backend).nearest(unit_rows(others, backend), -1.0))
    distances: Float32 = np.maximum(np.float32(2.0) - np.float32(2.0) * similarity, np.float32(0.0))
    return distances


class UnitRows:
    """The rows of a pool divided by their lengths, computed whenever they are read.

    Parameters
    ----------
    rows : Rows, shape (N, D)
    backend : Backend
        What computes lengths and products.

    Raises
    ------
    ValueError
        NaN, infinity or a zero vector in a row, which is named.
    """

    def __init__(self, rows: Rows, backend: Backend) -> None:
        self.n_rows = rows.n_rows
        self.backend = backend
        self._rows = rows
        self._scale = np.empty(rows.n_rows, np.float32)
        for start, chunk in rows.chunks():
            lengths = backend.row_lengths(chunk)
            check_lengths(rows, start, lengths, directions=True)
            self._scale[start : start + len(chunk)] = 1.0 / lengths
            del chunk  # before the next is read

    def take(self, indices: Int64) -> Float32:
        """Some rows, shape (M, D), float32."""
        unit: Float32 = to_float32(self._rows.take(indices)) * self._scale[indices, None]
        return unit

    def between(self, start: int, stop: int) -> Float32:
        """Rows start to stop − 1, shape (stop − start, D), float32."""
        unit: Float32 = to_float32(self._rows.read(start, stop)) * self._scale[start:stop, None]
        return unit

    def similarities(self, others: Float32) -> Iterator[tuple[slice, Float32]]:
        """Cosine similarities s of all rows to `others`, shape (M, D), unit rows too: (rows, (m, M) float32) pieces."""
        step = min(self._rows.chunk_rows(), _BLOCK // max(1, len(others)))
        for start, chunk in self._rows.chunks(max(_SUM_ROWS, step - step % _SUM_ROWS)):
            part = slice(start, start + len(chunk))
            yield part, self.backend.linear(chunk, others, scale=self._scale[part])
            del chunk  # before the next is read

    def nearest(self, others: UnitRows, least: float) -> Float32:
        """Similarity of each row to the most similar of `others`, at least `least`; shape (N,)."""
        near = np.full(self.n_rows, least, np.float32)
        for start in range(0, others.n_rows, _SQUARE):
            for part, similarity in self.similarities(others.between(start, min(start + _SQUARE, others.n_rows))):
                np.maximum(near[part], similarity.max(axis=1), out=near[part])
        return near

    def coverage(
        self,
        covered: UnitRows,
        least: float,
        candidates: Int64,
        kernel: Kernel,
        weights: Float32 | None,
    ) -> Coverage:
        """The start of a greedy coverage of all rows, see :class:`ccma_fast.backends.protocol.UnitRows`."""
        return _Candidates(_Coverage(self, self.nearest(covered, least), kernel, weights), candidates, self.n_rows)

    def most_similar(self, picks: Int64) -> Int64:
        """Which of the rows `picks`, of several the first, each row is most similar to, shape (N,)."""
        return np.concatenate([part.argmax(axis=1) for _, part in self.similarities(self.take(picks))])


def greedy_coverage(
    pool: protocol.UnitRows,
    covered: protocol.UnitRows,
    candidates: Int64,
    n_picks: int,
    *,
    kernel: Kernel,
    rng: np.random.Generator,
    weights: Float32 | None = None,
    least: float = -np.inf,
) -> Int64:
    """Greedily the candidates that raise Σ_i w_i · max_j k(s_ij), j over what covers already and the chosen, the most.

    Parameters
    ----------
    pool : UnitRows, shape (N, D)
        The rows to cover.
    covered : UnitRows, shape (L, D)
        Rows that cover already, of the same kind.
    candidates : ndarray, shape (n,), int64
        Rows of `pool`, ascending.
    n_picks : int
        At most n.
    kernel : Kernel
        k, of similarities s.
    rng : Generator
        Draws the rest where no candidate adds anything.
    weights : ndarray, shape (N,), float32, optional
        w, not negative; unit weights where missing.
    least : float, default −∞
        The similarity to what covers that every row has at least.

    Returns
    -------
    ndarray, shape (n_picks,), int64
        Rows of `pool` in the order of choice; ties go to the lower index.

    Notes
    -----
    Lazy and exact: what a row adds only falls as others are chosen, so that what it added before bounds it from above,
    and of all candidates only those are evaluated again whose bound reaches the best found so far (Minoux 1978). Time
    goes as n · N; memory is some bytes per row of the pool and some blocks of similarities.
    """
    coverage = pool.coverage(covered, least, candidates, kernel, weights)
    chosen: list[int] = []
    while len(chosen) < n_picks:
        best = _best(coverage)
        if best < 0:
            rest = np.setdiff1d(candidates, chosen, assume_unique=True)
            chosen.extend(rng.choice(rest, n_picks - len(chosen), replace=False).tolist())
            break
        chosen.append(int(candidates[best]))
        coverage.choose(best)
    return np.asarray(chosen, dtype=np.int64)


def _best(coverage: Coverage) -> int:
    """The candidate that adds the most, of several the first, or −1 where none adds anything."""
    coverage.sort()
    best, best_gain = -1, 0.0
    start, size = 0, _FIRST_BATCH
    while True:
        gain, candidate, bound, following = coverage.evaluate(start, size)
        if gain > best_gain or (gain == best_gain and candidate < best):
            best, best_gain = candidate, gain
        if bound <= 0.0 or bound < best_gain or (bound == best_gain and following > best):
            return best
        start, size = start + size, min(2 * size, _LARGEST_BATCH)


class _Candidates:
    """Candidates and their bounds, see :class:`ccma_fast.backends.protocol.Coverage`."""

    def __init__(self, coverage: _Coverage, candidates: Int64, n_rows: int) -> None:
        self._coverage, self._rows = coverage, candidates
        gains = coverage.bounds()[candidates] if candidates.size == n_rows else coverage.gains(candidates)
        # Behind the last candidate stands what no candidate is worse than.
        self._bounds = np.append(gains, -np.inf)
        self._order = np.empty(0, np.int64)

    def sort(self) -> None:
        self._order = np.argsort(-self._bounds, kind="stable")

    def evaluate(self, start: int, size: int) -> tuple[float, int, float, int]:
        stop = min(start + size, self._rows.size)
        batch = np.sort(self._order[start:stop])
        self._bounds[batch] = gains = self._coverage.gains(self._rows[batch])
        first, following = int(gains.argmax()), int(self._order[stop])
        return float(gains[first]), int(batch[first]), float(self._bounds[following]), following

    def choose(self, candidate: int) -> None:
        self._coverage.add(int(self._rows[candidate]))
        self._bounds[candidate] = -np.inf


class _Coverage:
    """Σ_i w_i · k(s_i) with s_i the similarity of row i to the nearest row that covers, and what others would add."""

    def __init__(self, pool: UnitRows, near: Float32, kernel: Kernel, weights: Float32 | None) -> None:
        self._pool, self._near, self._kernel = pool, near, kernel
        self._weights = np.ones(pool.n_rows, np.float32) if weights is None else weights
        self._added: list[int] = []  # rows that cover, but are not yet in `near`

    def add(self, row: int) -> None:
        """Cover with one row more."""
        self._added.append(row)

    def gains(self, rows: Int64) -> Float64:
        """What each of `rows` alone would add, shape (M,); each sum has the same order whatever else is in `rows`."""
        gains = np.zeros(rows.size)
        for start in range(0, rows.size, _LARGEST_BATCH):
            # The rows added last are columns of the same product: no pass over the pool of their own.
            added, self._added = self._added, []
            part_gains = gains[start : start + _LARGEST_BATCH]
            others = np.concatenate([np.asarray(added, np.int64), rows[start : start + _LARGEST_BATCH]])
            for part, similarity in self._pool.similarities(self._pool.take(others)):
                for column in range(len(added)):
                    np.maximum(self._near[part], similarity[:, column], out=self._near[part])
                self._add_gains(part_gains, similarity[:, len(added) :], part)
        return gains

    def bounds(self) -> Float64:
        """Upper bounds, tight but for rounding, of what each row of the pool would add at first, shape (N,).

        Each pair of rows is multiplied once, for the gains of both.
        """
        n = self._pool.n_rows
        gains = np.zeros(n)
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
                # Few rows are nearer to a candidate than to what covers them: the kernel of those alone is computed.
                i, j = _positions(nearer)
                gained = self._kernel(part[i, j])
                gained -= covered[piece][i, 0]
                gained *= weights[piece][i, 0]
                gains += np.bincount(j, gained, minlength=gains.size)


def _positions(mask: npt.NDArray[np.bool_]) -> tuple[Int64, Int64]:
    """numpy.nonzero of a matrix that lies in memory by rows or by columns, a column's rows ascending; far faster."""
    if mask.flags.c_contiguous:
        i, j = np.divmod(np.flatnonzero(mask), mask.shape[1])
    else:
        j, i = np.divmod(np.flatnonzero(mask.T), mask.shape[0])
    return i, j
