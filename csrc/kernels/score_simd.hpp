// The score kernels over Vec. Included once by each instruction set's file.
#pragma once

#include "tables.hpp"
#include "vec.hpp"

namespace {

using ccma::Dtype;
using ccma::padded;

constexpr float infinity = __builtin_inff();

constexpr std::int64_t tile = ccma::score_tile;
constexpr Vec::Mask all_lanes = (1u << Vec::width) - 1u;

template <Dtype dtype>
Vec load_tail(const void* row, std::int64_t c, std::int64_t n, float fill) {
    if constexpr (dtype == Dtype::f32) return load_first(static_cast<const float*>(row) + c, n - c, fill);
    return load_stored_tail<dtype>(row, c, n, fill);
}

template <Dtype dtype, bool with_second>
bool load_row(const void* row, std::int64_t n, float* z, float* maximum, float* second) {
    Vec largest = Vec::set(-infinity), next = largest, zero = Vec::set(0.0f);
    const auto take = [&](Vec value, std::int64_t c) {
        value.store(z + c);
        if (with_second) next = max(next, min(largest, value));
        largest = max(largest, value);
    };
    std::int64_t c = 0;
    for (; c + Vec::width <= n; c += Vec::width) {
        const Vec value = load_stored<dtype>(row, c);
        zero = fma(value, Vec::set(0.0f), zero);  // NaN once anything is not finite
        take(value, c);
    }
    if (c < n) {
        zero = fma(load_tail<dtype>(row, c, n, 0.0f), Vec::set(0.0f), zero);
        take(load_tail<dtype>(row, c, n, -infinity), c);
        c += Vec::width;
    }
    for (; c < padded(n); c += Vec::width) Vec::set(-infinity).store(z + c);
    if (with_second) {
        two_largest_lanes(largest, next, maximum, second);
    } else {
        *maximum = largest_lane(largest);
    }
    return equal(zero, Vec::set(0.0f)) == all_lanes;
}

template <Dtype dtype>
std::int64_t load_logits_as(const void* rows, std::int64_t n, std::int64_t count, float* z, float* maximum,
                            float* second) {
    const std::int64_t row_bytes = n * static_cast<std::int64_t>(ccma::item_size(dtype)), stride = padded(n);
    for (std::int64_t r = 0; r < count; ++r) {
        const void* row = static_cast<const char*>(rows) + r * row_bytes;
        const bool finite = second ? load_row<dtype, true>(row, n, z + r * stride, maximum + r, second + r)
                                   : load_row<dtype, false>(row, n, z + r * stride, maximum + r, nullptr);
        if (!finite) return r;
    }
    return -1;
}

std::int64_t load_logits(const void* rows, Dtype dtype, std::int64_t n, std::int64_t count, float* z, float* maximum,
                         float* second) {
    return of_stored(dtype,
                     [&](auto of) { return load_logits_as<decltype(of)::dtype>(rows, n, count, z, maximum, second); });
}

// Values summed in float32 before they join a sum in double.
constexpr std::int64_t stretch = 8 * Vec::width;

template <bool with_weighted>
double exp_sum(const float* z, std::int64_t n, float maximum, double* weighted, const char* next) {
    DoubleSum sum, weighted_sum;
    const Vec top = Vec::set(maximum), least = Vec::set(exp_floor);
    for (std::int64_t begin = 0; begin < n; begin += stretch) {
        const std::int64_t end = begin + stretch < n ? begin + stretch : n;
        Vec part = Vec::set(0.0f), weighted_part = part;
        for (std::int64_t c = begin; c < end; c += Vec::width) {
            __builtin_prefetch(next + c * 4, 0, 3);
            const Vec x = max(Vec::load(z + c) - top, least);
            const Vec e = exp_nonpositive(x);
            part = part + e;
            if (with_weighted) weighted_part = fma(e, x, weighted_part);
        }
        sum.add(part);
        if (with_weighted) weighted_sum.add(weighted_part);
    }
    if (with_weighted) *weighted = -weighted_sum.total();
    return sum.total();
}

void log_sums(const double* sum, double* log_sum) {
    for (std::int64_t r = 0; r < tile; r += DoubleVec::width) log(DoubleVec::load(sum + r)).store(log_sum + r);
}

void exp_sums(const float* z, std::int64_t n, std::int64_t count, const float* maximum, double* sum, double* log_sum,
              double* weighted, const void* next) {
    const char* ahead = static_cast<const char*>(next);
    const std::int64_t stride = padded(n);
    for (std::int64_t r = 0; r < count; ++r) {
        const float* row = z + r * stride;
        sum[r] = weighted ? exp_sum<true>(row, n, maximum[r], weighted + r, ahead + r * n * 4)
                          : exp_sum<false>(row, n, maximum[r], nullptr, ahead + r * n * 4);
    }
    for (std::int64_t r = count; r < tile; ++r) sum[r] = 1.0;
    log_sums(sum, log_sum);
}

void exp_row(const float* z, std::int64_t n, float maximum, double* out) {
    const DoubleVec top = DoubleVec::set(maximum), least = DoubleVec::set(double_exp_floor);
    for (std::int64_t c = 0; c < n; c += DoubleVec::width) {
        exp_nonpositive(max(DoubleVec::load_float(z + c) - top, least)).store(out + c);
    }
}

std::uint32_t cuts(const float* maximum, const double* log_sum, const double* q, float* cut) {
    constexpr float largest_float = 3.402823466e38f;
    // The estimate, rounded to float, is off by one at most, unless it is so near zero that floats lie denser there
    // than the doubles of the score.
    constexpr float least_size = 1e-30f;
    float at[tile], below[tile], above[tile];
    std::uint32_t some = 0, everything = 0;
    for (std::int64_t r = 0; r < tile; r += DoubleVec::width) {
        const DoubleVec log_r = DoubleVec::load(log_sum + r), limit = DoubleVec::load(q + r);
        const DoubleVec estimate = DoubleVec::load_float(maximum + r) + (log_r - limit);
        estimate.store_float(at + r);
        some |= at_most(log_r, limit) << r;
        everything |= at_most(estimate, DoubleVec::set(-largest_float)) << r;
    }
    // Plain arithmetic without branches, which the compiler turns into vectors.
    for (std::int64_t r = 0; r < tile; ++r) {
        std::int32_t bits;
        __builtin_memcpy(&bits, at + r, sizeof bits);
        // Bits of a float count up away from zero.
        const std::int32_t up = bits >= 0 ? 1 : -1, lower = bits - up, upper = bits + up;
        __builtin_memcpy(below + r, &lower, sizeof lower);
        __builtin_memcpy(above + r, &upper, sizeof upper);
    }
    std::uint32_t in_at = 0, in_below = 0, in_above = 0;
    for (std::int64_t r = 0; r < tile; r += DoubleVec::width) {
        const DoubleVec top = DoubleVec::load_float(maximum + r), log_r = DoubleVec::load(log_sum + r);
        const DoubleVec limit = DoubleVec::load(q + r);
        const auto admitted = [&](const float* z) {
            return at_most(log_r + (top - DoubleVec::load_float(z + r)), limit) << r;
        };
        in_at |= admitted(at);
        in_below |= admitted(below);
        in_above |= admitted(above);
    }
    std::uint32_t sized = 0;
    for (std::int64_t r = 0; r < tile; r += Vec::width) {
        const Vec estimate = Vec::load(at + r), size = max(estimate, Vec::set(0.0f) - estimate);
        sized |= at_least(size, Vec::set(least_size)) << r;
        Vec found = select(lanes_of(in_at >> r), estimate, Vec::load(above + r));
        found = select(lanes_of(everything >> r), Vec::set(-largest_float), found);
        select(lanes_of(some >> r), found, Vec::set(infinity)).store(cut + r);
    }
    const std::uint32_t sure = ((in_at & ~in_below) | (~in_at & in_above)) & sized;
    return some & ~everything & ~sure;
}

void margins(const float* maximum, const float* second, const double* sum, float* margin) {
    float ahead[tile];
    for (std::int64_t r = 0; r < tile; r += Vec::width) {
        one_minus_exp(max(Vec::load(second + r) - Vec::load(maximum + r), Vec::set(exp_floor))).store(ahead + r);
    }
    for (std::int64_t r = 0; r < tile; r += DoubleVec::width) {
        (DoubleVec::load_float(ahead + r) / DoubleVec::load(sum + r)).store_float(margin + r);
    }
}

std::int64_t find(const float* z, std::int64_t, float value) {
    const Vec wanted = Vec::set(value);
    // Rows are padded to a multiple of two vectors at least: fewer exits to mispredict.
    for (std::int64_t c = 0;; c += 2 * Vec::width) {
        const std::uint64_t low = equal(Vec::load(z + c), wanted), high = equal(Vec::load(z + c + Vec::width), wanted);
        const std::uint64_t hit = low | high << Vec::width;
        if (hit) return c + __builtin_ctzll(hit);
    }
}

template <bool with_above>
std::int64_t pairs_of(const float* s, const float* t, std::int64_t n, float cut_s, float cut_t, float* out_s,
                      float* out_t, std::int32_t* counts, ccma::AboveCuts* above) {
    const Vec above_s = Vec::set(with_above ? above->cut_student : 0.0f);
    const Vec above_t = Vec::set(with_above ? above->cut_teacher : 0.0f);
    std::int32_t count_above_s = 0, count_above_t = 0;
    const Vec low_s = Vec::set(cut_s), low_t = Vec::set(cut_t);
    std::int64_t m = 0;
    std::int32_t count_s = 0, count_t = 0, count_both = 0;
    const auto take = [&](std::int64_t c, Vec::Mask in_s, Vec::Mask in_t) {
        const Vec::Mask in_any = in_s | in_t;
        count_s += __builtin_popcount(in_s);
        count_t += __builtin_popcount(in_t);
        count_both += __builtin_popcount(in_s & in_t);
        const Vec of_s = Vec::load(s + c), of_t = Vec::load(t + c);
        if (with_above) {
            count_above_s += __builtin_popcount(at_least(of_s, above_s));
            count_above_t += __builtin_popcount(at_least(of_t, above_t));
        }
        of_s.compress(in_any, out_s + m);
        of_t.compress(in_any, out_t + m);
        m += __builtin_popcount(in_any);
    };
    // Which vectors hold a member cannot be foreseen: a branch on it would cost more than the rest. So the vectors that
    // do are listed first, some at a time.
    constexpr std::int64_t listed = 64;
    std::int64_t place[listed];
    Vec::Mask masks_s[listed], masks_t[listed];
    for (std::int64_t begin = 0; begin < n; begin += listed * Vec::width) {
        const std::int64_t end = begin + listed * Vec::width < n ? begin + listed * Vec::width : n;
        std::int64_t hits = 0;
        for (std::int64_t c = begin; c < end; c += Vec::width) {
            const Vec::Mask in_s = at_least(Vec::load(s + c), low_s), in_t = at_least(Vec::load(t + c), low_t);
            place[hits] = c;
            masks_s[hits] = in_s;
            masks_t[hits] = in_t;
            hits += (in_s | in_t) != 0;
        }
        for (std::int64_t h = 0; h < hits; ++h) take(place[h], masks_s[h], masks_t[h]);
    }
    counts[0] = count_s;
    counts[1] = count_t;
    counts[2] = count_both;
    if (with_above) {
        above->student = count_above_s;
        above->teacher = count_above_t;
    }
    return m;
}

std::int64_t union_pairs(const float* s, const float* t, std::int64_t n, float cut_s, float cut_t, float* out_s,
                         float* out_t, std::int32_t* counts, ccma::AboveCuts* above) {
    return above ? pairs_of<true>(s, t, n, cut_s, cut_t, out_s, out_t, counts, above)
                 : pairs_of<false>(s, t, n, cut_s, cut_t, out_s, out_t, counts, nullptr);
}

Vec load_padded(const float* p, std::int64_t c, std::int64_t n, float fill) {
    return c + Vec::width <= n ? Vec::load(p + c) : load_first(p + c, n - c, fill);
}

// No exponential of which a divergence is made is smaller than that of this: probabilities stay among the normal
// numbers, with which the processor is a hundred times faster, and what the floor touches weighs nothing.
constexpr float pair_floor = -64.0f;

// Twice the terms of the divergence of pairs of probabilities, added to their sum. The floors do the same for the
// quotient and the logarithm.
inline __attribute__((always_inline)) void add_divergence(DoubleSum& sum, Vec p, Vec q) {
    const Vec least_ratio = Vec::set(1e-37f);
    const Vec over_mean = Vec::set(2.0f) / max(p + q, Vec::set(1e-30f));
    sum.add(fma(p, log(max(p * over_mean, least_ratio)), q * log(max(q * over_mean, least_ratio))));
}

double half_of_positive(double twice) { return twice > 0.0 ? 0.5 * twice : 0.0; }

double js(float* s, float* t, std::int64_t n, float maximum_s, float maximum_t) {
    DoubleSum sum_s, sum_t, twice;
    const Vec top_s = Vec::set(maximum_s), top_t = Vec::set(maximum_t), least = Vec::set(pair_floor);
    for (std::int64_t c = 0; c < n; c += Vec::width) {
        const Vec e_s = exp_nonpositive(max(load_padded(s, c, n, -infinity) - top_s, least));
        const Vec e_t = exp_nonpositive(max(load_padded(t, c, n, -infinity) - top_t, least));
        e_s.store(s + c);
        e_t.store(t + c);
        sum_s.add(e_s);
        sum_t.add(e_t);
    }
    const Vec inverse_s = Vec::set(static_cast<float>(1.0 / sum_s.total()));
    const Vec inverse_t = Vec::set(static_cast<float>(1.0 / sum_t.total()));
    for (std::int64_t c = 0; c < n; c += Vec::width) {
        add_divergence(twice, Vec::load(s + c) * inverse_s, Vec::load(t + c) * inverse_t);
    }
    return half_of_positive(twice.total());
}

// A row a lane: no sums across lanes, for which a row would have to wait.
void js_tile(float* s, float* t, const std::int64_t* sizes, const float* maximum_s, const float* maximum_t,
             double* out) {
    constexpr std::int64_t pairs = ccma::most_lane_pairs;
    std::int64_t steps = 0;
    for (std::int64_t r = 0; r < tile; ++r) steps = sizes[r] > steps ? sizes[r] : steps;
    const Vec least = Vec::set(pair_floor);
    for (std::int64_t r = 0; r < tile; r += Vec::width) {
        const Vec top_s = Vec::load(maximum_s + r), top_t = Vec::load(maximum_t + r);
        float *of_s = s + r * pairs, *of_t = t + r * pairs;
        float e_s[pairs * Vec::width], e_t[pairs * Vec::width];
        DoubleSum sum_s, sum_t, twice;
        for (std::int64_t j = 0; j < steps; ++j) {
            const Vec x_s = exp_nonpositive(max(gather<pairs>(of_s + j) - top_s, least));
            const Vec x_t = exp_nonpositive(max(gather<pairs>(of_t + j) - top_t, least));
            x_s.store(e_s + j * Vec::width);
            x_t.store(e_t + j * Vec::width);
            sum_s.add(x_s);
            sum_t.add(x_t);
        }
        const Vec inverse_s = sum_s.inverse(), inverse_t = sum_t.inverse();
        for (std::int64_t j = 0; j < steps; ++j) {
            add_divergence(twice, Vec::load(e_s + j * Vec::width) * inverse_s,
                           Vec::load(e_t + j * Vec::width) * inverse_t);
        }
        double lanes[Vec::width];
        twice.store(lanes);
        for (std::int64_t l = 0; l < Vec::width; ++l) out[r + l] = half_of_positive(lanes[l]);
    }
}

// A column a lane.
template <bool has_targets>
void softmax_residuals_of(float* z, std::int64_t stride, std::int64_t n, const float* t, const float* weights,
                          float* out, std::int64_t out_stride, double* losses) {
    constexpr std::int64_t summed = 8;  // values in float32 before they join a sum in double
    const Vec least = Vec::set(exp_floor);
    double sum[tile], of_target[tile];
    float maximum[tile];
    for (std::int64_t r = 0; r < tile; r += Vec::width) {
        Vec top = Vec::load(z + r);
        for (std::int64_t c = 1; c < n; ++c) top = max(top, Vec::load(z + c * stride + r));
        DoubleSum total, products;
        for (std::int64_t begin = 0; begin < n; begin += summed) {
            const std::int64_t end = begin + summed < n ? begin + summed : n;
            Vec part = Vec::set(0.0f);
            for (std::int64_t c = begin; c < end; ++c) {
                const Vec logit = Vec::load(z + c * stride + r);
                if constexpr (has_targets) products.add_product(Vec::load(t + c * tile + r), logit);
                const Vec e = exp_nonpositive(max(logit - top, least));
                e.store(z + c * stride + r);
                part = part + e;
            }
            total.add(part);
        }
        top.store(maximum + r);
        total.store(sum + r);
        products.store(of_target + r);
        const Vec inverse = total.inverse(), weight = Vec::load(weights + r);
        for (std::int64_t c = 0; c < n; ++c) {
            Vec p = Vec::load(z + c * stride + r) * inverse;
            if constexpr (has_targets) p = p - Vec::load(t + c * tile + r);
            (weight * p).store(out + c * out_stride + r);
        }
    }
    log_sums(sum, losses);
    for (std::int64_t r = 0; r < tile; ++r) losses[r] = weights[r] * (maximum[r] + losses[r] - of_target[r]);
}

void softmax_residuals(float* z, std::int64_t stride, std::int64_t n, const float* t, const float* weights, float* out,
                       std::int64_t out_stride, double* losses) {
    if (t) return softmax_residuals_of<true>(z, stride, n, t, weights, out, out_stride, losses);
    return softmax_residuals_of<false>(z, stride, n, t, weights, out, out_stride, losses);
}

void tempered(const double* s, std::int64_t stride, std::int64_t n, double beta, double* mean, double* variance) {
    const DoubleVec factor = DoubleVec::set(beta), least = DoubleVec::set(double_exp_floor);
    for (std::int64_t r = 0; r < ccma::tempered_tile; r += DoubleVec::width) {
        DoubleVec sum = DoubleVec::set(0.0), first = sum, second = sum;
        for (std::int64_t c = 0; c < n; ++c) {
            const DoubleVec value = DoubleVec::load(s + c * stride + r);
            const DoubleVec e = exp_nonpositive(max(factor * value, least)), product = e * value;
            sum = sum + e;
            first = first + product;
            second = fma(product, value, second);
        }
        const DoubleVec of_column = first / sum;
        of_column.store(mean + r);
        (second / sum - of_column * of_column).store(variance + r);
    }
}

constexpr ccma::ScoreKernels score_kernels{
    load_logits, exp_sums, exp_row, cuts, margins, find, union_pairs, js, js_tile, softmax_residuals, tempered};

}  // namespace
