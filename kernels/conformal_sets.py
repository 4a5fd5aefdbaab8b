"""The conformal sets of rows as bits, and ln Σ exp(z − max z), which is the smallest score of a row (step 3)."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from ._configs import alignment, column_width, launch, row_tile
from ._math import cuts, load_tile, log_of_sum, of_rows, tile_columns, top1_and_sums

__all__ = ["log_normalizers", "prediction_sets"]

# L = ln Σ exp(z − max z);  Γ = { c : L + (max z − z_c) ≤ q }, or the first c of the largest z_c where that is empty

_RUN_TIME = ["n_rows", "n_classes", "stride", "first_row", "q_step"]


@triton.jit(do_not_specialize=_RUN_TIME)
def _log_normalizers_kernel(
    logits, stride, n_rows, n_classes,  # (M, C) of any storage type
    first_row, bad,  # the number of row 0; (1,) int64, see `report_rows`
    out,  # (M,) float64
    ALIGN: tl.constexpr, WIDTH: tl.constexpr,  # units of the stride and of C
    K: tl.constexpr, R: tl.constexpr, J: tl.constexpr,  # the tile: R rows of K · J columns
):  # fmt: skip
    rows = tl.program_id(0).to(tl.int64) * R + tl.arange(0, R)
    in_rows = rows < n_rows
    _, _, total = top1_and_sums(logits, rows, in_rows, stride * ALIGN, n_classes * WIDTH, first_row, bad, K, R, J)
    tl.store(out + rows, log_of_sum(total), mask=in_rows)


@triton.jit(do_not_specialize=_RUN_TIME)
def _prediction_sets_kernel(
    logits, stride,  # (M, C) of any storage type
    q, q_step,  # thresholds, float64: (M,) and step 1, or (1,) and step 0
    n_rows, n_classes,  # M, C
    first_row, bad,  # the number of row 0; (1,) int64, see `report_rows`
    sets,  # out: (M, ⌈C / 8⌉) uint8
    ALIGN: tl.constexpr, WIDTH: tl.constexpr,  # units of the stride and of C
    K: tl.constexpr, R: tl.constexpr, J: tl.constexpr,  # the tile: R rows of K · J columns
):  # fmt: skip
    """Bytes of eight classes, the first in the lowest bit; rows of the result are ⌈C / 8⌉ bytes long."""
    rows = tl.program_id(0).to(tl.int64) * R + tl.arange(0, R)
    in_rows = rows < n_rows
    n_columns = n_classes * WIDTH
    maximum, top1, total = top1_and_sums(logits, rows, in_rows, stride * ALIGN, n_columns, first_row, bad, K, R, J)
    cut = cuts(maximum, log_of_sum(total), tl.load(q + rows * q_step, in_rows, 0.0))
    only = tl.where(cut == float("inf"), top1, -1)
    n_bytes = tl.cdiv(n_columns, 8)
    B: tl.constexpr = K * J // 8
    bit = tl.arange(0, 8)[None, None, :]
    for start in range(0, n_columns, B * 8):
        columns = start + tile_columns(B, 8)
        mask = in_rows[None, :, None] & (columns < n_columns)
        z = load_tile(logits, rows, stride * ALIGN, columns, mask)
        member = ((z >= of_rows(cut)) | (columns == of_rows(only))) & mask
        byte = tl.sum(member.to(tl.int32) << bit, axis=2)
        place = start // 8 + tl.arange(0, B)[:, None]
        tl.store(sets + rows[None, :] * n_bytes + place, byte.to(tl.uint8), mask=in_rows[None, :] & (place < n_bytes))


def log_normalizers(logits: torch.Tensor, bad: torch.Tensor, first_row: int = 0) -> torch.Tensor:
    """L of each row, shape (M,), float64; `bad` as in :func:`conformal_score`."""
    n_rows, n_classes = logits.shape
    out = torch.empty(n_rows, dtype=torch.float64, device=logits.device)
    if n_rows:
        align, width = alignment(logits), column_width(n_classes)
        tile = row_tile(n_classes)
        _log_normalizers_kernel[(triton.cdiv(n_rows, tile.R),)](
            logits, logits.stride(0) // align, n_rows, n_classes // width, first_row, bad, out,
            ALIGN=align, WIDTH=width, K=tile.K, R=tile.R, J=tile.J, **launch(tile.warps),
        )  # fmt: skip
    return out


def prediction_sets(logits: torch.Tensor, q: torch.Tensor, bad: torch.Tensor, first_row: int = 0) -> torch.Tensor:
    """Γ of each row, packed: shape (M, ⌈C / 8⌉), uint8, class c in bit c mod 8.

    Parameters
    ----------
    logits, bad, first_row
        As in :func:`conformal_score`.
    q : Tensor, shape (1,) or (M,), float64
    """
    n_rows, n_classes = logits.shape
    sets = torch.empty((n_rows, triton.cdiv(n_classes, 8)), dtype=torch.uint8, device=logits.device)
    if n_rows:
        align, width = alignment(logits), column_width(n_classes)
        tile = row_tile(n_classes)
        _prediction_sets_kernel[(triton.cdiv(n_rows, tile.R),)](
            logits, logits.stride(0) // align, q, int(len(q) > 1), n_rows, n_classes // width, first_row, bad, sets,
            ALIGN=align, WIDTH=width, K=tile.K, R=tile.R, J=tile.J, **launch(tile.warps),
        )  # fmt: skip
    return sets
