"""Every choice of tiles, warps and stages, in one place and fixed: no kernel is tuned when it first runs.

Why each is what it is stands in ``bench/results/NOTES.md``. Widths are powers of two, and the number of rows or classes
is no part of a choice but through its power of two: a new N compiles nothing.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

__all__ = [
    "ADAMW_BLOCK",
    "CAREFUL_TILE",
    "CELL_BITS",
    "CENTROID_TILE",
    "CHOICE_BLOCK",
    "COVER_BLOCK",
    "CROSS_ENTROPY_BLOCK",
    "DROPOUT_TILE",
    "EXACT_TILE",
    "FAST_TILE",
    "GAINS_TILE",
    "KEPT_COLUMNS",
    "KEPT_TILE",
    "LONGEST_ROW",
    "OUTCOME_BLOCK",
    "PLAN_BLOCK",
    "RANGE_TILE",
    "SUMS_TILE",
    "UPDATE_TILE",
    "Block",
    "ProductTile",
    "RowTile",
    "alignment",
    "capability",
    "careful_tile",
    "column_width",
    "fast_tile",
    "halves_rows",
    "launch",
    "linear_tile",
    "processors",
    "programs",
    "row_class",
    "row_classes",
    "row_tile",
    "shared_bytes",
    "stages",
    "stages_of",
]


def launch(warps: int) -> dict[str, Any]:
    """Options of a launch of so many warps.

    Products and sums may be fused: no comparison of scores holds a product. Registers are as many as there are, or the
    compiler spills some that a second program on the multiprocessor might want.
    """
    return {"num_warps": warps, "maxnreg": min(255, 2048 // warps), "enable_fp_fusion": True}


class RowTile(NamedTuple):
    """A tile (K, R, J) of rows, see ``_math``, and the warps that work on it."""

    K: int
    R: int
    J: int
    warps: int


class _Row(NamedTuple):
    lanes: int  # threads that share a row
    warps: int


# Columns of a row that is held in registers from end to end; longer ones are read in stretches of so many.
LONGEST_ROW = 4096

# By the power of two that holds a row: few values a thread, or what is done once a row costs more than the row.
_ROWS = {
    16: _Row(1, 1),
    32: _Row(1, 1),
    64: _Row(2, 1),
    128: _Row(4, 1),
    256: _Row(8, 1),
    512: _Row(16, 1),
    1024: _Row(32, 1),
    2048: _Row(64, 2),
    4096: _Row(128, 4),
}
_STRETCH = _Row(512, 16)


class Block(NamedTuple):
    """A stretch of numbers, and the warps that work on it."""

    block: int
    warps: int


class ProductTile(NamedTuple):
    """A tile (M, N) of a product over D columns at a time, and how many tiles of rows run side by side."""

    M: int
    N: int
    D: int
    group: int
    warps: int


# The products of rows with a matrix, by the parts of the rows. Tall tiles, for a step loads a part more of the matrix
# than of the rows: 64 KiB for 8.4 million operations, where 128 × 128 takes 96. Where the matrix units take their
# factors from registers, these do not hold such a tile.
_LINEAR_TILE = {1: ProductTile(256, 128, 64, 8, 8), 2: ProductTile(256, 128, 32, 8, 8)}
_FROM_MEMORY = (9,)


class GainsTile(NamedTuple):
    """M rows, or sums, of N candidates; M centroids, of N columns at a time."""

    M: int
    N: int
    warps: int


# The products of an assignment, whose running best stays beside them in registers: that of all rows, and that of the
# rows which it leaves open, in two parts. The first does 85 operations a byte it reads, as many as registers allow.
# Generations that have `mma` alone lay more of the factors there, and get half of the centroids.
FAST_TILE = ProductTile(128, 256, 64, 1, 8)
CAREFUL_TILE = ProductTile(64, 64, 32, 1, 4)
_MMA_ALONE = (8, 12)

# Centroids, and their columns at a time, that one program brings into parts.
CENTROID_TILE = GainsTile(16, 64, 4)

# Centroids of which one program takes the largest at a time.
RANGE_TILE = Block(1024, 4)

# Bytes of rows as halves that are made and multiplied at once. At 768 columns they are ten full waves of tiles on 132
# multiprocessors, so that the last wave, which is not full, is one of sixty for a million rows.
_HALVES_BYTES = 256 << 20


class ExactTile(NamedTuple):
    """N centroids, D columns at a time, for one row; and the rows whose slices are compared at once."""

    N: int
    D: int
    rows: int
    warps: int


EXACT_TILE = ExactTile(32, 128, 128, 4)


class UpdateTile(NamedTuple):
    """D columns of a sum of at most `length` rows, and the rows that are fetched ahead."""

    D: int
    ahead: int
    length: int
    warps: int


# 1,000 rows of a lone cluster take some 130 µs; of 10,000 clusters of a million rows hardly one has more.
UPDATE_TILE = UpdateTile(128, 8, 1024, 1)

# Clusters whose segments are dealt out at once; rows, sums or clusters of one program that says how a clustering is.
PLAN_BLOCK = Block(1024, 4)
OUTCOME_BLOCK = Block(2048, 4)

# Shared memory of one program in KiB, by compute capability; that of all others is at least the last.
_SHARED_KIB = {(8, 0): 163, (8, 7): 163, (9, 0): 227, (10, 0): 227, (10, 3): 227, (0, 0): 99}
_MOST_STAGES = 4

# Cells in which the kept scores are counted (2 to this), and how these are read.
CELL_BITS = 11
KEPT_TILE = Block(1024, 4)

# Columns of a row whose scores are kept at a time: with as many as rows are read by, registers would not do.
KEPT_COLUMNS = 2048

# Parameters of one program of the head's optimiser, and logits that one has at a time.
ADAMW_BLOCK = Block(1024, 4)
CROSS_ENTROPY_BLOCK = Block(1024, 4)

# Draws of 64 bits, of which each is compared for four values.
DROPOUT_TILE = Block(256, 4)

# Similarities of one step of a segment's sums, and sums of one step of theirs.
GAINS_TILE = GainsTile(32, 32, 4)
SUMS_TILE = GainsTile(32, 32, 4)

# Rows that a pick covers, and gains of which one program chooses the largest.
COVER_BLOCK = Block(256, 4)
CHOICE_BLOCK = Block(1024, 8)

# Programs for each multiprocessor where programs go through the rows in turn, and in the interpreter in all.
_PROGRAMS_PER_PROCESSOR = 16
_INTERPRETED_PROGRAMS = 3


def row_classes() -> tuple[int, ...]:
    """The powers of two whose rows are held in registers."""
    return tuple(_ROWS)


def row_class(n_columns: int) -> int:
    """The power of two that holds a row, or 2 · LONGEST_ROW for all longer ones."""
    return 2 * LONGEST_ROW if n_columns > LONGEST_ROW else max(16, 1 << (n_columns - 1).bit_length())


def row_tile(n_columns: int) -> RowTile:
    """The tile for rows of so many columns.

    It follows from the columns alone: all kernels add up a row in one order, and agree on its scores to the last bit.
    """
    block = row_class(n_columns)
    row = _ROWS.get(block, _STRETCH)
    # A lone column a thread would make the compiler deal out the columns, not the rows, among the threads.
    lanes = max(row.lanes, 4 // column_width(n_columns), block // (32 * column_width(n_columns)))
    width = min(lanes * column_width(n_columns), block, LONGEST_ROW)
    return RowTile(min(block, LONGEST_ROW) // width, max(1, 32 * row.warps // lanes), width, row.warps)


def column_width(n_columns: int) -> int:
    """Columns that a thread may read at once where the memory allows it: 8, 4 or 1, by what divides their number."""
    return next(width for width in (8, 4, 1) if n_columns % width == 0)


def alignment(matrix: torch.Tensor) -> int:
    """Columns, at most 16 bytes of them, to whose boundaries all rows of a matrix are aligned; else 1."""
    size = matrix.element_size()
    for width in (8, 4):
        fits = width * size <= 16 and matrix.stride(0) % width == 0 and matrix.data_ptr() % (width * size) == 0
        if fits and matrix.shape[1] % width == 0:
            return width
    return 1


def fast_tile(capability: tuple[int, int]) -> ProductTile:
    """The tile of the first product of an assignment; it divides `FAST_TILE`."""
    return FAST_TILE._replace(N=128) if capability[0] in _MMA_ALONE else FAST_TILE


def linear_tile(n_parts: int, capability: tuple[int, int]) -> ProductTile:
    """The tile of a product with rows of so many parts."""
    tile = _LINEAR_TILE[n_parts]
    return tile if capability[0] in _FROM_MEMORY else tile._replace(M=tile.M // 2)


def careful_tile(capability: tuple[int, int]) -> ProductTile:
    """The tile of the second product of an assignment; it divides `CAREFUL_TILE`."""
    return CAREFUL_TILE._replace(N=32) if capability[0] in _MMA_ALONE else CAREFUL_TILE


def halves_rows(device: torch.device, n_columns: int) -> int:
    """Rows of an assignment that are made halves at once: whole waves of tiles, one program a multiprocessor."""
    wave = FAST_TILE.M * processors(device)
    return max(1, _HALVES_BYTES // (2 * -(-n_columns // FAST_TILE.D) * FAST_TILE.D * wave)) * wave


def programs(device: torch.device, most: int) -> int:
    """Programs that fill the device, at most `most`."""
    if device.type != "cuda":
        return min(most, _INTERPRETED_PROGRAMS)
    return min(most, _PROGRAMS_PER_PROCESSOR * processors(device))


def processors(device: torch.device) -> int:
    """Multiprocessors of the device, 1 in the interpreter."""
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 1


def stages(device: torch.device, stage_bytes: int) -> int:
    """Tiles that are loaded ahead of a product: as many as fit into the device's shared memory, two to four."""
    return stages_of(capability(device), stage_bytes)


def capability(device: torch.device) -> tuple[int, int]:
    """The compute capability, (0, 0) in the interpreter."""
    return torch.cuda.get_device_capability(device) if device.type == "cuda" else (0, 0)


def stages_of(capability: tuple[int, int], stage_bytes: int) -> int:
    """:func:`stages` of a compute capability."""
    return max(2, min(_MOST_STAGES, shared_bytes(capability) // stage_bytes))


def shared_bytes(capability: tuple[int, int]) -> int:
    """Shared memory that one program may have."""
    return _SHARED_KIB.get(capability, _SHARED_KIB[0, 0]) << 10
