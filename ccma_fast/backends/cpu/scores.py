"""The disagreement score and the set sizes, given the thresholds or together with them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ... import _core
from ...pool.arrays import ReadRows
from ...pool.derived import RowSubset
from ...pool.rows import Rows, in_step
from ...reference import RowScores, target_size_rank, up_to_ties
from ..order_statistic import likely_bracket, size_sample
from ..protocol import PutScores
from .rows import check_finite
from .thresholds import of_rows, scores_between

__all__ = ["ScoresInBrackets", "likely_brackets", "score", "score_at_sizes", "thresholds_in_brackets"]

Float64 = npt.NDArray[np.float64]

Bracket = tuple[float, float]

# By how many standard deviations of a sample's mean set size a threshold's bracket reaches to both sides.
_SIZE_DEVIATIONS = 2.6

# What may be kept of rows whose sets are still open, in bytes: so many, and so many for each row.
_OPEN_BYTES = 1 << 27
_OPEN_BYTES_OF_ROW = 16


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
    given = [rows for rows in (student_logits, teacher_logits) if rows is not None]
    for start, chunks in in_step(*given, chunk_size=chunk_size):
        stop = start + len(chunks[0])
        parts, bad, of_teacher = _core.score(
            chunks[0],
            chunks[1] if len(chunks) == 2 else None,
            of_rows(q_student, start, stop),
            of_rows(q_teacher, start, stop),
        )
        check_finite(given[of_teacher], start, bad)
        for whole, part in zip(scores, parts, strict=True):
            whole[start:stop] = part
    return scores


def score_at_sizes(
    student_logits: Rows,
    teacher_logits: Rows | None,
    student_size: float,
    teacher_size: float,
    put: PutScores,
    *,
    chunk_size: int | None = None,
) -> tuple[float, float] | None:
    """Both target-size thresholds, and to `put` the scores under them, each logit read or computed once.

    A sample of rows says between which numbers each threshold lies but for a chance of some per cent. One pass counts
    the scores below and keeps those between, which gives the thresholds exactly. Rows whose sets are the same at both
    ends get their scores meanwhile; of the others the logits of both sets are kept. Where the rows are few, or the
    numbers turn out wrong or too far apart, the answer is None and what was put does not count: thresholds must come
    first, then scores.
    """
    sizes = (student_size, teacher_size)
    brackets = likely_brackets(student_logits, teacher_logits, *sizes)
    if brackets is None:
        return None
    found = ScoresInBrackets(student_logits, teacher_logits, brackets, put, chunk_size=chunk_size)
    thresholds = thresholds_in_brackets(student_logits, sizes, brackets, [found.counted]) if found.is_whole else None
    if thresholds is not None:
        found.settle(*thresholds, put)
    return thresholds


def likely_brackets(
    student_logits: Rows, teacher_logits: Rows | None, student_size: float, teacher_size: float
) -> list[Bracket] | None:
    """Two numbers for each matrix between which its threshold is likely to lie; None where rows are few."""
    n_sample = size_sample(student_logits.n_rows, student_logits.n_columns)
    given = [student_logits] if teacher_logits is None else [student_logits, teacher_logits]
    sizes = (student_size, teacher_size)[: len(given)]
    if not n_sample:
        return None
    return [_likely_threshold(rows, size, n_sample) for rows, size in zip(given, sizes, strict=True)]


class Counted(NamedTuple):
    """Scores of one matrix by a bracket."""

    below: int
    inside: int
    values: Float64
    """Those inside."""


class ScoresInBrackets:
    """One pass over logits, given brackets of the thresholds: scores of most rows, and what those of others need.

    Parameters
    ----------
    student_logits, teacher_logits : Rows, shape (M, C)
    brackets : list of (float, float)
        Of each matrix.
    put : callable
        Takes the scores of the rows whose sets are the same at both ends.
    """

    def __init__(
        self,
        student_logits: Rows,
        teacher_logits: Rows | None,
        brackets: list[Bracket],
        put: PutScores,
        *,
        chunk_size: int | None = None,
    ) -> None:
        given = [rows for rows in (student_logits, teacher_logits) if rows is not None]
        # A set holds what ties with its threshold: a row's set is known where it has no score up to there.
        ends = [(low, up_to_ties(high)) for low, high in brackets]
        counts = [(0, 0) for _ in given]
        inside: list[list[Float64]] = [[np.empty(0)] for _ in given]
        self.is_whole = True
        """Whether the pass went through: not where too much would have had to be kept."""
        self._open: list[tuple[int, _core.OpenRows]] = []
        n_bytes = 0
        for start, chunks in in_step(*given, chunk_size=chunk_size):
            teacher = chunks[1] if len(chunks) == 2 else None
            scores, *counted, open_rows, bad, of_teacher = _core.score_in_brackets(
                chunks[0], teacher, ends[0], ends[-1]
            )
            check_finite(given[of_teacher], start, bad)
            put(slice(start, start + len(chunks[0])), RowScores(*scores))
            self._open.append((start, open_rows))
            n_bytes += open_rows.nbytes
            for i, (below, n_inside, values) in enumerate(counted[: len(given)]):
                counts[i] = (counts[i][0] + below, counts[i][1] + n_inside)
                inside[i].append(values)
                n_bytes += values.nbytes
            if n_bytes > _OPEN_BYTES + _OPEN_BYTES_OF_ROW * student_logits.n_rows:
                self.is_whole = False
                break
            del chunks, teacher, scores  # before the next are computed
        self.counted = [Counted(*count, np.concatenate(parts)) for count, parts in zip(counts, inside, strict=True)]

    def settle(self, q_student: float, q_teacher: float, put: PutScores) -> None:
        """The scores of the other rows, under the thresholds."""
        for start, open_rows in self._open:
            rows, scores = open_rows.settle(up_to_ties(q_student), up_to_ties(q_teacher))
            put(start + rows, RowScores(*scores))


def thresholds_in_brackets(
    logits: Rows, sizes: tuple[float, float], brackets: list[Bracket], counted: Sequence[Sequence[Counted]]
) -> tuple[float, float] | None:
    """The thresholds of target sizes, of what each part of the rows has counted; None where a bracket missed one."""
    thresholds = []
    for size, (_, high), parts in zip(sizes, brackets, zip(*counted, strict=True), strict=False):
        below, inside, values = zip(*parts, strict=True)
        rank = target_size_rank(size, logits.n_rows, logits.n_columns) - sum(below)
        if not 0 < rank <= sum(inside):
            return None
        threshold = float(np.partition(np.concatenate(values), rank - 1)[rank - 1])
        if threshold > high:
            return None
        thresholds.append(threshold)
    q_student, q_teacher = (*thresholds, np.inf)[:2]
    return q_student, q_teacher


def _likely_threshold(logits: Rows, size: float, n_sample: int) -> tuple[float, float]:
    """Two numbers between which the threshold of all rows lies, but for a chance of about one in a hundred."""
    spread = RowSubset(logits, (np.arange(n_sample) * logits.n_rows) // n_sample)
    sample = ReadRows(spread, spread.read(0, n_sample))
    return likely_bracket(
        size * n_sample,
        sample,
        lambda rows, rule, low, high: scores_between(rows, rule, low, high, None),
        lambda q: _SIZE_DEVIATIONS * float(score(sample, q_student=q).student_size.std()) * n_sample**0.5,
    )
