"""The interface of a backend whose passes several ranks share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, cast

import numpy as np
import numpy.typing as npt

from ..errors import BackendUnavailableError
from ..pool.derived import Runs
from ..pool.rows import Rows
from ..reference import Cumulative
from .protocol import Backend, PutScores

__all__ = ["RankBackend", "shared"]


class RankBackend(Backend, Protocol):
    """A backend whose passes several ranks can share, each over its own rows, and whose outcomes then are merged.

    A backend may lack some of these: :func:`shared` tells.
    """

    def scores_between(
        self,
        logits: Rows,
        cumulative: Cumulative | None,
        low: float,
        high: float,
        chunk_size: int | None = None,
        share: float = ...,
    ) -> Any:
        """Counts and scores of a bracket, a :class:`~.order_statistic.ScoresBetween`.

        The rows are a `share` of all that are kept of.
        """
        ...

    def HostPart(self, rows: Rows, numbers: Runs, weights: npt.NDArray[np.float32], **settings: Any) -> Any:
        """The rows of a clustering that are here, see :class:`ccma_fast.backends.cpu.kmeans_part.HostPart`."""
        ...

    def clustered_rows(self, x: npt.NDArray[np.float32]) -> Any:
        """Rows of a matrix as those of a clustering, see :class:`ccma_fast.backends.kmeans_part.ClusteredRows`."""
        ...

    def likely_brackets(
        self, student_logits: Rows, teacher_logits: Rows | None, student_size: float, teacher_size: float
    ) -> list[tuple[float, float]] | None:
        """Two numbers for each matrix between which its threshold is likely to lie; None where rows are few."""
        ...

    def ScoresInBrackets(
        self,
        student_logits: Rows,
        teacher_logits: Rows | None,
        brackets: list[tuple[float, float]],
        put: PutScores,
        *,
        chunk_size: int | None = None,
    ) -> Any:
        """One pass: scores of most rows, and what those of others need, once thresholds are known."""
        ...

    def thresholds_in_brackets(
        self,
        logits: Rows,
        sizes: tuple[float, float],
        brackets: list[tuple[float, float]],
        counted: Sequence[Any],
    ) -> tuple[float, float] | None:
        """The thresholds of target sizes, of what the passes of all ranks have counted; None where a bracket missed."""
        ...


def shared(backend: Backend, passes: str) -> RankBackend:
    """The backend, if it has a member of :class:`RankBackend` whose passes are to be shared.

    Raises
    ------
    BackendUnavailableError
        It has not.
    """
    if not hasattr(backend, passes):
        raise BackendUnavailableError(
            f"backend {backend.NAME!r} computes {_WHAT[passes]} on one rank alone; expected backend='cpu', or one rank"
        )
    return cast(RankBackend, backend)


_WHAT = {
    "scores_between": "thresholds of target sizes",
    "ScoresInBrackets": "thresholds of target sizes",
    "HostPart": "a k-means of the pool",
}
