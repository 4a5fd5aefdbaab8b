"""Which classes a pool is labelled with: how many there are, and their names."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..pool.class_limits import check_class_count
from ..pool.class_names import agreed_class_names
from ..pool.rows import Rows
from .student import check_head, class_count, declared_count
from .teacher import Teacher

__all__ = ["ClassSet", "check_implied_count", "declared_classes"]

Int64 = npt.NDArray[np.int64]


class ClassSet(NamedTuple):
    """What is known of the classes before there are labels."""

    n_classes: int | None
    names: list[str] | None


def declared_classes(n_classes: int | None, class_names: Any, teacher: Teacher | None, student: Any) -> ClassSet:
    """The classes that the arguments of a loop declare.

    Raises
    ------
    ValueError, TypeError
        Counts or names that contradict each other, or are none.
    """
    if teacher is not None:
        if n_classes not in (None, teacher.n_classes):
            raise ValueError(f"n_classes must be the teacher's {teacher.n_classes}, got {n_classes}")
        n_classes = teacher.n_classes
    names = agreed_class_names(class_names, teacher)
    if names is not None:
        if n_classes not in (None, len(names)):
            raise ValueError(f"class_names must be one for each of the {n_classes} classes, got {len(names)}")
        n_classes = len(names)
    if n_classes is None:
        n_classes = declared_count(student)
    return ClassSet(None if n_classes is None else check_class_count("n_classes", n_classes), names)


def check_implied_count(codes: Int64, name: str, classes: ClassSet, student: Any, features: Rows) -> None:
    """Check the number of classes that labels imply, where nothing else declares it.

    Raises
    ------
    ValueError
        More classes than the pool can have, or than the student can be fitted to.
    """
    if classes.n_classes is None and (codes >= 0).any():
        n_classes = class_count(student, codes, features.n_rows, name)
        check_head(student, n_classes, features.n_columns)
