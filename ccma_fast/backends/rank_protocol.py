"""Backends of a query on several ranks: one that can share its passes, and what merges their outcomes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, cast

import numpy as np
import numpy.typing as npt

from ..pool.rows import Rows
from ..reference import Cumulative
from .protocol import Backend, HostBackend, PutScores

__all__ = ["RankBackend", "SpreadBackend", "on_ranks"]


class RankBackend(HostBackend, Protocol):
    """A backend whose passes several ranks can share, each over its own rows, and whose outcomes then are merged."""

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


class SpreadBackend(Backend, Protocol):
    """A backend for rows that lie on several ranks, where what is kept of them stays.

    Its columns are neither arrays nor tensors, but take operators in place, positions and :func:`on_host`. Rows that
    have been brought to this process it leaves to this process's own backend.
    """

    n_ranks: int

    @property
    def bytes_exchanged(self) -> int:
        """Payload between the ranks so far."""
        ...

    def score_columns(
        self,
        student_logits: Rows,
        teacher_logits: Rows | None,
        q_student: Any,
        q_teacher: Any,
        columns: Mapping[str, npt.DTypeLike],
        *,
        chunk_size: int | None = None,
    ) -> tuple[dict[str, Any], dict[str, int]]:
        """Columns of the scores of all rows, and the totals of set sizes, overlaps and differing classes."""
        ...

    def score_columns_at_sizes(
        self,
        student_logits: Rows,
        teacher_logits: Rows | None,
        student_size: float,
        teacher_size: float,
        columns: Mapping[str, npt.DTypeLike],
    ) -> tuple[tuple[float, float], dict[str, Any], dict[str, int]] | None:
        """:meth:`score_columns` with the thresholds of target sizes, which are found in the same pass.

        None as for :meth:`Backend.score_at_sizes`.
        """
        ...

    def class_sizes(self, classes: Any, n_classes: int) -> npt.NDArray[np.int64]:
        """As :meth:`DeviceBackend.class_sizes`."""
        ...

    def best_of_classes(
        self, scores: Any, classes: Any, sizes: npt.NDArray[np.int64], wanted: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.int64]:
        """As :meth:`DeviceBackend.best_of_classes`."""
        ...

    def squared_distances(self, rows: Rows, others: Rows) -> Any:
        """‖x − x_j‖² of each row to the nearest of `others`, of unit rows both, a column."""
        ...

    def nearest_to_centroids(
        self, groups: Any, pick_of_group: npt.NDArray[np.int64], cost: Any
    ) -> npt.NDArray[np.int64]:
        """The rows of least cost of each group that has a pick, ascending."""
        ...


def on_ranks(backend: Backend) -> SpreadBackend | None:
    """The backend where rows lie on several ranks."""
    return cast(SpreadBackend, backend) if getattr(backend, "n_ranks", 1) > 1 else None
