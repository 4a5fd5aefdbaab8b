"""Pairs of rows with a gain in greedy coverage: few beside all pairs, once some rows are selected."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["NearerPairs", "most_pair_bytes", "positions"]

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]

# Pairs that are kept at most, and bytes of one.
_MOST_PAIRS, _PAIR = 1 << 24, 10


class NearerPairs:
    """Of each candidate j the rows i that it is nearer to than any selected row, s_ij > s_i, and s_ij.

    Of k selected rows and n others at random, n² / (k + 1) pairs are such. They are added a square at a time, those of
    the same candidates by ascending rows; if they are too many, none are kept.

    Parameters
    ----------
    n_rows : int
        n; all rows are candidates.
    square : int
        Rows and candidates of a square, at most 2¹⁶.
    """

    def __init__(self, n_rows: int, square: int) -> None:
        self._n_rows, self._square, self._n_pairs, self._n_seen = n_rows, square, 0, 0
        n_squares = -(-n_rows // square)
        self._added: list[list[tuple[npt.NDArray[np.int32], npt.NDArray[np.uint16], Float32]]]
        self._added = [[] for _ in range(n_squares)]
        self._found: list[tuple[Int64, npt.NDArray[np.int32], Float32]] = []
        self.is_open = True
        """Whether pairs can be added: not when they are too many, or complete."""

    def add(self, i: Int64, j: Int64, similarity: Float32, *, first_row: int, first_candidate: int) -> None:
        """Add pairs of a square, which begins with these rows and candidates."""
        rows = (i + first_row).astype(np.int32)
        self._added[first_candidate // self._square].append((rows, j.astype(np.uint16), similarity))
        self._n_pairs += len(rows)

    def seen(self, n_pairs: int) -> None:
        """So many more pairs of rows have been looked at: give up where too many of them are to be kept."""
        self._n_seen += n_pairs
        if self._n_pairs > _MOST_PAIRS * min(1.0, 2.0 * self._n_seen / self._n_rows**2):
            self.is_open, self._added = False, []

    def complete(self) -> NearerPairs | None:
        """The pairs when all have been added, or None where they were too many."""
        if not self.is_open:
            return None
        for number, parts in enumerate(self._added):
            rows, candidates, similarity = (np.concatenate(part) for part in zip(*parts, strict=True))
            order = np.argsort(candidates, kind="stable")
            n_candidates = min(self._square, self._n_rows - number * self._square)
            stops = np.cumsum(np.bincount(candidates, minlength=n_candidates))
            self._found.append((np.append(0, stops), rows[order], similarity[order]))
            parts.clear()
        self.is_open = False
        return self

    def of(self, candidate: int) -> tuple[npt.NDArray[np.int32], Float32]:
        """The rows of one candidate, ascending, and their similarities."""
        square, column = divmod(candidate, self._square)
        starts, rows, similarity = self._found[square]
        part = slice(starts[column], starts[column + 1])
        return rows[part], similarity[part]


def most_pair_bytes(n_rows: int) -> int:
    """Bytes of the pairs of so many rows, at most."""
    return _PAIR * min(n_rows * n_rows, _MOST_PAIRS)


def positions(mask: npt.NDArray[np.bool_]) -> tuple[Int64, Int64]:
    """numpy.nonzero of a matrix that lies in memory by rows or by columns, a column's rows ascending; far faster."""
    if mask.flags.c_contiguous:
        i, j = np.divmod(np.flatnonzero(mask), mask.shape[1])
    else:
        j, i = np.divmod(np.flatnonzero(mask.T), mask.shape[0])
    return i, j
