"""A minimum distance between picks, and classes that may be full: which rows may still be picked."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ..backends.choose import backend_for_small
from ..pool.arrays import ArrayRows
from ..pool.rows import Rows
from ..steps.coverage import HostUnitRows
from .settings import RowNumbers, Settings

__all__ = ["PickLimits", "Spacing"]

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]
Classes = npt.NDArray[Any]

# What the rounding of unit rows to float32 changes in a distance, at most: rows are as far as asked where they are so
# up to this, and rows of one direction are nearer than any distance.
_ROUNDING = 5e-7

# Rows that are looked at together: first, and at most.
_FIRST_BLOCK, _MOST_ROWS = 256, 1 << 16

# Rows of an exact comparison.
_EXACT = 1024


class Spacing:
    """Rows of a pool that are at least some distance from covered rows and from each other.

    Distances are Euclidean, of unit rows, from 0 to 2. Most pairs are told by float32 similarities, those near the
    limit in float64. Computed on the host: few rows are compared.

    Parameters
    ----------
    settings : Settings
    pool : Rows, shape (N, D)
    covered : ndarray, int64
        Rows that are there already; read once something is compared.
    min_distance : float
    """

    def __init__(self, settings: Settings, pool: Rows, covered: Int64, min_distance: float) -> None:
        self._settings = replace(settings, backend=backend_for_small(settings.backend))
        self._pool, self._covered = pool, covered
        self._known: HostUnitRows | None = None
        self._picked, self._n_picked = np.empty((16, pool.n_columns), np.float32), 0
        self._least = min_distance**2
        self._least_exact = max(min_distance - _ROUNDING, _ROUNDING) ** 2
        self._doubt = (pool.n_columns + 8) * 2.0**-22  # of a float32 product
        self.too_near = np.zeros(pool.n_rows, np.bool_)
        """Rows that were passed over; they stay too near."""

    @classmethod
    def of(cls, settings: Settings, pool: Rows, covered: Int64, min_distance: float) -> Spacing | None:
        """None where no distance is asked for."""
        return cls(settings, pool, covered, min_distance) if min_distance > 0.0 else None

    def unit_rows(self, numbers: Int64) -> HostUnitRows:
        return HostUnitRows(self._settings.kept(self._pool, numbers), self._settings.backend)

    def apart(self, numbers: Int64, rows: HostUnitRows) -> npt.NDArray[np.bool_]:
        """Whether rows are far enough from all that are covered or picked so far, shape (n,)."""
        if self._known is None:
            self._known = self.unit_rows(self._covered)
        apart = ~self.too_near[numbers]
        for others in (self._known, HostUnitRows(ArrayRows(self._so_far, "features"), self._settings.backend)):
            if others.n_rows:
                apart &= self._far(rows, others)
        self.too_near[numbers] = ~apart
        return apart

    def admits(self, number: int, unit: Float32) -> bool:
        """Whether a row is far enough from all that are picked so far; then it is picked itself."""
        if self._n_picked:
            similarity = self._settings.backend.linear(self._so_far, unit[None])[:, 0]
            squared = 2.0 - 2.0 * similarity.astype(np.float64)
            doubtful = self._so_far[squared < self._least + self._doubt].astype(np.float64)
            exact = ((doubtful - unit) ** 2).sum(axis=1)
            if (squared < self._least - self._doubt).any() or (exact < self._least_exact).any():
                self.too_near[number] = True
                return False
        if self._n_picked == len(self._picked):
            self._picked = np.concatenate([self._picked, np.empty_like(self._picked)])
        self._picked[self._n_picked] = unit
        self._n_picked += 1
        return True

    def walk(self, numbers: Int64, n_picks: int, *, classes: Classes | None = None, room: Int64 | None = None) -> Int64:
        """The first rows that may be picked, one after the other, as positions in `numbers`, ascending.

        Parameters
        ----------
        numbers : ndarray, shape (n,), int64
            Rows of the pool, those to be preferred first.
        n_picks : int
            At most so many.
        classes, room
            As in :class:`PickLimits`.
        """
        chosen: list[int] = []
        start, size = 0, max(_FIRST_BLOCK, n_picks)
        while start < numbers.size and len(chosen) < n_picks:
            part = numbers[start : start + size]
            order = np.argsort(part)  # in which they are read
            of_part = None if classes is None else classes[start : start + size][order]
            limits = PickLimits(part[order], self, classes=of_part, room=room)
            for position, row in enumerate(np.argsort(order).tolist()):
                if limits.admits(row):
                    chosen.append(start + position)
                    if len(chosen) == n_picks:
                        break
            start, size = start + size, min(2 * size, _MOST_ROWS)
        return np.asarray(chosen, np.int64)

    def fill(
        self,
        scored: RowNumbers,
        order: Int64,
        n_picks: int,
        *,
        classes: Classes | None = None,
        room: Int64 | None = None,
    ) -> Int64:
        """More picks where candidates ran out: of all that are left, in an order of preference.

        Parameters
        ----------
        scored : AllBut or ndarray
            The scored rows.
        order : ndarray, int64
            Positions among them that are not picked, those to be preferred first.
        n_picks : int
            At most so many: fewer only where no other of them is far enough.
        classes, room
            As in :class:`PickLimits`, of the scored rows; what classes do not fill goes to the others.

        Returns
        -------
        ndarray, int64
            Positions among the scored rows.
        """
        order = order[~self.too_near[scored[order]]]
        found = self.walk(scored[order], n_picks, classes=None if classes is None else classes[order], room=room)
        if found.size < n_picks and room is not None:
            rest = self.fill(scored, np.delete(order, found), n_picks - found.size)
            return np.concatenate([order[found], rest])
        return order[found]

    @property
    def n_too_near(self) -> int:
        return int(np.count_nonzero(self.too_near))

    @property
    def _so_far(self) -> Float32:
        return self._picked[: self._n_picked]

    def _far(self, rows: HostUnitRows, others: HostUnitRows) -> npt.NDArray[np.bool_]:
        """Whether rows are far enough from all of `others`."""
        squared = 2.0 - 2.0 * rows.nearest(others, -1.0).astype(np.float64)
        far = squared >= self._least
        doubtful = np.flatnonzero(np.abs(squared - self._least) < self._doubt)
        for start in range(0, doubtful.size, _EXACT):
            part = doubtful[start : start + _EXACT]
            far[part] = _squared_distances(rows.take(part), others) >= self._least_exact
        return far


def _squared_distances(rows: Float32, others: HostUnitRows) -> npt.NDArray[np.float64]:
    """‖x − x_j‖² of each row to the nearest of `others`, in float64."""
    x = rows.astype(np.float64)
    least = np.full(len(x), np.inf)
    for start in range(0, others.n_rows, _EXACT):
        other = others.between(start, min(start + _EXACT, others.n_rows)).astype(np.float64)
        squared = (x**2).sum(axis=1)[:, None] + (other**2).sum(axis=1) - 2.0 * x @ other.T
        np.minimum(least, squared.min(axis=1), out=least)
    return least


class PickLimits:
    """Which of some rows may still be picked, see :class:`ccma_fast.steps.coverage.Limits`.

    Parameters
    ----------
    numbers : ndarray, shape (n,), int64
        Rows of the pool.
    spacing : Spacing or None
    rows : HostUnitRows or None
        Those rows; read where there is a `spacing` and they are not given.
    classes : ndarray, shape (n,), optional
        Their classes.
    room : ndarray, shape (C,), int64, optional
        Picks that each class may still have; counted down.
    """

    def __init__(
        self,
        numbers: Int64,
        spacing: Spacing | None,
        rows: HostUnitRows | None = None,
        *,
        classes: Classes | None = None,
        room: Int64 | None = None,
    ) -> None:
        self.closed = np.zeros(numbers.size, np.bool_)
        self._numbers, self._spacing, self._classes, self._room = numbers, spacing, classes, room
        self._rows = rows
        if spacing is not None and numbers.size:
            self._rows = spacing.unit_rows(numbers) if rows is None else rows
            self.closed |= ~spacing.apart(numbers, self._rows)
        if classes is not None and room is not None:
            self.closed |= room[classes] == 0

    def admits(self, row: int) -> bool:
        if self.closed[row]:
            return False
        self.closed[row] = True
        if self._spacing is not None and self._rows is not None:
            unit = self._rows.take(np.array([row]))[0]
            if not self._spacing.admits(int(self._numbers[row]), unit):
                return False
        if self._classes is not None and self._room is not None:
            c = int(self._classes[row])
            self._room[c] -= 1
            if not self._room[c]:
                self.closed |= self._classes == c
        return True
