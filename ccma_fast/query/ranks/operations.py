"""What ranks do on their own rows. The first argument of each is the rank's :class:`~.holder.Holder`.

A matrix among the arguments is that of all ranks; a :class:`~.holder.Held` is what this rank has kept under the number
that the first rank sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ...backends.protocol import by_brackets, on_host
from ...config import CCMAConfig
from ...pool.derived import Runs
from ...pool.rows import Chunk, Rows
from ...reference import Cumulative
from ...steps.coverage import squared_distances as distances_to_nearest
from ...steps.cuts import Cuts
from ...steps.representatives import RepresentedPart
from ..disagreement import scored_rows
from ..logits import Logits
from ..picks import best_of_classes as best_here
from ..picks import class_sizes as sizes_here
from ..represented import nearest_to_centroids as nearest_here
from ..scores import Columns, Scores
from .holder import Held, Holder

__all__ = [
    "best_of_classes",
    "bytes_read",
    "changed",
    "check_rows",
    "class_sizes",
    "cluster",
    "configure",
    "keep_clustering",
    "largest",
    "method",
    "nearest_to_centroids",
    "raised",
    "read",
    "represent",
    "row_thresholds",
    "scored",
    "scores_between",
    "set_values",
    "squared_distances",
    "take",
    "top",
    "whole",
]

Int64 = npt.NDArray[np.int64]


def configure(holder: Holder, config: CCMAConfig, chunk_size: int | None) -> None:
    """The constants of the query."""
    holder.config, holder.chunk_size = config, chunk_size


def take(holder: Holder, rows: Rows, numbers: Int64) -> Chunk:
    """Those of some rows of a source that are here, in their order."""
    return rows.take(numbers[holder.runs.positions(numbers) >= 0])


def bytes_read(holder: Holder) -> list[int]:
    """Bytes read of each source so far."""
    return [rows.bytes_read for rows in holder.sources]


def check_rows(holder: Holder, rows: Rows, directions: bool) -> None:
    """Every row is finite and, where directions are needed, has one."""
    holder.backend.check_rows(holder.here(rows), directions=directions, chunk_size=holder.chunk_size)


# ---------------------------------------------------------------------------------------------------------------------
# Scores


def scored(
    holder: Holder,
    handles: dict[str, int],
    student: Rows,
    teacher: Rows | None,
    cuts: tuple[Any, Any],
    columns: Columns,
) -> Int64:
    """Keeps columns of the scores; the totals of the others."""
    own = holder.own(student)
    logits = Logits(student, teacher).each(holder.here)
    q_student, q_teacher = (holder.of_own(cut, own) for cut in cuts)
    scores = scored_rows(holder.settings, logits, Cuts(q_student, q_teacher, np.nan, np.nan), columns)
    return _kept_columns(holder, handles, scores, own)


class _Begun(NamedTuple):
    """Scores of which some are still open."""

    scores: Scores
    rest: Any


def score_in_brackets(
    holder: Holder,
    handle: int,
    student: Rows,
    teacher: Rows | None,
    brackets: list[tuple[float, float]],
    columns: Columns,
) -> tuple[list[Any], bool]:
    """Keeps the scores of most rows; what was counted, and whether all rows were gone through."""
    logits = Logits(student, teacher).each(holder.here)
    scores = Scores(logits.student.n_rows, columns)
    backend = by_brackets(holder.backend)
    assert backend is not None, "that of the first rank does"
    rest = backend.scores_in_brackets(*logits, brackets, scores.put, chunk_size=holder.chunk_size)
    holder.kept[handle] = _Begun(scores, rest)
    return rest.counted, rest.is_whole


def settle(
    holder: Holder, begun: _Begun, handles: dict[str, int], student: Rows, q_student: float, q_teacher: float
) -> Int64:
    """Keeps columns of the scores under the thresholds; the totals of the others."""
    begun.rest.settle(q_student, q_teacher, begun.scores.put)
    return _kept_columns(holder, handles, begun.scores, holder.own(student))


def _kept_columns(holder: Holder, handles: dict[str, int], scores: Scores, own: Runs) -> Int64:
    for name, handle in handles.items():
        holder.kept[handle] = Held(scores[name], own)
    return np.array([*scores.totals.values()], np.int64)


def scores_between(
    holder: Holder, logits: Rows, cumulative: Cumulative | None, low: float, high: float
) -> tuple[int, int, npt.NDArray[np.float64]]:
    """Number of scores ≤ low, number in (low, high], and those, or a sample where there are very many."""
    here = holder.here(logits)
    share = here.n_rows / max(1, logits.n_rows)
    below, inside, kept = holder.backend.scores_between(
        here, cumulative, low, high, chunk_size=holder.chunk_size, share=share
    )
    return below, inside, kept.values


def raised(holder: Holder, logits: Rows, q: float, cumulative: Cumulative | None) -> float:
    """The least threshold from q up that leaves no set of this rank empty."""
    return holder.backend.raised_threshold(holder.here(logits), q, cumulative, chunk_size=holder.chunk_size)


def row_thresholds(holder: Holder, handle: int, logits: Rows, q: Any, cumulative: Cumulative) -> None:
    """Keeps the thresholds on −ln p of each row."""
    own = holder.own(logits)
    found = holder.backend.row_thresholds(
        holder.here(logits), holder.of_own(q, own), cumulative, chunk_size=holder.chunk_size
    )
    holder.kept[handle] = Held(found, own)


def squared_distances(holder: Holder, handle: int, rows: Rows, others: Rows) -> None:
    """Keeps ‖x − x_j‖² of each row to the nearest of others, of unit rows both."""
    found = distances_to_nearest(holder.here(rows), others, holder.backend)
    holder.kept[handle] = Held(found, holder.own(rows))


# ---------------------------------------------------------------------------------------------------------------------
# Columns


def read(holder: Holder, column: Held, positions: Int64) -> npt.NDArray[Any]:
    """The values of those of some rows that are here."""
    places = column.own.positions(positions)
    return on_host(column.values[places[places >= 0]])


def whole(holder: Holder, column: Held) -> npt.NDArray[Any]:
    """All values of this rank."""
    return on_host(column.values)


def largest(holder: Holder, column: Held, initial: int) -> int:
    """The largest value here, or `initial`."""
    return int(column.values.max(initial=initial))


def set_values(holder: Holder, column: Held, positions: Int64, value: float) -> None:
    """Gives some rows a value."""
    places = column.own.positions(positions)
    column.values[places[places >= 0]] = value


def changed(holder: Holder, column: Held, operator: str, other: Any) -> None:
    """An operator in place, with a number or another column."""
    getattr(column.values, operator)(other.values if isinstance(other, Held) else other)


def top(holder: Holder, column: Held, m: int) -> tuple[npt.NDArray[Any], Int64]:
    """The m largest values, or all, and their positions, by ascending position."""
    n = column.own.size
    best = np.sort(holder.backend.top_m(column.values, min(m, n))) if n else np.empty(0, np.int64)
    return on_host(column.values[best]), column.own[best]


def class_sizes(holder: Holder, classes: Held, n_classes: int) -> Int64:
    """How many rows each class has here."""
    return sizes_here(holder.settings, classes.values, n_classes).astype(np.int64, copy=False)


def best_of_classes(
    holder: Holder, scores: Held, classes: Held, wanted: Int64
) -> tuple[npt.NDArray[Any], npt.NDArray[Any], Int64]:
    """Scores, classes and positions of the rows of largest score of each class, by ascending position."""
    sizes = class_sizes(holder, classes, wanted.size)
    wanted = np.minimum(wanted, sizes)
    if not wanted.any():
        return np.empty(0, np.float32), np.empty(0, np.int64), np.empty(0, np.int64)
    best = np.sort(best_here(holder.settings, scores.values, classes.values, sizes, wanted))
    return on_host(scores.values[best]), on_host(classes.values[best]), scores.own[best]


# ---------------------------------------------------------------------------------------------------------------------
# Clusterings


def cluster(holder: Holder, handle: int, rows: Rows, weights: Any, unit: bool) -> None:
    """Keeps the rows of a clustering."""
    own, here = holder.own(rows), holder.here(rows)
    w = np.ones(own.size, np.float32) if weights is None else holder.of_own(weights, own)
    holder.kept[handle] = holder.backend.kmeans_part(
        here, own, w, unit=unit, chunk_size=holder.chunk_size, kept_bytes=holder.memory.sketch
    )


def keep_clustering(holder: Holder, part: Any, labels: int, squared: int) -> None:
    """Keeps what a clustering has found for each row."""
    holder.kept[labels] = Held(part.labels, part.numbers)
    holder.kept[squared] = Held(part.squared, part.numbers)


def represent(holder: Holder, handle: int, labels: Held, squared: Held, weights: Any, preference: Any) -> None:
    """Keeps what representatives are looked for by."""
    of_rows = (None if values is None else holder.of_own(values, labels.own) for values in (weights, preference))
    holder.kept[handle] = RepresentedPart(labels.values, squared.values, labels.own, *of_rows)


def method(holder: Holder, part: Any, name: str, arguments: Sequence[Any]) -> Any:
    """A method of something that this rank keeps."""
    return getattr(part, name)(*arguments)


def nearest_to_centroids(
    holder: Holder, groups: Held, cost: Held, pick_of_group: Int64
) -> tuple[Int64, npt.NDArray[Any], npt.NDArray[Any]]:
    """Positions, groups and costs of the rows of least cost of each group that has a pick."""
    rows = nearest_here(groups.values, pick_of_group, cost.values)
    return groups.own[rows], groups.values[rows], cost.values[rows]
