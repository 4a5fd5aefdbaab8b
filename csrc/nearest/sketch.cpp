// The directions P, and rows and centroids seen along them.
#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "ccma/kernels.hpp"
#include "ccma/nearest.hpp"
#include "nearest/bytes.hpp"
#include "row_block.hpp"
#include "scratch.hpp"

namespace ccma {

Sketch::Sketch(const float* directions, std::int64_t width, std::int64_t d, const float* origin)
    : kernels_(ccma::kernels().kmeans), panels_(directions, width, d), origin_(padded_copy(origin, d)) {
    const double sum_length = static_cast<double>(std::min(d, product_stretch) + d / product_stretch + 2);
    product_error_ = 1.01 * std::sqrt(static_cast<double>(width)) * sum_length * float_rounding;
    double squares = 0.0;
    for (std::int64_t i = 0; i < width; ++i) {
        for (std::int64_t j = 0; j <= i; ++j) {
            double product = i == j ? -1.0 : 0.0;
            for (std::int64_t at = 0; at < d; ++at)
                product += static_cast<double>(directions[i * d + at]) * directions[j * d + at];
            squares += (i == j ? 1.0 : 2.0) * product * product;
        }
    }
    skew_ = std::sqrt(squares);  // Frobenius norm
    if (!(skew_ < 1e-3)) throw std::invalid_argument("the directions of a sketch must be orthonormal");
}

float Sketch::off(double squares, double squares_along) const {
    // ‖x − P y‖² = ‖x‖² − ‖y‖² but for the rounding of y and the skew of P, each met twice and once more where a prefix
    // of the directions is looked at.
    return just_above(std::sqrt(std::max(0.0, squares - squares_along) + 4.0 * (product_error_ + skew_) * squares));
}

void Sketch::along(const float* x, std::int64_t stride, std::int64_t rows, float* out) const {
    const std::vector<float> none(static_cast<std::size_t>(padded(width())), 0.0f);
    panels_.multiply_rows(x, stride, rows, none.data(), out);
}

void Sketch::project(const Matrix& x, const float* scale, const Sketched& out, const Poll& poll) const {
    const KMeansKernels& k = kernels_;
    const std::int64_t stride = row_stride(x.cols), block = tiles_of_block * k.tile_rows, width = this->width();
    const auto rows = [&](std::int64_t begin, std::int64_t end) {
        const Scratch<float> widened(block * stride), product(block * width);
        load_block(k, x, scale, origin_.data(), begin, end, block, widened.get());
        along(widened.get(), stride, end - begin, product.get());
        for (std::int64_t i = begin; i < end; ++i) {
            const float* y = product.get() + (i - begin) * width;
            const double squares = k.sum_squares(widened.get() + (i - begin) * stride, Dtype::f32, x.cols);
            SketchedRow& row = out.rows[i];
            row.scale = quantize(k, y, width, out.bytes + i * width, &row.error);
            row.off = off(squares, k.sum_squares(y, Dtype::f32, width));
        }
    };
    parallel_ranges(x.rows, block, rows, poll);
}

}  // namespace ccma
