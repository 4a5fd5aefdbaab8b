"""The CPU backend: the C++ core's passes, streamed over chunks of rows.

Contracts are those of :mod:`ccma_fast.reference`. Every pass reads rows chunk by chunk, so that memory beyond the
input is some bytes per row and one chunk; no result depends on where the chunks end.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from . import _core
from ._validate import check_lengths, check_weights, raise_not_finite
from .pool import Rows, RowSubset, to_float32
from .reference import (
    KMEANS_PARALLEL_OVERSAMPLING,
    KMEANS_PARALLEL_ROUNDS,
    Cumulative,
    KMeans,
    RowScores,
    draw,
    target_size_rank,
    weighted_sample,
)

__all__ = [
    "NAME",
    "describe",
    "linear",
    "prediction_sets",
    "raised_threshold",
    "row_lengths",
    "row_thresholds",
    "score",
    "target_size_threshold",
    "top_m",
    "weighted_kmeans",
]

NAME = "cpu"

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]

# Scores kept in one pass of the threshold's search: 32 MiB of them.
_COLLECT = 1 << 22

# Scores among which the threshold's first bracket is looked for.
_SAMPLE = 1 << 19

# k-means++ keeps all pairwise distances of its candidates up to this many (256 MiB), beyond it one row at a time.
_PAIRWISE = 8192


def describe() -> str:
    """The backend with its instruction set and threads."""
    return f"cpu ({_core.simd_level()}, {_core.num_threads()} threads)"


# ---------------------------------------------------------------------------------------------------------------------
# Posteriors


def score(
    student_logits: Rows,
    teacher_logits: Rows | None = None,
    q_student: float | Float64 = np.inf,
    q_teacher: float | Float64 = np.inf,
    *,
    chunk_size: int | None = None,
) -> RowScores:
    """δ and the sizes of the sets, each logit read once."""
    n = student_logits.n_rows
    scores = RowScores.empty(n)
    for start, stop in student_logits.bounds(chunk_size):
        teacher = None if teacher_logits is None else teacher_logits.slice(start, stop)
        *parts, bad, of_teacher = _core.score(
            student_logits.slice(start, stop),
            teacher,
            _of_rows(q_student, start, stop),
            _of_rows(q_teacher, start, stop),
        )
        if bad >= 0:
            of = teacher_logits if of_teacher and teacher_logits is not None else student_logits
            raise_not_finite(of.name, of.row_number(start + bad))
        for whole, part in zip(scores, parts, strict=True):
            whole[start:stop] = part
    return scores


def raised_threshold(
    logits: Rows, q: float, cumulative: Cumulative | None = None, *, chunk_size: int | None = None
) -> float:
    """The least threshold from q up that leaves no set empty."""
    for start, chunk in logits.chunks(chunk_size):
        if cumulative is None:
            smallest_scores, bad = _core.log_normalizers(chunk)
        else:
            smallest_scores, bad = _core.least_scores(chunk, cumulative.of_rows(slice(start, start + len(chunk))))
        if bad >= 0:
            raise_not_finite(logits.name, logits.row_number(start + bad))
        q = float(smallest_scores.max(initial=q))
    return q


def prediction_sets(logits: Rows, q: float | Float64, *, chunk_size: int | None = None) -> npt.NDArray[np.bool_]:
    """Γ of every row."""
    sets = np.empty((logits.n_rows, logits.n_columns), dtype=np.bool_)
    for start, chunk in logits.chunks(chunk_size):
        stop = start + len(chunk)
        sets[start:stop], bad = _core.prediction_sets(chunk, _of_rows(q, start, stop))
        if bad >= 0:
            raise_not_finite(logits.name, logits.row_number(start + bad))
    return sets


def row_thresholds(
    logits: Rows, q: float | Float64, cumulative: Cumulative, *, chunk_size: int | None = None
) -> Float64:
    """Thresholds on −ln p that give the sets of a cumulative score."""
    thresholds = np.empty(logits.n_rows)
    for start, chunk in logits.chunks(chunk_size):
        stop = start + len(chunk)
        score_of_rows = cumulative.of_rows(slice(start, stop))
        thresholds[start:stop], bad = _core.row_thresholds(chunk, _of_rows(q, start, stop), score_of_rows)
        if bad >= 0:
            raise_not_finite(logits.name, logits.row_number(start + bad))
    return thresholds


def _of_rows(q: float | Float64, start: int, stop: int) -> float | Float64:
    """The thresholds of a chunk's rows."""
    return q[start:stop] if isinstance(q, np.ndarray) else q


def target_size_threshold(
    logits: Rows, size: float, cumulative: Cumulative | None = None, *, chunk_size: int | None = None
) -> float:
    """The exact ⌈k·M⌉-th smallest of all M·C scores, without sorting or storing them.

    A sample of rows brackets the threshold; one pass over all logits counts the scores below the bracket and keeps
    those inside, among which the threshold is then selected. Where the bracket missed, or held more than could be kept,
    it is drawn anew from what is known: every further pass has fewer scores in question.
    """
    rank = target_size_rank(size, logits.n_rows, logits.n_columns)
    low, high = _sampled_bracket(logits, rank, cumulative)
    floor, ceiling = -1.0, np.inf  # scores are not negative; the threshold lies in (floor, ceiling]
    while True:
        below, inside, values = _scores_between(logits, low, high, cumulative, chunk_size)
        if rank <= below:
            ceiling, low, high = low, floor, low
        elif rank > below + inside:
            floor, low, high = high, high, ceiling
        elif inside == values.size:
            return float(np.partition(values, rank - below - 1)[rank - below - 1])
        elif np.nextafter(low, np.inf) >= high:
            return float(high)  # one number, many times
        else:
            floor, ceiling = low, high
            low, high = _bracket(values, (rank - below) / inside, values.size**0.5)
            low, high = max(low, floor), min(high, ceiling)
            if (low, high) == (floor, ceiling):  # few numbers, each very many times
                high = low + (high - low) / 2


def _scores_between(
    logits: Rows, low: float, high: float, cumulative: Cumulative | None, chunk_size: int | None
) -> tuple[int, int, Float64]:
    """How many scores are ≤ low, how many in (low, high], and those, or a sample where there are very many."""
    below = inside = 0
    kept = []
    for start, chunk in logits.chunks(chunk_size):
        share = max(1, _COLLECT * len(chunk) // logits.n_rows)
        score_of_rows = None if cumulative is None else cumulative.of_rows(slice(start, start + len(chunk)))
        n_below, n_inside, values, bad = _core.scores_between(chunk, low, high, share, score_of_rows)
        if bad >= 0:
            raise_not_finite(logits.name, logits.row_number(start + bad))
        below += n_below
        inside += n_inside
        kept.append(values)
    return below, inside, np.concatenate(kept)


def _sampled_bracket(logits: Rows, rank: int, cumulative: Cumulative | None) -> tuple[float, float]:
    """A likely bracket of the rank-th smallest score, from rows spread evenly over the matrix."""
    n_sample = min(logits.n_rows, max(64, min(4096, _SAMPLE // logits.n_columns)))
    rows = (np.arange(n_sample) * logits.n_rows) // n_sample
    sample = RowSubset(logits, rows)
    of_sample = None if cumulative is None else cumulative.of_rows(rows)
    _, _, values = _scores_between(sample, -1.0, np.inf, of_sample, None)
    # Scores of one row go up and down together, which is why the margin counts rows, not scores.
    per_row = rank / logits.n_rows
    return _bracket(values, rank / (logits.n_rows * logits.n_columns), 4.0 * max(1.0, per_row) * n_sample**0.5)


def _bracket(values: Float64, share: float, margin: float) -> tuple[float, float]:
    """The numbers that lie `margin` ranks to both sides of the place `share` in sorted `values`."""
    place = share * values.size
    below = int(np.clip(place - margin, 0, values.size - 1))
    above = int(np.clip(place + margin, 0, values.size - 1))
    part = np.partition(values, (below, above))
    # The bracket is open below; the next smaller number keeps its lower end inside.
    return float(np.nextafter(part[below], -np.inf)), float(part[above])


def row_lengths(x: npt.NDArray[Any]) -> Float64:
    """Euclidean length of each row of a chunk; not finite exactly where the row is not."""
    lengths: Float64 = _core.row_lengths(x)
    return lengths


def linear(
    x: npt.NDArray[Any], weight: Float32, bias: Float32 | None = None, *, scale: Float32 | None = None
) -> Float32:
    """(scale · x) Wᵀ + b; each product depends on its row and column alone, whatever the threads and the chunk."""
    product: Float32 = _core.Panels(weight, centred=False).multiply(x, scale, bias)
    return product


def top_m(scores: Float32, m: int) -> Int64:
    """Positions of the m largest scores, largest first; ties go to the lower index."""
    positions: Int64 = _core.top_m(np.ascontiguousarray(scores, np.float32), m)
    return positions


# ---------------------------------------------------------------------------------------------------------------------
# Weighted k-means


class _ScaledRows:
    """The rows of a clustering: stored values times a factor per row (1 / length for unit rows)."""

    def __init__(self, rows: Rows, *, unit: bool, chunk_size: int | None) -> None:
        self.rows = rows
        self._chunk_size = chunk_size
        self._scale: Float32 | None = np.empty(rows.n_rows, np.float32) if unit else None
        for start, chunk in rows.chunks(chunk_size):
            lengths = row_lengths(chunk)
            check_lengths(rows, start, lengths, directions=unit)
            if self._scale is not None:
                self._scale[start : start + len(chunk)] = 1.0 / lengths

    def _chunks(self) -> Any:
        for start, chunk in self.rows.chunks(self._chunk_size):
            part = slice(start, start + len(chunk))
            yield part, chunk, None if self._scale is None else self._scale[part]

    def take(self, indices: Int64) -> Float32:
        """Some rows as they are clustered."""
        taken = to_float32(self.rows.take(indices))
        if self._scale is not None:
            taken = taken * self._scale[indices, None]
        return taken

    def nearest(self, centroids: Float32) -> tuple[Int32, Float32]:
        """The nearest centroid of each row (ties: the lower index) and the squared distance to it."""
        labels, squared = np.empty(self.rows.n_rows, np.int32), np.empty(self.rows.n_rows, np.float32)
        panels = _core.Panels(np.ascontiguousarray(centroids), centred=True)
        for part, chunk, scale in self._chunks():
            labels[part], squared[part] = panels.nearest(chunk, scale)
        return labels, squared

    def means(self, labels: Int32, weights: Float32, centroids: Float32) -> Float32:
        """The weighted mean of each cluster's rows, or its centroid as it was where they weigh nothing."""
        sums, mass = np.zeros(centroids.shape), np.zeros(len(centroids))
        for part, chunk, scale in self._chunks():
            _core.accumulate(chunk, scale, labels[part], weights[part], sums, mass)
        heavy = mass > 0.0
        moved: Float32 = centroids.copy()
        moved[heavy] = sums[heavy] / mass[heavy, None]
        return moved


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
) -> KMeans:
    """Lloyd's algorithm on Σ_i w_i · min_k ‖x_i − μ_k‖², all rows read once per assignment and once per update."""
    rows = _ScaledRows(x, unit=unit, chunk_size=chunk_size)
    w = check_weights(weights, x.n_rows)
    if isinstance(init, str):
        centroids = rows.take(_initial_rows(rows, n_clusters, w, init, random_state))
    else:
        centroids = np.array(init, dtype=np.float32)

    labels, squared = rows.nearest(centroids)
    inertia = _inertia(w, squared)
    n_iter = 0
    while n_iter < max_iter:
        centroids = rows.means(_reseeded(labels, w * squared, n_clusters), w, centroids)
        n_iter += 1
        labels, squared = rows.nearest(centroids)
        previous, inertia = inertia, _inertia(w, squared)
        if previous - inertia <= tol * previous:
            break
    return KMeans(centroids, labels, inertia, n_iter, NAME, squared)


def _inertia(weights: Float32, squared: Float32) -> float:
    return float(np.multiply(weights, squared, dtype=np.float64).sum())


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


def _initial_rows(rows: _ScaledRows, n_clusters: int, weights: Float32, init: str, rng: np.random.Generator) -> Int64:
    """Rows that start the clustering, see :func:`ccma_fast.reference.kmeans_init`."""
    w = weights.astype(np.float64)
    if init == "random":
        return weighted_sample(w, n_clusters, rng)
    if init == "k-means++":
        return _kmeans_plus_plus(rows.take(np.arange(rows.rows.n_rows)), n_clusters, w, rng)

    candidates = [draw(w, rng.random())]
    labels, squared = rows.nearest(rows.take(np.asarray(candidates)))
    for _ in range(KMEANS_PARALLEL_ROUNDS):
        potential = w * squared
        total = potential.sum()
        if total == 0.0:
            break
        keep = rng.random(potential.size) * total < KMEANS_PARALLEL_OVERSAMPLING * n_clusters * potential
        new = np.flatnonzero(keep)
        if new.size == 0:
            continue
        new_labels, new_squared = rows.nearest(rows.take(new))
        closer = new_squared < squared
        labels = np.where(closer, new_labels + np.int32(len(candidates)), labels)
        squared = np.where(closer, new_squared, squared)
        candidates.extend(new.tolist())
    if len(candidates) < n_clusters:
        others = np.setdiff1d(np.arange(labels.size), candidates)
        new = others[top_m((weights * squared)[others], n_clusters - len(candidates))]
        labels[new] = np.arange(len(candidates), n_clusters)
        candidates.extend(new.tolist())
    chosen = np.asarray(candidates, dtype=np.int64)
    mass: Float64 = np.bincount(labels, weights=w, minlength=chosen.size).astype(np.float64)
    return chosen[_kmeans_plus_plus(rows.take(chosen), n_clusters, mass, rng)]


def _kmeans_plus_plus(x: Float32, n_clusters: int, weights: Float64, rng: np.random.Generator) -> Int64:
    """k-means++ among candidates, by products of all pairs while those fit."""
    x = np.ascontiguousarray(x)
    # Distances do not change when all rows move; near the origin their products round less.
    x = x - x.mean(axis=0, dtype=np.float64).astype(np.float32)
    squares = np.einsum("ij,ij->i", x, x, dtype=np.float64)
    products = linear(x, x) if len(x) <= _PAIRWISE else None

    def squared_from(index: int) -> Float64:
        row = linear(x[index : index + 1], x)[0] if products is None else products[index]
        squared: Float64 = squares + squares[index] - 2.0 * row
        # Between rows this close the products cancel: take the difference itself, which is zero for equal rows.
        near = np.flatnonzero(squared < 1e-3 * (squares + squares[index]))
        differences = x[near].astype(np.float64) - x[index]
        squared[near] = np.einsum("ij,ij->i", differences, differences)
        return squared

    chosen: list[int] = []
    squared: Float64 | None = None
    for uniform in rng.random(n_clusters):
        potential = weights.copy() if squared is None else weights * squared
        potential[chosen] = 0.0
        index = draw(potential, uniform) if potential.any() else int(np.setdiff1d(np.arange(len(x)), chosen)[0])
        to_new = squared_from(index)
        squared = to_new if squared is None else np.minimum(squared, to_new)
        chosen.append(index)
    return np.asarray(chosen, dtype=np.int64)
