"""Made-up logits and embeddings that look like real ones where it matters to speed. Everything is seeded."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

import ccma_fast as cf

__all__ = ["Pool", "embeddings", "logits", "pool"]

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]

# With these a head on 5 labels per class is right on about 70 % of the rows, and the teacher on about 60 %.
_NOISE = np.float32(2.0)
_BLUR = np.float32(1.5)


@cache
def logits(n_rows: int, n_classes: int) -> tuple[Float32, Float32]:
    """A student's and a teacher's logits: the true class stands out, more often for the student."""
    rng = np.random.default_rng(0)
    true, rows = rng.integers(0, n_classes, n_rows), np.arange(n_rows)
    student = 2.0 * rng.standard_normal((n_rows, n_classes), dtype=np.float32)
    student[rows, true] += 6.0 * rng.random(n_rows, dtype=np.float32)
    teacher = 1.5 * rng.standard_normal((n_rows, n_classes), dtype=np.float32)
    teacher[rows, true] += 5.0 * rng.random(n_rows, dtype=np.float32)
    return student, teacher


def embeddings(labels: Int64, n_columns: int, *, seed: int) -> tuple[Float32, Float32]:
    """Unit rows around one centre per class, and those centres.

    Centres and noise share a power-law spectrum (standard deviation of the j-th principal direction ∝ 1/√j), which is
    about what vision models give, in a random orientation.
    """
    rng = np.random.default_rng(seed)
    spectrum = np.arange(1, n_columns + 1, dtype=np.float32) ** -0.5
    rotation = np.linalg.qr(rng.standard_normal((n_columns, n_columns)))[0].astype(np.float32)
    directions = spectrum[:, None] * rotation
    centres = rng.standard_normal((int(labels.max()) + 1, n_columns), dtype=np.float32) @ directions
    rows = rng.standard_normal((labels.size, n_columns), dtype=np.float32) @ directions
    rows *= _NOISE
    rows += centres[labels]
    return _unit(rows), _unit(centres)


class Pool(NamedTuple):
    """A pool in the middle of a labelling campaign."""

    features: Float32
    """The student's embeddings x, shape (N, D_S)."""
    image_features: Float32
    """The teacher's embeddings v, shape (N, D_T)."""
    class_features: Float32
    """The teacher's class directions t, shape (C, D_T): class centres, blurred, so that the teacher errs."""
    truth: Int64
    """The class of every row, shape (N,)."""
    labels: Int64
    """The same where a row is labelled, −1 elsewhere."""
    student_logits: Float32
    """z^S of every row, by a head trained on the labelled rows."""


@cache
def pool(n_rows: int, d_student: int, d_teacher: int, n_classes: int, n_labelled: int) -> Pool:
    """A pool whose student has learnt from `n_labelled` random rows and whose teacher is of middling quality."""
    rng = np.random.default_rng(1)
    truth = rng.integers(0, n_classes, n_rows)
    features, _ = embeddings(truth, d_student, seed=2)
    image_features, centres = embeddings(truth, d_teacher, seed=3)
    blur = rng.standard_normal(centres.shape, dtype=np.float32) / np.float32(d_teacher**0.5)
    labels = np.full(n_rows, -1)
    labelled = rng.choice(n_rows, n_labelled, replace=False)
    labels[labelled] = truth[labelled]
    head = cf.LinearHead(n_classes).fit(features[labelled], truth[labelled])
    return Pool(
        features, image_features, _unit(centres + _BLUR * blur), truth, labels, head.decision_function(features)
    )


def _unit(rows: Float32) -> Float32:
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows
