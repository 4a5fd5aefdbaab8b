"""Step 4: the acquisition score δ, public."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..backends.choose import choose_backend
from ..checks import check_choice, check_number, check_same_rows, check_threshold
from ..config import NONEMPTY
from ..pool.agreement import accepted, differing_images
from ..pool.logits import open_logits
from ..pool.rows import Rows
from ..reference import RowScores
from ..system import display
from .thresholds import raised, row_thresholds, size_threshold

__all__ = ["SizedScores", "score", "score_at_sizes"]


def score(
    student_logits: Any,
    teacher_logits: Any = None,
    *,
    q_student: float | None = None,
    q_teacher: float | None = None,
    nonempty: str = "top1",
    backend: str = "auto",
) -> npt.NDArray[np.float32]:
    """δ_i = g_i · J_i + (1 − g_i) · H_i of every row (step 4; Nguyen et al., arXiv 2603.23159).

    J is the Jensen-Shannon divergence of the two posteriors restricted to the union of their conformal sets and
    renormalised, H the entropy of the student's whole posterior, g = max p^T / (max p^T + max p^S). Natural logarithms:
    0 ≤ J ≤ ln 2, 0 ≤ H ≤ ln C.

    Parameters
    ----------
    student_logits : array_like, torch.Tensor or path, shape (M, C)
        z^S. float32, float16 and bfloat16 are read as they are; sums are float32 or better.
    teacher_logits : array_like, torch.Tensor or path, shape (M, C), optional
        z^T, divided by the temperature. Without it δ = H and thresholds play no part.
    q_student, q_teacher : float
        Thresholds in units of −ln p (nats), required with a teacher; ±∞ is allowed. Classes that tie with them belong
        to the sets, see :func:`ccma_fast.prediction_sets`.
    nonempty : {"top1", "raise"}, default "top1"
        A row whose set would be empty gets its most probable class (ties: the lowest), or the thresholds are raised for
        all rows until none is empty.
    backend : {"auto", "cuda", "cpu", "reference"}

    Returns
    -------
    ndarray, shape (M,), float32
        δ in nats.

    Raises
    ------
    ValueError
        Shapes that differ or are not (M, C ≥ 2), NaN or infinity in a row (which is named), a threshold missing or NaN.
    TypeError
        Inputs that are not real numbers.

    Examples
    --------
    Two rows of which the student is equally unsure. Of the first the teacher says the same, of the second otherwise:

    >>> import numpy as np, ccma_fast as cf
    >>> student = np.log([[0.5, 0.4, 0.1], [0.5, 0.4, 0.1]]).astype(np.float32)
    >>> teacher = np.log([[0.5, 0.4, 0.1], [0.1, 0.8, 0.1]]).astype(np.float32)
    >>> q = -np.log(0.2)  # classes of a probability of at least 0.2
    >>> delta = cf.score(student, teacher, q_student=q, q_teacher=q)
    >>> delta.shape, bool(cf.score(student)[0] > delta[0])
    ((2,), True)

    Without a teacher it is the entropy of the student:

    >>> bool(abs(cf.score(np.zeros((1, 4), np.float32))[0] - np.log(4)) < 1e-5)
    True
    """
    student = open_logits(student_logits, "student_logits")
    check_choice("nonempty", nonempty, NONEMPTY)
    if teacher_logits is None:
        for name, q in (("q_student", q_student), ("q_teacher", q_teacher)):
            if q is not None:
                check_threshold(name, q)
        return choose_backend(backend, student).score(student).delta
    teacher = _open_teacher(teacher_logits, student)
    if q_student is None or q_teacher is None:
        missing = "q_student" if q_student is None else "q_teacher"
        raise ValueError(f"{missing} must be given with a teacher (a threshold in units of -ln p), got None")
    chosen = choose_backend(backend, student, teacher)
    thresholds = check_threshold("q_student", q_student), check_threshold("q_teacher", q_teacher)
    cuts = (
        row_thresholds(rows, raised(rows, q, nonempty, chosen), chosen)
        for rows, q in zip((student, teacher), thresholds, strict=True)
    )
    return chosen.score(student, teacher, *cuts).delta


class SizedScores(NamedTuple):
    """δ at target sizes, with the thresholds that gave the sets their sizes."""

    delta: npt.NDArray[np.float32]
    """δ in nats, shape (M,)."""
    q_student: float
    q_teacher: float

    def __repr__(self) -> str:
        spread = f"δ from {self.delta.min():.4g} to {self.delta.max():.4g}" if self.delta.size else ""
        cuts = f"q_student {self.q_student:.4g}, q_teacher {self.q_teacher:.4g}"
        return display.line("SizedScores", f"{self.delta.size:,} rows", spread, cuts)


def score_at_sizes(
    student_logits: Any,
    teacher_logits: Any,
    *,
    student_size: float,
    teacher_size: float,
    nonempty: str = "top1",
    backend: str = "auto",
) -> SizedScores:
    """:func:`score` at the thresholds that :func:`ccma_fast.target_size_threshold` finds, bit for bit, but faster.

    The CPU reads logits of many rows once instead of three times: a sample says between which numbers the thresholds
    must lie, and what a row's score needs of its logits then is some pairs of them.

    Parameters
    ----------
    student_logits, teacher_logits : array_like, torch.Tensor or path, shape (M, C)
        z^S, and z^T divided by the temperature. float32, float16 and bfloat16 are read as they are.
    student_size, teacher_size : float
        Wanted mean numbers of classes per set, greater than 0; above C they mean C.
    nonempty : {"top1", "raise"}, default "top1"
        As for :func:`score`.
    backend : {"auto", "cuda", "cpu", "reference"}

    Returns
    -------
    SizedScores
        δ, shape (M,), float32, in nats, and both thresholds in units of −ln p (nats).

    Raises
    ------
    ValueError
        Shapes that differ or are not (M ≥ 1, C ≥ 2), NaN or infinity in a row (which is named), a size not positive.
    TypeError
        Inputs that are not real numbers.

    Examples
    --------
    >>> import numpy as np, ccma_fast as cf
    >>> rng = np.random.default_rng(0)
    >>> student, teacher = rng.standard_normal((2, 1000, 10)).astype(np.float32)
    >>> found = cf.score_at_sizes(student, teacher, student_size=5, teacher_size=3)
    >>> found.delta.shape
    (1000,)
    >>> round(float(cf.prediction_sets(student, found.q_student).sum(axis=1).mean()), 1)
    5.0
    """
    student = open_logits(student_logits, "student_logits")
    teacher = _open_teacher(teacher_logits, student)
    check_choice("nonempty", nonempty, NONEMPTY)
    k_student = check_number("student_size", student_size, above=0.0)
    k_teacher = check_number("teacher_size", teacher_size, above=0.0)
    chosen = choose_backend(backend, student, teacher)
    delta = np.empty(student.n_rows, np.float32)

    def put(rows: slice | npt.NDArray[np.int64], scores: RowScores) -> None:
        delta[rows] = scores.delta

    found = chosen.score_at_sizes(student, teacher, k_student, k_teacher, put) if nonempty == "top1" else None
    if found is None:
        q_student = size_threshold(student, k_student, nonempty, chosen)
        found = q_student, size_threshold(teacher, k_teacher, nonempty, chosen)
        cuts = (row_thresholds(rows, q, chosen) for rows, q in zip((student, teacher), found, strict=True))
        put(slice(None), chosen.score(student, teacher, *cuts))
    return SizedScores(delta, *found)


def _open_teacher(teacher_logits: Any, student: Rows) -> Rows:
    teacher = open_logits(teacher_logits, "teacher_logits")
    check_same_rows("teacher_logits", teacher.n_rows, "student_logits", student.n_rows)
    accepted([differing_images(teacher, student)], force=None)
    if teacher.n_columns != student.n_columns:
        raise ValueError(
            f"teacher_logits has {teacher.n_columns} classes but student_logits has {student.n_columns}; "
            "both must describe the same classes"
        )
    return teacher
