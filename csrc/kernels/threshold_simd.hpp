// The threshold kernels over Vec. Included once by each instruction set's file.
#pragma once

#include "tables.hpp"
#include "vec.hpp"

namespace {

// Padding is −inf and every cut is finite, so that padding is never counted.
void count_at_least(const float* z, std::int64_t n, float low, float high, std::int64_t* counts) {
    const Vec least = Vec::set(low), limit = Vec::set(high);
    std::int64_t count_low = 0, count_high = 0;
    for (std::int64_t c = 0; c < n; c += Vec::width) {
        const Vec value = Vec::load(z + c);
        count_low += __builtin_popcount(at_least(value, least));
        count_high += __builtin_popcount(at_least(value, limit));
    }
    counts[0] = count_low;
    counts[1] = count_high;
}

std::int64_t between(const float* z, std::int64_t n, float low, float high, float* out) {
    const Vec least = Vec::set(low), limit = Vec::set(high);
    std::int64_t m = 0;
    for (std::int64_t c = 0; c < n; c += Vec::width) {
        const Vec value = Vec::load(z + c);
        const Vec::Mask inside = at_least(value, least) & ~at_least(value, limit);
        if (!inside) continue;
        value.compress(inside, out + m);
        m += __builtin_popcount(inside);
    }
    return m;
}

constexpr ccma::ThresholdKernels threshold_kernels{count_at_least, between};

}  // namespace
