// Upper bounds on x · μ − ½ ‖μ‖²: of a block of rows and all centroids, then closer ones of a row and its candidates.
#include <algorithm>
#include <cmath>

#include "nearest/block.hpp"

namespace ccma {
namespace {

// What float32 may lose to underflow, per dimension.
constexpr double underflow = 1e-37;

// Rounding of d², as a share, whose sums are float32 over stretches of a few dozen.
constexpr double distance_rounding = 0x1p-18;

}  // namespace

void Search::load(Block& block, const Matrix& x, const float* scale, const Sketched& sketched,
                  const Hints& hints) const {
    const KMeansKernels& k = kernels_;
    const std::int64_t rows = tiles_of_block * k.tile_rows, n = block.end - block.begin;
    std::int64_t settled = n;
    block.open = 0;
    if (by_bytes_) {
        std::fill_n(block.bytes.get(), rows * block.seen_stride, std::int8_t{0});
        std::fill_n(block.starts.get(), rows, 0);
        std::fill_n(block.scales.get(), rows, 0.0f);
    } else {
        std::fill_n(block.seen.get(), rows * block.seen_stride, 0.0f);
    }
    for (std::int64_t place = 0; place < n; ++place) {
        const std::int64_t i = block.begin + place;
        float *exact = block.exact.get() + place * block.stride, first = infinity;
        if (hints.labels && place + 1 < n) prefetch(column_of_[at(hints.labels[i + 1])]);
        k.load_row(x.row(i), x.dtype, x.cols, scale_of(scale, i), origin_.data(), exact);
        if (hints.labels) first = distance(exact, column_of_[at(hints.labels[i])]);
        const std::int64_t r = hints.squared && first <= hints.squared[i] ? --settled : block.open++;
        block.place.get()[r] = place;
        block.first.get()[r] = first;
        std::int8_t* bytes = block.bytes.get() + r * block.seen_stride;
        float* seen = block.seen.get() + r * block.seen_stride;
        const double squares = k.sum_squares(exact, Dtype::f32, d_), length = std::sqrt(squares);
        float error = 0.0f, off = 0.0f;
        double rounding = 2.0 * static_cast<double>(width_ + rest_ + 8) * float_rounding;
        if (sketch_) {
            const SketchedRow& row = sketched.rows[i];
            const std::int8_t* along = sketched.bytes + i * sketch_->width();
            if (by_bytes_) {
                block.scales.get()[r] = row.scale;
                std::copy_n(along, width_, bytes);
            } else {
                widen(along, width_, row.scale, seen);
            }
            error = row.error;
            // What the directions beyond the first few hold lies off those.
            const double beyond = row.scale * std::sqrt(sum_squares(along + width_, rest_)) + error;
            off = just_above(std::sqrt(static_cast<double>(row.off) * row.off + beyond * beyond));
            if (!whole_.empty()) {
                block.of_whole.get()[r] = whole_of(exact, squares, block.whole.get() + r * padded(d_));
            }
            rounding += 6.0 * sketch_->skew() + 3.0 * sketch_->product_error();
        } else if (by_bytes_) {
            block.scales.get()[r] = quantize(k, exact, padded(d_), bytes, &error);
        } else {
            std::copy_n(exact, d_, seen);
        }
        if (by_bytes_) block.starts.get()[r] = start_of(bytes, width_);
        block.squares.get()[r] = squares;
        block.off.get()[r] = off;
        block.of_bytes.get()[r] = error * longest_ + (length + error) * largest_error_;
        // The product's sum, ½‖μ‖², and the bound itself.
        block.slack.get()[r] = block.of_bytes.get()[r] + rounding * length * longest_ +
                               8.0 * float_rounding * (squares + longest_ * longest_) +
                               underflow * static_cast<double>(d_) * (1.0 + length + longest_);
    }
}

void Search::bounds(Block& block, std::int64_t rows, std::int64_t first_panel, std::int64_t panels) const {
    const KMeansKernels& k = kernels_;
    for (std::int64_t p = first_panel; p < first_panel + panels; ++p) {
        const float* offset = offsets_.data() + p * panel_cols_;
        const std::int64_t panel = p * panel_cols_ * width_;
        float* out = block.scores.get() + (p - first_panel) * panel_cols_;
        if (!by_bytes_) {
            const auto panel_at = [&](std::int64_t begin) { return panels_.data() + panel + begin * panel_cols_; };
            whole_product(k, block.seen.get(), block.seen_stride, width_, rows, panel_at, offset, out, block.columns);
            continue;
        }
        for (std::int64_t row = 0; row < rows; row += k.tile_rows) {
            k.tile_product_bytes(block.bytes.get() + row * block.seen_stride, block.seen_stride, width_,
                                 byte_panels_.data() + panel, block.starts.get() + row, block.scales.get() + row,
                                 scales_.data() + p * panel_cols_, offset, out + row * block.columns, block.columns);
        }
    }
}

void Search::look_further(const Sketched& sketched, std::int64_t row, std::int64_t first,
                          Candidates& candidates) const {
    const std::int8_t* along = sketched.bytes + row * sketch_->width() + width_;
    const SketchedRow& of_row = sketched.rows[row];
    candidates.take_products(kernels_, along, rests_.data() + first * rest_, rest_);
    for (std::int64_t i = 0; i < candidates.count; ++i) {
        const std::size_t j = static_cast<std::size_t>(first + candidates.index.get()[i]);
        candidates.bound.get()[i] = candidates.score.get()[i] +
                                    static_cast<float>(candidates.product.get()[i]) * (of_row.scale * scales_[j]) +
                                    of_row.off * full_off_[j];
    }
}

void Search::look_closely(const Block& block, std::int64_t row, std::int64_t first, Candidates& candidates) const {
    const Whole& of_row = block.of_whole.get()[row];
    const float length = of_row.length + of_row.error;
    const float of_bytes = static_cast<float>(block.of_bytes.get()[row]);  // not met here
    const std::int64_t stride = padded(d_);
    candidates.take_products(kernels_, block.whole.get() + row * stride, whole_.data() + first * stride, stride);
    for (std::int64_t i = 0; i < candidates.count; ++i) {
        const std::size_t j = static_cast<std::size_t>(first + candidates.index.get()[i]);
        const Whole& whole = of_whole_[j];
        const float product = static_cast<float>(candidates.product.get()[i]) * (of_row.scale * whole.scale);
        const float bound = offsets_[j] + product + (of_row.error * whole.length + length * whole.error - of_bytes);
        candidates.bound.get()[i] = std::min(candidates.bound.get()[i], bound);
    }
}

double Search::least(const Block& block, std::int64_t row, const Incumbent& incumbent) const {
    const double at_most = (1.0 + 2.0 * distance_rounding) * static_cast<double>(incumbent.squared);
    return 0.5 * (block.squares.get()[row] - at_most) - block.slack.get()[row];
}

}  // namespace ccma
