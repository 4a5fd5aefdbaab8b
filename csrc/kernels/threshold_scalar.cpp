#include "tables.hpp"

namespace ccma {
namespace {

void count_at_least(const float* z, std::int64_t n, float low, float high, std::int64_t* counts) {
    counts[0] = counts[1] = 0;
    for (std::int64_t c = 0; c < n; ++c) {
        counts[0] += z[c] >= low;
        counts[1] += z[c] >= high;
    }
}

std::int64_t between(const float* z, std::int64_t n, float low, float high, float* out) {
    std::int64_t m = 0;
    for (std::int64_t c = 0; c < n; ++c) {
        if (z[c] >= low && z[c] < high) out[m++] = z[c];
    }
    return m;
}

}  // namespace

const ThresholdKernels threshold_scalar{count_at_least, between};

}  // namespace ccma
