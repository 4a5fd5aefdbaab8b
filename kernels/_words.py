"""Device functions on sets of classes as words of bits, for what concerns the few members of a set alone.

A tile (K, R, J) in words of WORD neighbours gives words of shape (R, L), L = J / WORD: bit k · WORD + w of word l is
column k · J + l · WORD + w. So a word is what one thread holds of a row. Members are taken from all words together, one
from each at a time: as often as the fullest word has some.
"""

from __future__ import annotations

import triton
import triton.language as tl

from ._math import LEAST_EXPONENT, exp_below, fast_log2, load_finite, load_tile, of_rows

# Added to every h, so that the logarithm of what is no member is finite; it weighs nothing.
_LEAST_MEAN = tl.constexpr(1e-37)


@triton.jit
def members(z, cut, WORD: tl.constexpr):
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
def set_of(z, maximum, cut, n_columns, WORD: tl.constexpr):
    """The members of each row's set: those that reach the cut, or the first of the largest; how many they are.

    And how many the largest are, where only the first of them is a member; else 0.
    """
    is_empty = cut == float("inf")
    words = members(z, tl.where(is_empty, maximum, cut), WORD)
    J: tl.constexpr = z.shape[2]
    column = first_column(words, J, WORD)
    n_largest = tl.where(is_empty, tl.sum(n_bits(words), axis=1), 0)
    first = tl.min(tl.where(column < 0, 0x7FFFFFFF, column), axis=1)
    alone = tl.where(column == first[:, None], words & -words, 0)
    words = tl.where(of_words(is_empty.to(tl.int32), J, WORD) != 0, alone, words)
    # Padding is counted with sets that hold everything, and nowhere else.
    return words, tl.minimum(tl.sum(n_bits(words), axis=1), n_columns), n_largest


@triton.jit
def n_bits(words):
    """How many bits are set, in the form that the compiler knows for its one instruction."""
    if words.dtype.is_int64():
        found = n_bits(words.to(tl.int32)) + n_bits((words >> 32).to(tl.int32))
    else:
        pairs = words - ((words >> 1) & 0x55555555)
        fours = (pairs & 0x33333333) + ((pairs >> 2) & 0x33333333)
        found = ((((fours + (fours >> 4)) & 0x0F0F0F0F) * 0x01010101) >> 24) & 0xFF
    return found


@triton.jit
def first_column(words, J: tl.constexpr, WORD: tl.constexpr):
    """The column of the lowest bit of each word; none's is negative."""
    lowest = words & -words
    # The exponent of a power of two is its bit; that of the most negative number as well.
    bit = ((lowest.to(tl.float32).to(tl.int32, bitcast=True) >> 23) & 0xFF) - 127
    word = tl.arange(0, J // WORD)[None, :]
    return tl.where(words == 0, -1, (bit & -WORD) * (J // WORD) + word * WORD + (bit & (WORD - 1)))


@triton.jit
def of_words(values, J: tl.constexpr, WORD: tl.constexpr):
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
    x = tl.maximum(z - maximum, LEAST_EXPONENT)
    return x, exp_below(x)


@triton.jit
def add_members(
    words, start, n_columns,  # (R, L) bits, see `members`, of columns from start on
    rows, in_rows,  # (R, 1): which rows, and which of them exist
    student, teacher, student_stride, teacher_stride,  # logits
    max_s, max_t,  # (R, L): of their logits
    sums, tops,  # (A_S, B_S, A_T, B_T); first column and number of the student's largest, first of the teacher's
    WITH_TEACHER: tl.constexpr, J: tl.constexpr, WORD: tl.constexpr,
):  # fmt: skip
    """The sums over the union with the members of the words, and the largest among them."""
    a_s, b_s, a_t, b_t = sums
    top_s, n_top, top_t = tops
    for _ in range(tl.max(tl.max(n_bits(words), axis=1), axis=0)):
        first = first_column(words, J, WORD)
        words = words & (words - 1)
        column = start + first
        is_member = in_rows & (first >= 0) & (column < n_columns)
        z = _load_members(student, rows, student_stride, column, is_member)
        is_top = is_member & (z == max_s)
        top_s = tl.where(is_top, tl.minimum(top_s, column), top_s)
        n_top += is_top.to(tl.int32)
        if WITH_TEACHER:
            x, e = _powers(z, max_s)
            a_s += e
            b_s += e * x
            z = _load_members(teacher, rows, teacher_stride, column, is_member)
            top_t = tl.where(is_member & (z == max_t), tl.minimum(top_t, column), top_t)
            x, e = _powers(z, max_t)
            a_t += e
            b_t += e * x
    return (a_s, b_s, a_t, b_t), (top_s, n_top, top_t)


@triton.jit
def add_mixture(
    words, start, n_columns,  # (R, L) bits, see `members`, of columns from start on
    rows, in_rows,  # (R, 1): which rows, and which of them exist
    student, teacher, student_stride, teacher_stride,  # logits
    max_s, max_t, half_ratio,  # (R, L): of their logits; (R, 1): A_S / 2 A_T
    total,
    J: tl.constexpr, WORD: tl.constexpr,
):  # fmt: skip
    """total + Σ h log2 h over the members of the words."""
    for _ in range(tl.max(tl.max(n_bits(words), axis=1), axis=0)):
        first = first_column(words, J, WORD)
        words = words & (words - 1)
        column = start + first
        is_member = in_rows & (first >= 0) & (column < n_columns)
        _, e_s = _powers(_load_members(student, rows, student_stride, column, is_member), max_s)
        _, e_t = _powers(_load_members(teacher, rows, teacher_stride, column, is_member), max_t)
        h = e_s * 0.5 + (e_t * half_ratio + _LEAST_MEAN)
        total += h * fast_log2(h)
    return total


@triton.jit
def collect(
    base, rows, in_rows, stride,  # logits; (R,): which rows, and which of them exist
    start, tile, n_columns,  # the columns of the tile, from start on in stretches
    cut, top1,  # (R,): of each row
    WORD: tl.constexpr, STRETCHES: tl.constexpr,
):  # fmt: skip
    """Members of each row's set in some stretches of a row, as words of 64 bits, a stretch after the other."""
    K: tl.constexpr = tile.shape[0]
    R: tl.constexpr = cut.shape[0]
    J: tl.constexpr = tile.shape[2]
    words = tl.zeros((R, J // WORD), tl.int64)
    for stretch in range(tl.minimum(STRETCHES, tl.cdiv(n_columns - start, K * J))):
        columns = start + stretch * (K * J) + tile
        z = load_tile(base, rows, stride, columns, in_rows[None, :, None] & (columns < n_columns))
        found = members(z, cut, WORD).to(tl.uint32, bitcast=True).to(tl.int64)
        words = words | (found << (stretch * (K * WORD)))
    # The top class alone, where none reaches the cut.
    place = top1 - start
    is_here = (cut == float("inf")) & (place >= 0) & (place < STRETCHES * K * J)
    bit = (place // J) * WORD + place % WORD
    word = tl.where(is_here, place % J // WORD, -1)
    alone = tl.full((R, 1), 1, tl.int64) << tl.where(is_here, bit, 0)[:, None]
    return words | tl.where(tl.arange(0, J // WORD)[None, :] == word[:, None], alone, 0)
