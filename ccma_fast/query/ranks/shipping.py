"""Commands as bytes: rows of the pool, backends and what ranks keep go as references.

What a rank keeps stands for the whole of it there: a column of the first rank is, on every rank, the part of its rows.
Row numbers of matrices (:class:`~ccma_fast.pool.derived.RowSubset`) are sent once and kept, however often they are
used.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np

from ...pool.derived import AllBut, RowSubset, Runs
from ...pool.rows import Rows

__all__ = ["Kept", "Numbers", "Reference", "dumped", "loaded", "numbers_in"]

Numbers = AllBut | Runs | np.ndarray

Reference = tuple[str, int]
"""The kind of something that ranks have, and its number."""

# Row numbers below this size are sent whenever they are used.
_SMALL = 1 << 12


class Kept:
    """Something that ranks keep, by its number."""

    handle: int


class _Pickler(pickle.Pickler):
    def __init__(self, file: io.BytesIO, reference: Callable[[Any], Reference | None]) -> None:
        super().__init__(file, protocol=5)
        self._reference = reference

    def persistent_id(self, value: Any) -> Reference | None:
        if isinstance(value, Kept):
            return "kept", value.handle
        if isinstance(value, ModuleType):
            return "backend", 0
        return self._reference(value)


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, resolve: Callable[[Reference], Any]) -> None:
        super().__init__(file)
        self._resolve = resolve

    def persistent_load(self, reference: Any) -> Any:
        return self._resolve(reference)


def dumped(value: Any, reference: Callable[[Any], Reference | None]) -> bytes:
    """A value as bytes, in which everything that has a reference is that.

    Raises
    ------
    TypeError
        Something that cannot be pickled, such as a student with a lock.
    """
    file = io.BytesIO()
    try:
        _Pickler(file, reference).dump(value)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise TypeError(
            f"what is sent to other ranks must be possible to pickle, such as the student: {error}"
        ) from error
    return file.getvalue()


def loaded(content: bytes, resolve: Callable[[Reference], Any]) -> Any:
    """The value of :func:`dumped`, with what this rank has for the references."""
    return _Unpickler(io.BytesIO(content), resolve).load()


def numbers_in(arguments: tuple[Any, ...]) -> list[Numbers]:
    """The row numbers of the matrices among some arguments that are worth keeping."""
    found: list[Numbers] = []

    def look(rows: Rows) -> None:
        if isinstance(rows, RowSubset):
            size = rows.indices.missing.size if isinstance(rows.indices, AllBut) else rows.indices.size
            if 8 * size >= _SMALL and not isinstance(rows.indices, Runs):
                found.append(rows.indices)
            look(rows.rows)
        for source in rows.behind:
            look(source)

    for value in arguments:
        if isinstance(value, Rows):
            look(value)
    return found
