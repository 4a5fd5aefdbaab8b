#include "ccma/softmax.hpp"

#include <algorithm>

#include "ccma/kernels.hpp"
#include "scratch.hpp"

namespace ccma {
namespace {

// Logits of a chunk of work.
constexpr std::int64_t chunk_logits = 1 << 16;

// The columns [begin, begin + count) of z, in `tile` meanwhile: their values lie far apart in z, in the same cache
// sets.
void tile_residual(const ScoreKernels& kernel, float* z, std::int64_t classes, std::int64_t rows,
                   const Targets& targets, const float* weights, double* losses, std::int64_t begin, std::int64_t count,
                   float* tile) {
    const std::int64_t labelled = std::clamp<std::int64_t>(targets.n - begin, 0, count);
    const std::int64_t soft_rows = rows - targets.n, first_soft = begin - targets.n;
    const std::int64_t* labels = targets.labels + begin;
    double of_target[score_tile] = {}, log_norm[score_tile];
    for (std::int64_t c = 0; c < classes; ++c) {
        float* values = tile + c * score_tile;
        std::copy_n(z + c * rows + begin, count, values);
        std::fill(values + count, values + score_tile, 0.0f);
        const float* t = targets.soft + c * soft_rows + first_soft;
        for (std::int64_t j = labelled; j < count; ++j) of_target[j] += static_cast<double>(t[j]) * values[j];
    }
    for (std::int64_t j = 0; j < labelled; ++j) of_target[j] = tile[labels[j] * score_tile + j];
    kernel.softmax_columns(tile, classes, log_norm);
    const float* w = weights + begin;
    for (std::int64_t j = 0; j < count; ++j) losses[begin + j] = w[j] * (log_norm[j] - of_target[j]);
    for (std::int64_t j = 0; j < labelled; ++j) tile[labels[j] * score_tile + j] -= 1.0f;
    for (std::int64_t c = 0; c < classes; ++c) {
        float *values = tile + c * score_tile, *out = z + c * rows + begin;
        const float* t = targets.soft + c * soft_rows + first_soft;
        for (std::int64_t j = labelled; j < count; ++j) values[j] -= t[j];
        for (std::int64_t j = 0; j < count; ++j) out[j] = w[j] * values[j];
    }
}

}  // namespace

void softmax_residual(float* z, std::int64_t classes, std::int64_t rows, const Targets& targets, const float* weights,
                      double* losses, const Poll& poll) {
    const ScoreKernels& kernel = kernels().score;
    const std::int64_t tiles = std::max<std::int64_t>(1, chunk_logits / (classes * score_tile));
    const auto columns = [&](std::int64_t begin, std::int64_t end) {
        const Scratch<float> tile(classes * score_tile);
        for (; begin < end; begin += score_tile) {
            tile_residual(kernel, z, classes, rows, targets, weights, losses, begin, std::min(score_tile, end - begin),
                          tile.get());
        }
    };
    parallel_ranges(rows, tiles * score_tile, columns, poll);
}

}  // namespace ccma
