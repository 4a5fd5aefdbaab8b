// Blocks of rows that are widened together and then meet every panel while they are in the second-level cache.
#pragma once

#include <algorithm>
#include <cstdint>

#include "ccma/kernels.hpp"
#include "ccma/types.hpp"

namespace ccma {

constexpr std::int64_t tiles_of_block = 8;

// Multiplications that are worth a thread: some 0.1 ms.
constexpr std::int64_t least_products = 1 << 22;

// Widened rows lie so far apart that the rows of a tile do not fall into the same cache sets.
static inline std::int64_t row_stride(std::int64_t d) { return padded(d) + 16; }

// Rows, whole tiles, that meet panels stretch by stretch while a stretch of all is in the second-level cache.
static inline std::int64_t rows_of_block(const KMeansKernels& kernels) {
    return 112 / kernels.tile_rows * kernels.tile_rows;
}

static inline float scale_of(const float* scale, std::int64_t i) { return scale ? scale[i] : 1.0f; }

// Asks for memory that is read soon.
static inline void prefetch(const void* from, std::int64_t bytes) {
    const char* first = static_cast<const char*>(from);
    for (std::int64_t at = 0; at < bytes; at += 64) __builtin_prefetch(first + at);
}

// Rows begin to end − 1 as x · scale − shift in float32, zeros up to `block` rows, row_stride apart.
static inline void load_block(const KMeansKernels& kernels, const Matrix& x, const float* scale, const float* shift,
                              std::int64_t begin, std::int64_t end, std::int64_t block, float* out) {
    const std::int64_t stride = row_stride(x.cols);
    for (std::int64_t i = begin; i < end; ++i) {
        kernels.load_row(x.row(i), x.dtype, x.cols, scale_of(scale, i), shift, out + (i - begin) * stride);
    }
    std::fill(out + (end - begin) * stride, out + block * stride, 0.0f);
}

// out[r · out_stride + j] = the products of rows that lie `stride` apart with a panel over n ≤ product_stretch values,
// as KMeansKernels::tile_product has it.
static inline void panel_product(const KMeansKernels& kernels, const float* x, std::int64_t stride, std::int64_t n,
                                 std::int64_t rows, const float* panel, const float* offset, bool adds, float* out,
                                 std::int64_t out_stride) {
    for (std::int64_t row = 0; row < rows; row += kernels.tile_rows) {
        kernels.tile_product(x + row * stride, stride, n, std::min(kernels.tile_rows, rows - row), panel, offset, adds,
                             out + row * out_stride, out_stride);
    }
}

// The same over any number of values, in stretches: those of the panel, (values, panel_cols) at panel_at(begin), stay
// in the first-level cache for all rows.
template <class PanelAt>
void whole_product(const KMeansKernels& kernels, const float* x, std::int64_t stride, std::int64_t n, std::int64_t rows,
                   const PanelAt& panel_at, const float* offset, float* out, std::int64_t out_stride) {
    for (std::int64_t begin = 0; begin < n; begin += product_stretch) {
        const std::int64_t end = std::min(n, begin + product_stretch);
        panel_product(kernels, x + begin, stride, end - begin, rows, panel_at(begin), end == n ? offset : nullptr,
                      begin > 0, out, out_stride);
    }
}

}  // namespace ccma
