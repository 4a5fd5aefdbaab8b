#include <algorithm>

#include "ccma/kernels.hpp"
#include "ccma/regression.hpp"

namespace ccma {
namespace {

std::int64_t tiles(std::int64_t rows) { return (rows + score_tile - 1) / score_tile; }

// A tile from rows of a matrix of `classes` columns, class after class; nothing is written beyond its rows.
void turn(const float* matrix, std::int64_t count, std::int64_t classes, float* tile) {
    for (std::int64_t j = 0; j < count; ++j)
        for (std::int64_t c = 0; c < classes; ++c) tile[c * score_tile + j] = matrix[j * classes + c];
}

}  // namespace

Targets::Targets(const std::int64_t* labels, std::int64_t labelled, const float* soft, const float* offset,
                 std::int64_t m, std::int64_t classes)
    : m_(m), classes_(classes), labels_(labels, labels + labelled), first_soft_(labelled / score_tile) {
    const std::int64_t of_tile = classes * score_tile;
    soft_.assign(static_cast<std::size_t>(labelled < m ? (tiles(m) - first_soft_) * of_tile : 0), 0.0f);
    for (std::int64_t row = labelled; row < m;) {
        const std::int64_t tile = row / score_tile, end = std::min(m, (tile + 1) * score_tile);
        turn(soft + (row - labelled) * classes, end - row, classes,
             soft_.data() + (tile - first_soft_) * of_tile + row % score_tile);
        row = end;
    }
    offsets_.assign(static_cast<std::size_t>(offset ? tiles(m) * of_tile : 0), 0.0f);
    for (std::int64_t row = 0; offset && row < m; row += score_tile) {
        turn(offset + row * classes, std::min(score_tile, m - row), classes, offsets_.data() + row * classes);
    }
}

void Targets::residuals(std::int64_t begin, std::int64_t count, const float* weights, float* z, std::int64_t stride,
                        float* out, std::int64_t out_stride, double* losses) const {
    const std::int64_t labelled = static_cast<std::int64_t>(labels_.size());
    const std::int64_t n = std::clamp<std::int64_t>(labelled - begin, 0, count), tile = begin / score_tile;
    if (!offsets_.empty()) {
        const float* offset = offsets_.data() + begin * classes_;
        for (std::int64_t c = 0; c < classes_; ++c)
            for (std::int64_t j = 0; j < score_tile; ++j) z[c * stride + j] += offset[c * score_tile + j];
    }
    float of_label[score_tile], w[score_tile] = {};
    double of_tile[score_tile];
    for (std::int64_t j = 0; j < n; ++j) of_label[j] = z[labels_[static_cast<std::size_t>(begin + j)] * stride + j];
    std::copy_n(weights, count, w);
    const float* soft = n < count ? soft_.data() + (tile - first_soft_) * classes_ * score_tile : nullptr;
    kernels().score.softmax_residuals(z, stride, classes_, soft, w, out, out_stride, of_tile);
    for (std::int64_t j = 0; j < n; ++j) {
        out[labels_[static_cast<std::size_t>(begin + j)] * out_stride + j] -= w[j];
        of_tile[j] -= static_cast<double>(w[j]) * of_label[j];
    }
    std::copy_n(of_tile, count, losses);
}

}  // namespace ccma
