#include "ccma/nearest.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <stdexcept>

#include "ccma/kernels.hpp"
#include "row_block.hpp"
#include "scratch.hpp"

namespace ccma {
namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();

// Scores of a block of rows that are kept while they are looked through; with the rows they fill half of a small
// second-level cache.
constexpr std::int64_t score_bytes = 256 << 10;

// Roundings, as shares: of float32, and of d², whose sums are float32 over stretches of a few dozen.
constexpr double float_rounding = 0x1p-24, distance_rounding = 0x1p-18;

// Of the sum that says how far bytes are from what they stand for.
constexpr double error_rounding = 1e-5;

// Products of two bytes that a 32-bit integer adds up.
constexpr std::int64_t most_byte_products = 1 << 16;

// Signed bytes become unsigned ones by this, which the processor wants of one of two factors.
constexpr std::int32_t byte_shift = 128;

// Blocks that one thread takes at a time.
constexpr std::int64_t blocks_of_task = 4;

// What float32 may lose to underflow, per dimension.
constexpr double underflow = 1e-37;

// Beyond these squares products may overflow, and nothing is ruled out.
constexpr double too_large = 1e37;

float just_above(double value) { return static_cast<float>(value * (1.0 + 4.0 * float_rounding)); }

// What a product with unsigned bytes begins with, so that it ends as the one with signed bytes.
std::int32_t start_of(const std::int8_t* bytes, std::int64_t n) {
    std::int32_t sum = 0;
    for (std::int64_t i = 0; i < n; ++i) sum += bytes[i];
    return -byte_shift * sum;
}

double sum_squares(const std::int8_t* bytes, std::int64_t n) {
    std::int32_t sum = 0;  // n is at most a sketch's width
    for (std::int64_t i = 0; i < n; ++i) sum += static_cast<std::int32_t>(bytes[i]) * bytes[i];
    return sum;
}

void widen(const std::int8_t* bytes, std::int64_t n, float scale, float* out) {
    for (std::int64_t i = 0; i < n; ++i) out[i] = scale * static_cast<float>(bytes[i]);
}

// Bytes for padded values, and an upper bound on the distance between both.
float quantize(const KMeansKernels& k, const float* x, std::int64_t n, std::int8_t* bytes, float* error) {
    double squares;
    const float scale = k.quantize(x, n, bytes, &squares);
    *error = just_above((1.0 + error_rounding) * std::sqrt(squares));
    return scale;
}

std::size_t at(std::int64_t i) { return static_cast<std::size_t>(i); }

std::vector<float> padded_copy(const float* values, std::int64_t n) {
    std::vector<float> copy(static_cast<std::size_t>(padded(n)), 0.0f);
    std::copy_n(values, n, copy.begin());
    return copy;
}

}  // namespace

// ---------------------------------------------------------------------------------------------------------------------

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

// ---------------------------------------------------------------------------------------------------------------------

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
    std::vector<float> errors(static_cast<std::size_t>(k_), 0.0f);

    const std::int64_t stride = row_stride(d_), block = tiles_of_block * kernels_.tile_rows;
    const auto pack = [&](std::int64_t begin, std::int64_t end) {
        const std::int64_t seen_width = sketch ? sketch->width() : padded(d_);
        const Scratch<float> rows(block * stride), along(block * (sketch ? sketch->width() : 0));
        const Scratch<std::int8_t> bytes(seen_width);
        std::fill_n(rows.get(), block * stride, 0.0f);
        for (std::int64_t row = begin; row < end; ++row) {
            kernels_.load_row(centroids + label_of_[at(row)] * d_, Dtype::f32, d_, 1.0f, origin_.data(),
                              rows.get() + (row - begin) * stride);
        }
        if (sketch) sketch->along(rows.get(), stride, end - begin, along.get());
        for (std::int64_t row = begin; row < end; ++row) {
            const float* centred = rows.get() + (row - begin) * stride;
            const float* seen = sketch ? along.get() + (row - begin) * sketch->width() : centred;
            const double squares = kernels_.sum_squares(centred, Dtype::f32, d_);
            std::copy_n(centred, d_, centred_.data() + row * padded(d_));
            offsets_[static_cast<std::size_t>(row)] = static_cast<float>(-0.5 * squares);
            if (sketch) {
                const auto off = [&](std::int64_t width) {
                    return sketch->off(squares, kernels_.sum_squares(seen, Dtype::f32, width));
                };
                off_[static_cast<std::size_t>(row)] = off(width_);
                full_off_[static_cast<std::size_t>(row)] = off(width_ + rest_);
            }
            if (!whole_.empty()) {
                of_whole_[static_cast<std::size_t>(row)] = whole_of(centred, squares, whole_.data() + row * padded(d_));
            }
            const std::int64_t panel = row / panel_cols_ * panel_cols_ * width_, column = row % panel_cols_;
            if (sketch || by_bytes_) {
                scales_[static_cast<std::size_t>(row)] =
                    quantize(kernels_, seen, seen_width, bytes.get(), &errors[static_cast<std::size_t>(row)]);
                std::copy_n(bytes.get() + width_, rest_, rests_.data() + row * rest_);
            }
            for (std::int64_t j = 0; j < width_; ++j) {
                if (by_bytes_) {
                    byte_panels_[static_cast<std::size_t>(panel + (j / 4 * panel_cols_ + column) * 4 + j % 4)] =
                        static_cast<std::uint8_t>(bytes.get()[j] + byte_shift);
                } else {
                    panels_[static_cast<std::size_t>(panel + j * panel_cols_ + column)] =
                        j < seen_width ? seen[j] : 0.0f;
                }
            }
        }
    };
    parallel_ranges(k_, block, pack, {});
    for (std::int64_t row = 0; row < k_; ++row) {
        longest_ = std::max(longest_, std::sqrt(-2.0 * static_cast<double>(offsets_[at(row)])));
        largest_error_ = std::max(largest_error_, static_cast<double>(errors[at(row)]));
    }
    longest_ *= 1.0 + 4.0 * float_rounding;
}

Search::Whole Search::whole_of(const float* centred, double squares, std::int8_t* bytes) const {
    Whole whole;
    whole.scale = quantize(kernels_, centred, padded(d_), bytes, &whole.error);
    whole.length = just_above(std::sqrt(squares));
    return whole;
}

// A block of rows, and what is known of each.
struct Search::Block {
    Block(std::int64_t rows, std::int64_t d, std::int64_t width, std::int64_t columns, bool by_bytes)
        : place(rows),
          stride(row_stride(d)),
          seen_stride(padded(width) + 32),
          columns(columns),
          exact(rows * stride),
          bytes(by_bytes ? rows * seen_stride : 0),
          seen(by_bytes ? 0 : rows * seen_stride),
          whole(rows * padded(d)),
          of_whole(rows),
          starts(rows),
          scales(rows),
          squares(rows),
          off(rows),
          of_bytes(rows),
          slack(rows),
          first(rows),
          scores(rows * columns) {}

    std::int64_t row(std::int64_t r) const { return begin + place.get()[r]; }
    const float* exact_row(std::int64_t r) const { return exact.get() + place.get()[r] * stride; }

    std::int64_t begin = 0, end = 0;
    std::int64_t open = 0;        // rows that must meet every centroid: they come first
    Scratch<std::int64_t> place;  // of each row, from `begin` on
    std::int64_t stride, seen_stride, columns;
    Scratch<float> exact;        // x − origin, by place
    Scratch<std::int8_t> bytes;  // of ỹ, what is looked at first, or
    Scratch<float> seen;         // ỹ itself
    Scratch<std::int8_t> whole;  // bytes of x − origin, where centroids have them
    Scratch<Whole> of_whole;
    Scratch<std::int32_t> starts;
    Scratch<float> scales;     // ỹ = scale · bytes
    Scratch<double> squares;   // ‖x − origin‖²
    Scratch<float> off;        // upper bound on ‖x − P y‖ by what is looked at first
    Scratch<double> of_bytes;  // what bytes of ỹ and ν̃ may take from a bound
    Scratch<double> slack;     // and they and rounding together
    Scratch<float> first;      // d² to the hint
    Scratch<float> scores;     // ỹ · ν̃ − ½‖μ‖², of some centroids
};

// The nearest centroid found so far.
struct Search::Incumbent {
    std::int32_t label;
    float squared;
    float least;  // no centroid whose bound is smaller can take its place
};

// Centroids that may be the nearest of one row, by their places in a chunk.
struct Search::Candidates {
    explicit Candidates(std::int64_t most)
        : index(most + row_padding), product(most), score(most), bound(most + row_padding) {}

    void take_products(const KMeansKernels& k, const std::int8_t* x, const std::int8_t* rows, std::int64_t n) {
        k.dots_bytes(x, rows, n, n, index.get(), count, product.get());
    }

    // Leaves those whose bound reaches `least`, but for one whose distance is known.
    void keep(float least, std::int64_t known) {
        std::int64_t kept = 0;
        for (std::int64_t i = 0; i < count; ++i) {
            index.get()[kept] = index.get()[i];
            score.get()[kept] = score.get()[i];
            bound.get()[kept] = bound.get()[i];
            kept += bound.get()[i] >= least && index.get()[i] != known;
        }
        count = kept;
    }

    std::int64_t count = 0;
    Scratch<std::int32_t> index, product;
    Scratch<float> score, bound;
};

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
    const std::int64_t tiles = (rows + k.tile_rows - 1) / k.tile_rows;
    for (std::int64_t p = first_panel; p < first_panel + panels; ++p) {
        const float* offset = offsets_.data() + p * panel_cols_;
        const std::int64_t panel = p * panel_cols_ * width_;
        for (std::int64_t tile = 0; tile < tiles; ++tile) {
            const std::int64_t row = tile * k.tile_rows;
            float* out = block.scores.get() + row * block.columns + (p - first_panel) * panel_cols_;
            if (by_bytes_) {
                k.tile_product_bytes(block.bytes.get() + row * block.seen_stride, block.seen_stride, width_,
                                     byte_panels_.data() + panel, block.starts.get() + row, block.scales.get() + row,
                                     scales_.data() + p * panel_cols_, offset, out, block.columns);
            } else {
                k.tile_product(block.seen.get() + row * block.seen_stride, block.seen_stride, width_,
                               panels_.data() + panel, offset, out, block.columns);
            }
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

void Search::prefetch(std::int64_t centroid) const { ccma::prefetch(centred_.data() + centroid * padded(d_), 4 * d_); }

float Search::distance(const float* exact, std::int64_t column) const {
    return static_cast<float>(kernels_.squared_distance(exact, centred_.data() + column * padded(d_), d_));
}

void Search::try_centroid(const Block& block, std::int64_t row, std::int64_t column, Incumbent& incumbent) const {
    const float squared = distance(block.exact_row(row), column);
    const std::int32_t label = label_of_[at(column)];
    if (squared < incumbent.squared || (squared == incumbent.squared && label < incumbent.label)) {
        incumbent.label = label;
        incumbent.squared = squared;
        incumbent.least = static_cast<float>(least(block, row, incumbent));
    }
}

void Search::nearest(const Matrix& x, const float* scale, const Sketched& sketched, const Hints& hints,
                     const float* within, std::int32_t* labels, float* squared, const Poll& poll) const {
    const KMeansKernels& k = kernels_;
    const std::int64_t rows = tiles_of_block * k.tile_rows;
    const std::int64_t chunk =
        std::clamp<std::int64_t>(score_bytes / (4 * rows * panel_cols_), 1, n_panels_) * panel_cols_;
    const std::int64_t shared = std::min(k_, (n_moved_ + panel_cols_ - 1) / panel_cols_ * panel_cols_);

    const auto search_block = [&](Block& block, std::int64_t begin, std::int64_t end) {
        block.begin = begin;
        block.end = end;
        load(block, x, scale, sketched, hints);
        Candidates candidates(chunk);
        std::vector<Incumbent> incumbents(at(end - begin));
        for (std::int64_t row = 0; row < end - begin; ++row) {
            Incumbent& incumbent = incumbents[at(row)];
            incumbent = {std::numeric_limits<std::int32_t>::max(), infinity, -infinity};
            if (within) incumbent = {-1, within[block.row(row)], -infinity};
            if (hints.labels) incumbent = {hints.labels[block.row(row)], block.first.get()[row], -infinity};
            if (within || hints.labels) incumbent.least = static_cast<float>(least(block, row, incumbent));
        }
        std::int64_t count;
        for (std::int64_t first = 0; first < k_; first += count) {
            // Rows that are settled meet the panels with a centroid that moved.
            const bool all = first < shared;
            count = std::min(chunk, (all ? shared : k_) - first);
            const std::int64_t n_rows = all ? end - begin : block.open;
            bounds(block, n_rows, first / panel_cols_, (count + panel_cols_ - 1) / panel_cols_);
            for (std::int64_t row = 0; row < n_rows; ++row) {
                Incumbent& incumbent = incumbents[at(row)];
                const float* scores = block.scores.get() + row * chunk;
                const float off = block.off.get()[row];
                if (!(block.squares.get()[row] + longest_ * longest_ < too_large)) {
                    for (std::int64_t j = 0; j < count; ++j) try_centroid(block, row, first + j, incumbent);
                    continue;
                }
                std::int64_t tried = hints.labels ? column_of_[at(hints.labels[block.row(row)])] - first : -1;
                if (!hints.labels) {  // a good one first, so that few are listed
                    tried = k.largest(scores, count);
                    if (scores[tried] + off * off_[static_cast<std::size_t>(first + tried)] >= incumbent.least) {
                        try_centroid(block, row, first + tried, incumbent);
                    }
                }
                std::int32_t* index = candidates.index.get();
                float* bound = candidates.bound.get();
                candidates.count = k.reaching(scores, off_.data() + first, count, off, incumbent.least, index, bound);
                if (sketch_) {
                    for (std::int64_t i = 0; i < candidates.count; ++i) candidates.score.get()[i] = scores[index[i]];
                    candidates.keep(incumbent.least, tried);
                    if (rest_ > 0) {
                        look_further(sketched, block.row(row), first, candidates);
                        candidates.keep(incumbent.least, tried);
                    }
                    if (!whole_.empty()) look_closely(block, row, first, candidates);
                }
                // Best bound first; the next one's centroid is on its way while one is tried.
                std::int64_t& n = candidates.count;
                std::int64_t best = n > 0 ? k.largest(bound, n) : 0;
                while (n > 0 && bound[best] >= incumbent.least) {
                    const std::int32_t next = index[best];
                    --n;
                    index[best] = index[n];
                    bound[best] = bound[n];
                    if (n > 0) {
                        best = k.largest(bound, n);
                        if (bound[best] >= incumbent.least) prefetch(first + index[best]);
                    }
                    if (next != tried) try_centroid(block, row, first + next, incumbent);
                }
            }
        }
        for (std::int64_t row = 0; row < end - begin; ++row) {
            labels[block.row(row)] = incumbents[at(row)].label;
            squared[block.row(row)] = incumbents[at(row)].squared;
        }
    };
    // Several blocks in the same memory: clearing new pages for each would take a tenth of the time.
    const auto search = [&](std::int64_t begin, std::int64_t end) {
        Block block(rows, d_, width_, chunk, by_bytes_);
        for (std::int64_t at = begin; at < end; at += rows) search_block(block, at, std::min(end, at + rows));
    };
    parallel_ranges(x.rows, blocks_of_task * rows, search, poll);
}

}  // namespace ccma
