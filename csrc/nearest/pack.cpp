// Centroids as a search reads them: centred, sorted by whether they moved, in panels of bytes or of float32.
#include <algorithm>
#include <cmath>
#include <numeric>
#include <stdexcept>

#include "ccma/kernels.hpp"
#include "ccma/parallel.hpp"
#include "nearest/block.hpp"

namespace ccma {
namespace {

// Products of two bytes that a 32-bit integer adds up.
constexpr std::int64_t most_byte_products = 1 << 16;

}  // namespace

Search::Search(const float* centroids, std::int64_t k, std::int64_t d, const float* origin, const Sketch* sketch,
               std::int64_t width, const bool* moved)
    : kernels_(kernels().kmeans),
      k_(k),
      d_(d),
      panel_cols_(kernels_.panel_cols),
      n_panels_((k + panel_cols_ - 1) / panel_cols_),
      width_(sketch ? width : (d + 3) / 4 * 4),
      rest_(sketch ? sketch->width() - width : 0),
      sketch_(sketch),
      by_bytes_(kernels_.tile_product_bytes != nullptr && d <= most_byte_products),
      origin_(padded_copy(origin, d)),
      label_of_(static_cast<std::size_t>(k)),
      column_of_(static_cast<std::size_t>(k)) {
    std::iota(label_of_.begin(), label_of_.end(), 0);
    const auto unmoved = std::stable_partition(label_of_.begin(), label_of_.end(),
                                               [moved](std::int32_t label) { return !moved || moved[label]; });
    n_moved_ = unmoved - label_of_.begin();
    for (std::int64_t column = 0; column < k; ++column) column_of_[at(label_of_[at(column)])] = column;
    if (sketch && (width <= 0 || rest_ < 0 || width % row_padding != 0 || rest_ % row_padding != 0)) {
        throw std::invalid_argument("width must be a multiple of 32, at most the sketch's");
    }
    if (sketch && &sketch->kernels() != &kernels_) {
        throw std::invalid_argument("the sketch was packed for another instruction set");
    }
    const std::int64_t columns = n_panels_ * panel_cols_, values = columns * width_;
    centred_.assign(static_cast<std::size_t>(k_ * padded(d_)), 0.0f);
    offsets_.assign(static_cast<std::size_t>(columns), -infinity);
    scales_.assign(static_cast<std::size_t>(columns), 0.0f);
    off_.assign(static_cast<std::size_t>(k_), 0.0f);
    full_off_ = off_;
    byte_panels_.assign(static_cast<std::size_t>(by_bytes_ ? values : 0), byte_shift);
    panels_.assign(static_cast<std::size_t>(by_bytes_ ? 0 : values), 0.0f);
    rests_.assign(static_cast<std::size_t>(k_ * rest_), 0);
    whole_.assign(static_cast<std::size_t>(sketch && d_ <= most_byte_products ? k_ * padded(d_) : 0), 0);
    of_whole_.assign(static_cast<std::size_t>(whole_.empty() ? 0 : k_), {});
    pack(centroids);
}

void Search::pack(const float* centroids) {
    std::vector<float> errors(static_cast<std::size_t>(k_), 0.0f);
    const std::int64_t stride = row_stride(d_), block = tiles_of_block * kernels_.tile_rows;
    const std::int64_t sketch_width = sketch_ ? sketch_->width() : 0;
    const auto pack_block = [&](std::int64_t begin, std::int64_t end) {
        const Scratch<float> rows(block * stride), along(block * sketch_width);
        const Scratch<std::int8_t> bytes(sketch_ ? sketch_width : padded(d_));
        std::fill_n(rows.get(), block * stride, 0.0f);
        for (std::int64_t column = begin; column < end; ++column) {
            kernels_.load_row(centroids + label_of_[at(column)] * d_, Dtype::f32, d_, 1.0f, origin_.data(),
                              rows.get() + (column - begin) * stride);
        }
        if (sketch_) sketch_->along(rows.get(), stride, end - begin, along.get());
        for (std::int64_t column = begin; column < end; ++column) {
            const float* centred = rows.get() + (column - begin) * stride;
            const float* seen = sketch_ ? along.get() + (column - begin) * sketch_width : centred;
            errors[at(column)] = pack_column(column, centred, seen, bytes.get());
        }
    };
    parallel_ranges(k_, block, pack_block, {});
    for (std::int64_t column = 0; column < k_; ++column) {
        longest_ = std::max(longest_, std::sqrt(-2.0 * static_cast<double>(offsets_[at(column)])));
        largest_error_ = std::max(largest_error_, static_cast<double>(errors[at(column)]));
    }
    longest_ *= 1.0 + 4.0 * float_rounding;
}

float Search::pack_column(std::int64_t column, const float* centred, const float* seen, std::int8_t* bytes) {
    const std::int64_t seen_width = sketch_ ? sketch_->width() : padded(d_);
    const double squares = kernels_.sum_squares(centred, Dtype::f32, d_);
    std::copy_n(centred, d_, centred_.data() + column * padded(d_));
    offsets_[at(column)] = static_cast<float>(-0.5 * squares);
    if (sketch_) {
        const auto off = [&](std::int64_t width) {
            return sketch_->off(squares, kernels_.sum_squares(seen, Dtype::f32, width));
        };
        off_[at(column)] = off(width_);
        full_off_[at(column)] = off(width_ + rest_);
    }
    if (!whole_.empty()) {
        of_whole_[at(column)] = whole_of(centred, squares, whole_.data() + column * padded(d_));
    }
    float error = 0.0f;
    if (sketch_ || by_bytes_) {
        scales_[at(column)] = quantize(kernels_, seen, seen_width, bytes, &error);
        std::copy_n(bytes + width_, rest_, rests_.data() + column * rest_);
    }
    const std::int64_t panel = column / panel_cols_ * panel_cols_ * width_, of_panel = column % panel_cols_;
    for (std::int64_t j = 0; j < width_; ++j) {
        if (by_bytes_) {
            byte_panels_[at(panel + (j / 4 * panel_cols_ + of_panel) * 4 + j % 4)] =
                static_cast<std::uint8_t>(bytes[j] + byte_shift);
        } else {
            panels_[at(panel + j * panel_cols_ + of_panel)] = j < seen_width ? seen[j] : 0.0f;
        }
    }
    return error;
}

Search::Whole Search::whole_of(const float* centred, double squares, std::int8_t* bytes) const {
    Whole whole;
    whole.scale = quantize(kernels_, centred, padded(d_), bytes, &whole.error);
    whole.length = just_above(std::sqrt(squares));
    return whole;
}

}  // namespace ccma
