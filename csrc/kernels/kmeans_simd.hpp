// The k-means kernels over Vec. Included once by each instruction set's file.
#pragma once

#include "tables.hpp"
#include "vec.hpp"

namespace {

using ccma::Dtype;
using ccma::padded;
using ccma::product_stretch;

// Two vectors of columns times as many rows as leave room for the operands: 28 of 32 registers hold sums with AVX-512,
// 12 of 16 with AVX2.
// To pick out the lanes that passed is a few instructions with AVX-512, less than a branch that is often guessed wrong.
#if defined(__AVX512F__)
constexpr std::int64_t tile_rows = 14;
constexpr bool compresses_at_once = true;
#else
constexpr std::int64_t tile_rows = 6;
constexpr bool compresses_at_once = false;
#endif
constexpr std::int64_t panel_cols = 2 * Vec::width;

template <Dtype dtype>
void load_row_as(const void* row, std::int64_t n, float scale, const float* shift, float* out) {
    const Vec factor = Vec::set(scale);
    std::int64_t d = 0;
    for (; d + Vec::width <= n; d += Vec::width) {
        Vec value = load_stored<dtype>(row, d) * factor;
        if (shift) value = value - Vec::load(shift + d);
        value.store(out + d);
    }
    if (d < n) {
        load_stored_tail<dtype>(row, d, n, 0.0f).store(out + d);
        for (; d < n; ++d) out[d] = shift ? out[d] * scale - shift[d] : out[d] * scale;
    }
    for (d = n; d < padded(n); ++d) out[d] = 0.0f;
}

void load_row(const void* row, Dtype dtype, std::int64_t n, float scale, const float* shift, float* out) {
    return of_stored(dtype, [&](auto of) { return load_row_as<decltype(of)::dtype>(row, n, scale, shift, out); });
}

void add_square(DoubleSum& sum, Vec x) { sum.add_product(x, x); }

template <Dtype dtype>
double sum_squares_as(const void* row, std::int64_t n) {
    DoubleSum sum;
    std::int64_t d = 0;
    for (; d + Vec::width <= n; d += Vec::width) add_square(sum, load_stored<dtype>(row, d));
    if (d < n) add_square(sum, load_stored_tail<dtype>(row, d, n, 0.0f));
    return sum.total();
}

double sum_squares(const void* row, Dtype dtype, std::int64_t n) {
    return of_stored(dtype, [&](auto of) { return sum_squares_as<decltype(of)::dtype>(row, n); });
}

double dot(const float* a, const float* b, std::int64_t n) {
    DoubleSum sum, other;  // that do not wait for each other
    std::int64_t d = 0;
    for (; d + 2 * Vec::width <= n; d += 2 * Vec::width) {
        sum.add_product(Vec::load(a + d), Vec::load(b + d));
        other.add_product(Vec::load(a + d + Vec::width), Vec::load(b + d + Vec::width));
    }
    for (; d + Vec::width <= n; d += Vec::width) sum.add_product(Vec::load(a + d), Vec::load(b + d));
    if (d < n) {
        sum.add_product(load_stored_tail<Dtype::f32>(a, d, n, 0.0f), load_stored_tail<Dtype::f32>(b, d, n, 0.0f));
    }
    sum.add(other);
    return sum.total();
}

template <std::int64_t rows>
void tile_product_of(const float* x, std::int64_t stride, std::int64_t n, const float* panel, const float* offset,
                     bool adds, float* out, std::int64_t out_stride) {
    Vec sum[rows][2];
#pragma GCC unroll 16
    for (std::int64_t r = 0; r < rows; ++r) sum[r][0] = sum[r][1] = Vec::set(0.0f);
    for (std::int64_t d = 0; d < n; ++d) {
        const Vec left = Vec::load(panel + d * panel_cols), right = Vec::load(panel + d * panel_cols + Vec::width);
#pragma GCC unroll 16
        for (std::int64_t r = 0; r < rows; ++r) {
            const Vec value = Vec::set(x[r * stride + d]);
            sum[r][0] = fma(value, left, sum[r][0]);
            sum[r][1] = fma(value, right, sum[r][1]);
        }
    }
#pragma GCC unroll 16
    for (std::int64_t r = 0; r < rows; ++r) {
        for (std::int64_t half = 0; half < 2; ++half) {
            float* to = out + r * out_stride + half * Vec::width;
            Vec total = sum[r][half];
            if (adds) total = total + Vec::load(to);
            if (offset) total = total + Vec::load(offset + half * Vec::width);
            total.store(to);
        }
    }
}

template <std::int64_t most>
void tile_product_up_to(const float* x, std::int64_t stride, std::int64_t n, std::int64_t rows, const float* panel,
                        const float* offset, bool adds, float* out, std::int64_t out_stride) {
    if (rows == most) return tile_product_of<most>(x, stride, n, panel, offset, adds, out, out_stride);
    if constexpr (most > 1) tile_product_up_to<most - 1>(x, stride, n, rows, panel, offset, adds, out, out_stride);
}

void tile_product(const float* x, std::int64_t stride, std::int64_t n, std::int64_t rows, const float* panel,
                  const float* offset, bool adds, float* out, std::int64_t out_stride) {
    tile_product_up_to<tile_rows>(x, stride, n, rows, panel, offset, adds, out, out_stride);
}

void turn_panel(const float* from, std::int64_t n, float* to) {
    for (std::int64_t i = 0; i < panel_cols; i += Vec::width) {
        for (std::int64_t j = 0; j < panel_cols; j += Vec::width) {
            Vec block[Vec::width];
            for (std::int64_t r = 0; r < Vec::width; ++r) {
                block[r] = i + r < n ? Vec::load(from + (i + r) * panel_cols + j) : Vec::set(0.0f);
            }
            transpose(block);
            for (std::int64_t r = 0; r < Vec::width; ++r) block[r].store(to + (j + r) * panel_cols + i);
        }
    }
}

std::int64_t largest(const float* values, std::int64_t n) {
    std::int64_t j = 0;
    float top = values[0];
    if (n >= Vec::width) {
        Vec most = Vec::load(values);
        for (j = Vec::width; j + Vec::width <= n; j += Vec::width) most = max(most, Vec::load(values + j));
        float lanes[Vec::width];
        most.store(lanes);
        for (std::int64_t lane = 0; lane < Vec::width; ++lane) top = lanes[lane] > top ? lanes[lane] : top;
    }
    for (; j < n; ++j) top = values[j] > top ? values[j] : top;
    const Vec wanted = Vec::set(top);
    for (j = 0; j + Vec::width <= n; j += Vec::width) {
        if (const Vec::Mask found = equal(Vec::load(values + j), wanted)) return j + __builtin_ctz(found);
    }
    for (; j < n; ++j) {
        if (values[j] == top) return j;
    }
    return 0;  // not a number first
}

std::int64_t reaching(const float* values, const float* reach, std::int64_t n, float factor, float least,
                      std::int32_t* index, float* bounds) {
    const Vec factors = Vec::set(factor), floor = Vec::set(least);
    std::int64_t m = 0, j = 0;
    for (; j + Vec::width <= n; j += Vec::width) {
        const Vec bound = fma(factors, Vec::load(reach + j), Vec::load(values + j));
        const Vec::Mask passed = at_least(bound, floor);
        if (!compresses_at_once && !passed) continue;
        bound.compress(passed, bounds + m);
        compress_positions(passed, j, index + m);
        m += __builtin_popcount(passed);
    }
    for (; j < n; ++j) {
        const float bound = __builtin_fmaf(factor, reach[j], values[j]);
        if (bound >= least) {
            bounds[m] = bound;
            index[m++] = static_cast<std::int32_t>(j);
        }
    }
    return m;
}

double squared_distance(const float* a, const float* b, std::int64_t n) {
    constexpr std::int64_t chains = 4;  // sums that do not wait for each other
    DoubleSum sum;
    for (std::int64_t begin = 0; begin < n; begin += product_stretch) {
        const std::int64_t end = begin + product_stretch < padded(n) ? begin + product_stretch : padded(n);
        Vec part[chains];
        for (Vec& one : part) one = Vec::set(0.0f);
        for (std::int64_t d = begin; d < end; d += chains * Vec::width) {  // the padding of both is zero
            const std::int64_t left = (end - d) / Vec::width;
#pragma GCC unroll 4
            for (std::int64_t chain = 0; chain < chains; ++chain) {
                if (chain >= left) break;
                const Vec difference = Vec::load(a + d + chain * Vec::width) - Vec::load(b + d + chain * Vec::width);
                part[chain] = fma(difference, difference, part[chain]);
            }
        }
        sum.add((part[0] + part[1]) + (part[2] + part[3]));
    }
    return sum.total();
}

void add_fixed(std::int64_t* sums, std::int64_t stride, const ccma::Limbs& limbs, const float* x, double weight,
               std::int64_t n) {
    const std::int64_t last = (limbs.count - 1) * stride;
    const DoubleVec w = DoubleVec::set(weight), step = DoubleVec::set(limbs.step);
    const DoubleVec shifter = DoubleVec::set(ccma::whole_shifter);
    std::int64_t d = 0;
    for (; d + DoubleVec::width <= n; d += DoubleVec::width) {
        DoubleVec term = w * DoubleVec::load_float(x + d);
        for (std::int64_t limb = 0;; limb += stride) {
            const DoubleVec shifted = term + shifter;
            add_bit_difference(sums + limb + d, shifted, shifter);
            if (limb == last) break;
            term = (term - (shifted - shifter)) * step;
        }
    }
    for (; d < n; ++d) {
        double term = weight * static_cast<double>(x[d]);
        for (std::int64_t limb = 0;; limb += stride) {
            const double whole = (term + ccma::whole_shifter) - ccma::whole_shifter;
            sums[limb + d] += static_cast<std::int64_t>(whole);
            if (limb == last) break;
            term = (term - whole) * limbs.step;
        }
    }
}

float quantize(const float* x, std::int64_t n, std::int8_t* bytes, double* squared_error) {
    Vec top = Vec::set(0.0f);
    for (std::int64_t d = 0; d < n; d += Vec::width) {
        const Vec value = Vec::load(x + d);
        top = max(top, max(value, Vec::set(0.0f) - value));
    }
    const float largest = largest_lane(top);
    const bool some = largest > ccma::least_quantized;
    const float scale = some ? largest / 127.0f : 0.0f;
    // Adding 1.5 · 2^23 rounds to a whole number.
    const Vec inverse = Vec::set(some ? 127.0f / largest : 0.0f), shifter = Vec::set(12582912.0f);
    LongSum sum;
    for (std::int64_t d = 0; d < n; d += Vec::width) {
        const Vec value = Vec::load(x + d);
        const Vec whole = fma(value, inverse, shifter) - shifter;
        const Vec error = fma(Vec::set(-scale), whole, value);
        whole.store_bytes(bytes + d);
        sum.add(error * error);
    }
    *squared_error = sum.total();
    return scale;
}

void dots_bytes(const std::int8_t* x, const std::int8_t* rows, std::int64_t stride, std::int64_t n,
                const std::int32_t* index, std::int64_t m, std::int32_t* out) {
    const auto words = [](const std::int8_t* p) {
        return _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
    };
    for (std::int64_t i = 0; i < m; ++i) {
        const std::int8_t* row = rows + index[i] * stride;
        __m256i left = _mm256_setzero_si256(), right = left;
        for (std::int64_t d = 0; d < n; d += 32) {
            left = _mm256_add_epi32(left, _mm256_madd_epi16(words(x + d), words(row + d)));
            right = _mm256_add_epi32(right, _mm256_madd_epi16(words(x + d + 16), words(row + d + 16)));
        }
        left = _mm256_add_epi32(left, right);
        __m128i sum = _mm_add_epi32(_mm256_castsi256_si128(left), _mm256_extracti128_si256(left, 1));
        sum = _mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0x4e));
        sum = _mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0xb1));
        out[i] = _mm_cvtsi128_si32(sum);
    }
}

constexpr ccma::KMeansKernels kmeans_kernels{tile_rows,    panel_cols, load_row,  sum_squares, dot,
                                             tile_product, turn_panel, largest,   reaching,    squared_distance,
                                             add_fixed,    quantize,   dots_bytes};

}  // namespace
