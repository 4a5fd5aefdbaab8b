// The score of a class, defined once for sets and thresholds.
#pragma once

#include <algorithm>
#include <atomic>
#include <cfloat>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "ccma/kernels.hpp"
#include "scratch.hpp"

namespace ccma {

// Rows of a chunk of a matrix: enough to hide the cost of handing chunks out, few enough to stop within milliseconds
// and for several threads to have some; whole tiles, where rows are not very long.
inline std::int64_t chunk_rows(const Matrix& logits) {
    const std::int64_t most = std::clamp<std::int64_t>((1 << 17) / std::max<std::int64_t>(logits.cols, 1), 1, 1024);
    const std::int64_t wanted = (logits.rows / 8 + score_tile) / score_tile * score_tile;
    return std::min(wanted, most < score_tile ? most : most / score_tile * score_tile);
}

// The smallest index that any thread reports.
class FirstIndex {
  public:
    void report(std::int64_t index) {
        std::int64_t seen = first_.load();
        while (index < seen && !first_.compare_exchange_weak(seen, index)) {
        }
    }
    void report_if(std::int64_t index) {
        if (index >= 0) report(index);
    }
    std::int64_t get() const {
        const std::int64_t first = first_.load();
        return first == INT64_MAX ? -1 : first;
    }

  private:
    std::atomic<std::int64_t> first_{INT64_MAX};
};

// Finite floats as integers in the same order, and back.
inline std::int64_t order_of(float z) {
    std::int32_t bits;
    std::memcpy(&bits, &z, sizeof bits);
    return bits >= 0 ? bits : -static_cast<std::int64_t>(bits & 0x7fffffff);
}

inline float float_of(std::int64_t order) {
    const std::uint32_t bits =
        order >= 0 ? static_cast<std::uint32_t>(order) : 0x80000000u | static_cast<std::uint32_t>(-order);
    float z;
    std::memcpy(&z, &bits, sizeof z);
    return z;
}

// The maximum of a row of logits and ln Σ exp(z − maximum).
struct ScoredRow {
    float maximum = 0.0f;
    double log_normalizer = 0.0;

    double score(float z) const { return log_normalizer + (static_cast<double>(maximum) - z); }

    // The smallest float z with score(z) ≤ q: the conformal set in one comparison of floats. Always finite, so that the
    // padding of a row, −inf, is never admitted; +inf where the set is empty.
    float cut(double q) const {
        if (log_normalizer > q) return HUGE_VALF;
        const double estimate = static_cast<double>(maximum) + (log_normalizer - q);
        if (!(estimate > -static_cast<double>(FLT_MAX))) return -FLT_MAX;
        // The estimate is off by a rounding, a float or two. Near zero floats lie so dense that this can be a billion
        // of them: so the steps double until they straddle the cut, and halve.
        const auto admitted = [&](std::int64_t order) { return score(float_of(order)) <= q; };
        const std::int64_t least = order_of(-FLT_MAX), top = order_of(maximum);
        std::int64_t in, out;  // in is admitted, out is not
        const std::int64_t start = std::min(order_of(static_cast<float>(estimate)), top);
        std::int64_t step = 1;
        if (admitted(start)) {
            in = start;
            for (out = in - 1; out >= least && admitted(out); out = in - step) {
                in = out;
                step *= 2;
            }
            if (out < least) {
                if (admitted(least)) return -FLT_MAX;
                out = least;
            }
        } else {
            out = start;
            for (in = out + 1; in < top && !admitted(in); in = out + step) {
                out = in;
                step *= 2;
            }
            in = std::min(in, top);  // the maximum itself is admitted
        }
        while (in - out > 1) {
            const std::int64_t middle = out + (in - out) / 2;
            (admitted(middle) ? in : out) = middle;
        }
        return float_of(in);
    }
};

// ScoredRow::cut of the first `count` of score_tile rows.
inline void row_cuts(const ScoreKernels& k, const float* maximum, const double* log_sum, const double* q,
                     std::int64_t count, float* cut) {
    const std::uint32_t open = k.cuts(maximum, log_sum, q, cut);
    for (std::int64_t r = 0; r < count; ++r) {
        if (open >> r & 1u) cut[r] = ScoredRow{maximum[r], log_sum[r]}.cut(q[r]);
    }
}

// Some rows of logits in scratch memory and what their scores need. Every step is done for all rows before the next
// one, so that the processor works on several rows at a time instead of waiting for each row's sum, logarithm and cut.
class ScoredTile {
  public:
    explicit ScoredTile(std::int64_t cols)
        : n_(cols), rows_(std::clamp<std::int64_t>(resident / padded(cols), 1, score_tile)), z_(rows_ * padded(cols)) {}

    // How many rows fit.
    std::int64_t rows() const { return rows_; }
    std::int64_t count() const { return count_; }
    const float* z(std::int64_t r) const { return z_.get() + r * padded(n_); }
    float maximum(std::int64_t r) const { return maximum_[r]; }
    double sum(std::int64_t r) const { return sum_[r]; }
    double log_normalizer(std::int64_t r) const { return log_sum_[r]; }
    const float* maxima() const { return maximum_; }
    const double* log_normalizers() const { return log_sum_; }
    ScoredRow row(std::int64_t r) const { return {maximum_[r], log_sum_[r]}; }

    // Σ exp(z − maximum) · (maximum − z) and p_(1) − p_(2), where load was told to look at the whole posterior.
    double weighted(std::int64_t r) const { return weighted_[r]; }
    void margins(const ScoreKernels& k, float* out) const { k.margins(maximum_, second_, sum_, out); }

    // Rows begin to end − 1, no more than fit. Returns the first that is not finite, or −1.
    std::int64_t load(const ScoreKernels& k, const Matrix& logits, std::int64_t begin, std::int64_t end,
                      bool whole_posterior = false) {
        count_ = end - begin;
        const std::int64_t bad = k.load_logits(logits.row(begin), logits.dtype, n_, count_, z_.get(), maximum_,
                                               whole_posterior ? second_ : nullptr);
        if (bad >= 0) return begin + bad;
        k.exp_sums(z_.get(), n_, count_, maximum_, sum_, log_sum_, whole_posterior ? weighted_ : nullptr,
                   logits.row(end));
        return -1;
    }

    // ScoredRow::cut of each row, where row r is that of `begin` + r in the matrix.
    void cuts(const ScoreKernels& k, const Threshold& q, std::int64_t begin, float* cut) const {
        double of_rows[score_tile];
        for (std::int64_t r = 0; r < score_tile; ++r) of_rows[r] = r < count_ ? q.at(begin + r) : 0.0;
        row_cuts(k, maximum_, log_sum_, of_rows, count_, cut);
    }

  private:
    // Values that stay in the processor's nearest cache beside those of a second tile.
    static constexpr std::int64_t resident = 2048;

    std::int64_t n_, rows_, count_ = 0;
    Scratch<float> z_;
    float maximum_[score_tile] = {}, second_[score_tile] = {};
    double sum_[score_tile] = {}, log_sum_[score_tile] = {}, weighted_[score_tile] = {};
};

// of_tile(tile, begin) for tiles of the rows [begin, end). Returns the first row that is not finite, where it stops, or
// −1.
template <class OfTile>
std::int64_t for_each_tile(const ScoreKernels& k, const Matrix& logits, std::int64_t begin, std::int64_t end,
                           const OfTile& of_tile) {
    ScoredTile tile(logits.cols);
    for (; begin < end; begin += tile.rows()) {
        const std::int64_t bad = tile.load(k, logits, begin, std::min(end, begin + tile.rows()));
        if (bad >= 0) return bad;
        of_tile(tile, begin);
    }
    return -1;
}

}  // namespace ccma
