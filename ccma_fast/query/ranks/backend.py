"""The backend of a query on several ranks: what goes over all rows is a command to the ranks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ...backends.order_statistic import HostScores, ScoresBetween, order_statistic
from ...backends.protocol import PartedBackend, by_brackets
from ...pool.arrays import KeptRows
from ...pool.rows import Rows
from ...reference import Cumulative, KMeans, target_size_rank
from ...steps.clustering import cluster
from ...steps.representatives import representatives
from ..represented import are_nearest
from ..scores import TOTALS, Columns
from .clusterings import clustering, spread_representatives
from .places import spread_source
from .session import Column, Session

__all__ = ["SpreadBackend"]

Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]


class SpreadBackend:
    """See :class:`ccma_fast.backends.protocol.SpreadBackend`.

    Parameters
    ----------
    session : Session
    here : PartedBackend
        This process's own: it computes what concerns rows that were brought here, and everything that is not said here.
    """

    def __init__(self, session: Session, here: PartedBackend) -> None:
        self._session, self._here = session, here
        self.n_ranks = len(session.runs)
        session.backend = self

    def __getattr__(self, name: str) -> Any:
        return getattr(self._here, name)

    def describe(self) -> str:
        """The backend and what it runs on, for reports."""
        return f"{self._here.describe()}, {self.n_ranks} ranks"

    @property
    def bytes_exchanged(self) -> int:
        """Payload between the ranks so far."""
        return self._session.transport.bytes_exchanged

    def _is_here(self, rows: Rows) -> bool:
        return spread_source(rows) is None

    def check_rows(self, rows: Rows, *, directions: bool = False, chunk_size: int | None = None) -> None:
        """Each rank checks its own rows."""
        self._session.each("check_rows", rows, directions)

    # -----------------------------------------------------------------------------------------------------------------
    # Thresholds and scores

    def target_size_threshold(
        self, logits: Rows, size: float, cumulative: Cumulative | None = None, *, chunk_size: int | None = None
    ) -> float:
        """The exact ⌈k·M⌉-th smallest of all M·C scores: ranks count, and send those that it may be."""
        if self._is_here(logits):
            return self._here.target_size_threshold(logits, size, cumulative, chunk_size=chunk_size)
        return order_statistic(
            target_size_rank(size, logits.n_rows, logits.n_columns), logits, cumulative, self._scores_between
        )

    def _scores_between(self, logits: Rows, cumulative: Cumulative | None, low: float, high: float) -> ScoresBetween:
        below, inside, kept = zip(*self._session.each("scores_between", logits, cumulative, low, high), strict=True)
        return ScoresBetween(sum(below), sum(inside), HostScores(np.concatenate(kept)))

    def score_columns_at_sizes(
        self,
        student_logits: Rows,
        teacher_logits: Rows | None,
        student_size: float,
        teacher_size: float,
        columns: Columns,
    ) -> tuple[tuple[float, float], dict[str, Any], dict[str, int]] | None:
        """Each rank scores its rows between likely thresholds, and then those that they leave open."""
        sizes, here = (student_size, teacher_size), by_brackets(self._here)
        brackets = None if here is None else here.likely_brackets(student_logits, teacher_logits, *sizes)
        if here is None or brackets is None:
            return None
        kept, begun = {name: self._column(student_logits) for name in columns}, self._column(student_logits)
        handles = {name: column.handle for name, column in kept.items()}
        counted, are_whole = zip(
            *self._session.each("score_in_brackets", begun.handle, student_logits, teacher_logits, brackets, columns),
            strict=True,
        )
        thresholds = None
        if all(are_whole):
            thresholds = here.thresholds_in_brackets(student_logits, sizes, brackets, counted)
        if thresholds is None:
            return None
        totals = self._session.total("settle", begun, handles, student_logits, *thresholds)
        return thresholds, kept, dict(zip(TOTALS, totals.tolist(), strict=True))

    def raised_threshold(
        self, logits: Rows, q: float, cumulative: Cumulative | None = None, *, chunk_size: int | None = None
    ) -> float:
        """The least threshold from q up that leaves no set empty."""
        if self._is_here(logits):
            return self._here.raised_threshold(logits, q, cumulative, chunk_size=chunk_size)
        least: float = max(self._session.each("raised", logits, q, cumulative))
        return least

    def row_thresholds(self, logits: Rows, q: Any, cumulative: Cumulative, *, chunk_size: int | None = None) -> Any:
        """Thresholds on −ln p that give the sets of a cumulative score: a column."""
        if self._is_here(logits):
            return self._here.row_thresholds(logits, q, cumulative, chunk_size=chunk_size)
        column = self._column(logits)
        self._session.each("row_thresholds", column.handle, logits, q, cumulative)
        return column

    def score(self, student: Rows, *arguments: Any, **settings: Any) -> Any:
        """Scores of rows that were brought here; of all rows only the classes, which are brought here too."""
        if self._is_here(student):
            return self._here.score(student, *arguments, **settings)
        columns, _ = self.score_columns(student, None, np.inf, np.inf, {"student_top1": np.int32})
        return _Classes(columns["student_top1"].numpy())

    def score_columns(
        self,
        student_logits: Rows,
        teacher_logits: Rows | None,
        q_student: Any,
        q_teacher: Any,
        columns: Columns,
        *,
        chunk_size: int | None = None,
    ) -> tuple[dict[str, Any], dict[str, int]]:
        """Each rank scores its own rows and keeps the columns."""
        kept = {name: self._column(student_logits) for name in columns}
        handles = {name: column.handle for name, column in kept.items()}
        totals = self._session.total("scored", handles, student_logits, teacher_logits, (q_student, q_teacher), columns)
        return kept, dict(zip(TOTALS, totals.tolist(), strict=True))

    def _column(self, rows: Rows) -> Column:
        return Column(self._session, self._session.own(rows))

    # -----------------------------------------------------------------------------------------------------------------
    # The best rows

    def top_m(self, scores: Any, m: int) -> Int64:
        """Positions of the m largest scores, largest first; ties go to the lower index."""
        if not isinstance(scores, Column):
            return self._here.top_m(scores, m)
        values, positions = _merged(self._session.each("top", scores, m))
        return positions[self._here.top_m(values, min(m, values.size))]

    def class_sizes(self, classes: Any, n_classes: int) -> Int64:
        """How many rows each class has."""
        return self._session.total("class_sizes", classes, n_classes)

    def best_of_classes(self, scores: Column, classes: Column, sizes: Int64, wanted: Int64) -> Int64:
        """The rows of largest score of each class, of the best of every rank."""
        values, of_class, positions = _merged(self._session.each("best_of_classes", scores, classes, wanted))
        found = []
        for c in np.flatnonzero(wanted).tolist():
            members = np.flatnonzero(of_class == c)
            best = self._here.top_m(np.ascontiguousarray(values[members]), int(wanted[c]))
            found.append(positions[members[np.sort(best)]])
        return np.concatenate(found)

    def squared_distances(self, rows: Rows, others: Rows) -> Column:
        """‖x − x_j‖² of each row to the nearest of `others`, which are sent to every rank."""
        column = self._column(rows)
        here = others if self._is_here(others) else KeptRows(others)
        self._session.each("squared_distances", column.handle, rows, here)
        return column

    # -----------------------------------------------------------------------------------------------------------------
    # Clusterings

    def weighted_kmeans(self, x: Rows, n_clusters: int, **settings: Any) -> KMeans:
        """Lloyd's algorithm, whose labels and squared distances are columns where the rows lie on several ranks."""
        return self.cluster(x, n_clusters, method="full", **settings)

    def cluster(self, x: Rows, n_clusters: int, *, method: str, **settings: Any) -> KMeans:
        """:func:`ccma_fast.steps.clustering.cluster`, with columns likewise."""
        if self._is_here(x):
            return cluster(self._here, x, n_clusters, method=method, **settings)
        return clustering(self._session, self._here, x, n_clusters, method=method, **settings)

    def representatives(self, found: KMeans, n_picks: int, weights: Any, preference: Any) -> tuple[Int64, Int64]:
        """The rows that stand for clusters, see :func:`ccma_fast.steps.representatives.representatives`."""
        labels: Any = found.labels
        if not isinstance(labels, Column):
            return representatives(found, n_picks, weights, preference)
        return spread_representatives(self._session, found, n_picks, weights, preference)

    def nearest_to_centroids(self, groups: Column, pick_of_group: Int64, cost: Column) -> Int64:
        """The rows of least cost of each group that has a pick, of the nearest of every rank."""
        found = self._session.each("nearest_to_centroids", groups, cost, pick_of_group)
        of_group, costs, positions = _merged([(group, cost_, at) for at, group, cost_ in found])
        return positions[are_nearest(of_group, costs)]


class _Classes:
    """Scores of which only the most probable class is known."""

    def __init__(self, student_top1: npt.NDArray[np.int32]) -> None:
        self.student_top1 = student_top1


def _merged(parts: Sequence[tuple[npt.NDArray[Any], ...]]) -> list[npt.NDArray[Any]]:
    """Arrays of every rank, the last of which are positions: joined, by ascending position."""
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    order = np.argsort(columns[-1], kind="stable")
    return [column[order] for column in columns]
