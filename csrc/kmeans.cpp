#include "ccma/kmeans.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "ccma/kernels.hpp"
#include "scratch.hpp"

namespace ccma {
namespace {

// Tiles of rows that are widened together and then meet every panel while they are in the second-level cache.
constexpr std::int64_t tiles_of_block = 8;

// Widened rows lie so far apart that the rows of a tile do not fall into the same cache sets.
std::int64_t row_stride(std::int64_t d) { return padded(d) + 16; }

float scale_of(const float* scale, std::int64_t i) { return scale ? scale[i] : 1.0f; }

}  // namespace

Panels::Panels(const float* matrix, std::int64_t k, std::int64_t d, bool centred)
    : kernels_(kernels().kmeans),
      k_(k),
      d_(d),
      panel_cols_(kernels_.panel_cols),
      n_panels_((k + panel_cols_ - 1) / panel_cols_) {
    panels_.assign(static_cast<std::size_t>(n_panels_ * d_ * panel_cols_), 0.0f);
    if (centred) {
        std::vector<double> mean(static_cast<std::size_t>(d_), 0.0);
        for (std::int64_t row = 0; row < k_; ++row)
            for (std::int64_t j = 0; j < d_; ++j) mean[static_cast<std::size_t>(j)] += matrix[row * d_ + j];
        shift_.resize(static_cast<std::size_t>(padded(d_)), 0.0f);
        for (std::size_t j = 0; j < mean.size(); ++j) shift_[j] = static_cast<float>(mean[j] / static_cast<double>(k_));
        offsets_.assign(static_cast<std::size_t>(n_panels_ * panel_cols_), std::numeric_limits<float>::infinity());
        centred_.assign(static_cast<std::size_t>(k_ * padded(d_)), 0.0f);
    }
    for (std::int64_t row = 0; row < k_; ++row) {
        float* column = panels_.data() + row / panel_cols_ * d_ * panel_cols_ + row % panel_cols_;
        double squares = 0.0;
        for (std::int64_t j = 0; j < d_; ++j) {
            float value = matrix[row * d_ + j];
            if (centred) {
                value -= shift_[static_cast<std::size_t>(j)];
                squares += static_cast<double>(value) * value;
                centred_[static_cast<std::size_t>(row * padded(d_) + j)] = value;
            }
            column[j * panel_cols_] = value;
        }
        if (centred) offsets_[static_cast<std::size_t>(row)] = static_cast<float>(0.5 * squares);
    }
}

void Panels::nearest(const Matrix& x, const float* scale, std::int32_t* labels, float* squared,
                     const Poll& poll) const {
    const KMeansKernels& k = kernels_;
    const std::int64_t stride = row_stride(d_), block = tiles_of_block * k.tile_rows,
                       tile_lanes = k.tile_rows * panel_cols_;

    const auto rows = [&](std::int64_t begin, std::int64_t end) {
        const Scratch<float> widened(block * stride), best(tiles_of_block * tile_lanes);
        const Scratch<std::int32_t> index(tiles_of_block * tile_lanes);
        std::fill_n(best.get(), tiles_of_block * tile_lanes, -std::numeric_limits<float>::infinity());
        std::fill_n(index.get(), tiles_of_block * tile_lanes, 0);
        for (std::int64_t i = begin; i < end; ++i) {
            k.load_row(x.row(i), x.dtype, d_, scale_of(scale, i), shift_.data(), widened.get() + (i - begin) * stride);
        }
        std::fill(widened.get() + (end - begin) * stride, widened.get() + block * stride, 0.0f);
        const std::int64_t n_tiles = (end - begin + k.tile_rows - 1) / k.tile_rows;
        for (std::int64_t p = 0; p < n_panels_; ++p) {
            for (std::int64_t tile = 0; tile < n_tiles; ++tile) {
                k.tile_best(widened.get() + tile * k.tile_rows * stride, stride, d_,
                            panels_.data() + p * d_ * panel_cols_, offsets_.data() + p * panel_cols_,
                            static_cast<std::int32_t>(p), best.get() + tile * tile_lanes,
                            index.get() + tile * tile_lanes);
            }
        }
        for (std::int64_t i = begin; i < end; ++i) {
            const float* value = best.get() + (i - begin) * panel_cols_;
            const std::int32_t* panel = index.get() + (i - begin) * panel_cols_;
            float largest = -std::numeric_limits<float>::infinity();
            std::int64_t label = 0;
            for (std::int64_t j = 0; j < panel_cols_; ++j) {
                const std::int64_t candidate = panel[j] * panel_cols_ + j;
                if (value[j] > largest || (value[j] == largest && candidate < label)) {
                    largest = value[j];
                    label = candidate;
                }
            }
            labels[i] = static_cast<std::int32_t>(label);
            squared[i] = static_cast<float>(
                k.squared_distance(widened.get() + (i - begin) * stride, centred_.data() + label * padded(d_), d_));
        }
    };
    parallel_ranges(x.rows, block, rows, poll);
}

void Panels::multiply(const Matrix& x, const float* scale, const float* bias, float* out, const Poll& poll) const {
    const KMeansKernels& k = kernels_;
    const std::int64_t stride = row_stride(d_), block = tiles_of_block * k.tile_rows;
    std::vector<float> offsets(static_cast<std::size_t>(n_panels_ * panel_cols_), 0.0f);
    if (bias) std::copy_n(bias, k_, offsets.begin());

    const auto rows = [&](std::int64_t begin, std::int64_t end) {
        const Scratch<float> widened(block * stride), product(k.tile_rows * panel_cols_);
        for (std::int64_t i = begin; i < end; ++i) {
            k.load_row(x.row(i), x.dtype, d_, scale_of(scale, i), nullptr, widened.get() + (i - begin) * stride);
        }
        std::fill(widened.get() + (end - begin) * stride, widened.get() + block * stride, 0.0f);
        for (std::int64_t p = 0; p < n_panels_; ++p) {
            const std::int64_t column = p * panel_cols_, columns = std::min(panel_cols_, k_ - column);
            for (std::int64_t tile = begin; tile < end; tile += k.tile_rows) {
                k.tile_product(widened.get() + (tile - begin) * stride, stride, d_, panels_.data() + column * d_,
                               offsets.data() + column, product.get());
                for (std::int64_t i = tile; i < std::min(end, tile + k.tile_rows); ++i) {
                    std::copy_n(product.get() + (i - tile) * panel_cols_, columns, out + i * k_ + column);
                }
            }
        }
    };
    parallel_ranges(x.rows, block, rows, poll);
}

void accumulate(const Matrix& x, const float* scale, const std::int32_t* labels, const float* weights, std::int64_t k,
                double* sums, double* mass, const Poll& poll) {
    // The rows of each cluster, in row order (a counting sort).
    std::vector<std::int64_t> ends(static_cast<std::size_t>(k) + 1, 0), order(static_cast<std::size_t>(x.rows));
    for (std::int64_t i = 0; i < x.rows; ++i) ++ends[static_cast<std::size_t>(labels[i]) + 1];
    std::partial_sum(ends.begin(), ends.end(), ends.begin());
    std::vector<std::int64_t> next(ends.begin(), ends.end() - 1);
    for (std::int64_t i = 0; i < x.rows; ++i)
        order[static_cast<std::size_t>(next[static_cast<std::size_t>(labels[i])]++)] = i;

    const KMeansKernels& kernel = kernels().kmeans;
    const auto clusters = [&](std::int64_t begin, std::int64_t end) {
        const Scratch<float> row(padded(x.cols));
        for (std::int64_t cluster = begin; cluster < end; ++cluster) {
            const std::size_t c = static_cast<std::size_t>(cluster);
            for (std::int64_t at = ends[c]; at < ends[c + 1]; ++at) {
                const std::int64_t i = order[static_cast<std::size_t>(at)];
                kernel.load_row(x.row(i), x.dtype, x.cols, scale_of(scale, i), nullptr, row.get());
                kernel.add_scaled(sums + cluster * x.cols, row.get(), weights[i], x.cols);
                mass[cluster] += weights[i];
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
