"""Made-up logits and embeddings that look like real ones where it matters to speed. Everything is seeded."""

from __future__ import annotations

from functools import cache, lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

import ccma_fast as cf
from ccma_fast import reference

__all__ = [
    "SIZES",
    "Mixture",
    "Pool",
    "embeddings",
    "logits",
    "partly_labelled",
    "pool",
    "scale",
    "shapes",
    "true_thresholds",
    "write_pool",
    "write_shards",
]

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]

# Rows and classes of logits; the last is ImageNet-21k. And the mean set sizes of student and teacher.
_SHAPES = [(200_000, 10), (100_000, 100), (50_000, 1_000), (2_000, 21_000)]
SIZES = (5.0, 3.0)


# Larger where nothing is timed, ``--benchmark-disable``: such a run shows only that everything works.
divisor = 1


def scale(n: int) -> int:
    """A number of rows, classes or clusters divided by `divisor`, at least 2."""
    return max(2, n // divisor)


def shapes() -> list[tuple[int, int]]:
    """Rows and classes of logits."""
    return [(scale(n_rows), n_classes) for n_rows, n_classes in _SHAPES]


# With these a head on 5 labels per class is right on about 70 % of the rows, and the teacher on about 60 %.
_NOISE = np.float32(2.0)
_BLUR = np.float32(1.5)

# Rows of a pool on disk that are made at once.
_CHUNK = 50_000


@lru_cache(maxsize=1)
def logits(n_rows: int, n_classes: int) -> tuple[Float32, Float32]:
    """A student's and a teacher's logits: the true class stands out, more often for the student."""
    rng = np.random.default_rng(0)
    true, rows = rng.integers(0, n_classes, n_rows), np.arange(n_rows)
    student = 2.0 * rng.standard_normal((n_rows, n_classes), dtype=np.float32)
    student[rows, true] += 6.0 * rng.random(n_rows, dtype=np.float32)
    teacher = 1.5 * rng.standard_normal((n_rows, n_classes), dtype=np.float32)
    teacher[rows, true] += 5.0 * rng.random(n_rows, dtype=np.float32)
    return student, teacher


@cache
def true_thresholds(n_rows: int, n_classes: int) -> tuple[float, float]:
    """The thresholds of both models in float64."""
    student, teacher = logits(n_rows, n_classes)
    return reference.target_size_threshold(student, SIZES[0]), reference.target_size_threshold(teacher, SIZES[1])


class Mixture:
    """Unit rows around one centre per class.

    Centres and noise share a power-law spectrum (standard deviation of the j-th principal direction ∝ 1/√j), which is
    about what vision models give, in a random orientation.

    Attributes
    ----------
    centres : ndarray, shape (C, D), float32
        Of length one.
    """

    def __init__(self, n_classes: int, n_columns: int, *, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        spectrum = np.arange(1, n_columns + 1, dtype=np.float32) ** -0.5
        rotation = np.linalg.qr(self._rng.standard_normal((n_columns, n_columns)))[0].astype(np.float32)
        self._directions = spectrum[:, None] * rotation
        self._means = self._normal(n_classes)
        self.centres = _unit(self._means.copy())

    def draw(self, labels: Int64) -> Float32:
        """The next rows, of these classes."""
        rows = self._normal(labels.size)
        rows *= _NOISE
        rows += self._means[labels]
        return _unit(rows)

    def _normal(self, n_rows: int) -> Float32:
        return self._rng.standard_normal((n_rows, len(self._directions)), dtype=np.float32) @ self._directions


def embeddings(labels: Int64, n_columns: int, *, seed: int) -> tuple[Float32, Float32]:
    """Rows of a :class:`Mixture`, and its centres."""
    mixture = Mixture(int(labels.max()) + 1, n_columns, seed=seed)
    return mixture.draw(labels), mixture.centres


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
    truth = _classes(n_rows, n_classes)
    features, _ = embeddings(truth, d_student, seed=2)
    image_features, centres = embeddings(truth, d_teacher, seed=3)
    labels = partly_labelled(truth, n_labelled)
    labelled = np.flatnonzero(labels >= 0)
    head = cf.LinearHead(n_classes).fit(features[labelled], truth[labelled])
    return Pool(features, image_features, _blurred(centres), truth, labels, head.decision_function(features))


def write_pool(folder: Path, n_rows: int, d_student: int, d_teacher: int, n_classes: int) -> None:
    """The embeddings of such a pool as float16 files, where they are not there yet.

    ``features.npy``, ``image_features.npy``, ``class_features.npy`` and the classes, ``truth.npy``. Memory does not
    grow with the number of rows.
    """
    folder.mkdir(parents=True, exist_ok=True)
    truth = _classes(n_rows, n_classes)
    last = folder / "truth.npy"
    if last.exists() and np.array_equal(np.load(last), truth):
        return
    for name, n_columns, seed in (("features", d_student, 2), ("image_features", d_teacher, 3)):
        mixture = Mixture(n_classes, n_columns, seed=seed)
        with open(folder / f"{name}.npy", "wb") as file:
            header = {"descr": "<f2", "fortran_order": False, "shape": (n_rows, n_columns)}
            np.lib.format.write_array_header_1_0(file, header)
            for start in range(0, n_rows, _CHUNK):
                mixture.draw(truth[start : start + _CHUNK]).astype("<f2").tofile(file)
    np.save(folder / "class_features.npy", _blurred(mixture.centres))
    np.save(last, truth)


def write_shards(file: Path, n_shards: int) -> Path:
    """A folder of `.npy` files that together hold the rows of `file`, made where it is not there yet."""
    folder = file.with_suffix("")
    if not folder.exists():
        unfinished = file.with_suffix(".part")
        unfinished.mkdir(exist_ok=True)
        for i, rows in enumerate(np.array_split(np.load(file, mmap_mode="r"), n_shards)):
            np.save(unfinished / f"{i:03}.npy", rows)
        unfinished.rename(folder)
    return folder


def partly_labelled(truth: Int64, n_labelled: int) -> Int64:
    """The classes of `n_labelled` random rows, −1 elsewhere."""
    labels = np.full(truth.size, -1)
    labelled = np.random.default_rng(4).choice(truth.size, n_labelled, replace=False)
    labels[labelled] = truth[labelled]
    return labels


def _classes(n_rows: int, n_classes: int) -> Int64:
    return np.random.default_rng(1).integers(0, n_classes, n_rows)


def _blurred(centres: Float32) -> Float32:
    """Class directions of a teacher that errs."""
    noise = np.random.default_rng(5).standard_normal(centres.shape, dtype=np.float32)
    return _unit(centres + _BLUR * noise / np.float32(centres.shape[1] ** 0.5))


def _unit(rows: Float32) -> Float32:
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows
