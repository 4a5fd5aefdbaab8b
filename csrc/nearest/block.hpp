// What a search knows of a block of rows while it meets the centroids.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>

#include "ccma/kernels.hpp"
#include "ccma/nearest.hpp"
#include "nearest/bytes.hpp"
#include "row_block.hpp"
#include "scratch.hpp"

namespace ccma {

constexpr float infinity = std::numeric_limits<float>::infinity();

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

inline void Search::prefetch(std::int64_t column) const {
    ccma::prefetch(centred_.data() + column * padded(d_), 4 * d_);
}

inline float Search::distance(const float* exact, std::int64_t column) const {
    return static_cast<float>(kernels_.squared_distance(exact, centred_.data() + column * padded(d_), d_));
}

}  // namespace ccma
