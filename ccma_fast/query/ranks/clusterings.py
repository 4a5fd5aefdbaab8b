"""k-means of rows that lie on several ranks: labels and squared distances stay there."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import numpy.typing as npt

from ...backends.protocol import PartedBackend
from ...pool.rows import Rows
from ...reference import KMeans
from ...steps.clustering import cluster_parts
from ...steps.representatives import representatives_of_parts
from .session import Column, Session

__all__ = ["clustering", "spread_representatives"]

Int64 = npt.NDArray[np.int64]


def clustering(
    session: Session,
    here: PartedBackend,
    x: Rows,
    n_clusters: int,
    *,
    method: str,
    weights: Any = None,
    init: str | npt.NDArray[np.float32] = "k-means||",
    max_iter: int = 20,
    tol: float = 1e-4,
    random_state: np.random.Generator,
    unit: bool = False,
    **_: Any,
) -> KMeans:
    """:func:`ccma_fast.steps.clustering.cluster`; how much is read and kept is each rank's own."""
    part, labels, squared = (Column(session, session.own(x)) for _ in range(3))
    session.each("cluster", part.handle, x, weights, unit)
    found = cluster_parts(
        here,
        _SessionParts(session, part),
        n_clusters,
        method=method,
        init=init,
        max_iter=max_iter,
        tol=tol,
        random_state=random_state,
    )
    session.each("keep_clustering", part, labels.handle, squared.handle)
    return KMeans(found.centroids, cast(Any, labels), found.inertia, found.n_iter, here.NAME, cast(Any, squared))


def spread_representatives(
    session: Session, found: KMeans, n_picks: int, weights: Any, preference: Any
) -> tuple[Int64, Int64]:
    """:func:`ccma_fast.steps.representatives.representatives` of such a clustering."""
    labels = cast(Column, found.labels)
    part = Column(session, labels.own)
    session.each("represent", part.handle, labels, found.squared_distances, weights, preference)
    return representatives_of_parts(_SessionParts(session, part), len(found.centroids), n_picks)


class _SessionParts:
    """A part of each rank, see :class:`ccma_fast.backends.parts.Parts`."""

    def __init__(self, session: Session, part: Column) -> None:
        self._session, self._part = session, part
        self.n_rows = part.size

    def each(self, method: str, *args: Any) -> list[Any]:
        return self._session.each("method", self._part, method, args)

    def total(self, method: str, *args: Any) -> Int64:
        return self._session.total("method", self._part, method, args)
