// A vector of float32, in the instruction set that the including file is compiled for, and what the kernels do with it.
//
// Everything here has internal linkage, and nothing of the standard library is used: a function shared between files
// that are compiled for different instruction sets could otherwise be linked into the baseline.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "ccma/types.hpp"

namespace {

#if defined(__AVX512F__)

struct Vec {
    static constexpr std::int64_t width = 16;
    using Mask = std::uint32_t;
    __m512 v;

    static Vec set(float x) { return {_mm512_set1_ps(x)}; }
    static Vec load(const float* p) { return {_mm512_loadu_ps(p)}; }
    static Vec load_half(const std::uint16_t* p) {
        return {_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)))};
    }
    static Vec load_bfloat(const std::uint16_t* p) {
        const __m512i bits = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
        return {_mm512_castsi512_ps(_mm512_slli_epi32(bits, 16))};
    }
    void store(float* p) const { _mm512_storeu_ps(p, v); }

    // The lanes whose bit is set, in order, followed by unspecified values up to a whole vector.
    void compress(Mask mask, float* p) const {
        _mm512_storeu_ps(p, _mm512_maskz_compress_ps(static_cast<__mmask16>(mask), v));
    }

    // Whole numbers from −128 to 127.
    void store_bytes(std::int8_t* p) const {
        _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(v)));
    }
    // Whole numbers.
    void store_whole(std::int32_t* p) const { _mm512_storeu_si512(p, _mm512_cvtps_epi32(v)); }
};

inline Vec operator+(Vec a, Vec b) { return {_mm512_add_ps(a.v, b.v)}; }
inline Vec operator-(Vec a, Vec b) { return {_mm512_sub_ps(a.v, b.v)}; }
inline Vec operator*(Vec a, Vec b) { return {_mm512_mul_ps(a.v, b.v)}; }
inline Vec operator/(Vec a, Vec b) { return {_mm512_div_ps(a.v, b.v)}; }
inline Vec fma(Vec a, Vec b, Vec c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
inline Vec max(Vec a, Vec b) { return {_mm512_max_ps(a.v, b.v)}; }
inline Vec sqrt(Vec a) { return {_mm512_sqrt_ps(a.v)}; }
inline Vec min(Vec a, Vec b) { return {_mm512_min_ps(a.v, b.v)}; }
inline Vec::Mask at_least(Vec a, Vec b) { return _mm512_cmp_ps_mask(a.v, b.v, _CMP_GE_OQ); }
inline Vec::Mask equal(Vec a, Vec b) { return _mm512_cmp_ps_mask(a.v, b.v, _CMP_EQ_OQ); }

// A choice of lanes that stays in the registers of vectors.
struct Lanes {
    __mmask16 m;
};
inline Lanes operator&(Lanes a, Lanes b) { return {_kand_mask16(a.m, b.m)}; }
inline Lanes operator|(Lanes a, Lanes b) { return {_kor_mask16(a.m, b.m)}; }
inline Lanes lanes_at_least(Vec a, Vec b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_GE_OQ)}; }
inline Lanes lanes_above(Vec a, Vec b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_GT_OQ)}; }
inline Lanes lanes_equal(Vec a, Vec b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_EQ_OQ)}; }
// The lanes whose bits are set; bits beyond the vector do not count.
inline Lanes lanes_of(Vec::Mask bits) { return {static_cast<__mmask16>(bits)}; }
// x in the lanes chosen, and y, or zero, elsewhere.
inline Vec select(Lanes lanes, Vec x, Vec y) { return {_mm512_mask_blend_ps(lanes.m, y.v, x.v)}; }
inline Vec keep(Lanes lanes, Vec x) { return {_mm512_maskz_mov_ps(lanes.m, x.v)}; }

// x · 2^n, where n stands in the low bits of `bits` and no exponent leaves its range.
inline Vec times_power_of_two(Vec x, Vec bits) {
    const __m512i n = _mm512_slli_epi32(_mm512_castps_si512(bits.v), 23);
    return {_mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(x.v), n))};
}

// x = mantissa · 2^exponent with mantissa in [√½, √2), for normal positive x.
inline Vec split(Vec x, Vec* exponent) {
    const __m512i shifted = _mm512_sub_epi32(_mm512_castps_si512(x.v), _mm512_set1_epi32(0x3f3504f3));
    const __m512i e = _mm512_srai_epi32(shifted, 23);
    exponent->v = _mm512_cvtepi32_ps(e);
    return {_mm512_castsi512_ps(_mm512_sub_epi32(_mm512_castps_si512(x.v), _mm512_slli_epi32(e, 23)))};
}

// A sum in double, lane by lane.
struct DoubleSum {
    __m512d low = _mm512_setzero_pd(), high = _mm512_setzero_pd();

    void add(Vec x) {
        low = _mm512_add_pd(low, _mm512_cvtps_pd(_mm512_castps512_ps256(x.v)));
        high = _mm512_add_pd(high, _mm512_cvtps_pd(_mm512_extractf32x8_ps(x.v, 1)));
    }
    void add_product(Vec x, Vec y) {
        low = _mm512_fmadd_pd(_mm512_cvtps_pd(_mm512_castps512_ps256(x.v)),
                              _mm512_cvtps_pd(_mm512_castps512_ps256(y.v)), low);
        high = _mm512_fmadd_pd(_mm512_cvtps_pd(_mm512_extractf32x8_ps(x.v, 1)),
                               _mm512_cvtps_pd(_mm512_extractf32x8_ps(y.v, 1)), high);
    }
    void add(const DoubleSum& other) {
        low = _mm512_add_pd(low, other.low);
        high = _mm512_add_pd(high, other.high);
    }
    void store(double* lanes) const {
        _mm512_storeu_pd(lanes, low);
        _mm512_storeu_pd(lanes + 8, high);
    }
    Vec inverse() const {
        const __m512d one = _mm512_set1_pd(1.0);
        return {_mm512_insertf32x8(_mm512_castps256_ps512(_mm512_cvtpd_ps(_mm512_div_pd(one, low))),
                                   _mm512_cvtpd_ps(_mm512_div_pd(one, high)), 1)};
    }
    double total() const {
        double lanes[8];
        _mm512_storeu_pd(lanes, _mm512_add_pd(low, high));
        return ((lanes[0] + lanes[4]) + (lanes[2] + lanes[6])) + ((lanes[1] + lanes[5]) + (lanes[3] + lanes[7]));
    }
};

// The largest lane.
inline float largest_lane(Vec x) { return _mm512_reduce_max_ps(x.v); }

// The largest and the second largest of the values whose largest and second largest, lane by lane, are given.
inline void two_largest_lanes(Vec first, Vec second, float* largest, float* next) {
    const auto halve = [&](__m512 other_first, __m512 other_second) {
        second.v = _mm512_max_ps(_mm512_max_ps(second.v, other_second), _mm512_min_ps(first.v, other_first));
        first.v = _mm512_max_ps(first.v, other_first);
    };
    halve(_mm512_shuffle_f32x4(first.v, first.v, 0x4e), _mm512_shuffle_f32x4(second.v, second.v, 0x4e));
    halve(_mm512_shuffle_f32x4(first.v, first.v, 0xb1), _mm512_shuffle_f32x4(second.v, second.v, 0xb1));
    halve(_mm512_permute_ps(first.v, 0x4e), _mm512_permute_ps(second.v, 0x4e));
    halve(_mm512_permute_ps(first.v, 0xb1), _mm512_permute_ps(second.v, 0xb1));
    *largest = _mm512_cvtss_f32(first.v);
    *next = _mm512_cvtss_f32(second.v);
}

// The values from p on, `n` of them and fewer than a vector, and `fill` beyond.
inline Vec load_first(const float* p, std::int64_t n, float fill) {
    return {_mm512_mask_loadu_ps(_mm512_set1_ps(fill), static_cast<__mmask16>((1u << n) - 1u), p)};
}

// One value of each of so many rows, `stride` apart.
template <int stride>
inline Vec gather(const float* p) {
    const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    return {_mm512_i32gather_ps(_mm512_mullo_epi32(lanes, _mm512_set1_epi32(stride)), p, 4)};
}

// Lane j of rows[i] and lane i of rows[j] change places.
inline void transpose(Vec* rows) {
    __m512 pairs[16], fours[16], eights[16];
    for (int i = 0; i < 16; i += 2) {
        pairs[i] = _mm512_unpacklo_ps(rows[i].v, rows[i + 1].v);
        pairs[i + 1] = _mm512_unpackhi_ps(rows[i].v, rows[i + 1].v);
    }
    // fours[4 · k + j]: column j of each fourth of rows 4 k to 4 k + 3.
    for (int k = 0; k < 16; k += 4) {
        const auto join = [&](int i, int j, bool high) {
            const __m512d a = _mm512_castps_pd(pairs[i]), b = _mm512_castps_pd(pairs[j]);
            return _mm512_castpd_ps(high ? _mm512_unpackhi_pd(a, b) : _mm512_unpacklo_pd(a, b));
        };
        fours[k] = join(k, k + 2, false);
        fours[k + 1] = join(k, k + 2, true);
        fours[k + 2] = join(k + 1, k + 3, false);
        fours[k + 3] = join(k + 1, k + 3, true);
    }
    for (int j = 0; j < 4; ++j) {
        eights[j] = _mm512_shuffle_f32x4(fours[j], fours[4 + j], 0x88);
        eights[4 + j] = _mm512_shuffle_f32x4(fours[j], fours[4 + j], 0xdd);
        eights[8 + j] = _mm512_shuffle_f32x4(fours[8 + j], fours[12 + j], 0x88);
        eights[12 + j] = _mm512_shuffle_f32x4(fours[8 + j], fours[12 + j], 0xdd);
    }
    for (int j = 0; j < 8; ++j) {
        rows[j].v = _mm512_shuffle_f32x4(eights[j], eights[8 + j], 0x88);
        rows[8 + j].v = _mm512_shuffle_f32x4(eights[j], eights[8 + j], 0xdd);
    }
}

// A vector of float64.
struct DoubleVec {
    static constexpr std::int64_t width = 8;
    using Mask = std::uint32_t;
    __m512d v;

    static DoubleVec set(double x) { return {_mm512_set1_pd(x)}; }
    static DoubleVec load(const double* p) { return {_mm512_loadu_pd(p)}; }
    static DoubleVec load_float(const float* p) { return {_mm512_cvtps_pd(_mm256_loadu_ps(p))}; }
    void store(double* p) const { _mm512_storeu_pd(p, v); }
    void store_float(float* p) const { _mm256_storeu_ps(p, _mm512_cvtpd_ps(v)); }
};

inline DoubleVec operator+(DoubleVec a, DoubleVec b) { return {_mm512_add_pd(a.v, b.v)}; }
inline DoubleVec operator-(DoubleVec a, DoubleVec b) { return {_mm512_sub_pd(a.v, b.v)}; }
inline DoubleVec operator*(DoubleVec a, DoubleVec b) { return {_mm512_mul_pd(a.v, b.v)}; }
inline DoubleVec operator/(DoubleVec a, DoubleVec b) { return {_mm512_div_pd(a.v, b.v)}; }
inline DoubleVec fma(DoubleVec a, DoubleVec b, DoubleVec c) { return {_mm512_fmadd_pd(a.v, b.v, c.v)}; }
inline DoubleVec::Mask at_most(DoubleVec a, DoubleVec b) { return _mm512_cmp_pd_mask(a.v, b.v, _CMP_LE_OQ); }

// x = mantissa · 2^exponent with mantissa in [√½, √2), for x from √½ up.
inline DoubleVec split(DoubleVec x, DoubleVec* exponent) {
    const __m512i bits = _mm512_castpd_si512(x.v);
    const __m512i e = _mm512_srli_epi64(_mm512_sub_epi64(bits, _mm512_set1_epi64(0x3fe6a09e667f3bcd)), 52);
    exponent->v = _mm512_cvtepi64_pd(e);
    return {_mm512_castsi512_pd(_mm512_sub_epi64(bits, _mm512_slli_epi64(e, 52)))};
}

// x · 2^n with n in the low bits of `shifted`.
inline DoubleVec times_power_of_two(DoubleVec x, DoubleVec shifted) {
    const __m512i power = _mm512_slli_epi64(_mm512_castpd_si512(shifted.v), 52);
    return {_mm512_castsi512_pd(_mm512_add_epi64(_mm512_castpd_si512(x.v), power))};
}
inline DoubleVec max(DoubleVec a, DoubleVec b) { return {_mm512_max_pd(a.v, b.v)}; }

// sums += bits(a) − bits(b), lane by lane.
inline void add_bit_difference(std::int64_t* sums, DoubleVec a, DoubleVec b) {
    const __m512i difference = _mm512_sub_epi64(_mm512_castpd_si512(a.v), _mm512_castpd_si512(b.v));
    _mm512_storeu_si512(sums, _mm512_add_epi64(_mm512_loadu_si512(sums), difference));
}

// A vector of whole numbers of 64 bits.
struct WordVec {
    static constexpr int width = 8;
    __m512i v;

    static WordVec set(std::uint64_t x) { return {_mm512_set1_epi64(static_cast<long long>(x))}; }
    static WordVec load(const std::uint64_t* p) { return {_mm512_loadu_si512(p)}; }
    void store(std::uint64_t* p) const { _mm512_storeu_si512(p, v); }
};

inline WordVec operator+(WordVec a, WordVec b) { return {_mm512_add_epi64(a.v, b.v)}; }
inline WordVec operator-(WordVec a, WordVec b) { return {_mm512_sub_epi64(a.v, b.v)}; }
inline WordVec operator&(WordVec a, WordVec b) { return {_mm512_and_si512(a.v, b.v)}; }
inline WordVec operator|(WordVec a, WordVec b) { return {_mm512_or_si512(a.v, b.v)}; }
inline WordVec operator^(WordVec a, WordVec b) { return {_mm512_xor_si512(a.v, b.v)}; }
template <int n>
inline WordVec left(WordVec a) {
    return {_mm512_slli_epi64(a.v, n)};
}
template <int n>
inline WordVec right(WordVec a) {
    return {_mm512_srli_epi64(a.v, n)};
}
inline WordVec left(WordVec a, WordVec n) { return {_mm512_sllv_epi64(a.v, n.v)}; }
inline WordVec right(WordVec a, WordVec n) { return {_mm512_srlv_epi64(a.v, n.v)}; }
// The product of the lower halves.
inline WordVec times_half(WordVec a, WordVec b) { return {_mm512_mul_epu32(a.v, b.v)}; }
// 1 in the lanes where a < b.
inline WordVec is_less(WordVec a, WordVec b) { return {_mm512_maskz_set1_epi64(_mm512_cmplt_epu64_mask(a.v, b.v), 1)}; }
// Which fourths of eight words are below a limit under 2¹⁶, a bit each.
inline std::uint32_t fourths_below(const WordVec* words, std::uint32_t limit) {
    return _mm512_cmplt_epu16_mask(words[0].v, _mm512_set1_epi16(static_cast<short>(limit)));
}

#else  // AVX2, FMA and F16C

struct Vec {
    static constexpr std::int64_t width = 8;
    using Mask = std::uint32_t;
    __m256 v;

    static Vec set(float x) { return {_mm256_set1_ps(x)}; }
    static Vec load(const float* p) { return {_mm256_loadu_ps(p)}; }
    static Vec load_half(const std::uint16_t* p) {
        return {_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)))};
    }
    static Vec load_bfloat(const std::uint16_t* p) {
        const __m256i bits = _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
        return {_mm256_castsi256_ps(_mm256_slli_epi32(bits, 16))};
    }
    void store(float* p) const { _mm256_storeu_ps(p, v); }

    // The lanes whose bit is set, in order, followed by unspecified values up to a whole vector.
    void compress(Mask mask, float* p) const {
        float lanes[8];
        store(lanes);
        for (; mask != 0; mask &= mask - 1) *p++ = lanes[__builtin_ctz(mask)];
    }

    // Whole numbers from −128 to 127.
    void store_bytes(std::int8_t* p) const {
        const __m256i whole = _mm256_cvtps_epi32(v);
        const __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(whole), _mm256_extracti128_si256(whole, 1));
        _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packs_epi16(words, words));
    }
    // Whole numbers.
    void store_whole(std::int32_t* p) const {
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm256_cvtps_epi32(v));
    }
};

inline Vec operator+(Vec a, Vec b) { return {_mm256_add_ps(a.v, b.v)}; }
inline Vec operator-(Vec a, Vec b) { return {_mm256_sub_ps(a.v, b.v)}; }
inline Vec operator*(Vec a, Vec b) { return {_mm256_mul_ps(a.v, b.v)}; }
inline Vec operator/(Vec a, Vec b) { return {_mm256_div_ps(a.v, b.v)}; }
inline Vec fma(Vec a, Vec b, Vec c) { return {_mm256_fmadd_ps(a.v, b.v, c.v)}; }
inline Vec max(Vec a, Vec b) { return {_mm256_max_ps(a.v, b.v)}; }
inline Vec sqrt(Vec a) { return {_mm256_sqrt_ps(a.v)}; }
inline Vec min(Vec a, Vec b) { return {_mm256_min_ps(a.v, b.v)}; }
inline Vec::Mask at_least(Vec a, Vec b) {
    return static_cast<Vec::Mask>(_mm256_movemask_ps(_mm256_cmp_ps(a.v, b.v, _CMP_GE_OQ)));
}
inline Vec::Mask equal(Vec a, Vec b) {
    return static_cast<Vec::Mask>(_mm256_movemask_ps(_mm256_cmp_ps(a.v, b.v, _CMP_EQ_OQ)));
}

// A choice of lanes that stays in the registers of vectors.
struct Lanes {
    __m256 m;
};
inline Lanes operator&(Lanes a, Lanes b) { return {_mm256_and_ps(a.m, b.m)}; }
inline Lanes operator|(Lanes a, Lanes b) { return {_mm256_or_ps(a.m, b.m)}; }
inline Lanes lanes_at_least(Vec a, Vec b) { return {_mm256_cmp_ps(a.v, b.v, _CMP_GE_OQ)}; }
inline Lanes lanes_above(Vec a, Vec b) { return {_mm256_cmp_ps(a.v, b.v, _CMP_GT_OQ)}; }
inline Lanes lanes_equal(Vec a, Vec b) { return {_mm256_cmp_ps(a.v, b.v, _CMP_EQ_OQ)}; }
// The lanes whose bits are set; bits beyond the vector do not count.
inline Lanes lanes_of(Vec::Mask bits) {
    const __m256i bit = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
    const __m256i set = _mm256_and_si256(_mm256_set1_epi32(static_cast<std::int32_t>(bits)), bit);
    return {_mm256_castsi256_ps(_mm256_cmpeq_epi32(set, bit))};
}
// x in the lanes chosen, and y, or zero, elsewhere.
inline Vec select(Lanes lanes, Vec x, Vec y) { return {_mm256_blendv_ps(y.v, x.v, lanes.m)}; }
inline Vec keep(Lanes lanes, Vec x) { return {_mm256_and_ps(lanes.m, x.v)}; }

// x · 2^n, where n stands in the low bits of `bits` and no exponent leaves its range.
inline Vec times_power_of_two(Vec x, Vec bits) {
    const __m256i n = _mm256_slli_epi32(_mm256_castps_si256(bits.v), 23);
    return {_mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(x.v), n))};
}

// x = mantissa · 2^exponent with mantissa in [√½, √2), for normal positive x.
inline Vec split(Vec x, Vec* exponent) {
    const __m256i shifted = _mm256_sub_epi32(_mm256_castps_si256(x.v), _mm256_set1_epi32(0x3f3504f3));
    const __m256i e = _mm256_srai_epi32(shifted, 23);
    exponent->v = _mm256_cvtepi32_ps(e);
    return {_mm256_castsi256_ps(_mm256_sub_epi32(_mm256_castps_si256(x.v), _mm256_slli_epi32(e, 23)))};
}

// A sum in double, lane by lane.
struct DoubleSum {
    __m256d low = _mm256_setzero_pd(), high = _mm256_setzero_pd();

    void add(Vec x) {
        low = _mm256_add_pd(low, _mm256_cvtps_pd(_mm256_castps256_ps128(x.v)));
        high = _mm256_add_pd(high, _mm256_cvtps_pd(_mm256_extractf128_ps(x.v, 1)));
    }
    void add_product(Vec x, Vec y) {
        low = _mm256_fmadd_pd(_mm256_cvtps_pd(_mm256_castps256_ps128(x.v)),
                              _mm256_cvtps_pd(_mm256_castps256_ps128(y.v)), low);
        high = _mm256_fmadd_pd(_mm256_cvtps_pd(_mm256_extractf128_ps(x.v, 1)),
                               _mm256_cvtps_pd(_mm256_extractf128_ps(y.v, 1)), high);
    }
    void add(const DoubleSum& other) {
        low = _mm256_add_pd(low, other.low);
        high = _mm256_add_pd(high, other.high);
    }
    void store(double* lanes) const {
        _mm256_storeu_pd(lanes, low);
        _mm256_storeu_pd(lanes + 4, high);
    }
    Vec inverse() const {
        const __m256d one = _mm256_set1_pd(1.0);
        return {_mm256_set_m128(_mm256_cvtpd_ps(_mm256_div_pd(one, high)), _mm256_cvtpd_ps(_mm256_div_pd(one, low)))};
    }
    double total() const {
        double lanes[4];
        _mm256_storeu_pd(lanes, _mm256_add_pd(low, high));
        return (lanes[0] + lanes[2]) + (lanes[1] + lanes[3]);
    }
};

inline float largest_lane(Vec x) {
    __m128 m = _mm_max_ps(_mm256_castps256_ps128(x.v), _mm256_extractf128_ps(x.v, 1));
    m = _mm_max_ps(m, _mm_movehl_ps(m, m));
    return _mm_cvtss_f32(_mm_max_ss(m, _mm_movehdup_ps(m)));
}

// The largest and the second largest of the values whose largest and second largest, lane by lane, are given.
inline void two_largest_lanes(Vec first, Vec second, float* largest, float* next) {
    const auto halve = [&](__m256 other_first, __m256 other_second) {
        second.v = _mm256_max_ps(_mm256_max_ps(second.v, other_second), _mm256_min_ps(first.v, other_first));
        first.v = _mm256_max_ps(first.v, other_first);
    };
    halve(_mm256_permute2f128_ps(first.v, first.v, 1), _mm256_permute2f128_ps(second.v, second.v, 1));
    halve(_mm256_permute_ps(first.v, 0x4e), _mm256_permute_ps(second.v, 0x4e));
    halve(_mm256_permute_ps(first.v, 0xb1), _mm256_permute_ps(second.v, 0xb1));
    *largest = _mm256_cvtss_f32(first.v);
    *next = _mm256_cvtss_f32(second.v);
}

// The values from p on, `n` of them and fewer than a vector, and `fill` beyond.
inline Vec load_first(const float* p, std::int64_t n, float fill) {
    const __m256i lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    const __m256i wanted = _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<std::int32_t>(n)), lanes);
    return {_mm256_blendv_ps(_mm256_set1_ps(fill), _mm256_maskload_ps(p, wanted), _mm256_castsi256_ps(wanted))};
}

// One value of each of so many rows, `stride` apart.
template <int stride>
inline Vec gather(const float* p) {
    const __m256i lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return {_mm256_i32gather_ps(p, _mm256_mullo_epi32(lanes, _mm256_set1_epi32(stride)), 4)};
}

// Lane j of rows[i] and lane i of rows[j] change places.
inline void transpose(Vec* rows) {
    __m256 fours[8];  // fours[4 · k + j]: columns j and 4 + j of rows 4 k to 4 k + 3
    for (int k = 0; k < 8; k += 4) {
        const __m256 a = _mm256_unpacklo_ps(rows[k].v, rows[k + 1].v), b = _mm256_unpackhi_ps(rows[k].v, rows[k + 1].v);
        const __m256 c = _mm256_unpacklo_ps(rows[k + 2].v, rows[k + 3].v);
        const __m256 d = _mm256_unpackhi_ps(rows[k + 2].v, rows[k + 3].v);
        fours[k] = _mm256_shuffle_ps(a, c, 0x44);
        fours[k + 1] = _mm256_shuffle_ps(a, c, 0xee);
        fours[k + 2] = _mm256_shuffle_ps(b, d, 0x44);
        fours[k + 3] = _mm256_shuffle_ps(b, d, 0xee);
    }
    for (int j = 0; j < 4; ++j) {
        rows[j].v = _mm256_permute2f128_ps(fours[j], fours[4 + j], 0x20);
        rows[4 + j].v = _mm256_permute2f128_ps(fours[j], fours[4 + j], 0x31);
    }
}

// A vector of float64.
struct DoubleVec {
    static constexpr std::int64_t width = 4;
    using Mask = std::uint32_t;
    __m256d v;

    static DoubleVec set(double x) { return {_mm256_set1_pd(x)}; }
    static DoubleVec load(const double* p) { return {_mm256_loadu_pd(p)}; }
    static DoubleVec load_float(const float* p) { return {_mm256_cvtps_pd(_mm_loadu_ps(p))}; }
    void store(double* p) const { _mm256_storeu_pd(p, v); }
    void store_float(float* p) const { _mm_storeu_ps(p, _mm256_cvtpd_ps(v)); }
};

inline DoubleVec operator+(DoubleVec a, DoubleVec b) { return {_mm256_add_pd(a.v, b.v)}; }
inline DoubleVec operator-(DoubleVec a, DoubleVec b) { return {_mm256_sub_pd(a.v, b.v)}; }
inline DoubleVec operator*(DoubleVec a, DoubleVec b) { return {_mm256_mul_pd(a.v, b.v)}; }
inline DoubleVec operator/(DoubleVec a, DoubleVec b) { return {_mm256_div_pd(a.v, b.v)}; }
inline DoubleVec fma(DoubleVec a, DoubleVec b, DoubleVec c) { return {_mm256_fmadd_pd(a.v, b.v, c.v)}; }
inline DoubleVec::Mask at_most(DoubleVec a, DoubleVec b) {
    return static_cast<DoubleVec::Mask>(_mm256_movemask_pd(_mm256_cmp_pd(a.v, b.v, _CMP_LE_OQ)));
}

// x = mantissa · 2^exponent with mantissa in [√½, √2), for x from √½ up.
inline DoubleVec split(DoubleVec x, DoubleVec* exponent) {
    const __m256i bits = _mm256_castpd_si256(x.v);
    const __m256i e = _mm256_srli_epi64(_mm256_sub_epi64(bits, _mm256_set1_epi64x(0x3fe6a09e667f3bcd)), 52);
    // Below 2^52 a whole number joins the bits of 2^52 and the difference is that number.
    const __m256d shifter = _mm256_set1_pd(4503599627370496.0);
    exponent->v = _mm256_sub_pd(_mm256_or_pd(_mm256_castsi256_pd(e), shifter), shifter);
    return {_mm256_castsi256_pd(_mm256_sub_epi64(bits, _mm256_slli_epi64(e, 52)))};
}

// x · 2^n with n in the low bits of `shifted`.
inline DoubleVec times_power_of_two(DoubleVec x, DoubleVec shifted) {
    const __m256i power = _mm256_slli_epi64(_mm256_castpd_si256(shifted.v), 52);
    return {_mm256_castsi256_pd(_mm256_add_epi64(_mm256_castpd_si256(x.v), power))};
}
inline DoubleVec max(DoubleVec a, DoubleVec b) { return {_mm256_max_pd(a.v, b.v)}; }

// sums += bits(a) − bits(b), lane by lane.
inline void add_bit_difference(std::int64_t* sums, DoubleVec a, DoubleVec b) {
    const __m256i difference = _mm256_sub_epi64(_mm256_castpd_si256(a.v), _mm256_castpd_si256(b.v));
    __m256i* at = reinterpret_cast<__m256i*>(sums);
    _mm256_storeu_si256(at, _mm256_add_epi64(_mm256_loadu_si256(at), difference));
}

// A vector of whole numbers of 64 bits.
struct WordVec {
    static constexpr int width = 4;
    __m256i v;

    static WordVec set(std::uint64_t x) { return {_mm256_set1_epi64x(static_cast<long long>(x))}; }
    static WordVec load(const std::uint64_t* p) { return {_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))}; }
    void store(std::uint64_t* p) const { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), v); }
};

inline WordVec operator+(WordVec a, WordVec b) { return {_mm256_add_epi64(a.v, b.v)}; }
inline WordVec operator-(WordVec a, WordVec b) { return {_mm256_sub_epi64(a.v, b.v)}; }
inline WordVec operator&(WordVec a, WordVec b) { return {_mm256_and_si256(a.v, b.v)}; }
inline WordVec operator|(WordVec a, WordVec b) { return {_mm256_or_si256(a.v, b.v)}; }
inline WordVec operator^(WordVec a, WordVec b) { return {_mm256_xor_si256(a.v, b.v)}; }
template <int n>
inline WordVec left(WordVec a) {
    return {_mm256_slli_epi64(a.v, n)};
}
template <int n>
inline WordVec right(WordVec a) {
    return {_mm256_srli_epi64(a.v, n)};
}
inline WordVec left(WordVec a, WordVec n) { return {_mm256_sllv_epi64(a.v, n.v)}; }
inline WordVec right(WordVec a, WordVec n) { return {_mm256_srlv_epi64(a.v, n.v)}; }
// The product of the lower halves.
inline WordVec times_half(WordVec a, WordVec b) { return {_mm256_mul_epu32(a.v, b.v)}; }
// 1 in the lanes where a < b.
inline WordVec is_less(WordVec a, WordVec b) {
    const WordVec upper = WordVec::set(std::uint64_t{1} << 63);
    return right<63>(WordVec{_mm256_cmpgt_epi64((b ^ upper).v, (a ^ upper).v)});
}
// Which fourths of eight words are below a limit under 2¹⁶, a bit each.
inline std::uint32_t fourths_below(const WordVec* words, std::uint32_t limit) {
    const __m256i upper = _mm256_set1_epi16(static_cast<short>(0x8000));
    const __m256i least = _mm256_set1_epi16(static_cast<short>(limit ^ 0x8000));
    const __m256i first = _mm256_cmpgt_epi16(least, _mm256_xor_si256(words[0].v, upper));
    const __m256i second = _mm256_cmpgt_epi16(least, _mm256_xor_si256(words[1].v, upper));
    const __m256i both = _mm256_permute4x64_epi64(_mm256_packs_epi16(first, second), 0xd8);
    return static_cast<std::uint32_t>(_mm256_movemask_epi8(both));
}

#endif

// Eight additions in float32, then into double.
struct LongSum {
    Vec part = Vec::set(0.0f);
    DoubleSum sum;
    int pending = 0;

    void add(Vec x) {
        part = part + x;
        if (++pending == 8) fold();
    }
    void fold() {
        sum.add(part);
        part = Vec::set(0.0f);
        pending = 0;
    }
    double total() {
        fold();
        return sum.total();
    }
};

constexpr float exp_floor = -86.5f;

// e^r − 1 = r · p with r = x − n · ln 2, |r| ≤ ½ ln 2, and n in the low bits of `shifted`.
inline Vec exp_parts(Vec x, Vec* r, Vec* shifted) {
    // Adding 1.5 · 2^23 rounds to a whole number and leaves it in the low bits.
    const Vec shifter = Vec::set(12582912.0f);
    *shifted = fma(x, Vec::set(1.44269504f), shifter);
    const Vec n = *shifted - shifter;
    *r = fma(n, Vec::set(-0.69314718f), x);  // float32's ln 2 is within 2e-9, and n · that is nothing here
    // Minimax with the first two coefficients of e^r held at 1: 3e-9.
    Vec p = Vec::set(1.3814539571e-3f);
    p = fma(p, *r, Vec::set(8.3687451609e-3f));
    p = fma(p, *r, Vec::set(4.1668390796e-2f));
    p = fma(p, *r, Vec::set(1.6666520398e-1f));
    p = fma(p, *r, Vec::set(4.9999993432e-1f));
    return fma(p, *r, Vec::set(1.0f));
}

// e^x for exp_floor ≤ x ≤ 0, within 0.8 units in the last place down to e^−10 and 1.6 below.
inline Vec exp_nonpositive(Vec x) {
    Vec r, shifted;
    const Vec p = exp_parts(x, &r, &shifted);
    return times_power_of_two(fma(p, r, Vec::set(1.0f)), shifted);
}

// 1 − e^x for exp_floor ≤ x ≤ 0, within an ulp or two also where it is small.
inline Vec one_minus_exp(Vec x) {
    Vec r, shifted;
    const Vec p = exp_parts(x, &r, &shifted);
    const Vec power = times_power_of_two(Vec::set(1.0f), shifted);
    return (Vec::set(1.0f) - power) - power * (p * r);
}

// ln x for normal positive x, within an ulp or two.
inline Vec log(Vec x) {
    Vec e;
    const Vec m = split(x, &e);
    const Vec r = m - Vec::set(1.0f);
    const Vec r2 = r * r;
    Vec p = Vec::set(7.0376836292e-2f);
    p = fma(p, r, Vec::set(-1.1514610310e-1f));
    p = fma(p, r, Vec::set(1.1676998740e-1f));
    p = fma(p, r, Vec::set(-1.2420140846e-1f));
    p = fma(p, r, Vec::set(1.4249322787e-1f));
    p = fma(p, r, Vec::set(-1.6668057665e-1f));
    p = fma(p, r, Vec::set(2.0000714765e-1f));
    p = fma(p, r, Vec::set(-2.4999993993e-1f));
    p = fma(p, r, Vec::set(3.3333331174e-1f));
    p = p * r * r2;
    p = fma(e, Vec::set(-2.12194440e-4f), p);
    p = fma(r2, Vec::set(-0.5f), p);
    return fma(e, Vec::set(0.693359375f), r + p);
}

// ln x in float64 for x from √½ up, within 1e-16 + 3e-16 · ln x; ln 1 is 0.
inline DoubleVec log(DoubleVec x) {
    DoubleVec e;
    const DoubleVec m = split(x, &e), one = DoubleVec::set(1.0);
    // ln m = 2 artanh t with |t| ≤ 0.172: the series.
    const DoubleVec t = (m - one) / (m + one), t2 = t * t;
    DoubleVec p = DoubleVec::set(2.0 / 21.0);
    p = fma(p, t2, DoubleVec::set(2.0 / 19.0));
    p = fma(p, t2, DoubleVec::set(2.0 / 17.0));
    p = fma(p, t2, DoubleVec::set(2.0 / 15.0));
    p = fma(p, t2, DoubleVec::set(2.0 / 13.0));
    p = fma(p, t2, DoubleVec::set(2.0 / 11.0));
    p = fma(p, t2, DoubleVec::set(2.0 / 9.0));
    p = fma(p, t2, DoubleVec::set(2.0 / 7.0));
    p = fma(p, t2, DoubleVec::set(2.0 / 5.0));
    p = fma(p, t2, DoubleVec::set(2.0 / 3.0));
    return fma(e, DoubleVec::set(0.6931471805599453), fma(p * t2, t, t + t));
}

constexpr double double_exp_floor = -700.0;

// e^x in float64 for double_exp_floor ≤ x ≤ 0, within two units in the last place.
inline DoubleVec exp_nonpositive(DoubleVec x) {
    const DoubleVec shifter = DoubleVec::set(6755399441055744.0);  // 1.5 · 2^52, as in exp_parts
    const DoubleVec shifted = fma(x, DoubleVec::set(1.4426950408889634), shifter), n = shifted - shifter;
    DoubleVec r = fma(n, DoubleVec::set(-0.6931471805599453), x);
    r = fma(n, DoubleVec::set(-2.3190468138462996e-17), r);  // what ln 2 has beyond a double
    // The series of e^r for |r| ≤ ½ ln 2.
    DoubleVec p = DoubleVec::set(1.0 / 6227020800.0);
    p = fma(p, r, DoubleVec::set(1.0 / 479001600.0));
    p = fma(p, r, DoubleVec::set(1.0 / 39916800.0));
    p = fma(p, r, DoubleVec::set(1.0 / 3628800.0));
    p = fma(p, r, DoubleVec::set(1.0 / 362880.0));
    p = fma(p, r, DoubleVec::set(1.0 / 40320.0));
    p = fma(p, r, DoubleVec::set(1.0 / 5040.0));
    p = fma(p, r, DoubleVec::set(1.0 / 720.0));
    p = fma(p, r, DoubleVec::set(1.0 / 120.0));
    p = fma(p, r, DoubleVec::set(1.0 / 24.0));
    p = fma(p, r, DoubleVec::set(1.0 / 6.0));
    p = fma(p, r, DoubleVec::set(0.5));
    p = fma(p, r, DoubleVec::set(1.0));
    p = fma(p, r, DoubleVec::set(1.0));
    return times_power_of_two(p, shifted);
}

template <ccma::Dtype stored>
struct Stored {
    static constexpr ccma::Dtype dtype = stored;
};

// of(Stored<dtype>), for what is compiled for each storage type.
template <class Of>
inline auto of_stored(ccma::Dtype dtype, const Of& of) {
    switch (dtype) {
        case ccma::Dtype::f16:
            return of(Stored<ccma::Dtype::f16>());
        case ccma::Dtype::bf16:
            return of(Stored<ccma::Dtype::bf16>());
        default:
            return of(Stored<ccma::Dtype::f32>());
    }
}

template <ccma::Dtype dtype>
inline Vec load_stored(const void* row, std::int64_t i) {
    if constexpr (dtype == ccma::Dtype::f32) {
        return Vec::load(static_cast<const float*>(row) + i);
    } else {
        const std::uint16_t* p = static_cast<const std::uint16_t*>(row) + i;
        return dtype == ccma::Dtype::f16 ? Vec::load_half(p) : Vec::load_bfloat(p);
    }
}

// The values from i up to n, and `fill` beyond.
template <ccma::Dtype dtype>
inline Vec load_stored_tail(const void* row, std::int64_t i, std::int64_t n, float fill) {
    float lanes[Vec::width];
    for (std::int64_t j = 0; j < Vec::width; ++j) lanes[j] = fill;
    if constexpr (dtype == ccma::Dtype::f32) {
        for (std::int64_t j = 0; i + j < n; ++j) lanes[j] = static_cast<const float*>(row)[i + j];
    } else {
        std::uint16_t bits[Vec::width] = {};
        for (std::int64_t j = 0; i + j < n; ++j) bits[j] = static_cast<const std::uint16_t*>(row)[i + j];
        float widened[Vec::width];
        load_stored<dtype>(bits, 0).store(widened);
        for (std::int64_t j = 0; i + j < n; ++j) lanes[j] = widened[j];
    }
    return Vec::load(lanes);
}

// first + the number of each lane whose bit is set, in order, followed by unspecified values up to a whole vector.
inline void compress_positions(Vec::Mask mask, std::int64_t first, std::int32_t* p) {
#if defined(__AVX512F__)
    const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const __m512i positions = _mm512_add_epi32(lanes, _mm512_set1_epi32(static_cast<std::int32_t>(first)));
    _mm512_storeu_si512(p, _mm512_maskz_compress_epi32(static_cast<__mmask16>(mask), positions));
#else
    for (; mask != 0; mask &= mask - 1) *p++ = static_cast<std::int32_t>(first + __builtin_ctz(mask));
#endif
}

}  // namespace
