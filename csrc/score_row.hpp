// The score of a class, defined once for sets and thresholds.
#pragma once

#include <algorithm>
#include <atomic>
#include <cfloat>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "ccma/kernels.hpp"

namespace ccma {

// Rows of a chunk: enough to hide the cost of handing chunks out, few enough to stop within milliseconds.
inline std::int64_t chunk_rows(std::int64_t cols) {
    return std::max<std::int64_t>(1, 65536 / std::max<std::int64_t>(cols, 1));
}

// The smallest index that any thread reports.
class FirstIndex {
  public:
    void report(std::int64_t index) {
        std::int64_t seen = first_.load();
        while (index < seen && !first_.compare_exchange_weak(seen, index)) {
        }
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

// One row of logits in scratch memory, with its maximum and ln Σ exp(z − maximum).
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

}  // namespace ccma
