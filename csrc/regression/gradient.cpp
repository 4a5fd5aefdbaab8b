#include <algorithm>
#include <numeric>
#include <vector>

#include "ccma/kernels.hpp"
#include "ccma/regression.hpp"
#include "row_block.hpp"
#include "scratch.hpp"

namespace ccma {
namespace {

// Residuals that are held at once, and those of a stretch that stay in a thread's cache.
constexpr std::int64_t most_residuals = 1 << 20, few_residuals = 1 << 16;

// Rows whose logits are computed together: whole tiles and panels, few enough for the second-level cache.
constexpr std::int64_t rows_of_item = 64;
static_assert(rows_of_item % score_tile == 0 && product_stretch % rows_of_item == 0);

std::int64_t up_to(std::int64_t n, std::int64_t multiple) { return (n + multiple - 1) / multiple * multiple; }

bool any(const float* weights, std::int64_t begin, std::int64_t end) {
    return std::any_of(weights + begin, weights + end, [](float w) { return w != 0.0f; });
}

}  // namespace

// Of one gradient, the rows [begin, end), begin that of a stretch.
struct RegressionRows::Pass {
    const Targets& targets;
    const float* coef;  // (C, D), row_stride apart
    const float* weights;
    std::int64_t begin, end;
    std::int64_t stride;  // of the residuals of a class
    float* residuals;     // (stretches, C, stride)
    double* losses;       // (M)
    float* sums;          // (groups of panel_cols columns, C, panel_cols): adds up the gradient
};

RegressionRows::RegressionRows(const float* x, std::int64_t m, std::int64_t d) : rows_(x, m, d) {}

double RegressionRows::gradient(const Targets& targets, const float* coef, const float* weights, float* gradient,
                                const Poll& poll) const {
    const std::int64_t m = count(), d = dimensions(), classes = targets.classes(), stride = row_stride(d);
    const std::int64_t panel_cols = rows_.kernels().panel_cols, groups = (d + panel_cols - 1) / panel_cols;
    const std::int64_t stretches = (m + product_stretch - 1) / product_stretch, of_sums = groups * panel_cols * classes;
    const std::int64_t residual_stride = row_stride(std::min(product_stretch, up_to(m, rows_of_item)));
    const std::int64_t of_stretch = classes * residual_stride;
    const Scratch<float> spread(classes * stride);
    for (std::int64_t c = 0; c < classes; ++c) std::copy_n(coef + c * d, d, spread.get() + c * stride);
    std::vector<double> losses(static_cast<std::size_t>(m), 0.0);

    // A thread does all of a stretch, whose rows stay in its cache, where there is room for the sums of each. Else
    // threads share a block of stretches: first its residuals, then the columns of the gradient.
    const bool by_stretch = of_stretch <= few_residuals && stretches * of_sums <= most_residuals;
    const std::int64_t parts = by_stretch ? stretches : 1;
    const Scratch<float> sums(parts * of_sums);
    std::fill_n(sums.get(), parts * of_sums, 0.0f);
    if (by_stretch) {
        const auto of_stretches = [&](std::int64_t first, std::int64_t last) {
            const Scratch<float> residual(of_stretch);
            for (std::int64_t s = first; s < last; ++s) {
                const std::int64_t begin = s * product_stretch, end = std::min(m, begin + product_stretch);
                const Pass pass{targets,        spread.get(),  weights,
                                begin,          end,           residual_stride,
                                residual.get(), losses.data(), sums.get() + s * of_sums};
                if (!any(weights, begin, end)) continue;
                residuals(pass, begin, end);
                add_products(pass, 0, groups);
            }
        };
        parallel_ranges(stretches, 1 + least_products / (2 * classes * d * product_stretch), of_stretches, poll);
    } else {
        const std::int64_t block = std::max<std::int64_t>(1, most_residuals / of_stretch);
        const Scratch<float> residual(std::min(block, stretches) * of_stretch);
        for (std::int64_t s = 0; s < stretches; s += block) {
            const std::int64_t begin = s * product_stretch, end = std::min(m, begin + block * product_stretch);
            const Pass pass{targets,         spread.get(),   weights,       begin,     end,
                            residual_stride, residual.get(), losses.data(), sums.get()};
            const auto items = [&](std::int64_t first, std::int64_t last) {
                residuals(pass, begin + first * rows_of_item, std::min(end, begin + last * rows_of_item));
            };
            const auto of_groups = [&](std::int64_t first, std::int64_t last) { add_products(pass, first, last); };
            parallel_ranges((end - begin + rows_of_item - 1) / rows_of_item,
                            1 + least_products / (classes * d * rows_of_item), items, poll);
            parallel_ranges(groups, 1 + least_products / (classes * (end - begin) * panel_cols), of_groups, poll);
        }
    }
    for (std::int64_t c = 0; c < classes; ++c) {
        for (std::int64_t column = 0; column < d; column += panel_cols) {
            float* out = gradient + c * d + column;
            const std::int64_t columns = std::min(panel_cols, d - column), at = column * classes + c * panel_cols;
            std::copy_n(sums.get() + at, columns, out);
            for (std::int64_t s = 1; s < parts; ++s)
                for (std::int64_t j = 0; j < columns; ++j) out[j] += sums.get()[s * of_sums + at + j];
        }
    }
    return std::accumulate(losses.begin(), losses.end(), 0.0);
}

// Of rows from that of an item on.
void RegressionRows::residuals(const Pass& pass, std::int64_t begin, std::int64_t end) const {
    for (; begin < end; begin += rows_of_item) item_residuals(pass, begin, std::min(end, begin + rows_of_item));
}

void RegressionRows::item_residuals(const Pass& pass, std::int64_t begin, std::int64_t end) const {
    const KMeansKernels& k = rows_.kernels();
    const std::int64_t classes = pass.targets.classes(), stride = row_stride(dimensions()), at = begin - pass.begin;
    // Whole panels and tiles.
    const std::int64_t of_class = up_to(end - begin, std::max(k.panel_cols, score_tile));
    float* out = pass.residuals + at / product_stretch * classes * pass.stride + at % product_stretch;
    if (!any(pass.weights, begin, end)) {
        for (std::int64_t c = 0; c < classes; ++c) std::fill_n(out + c * pass.stride, end - begin, 0.0f);
        return;
    }
    const Scratch<float> logits(classes * of_class);
    float* z = logits.get();
    if (k.panel_cols < score_tile) std::fill_n(z, classes * of_class, 0.0f);  // tiles that no panel fills
    const std::int64_t block = rows_of_block(k);
    for (std::int64_t c = 0; c < classes; c += block) {
        for (std::int64_t row = begin; row < end; row += k.panel_cols) {
            const auto panel_at = [&](std::int64_t at) { return rows_.panel(row / k.panel_cols, at); };
            whole_product(k, pass.coef + c * stride, stride, dimensions(), std::min(block, classes - c), panel_at,
                          nullptr, z + c * of_class + row - begin, of_class);
        }
    }
    for (std::int64_t row = begin; row < end; row += score_tile) {
        pass.targets.residuals(row, std::min(score_tile, end - row), pass.weights + row, z + row - begin, of_class,
                               out + row - begin, pass.stride, pass.losses + row);
    }
}

// Σ w (p − t) xᵀ of the groups [first, last) of columns.
void RegressionRows::add_products(const Pass& pass, std::int64_t first, std::int64_t last) const {
    const KMeansKernels& k = rows_.kernels();
    const std::int64_t classes = pass.targets.classes();
    const Scratch<float> turned(product_stretch * k.panel_cols);
    const float* residuals = pass.residuals;
    for (std::int64_t begin = pass.begin; begin < pass.end; begin += product_stretch) {
        const std::int64_t end = std::min(pass.end, begin + product_stretch);
        if (any(pass.weights, begin, end)) {
            for (std::int64_t group = first; group < last; ++group) {
                columns(begin, end, group * k.panel_cols, turned.get());
                panel_product(k, residuals, pass.stride, end - begin, classes, turned.get(), nullptr, true,
                              pass.sums + group * classes * k.panel_cols, k.panel_cols);
            }
        }
        residuals += classes * pass.stride;
    }
}

// panel_cols columns of the rows [begin, end), from column `first` on, (rows, panel_cols).
void RegressionRows::columns(std::int64_t begin, std::int64_t end, std::int64_t first, float* out) const {
    const KMeansKernels& k = rows_.kernels();
    const std::int64_t stretch = first / product_stretch * product_stretch;
    for (std::int64_t row = begin; row < end; row += k.panel_cols) {
        k.turn_panel(rows_.panel(row / k.panel_cols, stretch) + (first - stretch) * k.panel_cols,
                     std::min(k.panel_cols, dimensions() - first), out + (row - begin) * k.panel_cols);
    }
}

}  // namespace ccma
