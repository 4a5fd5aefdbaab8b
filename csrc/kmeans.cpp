#include "ccma/kmeans.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "ccma/kernels.hpp"
#include "row_block.hpp"
#include "scratch.hpp"

namespace ccma {
namespace {

// Chunks of a product that keep the threads busy, and the multiplications that one of them is worth: some 0.1 ms.
constexpr std::int64_t enough_chunks = 16, least_products = 1 << 22;

}  // namespace

Panels::Panels(const float* matrix, std::int64_t k, std::int64_t d)
    : kernels_(kernels().kmeans),
      k_(k),
      d_(d),
      panel_cols_(kernels_.panel_cols),
      n_panels_((k + panel_cols_ - 1) / panel_cols_) {
    panels_.assign(static_cast<std::size_t>(n_panels_ * d_ * panel_cols_), 0.0f);
    for (std::int64_t row = 0; row < k_; ++row) {
        float* column = panels_.data() + row / panel_cols_ * d_ * panel_cols_ + row % panel_cols_;
        for (std::int64_t j = 0; j < d_; ++j) column[j * panel_cols_] = matrix[row * d_ + j];
    }
}

void Panels::multiply(const Matrix& x, const float* scale, const float* bias, float* out, const Poll& poll) const {
    const std::int64_t stride = row_stride(d_), block = tiles_of_block * kernels_.tile_rows;
    std::vector<float> offsets(static_cast<std::size_t>(n_panels_ * panel_cols_), 0.0f);
    if (bias) std::copy_n(bias, k_, offsets.begin());

    // Where rows are few the panels are shared out too.
    const std::int64_t blocks = (x.rows + block - 1) / block;
    const std::int64_t of_panel = std::max<std::int64_t>(1, std::min(block, x.rows) * d_ * panel_cols_);
    const std::int64_t wanted = blocks > 0 ? (enough_chunks + blocks - 1) / blocks : 1;
    const std::int64_t groups = std::clamp<std::int64_t>(n_panels_ * of_panel / least_products, 1, wanted);
    const std::int64_t columns = (n_panels_ + groups - 1) / groups * panel_cols_;
    const std::int64_t n_groups = (k_ + columns - 1) / columns;

    const auto chunk = [&](std::int64_t at) {
        const std::int64_t begin = at / n_groups * block, end = std::min(x.rows, begin + block);
        const std::int64_t first = at % n_groups * columns, last = std::min(k_, first + columns);
        const Scratch<float> widened(block * stride);
        load_block(kernels_, x, scale, nullptr, begin, end, block, widened.get());
        multiply_columns(widened.get(), stride, end - begin, first, last, offsets.data(), out + begin * k_);
    };
    parallel_for(blocks * n_groups, chunk, poll);
}

void Panels::multiply_rows(const float* x, std::int64_t stride, std::int64_t rows, const float* offsets,
                           float* out) const {
    multiply_columns(x, stride, rows, 0, k_, offsets, out);
}

void Panels::multiply_columns(const float* x, std::int64_t stride, std::int64_t rows, std::int64_t first,
                              std::int64_t last, const float* offsets, float* out) const {
    const KMeansKernels& k = kernels_;
    const Scratch<float> product(k.tile_rows * panel_cols_);
    for (std::int64_t column = first; column < last; column += panel_cols_) {
        const std::int64_t columns = std::min(panel_cols_, last - column);
        for (std::int64_t tile = 0; tile < rows; tile += k.tile_rows) {
            k.tile_product(x + tile * stride, stride, d_, panels_.data() + column * d_, offsets + column, product.get(),
                           panel_cols_);
            for (std::int64_t i = tile; i < std::min(rows, tile + k.tile_rows); ++i) {
                std::copy_n(product.get() + (i - tile) * panel_cols_, columns, out + i * k_ + column);
            }
        }
    }
}

void accumulate(const Matrix& x, const float* scale, const std::int32_t* labels, const float* weights, std::int64_t k,
                const ClusterSums& out, const Poll& poll) {
    // The rows of each cluster (a counting sort), whose sums one thread has to itself.
    std::vector<std::int64_t> ends(static_cast<std::size_t>(k) + 1, 0), order(static_cast<std::size_t>(x.rows));
    for (std::int64_t i = 0; i < x.rows; ++i) ++ends[static_cast<std::size_t>(labels[i]) + 1];
    std::partial_sum(ends.begin(), ends.end(), ends.begin());
    std::vector<std::int64_t> next(ends.begin(), ends.end() - 1);
    for (std::int64_t i = 0; i < x.rows; ++i)
        order[static_cast<std::size_t>(next[static_cast<std::size_t>(labels[i])]++)] = i;

    const float one = 1.0f;
    const KMeansKernels& kernel = kernels().kmeans;
    const std::int64_t row_bytes = x.cols * static_cast<std::int64_t>(item_size(x.dtype));
    const auto clusters = [&](std::int64_t begin, std::int64_t end) {
        const Scratch<float> row(padded(x.cols));
        for (std::int64_t cluster = begin; cluster < end; ++cluster) {
            const std::size_t c = static_cast<std::size_t>(cluster);
            for (std::int64_t at = ends[c]; at < ends[c + 1]; ++at) {
                const std::int64_t i = order[static_cast<std::size_t>(at)];
                if (at + 1 < x.rows) prefetch(x.row(order[static_cast<std::size_t>(at) + 1]), row_bytes);
                kernel.load_row(x.row(i), x.dtype, x.cols, scale_of(scale, i), nullptr, row.get());
                const double w = weights[i];
                kernel.add_fixed(out.sums + cluster * x.cols, k * x.cols, out.of_sums, row.get(), w * out.of_sums.scale,
                                 x.cols);
                kernel.add_fixed(out.mass + cluster, k, out.of_mass, &one, w * out.of_mass.scale, 1);
            }
        }
    };
    parallel_ranges(k, std::max<std::int64_t>(1, k / 64), clusters, poll);
}

void row_lengths(const Matrix& x, double* lengths, const Poll& poll) {
    const KMeansKernels& k = kernels().kmeans;
    const auto rows = [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t i = begin; i < end; ++i) lengths[i] = std::sqrt(k.sum_squares(x.row(i), x.dtype, x.cols));
    };
    parallel_ranges(x.rows, std::max<std::int64_t>(1, 65536 / x.cols), rows, poll);
}

}  // namespace ccma
