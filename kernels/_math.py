"""Device functions that several kernels share.

The score of class c in a row z is a_c = L + (max z − z_c) in float64, from float32 z, where L = ln Σ exp(z − max z) is
one number a row. c belongs to the set of a threshold q where a_c ≤ q, decided on that float64 without further rounding,
so that a threshold which is itself a score admits the class that it came from.

Rows lie in tiles of shape (K, R, J): column k · J + j of row r. J values are what the lanes that share a row read at
once, K is how often they do, so that the first axis lies in registers.
"""

from __future__ import annotations

import os

import triton
import triton.language as tl

LOG2_E = tl.constexpr(1.4426950408889634)
LN_2 = tl.constexpr(0.6931471805599453)
LARGEST = tl.constexpr(3.4028234663852886e38)

# Below this an exponential is 0, and a product with it finite.
LEAST_EXPONENT = tl.constexpr(-1e30)

LOWEST_BFLOAT16 = tl.constexpr(-3.3895313892515355e38)

_NOTHING_BAD = tl.constexpr(0x7FFFFFFFFFFFFFFF)

# The interpreter knows no assembly, takes bfloat16 for integers in products, and is slow at reductions of our own.
if os.environ.get("TRITON_INTERPRET") == "1":

    @triton.jit
    def fast_log2(x):
        """log2 of positive normal numbers."""
        return tl.log2(x)

    @triton.jit
    def widened(x):
        """bfloat16 as float32."""
        return x.to(tl.float32)

    @triton.jit
    def dot(a, b, total):
        """total + a b, in float32."""
        return tl.dot(a.to(tl.float32), b.to(tl.float32), total, input_precision="ieee")

    @triton.jit
    def two_best(values, M: tl.constexpr, N: tl.constexpr, STREAMS: tl.constexpr):
        """The largest and the second of every STREAMS-th of N distinct values, shape (M, STREAMS) each."""
        of_streams = tl.reshape(values, (M, N // STREAMS, STREAMS))
        best = tl.max(of_streams, axis=1)
        return best, tl.max(tl.where(of_streams == best[:, None, :], -float("inf"), of_streams), axis=1)

else:

    @triton.jit
    def fast_log2(x):
        """log2 of positive normal numbers, by the hardware's own approximation (absolute error 2⁻²² near 1)."""
        return tl.inline_asm_elementwise(
            "lg2.approx.ftz.f32 $0, $1;", "=r,r", [x], dtype=tl.float32, is_pure=True, pack=1
        )

    @triton.jit
    def widened(x):
        """bfloat16 as float32, an instruction each, where the compiler takes two for every other.

        The first result is written before the second is formed, and so must not take the operand's place.
        """
        return tl.inline_asm_elementwise(
            "shl.b32 $0, $2, 16; and.b32 $1, $2, 0xffff0000;", "=&r,=r,r", [x], dtype=tl.float32, is_pure=True, pack=2
        )

    @triton.jit
    def dot(a, b, total):
        """total + a b, in float32."""
        return tl.dot(a, b, total)

    @triton.jit
    def two_best(values, M: tl.constexpr, N: tl.constexpr, STREAMS: tl.constexpr):
        """The largest and the second of every STREAMS-th of N distinct values, shape (M, STREAMS) each.

        Three operations a value: pairs first, then two pairs at a time.
        """
        pairs = tl.permute(tl.reshape(values, (M, N // (2 * STREAMS), 2, STREAMS)), (0, 1, 3, 2))
        a, b = tl.split(pairs)
        return tl.reduce((tl.maximum(a, b), tl.minimum(a, b)), 1, _two_of_four)

    @triton.jit
    def _two_of_four(a, second_a, b, second_b):
        return tl.maximum(a, b), tl.maximum(tl.minimum(a, b), tl.maximum(second_a, second_b))


# ---------------------------------------------------------------------------------------------------------------------
# Tiles of rows


@triton.jit
def tile_columns(K: tl.constexpr, J: tl.constexpr):
    """The column of each value of a tile, shape (K, 1, J)."""
    return tl.arange(0, K)[:, None, None] * J + tl.arange(0, J)[None, None, :]


@triton.jit
def load_tile(base, rows, stride, columns, mask):
    """Values of rows (R,) as float32; where masked, a number that is finite and below all finite ones of the data."""
    # All but the columns and the rows tie for where a thread's values lie; the hint decides for the rows. No thread has
    # several rows for it, for a load takes neighbours along the columns alone.
    offsets = tl.max_contiguous(rows[None, :, None] * stride + columns, [1, 2, columns.shape[2]])
    return load_finite(base + offsets, mask, WIDEN=columns.shape[2] > 1)


@triton.jit
def without_padding(total, maximum, base, n_columns):
    """Σ exp(z − maximum) of a row: of its columns alone where the maximum is the lowest number, and all are equal."""
    lowest: tl.constexpr = LOWEST_BFLOAT16 if base.dtype.element_ty == tl.bfloat16 else -LARGEST
    return tl.where(maximum == lowest, n_columns.to(tl.float32), total)


@triton.jit
def load_finite(pointers, mask, WIDEN: tl.constexpr = False):
    """Values as float32; where masked, a number that is finite and below all finite ones of the data."""
    stored: tl.constexpr = pointers.dtype.scalar.element_ty
    if stored == tl.bfloat16:
        narrow = tl.load(pointers, mask=mask, other=LOWEST_BFLOAT16)
        values = widened(narrow) if WIDEN else narrow.to(tl.float32)
    elif stored == tl.float32:
        values = tl.load(pointers, mask=mask, other=-LARGEST)
    else:  # the exponential of float16's lowest may count beside others
        values = tl.where(mask, tl.load(pointers, mask=mask, other=0.0).to(tl.float32), -LARGEST)
    return values


@triton.jit
def load_exact(pointers, mask, factor):
    """factor · x rounded to float32, as float64; 0 where masked. A row's distance to itself is then exactly 0."""
    return (tl.load(pointers, mask=mask, other=0.0).to(tl.float32) * factor).to(tl.float64)


@triton.jit
def row_sum(values):
    """Σ over the columns of a tile, shape (R,).

    Numbers that round are added neighbours first, two and two: which of them a thread holds, and so the types of all
    that a kernel reads, changes no bit.
    """
    of_columns = tl.sum(values, axis=0)
    return _sum_of_neighbours(of_columns) if values.dtype.is_floating() else tl.sum(of_columns, axis=1)


@triton.jit
def _sum_of_neighbours(values):
    n: tl.constexpr = values.shape[1]
    if n == 1:
        total = tl.reshape(values, (values.shape[0],))
    else:
        total = _sum_of_neighbours(tl.sum(tl.reshape(values, (values.shape[0], n // 2, 2)), axis=2))
    return total


@triton.jit
def row_length(
    x, rows, in_rows, stride, n_columns,  # (n, D) of any storage type; (R,): which rows, and which of them exist; D
    K: tl.constexpr, R: tl.constexpr, J: tl.constexpr,  # the tile: R rows of K · J columns
):  # fmt: skip
    """The Euclidean length of each row, shape (R,), float64."""
    squares = tl.zeros((K, R, J), tl.float64)
    for start in range(0, n_columns, K * J):
        columns = start + tile_columns(K, J)
        mask = in_rows[None, :, None] & (columns < n_columns)
        value = tl.load(x + rows[None, :, None] * stride + columns, mask=mask, other=0.0).to(tl.float64)
        squares += value * value
    return tl.sqrt(row_sum(squares))


@triton.jit
def row_max(values):
    """The largest over the columns of a tile, shape (R,)."""
    return tl.max(tl.max(values, axis=0), axis=1)


@triton.jit
def row_min(values):
    """The smallest over the columns of a tile, shape (R,)."""
    return tl.min(tl.min(values, axis=0), axis=1)


@triton.jit
def of_rows(values):
    """Numbers of rows, shape (R,), beside a tile."""
    return values[None, :, None]


@triton.jit
def exp_below(x):
    """exp(x) of float32 x ≤ 0, 0 from about −87 on and of −inf."""
    return tl.exp2(x * LOG2_E)


@triton.jit
def log_of_sum(total):
    """ln of a float32 sum, in the float64 that scores are made of."""
    return tl.log(total.to(tl.float64))


@triton.jit
def report_rows(bad, rows, mask, total, least, model: tl.constexpr):
    """Lowers `bad` to 2 · row + model for the first row that holds NaN or infinity.

    NaN and +inf make the sum Σ exp(z − max z) NaN; −inf is the least value.
    """
    is_bad = mask & ((total != total) | (least == -float("inf")))
    first = tl.min(tl.where(is_bad, 2 * rows + model, _NOTHING_BAD), axis=0)
    if first != _NOTHING_BAD:
        tl.atomic_min(bad, first, sem="relaxed")


# ---------------------------------------------------------------------------------------------------------------------
# Cuts


@triton.jit
def _order_of(z):
    """Finite floats as integers in the same order."""
    bits = z.to(tl.int32, bitcast=True)
    return tl.where(bits >= 0, bits, -(bits & 0x7FFFFFFF))


@triton.jit
def _float_of(order):
    bits = tl.where(order >= 0, order, (-order) | -0x80000000)
    return bits.to(tl.int32).to(tl.float32, bitcast=True)


@triton.jit
def _admits(order, maximum, log_sum, q):
    """Whether the float of this order has a score of at most q."""
    return log_sum + (maximum.to(tl.float64) - _float_of(order).to(tl.float64)) <= q


@triton.jit
def cuts(maximum, log_sum, q):
    """The smallest float z with L + (maximum − z) ≤ q: the set of a row in one comparison of floats.

    −LARGEST where every float passes, +inf where none does.
    """
    empty = log_sum > q
    top = maximum.to(tl.float64)
    estimate = top + (log_sum - q)
    whole = estimate <= -LARGEST
    at = _order_of(tl.where(whole | empty, top, tl.minimum(estimate, top)).to(tl.float32))
    in_at = _admits(at, maximum, log_sum, q)
    in_below = _admits(at - 1, maximum, log_sum, q)
    in_above = _admits(at + 1, maximum, log_sum, q)
    found = tl.where(in_at, at, at + 1)
    # Rounding moves the estimate by one float at most, except near zero, where floats lie denser than scores.
    sure = whole | empty | tl.where(in_at, in_below == 0, in_above)
    low = tl.where(sure, 0, -0x7F800000).to(tl.int64)
    high = tl.where(sure, 0, _order_of(maximum)).to(tl.int64)
    while tl.max(high - low, axis=0) > 1:
        middle = low + ((high - low) >> 1)
        admitted = _admits(middle.to(tl.int32), maximum, log_sum, q)
        low = tl.where(admitted, low, middle)
        high = tl.where(admitted, middle, high)
    found = tl.where(sure, found, high.to(tl.int32))
    cut = tl.where(whole, -LARGEST, _float_of(found))
    return tl.where(empty, float("inf"), cut).to(tl.float32)


# ---------------------------------------------------------------------------------------------------------------------
# Rows of any length, read in stretches


@triton.jit
def top1_and_sums(
    logits, rows, in_rows, stride,  # (M, C) of any storage type; (R,): which rows, and which of them exist
    n_columns,  # C
    first_row, bad,  # the number of row 0; (1,) int64, see `report_rows`
    K: tl.constexpr, R: tl.constexpr, J: tl.constexpr,  # the tile: R rows of K · J columns
):  # fmt: skip
    """The maximum of each row, its first column, and Σ exp(z − maximum); rows that are not finite go to `bad`."""
    maximum = tl.full((R,), -LARGEST, tl.float32)
    total = tl.zeros((K, R, J), tl.float32)
    largest = tl.full((K, R, J), -LARGEST, tl.float32)
    least = tl.full((K, R, J), LARGEST, tl.float32)
    at = tl.zeros((K, R, J), tl.int32)
    for start in range(0, n_columns, K * J):
        columns = start + tile_columns(K, J)
        z = load_tile(logits, rows, stride, columns, in_rows[None, :, None] & (columns < n_columns))
        new = tl.maximum(maximum, row_max(z))
        factor = exp_below(of_rows(maximum - new))
        total = tl.fma(total, tl.broadcast_to(factor, z.shape), exp_below(z - of_rows(new)))
        maximum = new
        at = tl.where(z > largest, columns, at)
        largest = tl.maximum(largest, z)
        least = tl.minimum(least, z)
    whole = without_padding(row_sum(total), maximum, logits, n_columns)
    report_rows(bad, first_row + rows, in_rows, whole, row_min(least), 0)
    return maximum, row_min(tl.where(largest == of_rows(maximum), at, 0x7FFFFFFF)), whole
