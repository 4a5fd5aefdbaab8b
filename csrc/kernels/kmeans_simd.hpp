// The k-means kernels over Vec. Included once by each instruction set's file.
#pragma once

#include "tables.hpp"
#include "vec.hpp"

namespace {

using ccma::Dtype;
using ccma::padded;

// Two vectors of columns times as many rows as leave room for the operands: 28 of 32 registers hold sums with AVX-512,
// 12 of 16 with AVX2.
#if defined(__AVX512F__)
constexpr std::int64_t tile_rows = 14;
#else
constexpr std::int64_t tile_rows = 6;
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
    switch (dtype) {
        case Dtype::f16:
            return load_row_as<Dtype::f16>(row, n, scale, shift, out);
        case Dtype::bf16:
            return load_row_as<Dtype::bf16>(row, n, scale, shift, out);
        default:
            return load_row_as<Dtype::f32>(row, n, scale, shift, out);
    }
}

template <Dtype dtype>
double sum_squares_as(const void* row, std::int64_t n) {
    DoubleSum sum;
    std::int64_t d = 0;
    for (; d + Vec::width <= n; d += Vec::width) sum.add_square(load_stored<dtype>(row, d));
    if (d < n) sum.add_square(load_stored_tail<dtype>(row, d, n, 0.0f));
    return sum.total();
}

double sum_squares(const void* row, Dtype dtype, std::int64_t n) {
    switch (dtype) {
        case Dtype::f16:
            return sum_squares_as<Dtype::f16>(row, n);
        case Dtype::bf16:
            return sum_squares_as<Dtype::bf16>(row, n);
        default:
            return sum_squares_as<Dtype::f32>(row, n);
    }
}

struct Tile {
    Vec value[tile_rows][2];
};

// The products of one tile over one stretch of dimensions.
inline __attribute__((always_inline)) void stretch_products(const float* x, std::int64_t stride, const float* panel,
                                                            std::int64_t begin, std::int64_t end, Tile& sum) {
#pragma GCC unroll 16
    for (std::int64_t r = 0; r < tile_rows; ++r) sum.value[r][0] = sum.value[r][1] = Vec::set(0.0f);
    for (std::int64_t d = begin; d < end; ++d) {
        const Vec left = Vec::load(panel + d * panel_cols), right = Vec::load(panel + d * panel_cols + Vec::width);
#pragma GCC unroll 16
        for (std::int64_t r = 0; r < tile_rows; ++r) {
            const Vec value = Vec::set(x[r * stride + d]);
            sum.value[r][0] = fma(value, left, sum.value[r][0]);
            sum.value[r][1] = fma(value, right, sum.value[r][1]);
        }
    }
}

inline __attribute__((always_inline)) void products(const float* x, std::int64_t stride, std::int64_t n,
                                                    const float* panel, Tile& total) {
    using ccma::product_stretch;
    stretch_products(x, stride, panel, 0, n < product_stretch ? n : product_stretch, total);
    if (n <= product_stretch) return;
    float kept[tile_rows][2 * Vec::width];
    for (std::int64_t begin = product_stretch;; begin += product_stretch) {
        for (std::int64_t r = 0; r < tile_rows; ++r) {
            total.value[r][0].store(kept[r]);
            total.value[r][1].store(kept[r] + Vec::width);
        }
        if (begin >= n) break;
        stretch_products(x, stride, panel, begin, begin + product_stretch < n ? begin + product_stretch : n, total);
        for (std::int64_t r = 0; r < tile_rows; ++r) {
            total.value[r][0] = total.value[r][0] + Vec::load(kept[r]);
            total.value[r][1] = total.value[r][1] + Vec::load(kept[r] + Vec::width);
        }
    }
}

void tile_best(const float* x, std::int64_t stride, std::int64_t n, const float* panel, const float* offset,
               std::int32_t panel_index, float* best, std::int32_t* index) {
    Tile tile;
    products(x, stride, n, panel, tile);
#pragma GCC unroll 16
    for (std::int64_t r = 0; r < tile_rows; ++r) {
        for (std::int64_t half = 0; half < 2; ++half) {
            const std::int64_t at = r * panel_cols + half * Vec::width;
            keep_best(tile.value[r][half] - Vec::load(offset + half * Vec::width), panel_index, best + at, index + at);
        }
    }
}

void tile_product(const float* x, std::int64_t stride, std::int64_t n, const float* panel, const float* offset,
                  float* out) {
    Tile tile;
    products(x, stride, n, panel, tile);
#pragma GCC unroll 16
    for (std::int64_t r = 0; r < tile_rows; ++r) {
        for (std::int64_t half = 0; half < 2; ++half) {
            (tile.value[r][half] + Vec::load(offset + half * Vec::width))
                .store(out + r * panel_cols + half * Vec::width);
        }
    }
}

double squared_distance(const float* a, const float* b, std::int64_t n) {
    LongSum sum;
    for (std::int64_t d = 0; d < n; d += Vec::width) {  // the padding of both is zero
        const Vec difference = Vec::load(a + d) - Vec::load(b + d);
        sum.add(difference * difference);
    }
    return sum.total();
}

void add_scaled(double* sum, const float* x, double weight, std::int64_t n) {
    std::int64_t d = 0;
    for (; d + Vec::width <= n; d += Vec::width) add_scaled_vec(sum + d, Vec::load(x + d), weight);
    for (; d < n; ++d) sum[d] += weight * static_cast<double>(x[d]);
}

constexpr ccma::KMeansKernels kmeans_kernels{tile_rows, panel_cols,   load_row,         sum_squares,
                                             tile_best, tile_product, squared_distance, add_scaled};

}  // namespace
