"""Whether the classes of a saved loop are those of the caller."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from ..pool.class_names import agreed_class_names, differing_names
from ..steps.teacher import Teacher
from .identity import class_digests
from .saved_loop import SavedLoop

__all__ = ["agreed_names"]


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
