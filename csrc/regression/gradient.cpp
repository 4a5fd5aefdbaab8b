#include <algorithm>
#include <numeric>
#include <vector>

#include "ccma/kernels.hpp"
#include "ccma/regression.hpp"
#include "row_block.hpp"
#include "scratch.hpp"

namespace ccma {
namespace {

// Residuals that are held at once.
constexpr std::int64_t most_residuals = 1 << 20;

// Rows whose logits are computed together: whole tiles and panels, few enough for the second-level cache.
constexpr std::int64_t rows_of_item = 64;
static_assert(rows_of_item % score_tile == 0 && product_stretch % rows_of_item == 0);

// The residuals of a stretch of rows lie class after class, so far apart that those of a tile do not fall into the same
// cache sets.
constexpr std::int64_t residual_stride = product_stretch + 16;

bool any(const float* weights, std::int64_t begin, std::int64_t end) {
    return std::any_of(weights + begin, weights + end, [](float w) { return w != 0.0f; });
}

}  // namespace

// One gradient, of the rows [begin, end).
struct RegressionRows::Pass {
    const Targets& targets;
    const float* coef;  // (C, D), row_stride apart
    const float* weights;
    std::int64_t begin, end;
    float* residuals;  // (stretches, C, residual_stride)
    double* losses;    // (M)
    float* sums;       // (panels of columns, C, panel_cols): the gradient so far
};

RegressionRows::RegressionRows(const float* x, std::int64_t m, std::int64_t d)
    : rows_(x, m, d), columns_(x, d, m, Panels::Of::columns) {}

double RegressionRows::gradient(const Targets& targets, const float* coef, const float* weights, float* gradient,
                                const Poll& poll) const {
    const std::int64_t m = count(), d = dimensions(), classes = targets.classes(), stride = row_stride(d);
    const std::int64_t panel_cols = columns_.kernels().panel_cols, panels = columns_.panels();
    const std::int64_t block =
        std::max<std::int64_t>(1, most_residuals / (classes * product_stretch)) * product_stretch;
    const std::int64_t stretches = (std::min(block, m) + product_stretch - 1) / product_stretch;
    const Scratch<float> spread(classes * stride), residual(stretches * classes * residual_stride);
    const Scratch<float> sums(panels * classes * panel_cols);
    for (std::int64_t c = 0; c < classes; ++c) std::copy_n(coef + c * d, d, spread.get() + c * stride);
    std::fill_n(sums.get(), panels * classes * panel_cols, 0.0f);
    std::vector<double> losses(static_cast<std::size_t>(m), 0.0);

    for (std::int64_t begin = 0; begin < m; begin += block) {
        const std::int64_t end = std::min(m, begin + block);
        const Pass pass{targets, spread.get(), weights, begin, end, residual.get(), losses.data(), sums.get()};
        const auto items = [&](std::int64_t first, std::int64_t last) {
            for (std::int64_t row = begin + first * rows_of_item; row < begin + last * rows_of_item;
                 row += rows_of_item) {
                residuals(pass, row, std::min(end, row + rows_of_item));
            }
        };
        const auto of_panels = [&](std::int64_t first, std::int64_t last) { add_products(pass, first, last - first); };
        parallel_ranges((end - begin + rows_of_item - 1) / rows_of_item,
                        1 + least_products / (classes * d * rows_of_item), items, poll);
        parallel_ranges(panels, 1 + least_products / (classes * (end - begin) * panel_cols), of_panels, poll);
    }
    for (std::int64_t c = 0; c < classes; ++c) {
        for (std::int64_t column = 0; column < d; column += panel_cols) {
            std::copy_n(sums.get() + column * classes + c * panel_cols, std::min(panel_cols, d - column),
                        gradient + c * d + column);
        }
    }
    return std::accumulate(losses.begin(), losses.end(), 0.0);
}

void RegressionRows::residuals(const Pass& pass, std::int64_t begin, std::int64_t end) const {
    const KMeansKernels& k = rows_.kernels();
    const std::int64_t classes = pass.targets.classes(), stride = row_stride(dimensions()), at = begin - pass.begin;
    float* out = pass.residuals + at / product_stretch * classes * residual_stride + at % product_stretch;
    if (!any(pass.weights, begin, end)) {
        for (std::int64_t c = 0; c < classes; ++c) std::fill_n(out + c * residual_stride, rows_of_item, 0.0f);
        return;
    }
    const Scratch<float> logits(classes * rows_of_item);
    float* z = logits.get();
    if (end - begin < rows_of_item) std::fill_n(z, classes * rows_of_item, 0.0f);
    for (std::int64_t c = 0; c < classes; c += rows_of_block) {
        for (std::int64_t row = begin; row < end; row += k.panel_cols) {
            const auto panel_at = [&](std::int64_t at) { return rows_.panel(row / k.panel_cols, at); };
            whole_product(k, pass.coef + c * stride, stride, dimensions(), std::min(rows_of_block, classes - c),
                          panel_at, nullptr, z + c * rows_of_item + row - begin, rows_of_item);
        }
    }
    for (std::int64_t row = begin; row < end; row += score_tile) {
        pass.targets.residuals(row, std::min(score_tile, end - row), pass.weights + row, z + row - begin, rows_of_item,
                               out + row - begin, residual_stride, pass.losses + row);
    }
}

void RegressionRows::add_products(const Pass& pass, std::int64_t panel, std::int64_t panels) const {
    const KMeansKernels& k = columns_.kernels();
    const std::int64_t classes = pass.targets.classes(), of_panel = classes * k.panel_cols;
    const float* residuals = pass.residuals;
    for (std::int64_t begin = pass.begin; begin < pass.end; begin += product_stretch) {
        const std::int64_t end = std::min(pass.end, begin + product_stretch);
        if (any(pass.weights, begin, end)) {
            for (std::int64_t c = 0; c < classes; c += rows_of_block) {
                for (std::int64_t p = panel; p < panel + panels; ++p) {
                    panel_product(k, residuals + c * residual_stride, residual_stride, end - begin,
                                  std::min(rows_of_block, classes - c), columns_.panel(p, begin), nullptr, true,
                                  pass.sums + p * of_panel + c * k.panel_cols, k.panel_cols);
                }
            }
        }
        residuals += classes * residual_stride;
    }
}

}  // namespace ccma
