"""Dropout with the same random bits as on the host (the student's training)."""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl

from ._configs import DROPOUT_TILE, launch

__all__ = ["Jumps", "dropout", "jumps"]

# out_i = x_i where the i-th 16 bits of a stream are below a threshold, else 0
#
# A stream is NumPy's PCG64 (O'Neill 2014): s_t = a s_{t−1} + c modulo 2^128, and draw t is the 64 bits
# rotr(s_high ⊕ s_low, s_high >> 58) of s_t, lowest 16 first. Its t-th state needs none between:
# s_t = a^t s_0 + (1 + a + … + a^{t−1}) c, where a^t and the sum stand in tables, one for the first draw of each program
# and one for the draws within.

_MULTIPLIER = 0x2360ED051FC65DA44385DF649FCCF645
_RUN_TIME = ["n_rows", "n_columns", "n_pieces"]


class Jumps(NamedTuple):
    """a^t and 1 + a + … + a^{t−1}, each as its high and low 64 bits, shape (n, 4), int64."""

    blocks: torch.Tensor
    """For t = 0, DROPOUT_TILE.block, 2 · DROPOUT_TILE.block, …"""
    draws: torch.Tensor
    """For t = 1, 2, …, DROPOUT_TILE.block."""


@triton.jit
def _product(a_high, a_low, b_high, b_low):
    """The product modulo 2^128, as high and low words."""
    return tl.umulhi(a_low, b_low) + a_high * b_low + a_low * b_high, a_low * b_low


@triton.jit
def _word(base, at):
    return tl.load(base + at).to(tl.uint64, bitcast=True)


@triton.jit
def _jumped(high, low, c_high, c_low, table, at):
    """The state, advanced by the number of steps of entry `at` of the table."""
    a = table + 4 * at
    high, low = _product(_word(a, 0), _word(a, 1), high, low)
    more_high, more_low = _product(_word(a, 2), _word(a, 3), c_high, c_low)
    low += more_low
    return high + more_high + (low < more_low).to(tl.uint64), low


@triton.jit(do_not_specialize=_RUN_TIME)
def _dropout_kernel(
    x, out,  # (n, D) float32
    streams, blocks, draws,  # (P, 4) int64, and the tables of `Jumps`
    n_rows, n_columns, n_pieces,  # n, D, P
    KEEP: tl.constexpr, B: tl.constexpr,  # of 2^16; draws of a program
):  # fmt: skip
    piece = tl.program_id(1)
    # Rows are split as by torch.tensor_split.
    more = n_rows % n_pieces
    first = piece * (n_rows // n_pieces) + tl.minimum(piece, more)
    size = (n_rows // n_pieces + tl.where(piece < more, 1, 0)).to(tl.int64) * n_columns
    begin = tl.program_id(0).to(tl.int64) * B
    if 4 * begin < size:
        state = streams + 4 * piece
        c_high, c_low = _word(state, 2), _word(state, 3)
        high, low = _jumped(_word(state, 0), _word(state, 1), c_high, c_low, blocks, tl.program_id(0))
        high, low = _jumped(high, low, c_high, c_low, draws, tl.arange(0, B))
        turn = high >> 58
        mixed = high ^ low
        word = (mixed >> turn) | (mixed << ((64 - turn) & 63))
        quarter = tl.arange(0, 4)
        bits = (word[:, None] >> (16 * quarter[None, :]).to(tl.uint64)) & 0xFFFF
        inside = 4 * (begin + tl.arange(0, B)[:, None]) + quarter[None, :]
        at = first.to(tl.int64) * n_columns + inside
        value = tl.load(x + at, mask=inside < size, other=0.0)
        tl.store(out + at, tl.where(bits.to(tl.int32) < KEEP, value, 0.0), mask=inside < size)


def jumps(n_draws: int, device: torch.device) -> Jumps:
    """Tables for streams of which at most `n_draws` are taken at once."""
    n_blocks = max(1, triton.cdiv(n_draws, DROPOUT_TILE.block))
    return Jumps(
        _table(range(0, n_blocks * DROPOUT_TILE.block, DROPOUT_TILE.block), device),
        _table(range(1, DROPOUT_TILE.block + 1), device),
    )


def _table(steps: range, device: torch.device) -> torch.Tensor:
    power, total = _jump(steps.start)
    step_power, step_total = _jump(steps.step)
    rows = []
    for _ in steps:
        rows.append([_signed(half) for number in (power, total) for half in divmod(number, 1 << 64)])
        power, total = power * step_power % (1 << 128), (step_power * total + step_total) % (1 << 128)
    return torch.tensor(rows, dtype=torch.int64, device=device)


def _jump(n_steps: int) -> tuple[int, int]:
    power, total = 1, 0
    for _ in range(n_steps):
        power, total = power * _MULTIPLIER % (1 << 128), (_MULTIPLIER * total + 1) % (1 << 128)
    return power, total


def _signed(word: int) -> int:
    return word - (1 << 64) if word >> 63 else word


def dropout(x: torch.Tensor, streams: torch.Tensor, keep: int, tables: Jumps) -> torch.Tensor:
    """The values whose random 16 bits are below `keep`, and zeros elsewhere; without host synchronisation.

    Parameters
    ----------
    x : Tensor, shape (n, D), float32
        Contiguous.
    streams : Tensor, shape (P, 4), int64
        State and increment of a PCG64 as their high and low 64 bits, for each of the pieces into which
        ``torch.tensor_split`` cuts the rows.
    keep : int
        From 0 to 2^16.
    tables : Jumps
        For as many draws as the largest piece takes.
    """
    out = torch.empty_like(x)
    n_rows, n_columns = x.shape
    n_pieces = len(streams)
    most = triton.cdiv(triton.cdiv(n_rows, n_pieces) * n_columns, 4)
    _dropout_kernel[(triton.cdiv(most, DROPOUT_TILE.block), n_pieces)](
        x, out, streams, *tables, n_rows, n_columns, n_pieces, KEEP=keep, B=DROPOUT_TILE.block,
        **launch(DROPOUT_TILE.warps),
    )  # fmt: skip
    return out
