"""The shared parts of steps 5 and 6: candidates, and the picks that cover them."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from ..backends.choose import backend_for_small
from ..backends.protocol import on_device, on_host, on_ranks
from ..pool.derived import RowSubset
from ..pool.rows import Rows
from ..reference import KMeans
from ..steps.quotas import class_quotas
from ..steps.representatives import representatives
from .represented import MOST_NEAREST, NO_NEAREST, nearest_represented, numbers_of
from .settings import RowNumbers, Settings

__all__ = [
    "NO_PICKS",
    "Apart",
    "Picks",
    "Tally",
    "best_of_classes",
    "class_sizes",
    "cover",
    "filled",
    "picks_among",
    "picks_by_class",
    "stand_for_clusters",
]

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]

# Rows of a cluster, on average, among which one far enough from others is looked for first.
_RANKED = 4

# Bytes of the candidates that are read together.
_BLOCK_BYTES = 16 << 20

# Rows × clusters × dimensions up to which the core clusters faster than a device: an iteration then takes one of its
# threads some 1.4 ms at most, a device a hundred launches of 10 µs.
_SMALL = 1 << 24


class Apart(Protocol):
    """What keeps picks apart: see :class:`ccma_fast.query.spacing.Spacing`."""

    @property
    def n_too_near(self) -> int:
        """Rows that were passed over."""
        ...

    def walk(self, numbers: Int64, n_picks: int) -> Int64:
        """The positions of the first rows that may be picked."""
        ...

    def fill(
        self, scored: RowNumbers, order: Int64, n_picks: int, *, classes: Any = None, room: Int64 | None = None
    ) -> Int64:
        """More picks, in an order of preference."""
        ...


class Tally(NamedTuple):
    """Counts of the candidates and clusterings behind the picks, for the report."""

    n_candidates: int = 0
    n_clusters: int = 0
    kmeans_iterations: int = 0
    inertia: float = 0.0
    n_too_near: int = 0

    def plus(self, other: Tally) -> Tally:
        """Sum of two tallies, with the larger number of iterations."""
        return Tally(
            self.n_candidates + other.n_candidates,
            self.n_clusters + other.n_clusters,
            max(self.kmeans_iterations, other.kmeans_iterations),
            self.inertia + other.inertia,
            self.n_too_near + other.n_too_near,
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
    nearest: Int64 = NO_NEAREST
    """Positions of the nearest rows that each pick represents, see :func:`~.represented.nearest_represented`; empty
    where these are not asked for."""
    leaders: npt.NDArray[np.str_] = np.empty(0, np.str_)
    """By whose criterion each pick was selected, see :class:`~.explanation.PickOrigin`."""

    def in_order(self, order: Int64) -> Picks:
        return self._replace(
            positions=self.positions[order],
            scores=self.scores[order],
            represents=self.represents[order],
            nearest=self.nearest[order] if self.nearest.size else self.nearest,
        )

    def led_by(self, leader: str) -> Picks:
        """The same picks, all by one criterion."""
        return self._replace(leaders=np.full(self.positions.size, leader))

    def kept_apart(self, spacing: Apart | None) -> Picks:
        """All picks of a query, told how many rows its minimum distance left out."""
        if spacing is None:
            return self
        return self._replace(tally=self.tally._replace(n_too_near=spacing.n_too_near))

    @classmethod
    def joined(cls, parts: Sequence[Picks]) -> Picks:
        """The parts, concatenated; without `trust`."""
        positions, scores, represents, tallies, _, nearest, leaders = zip(*parts, strict=True)
        return cls(
            np.concatenate(positions),
            np.concatenate(scores),
            np.concatenate(represents),
            functools.reduce(Tally.plus, tallies),
            nearest=np.concatenate(nearest),
            leaders=np.concatenate(leaders),
        )


NO_PICKS = Picks(np.empty(0, np.int64), np.empty(0, np.float32), np.empty(0, np.int64))


class Covering(NamedTuple):
    """Rows that cover others, by their positions among these."""

    positions: Int64
    represents: Int64
    tally: Tally
    groups: npt.NDArray[np.integer[Any]] = np.empty(0, np.int64)
    """Cluster of each row, where the rows that a pick represents are asked for."""
    cost: Float32 = np.empty(0, np.float32)
    """Squared distances to the centroids, likewise."""

    @classmethod
    def joined(cls, parts: Sequence[Covering]) -> Covering:
        """The coverings of rows that lie behind each other, as one of all of them."""
        positions, represents, tallies, groups, cost = zip(*parts, strict=True)
        n_rows = [tally.n_candidates for tally in tallies]
        starts = (np.cumsum(n_rows) - n_rows).tolist()  # no part has more clusters than rows
        return cls(
            np.concatenate([start + part for start, part in zip(starts, positions, strict=True)]),
            np.concatenate(represents),
            functools.reduce(Tally.plus, tallies),
            np.concatenate([start + part for start, part in zip(starts, groups, strict=True)]),
            np.concatenate(cost),
        )

    def picks(
        self, settings: Settings, rows: Rows, numbers: Int64 | None = None, scores: Float32 | None = None
    ) -> Picks:
        """The picks, with the rows that each represents where these are asked for.

        Parameters
        ----------
        settings : Settings
        rows : Rows, shape (m, D)
            The rows that were covered.
        numbers : ndarray, shape (m,), int64, optional
            Their positions among the scored rows; by default they are those.
        scores : ndarray, shape (m,), float32, optional
            NaN where missing.
        """
        at, nearest = self.positions, NO_NEAREST
        of_picks = np.full(at.size, np.nan, np.float32) if scores is None else scores[at]
        if settings.explains:
            nearest = nearest_represented(settings.backend, rows, at, self.groups, self.cost)
        if numbers is not None:
            at, nearest = numbers[at], numbers_of(nearest, numbers)
        return Picks(at, of_picks, self.represents, self.tally, nearest=nearest)


def cover(
    settings: Settings,
    rows: Rows,
    weights: Float32 | None,
    n_picks: int,
    *,
    numbers: RowNumbers | None = None,
    spacing: Apart | None = None,
) -> Covering:
    """Step 6: the rows that cover all of `rows`, as positions in these.

    Where there is a `spacing`, `numbers` are the rows' own in the pool, and rows that are too near are passed over for
    the next of the clusters; fewer picks come back where none of the first few of each is far enough.
    """
    config, n = settings.config, rows.n_rows
    if n <= n_picks:
        order = np.arange(n) if weights is None else settings.backend.top_m(weights, n)
        if spacing is not None and numbers is not None:
            order = order[spacing.walk(numbers[order], n_picks)]
        own = (np.arange(n), np.zeros(n, np.float32)) if settings.explains else ()
        return Covering(order, np.ones(order.size, dtype=np.int64), Tally(n), *own)
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
    tally = Tally(n, n_clusters, found.n_iter, found.inertia)
    clusters = (found.labels, found.squared_distances) if settings.explains else ()
    if spacing is None or numbers is None:
        picks, represents = stand_for_clusters(settings, found, n_picks, of_clusters, preference)
        return Covering(picks, represents, tally, *clusters)
    order, _ = stand_for_clusters(settings, found, min(n, _RANKED * n_picks), of_clusters, preference)
    picks = order[spacing.walk(numbers[order], n_picks)]
    # The first of a cluster stands for its rows but for the later ones, which stand for themselves.
    labels, first, n_of_cluster = np.unique(found.labels[picks], return_index=True, return_counts=True)
    represents = np.ones(picks.size, np.int64)
    represents[first] = class_sizes(settings, found.labels, n_clusters)[labels] - n_of_cluster + 1
    return Covering(picks, represents, tally, *clusters)


def stand_for_clusters(
    settings: Settings, found: KMeans, n_picks: int, weights: Any = None, preference: Any = None
) -> tuple[Int64, Int64]:
    """:func:`ccma_fast.steps.representatives.representatives`, wherever the labels are."""
    spread = on_ranks(settings.backend)
    if spread is not None:
        return spread.representatives(found, n_picks, weights, preference)
    return representatives(found, n_picks, weights, preference)


def picks_among(
    settings: Settings,
    space: Rows,
    scored: RowNumbers,
    candidates: Int64,
    scores: Float32,
    n_picks: int,
    *,
    weighted: bool,
    spacing: Apart | None = None,
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
    spacing : Apart, optional
        What limits the picks, see :func:`cover`.
    """
    weights, numbers = scores if weighted else None, scored[candidates]
    rows = settings.kept(space, numbers)
    found = cover(settings, rows, weights, n_picks, numbers=numbers, spacing=spacing)
    return found.picks(settings, rows, candidates, scores)


def filled(
    picks: Picks,
    settings: Settings,
    scored: RowNumbers,
    scores: Any,
    n_picks: int,
    spacing: Apart | None,
    *,
    taken: Int64 | None = None,
    classes: Any = None,
    room: Int64 | None = None,
) -> Picks:
    """Picks and, where a `spacing` left fewer, more of all scored rows, those of largest score first.

    Parameters
    ----------
    picks, settings, scored
        As in :func:`picks_among`.
    scores : ndarray or tensor, shape (M,)
        Score of each scored row.
    n_picks : int
        Wanted of `picks`.
    spacing, classes, room
        As in :meth:`ccma_fast.query.spacing.Spacing.fill`.
    taken : ndarray, int64, optional
        Positions of other picks.
    """
    missing = n_picks - picks.positions.size
    if spacing is None or not missing:
        return picks
    order = settings.backend.top_m(scores, scored.size)
    order = order[~np.isin(order, picks.positions if taken is None else np.concatenate([picks.positions, taken]))]
    of_rows = None if classes is None else on_host(classes)
    more = spacing.fill(scored, order, missing, classes=of_rows, room=room)
    behind = np.full((more.size, MOST_NEAREST), -1, np.int64) if settings.explains else NO_NEAREST
    alone = Picks(more, on_host(scores[more]), np.ones(more.size, np.int64), Tally(more.size), nearest=behind)
    return Picks.joined([picks, alone])


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
    shares: Float64 | None = None,
    spacing: Apart | None = None,
) -> Picks:
    """Class-balanced quotas, filled in each predicted class by k-means on its best rows.

    Parameters
    ----------
    settings, space, scored, weighted
        As in :func:`picks_among`.
    scores, classes : ndarray or tensor, shape (M,)
        Score of each scored row, the larger the better, and its most probable class.
    already : ndarray, shape (C,), int64
        Number of labelled rows of each class; the quotas go first to classes with the fewest.
    n_picks : int
    n_candidates : callable
        Number of candidates of a class, from its quota and its number of rows.
    shares : ndarray, shape (C,), float64, optional
        Wanted shares of the classes among labels and picks; all equal by default.
    spacing : Apart, optional
        What limits the picks, see :func:`cover`; what the candidates of a class cannot fill goes to the rows of largest
        score, of this class where there are some.

    Returns
    -------
    Picks
        Largest score first.
    """
    sizes = class_sizes(settings, classes, already.size)
    quotas = class_quotas(sizes, already, n_picks, shares)
    pairs = zip(quotas.tolist(), sizes.tolist(), strict=True)
    wanted = np.asarray([min(n_candidates(quota, size), size) if quota else 0 for quota, size in pairs], np.int64)
    candidates = best_of_classes(settings, scores, classes, sizes, wanted)
    of_candidates = on_host(scores[candidates])
    parts = []
    for block in _blocks(settings, space, wanted, quotas):
        rows = block.settings.kept(space, scored[candidates[block.first : block.last]])
        for part, quota in zip(block.parts, block.quotas, strict=True):
            members = RowSubset(rows, np.arange(part.start - block.first, part.stop - block.first))
            weights = of_candidates[part]
            numbers = scored[candidates[part]] if spacing is not None else None
            of_class = weights if weighted else None
            parts.append(cover(block.settings, members, of_class, quota, numbers=numbers, spacing=spacing))
    whole = Covering.joined(parts).picks(settings, RowSubset(space, scored[candidates]), candidates, of_candidates)
    if whole.positions.size < n_picks:
        room = quotas - np.bincount(on_host(classes[whole.positions]), minlength=quotas.size)
        whole = filled(whole, settings, scored, scores, n_picks, spacing, classes=classes, room=room)
    return whole.in_order(np.lexsort((whole.positions, -whole.scores)))


def class_sizes(settings: Settings, classes: Any, n_classes: int) -> Int64:
    """How many rows each class has, shape (C,), from the class of each row, wherever these are."""
    keeper = on_ranks(settings.backend) or on_device(settings.backend)
    if keeper is None or isinstance(classes, np.ndarray):
        return np.bincount(classes, minlength=n_classes)
    return keeper.class_sizes(classes, n_classes)


def best_of_classes(settings: Settings, scores: Any, classes: Any, sizes: Int64, wanted: Int64) -> Int64:
    """As :meth:`ccma_fast.backends.protocol.DeviceBackend.best_of_classes`, wherever scores and classes are."""
    keeper = on_ranks(settings.backend) or on_device(settings.backend)
    if keeper is not None:
        return keeper.best_of_classes(scores, classes, sizes, wanted)
    by_class, ends = np.argsort(classes, kind="stable"), np.cumsum(sizes)
    found = []
    for c in np.flatnonzero(wanted).tolist():
        members = by_class[ends[c] - sizes[c] : ends[c]]
        found.append(members[np.sort(settings.backend.top_m(scores[members], int(wanted[c])))])
    return np.concatenate(found)


class _Block:
    """Classes, one after the other, whose candidates are read together."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.parts: list[slice] = []
        """The candidates of each class, among those of all classes."""
        self.quotas: list[int] = []

    @property
    def first(self) -> int:
        return int(self.parts[0].start)

    @property
    def last(self) -> int:
        return int(self.parts[-1].stop)


def _blocks(settings: Settings, space: Rows, wanted: Int64, quotas: Int64) -> list[_Block]:
    """The classes that have a quota, in their order: one random stream goes through the clusterings.

    Small ones run on the core where the backend is a device, which would spend its time on launches.
    """
    on_core = replace(settings, backend=backend_for_small(settings.backend))
    most_rows = min(_BLOCK_BYTES, settings.memory.rows) // (4 * space.n_columns)
    blocks: list[_Block] = []
    ends = np.cumsum(wanted)
    for c in np.flatnonzero(quotas).tolist():
        n, quota, end = int(wanted[c]), int(quotas[c]), int(ends[c])
        of_class = on_core if n * settings.config.cluster_count(n, quota) * space.n_columns <= _SMALL else settings
        if not blocks or blocks[-1].settings is not of_class or end - blocks[-1].first > most_rows:
            blocks.append(_Block(of_class))
        blocks[-1].parts.append(slice(end - n, end))
        blocks[-1].quotas.append(quota)
    return blocks
