"""The shared parts of steps 5 and 6: candidates, and the picks that cover them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..backends.protocol import on_device, on_host
from ..pool.rows import Rows
from ..steps.quotas import class_quotas
from ..steps.representatives import representatives
from .settings import RowNumbers, Settings

__all__ = ["NO_PICKS", "Picks", "Tally", "cover", "picks_among", "picks_by_class"]

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]


class Tally(NamedTuple):
    """Counts of the candidates and clusterings behind the picks, for the report."""

    n_candidates: int = 0
    n_clusters: int = 0
    kmeans_iterations: int = 0
    inertia: float = 0.0

    def plus(self, other: Tally) -> Tally:
        """Sum of two tallies, with the larger number of iterations."""
        return Tally(
            self.n_candidates + other.n_candidates,
            self.n_clusters + other.n_clusters,
            max(self.kmeans_iterations, other.kmeans_iterations),
            self.inertia + other.inertia,
        )


class Picks(NamedTuple):
    """Selected rows, by their positions among the scored rows, in the order of selection."""

    positions: Int64
    scores: Float32
    represents: Int64
    """Cluster size of each pick, or the number of candidates nearest to it."""
    tally: Tally = Tally()
    trust: float = math.nan
    """Fraction t of the picks made by the teacher's criterion; NaN where the acquisition has no such fraction."""

    def in_order(self, order: Int64) -> Picks:
        return self._replace(
            positions=self.positions[order], scores=self.scores[order], represents=self.represents[order]
        )

    @classmethod
    def joined(cls, parts: Sequence[Picks]) -> Picks:
        """The parts, concatenated; without `trust`."""
        positions, scores, represents, tallies, _ = zip(*parts, strict=True)
        whole = Tally()
        for tally in tallies:
            whole = whole.plus(tally)
        return cls(np.concatenate(positions), np.concatenate(scores), np.concatenate(represents), whole)


NO_PICKS = Picks(np.empty(0, np.int64), np.empty(0, np.float32), np.empty(0, np.int64))


def cover(settings: Settings, rows: Rows, weights: Float32 | None, n_picks: int) -> tuple[Int64, Int64, Tally]:
    """Step 6: positions in `rows` of the picks, their cluster sizes, and the tally."""
    config, n = settings.config, rows.n_rows
    if n <= n_picks:
        order = np.arange(n) if weights is None else settings.backend.top_m(weights, n)
        return order, np.ones(n, dtype=np.int64), Tally(n)
    n_clusters = config.cluster_count(n, n_picks)
    of_clusters = weights if config.weighted_coverage else None
    found = settings.backend.weighted_kmeans(
        rows,
        n_clusters,
        weights=of_clusters,
        max_iter=config.kmeans_max_iter,
        tol=config.kmeans_tol,
        random_state=settings.streams.coverage,
        unit=True,
        chunk_size=settings.chunk_size,
        kept_bytes=settings.memory.sketch,
    )
    preference = weights if config.pick == "highest" else None
    picks, represents = representatives(found, n_picks, of_clusters, preference)
    return picks, represents, Tally(n, n_clusters, found.n_iter, found.inertia)


def picks_among(
    settings: Settings,
    space: Rows,
    scored: RowNumbers,
    candidates: Int64,
    scores: Float32,
    n_picks: int,
    *,
    weighted: bool,
) -> Picks:
    """The candidates that cover all of them.

    Parameters
    ----------
    settings : Settings
    space : Rows, shape (N, D)
        Embedding space of the coverage step.
    scored : AllBut or ndarray, shape (M,)
        The scored rows.
    candidates : ndarray, shape (m,), int64
        Positions among the scored rows, ascending.
    scores : ndarray, shape (m,), float32
        Scores of the candidates.
    n_picks : int
    weighted : bool
        Whether the scores are the weights of the coverage.
    """
    weights = scores if weighted else None
    picks, represents, tally = cover(settings, settings.kept(space, scored[candidates]), weights, n_picks)
    return Picks(candidates[picks], scores[picks], represents, tally)


def picks_by_class(
    settings: Settings,
    space: Rows,
    scored: RowNumbers,
    scores: Any,
    classes: Any,
    already: Int64,
    n_picks: int,
    *,
    n_candidates: Callable[[int, int], int],
    weighted: bool,
) -> Picks:
    """Class-balanced quotas, filled in each of the teacher's classes by k-means on its best rows.

    Parameters
    ----------
    settings, space, scored, weighted
        As in :func:`picks_among`.
    scores, classes : ndarray or tensor, shape (M,)
        Score of each scored row, the larger the better, and the teacher's most probable class.
    already : ndarray, shape (C,), int64
        Number of labelled rows of each class; the quotas go first to classes with the fewest.
    n_picks : int
    n_candidates : callable
        Number of candidates of a class, from its quota and its number of rows.

    Returns
    -------
    Picks
        Largest score first.
    """
    device = on_device(settings.backend)
    if device is None:
        by_class, n_rows = np.argsort(classes, kind="stable"), np.bincount(classes, minlength=already.size)
    else:
        by_class, n_rows = device.grouped(classes, already.size)
    ends = np.cumsum(n_rows)
    parts = []
    for c, quota in enumerate(class_quotas(n_rows, already, n_picks).tolist()):
        if quota == 0:
            continue
        members = by_class[ends[c] - n_rows[c] : ends[c]]
        best = settings.backend.top_m(scores[members], n_candidates(quota, int(n_rows[c])))
        candidates = on_host(members[np.sort(best)])
        of_candidates = on_host(scores[candidates])
        parts.append(picks_among(settings, space, scored, candidates, of_candidates, quota, weighted=weighted))
    whole = Picks.joined(parts)
    return whole.in_order(np.lexsort((whole.positions, -whole.scores)))
