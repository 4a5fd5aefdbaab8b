"""Which classes a pool is labelled with: how many, their names, and whether those of a saved loop are the same."""

from __future__ import annotations

import os
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..pool.class_limits import check_class_count
from ..pool.class_names import agreed_class_names, differing_names
from ..pool.rows import Rows
from ..steps.student import check_head, class_count, declared_count
from ..steps.teacher import Teacher
from .identity import class_digests
from .saved_loop import SavedLoop

__all__ = ["ClassSet", "agreed_names", "check_implied_count", "declared_classes"]

Int64 = npt.NDArray[np.int64]


class ClassSet(NamedTuple):
    """What is known of the classes before there are labels."""

    n_classes: int | None
    names: list[str] | None


def declared_classes(n_classes: int | None, class_names: Any, teacher: Teacher | None, student: Any) -> ClassSet:
    """The classes that the arguments of a learner declare.

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


def agreed_names(
    loop: SavedLoop, class_names: Any, teacher: Teacher | None, path: str | os.PathLike[str]
) -> list[str] | None:
    """The names of a saved loop's classes, where its classes are those of the caller and the teacher.

    The teacher may have another encoder, or other prompts, where names say that its classes are the same.

    Raises
    ------
    ValueError
        Other classes, or another order.
    """
    names = agreed_class_names(class_names, teacher)
    expected = f"the classes must be those of the loop in {os.fspath(path)!r}"
    n_classes = teacher.n_classes if teacher is not None else None if names is None else len(names)
    if loop.n_classes is not None and n_classes not in (None, loop.n_classes):
        raise ValueError(f"{expected}, which has {loop.n_classes}, got {n_classes}")
    most = int(loop.labels.max(initial=-1))
    if n_classes is not None and most >= n_classes:
        raise ValueError(f"{expected}, which has labels up to {most}, got {n_classes} classes")
    if names is not None and loop.class_names is not None:
        differing = differing_names(names, loop.class_names)
        if differing:
            c = differing[0]
            raise ValueError(
                f"{expected} in the same order, got {len(differing)} other names: first {names[c]!r} for class {c}, "
                f"which the loop calls {loop.class_names[c]!r}"
            )
    _check_directions(loop, teacher, has_names=names is not None and loop.class_names is not None, expected=expected)
    return loop.class_names if names is None else names


def _check_directions(loop: SavedLoop, teacher: Teacher | None, *, has_names: bool, expected: str) -> None:
    """Check the teacher's class directions: none is another class's; other ones need names to be the same classes."""
    now, before = class_digests(teacher), loop.class_digests
    if now is None or before is None:
        return
    class_before = {digest.tobytes(): c for c, digest in enumerate(before)}
    for c in np.flatnonzero((now != before).any(axis=1)).tolist():
        moved = class_before.get(now[c].tobytes())
        if moved is not None:
            raise ValueError(f"{expected} in the same order, got as the teacher's class {c} what was class {moved}")
        if not has_names:
            raise ValueError(
                f"{expected}, got a teacher whose class {c} has another direction, and no names that say that it "
                "is the same class"
            )
