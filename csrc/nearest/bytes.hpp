// Values as bytes, ỹ = scale · bytes, and upper bounds on what that and float32 lose.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "ccma/kernels.hpp"

namespace ccma {

// Rounding of float32, as a share.
constexpr double float_rounding = 0x1p-24;

// Of the sum that says how far bytes are from what they stand for.
constexpr double error_rounding = 1e-5;

// Signed bytes become unsigned ones by this, which the processor wants of one of two factors.
constexpr std::int32_t byte_shift = 128;

inline float just_above(double value) { return static_cast<float>(value * (1.0 + 4.0 * float_rounding)); }

// What a product with unsigned bytes begins with, so that it ends as the one with signed bytes.
inline std::int32_t start_of(const std::int8_t* bytes, std::int64_t n) {
    std::int32_t sum = 0;
    for (std::int64_t i = 0; i < n; ++i) sum += bytes[i];
    return -byte_shift * sum;
}

inline double sum_squares(const std::int8_t* bytes, std::int64_t n) {
    std::int32_t sum = 0;  // n is at most a sketch's width
    for (std::int64_t i = 0; i < n; ++i) sum += static_cast<std::int32_t>(bytes[i]) * bytes[i];
    return sum;
}

inline void widen(const std::int8_t* bytes, std::int64_t n, float scale, float* out) {
    for (std::int64_t i = 0; i < n; ++i) out[i] = scale * static_cast<float>(bytes[i]);
}

// Bytes for padded values, and an upper bound on the distance between both.
inline float quantize(const KMeansKernels& k, const float* x, std::int64_t n, std::int8_t* bytes, float* error) {
    double squares;
    const float scale = k.quantize(x, n, bytes, &squares);
    *error = just_above((1.0 + error_rounding) * std::sqrt(squares));
    return scale;
}

inline std::size_t at(std::int64_t i) { return static_cast<std::size_t>(i); }

inline std::vector<float> padded_copy(const float* values, std::int64_t n) {
    std::vector<float> copy(static_cast<std::size_t>(padded(n)), 0.0f);
    std::copy_n(values, n, copy.begin());
    return copy;
}

}  // namespace ccma
