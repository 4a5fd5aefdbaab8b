#include "ccma/nearest.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
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

// Roundings, as shares: of float32, of bfloat16, and of d², whose sums are float32 over stretches of a few dozen.
constexpr double float_rounding = 0x1p-24, bfloat_rounding = 1.01 * 0x1p-8, distance_rounding = 0x1p-18;

// Blocks that one thread takes at a time.
constexpr std::int64_t blocks_of_task = 4;

// What float32 may lose to underflow, per dimension.
constexpr double underflow = 1e-37;

// Beyond these squares products may overflow, and nothing is ruled out.
constexpr double too_large = 1e37;

float just_above(double value) { return static_cast<float>(value * (1.0 + 4.0 * float_rounding)); }

std::uint16_t to_bfloat(float value) {
    std::uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    return static_cast<std::uint16_t>((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);  // to nearest, ties to even
}

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

double Sketch::squared_residual(double squares, double squares_along) const {
    // ‖x − Pỹ‖² = ‖x‖² − ‖Pᵀx‖² + ‖Pᵀx − ỹ‖² but for the rounding of Pᵀx and the skew of P, each met twice and once
    // more where a prefix of the directions is looked at.
    const double rounding = bfloat_rounding * bfloat_rounding + 4.0 * (product_error_ + skew_);
    return std::max(0.0, squares - squares_along) + rounding * squares;
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
            out.residual[i] = just_above(std::sqrt(squared_residual(squares, k.sum_squares(y, Dtype::f32, width))));
            for (std::int64_t j = 0; j < width; ++j) out.values[i * width + j] = to_bfloat(y[j]);
        }
    };
    parallel_ranges(x.rows, block, rows, poll);
}

// ---------------------------------------------------------------------------------------------------------------------

Search::Search(const float* centroids, std::int64_t k, std::int64_t d, const float* origin, const Sketch* sketch,
               std::int64_t width)
    : kernels_(kernels().kmeans),
      k_(k),
      d_(d),
      panel_cols_(kernels_.panel_cols),
      n_panels_((k + panel_cols_ - 1) / panel_cols_),
      width_(sketch ? width : d + d % 2),
      rest_(sketch ? sketch->width() - width : 0),
      sketch_(sketch),
      origin_(padded_copy(origin, d)) {
    if (sketch && (width <= 0 || rest_ < 0 || width % row_padding != 0 || rest_ % row_padding != 0)) {
        throw std::invalid_argument("width must be a multiple of 32, at most the sketch's");
    }
    if (sketch && &sketch->kernels() != &kernels_) {
        throw std::invalid_argument("the sketch was packed for another instruction set");
    }
    const std::int64_t columns = n_panels_ * panel_cols_, values = columns * width_;
    centred_.assign(static_cast<std::size_t>(k_ * padded(d_)), 0.0f);
    offsets_.assign(static_cast<std::size_t>(columns), -infinity);
    reach_.assign(static_cast<std::size_t>(k_), 0.0f);
    full_reach_ = reach_;
    const bool narrow = kernels_.tile_product_bf16 != nullptr;
    bf16_panels_.assign(static_cast<std::size_t>(narrow ? values : 0), 0);
    bf16_rests_.assign(static_cast<std::size_t>(narrow ? k_ * rest_ : 0), 0);
    panels_.assign(static_cast<std::size_t>(narrow ? 0 : values), 0.0f);
    rests_.assign(static_cast<std::size_t>(narrow ? 0 : k_ * rest_), 0.0f);

    const std::int64_t stride = row_stride(d_), block = tiles_of_block * kernels_.tile_rows;
    const auto pack = [&](std::int64_t begin, std::int64_t end) {
        const Scratch<float> rows(block * stride), along(block * (sketch ? sketch->width() : 0));
        load_block(kernels_, Matrix{centroids, Dtype::f32, k_, d_}, nullptr, origin_.data(), begin, end, block,
                   rows.get());
        if (sketch) sketch->along(rows.get(), stride, end - begin, along.get());
        for (std::int64_t row = begin; row < end; ++row) {
            const float* centred = rows.get() + (row - begin) * stride;
            const float* seen = sketch ? along.get() + (row - begin) * sketch->width() : centred;
            const double squares = kernels_.sum_squares(centred, Dtype::f32, d_);
            std::copy_n(centred, d_, centred_.data() + row * padded(d_));
            offsets_[static_cast<std::size_t>(row)] = static_cast<float>(-0.5 * squares);
            const auto reach = [&](std::int64_t along_width) {
                if (!sketch) return just_above(seen_rounding() * std::sqrt(squares));
                return just_above(
                    std::sqrt(sketch->squared_residual(squares, kernels_.sum_squares(seen, Dtype::f32, along_width))));
            };
            reach_[static_cast<std::size_t>(row)] = reach(width_);
            full_reach_[static_cast<std::size_t>(row)] = reach(width_ + rest_);
            const std::int64_t at = row / panel_cols_ * panel_cols_ * width_, column = row % panel_cols_;
            for (std::int64_t j = 0; j < width_; ++j) {
                const float value = j < d_ ? seen[j] : 0.0f;
                if (narrow) {
                    bf16_panels_[static_cast<std::size_t>(at + (j / 2 * panel_cols_ + column) * 2 + j % 2)] =
                        to_bfloat(value);
                } else {
                    panels_[static_cast<std::size_t>(at + j * panel_cols_ + column)] = value;
                }
            }
            for (std::int64_t j = 0; j < rest_; ++j) {
                const std::size_t to = static_cast<std::size_t>(row * rest_ + j);
                if (narrow) {
                    bf16_rests_[to] = to_bfloat(seen[width_ + j]);
                } else {
                    rests_[to] = seen[width_ + j];
                }
            }
        }
    };
    parallel_ranges(k_, block, pack, {});
    for (std::int64_t row = 0; row < k_; ++row) {
        longest_ = std::max(longest_, std::sqrt(-2.0 * static_cast<double>(offsets_[static_cast<std::size_t>(row)])));
    }
    longest_ *= 1.0 + 4.0 * float_rounding;
}

// A block of rows, and what is known of each.
struct Search::Block {
    Block(std::int64_t rows, std::int64_t d, std::int64_t width, std::int64_t columns, bool narrow)
        : stride(row_stride(d)),
          seen_stride(padded(width) + 32),
          columns(columns),
          exact(rows * stride),
          narrow_seen(narrow ? rows * seen_stride : 0),
          wide_seen(narrow ? 0 : rows * seen_stride),
          squares(rows),
          reach(rows),
          full_reach(rows),
          slack(rows),
          scores(rows * columns) {}

    std::int64_t begin = 0, end = 0;
    std::int64_t stride, seen_stride, columns;
    Scratch<float> exact;                // x − origin
    Scratch<std::uint16_t> narrow_seen;  // ỹ, for products in bfloat16, or
    Scratch<float> wide_seen;            // for those in float32
    Scratch<double> squares;             // ‖x − origin‖²
    Scratch<float> reach;                // upper bound on ‖x − P ỹ‖ by what is looked at first
    Scratch<float> full_reach;           // and by all
    Scratch<double> slack;               // what rounding may take from a bound
    Scratch<float> scores;               // ỹ · μ̃ − ½‖μ‖², of some centroids
};

// The nearest centroid found so far.
struct Search::Incumbent {
    std::int32_t label;
    float squared;
    float least;  // no centroid whose bound is smaller can take its place
};

double Search::seen_rounding() const { return kernels_.tile_product_bf16 ? bfloat_rounding : 0.0; }

void Search::load(Block& block, const Matrix& x, const float* scale, const Sketched& sketched) const {
    const KMeansKernels& k = kernels_;
    const std::int64_t rows = tiles_of_block * k.tile_rows, n = block.end - block.begin;
    load_block(k, x, scale, origin_.data(), block.begin, block.end, rows, block.exact.get());
    const bool narrow = k.tile_product_bf16 != nullptr;
    if (narrow) {
        std::fill_n(block.narrow_seen.get(), rows * block.seen_stride, std::uint16_t{0});
    } else {
        std::fill_n(block.wide_seen.get(), rows * block.seen_stride, 0.0f);
    }
    for (std::int64_t r = 0; r < n; ++r) {
        const float* exact = block.exact.get() + r * block.stride;
        const double squares = k.sum_squares(exact, Dtype::f32, d_), length = std::sqrt(squares);
        double reach = seen_rounding() * length, full_reach = reach, rounding = 2.0 * seen_rounding();
        if (sketch_) {
            const std::uint16_t* seen = sketched.values + (block.begin + r) * sketch_->width();
            if (narrow) {
                std::copy_n(seen, width_, block.narrow_seen.get() + r * block.seen_stride);
            } else {
                k.load_row(seen, Dtype::bf16, width_, 1.0f, nullptr, block.wide_seen.get() + r * block.seen_stride);
            }
            // What the directions beyond the first few hold belongs to the residual as well.
            const double unseen =
                std::sqrt(k.sum_squares(seen + width_, Dtype::bf16, rest_)) + bfloat_rounding * length;
            full_reach = sketched.residual[block.begin + r];
            reach = std::sqrt(full_reach * full_reach + unseen * unseen);
            rounding = 2.0 * bfloat_rounding + 6.0 * sketch_->skew() + 3.0 * sketch_->product_error();
        } else if (narrow) {
            std::uint16_t* seen = block.narrow_seen.get() + r * block.seen_stride;
            for (std::int64_t d = 0; d < d_; ++d) seen[d] = to_bfloat(exact[d]);
        } else {
            std::copy_n(exact, d_, block.wide_seen.get() + r * block.seen_stride);
        }
        block.squares.get()[r] = squares;
        block.reach.get()[r] = just_above(reach);
        block.full_reach.get()[r] = just_above(full_reach);
        // Rounding of both factors to bfloat16, of the product's sum, of ½‖μ‖², and of the bound itself.
        // Rounding of both factors and of their product's sum; of ½‖μ‖² and of the bound itself.
        rounding = 1.05 * rounding + 2.0 * static_cast<double>(width_ + rest_ + 8) * float_rounding;
        block.slack.get()[r] = rounding * length * longest_ + 8.0 * float_rounding * (squares + longest_ * longest_) +
                               underflow * static_cast<double>(d_) * (1.0 + length + longest_);
    }
}

void Search::bounds(Block& block, std::int64_t first_panel, std::int64_t panels) const {
    const KMeansKernels& k = kernels_;
    const std::int64_t tiles = (block.end - block.begin + k.tile_rows - 1) / k.tile_rows;
    for (std::int64_t p = first_panel; p < first_panel + panels; ++p) {
        const float* offset = offsets_.data() + p * panel_cols_;
        const std::int64_t panel = p * panel_cols_ * width_;
        for (std::int64_t tile = 0; tile < tiles; ++tile) {
            const std::int64_t row = tile * k.tile_rows;
            float* out = block.scores.get() + row * block.columns + (p - first_panel) * panel_cols_;
            if (k.tile_product_bf16) {
                k.tile_product_bf16(block.narrow_seen.get() + row * block.seen_stride, block.seen_stride, width_,
                                    bf16_panels_.data() + panel, offset, out, block.columns);
            } else {
                k.tile_product(block.wide_seen.get() + row * block.seen_stride, block.seen_stride, width_,
                               panels_.data() + panel, offset, out, block.columns);
            }
        }
    }
}

void Search::look_further(const Sketched& sketched, std::int64_t row, std::int64_t first, const std::int32_t* index,
                          std::int64_t n, float* rest, float* products) const {
    const std::uint16_t* seen = sketched.values + row * sketch_->width() + width_;
    if (kernels_.dots_bf16) {
        kernels_.dots_bf16(seen, bf16_rests_.data() + first * rest_, rest_, rest_, index, n, products);
    } else {
        kernels_.load_row(seen, Dtype::bf16, rest_, 1.0f, nullptr, rest);
        kernels_.dots(rest, rests_.data() + first * rest_, rest_, rest_, index, n, products);
    }
}

double Search::least(const Block& block, std::int64_t row, const Incumbent& incumbent) const {
    const double at_most = (1.0 + 2.0 * distance_rounding) * static_cast<double>(incumbent.squared);
    return 0.5 * (block.squares.get()[row] - at_most) - block.slack.get()[row];
}

void Search::prefetch(std::int64_t centroid) const {
    const char* row = reinterpret_cast<const char*>(centred_.data() + centroid * padded(d_));
    for (std::int64_t at = 0; at < 4 * d_; at += 64) __builtin_prefetch(row + at);
}

void Search::try_centroid(const Block& block, std::int64_t row, std::int32_t centroid, Incumbent& incumbent) const {
    const float squared = static_cast<float>(
        kernels_.squared_distance(block.exact.get() + row * block.stride, centred_.data() + centroid * padded(d_), d_));
    if (squared < incumbent.squared || (squared == incumbent.squared && centroid < incumbent.label)) {
        incumbent.label = centroid;
        incumbent.squared = squared;
        incumbent.least = static_cast<float>(least(block, row, incumbent));
    }
}

void Search::nearest(const Matrix& x, const float* scale, const Sketched& sketched, const std::int32_t* hints,
                     const float* within, std::int32_t* labels, float* squared, const Poll& poll) const {
    const KMeansKernels& k = kernels_;
    const std::int64_t rows = tiles_of_block * k.tile_rows;
    const std::int64_t chunk =
        std::clamp<std::int64_t>(score_bytes / (4 * rows * panel_cols_), 1, n_panels_) * panel_cols_;

    const auto search_block = [&](Block& block, std::int64_t begin, std::int64_t end) {
        block.begin = begin;
        block.end = end;
        load(block, x, scale, sketched);
        const Scratch<float> listed_bounds(chunk + row_padding), rest(padded(rest_) + row_padding), products(chunk);
        const Scratch<std::int32_t> listed(chunk + row_padding);
        std::vector<Incumbent> incumbents(static_cast<std::size_t>(end - begin));
        for (std::int64_t i = begin; i < end; ++i) {
            Incumbent& incumbent = incumbents[static_cast<std::size_t>(i - begin)];
            if (within) {
                incumbent = {-1, within[i], -infinity};
                incumbent.least = static_cast<float>(least(block, i - begin, incumbent));
            } else {
                incumbent = {std::numeric_limits<std::int32_t>::max(), infinity, -infinity};
            }
            if (hints && i + 1 < end) prefetch(hints[i + 1]);
            if (hints) try_centroid(block, i - begin, hints[i], incumbent);
        }
        for (std::int64_t first = 0; first < k_; first += chunk) {
            const std::int64_t count = std::min(chunk, k_ - first);
            bounds(block, first / panel_cols_, (count + panel_cols_ - 1) / panel_cols_);
            for (std::int64_t row = 0; row < end - begin; ++row) {
                Incumbent& incumbent = incumbents[static_cast<std::size_t>(row)];
                const float* scores = block.scores.get() + row * chunk;
                const std::int32_t offset = static_cast<std::int32_t>(first);
                const float reach = block.reach.get()[row], full_reach = block.full_reach.get()[row];
                if (!(block.squares.get()[row] + longest_ * longest_ < too_large)) {
                    for (std::int32_t j = 0; j < count; ++j) try_centroid(block, row, offset + j, incumbent);
                    continue;
                }
                std::int64_t tried = hints ? hints[begin + row] - first : -1;
                if (!hints) {  // a good one first, so that few are listed
                    tried = k.largest(scores, count);
                    if (scores[tried] + reach * reach_[static_cast<std::size_t>(first + tried)] >= incumbent.least) {
                        try_centroid(block, row, offset + static_cast<std::int32_t>(tried), incumbent);
                    }
                }
                std::int32_t* index = listed.get();
                float* bound = listed_bounds.get();
                std::int64_t n = k.reaching(scores, reach_.data() + first, count, reach, incumbent.least, index, bound);
                if (n > 1 && rest_ > 0) {
                    look_further(sketched, begin + row, first, index, n, rest.get(), products.get());
                    for (std::int64_t i = 0; i < n; ++i) {
                        const std::size_t j = static_cast<std::size_t>(first + index[i]);
                        bound[i] = scores[index[i]] + products.get()[i] + full_reach * full_reach_[j];
                    }
                }
                // Best bound first; the next one's centroid is on its way while one is tried.
                std::int64_t best = n > 0 ? k.largest(bound, n) : 0;
                while (n > 0 && bound[best] >= incumbent.least) {
                    const std::int32_t next = index[best];
                    --n;
                    index[best] = index[n];
                    bound[best] = bound[n];
                    if (n > 0) {
                        best = k.largest(bound, n);
                        if (bound[best] >= incumbent.least) prefetch(offset + index[best]);
                    }
                    if (next != tried) try_centroid(block, row, offset + next, incumbent);
                }
            }
        }
        for (std::int64_t i = begin; i < end; ++i) {
            labels[i] = incumbents[static_cast<std::size_t>(i - begin)].label;
            squared[i] = incumbents[static_cast<std::size_t>(i - begin)].squared;
        }
    };
    // Several blocks in the same memory: clearing new pages for each would take a tenth of the time.
    const auto search = [&](std::int64_t begin, std::int64_t end) {
        Block block(rows, d_, width_, chunk, k.tile_product_bf16 != nullptr);
        for (std::int64_t at = begin; at < end; at += rows) search_block(block, at, std::min(end, at + rows));
    };
    parallel_ranges(x.rows, blocks_of_task * rows, search, poll);
}

}  // namespace ccma
