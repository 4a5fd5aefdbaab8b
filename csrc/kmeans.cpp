#include "ccma/kmeans.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "ccma/kernels.hpp"
#include "row_block.hpp"
#include "scratch.hpp"

namespace ccma {
namespace {

// Panels for which rows are widened anew, and items of work that keep the threads busy.
constexpr std::int64_t least_group = 8, largest_group = 64, enough_items = 16;

// Values of a row that are packed before those of the next, and values whose packing is worth a thread.
constexpr std::int64_t turned = 16, least_packed = 1 << 17;

}  // namespace

Panels::Panels(const float* matrix, std::int64_t k, std::int64_t d, Of of)
    : kernels_(ccma::kernels().kmeans),
      k_(k),
      d_(d),
      panel_cols_(kernels_.panel_cols),
      n_panels_((k + panel_cols_ - 1) / panel_cols_) {
    panels_.assign(static_cast<std::size_t>(n_panels_ * d_ * panel_cols_), 0.0f);
    const auto pack = [&](std::int64_t first, std::int64_t last) {
        for (std::int64_t p = first; p < last; ++p) {
            const std::int64_t row = p * panel_cols_, rows = std::min(panel_cols_, k_ - row);
            for (std::int64_t begin = 0; begin < d_; begin += turned) {  // a stretch is some of these
                const std::int64_t at = begin % product_stretch;
                float* out = panels_.data() + place(p, begin - at) + at * panel_cols_;
                const std::int64_t end = std::min(d_, begin + turned);
                if (of == Of::columns) {
                    for (std::int64_t j = begin; j < end; ++j) {
                        std::copy_n(matrix + j * k_ + row, rows, out + (j - begin) * panel_cols_);
                    }
                    continue;
                }
                for (std::int64_t i = 0; i < rows; ++i) {
                    const float* from = matrix + (row + i) * d_;
                    for (std::int64_t j = begin; j < end; ++j) out[(j - begin) * panel_cols_ + i] = from[j];
                }
            }
        }
    };
    parallel_ranges(n_panels_, 1 + least_packed / (d_ * panel_cols_), pack, {});
}

void Panels::multiply(const Matrix& x, const float* scale, const float* bias, float* out, const Poll& poll) const {
    std::vector<float> offsets(static_cast<std::size_t>(n_panels_ * panel_cols_), 0.0f);
    if (bias) std::copy_n(bias, k_, offsets.begin());
    const std::int64_t block = rows_of_block(kernels_), blocks = (x.rows + block - 1) / block;

    // An item is a block of rows with a group of panels, a smaller one where there are few blocks.
    const std::int64_t wanted = std::max<std::int64_t>(1, enough_items / std::max<std::int64_t>(1, blocks));
    const std::int64_t group =
        std::min(n_panels_, std::clamp((n_panels_ + wanted - 1) / wanted, least_group, largest_group));
    const std::int64_t groups = (n_panels_ + group - 1) / group;
    const std::int64_t of_item = std::min(block, x.rows) * d_ * group * panel_cols_;
    const auto items = [&](std::int64_t begin, std::int64_t end) {
        const Scratch<float> widened(block * row_stride(product_stretch)), product(block * group * panel_cols_);
        for (std::int64_t at = begin; at < end; ++at) {
            const std::int64_t row = at / groups * block, first = at % groups * group;
            multiply_group(x, scale, row, std::min(block, x.rows - row), first, std::min(group, n_panels_ - first),
                           offsets.data(), widened.get(), product.get(), out + row * k_);
        }
    };
    parallel_ranges(blocks * groups, 1 + least_products / (of_item + 1), items, poll);
}

void Panels::multiply_group(const Matrix& x, const float* scale, std::int64_t row, std::int64_t rows,
                            std::int64_t first, std::int64_t panels, const float* offsets, float* widened,
                            float* product, float* out) const {
    const std::int64_t stride = row_stride(product_stretch);
    for (std::int64_t begin = 0; begin < d_; begin += product_stretch) {
        const std::int64_t end = std::min(d_, begin + product_stretch);
        for (std::int64_t i = 0; i < rows; ++i) {
            kernels_.load_row(x.row(row + i, begin), x.dtype, end - begin, scale_of(scale, row + i), nullptr,
                              widened + i * stride);
        }
        for (std::int64_t p = 0; p < panels; ++p) {
            panel_product(kernels_, widened, stride, end - begin, rows, panel(first + p, begin),
                          offsets && end == d_ ? offsets + (first + p) * panel_cols_ : nullptr, begin > 0,
                          product + p * rows * panel_cols_, panel_cols_);
        }
    }
    for (std::int64_t i = 0; i < rows; ++i) {
        for (std::int64_t p = 0; p < panels; ++p) {
            const std::int64_t column = (first + p) * panel_cols_;
            std::copy_n(product + (p * rows + i) * panel_cols_, std::min(panel_cols_, k_ - column),
                        out + i * k_ + column);
        }
    }
}

void Panels::multiply_block(const Matrix& x, const float* scale, std::int64_t row, std::int64_t rows,
                            float* out) const {
    const std::int64_t group = std::min(n_panels_, largest_group);
    const Scratch<float> widened(rows * row_stride(product_stretch)), product(rows * group * panel_cols_);
    for (std::int64_t first = 0; first < n_panels_; first += group) {
        multiply_group(x, scale, row, rows, first, std::min(group, n_panels_ - first), nullptr, widened.get(),
                       product.get(), out);
    }
}

void Panels::multiply_rows(const float* x, std::int64_t stride, std::int64_t rows, const float* offsets,
                           float* out) const {
    const Scratch<float> product(rows * panel_cols_);
    for (std::int64_t column = 0; column < k_; column += panel_cols_) {
        const auto panel_at = [&](std::int64_t begin) { return panel(column / panel_cols_, begin); };
        whole_product(kernels_, x, stride, d_, rows, panel_at, offsets + column, product.get(), panel_cols_);
        for (std::int64_t i = 0; i < rows; ++i) {
            std::copy_n(product.get() + i * panel_cols_, std::min(panel_cols_, k_ - column), out + i * k_ + column);
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
