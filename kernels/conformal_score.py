"""δ, set sizes and what else one pass over the logits says of each row (steps 3 and 4)."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl

from ._configs import LONGEST_ROW, alignment, column_width, launch, row_tile
from ._math import (
    LARGEST,
    LN_2,
    cuts,
    exp_below,
    fast_log2,
    load_finite,
    load_tile,
    log_of_sum,
    of_rows,
    report_rows,
    row_max,
    row_min,
    row_sum,
    tile_columns,
)

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

# Added to every h, so that the logarithm of the classes outside Ω is finite; it weighs nothing.
_LEAST_MEAN = tl.constexpr(1e-37)


@triton.jit
def _sums(z, bad, rows, in_rows, model: tl.constexpr):
    """The maximum of each row, Σ e and Σ e x; rows that are not finite go to `bad`."""
    maximum = row_max(z)
    x = z - of_rows(maximum)
    e = exp_below(x)
    total = row_sum(e)
    weighted = row_sum(e * x)
    # NaN where a logit is not finite, −inf by 0 · −inf; but also where a difference is beyond float32's range.
    is_odd = (total != total) | (weighted != weighted)
    if tl.max(is_odd.to(tl.int32), axis=0) != 0:
        report_rows(bad, rows, in_rows, total, row_min(z), model)
        weighted = row_sum(e * tl.maximum(x, -LARGEST))
    return maximum, total, weighted


@triton.jit
def _members(z, cut, WORD: tl.constexpr):
    """Bits of the values that reach the cut, shape (R, J / WORD): of J columns, WORD neighbours in each of K stretches.

    A word is what one thread holds of a row: bit k · WORD + w.
    """
    K: tl.constexpr = z.shape[0]
    R: tl.constexpr = z.shape[1]
    J: tl.constexpr = z.shape[2]
    bit = tl.arange(0, K)[:, None, None] * WORD + (tl.arange(0, J) % WORD)[None, None, :]
    words = tl.sum(tl.where(z >= of_rows(cut), 1 << bit, 0), axis=0)
    return tl.sum(tl.reshape(words, (R, J // WORD, WORD)), axis=2)


@triton.jit
def _set_of(z, maximum, cut, n_columns, WORD: tl.constexpr):
    """The members of each row's set: those that reach the cut, or the first of the largest; how many they are.

    And how many the largest are, where only the first of them is a member; else 0.
    """
    is_empty = cut == float("inf")
    words = _members(z, tl.where(is_empty, maximum, cut), WORD)
    J: tl.constexpr = z.shape[2]
    column = _first_column(words, J, WORD)
    n_largest = tl.where(is_empty, tl.sum(_n_bits(words), axis=1), 0)
    first = tl.min(tl.where(column < 0, 0x7FFFFFFF, column), axis=1)
    alone = tl.where(column == first[:, None], words & -words, 0)
    words = tl.where(_of_words(is_empty.to(tl.int32), J, WORD) != 0, alone, words)
    # Padding is counted with sets that hold everything, and nowhere else.
    return words, tl.minimum(tl.sum(_n_bits(words), axis=1), n_columns), n_largest


@triton.jit
def _n_bits(words):
    """How many bits are set, in the form that the compiler knows for its one instruction."""
    pairs = words - ((words >> 1) & 0x55555555)
    fours = (pairs & 0x33333333) + ((pairs >> 2) & 0x33333333)
    return ((((fours + (fours >> 4)) & 0x0F0F0F0F) * 0x01010101) >> 24) & 0xFF


@triton.jit
def _first_column(words, J: tl.constexpr, WORD: tl.constexpr):
    """The column of the lowest bit of each word; none's is negative."""
    lowest = words & -words
    # The exponent of a power of two is its bit; that of −2³¹ as well.
    bit = ((lowest.to(tl.float32).to(tl.int32, bitcast=True) >> 23) & 0xFF) - 127
    word = tl.arange(0, J // WORD)[None, :]
    return tl.where(words == 0, -1, (bit // WORD) * J + word * WORD + bit % WORD)


@triton.jit
def _of_words(values, J: tl.constexpr, WORD: tl.constexpr):
    """Numbers of rows, shape (R,), beside each word; it says of each thread that it has the number already."""
    R: tl.constexpr = values.shape[0]
    copies = tl.broadcast_to(values[:, None], (R, J))
    return tl.max(tl.reshape(copies, (R, J // WORD, WORD)), axis=2)


@triton.jit
def _load_members(base, rows, stride, column, mask):
    """A value of each word's row; the most negative number where there is none."""
    return load_finite(base + tl.max_contiguous(rows * stride + column, [1, 2]), mask)


@triton.jit
def _powers(z, maximum):
    x = tl.maximum(z - maximum, -LARGEST)
    return x, exp_below(x)


@triton.jit
def _top1(z, maximum, columns, BLOCK: tl.constexpr):
    """The first column that holds the maximum."""
    return row_min(tl.where(z == of_rows(maximum), columns, BLOCK))


@triton.jit
def _outside(z, cut, top1, columns):
    only = tl.where(cut == float("inf"), top1, -1)
    beyond = tl.where(columns == of_rows(only), 0.0, z - of_rows(cut))
    return beyond.to(tl.int32, bitcast=True) >> 31


@triton.jit
def _within(e, outside):
    return (e.to(tl.int32, bitcast=True) & (outside ^ -1)).to(tl.float32, bitcast=True)


@triton.jit
def _entropy(total, weighted):
    return log_of_sum(total) - weighted / total


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
        tl.store(delta + rows, _entropy(total, weighted).to(tl.float32), mask=mask)


@triton.jit
def _store_teacher(
    rows, mask,  # (R,): which rows, and which of them exist
    total_s, weighted_s, a_s, b_s,  # (R,): S, Σ e x, A and B of the student
    total_t, a_t, b_t,  # (R,): S, A and B of the teacher
    h_log2_h, top1, size, both,  # (R,): Σ_Ω h log2 h; of the teacher; |Γ_S ∩ Γ_T|
    delta, divergence, confidence, teacher_top1, teacher_size, overlap,  # out: (M,)
):  # fmt: skip
    j = 0.5 * (b_s / a_s + b_t / a_t + tl.log(a_s / a_t)) - h_log2_h * LN_2 / a_s
    j = tl.maximum(j, 0.0)
    gate = total_s / (total_s + total_t)
    delta_of = gate * j + (1.0 - gate) * _entropy(total_s, weighted_s)
    tl.store(delta + rows, delta_of.to(tl.float32), mask=mask)
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
    WORD: tl.constexpr,
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

    max_s, total_s, weighted_s = _sums(z_s, bad, first_row + rows, in_rows, 0)
    next_s = row_max(tl.where(z_s < of_rows(max_s), z_s, -LARGEST))
    cut_s = cuts(max_s, log_of_sum(total_s), tl.load(q_student + rows * q_student_step, in_rows, 0.0))
    in_s, size_s, n_largest = _set_of(z_s, max_s, cut_s, n_columns, WORD)
    words = in_s
    if WITH_TEACHER:
        max_t, total_t, _ = _sums(z_t, bad, first_row + rows, in_rows, 1)
        cut_t = cuts(max_t, log_of_sum(total_t), tl.load(q_teacher + rows * q_teacher_step, in_rows, 0.0))
        in_t, size_t, _ = _set_of(z_t, max_t, cut_t, n_columns, WORD)
        both = tl.minimum(tl.sum(_n_bits(in_s & in_t), axis=1), n_columns)
        words = in_s | in_t

    n_members = tl.max(tl.max(_n_bits(words), axis=1), axis=0)
    row = _of_words(rows, J, WORD)
    largest_s = _of_words(max_s, J, WORD)
    left = words
    top_s = tl.full((R, J // WORD), K * J, tl.int32)
    n_top = tl.zeros((R, J // WORD), tl.int32)
    if WITH_TEACHER:
        top_t = top_s
        largest_t = _of_words(max_t, J, WORD)
        zero = tl.zeros((R, J // WORD), tl.float32)
        a_s, a_t, b_s, b_t = zero, zero, zero, zero
    for _ in range(n_members):
        column = _first_column(left, J, WORD)
        left = left & (left - 1)
        is_member = (row < n_rows) & (column >= 0) & (column < n_columns)
        z = _load_members(student, row, student_stride * S_ALIGN, column, is_member)
        is_top = is_member & (z == largest_s)
        top_s = tl.where(is_top, tl.minimum(top_s, column), top_s)
        n_top += is_top.to(tl.int32)
        if WITH_TEACHER:
            x, e = _powers(z, largest_s)
            a_s += e
            b_s += e * x
            z = _load_members(teacher, row, teacher_stride * T_ALIGN, column, is_member)
            top_t = tl.where(is_member & (z == largest_t), tl.minimum(top_t, column), top_t)
            x, e = _powers(z, largest_t)
            a_t += e
            b_t += e * x
    second = tl.where((tl.sum(n_top, axis=1) > 1) | (n_largest > 1), max_s, next_s)
    _store_student(
        rows, in_rows, max_s, second, tl.min(top_s, axis=1), total_s, weighted_s, size_s,
        delta, margin, student_top1, student_size, WITH_TEACHER,
    )  # fmt: skip
    if WITH_TEACHER:
        in_a_s, in_a_t = tl.sum(a_s, axis=1), tl.sum(a_t, axis=1)
        half_ratio = _of_words(0.5 * in_a_s / in_a_t, J, WORD)
        left = words
        h_log2_h = zero
        for _ in range(n_members):
            column = _first_column(left, J, WORD)
            left = left & (left - 1)
            is_member = (row < n_rows) & (column >= 0) & (column < n_columns)
            _, from_s = _powers(_load_members(student, row, student_stride * S_ALIGN, column, is_member), largest_s)
            _, from_t = _powers(_load_members(teacher, row, teacher_stride * T_ALIGN, column, is_member), largest_t)
            h = from_s * 0.5 + (from_t * half_ratio + _LEAST_MEAN)
            h_log2_h += h * fast_log2(h)
        _store_teacher(
            rows, in_rows, total_s, weighted_s, in_a_s, tl.sum(b_s, axis=1), total_t, in_a_t, tl.sum(b_t, axis=1),
            tl.sum(h_log2_h, axis=1), tl.min(top_t, axis=1), size_t, both,
            delta, divergence, confidence, teacher_top1, teacher_size, overlap,
        )  # fmt: skip


@triton.jit
def _absorb(z, maximum, total, weighted):
    """Σ e and Σ e x, value by value of a tile, after one stretch of the row more, and the maximum that they go by."""
    new = tl.maximum(maximum, row_max(z))
    shift = tl.maximum(of_rows(maximum - new), -LARGEST)
    factor = tl.broadcast_to(exp_below(shift), z.shape)
    x = tl.maximum(z - of_rows(new), -LARGEST)
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
    WORD: tl.constexpr,
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

    total_s = row_sum(sum_s)
    weighted_s = row_sum(dot_s)
    report_rows(bad, first_row + rows, in_rows, total_s, row_min(least_s), 0)
    top_s = _top1(largest_s, max_s, at_s, n_read)
    others = tl.where((largest_s == of_rows(max_s)) & (at_s == of_rows(top_s)), -LARGEST, largest_s)
    second = tl.maximum(row_max(others), row_max(next_s))
    cut_s = cuts(max_s, log_of_sum(total_s), tl.load(q_student + rows * q_student_step, in_rows, 0.0))
    if WITH_TEACHER:
        total_t = row_sum(sum_t)
        report_rows(bad, first_row + rows, in_rows, total_t, row_min(least_t), 1)
        top_t = _top1(largest_t, max_t, at_t, n_read)
        cut_t = cuts(max_t, log_of_sum(total_t), tl.load(q_teacher + rows * q_teacher_step, in_rows, 0.0))

    none = tl.zeros((K, R, J), tl.int32)
    outside_s = none
    if WITH_TEACHER:
        outside_t, outside_both = none, none
        in_s, in_t, in_dot_s, in_dot_t = zero, zero, zero, zero
    for start in range(0, n_columns, K * J):
        columns = start + tile
        mask = columns < n_columns
        z_s = load_tile(student, rows, student_stride * S_ALIGN, columns, mask)
        out_s = _outside(z_s, cut_s, top_s, columns)
        outside_s += out_s
        if WITH_TEACHER:
            z_t = load_tile(teacher, rows, teacher_stride * T_ALIGN, columns, mask)
            out_t = _outside(z_t, cut_t, top_t, columns)
            outside_t += out_t
            outside_both += out_s | out_t
            x_s, x_t = (z_s - of_rows(max_s)), (z_t - of_rows(max_t))
            u_s, u_t = _within(exp_below(x_s), out_s & out_t), _within(exp_below(x_t), out_s & out_t)
            in_s += u_s
            in_t += u_t
            in_dot_s += u_s * x_s
            in_dot_t += u_t * x_t
    size_s = tl.minimum(n_read + row_sum(outside_s), n_columns)
    _store_student(
        rows, in_rows, max_s, second, top_s, total_s, weighted_s, size_s,
        delta, margin, student_top1, student_size, WITH_TEACHER,
    )  # fmt: skip

    if WITH_TEACHER:
        a_s = row_sum(in_s)
        a_t = row_sum(in_t)
        half_ratio = of_rows(0.5 * a_s / a_t)
        h_log2_h = zero
        for start in range(0, n_columns, K * J):
            columns = start + tile
            mask = columns < n_columns
            z_s = load_tile(student, rows, student_stride * S_ALIGN, columns, mask)
            z_t = load_tile(teacher, rows, teacher_stride * T_ALIGN, columns, mask)
            outside = _outside(z_s, cut_s, top_s, columns) & _outside(z_t, cut_t, top_t, columns)
            u_s = _within(exp_below((z_s - of_rows(max_s))), outside)
            u_t = _within(exp_below((z_t - of_rows(max_t))), outside)
            h = u_s * 0.5 + (u_t * half_ratio + _LEAST_MEAN)
            h_log2_h += h * fast_log2(h)
        _store_teacher(
            rows, in_rows, total_s, weighted_s, a_s, row_sum(in_dot_s), total_t, a_t, row_sum(in_dot_t),
            row_sum(h_log2_h), top_t, tl.minimum(n_read + row_sum(outside_t), n_columns),
            tl.minimum(n_read + row_sum(outside_both), n_columns),
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
        WORD=min(align_s, align_t), K=tile.K, R=tile.R, J=tile.J, **launch(tile.warps),
    )  # fmt: skip
