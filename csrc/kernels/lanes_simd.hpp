// The kernels of rows of few classes over Vec, a row a lane: no sums across lanes and no tails of rows. Included once
// by each instruction set's file.
#pragma once

#include "score_simd.hpp"

namespace {

using ccma::LaneScores;
using ccma::LaneTile;

// exp_sum adds up this many classes in float32 in each lane of a vector before it goes on in double: `sum_lanes` does
// so with any number of classes.
static_assert(ccma::most_lane_classes <= stretch);

// The values of `count` rows, float32, with the last row again and again up to a whole tile.
template <Dtype dtype>
const float* whole_tile(const void* rows, std::int64_t n, std::int64_t count, float* scratch) {
    // A vector may reach beyond a row, but not beyond what the caller owns.
    if (dtype == Dtype::f32 && count == tile && n >= Vec::width) return static_cast<const float*>(rows);
    std::int64_t i = 0;
    for (; i + Vec::width <= count * n; i += Vec::width) load_stored<dtype>(rows, i).store(scratch + i);
    if (i < count * n) load_stored_tail<dtype>(rows, i, count * n, 0.0f).store(scratch + i);
    for (i = count * n; i < tile * n; ++i) scratch[i] = scratch[i - n];
    return scratch;
}

void transpose_tile(const float* values, std::int64_t n, float* z) {
    for (std::int64_t c = 0; c < n; c += Vec::width) {
        // The last vector of a row overlaps the one before: nothing beyond the row is read.
        const std::int64_t first = c + Vec::width <= n || n < Vec::width ? c : n - Vec::width;
        for (std::int64_t r = 0; r < tile; r += Vec::width) {
            Vec block[Vec::width];
            for (std::int64_t i = 0; i < Vec::width; ++i) block[i] = Vec::load(values + (r + i) * n + first);
            transpose(block);
            for (std::int64_t j = 0; j < Vec::width; ++j) block[j].store(z + (first + j) * tile + r);
        }
    }
}

// What exp_sum finds, and each exponential. Sums in the order of exp_sum, a row's lanes one after the other, so that
// Σ exp(z − maximum) has the same bits: what a row's padding adds there is less than any rounding.
void sum_lanes(std::int64_t n, LaneTile& lanes, std::int64_t r) {
    const Vec top = Vec::load(lanes.maximum + r), least = Vec::set(exp_floor), furthest = Vec::set(-exp_floor);
    const float* z = lanes.z + r;
    float* e = lanes.e + r;
    for (std::int64_t c = 0; c < n; ++c) exp_nonpositive(max(Vec::load(z + c * tile) - top, least)).store(e + c * tile);

    constexpr std::int64_t half = Vec::width / 2;
    DoubleSum sums[half], weighted_sums[half];
    for (std::int64_t j = 0; j < Vec::width && j < n; ++j) {
        Vec part = Vec::load(e + j * tile), weighted = part * min(top - Vec::load(z + j * tile), furthest);
        for (std::int64_t c = j + Vec::width; c < n; c += Vec::width) {
            const Vec of_class = Vec::load(e + c * tile);
            part = part + of_class;
            weighted = fma(of_class, min(top - Vec::load(z + c * tile), furthest), weighted);
        }
        sums[j % half].add(part);
        weighted_sums[j % half].add(weighted);
    }
    for (std::int64_t step = half / 2; step > 0; step /= 2) {
        for (std::int64_t j = 0; j < step; ++j) {
            sums[j].add(sums[j + step]);
            weighted_sums[j].add(weighted_sums[j + step]);
        }
    }
    sums[0].store(lanes.sum + r);
    weighted_sums[0].store(lanes.weighted + r);
}

template <Dtype dtype>
std::int64_t load_lanes_as(const void* rows, std::int64_t n, std::int64_t count, LaneTile& lanes) {
    lanes.count = count;
    transpose_tile(whole_tile<dtype>(rows, n, count, lanes.e), n, lanes.z);
    std::uint32_t bad = 0;
    for (std::int64_t r = 0; r < tile; r += Vec::width) {
        Vec largest = Vec::set(-infinity), next = largest, top1 = Vec::set(0.0f), zero = top1;
        for (std::int64_t c = 0; c < n; ++c) {
            const Vec value = Vec::load(lanes.z + c * tile + r);
            zero = fma(value, Vec::set(0.0f), zero);  // NaN once anything is not finite
            top1 = select(lanes_above(value, largest), Vec::set(static_cast<float>(c)), top1);
            next = max(next, min(largest, value));
            largest = max(largest, value);
        }
        largest.store(lanes.maximum + r);
        next.store(lanes.second + r);
        top1.store(lanes.top1 + r);
        bad |= (equal(zero, Vec::set(0.0f)) ^ all_lanes) << r;
    }
    if (bad) return __builtin_ctz(bad);
    for (std::int64_t r = 0; r < tile; r += Vec::width) sum_lanes(n, lanes, r);
    log_sums(lanes.sum, lanes.log_sum);
    return -1;
}

std::int64_t load_lanes(const void* rows, Dtype dtype, std::int64_t n, std::int64_t count, LaneTile& lanes) {
    return of_stored(dtype, [&](auto of) { return load_lanes_as<decltype(of)::dtype>(rows, n, count, lanes); });
}

std::int64_t lanes_between(const LaneTile& lanes, std::int64_t n, const float* low, const float* high,
                           std::uint32_t* rows) {
    const std::uint32_t counted = (1u << lanes.count) - 1u;
    std::int64_t reach_low = 0;
    for (std::int64_t c = 0; c < n; ++c) {
        std::uint32_t at_low = 0, at_high = 0;
        for (std::int64_t r = 0; r < tile; r += Vec::width) {
            const Vec z = Vec::load(lanes.z + c * tile + r);
            at_low |= at_least(z, Vec::load(low + r)) << r;
            at_high |= at_least(z, Vec::load(high + r)) << r;
        }
        reach_low += __builtin_popcount(at_low & counted);
        rows[c] = at_high & ~at_low & counted;
    }
    return reach_low;
}

// The sets of one model's rows.
struct LaneMembers {
    const float* z;
    Vec cut, top1;
    Lanes only;

    LaneMembers(const LaneTile& lanes, const float* cuts, std::int64_t r)
        : z(lanes.z + r),
          cut(Vec::load(cuts + r)),
          top1(Vec::load(lanes.top1 + r)),
          only(lanes_equal(cut, Vec::set(infinity))) {}

    Lanes with(std::int64_t c) const {
        return lanes_at_least(Vec::load(z + c * tile), cut) |
               (only & lanes_equal(top1, Vec::set(static_cast<float>(c))));
    }
};

void lane_sizes(const LaneTile& lanes, std::int64_t n, const float* cut, std::int32_t* sizes) {
    for (std::int64_t r = 0; r < tile; r += Vec::width) {
        const LaneMembers members(lanes, cut, r);
        Vec size = Vec::set(0.0f);
        for (std::int64_t c = 0; c < n; ++c) size = size + keep(members.with(c), Vec::set(1.0f));
        size.store_whole(sizes + r);
    }
}

// The sizes of the sets and, as js does, the divergences over their unions.
void lane_divergences(const LaneTile& student, const LaneTile& teacher, std::int64_t n, const float* cut_student,
                      const float* cut_teacher, double* divergence, LaneScores& scores) {
    const Vec least = exp_nonpositive(Vec::set(pair_floor)), one = Vec::set(1.0f);
    for (std::int64_t r = 0; r < tile; r += Vec::width) {
        const LaneMembers of_s(student, cut_student, r), of_t(teacher, cut_teacher, r);
        Vec size_s = Vec::set(0.0f), size_t = size_s, size_both = size_s;
        Vec e_s[ccma::most_lane_classes], e_t[ccma::most_lane_classes];
        DoubleSum sum_s, sum_t, twice;
        for (std::int64_t c = 0; c < n; ++c) {
            const Lanes in_s = of_s.with(c), in_t = of_t.with(c), in_any = in_s | in_t;
            size_s = size_s + keep(in_s, one);
            size_t = size_t + keep(in_t, one);
            size_both = size_both + keep(in_s & in_t, one);
            e_s[c] = keep(in_any, max(Vec::load(student.e + c * tile + r), least));
            e_t[c] = keep(in_any, max(Vec::load(teacher.e + c * tile + r), least));
            sum_s.add(e_s[c]);
            sum_t.add(e_t[c]);
        }
        const Vec inverse_s = sum_s.inverse(), inverse_t = sum_t.inverse();
        for (std::int64_t c = 0; c < n; ++c) add_divergence(twice, e_s[c] * inverse_s, e_t[c] * inverse_t);
        size_s.store_whole(scores.student_size + r);
        size_t.store_whole(scores.teacher_size + r);
        size_both.store_whole(scores.overlap + r);
        twice.store(divergence + r);
    }
    for (std::int64_t r = 0; r < tile; ++r) divergence[r] = half_of_positive(divergence[r]);
}

void score_lanes(const LaneTile& student, const LaneTile* teacher, std::int64_t n, const float* cut_student,
                 const float* cut_teacher, LaneScores& scores) {
    double divergence[tile] = {};
    if (teacher) {
        lane_divergences(student, *teacher, n, cut_student, cut_teacher, divergence, scores);
    } else {
        lane_sizes(student, n, cut_student, scores.student_size);
        for (std::int64_t r = 0; r < tile; ++r) scores.teacher_size[r] = scores.overlap[r] = 0;
    }
    margins(student.maximum, student.second, student.sum, scores.margin);
    for (std::int64_t r = 0; r < tile; r += Vec::width) {
        Vec::load(student.top1 + r).store_whole(scores.student_top1 + r);
        (teacher ? Vec::load(teacher->top1 + r) : Vec::set(-1.0f)).store_whole(scores.teacher_top1 + r);
    }
    const DoubleVec one = DoubleVec::set(1.0);
    for (std::int64_t r = 0; r < tile; r += DoubleVec::width) {
        const DoubleVec sum_s = DoubleVec::load(student.sum + r), j = DoubleVec::load(divergence + r);
        // H = −Σ p ln p with ln p = −(max − z) − ln Σ: two sums of non-negative terms.
        const DoubleVec entropy = DoubleVec::load(student.log_sum + r) + DoubleVec::load(student.weighted + r) / sum_s;
        DoubleVec delta = entropy, confidence = DoubleVec::set(0.0);
        if (teacher) {
            // g = max p^T / (max p^T + max p^S), and the largest probability of a row is 1 / Σ.
            const DoubleVec sum_t = DoubleVec::load(teacher->sum + r), gate = sum_s / (sum_s + sum_t);
            delta = gate * j + (one - gate) * entropy;
            confidence = one / sum_t;
        }
        delta.store_float(scores.delta + r);
        j.store_float(scores.divergence + r);
        confidence.store_float(scores.confidence + r);
    }
}

constexpr ccma::LaneKernels lane_kernels{load_lanes, lanes_between, score_lanes};

}  // namespace
