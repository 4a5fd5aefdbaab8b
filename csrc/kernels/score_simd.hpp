// The score kernels over Vec. Included once by each instruction set's file.
#pragma once

#include "tables.hpp"
#include "vec.hpp"

namespace {

using ccma::Dtype;
using ccma::padded;

constexpr float infinity = __builtin_inff();

template <Dtype dtype>
bool load_logits_as(const void* row, std::int64_t n, float* out, float* maximum) {
    Vec largest = Vec::set(-infinity), zero = Vec::set(0.0f);
    std::int64_t c = 0;
    for (; c + Vec::width <= n; c += Vec::width) {
        const Vec value = load_stored<dtype>(row, c);
        value.store(out + c);
        largest = max(largest, value);
        zero = fma(value, Vec::set(0.0f), zero);  // NaN once anything is not finite
    }
    if (c < n) {
        const Vec checked = load_stored_tail<dtype>(row, c, n, 0.0f);
        zero = fma(checked, Vec::set(0.0f), zero);
        const Vec value = load_stored_tail<dtype>(row, c, n, -infinity);
        value.store(out + c);
        largest = max(largest, value);
        c += Vec::width;
    }
    for (; c < padded(n); c += Vec::width) Vec::set(-infinity).store(out + c);
    float lanes[Vec::width];
    largest.store(lanes);
    float top = lanes[0];
    for (std::int64_t j = 1; j < Vec::width; ++j) top = lanes[j] > top ? lanes[j] : top;
    *maximum = top;
    constexpr Vec::Mask all = (1u << Vec::width) - 1u;
    return equal(zero, Vec::set(0.0f)) == all;
}

bool load_logits(const void* row, Dtype dtype, std::int64_t n, float* out, float* maximum) {
    switch (dtype) {
        case Dtype::f16:
            return load_logits_as<Dtype::f16>(row, n, out, maximum);
        case Dtype::bf16:
            return load_logits_as<Dtype::bf16>(row, n, out, maximum);
        default:
            return load_logits_as<Dtype::f32>(row, n, out, maximum);
    }
}

template <bool with_weighted, bool stored>
double exp_sum_as(const float* z, std::int64_t n, float maximum, double* weighted, float* out, const char* next) {
    LongSum sum, weighted_sum;
    const Vec top = Vec::set(maximum), least = Vec::set(exp_floor);
    for (std::int64_t c = 0; c < n; c += Vec::width) {
        __builtin_prefetch(next + c * 4, 0, 3);
        const Vec x = max(Vec::load(z + c) - top, least);
        const Vec e = exp_nonpositive(x);
        sum.add(e);
        if (with_weighted) weighted_sum.add(e * x);
        if (stored) e.store(out + c);
    }
    if (with_weighted) *weighted = -weighted_sum.total();
    return sum.total();
}

double exp_sum(const float* z, std::int64_t n, float maximum, double* weighted, const void* next) {
    const char* ahead = static_cast<const char*>(next);
    return weighted ? exp_sum_as<true, false>(z, n, maximum, weighted, nullptr, ahead)
                    : exp_sum_as<false, false>(z, n, maximum, nullptr, nullptr, ahead);
}

double exp_row(const float* z, std::int64_t n, float maximum, float* out, const void* next) {
    return exp_sum_as<false, true>(z, n, maximum, nullptr, out, static_cast<const char*>(next));
}

std::int64_t find(const float* z, std::int64_t, float value) {
    const Vec wanted = Vec::set(value);
    for (std::int64_t c = 0;; c += Vec::width) {
        const Vec::Mask hit = equal(Vec::load(z + c), wanted);
        if (hit) return c + __builtin_ctz(hit);
    }
}

float second_largest(const float* z, std::int64_t n) {
    Vec first = Vec::set(-infinity), second = first;
    for (std::int64_t c = 0; c < n; c += Vec::width) {
        const Vec value = Vec::load(z + c);
        second = max(second, min(first, value));
        first = max(first, value);
    }
    float firsts[Vec::width], seconds[Vec::width];
    first.store(firsts);
    second.store(seconds);
    float top = firsts[0], next = seconds[0];
    for (std::int64_t j = 1; j < Vec::width; ++j) {
        const float lower = firsts[j] < top ? firsts[j] : top;
        next = lower > next ? lower : next;
        next = seconds[j] > next ? seconds[j] : next;
        top = firsts[j] > top ? firsts[j] : top;
    }
    return next;
}

std::int64_t union_pairs(const float* s, const float* t, std::int64_t n, float cut_s, float cut_t, float* out_s,
                         float* out_t, std::int64_t* counts) {
    const Vec low_s = Vec::set(cut_s), low_t = Vec::set(cut_t);
    std::int64_t m = 0, count_s = 0, count_t = 0, count_both = 0;
    for (std::int64_t c = 0; c < n; c += Vec::width) {
        const Vec value_s = Vec::load(s + c), value_t = Vec::load(t + c);
        const Vec::Mask in_s = at_least(value_s, low_s), in_t = at_least(value_t, low_t), in_any = in_s | in_t;
        if (!in_any) continue;
        count_s += __builtin_popcount(in_s);
        count_t += __builtin_popcount(in_t);
        count_both += __builtin_popcount(in_s & in_t);
        value_s.compress(in_any, out_s + m);
        value_t.compress(in_any, out_t + m);
        m += __builtin_popcount(in_any);
    }
    counts[0] = count_s;
    counts[1] = count_t;
    counts[2] = count_both;
    return m;
}

double js(float* s, float* t, std::int64_t n, float maximum_s, float maximum_t) {
    for (std::int64_t c = n; c < padded(n); ++c) s[c] = t[c] = -infinity;
    LongSum sum_s, sum_t;
    const Vec top_s = Vec::set(maximum_s), top_t = Vec::set(maximum_t), least = Vec::set(exp_floor);
    for (std::int64_t c = 0; c < n; c += Vec::width) {
        const Vec e_s = exp_nonpositive(max(Vec::load(s + c) - top_s, least));
        const Vec e_t = exp_nonpositive(max(Vec::load(t + c) - top_t, least));
        e_s.store(s + c);
        e_t.store(t + c);
        sum_s.add(e_s);
        sum_t.add(e_t);
    }
    const Vec inverse_s = Vec::set(static_cast<float>(1.0 / sum_s.total()));
    const Vec inverse_t = Vec::set(static_cast<float>(1.0 / sum_t.total()));
    // The floors keep the quotient and the logarithm among the normal numbers; what they touch weighs nothing.
    const Vec least_sum = Vec::set(1e-30f), least_ratio = Vec::set(1e-37f);
    LongSum total;
    for (std::int64_t c = 0; c < n; c += Vec::width) {
        const Vec p = Vec::load(s + c) * inverse_s, q = Vec::load(t + c) * inverse_t;
        const Vec over_mean = Vec::set(2.0f) / max(p + q, least_sum);
        total.add(fma(p, log(max(p * over_mean, least_ratio)), q * log(max(q * over_mean, least_ratio))));
    }
    const double twice = total.total();
    return twice > 0.0 ? 0.5 * twice : 0.0;
}

constexpr ccma::ScoreKernels score_kernels{load_logits, exp_sum, exp_row, find, second_largest, union_pairs, js};

}  // namespace
