"""The teacher, corrected by the labelled rows as far as they tell.

z = β z^T + Δ φ: β is the likeliest inverse temperature, and Δ, a penalised softmax regression on the teacher's features
φ beside that fixed part, mends class names that it misreads. The penalty is chosen out of fold from a list that
contains infinity, Δ = 0. φ are the unit image features of a teacher that has some, else its logits.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from ..backends.protocol import Backend
from ..checks import LEAST_LENGTH, raise_not_finite
from ..pool.arrays import KeptRows
from ..pool.rows import Rows
from .corrected_teacher import Correction, TeacherSample
from .selection import TOLERANCE, likeliest, simplest
from .softmax_regression import SoftmaxRegression
from .teacher_rows import TeacherRows
from .temperature import log_likelihoods, smoothed_temperature

__all__ = ["corrected", "read_teacher"]

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]

# Of Δ, from no correction to one that the labels alone decide.
_PENALTIES = (math.inf, 3.0, 0.3, 0.03)

# Numbers of Δ up to which one is fitted.
_MOST_NUMBERS = 1 << 24

# The largest gap between two logits of a row, in median gaps, up to which Δ is fitted: beside a class that is masked by
# −1e9 float32 has no digits left for the differences of the others.
_MOST_UNEVEN = 1000.0


def read_teacher(teacher: TeacherRows, source: Rows, backend: Backend) -> tuple[Float32, Float32]:
    """z^T of some rows, each less its largest, and their features as they are, both (n, ·).

    `source` are rows of the teacher's matrix.

    Raises
    ------
    ValueError
        Logits that float32 cannot hold, or their differences; the row is named.
    """
    if teacher.class_directions is not None:
        source = KeptRows(source)  # for the logits, and as they are
    z = teacher.reading(source).logits(backend).float32()
    with np.errstate(over="ignore", invalid="ignore"):
        z = z - z.max(axis=1, keepdims=True)
    finite = np.isfinite(z).all(axis=1)
    if not finite.all():
        raise_not_finite(
            "the teacher's logits, less the largest of their row,", source.row_number(int(finite.argmin()))
        )
    if teacher.class_directions is None:
        return z, z - z.mean(axis=1, keepdims=True, dtype=np.float64).astype(np.float32)
    v = source.float32()
    return z, (v / backend.row_lengths(v)[:, None]).astype(np.float32)


def corrected(
    sample: TeacherSample, labels: Int64, fold: Int64, backend: Backend
) -> tuple[Correction, list[Correction]]:
    """The correction by all labelled rows, and for each fold that by all others.

    Parameters
    ----------
    sample : TeacherSample
        The labelled rows.
    labels, fold : ndarray, shape (n,), int64
        Of the fold −1 are rows that are not held out.
    backend : Backend
    """
    folds = [_Fit(sample.of(fold != k), labels[fold != k], backend) for k in range(int(fold.max()) + 1)]
    z = np.empty((labels.size, sample.logits.shape[1]), np.float32)

    def of_penalty(penalty: float) -> npt.NDArray[np.float64]:
        for k, fit in enumerate(folds):
            z[fold == k] = fit.at(penalty)(sample.of(fold == k), backend)
        return log_likelihoods(z[fold >= 0], labels[fold >= 0])

    n_numbers = sample.features.shape[1] * sample.logits.shape[1]
    gaps = -sample.logits
    is_even = float(gaps.max()) <= _MOST_UNEVEN * max(float(np.median(gaps)), LEAST_LENGTH)
    penalties = _PENALTIES if n_numbers <= _MOST_NUMBERS and is_even else _PENALTIES[:1]
    candidates = likeliest(penalties, of_penalty)
    penalty = simplest(sorted(candidates, key=lambda candidate: -candidate.constant)).constant
    of_folds = [fit.at(penalty) for fit in folds]
    return _Fit(sample, labels, backend).at(penalty, of_folds[0].coef), of_folds


class _Fit:
    """The corrections by some labelled rows."""

    def __init__(self, sample: TeacherSample, labels: Int64, backend: Backend) -> None:
        tau = smoothed_temperature(sample.logits, labels)
        self._beta = 0.0 if math.isinf(tau) else 1.0 / tau
        self._regression = SoftmaxRegression(
            sample.features,
            labels,
            n_classes=sample.logits.shape[1],
            backend=backend,
            offset=np.float32(self._beta) * sample.logits,
        )
        self._found: dict[float, Float32 | None] = {math.inf: None}

    def at(self, penalty: float, start: Float32 | None = None) -> Correction:
        """The correction under a penalty; the search starts where that of the last penalty ended."""
        if penalty not in self._found:
            last = next(reversed(self._found.values())) if start is None else start
            self._found[penalty] = self._regression.solve(penalty=penalty, start=last, tolerance=TOLERANCE).coef
        return Correction(self._beta, self._found[penalty], penalty)
