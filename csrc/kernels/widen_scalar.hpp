// One stored value as float32. For files compiled for the baseline instruction set only.
#pragma once

#include <cstdint>
#include <cstring>

#include "ccma/types.hpp"

namespace ccma {
namespace {

inline float from_bits(std::uint32_t bits) {
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

inline float widen_half(std::uint16_t half) {
    const std::uint32_t sign = static_cast<std::uint32_t>(half & 0x8000u) << 16;
    const std::uint32_t magnitude = half & 0x7fffu;
    if (magnitude >= 0x7c00u) return from_bits(sign | 0x7f800000u | (magnitude & 0x3ffu) << 13);  // inf, NaN
    if (magnitude < 0x0400u) {  // zero and subnormal: an integer times 2^-24
        const float value = static_cast<float>(magnitude) * 5.9604644775390625e-8f;
        return sign ? -value : value;
    }
    return from_bits(sign | ((magnitude + 0x1c000u) << 13));
}

inline float widen(const void* row, Dtype dtype, std::int64_t i) {
    if (dtype == Dtype::f32) return static_cast<const float*>(row)[i];
    const std::uint16_t bits = static_cast<const std::uint16_t*>(row)[i];
    return dtype == Dtype::f16 ? widen_half(bits) : from_bits(static_cast<std::uint32_t>(bits) << 16);
}

}  // namespace
}  // namespace ccma
