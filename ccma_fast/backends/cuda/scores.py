"""The disagreement score and the set sizes, given the thresholds."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ...kernels.conformal_score import Scores, conformal_score
from ...pool.rows import Rows
from ...reference import RowScores
from .reader import Reader
from .rows import check_finite
from .thresholds import of_rows

__all__ = ["score", "score_at_sizes", "score_here"]

Float64 = npt.NDArray[np.float64]


def score(
    student_logits: Rows,
    teacher_logits: Rows | None = None,
    q_student: float | Float64 = np.inf,
    q_teacher: float | Float64 = np.inf,
    *,
    chunk_size: int | None = None,
) -> RowScores:
    """δ and the sizes of the sets, each logit read once."""
    scores = score_here(student_logits, teacher_logits, q_student, q_teacher, chunk_size=chunk_size)
    return RowScores(*(column.cpu().numpy() for column in scores))


def score_here(
    student_logits: Rows,
    teacher_logits: Rows | None = None,
    q_student: float | Float64 = np.inf,
    q_teacher: float | Float64 = np.inf,
    *,
    chunk_size: int | None = None,
) -> Any:
    """:func:`score` as tensors on the device."""
    reader = Reader()
    given = [rows for rows in (student_logits, teacher_logits) if rows is not None]
    q_s, q_t, bad = reader.thresholds(q_student), reader.thresholds(q_teacher), reader.nothing_bad()
    scores = Scores.empty(student_logits.n_rows, reader.device, with_teacher=len(given) == 2)
    for start, chunks in reader.chunks(*given, chunk_size=chunk_size):
        stop = start + len(chunks[0])
        conformal_score(
            chunks[0],
            chunks[1] if len(chunks) == 2 else None,
            of_rows(q_s, start, stop),
            of_rows(q_t, start, stop),
            scores.part(start, stop),
            bad,
            start,
        )
    check_finite(bad, student_logits, teacher_logits)
    columns: tuple[Any, ...] = scores
    return RowScores(*columns)


def score_at_sizes(*_: Any, **__: Any) -> None:
    """Thresholds come first here, and the scores after them."""
