// The kernels of a head's training over Vec. Included once by each instruction set's file.
#pragma once

#include "tables.hpp"
#include "vec.hpp"

namespace {

using ccma::AdamW;
using ccma::ChosenValues;
using ccma::draw_lanes;
using ccma::DrawLanes;

// Whole numbers of 128 bits.
struct WideVec {
    WordVec high, low;
};

// The product with a number whose halves of words are given, modulo 2¹²⁸.
struct WideFactor {
    WordVec low, low_upper, high, high_upper;

    WideFactor(std::uint64_t of_high, std::uint64_t of_low)
        : low(WordVec::set(of_low)),
          low_upper(WordVec::set(of_low >> 32)),
          high(WordVec::set(of_high)),
          high_upper(WordVec::set(of_high >> 32)) {}

    WideVec times(WideVec x) const {
        const WordVec half = WordVec::set(0xffffffff), x_upper = right<32>(x.low);
        const WordVec first = times_half(x.low, low), last = times_half(x_upper, low_upper);
        const WordVec left_middle = times_half(x.low, low_upper), right_middle = times_half(x_upper, low);
        const WordVec middle = right<32>(first) + (left_middle & half) + (right_middle & half);
        const WordVec carried = right<32>(left_middle) + right<32>(right_middle) + right<32>(middle);
        const WordVec crossed = times_half(x.low, high_upper) + times_half(x_upper, high) +
                                times_half(x.high, low_upper) + times_half(right<32>(x.high), low);
        const WordVec upper = times_half(x.low, high) + times_half(x.high, low) + left<32>(crossed);
        return {last + carried + upper, left<32>(middle) | (first & half)};
    }
};

inline WideVec operator+(WideVec a, WideVec b) {
    const WordVec low = a.low + b.low;
    return {a.high + b.high + is_less(low, b.low), low};
}

// PCG64's output, XSL-RR.
inline WordVec output(WideVec state) {
    const WordVec mixed = state.high ^ state.low, turn = right<58>(state.high);
    return right(mixed, turn) | left(mixed, WordVec::set(64) - turn);
}

void draw_below(DrawLanes& lanes, std::uint32_t limit, std::int64_t count, std::uint64_t* words) {
    constexpr int vectors = draw_lanes / WordVec::width;
    const WideFactor factor(lanes.factor_high, lanes.factor_low);
    const WideVec increment{WordVec::set(lanes.increment_high), WordVec::set(lanes.increment_low)};
    WideVec states[vectors];
    for (int i = 0; i < vectors; ++i) {
        states[i] = {WordVec::load(lanes.high + i * WordVec::width), WordVec::load(lanes.low + i * WordVec::width)};
    }
    const auto draw = [&] {
        WordVec draws[vectors];
        for (int i = 0; i < vectors; ++i) {
            draws[i] = output(states[i]);
            states[i] = factor.times(states[i]) + increment;
        }
        return std::uint64_t{fourths_below(draws, limit)};
    };
    for (std::int64_t w = 0; w < count; ++w) {
        const std::uint64_t first = draw();
        words[w] = first | draw() << 32;
    }
    for (int i = 0; i < vectors; ++i) {
        states[i].high.store(lanes.high + i * WordVec::width);
        states[i].low.store(lanes.low + i * WordVec::width);
    }
}

// The sums of a row stay in registers. Values follow each other row by row, and the processor begins with those of the
// next row while sums of few vectors wait for each other.
template <int vectors>
void add_chosen_to(const ChosenValues& values, std::int64_t rows, const float* matrix, std::int64_t stride, float* out,
                   std::int64_t out_stride) {
    for (std::int64_t r = 0; r < rows; ++r) {
        const float* x = values.x + r * values.row_stride;
        float* sums = out + r * out_stride;
        Vec sum[vectors];
        for (int i = 0; i < vectors; ++i) sum[i] = Vec::load(sums + i * Vec::width);
        for (std::uint64_t bits = values.bits[r * values.bits_stride]; bits != 0; bits &= bits - 1) {
            const std::int64_t j = __builtin_ctzll(bits);
            const Vec value = Vec::set(x[j * values.stride]);
            const float* row = matrix + j * stride;
            for (int i = 0; i < vectors; ++i) sum[i] = fma(value, Vec::load(row + i * Vec::width), sum[i]);
        }
        for (int i = 0; i < vectors; ++i) sum[i].store(sums + i * Vec::width);
    }
}

// The function for so many vectors.
template <int vectors>
void add_chosen_upto(std::int64_t wanted, const ChosenValues& values, std::int64_t rows, const float* matrix,
                     std::int64_t stride, float* out, std::int64_t out_stride) {
    if constexpr (vectors > 1) {
        if (wanted < vectors) {
            return add_chosen_upto<vectors - 1>(wanted, values, rows, matrix, stride, out, out_stride);
        }
    }
    add_chosen_to<vectors>(values, rows, matrix, stride, out, out_stride);
}

void add_chosen(const ChosenValues& values, std::int64_t rows, const float* matrix, std::int64_t stride, std::int64_t n,
                float* out, std::int64_t out_stride) {
    constexpr int most = ccma::most_chosen / Vec::width;
    add_chosen_upto<most>((n + Vec::width - 1) / Vec::width, values, rows, matrix, stride, out, out_stride);
}

double softmax_row(float* z, std::int64_t n, float* maximum) {
    const std::int64_t whole = n / Vec::width * Vec::width, rest = n - whole;
    const Vec floor = Vec::set(exp_floor);
    const Lanes used = lanes_of((1u << rest) - 1u);
    Vec top = load_first(z + whole, rest, -__builtin_inff());
    for (std::int64_t c = 0; c < whole; c += Vec::width) top = max(top, Vec::load(z + c));
    *maximum = largest_lane(top);
    top = Vec::set(*maximum);
    LongSum sum;
    // What is not a number stays so: the second operand of a maximum is taken then.
    for (std::int64_t c = 0; c < whole; c += Vec::width) {
        const Vec e = exp_nonpositive(max(floor, Vec::load(z + c) - top));
        e.store(z + c);
        sum.add(e);
    }
    if (rest > 0) {
        const Vec e = keep(used, exp_nonpositive(max(floor, Vec::load(z + whole) - top)));
        e.store(z + whole);
        sum.add(e);
    }
    const double total = sum.total();
    const Vec inverse = Vec::set(static_cast<float>(1.0 / total));
    for (std::int64_t c = 0; c < n; c += Vec::width) (Vec::load(z + c) * inverse).store(z + c);
    return total;
}

void adamw(const float* gradient, float scale, std::int64_t n, const AdamW& factors, float* parameters, float* first,
           float* second) {
    const Vec factor = Vec::set(scale), rate = Vec::set(factors.rate), spread = Vec::set(factors.spread);
    const Vec less = Vec::set(-factors.decay), least = Vec::set(1e-8f);
    for (std::int64_t i = 0; i < n; i += Vec::width) {
        const Vec g = Vec::load(gradient + i) * factor;
        Vec m = Vec::load(first + i), v = Vec::load(second + i), p = Vec::load(parameters + i);
        m = fma(Vec::set(0.1f), g - m, m);
        v = fma(Vec::set(0.001f) * g, g, Vec::set(0.999f) * v);
        p = fma(less, p, p);
        p = p - rate * m / fma(spread, sqrt(v), least);
        m.store(first + i);
        v.store(second + i);
        p.store(parameters + i);
    }
}

constexpr ccma::HeadKernels head_kernels{draw_below, add_chosen, softmax_row, adamw};

}  // namespace
