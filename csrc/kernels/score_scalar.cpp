// The plain loops: what the vector kernels are held against, and what runs where there are none.
#include <algorithm>
#include <cmath>
#include <limits>

#include "tables.hpp"
#include "widen_scalar.hpp"

namespace ccma {
namespace {

std::int64_t load_logits(const void* rows, Dtype dtype, std::int64_t n, std::int64_t count, float* z, float* maximum,
                         float* second) {
    constexpr float infinity = std::numeric_limits<float>::infinity();
    for (std::int64_t r = 0; r < count; ++r) {
        float first = -infinity, next = first;
        bool finite = true;
        float* out = z + r * padded(n);
        for (std::int64_t c = 0; c < n; ++c) {
            const float value = widen(rows, dtype, r * n + c);
            finite = finite && std::isfinite(value);
            next = std::max(next, std::min(first, value));
            first = std::max(first, value);
            out[c] = value;
        }
        if (!finite) return r;
        std::fill(out + n, out + padded(n), -infinity);
        maximum[r] = first;
        if (second) second[r] = next;
    }
    return -1;
}

void exp_sums(const float* z, std::int64_t n, std::int64_t count, const float* maximum, double* sum, double* log_sum,
              double* weighted, const void*) {
    for (std::int64_t r = 0; r < count; ++r) {
        double total = 0.0, weighted_total = 0.0;
        for (std::int64_t c = 0; c < n; ++c) {
            const float below = maximum[r] - z[r * padded(n) + c];
            const float e = std::exp(-below);
            total += e;
            if (e > 0.0f) weighted_total += static_cast<double>(e) * below;  // 0 · inf = 0
        }
        sum[r] = total;
        log_sum[r] = std::log(total);
        if (weighted) weighted[r] = weighted_total;
    }
}

void exp_row(const float* z, std::int64_t n, float maximum, double* out) {
    for (std::int64_t c = 0; c < n; ++c) out[c] = std::exp(static_cast<double>(z[c]) - maximum);
}

std::uint32_t cuts(const float*, const double*, const double*, float*) { return (1u << score_tile) - 1u; }

void margins(const float* maximum, const float* second, const double* sum, float* margin) {
    for (std::int64_t r = 0; r < score_tile; ++r) {
        const double ahead = -std::expm1(static_cast<double>(second[r]) - maximum[r]);
        margin[r] = static_cast<float>(ahead / sum[r]);
    }
}

std::int64_t find(const float* z, std::int64_t, float value) {
    std::int64_t c = 0;
    while (z[c] != value) ++c;
    return c;
}

std::int64_t union_pairs(const float* s, const float* t, std::int64_t n, float cut_s, float cut_t, float* out_s,
                         float* out_t, std::int32_t* counts, AboveCuts* above) {
    std::int64_t m = 0;
    counts[0] = counts[1] = counts[2] = 0;
    if (above) above->student = above->teacher = 0;
    for (std::int64_t c = 0; c < n; ++c) {
        const bool in_s = s[c] >= cut_s, in_t = t[c] >= cut_t;
        counts[0] += in_s;
        counts[1] += in_t;
        counts[2] += in_s && in_t;
        if (above) {
            above->student += s[c] >= above->cut_student;
            above->teacher += t[c] >= above->cut_teacher;
        }
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

void js_tile(float* s, float* t, const std::int64_t* sizes, const float* maximum_s, const float* maximum_t,
             double* out) {
    for (std::int64_t r = 0; r < score_tile; ++r) {
        out[r] = js(s + r * most_lane_pairs, t + r * most_lane_pairs, sizes[r], maximum_s[r], maximum_t[r]);
    }
}

void softmax_residuals(float* z, std::int64_t stride, std::int64_t n, const float* t, const float* weights, float* out,
                       std::int64_t out_stride, double* losses) {
    for (std::int64_t r = 0; r < score_tile; ++r) {
        float* column = z + r;
        float top = column[0];
        for (std::int64_t c = 1; c < n; ++c) top = std::max(top, column[c * stride]);
        double sum = 0.0, of_target = 0.0;
        for (std::int64_t c = 0; c < n; ++c) {
            if (t) of_target += static_cast<double>(t[c * score_tile + r]) * column[c * stride];
            sum += column[c * stride] = std::exp(column[c * stride] - top);
        }
        for (std::int64_t c = 0; c < n; ++c) {
            const float p = column[c * stride] / static_cast<float>(sum);
            out[c * out_stride + r] = weights[r] * (t ? p - t[c * score_tile + r] : p);
        }
        losses[r] = weights[r] * (top + std::log(sum) - of_target);
    }
}

void tempered(const double* s, std::int64_t stride, std::int64_t n, double beta, double* mean, double* variance) {
    for (std::int64_t r = 0; r < tempered_tile; ++r) {
        double sum = 0.0, first = 0.0, second = 0.0;
        for (std::int64_t c = 0; c < n; ++c) {
            const double value = s[c * stride + r], e = std::exp(beta * value);
            sum += e;
            first += e * value;
            second += e * value * value;
        }
        mean[r] = first / sum;
        variance[r] = second / sum - mean[r] * mean[r];
    }
}

}  // namespace

const ScoreKernels score_scalar{load_logits, exp_sums, exp_row,           cuts,    margins, find, union_pairs,
                                js,          js_tile,  softmax_residuals, tempered};

}  // namespace ccma
