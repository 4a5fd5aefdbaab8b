"""δ, set sizes and what else one pass over the logits says of each row (steps 3 and 4)."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl

from ._configs import LONGEST_ROW, alignment, column_width, launch, row_tile
from ._math import (
    LARGEST,
    LEAST_EXPONENT,
    LN_2,
    cuts,
    exp_below,
    load_tile,
    log_of_sum,
    of_rows,
    report_rows,
    row_max,
    row_min,
    row_sum,
    tile_columns,
    without_padding,
)
from ._words import add_members, add_mixture, collect, n_bits, of_words, set_of

__all__ = ["Scores", "conformal_score"]

# Of both models' logits z of a row, x = z − max z and e = exp(x):
#
#   S = Σ e,  L = ln S,  H = L_S − Σ e_S x_S / S_S,  Γ = { c : L + (max z − z_c) ≤ q },  Ω = Γ_S ∪ Γ_T
#   A = Σ_Ω e,  B = Σ_Ω e x,  h = (e_S + e_T A_S / A_T) / 2 on Ω
#   2 J = B_S / A_S + B_T / A_T + ln (A_S / A_T) − 2 / A_S · Σ_Ω h ln h
#   g = max p_T / (max p_T + max p_S) = S_S / (S_S + S_T),  δ = g J + (1 − g) H
#
# One logarithm a class and no quotient, because ln p of the restricted posteriors is linear in the logits; and small
# terms, because h is near 1 where posteriors are flat.

_RUN_TIME = ["n_rows", "n_classes", "student_stride", "teacher_stride", "q_student_step", "q_teacher_step", "first_row"]


@triton.jit
def _sums(z, base, n_columns, bad, rows, in_rows, model: tl.constexpr):
    """The maximum of each row, Σ e and Σ e x; rows that are not finite go to `bad`."""
    maximum = row_max(z)
    x = z - of_rows(maximum)
    e = exp_below(x)
    total = without_padding(row_sum(e), maximum, base, n_columns)
    weighted = row_sum(e * x)
    # NaN where a logit is not finite, −inf by 0 · −inf; but also where a difference is beyond float32's range.
    is_odd = (total != total) | (weighted != weighted)
    if tl.max(is_odd.to(tl.int32), axis=0) != 0:
        report_rows(bad, rows, in_rows, total, row_min(z), model)
        weighted = row_sum(e * tl.maximum(x, LEAST_EXPONENT))
    return maximum, total, weighted


@triton.jit
def _top1(z, maximum, columns, BLOCK: tl.constexpr):
    """The first column that holds the maximum."""
    return row_min(tl.where(z == of_rows(maximum), columns, BLOCK))


@triton.jit
def _store_student(
    rows, mask,  # (R,): which rows, and which of them exist
    maximum, second, top1, total, weighted, size,  # (R,): of their logits
    delta, margin, student_top1, student_size,  # out: (M,)
    WITH_TEACHER: tl.constexpr,
):  # fmt: skip
    tl.store(margin + rows, (1.0 - tl.exp(second - maximum)) / total, mask=mask)
    tl.store(student_top1 + rows, top1, mask=mask)
    tl.store(student_size + rows, size, mask=mask)
    if not WITH_TEACHER:
        tl.store(delta + rows, _entropy(total, weighted), mask=mask)


@triton.jit
def _entropy(total, weighted):
    return (log_of_sum(total) - weighted / total).to(tl.float32)


@triton.jit
def _store_teacher(
    rows, mask,  # (R,): which rows, and which of them exist
    total_s, weighted_s, a_s, b_s,  # (R,): S, Σ e x, A and B of the student
    total_t, a_t, b_t,  # (R,): S, A and B of the teacher
    h_log2_h, top1, size, both,  # (R,): Σ_Ω h log2 h; of the teacher; |Γ_S ∩ Γ_T|
    delta, divergence, confidence, teacher_top1, teacher_size, overlap,  # out: (M,)
):  # fmt: skip
    j = (0.5 * b_s - LN_2 * h_log2_h) / a_s + 0.5 * (b_t / a_t + tl.log(a_s / a_t))
    j = tl.maximum(j, 0.0)
    gate = total_s / (total_s + total_t)
    entropy = _entropy(total_s, weighted_s)
    tl.store(delta + rows, entropy + gate * (j - entropy), mask=mask)
    tl.store(divergence + rows, j, mask=mask)
    tl.store(confidence + rows, 1.0 / total_t, mask=mask)
    tl.store(teacher_top1 + rows, top1, mask=mask)
    tl.store(teacher_size + rows, size, mask=mask)
    tl.store(overlap + rows, both, mask=mask)


@triton.jit(do_not_specialize=_RUN_TIME)
def _conformal_score_kernel(
    student, teacher, student_stride, teacher_stride,  # logits (M, C) of any storage type
    q_student, q_teacher, q_student_step, q_teacher_step,  # thresholds, float64: (M,) and step 1, or (1,) and step 0
    n_rows, n_classes,  # M, C
    first_row, bad,  # the number of row 0; (1,) int64, see `report_rows`
    delta, divergence, margin, confidence,  # out: (M,) float32
    student_top1, teacher_top1, student_size, teacher_size, overlap,  # out: (M,) int32
    WITH_TEACHER: tl.constexpr,
    S_ALIGN: tl.constexpr, T_ALIGN: tl.constexpr, WIDTH: tl.constexpr,  # units of the strides and of C
    WORD: tl.constexpr,  # neighbours in a word of a set, see `_words`
    K: tl.constexpr, R: tl.constexpr, J: tl.constexpr,  # the tile: R rows of K · J columns
):  # fmt: skip
    """Whole rows in registers: every logit is read once, and those of the few classes in a set again from cache."""
    rows = tl.program_id(0).to(tl.int64) * R + tl.arange(0, R)
    columns = tile_columns(K, J)
    in_rows = rows < n_rows
    n_columns = n_classes * WIDTH
    mask = in_rows[None, :, None] & (columns < n_columns)

    z_s = load_tile(student, rows, student_stride * S_ALIGN, columns, mask)
    if WITH_TEACHER:
        z_t = load_tile(teacher, rows, teacher_stride * T_ALIGN, columns, mask)

    max_s, total_s, weighted_s = _sums(z_s, student, n_columns, bad, first_row + rows, in_rows, 0)
    next_s = row_max(tl.where(z_s < of_rows(max_s), z_s, -LARGEST))
    cut_s = cuts(max_s, log_of_sum(total_s), tl.load(q_student + rows * q_student_step, in_rows, 0.0))
    in_s, size_s, n_largest = set_of(z_s, max_s, cut_s, n_columns, WORD)
    words = in_s
    if WITH_TEACHER:
        max_t, total_t, _ = _sums(z_t, teacher, n_columns, bad, first_row + rows, in_rows, 1)
        cut_t = cuts(max_t, log_of_sum(total_t), tl.load(q_teacher + rows * q_teacher_step, in_rows, 0.0))
        in_t, size_t, _ = set_of(z_t, max_t, cut_t, n_columns, WORD)
        both = tl.minimum(tl.sum(n_bits(in_s & in_t), axis=1), n_columns)
        words = in_s | in_t

    row, in_row = rows[:, None], in_rows[:, None]
    largest_s = of_words(max_s, J, WORD)
    largest_t = largest_s
    if WITH_TEACHER:
        largest_t = of_words(max_t, J, WORD)
    zero = tl.zeros((R, J // WORD), tl.float32)
    last = tl.full((R, J // WORD), K * J, tl.int32)
    sums, tops = add_members(
        words, 0, n_columns, row, in_row, student, teacher, student_stride * S_ALIGN, teacher_stride * T_ALIGN,
        largest_s, largest_t, (zero, zero, zero, zero), (last, tl.zeros_like(last), last), WITH_TEACHER, J, WORD,
    )  # fmt: skip
    second = tl.where((tl.sum(tops[1], axis=1) > 1) | (n_largest > 1), max_s, next_s)
    _store_student(
        rows, in_rows, max_s, second, tl.min(tops[0], axis=1), total_s, weighted_s, size_s,
        delta, margin, student_top1, student_size, WITH_TEACHER,
    )  # fmt: skip
    if WITH_TEACHER:
        a_s, a_t = tl.sum(sums[0], axis=1), tl.sum(sums[2], axis=1)
        h_log2_h = add_mixture(
            words, 0, n_columns, row, in_row, student, teacher, student_stride * S_ALIGN, teacher_stride * T_ALIGN,
            largest_s, largest_t, (0.5 * a_s / a_t)[:, None], zero, J, WORD,
        )  # fmt: skip
        _store_teacher(
            rows, in_rows, total_s, weighted_s, a_s, tl.sum(sums[1], axis=1), total_t, a_t, tl.sum(sums[3], axis=1),
            tl.sum(h_log2_h, axis=1), tl.min(tops[2], axis=1), size_t, both,
            delta, divergence, confidence, teacher_top1, teacher_size, overlap,
        )  # fmt: skip


@triton.jit
def _absorb(z, maximum, total, weighted):
    """Σ e and Σ e x, value by value of a tile, after one stretch of the row more, and the maximum that they go by."""
    new = tl.maximum(maximum, row_max(z))
    shift = tl.maximum(of_rows(maximum - new), LEAST_EXPONENT)
    factor = tl.broadcast_to(exp_below(shift), z.shape)
    x = tl.maximum(z - of_rows(new), LEAST_EXPONENT)
    e = exp_below(x)
    return new, tl.fma(total, factor, e), (weighted + shift * total) * factor + e * x


@triton.jit(do_not_specialize=_RUN_TIME)
def _conformal_score_long_kernel(
    student, teacher, student_stride, teacher_stride,  # logits (M, C) of any storage type
    q_student, q_teacher, q_student_step, q_teacher_step,  # thresholds, float64: (M,) and step 1, or (1,) and step 0
    n_rows, n_classes,  # M, C
    first_row, bad,  # the number of row 0; (1,) int64, see `report_rows`
    delta, divergence, margin, confidence,  # out: (M,) float32
    student_top1, teacher_top1, student_size, teacher_size, overlap,  # out: (M,) int32
    WITH_TEACHER: tl.constexpr,
    S_ALIGN: tl.constexpr, T_ALIGN: tl.constexpr, WIDTH: tl.constexpr,  # units of the strides and of C
    WORD: tl.constexpr,  # neighbours in a word of a set, see `_words`
    K: tl.constexpr, R: tl.constexpr, J: tl.constexpr,  # the tile: R rows of K · J columns
):  # fmt: skip
    """One row in stretches of K · J classes: from memory for the sums, from cache for the sets and again for J."""
    rows = tl.program_id(0).to(tl.int64) + tl.arange(0, R)
    in_rows = rows < n_rows
    tile = tile_columns(K, J)
    n_columns = n_classes * WIDTH
    n_read = tl.cdiv(n_columns, K * J) * K * J

    zero = tl.zeros((K, R, J), tl.float32)
    max_s = tl.full((R,), -LARGEST, tl.float32)
    sum_s, dot_s = zero, zero
    largest_s, next_s, least_s = zero - LARGEST, zero - LARGEST, zero + LARGEST
    at_s = tl.zeros((K, R, J), tl.int32)
    if WITH_TEACHER:
        max_t = tl.full((R,), -LARGEST, tl.float32)
        sum_t, dot_t = zero, zero
        largest_t, least_t = zero - LARGEST, zero + LARGEST
        at_t = tl.zeros((K, R, J), tl.int32)
    for start in range(0, n_columns, K * J):
        columns = start + tile
        mask = columns < n_columns
        z = load_tile(student, rows, student_stride * S_ALIGN, columns, mask)
        max_s, sum_s, dot_s = _absorb(z, max_s, sum_s, dot_s)
        next_s = tl.maximum(next_s, tl.minimum(largest_s, z))
        at_s = tl.where(z > largest_s, columns, at_s)
        largest_s = tl.maximum(largest_s, z)
        least_s = tl.minimum(least_s, z)
        if WITH_TEACHER:
            z = load_tile(teacher, rows, teacher_stride * T_ALIGN, columns, mask)
            max_t, sum_t, dot_t = _absorb(z, max_t, sum_t, dot_t)
            at_t = tl.where(z > largest_t, columns, at_t)
            largest_t = tl.maximum(largest_t, z)
            least_t = tl.minimum(least_t, z)

    total_s = without_padding(row_sum(sum_s), max_s, student, n_columns)
    weighted_s = row_sum(dot_s)
    report_rows(bad, first_row + rows, in_rows, total_s, row_min(least_s), 0)
    top_s = _top1(largest_s, max_s, at_s, n_read)
    others = tl.where((largest_s == of_rows(max_s)) & (at_s == of_rows(top_s)), -LARGEST, largest_s)
    second = tl.maximum(row_max(others), row_max(next_s))
    cut_s = cuts(max_s, log_of_sum(total_s), tl.load(q_student + rows * q_student_step, in_rows, 0.0))
    if WITH_TEACHER:
        total_t = without_padding(row_sum(sum_t), max_t, teacher, n_columns)
        report_rows(bad, first_row + rows, in_rows, total_t, row_min(least_t), 1)
        top_t = _top1(largest_t, max_t, at_t, n_read)
        cut_t = cuts(max_t, log_of_sum(total_t), tl.load(q_teacher + rows * q_teacher_step, in_rows, 0.0))

    STRETCHES: tl.constexpr = 64 // (K * WORD)
    row, in_row = rows[:, None], in_rows[:, None]
    size_s = tl.zeros((R,), tl.int32)
    if WITH_TEACHER:
        size_t, both = size_s, size_s
        largest_s, largest_t = of_words(max_s, J, WORD), of_words(max_t, J, WORD)
        none = tl.zeros((R, J // WORD), tl.float32)
        in_a_s, in_b_s, in_a_t, in_b_t = none, none, none, none
        union = tl.zeros((R, J // WORD), tl.int64)
        no_tops = tl.zeros((R, J // WORD), tl.int32)
    for start in range(0, n_columns, K * J * STRETCHES):
        in_s = collect(
            student, rows, in_rows, student_stride * S_ALIGN, start, tile, n_columns, cut_s, top_s, WORD, STRETCHES
        )
        size_s += tl.sum(n_bits(in_s), axis=1)
        if WITH_TEACHER:
            in_t = collect(
                teacher, rows, in_rows, teacher_stride * T_ALIGN, start, tile, n_columns, cut_t, top_t, WORD, STRETCHES
            )
            size_t += tl.sum(n_bits(in_t), axis=1)
            both += tl.sum(n_bits(in_s & in_t), axis=1)
            union = in_s | in_t
            sums, _ = add_members(
                union, start, n_columns, row, in_row,
                student, teacher, student_stride * S_ALIGN, teacher_stride * T_ALIGN, largest_s, largest_t,
                (in_a_s, in_b_s, in_a_t, in_b_t), (no_tops, no_tops, no_tops), True, J, WORD,
            )  # fmt: skip
            in_a_s, in_b_s, in_a_t, in_b_t = sums
    _store_student(
        rows, in_rows, max_s, second, top_s, total_s, weighted_s, tl.minimum(size_s, n_columns),
        delta, margin, student_top1, student_size, WITH_TEACHER,
    )  # fmt: skip

    if WITH_TEACHER:
        a_s = tl.sum(in_a_s, axis=1)
        a_t = tl.sum(in_a_t, axis=1)
        h_log2_h = none
        for start in range(0, n_columns, K * J * STRETCHES):
            here = union  # of the last words, which are all where rows are not very long
            if start + K * J * STRETCHES < n_columns:
                in_s = collect(
                    student, rows, in_rows, student_stride * S_ALIGN,
                    start, tile, n_columns, cut_s, top_s, WORD, STRETCHES,
                )  # fmt: skip
                here = in_s | collect(
                    teacher, rows, in_rows, teacher_stride * T_ALIGN,
                    start, tile, n_columns, cut_t, top_t, WORD, STRETCHES,
                )  # fmt: skip
            h_log2_h = add_mixture(
                here, start, n_columns, row, in_row, student, teacher,
                student_stride * S_ALIGN, teacher_stride * T_ALIGN, largest_s, largest_t, (0.5 * a_s / a_t)[:, None],
                h_log2_h, J, WORD,
            )  # fmt: skip
        _store_teacher(
            rows, in_rows, total_s, weighted_s, a_s, tl.sum(in_b_s, axis=1), total_t, a_t, tl.sum(in_b_t, axis=1),
            tl.sum(h_log2_h, axis=1), top_t, tl.minimum(size_t, n_columns), tl.minimum(both, n_columns),
            delta, divergence, confidence, teacher_top1, teacher_size, overlap,
        )  # fmt: skip


class Scores(NamedTuple):
    """Scores of M rows, tensors of shape (M,), in the order of ``ccma_fast.reference.RowScores``."""

    delta: torch.Tensor
    divergence: torch.Tensor
    margin: torch.Tensor
    confidence: torch.Tensor
    student_top1: torch.Tensor
    teacher_top1: torch.Tensor
    student_size: torch.Tensor
    teacher_size: torch.Tensor
    overlap: torch.Tensor

    @classmethod
    def empty(cls, n_rows: int, device: torch.device, *, with_teacher: bool) -> Scores:
        """Tensors to be written, but for what the absence of a teacher says."""
        floats, ints = torch.float32, torch.int32

        def of_teacher(value: int, dtype: torch.dtype) -> torch.Tensor:
            if with_teacher:
                return torch.empty(n_rows, dtype=dtype, device=device)
            return torch.full((n_rows,), value, dtype=dtype, device=device)

        return cls(
            delta=torch.empty(n_rows, dtype=floats, device=device),
            divergence=of_teacher(0, floats),
            margin=torch.empty(n_rows, dtype=floats, device=device),
            confidence=of_teacher(0, floats),
            student_top1=torch.empty(n_rows, dtype=ints, device=device),
            teacher_top1=of_teacher(-1, ints),
            student_size=torch.empty(n_rows, dtype=ints, device=device),
            teacher_size=of_teacher(0, ints),
            overlap=of_teacher(0, ints),
        )

    def part(self, start: int, stop: int) -> Scores:
        """Views of some of the rows."""
        return Scores(*(column[start:stop] for column in self))


def kernel_for(n_classes: int) -> Any:
    """The kernel that scores rows of so many classes."""
    return _conformal_score_kernel if n_classes <= LONGEST_ROW else _conformal_score_long_kernel


def conformal_score(
    student: torch.Tensor,
    teacher: torch.Tensor | None,
    q_student: torch.Tensor,
    q_teacher: torch.Tensor,
    out: Scores,
    bad: torch.Tensor,
    first_row: int = 0,
) -> None:
    """Scores rows of logits, each logit read from memory once.

    Parameters
    ----------
    student, teacher : Tensor, shape (M, C)
        float32, float16 or bfloat16; rows of any stride, columns one after the other.
    q_student, q_teacher : Tensor, shape (1,) or (M,), float64
        Thresholds on −ln p of all rows or of each.
    out : Scores
        Written, but for the teacher's part without a teacher.
    bad : Tensor, shape (1,), int64
        Lowered to 2 · row, plus 1 for the teacher's, where a row holds NaN or infinity.
    first_row : int
        The number of the first row, in `bad`.
    """
    n_rows, n_classes = student.shape
    if n_rows == 0:
        return
    of_teacher = student if teacher is None else teacher
    align_s, align_t, width = alignment(student), alignment(of_teacher), column_width(n_classes)
    tile = row_tile(n_classes)
    kernel_for(n_classes)[(triton.cdiv(n_rows, tile.R),)](
        student, of_teacher, student.stride(0) // align_s, of_teacher.stride(0) // align_t,
        q_student, q_teacher, int(len(q_student) > 1), int(len(q_teacher) > 1),
        n_rows, n_classes // width, first_row, bad, *out,
        WITH_TEACHER=teacher is not None, S_ALIGN=align_s, T_ALIGN=align_t, WIDTH=width,
        WORD=min(align_s, align_t, 32 // tile.K), K=tile.K, R=tile.R, J=tile.J, **launch(tile.warps),
    )  # fmt: skip
