"""Rows that lie in several places, and what is asked of all of them.

A part holds the rows of one place. What decides anything asks all parts the same question, and gets small things that
can be merged: whole numbers that are added up, rows by their numbers in the whole, values with the numbers of their
rows. So no result depends on which rows lie where.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

__all__ = ["Inside", "OnePart", "Parts", "gathered", "largest_first"]

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]


class Parts(Protocol):
    """All parts. Arguments and results of their methods can be pickled; a part does not change its arguments."""

    n_rows: int
    """Rows of all parts."""

    def each(self, method: str, *args: Any) -> list[Any]:
        """What a method returns in every part, in the order of the parts."""
        ...

    def total(self, method: str, *args: Any) -> Int64:
        """The sum of the int64 arrays that a method returns in the parts, all of one shape; not to be changed."""
        ...


class OnePart:
    """All rows in one place, in this process."""

    def __init__(self, part: Any, n_rows: int) -> None:
        self.part = part
        self.n_rows = n_rows

    def each(self, method: str, *args: Any) -> list[Any]:
        return [getattr(self.part, method)(*args)]

    def total(self, method: str, *args: Any) -> Int64:
        found: Int64 = getattr(self.part, method)(*args)
        return found


class Inside:
    """Some of the rows of parts, which each has opened as a part of its own and asks by a method `inside`."""

    def __init__(self, parts: Parts, n_rows: int) -> None:
        self._parts = parts
        self.n_rows = n_rows

    def each(self, method: str, *args: Any) -> list[Any]:
        return self._parts.each("inside", method, *args)

    def total(self, method: str, *args: Any) -> Int64:
        return self._parts.total("inside", method, *args)


def gathered(parts: Parts, numbers: Int64) -> Float32:
    """The rows of these numbers, in their order, of parts with a method `take`.

    `take(numbers)` returns which of the numbers are those of rows of the part, as positions, and these rows.
    """
    found = parts.each("take", numbers)
    rows = np.empty((numbers.size, found[0][1].shape[1]), np.float32)
    for positions, taken in found:
        rows[positions] = taken
    return rows


def largest_first(found: list[tuple[npt.NDArray[Any], Int64]], m: int) -> tuple[npt.NDArray[Any], Int64]:
    """The m largest values of all parts with the numbers of their rows; ties go to the lower number."""
    values, numbers = (np.concatenate(column) for column in zip(*found, strict=True))
    order = np.lexsort((numbers, -values))[:m]
    return values[order], numbers[order]
