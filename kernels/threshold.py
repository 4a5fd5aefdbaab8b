"""The exact order statistic of all M · C scores (step 3, "target size"), without sorting or storing them.

A pass over the logits counts the scores up to a bracket's lower end and keeps those inside; whatever order programs run
in, each keeps them in a place of its own. What was kept is counted in cells of the numbers' bits, which order as the
numbers do, and the values of the cell that holds the rank are listed. The host, which chose the bracket, reads counts
and list together, once: it waits for the device at no other place.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from ._configs import CELL_BITS, KEPT_COLUMNS, KEPT_TILE, alignment, column_width, launch, programs, row_tile
from ._math import cuts, load_tile, log_of_sum, of_rows, row_sum, tile_columns, top1_and_sums

__all__ = [
    "BAD",
    "BELOW",
    "FIRST",
    "FIRST_CELL",
    "HIGH",
    "INSIDE",
    "KEPT",
    "LISTED",
    "LOW",
    "N_CELLS",
    "RANK",
    "ROOM",
    "SHIFT",
    "Kept",
    "bad_of",
]

# a_c = L + (max z − z_c);  below = #{ a ≤ low },  inside = { a : low < a ≤ high }

N_CELLS = 1 << CELL_BITS
"""Cells in which kept scores are counted: one below the grid, the grid's, and one above it."""

ROOM = 4096
"""Scores that the list has room for."""

# A request and what comes of it lie in one tensor of int64, which crosses to the device and back in one copy each. The
# first places are the request: the ends of the bracket (bits of float64), the key of the grid's first cell, the bits of
# a key that are no part of its cell, and the rank. The others count: scores up to the bracket, inside, and kept; listed
# ones; and the row that is not finite, see `report_rows`, on 16 bytes, as pointers are. Cells and list follow.
LOW, HIGH, FIRST, SHIFT, RANK = (tl.constexpr(place) for place in range(5))
BELOW, INSIDE, KEPT, LISTED, BAD = (tl.constexpr(place) for place in (5, 6, 7, 8, 10))
FIRST_CELL = tl.constexpr(16)

_RUN_TIME = ["n_rows", "n_classes", "stride", "first_row", "capacity", "n"]


@triton.jit
def _bracket(state):
    """low and high."""
    low = tl.load(state + LOW).to(tl.float64, bitcast=True)
    return low, tl.load(state + HIGH).to(tl.float64, bitcast=True)


@triton.jit
def _counted(counts, program, n_programs):
    """What a program has counted so far: scores up to low, inside, and kept."""
    below, inside = tl.load(counts + program), tl.load(counts + n_programs + program)
    return below, inside, tl.load(counts + 2 * n_programs + program).to(tl.int32)


@triton.jit
def _store_counts(counts, program, n_programs, below, inside, kept):
    tl.store(counts + program, below)
    tl.store(counts + n_programs + program, inside)
    tl.store(counts + 2 * n_programs + program, kept.to(tl.int64))


@triton.jit
def _keep(segment, kept, capacity, scores, is_inside, n_inside, SIZE: tl.constexpr):
    """Stores the scores inside behind those that a program has kept, as far as there is room: how many it has now."""
    chosen = tl.reshape(is_inside.to(tl.int32), (SIZE,))
    place = kept + tl.cumsum(chosen, axis=0) - 1
    tl.store(segment + place, tl.reshape(scores, (SIZE,)), mask=(chosen != 0) & (place < capacity))
    return tl.minimum(kept + n_inside, capacity)


@triton.jit(do_not_specialize=_RUN_TIME)
def _keep_kernel(
    logits, stride, n_rows, n_classes,  # (M, C) of any storage type
    first_row,  # the number of row 0
    state,  # see above
    values, capacity,  # in and out: (programs, capacity) float64
    counts,  # in and out: (3, programs) int64
    ALIGN: tl.constexpr, WIDTH: tl.constexpr,  # units of the stride and of C
    K: tl.constexpr, R: tl.constexpr, J: tl.constexpr,  # the tile: R rows of K · J columns
    COLUMNS: tl.constexpr,  # columns whose scores are formed at a time, fewer of them for want of registers
):  # fmt: skip
    """counts (3, programs): scores up to low, scores inside, and how many of those are among `values`."""
    program, n_programs = tl.program_id(0), tl.num_programs(0)
    n_columns = n_classes * WIDTH
    low, high = _bracket(state)
    segment = values + program.to(tl.int64) * capacity
    below, inside, kept = _counted(counts, program, n_programs)
    for block in range(program, tl.cdiv(n_rows, R), n_programs):
        rows = (tl.zeros((R,), tl.int64) + block) * R + tl.arange(0, R)
        in_rows = rows < n_rows
        maximum, _, total = top1_and_sums(
            logits, rows, in_rows, stride * ALIGN, n_columns, first_row, state + BAD, K, R, J
        )
        log_sum = log_of_sum(total)
        cut_low = cuts(maximum, log_sum, tl.full((R,), 0.0, tl.float64) + low)
        cut_high = cuts(maximum, log_sum, tl.full((R,), 0.0, tl.float64) + high)
        for start in range(0, n_columns, COLUMNS):
            columns = start + tile_columns(1, COLUMNS)
            mask = in_rows[None, :, None] & (columns < n_columns)
            z = load_tile(logits, rows, stride * ALIGN, columns, mask)
            is_below = mask & (z >= of_rows(cut_low))
            is_inside = mask & (z >= of_rows(cut_high)) & (z < of_rows(cut_low))
            below += tl.sum(row_sum(is_below.to(tl.int32)), axis=0)
            n_inside = tl.sum(row_sum(is_inside.to(tl.int32)), axis=0)
            inside += n_inside
            if (n_inside > 0) & (kept < capacity):
                score = of_rows(log_sum) + (of_rows(maximum).to(tl.float64) - z.to(tl.float64))
                kept = _keep(segment, kept, capacity, score, is_inside, n_inside, R * COLUMNS)
    _store_counts(counts, program, n_programs, below, inside, kept)


@triton.jit(do_not_specialize=_RUN_TIME)
def _keep_scores_kernel(
    scores, n,  # (n,) float64
    state, values, capacity, counts,  # as in `_keep_kernel`
    BLOCK: tl.constexpr,
):  # fmt: skip
    """As `_keep_kernel`, of scores that have been computed."""
    program, n_programs = tl.program_id(0), tl.num_programs(0)
    low, high = _bracket(state)
    segment = values + program.to(tl.int64) * capacity
    below, inside, kept = _counted(counts, program, n_programs)
    for block in range(program, tl.cdiv(n, BLOCK), n_programs):
        place = block * BLOCK + tl.arange(0, BLOCK)
        mask = place < n
        score = tl.load(scores + place, mask=mask, other=0.0)
        is_below = mask & (score <= low)
        is_inside = mask & (score <= high) & (score > low)
        below += tl.sum(is_below.to(tl.int32), axis=0)
        n_inside = tl.sum(is_inside.to(tl.int32), axis=0)
        inside += n_inside
        if (n_inside > 0) & (kept < capacity):
            kept = _keep(segment, kept, capacity, score, is_inside, n_inside, BLOCK)
    _store_counts(counts, program, n_programs, below, inside, kept)


@triton.jit
def _cell_of(key, state, CELLS: tl.constexpr):
    """The cell of each number's bits; whatever they are, there is such a cell."""
    place = ((key - tl.load(state + FIRST)) >> tl.load(state + SHIFT)) + 1
    return tl.minimum(tl.maximum(place, 0), CELLS - 1).to(tl.int32)


@triton.jit(do_not_specialize=_RUN_TIME)
def _count_kernel(
    values, capacity, counts,  # as `_keep_kernel` leaves them
    state,  # in and out
    CELLS: tl.constexpr, BLOCK: tl.constexpr,  # values at a time
):  # fmt: skip
    """The sums of the counts, and how many of the values lie in each cell."""
    program, n_programs = tl.program_id(0), tl.num_programs(0)
    n = tl.load(counts + 2 * n_programs + program)
    found = tl.zeros((CELLS,), tl.int32)
    for start in range(0, n, BLOCK):
        place = start + tl.arange(0, BLOCK)
        mask = place < n
        value = tl.load(values + program.to(tl.int64) * capacity + place, mask=mask, other=0.0)
        found += tl.histogram(_cell_of(value.to(tl.int64, bitcast=True), state, CELLS), CELLS, mask=mask)
    cell = tl.arange(0, CELLS)
    tl.atomic_add(state + FIRST_CELL + cell, found.to(tl.int64), mask=found > 0, sem="relaxed")
    for i in tl.static_range(3):
        tl.atomic_add(state + BELOW + i, tl.load(counts + i * n_programs + program), sem="relaxed")


@triton.jit(do_not_specialize=_RUN_TIME)
def _list_kernel(
    values, capacity, counts,  # as `_keep_kernel` leaves them
    state,  # in and out
    CELLS: tl.constexpr, LIST: tl.constexpr, BLOCK: tl.constexpr,  # room of the list; values at a time
):  # fmt: skip
    """Lists the values of the cell that the rank falls into, in any order."""
    program, n_programs = tl.program_id(0), tl.num_programs(0)
    n = tl.load(counts + 2 * n_programs + program)
    if n > 0:
        upto = tl.cumsum(tl.load(state + FIRST_CELL + tl.arange(0, CELLS)).to(tl.int32), axis=0)
        cell = tl.sum((upto < tl.load(state + RANK) - tl.load(state + BELOW)).to(tl.int32), axis=0)
        for start in range(0, n, BLOCK):
            place = start + tl.arange(0, BLOCK)
            mask = place < n
            value = tl.load(values + program.to(tl.int64) * capacity + place, mask=mask, other=0.0)
            key = value.to(tl.int64, bitcast=True)
            chosen = mask & (_cell_of(key, state, CELLS) == cell)
            n_chosen = tl.sum(chosen.to(tl.int32), axis=0)
            if n_chosen > 0:
                listed = tl.atomic_add(state + LISTED, n_chosen.to(tl.int64), sem="relaxed")
                at = listed + tl.cumsum(chosen.to(tl.int32), axis=0) - 1
                tl.store(state + FIRST_CELL + CELLS + at, key, mask=chosen & (at < LIST))


def bad_of(state: torch.Tensor) -> torch.Tensor:
    """Where a pass reports a row that is not finite, shape (1,)."""
    return state[BAD.value : BAD.value + 1]


class Kept:
    """Scores in a bracket, of rows that come in chunks: counted, and kept as far as there is room.

    Parameters
    ----------
    state : Tensor, int64
        A request, see above, in which :meth:`count` and :meth:`list` leave their counts and the list.
    n_rows, n_classes : int
        Shape of the largest chunk.
    capacity : int
        Scores that all programs together may keep; each has an equal share.
    """

    def __init__(self, state: torch.Tensor, n_rows: int, n_classes: int, capacity: int) -> None:
        self.state = state
        self._n_programs = programs(state.device, triton.cdiv(n_rows, row_tile(n_classes).R))
        self._share = triton.cdiv(capacity, self._n_programs)
        self._values = torch.empty((self._n_programs, self._share), dtype=torch.float64, device=state.device)
        self._counts = torch.zeros((3, self._n_programs), dtype=torch.int64, device=state.device)

    def add(self, logits: torch.Tensor, first_row: int) -> None:
        """Takes the scores of a chunk of logits, shape (m, C), each read from memory once."""
        n_rows, n_classes = logits.shape
        align, width = alignment(logits), column_width(n_classes)
        tile = row_tile(n_classes)
        _keep_kernel[(self._n_programs,)](
            logits, logits.stride(0) // align, n_rows, n_classes // width, first_row,
            self.state, self._values, self._share, self._counts,
            ALIGN=align, WIDTH=width, K=tile.K, R=tile.R, J=tile.J, COLUMNS=min(tile.J, KEPT_COLUMNS),
            **launch(tile.warps),
        )  # fmt: skip

    def add_scores(self, scores: torch.Tensor) -> None:
        """Takes scores, of any shape, float64 and contiguous."""
        _keep_scores_kernel[(self._n_programs,)](
            scores, scores.numel(), self.state, self._values, self._share, self._counts,
            BLOCK=KEPT_TILE.block, **launch(KEPT_TILE.warps),
        )  # fmt: skip

    def count(self) -> None:
        """Counts what was kept in cells."""
        _count_kernel[(self._n_programs,)](
            self._values, self._share, self._counts, self.state,
            CELLS=N_CELLS, BLOCK=KEPT_TILE.block, **launch(KEPT_TILE.warps),
        )  # fmt: skip

    def found(self) -> tuple[torch.Tensor, torch.Tensor]:
        """How many scores lie up to the bracket and inside, shape (2,), and those that were kept, in any order."""
        places = torch.arange(self._share, device=self._values.device)
        return self._counts[:2].sum(dim=1), self._values[places < self._counts[2, :, None]]

    def list(self) -> None:
        """Lists the values of the cell that the rank falls into."""
        _list_kernel[(self._n_programs,)](
            self._values, self._share, self._counts, self.state,
            CELLS=N_CELLS, LIST=ROOM, BLOCK=KEPT_TILE.block, **launch(KEPT_TILE.warps),
        )  # fmt: skip
