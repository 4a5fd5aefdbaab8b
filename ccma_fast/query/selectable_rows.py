"""Which rows of a pool a query may select, and from which it may learn."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..pool.derived import AllBut, RowMask, rows_where

__all__ = ["SelectableRows", "selectable_rows"]

Int64 = npt.NDArray[np.int64]


class SelectableRows(NamedTuple):
    """The rows of a pool by what a query may do with them; all ascending."""

    selectable: AllBut | Int64
    """Not labelled, pending, excluded or vanished, and included where some are."""
    pending: Int64
    """Neither labelled nor excluded."""
    population: AllBut | Int64
    """All but the excluded ones, which are never read. The student's sample of the pool is drawn from these."""
    n_excluded: int
    """Rows that cannot be selected since they are excluded, or not included; neither labelled nor pending."""
    n_vanished: int
    """Other rows that cannot be selected since their images have vanished."""


def selectable_rows(
    n_rows: int,
    labelled: Int64,
    vanished: Int64,
    *,
    exclude: RowMask | None,
    pending: RowMask | None,
    include: RowMask | None,
) -> SelectableRows:
    """Which rows may be selected: a label wins over `exclude`, and that over `pending` and `include`.

    In two bytes for each row, and eight for each of those that can or that cannot be selected, whichever are fewer.
    """
    ordinary = np.ones(n_rows, np.bool_)
    if exclude is not None:
        ordinary[exclude] = False
        ordinary[labelled] = True  # a label says that it is an image of a class
    population = rows_where(ordinary)
    ordinary[labelled] = False
    free, waits = ordinary, np.empty(0, np.int64)
    if pending is not None:
        waits = np.flatnonzero(_mask(n_rows, pending) & ordinary)
    if include is not None:
        free = _mask(n_rows, include) & ordinary
    free[waits] = False
    n_vanished = int(np.count_nonzero(free[vanished]))
    free[vanished] = False
    selectable = rows_where(free)
    n_others = labelled.size + waits.size + n_vanished + selectable.size
    return SelectableRows(selectable, waits, population, n_rows - n_others, n_vanished)


def _mask(n_rows: int, rows: RowMask) -> npt.NDArray[np.bool_]:
    if rows.dtype == np.bool_:
        return np.asarray(rows, np.bool_)
    mask = np.zeros(n_rows, np.bool_)
    mask[rows] = True
    return mask
