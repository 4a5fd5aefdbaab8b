// The plain loops: what the vector kernels are held against, and what runs where there are none.
#include <algorithm>
#include <cmath>
#include <limits>

#include "tables.hpp"
#include "widen_scalar.hpp"

namespace ccma {
namespace {

bool load_logits(const void* row, Dtype dtype, std::int64_t n, float* out, float* maximum) {
    float largest = -std::numeric_limits<float>::infinity();
    bool finite = true;
    for (std::int64_t c = 0; c < n; ++c) {
        const float value = widen(row, dtype, c);
        finite = finite && std::isfinite(value);
        largest = value > largest ? value : largest;
        out[c] = value;
    }
    for (std::int64_t c = n; c < padded(n); ++c) out[c] = -std::numeric_limits<float>::infinity();
    *maximum = largest;
    return finite;
}

double exp_sum(const float* z, std::int64_t n, float maximum, double* weighted, const void*) {
    double sum = 0.0, weighted_sum = 0.0;
    for (std::int64_t c = 0; c < n; ++c) {
        const float below = maximum - z[c];
        const float e = std::exp(-below);
        sum += e;
        if (e > 0.0f) weighted_sum += static_cast<double>(e) * below;  // 0 · inf = 0
    }
    if (weighted) *weighted = weighted_sum;
    return sum;
}

double exp_row(const float* z, std::int64_t n, float maximum, float* out, const void*) {
    double sum = 0.0;
    for (std::int64_t c = 0; c < n; ++c) sum += out[c] = std::exp(-(maximum - z[c]));
    return sum;
}

std::int64_t find(const float* z, std::int64_t, float value) {
    std::int64_t c = 0;
    while (z[c] != value) ++c;
    return c;
}

float second_largest(const float* z, std::int64_t n) {
    float first = -std::numeric_limits<float>::infinity(), second = first;
    for (std::int64_t c = 0; c < n; ++c) {
        second = std::max(second, std::min(first, z[c]));
        first = std::max(first, z[c]);
    }
    return second;
}

std::int64_t union_pairs(const float* s, const float* t, std::int64_t n, float cut_s, float cut_t, float* out_s,
                         float* out_t, std::int64_t* counts) {
    std::int64_t m = 0;
    counts[0] = counts[1] = counts[2] = 0;
    for (std::int64_t c = 0; c < n; ++c) {
        const bool in_s = s[c] >= cut_s, in_t = t[c] >= cut_t;
        counts[0] += in_s;
        counts[1] += in_t;
        counts[2] += in_s && in_t;
        if (!in_s && !in_t) continue;
        out_s[m] = s[c];
        out_t[m] = t[c];
        ++m;
    }
    return m;
}

double js(float* s, float* t, std::int64_t n, float maximum_s, float maximum_t) {
    double sum_s = 0.0, sum_t = 0.0;
    for (std::int64_t c = 0; c < n; ++c) {
        s[c] = std::exp(s[c] - maximum_s);
        t[c] = std::exp(t[c] - maximum_t);
        sum_s += s[c];
        sum_t += t[c];
    }
    double total = 0.0;
    for (std::int64_t c = 0; c < n; ++c) {
        const double p = s[c] / sum_s, q = t[c] / sum_t, mean = 0.5 * (p + q);
        if (p > 0.0) total += p * std::log(p / mean);
        if (q > 0.0) total += q * std::log(q / mean);
    }
    return total > 0.0 ? 0.5 * total : 0.0;
}

}  // namespace

const ScoreKernels score_scalar{load_logits, exp_sum, exp_row, find, second_largest, union_pairs, js};

}  // namespace ccma
