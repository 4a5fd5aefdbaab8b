"""Limits on the number of classes: each is a column of logits and of weights, which have to be computed.

Three rules, each with its own function: at most 2²⁰ classes (:func:`check_class_count`); where the number is inferred
from labels, at most as many as the pool has rows (:func:`inferred_count`); and a head of so many classes can be trained
in the memory of this machine (:func:`check_trainable`).
"""

from __future__ import annotations

from typing import Any

import numpy.typing as npt

from ..checks import check_integer
from ..system.machine import machine_memory

__all__ = [
    "LOGISTIC_WEIGHT_BYTES",
    "MOST_CLASSES",
    "WEIGHT_BYTES",
    "check_class_count",
    "check_trainable",
    "inferred_count",
]

MOST_CLASSES = 2**20

# Number of classes that may be inferred in a pool of any size.
_FEW_CLASSES = 10_000

# Bytes for each weight of a head in training, 30 where it was measured: while the best values become an affine map in
# float64. Before, its first value, its value, the moments of AdamW and its best value so far take 20.
WEIGHT_BYTES = 32

# The same of a logistic regression: the 21 vectors of its solver and the points that it is between, and what was found
# for each fold and constant.
LOGISTIC_WEIGHT_BYTES = 240

# Bytes that every machine has, which is therefore not asked: a process with NumPy in it takes more.
_ALWAYS_THERE = 16 << 20


def check_class_count(name: str, value: Any) -> int:
    """A given number of classes, from 2 to 2²⁰."""
    return check_integer(name, value, minimum=2, maximum=MOST_CLASSES)


def inferred_count(labels: npt.NDArray[Any], n_rows: int, name: str) -> int:
    """C inferred from labels: the largest + 1.

    At most the number of rows of the pool, or 10,000 in a smaller one. With more classes than images C has to be
    passed: a single larger label is likely a mistake, and would cost memory in every row.

    Parameters
    ----------
    labels : ndarray, shape (n,), integers
        −1 where there is none; at least one.
    n_rows : int
        Of the pool.
    name : str
        Their name in error messages.

    Raises
    ------
    ValueError
        A larger label; the text names its row.
    """
    row = int(labels.argmax())
    count, most = int(labels[row]) + 1, min(MOST_CLASSES, max(_FEW_CLASSES, n_rows))
    if count > most:
        raise ValueError(
            f"{name} must be classes from 0 to {most - 1} where they alone tell how many classes there are (as many as "
            f"the pool's {n_rows} rows, and {_FEW_CLASSES} in a small pool), got {count - 1} at row {row}; if it is a "
            f"class, n_classes= of the learner or LinearHead, class_names= or a teacher says how many there are, at "
            f"most {MOST_CLASSES}"
        )
    return count


def check_trainable(n_classes: int, n_columns: int, weight_bytes: int) -> None:
    """The weights of a head, each of which takes so many bytes, can be trained in the memory of this machine."""
    needed = weight_bytes * n_classes * (n_columns + 1)
    if needed > _ALWAYS_THERE and needed > (there := machine_memory().whole):
        raise ValueError(
            f"a head of {n_classes} classes on {n_columns} columns takes {needed / 1e9:.3g} GB to be trained, and this "
            f"machine has {there / 1e9:.3g} GB; expected fewer classes, or a student= of your own"
        )
