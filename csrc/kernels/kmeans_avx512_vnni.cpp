#include <immintrin.h>

#include "tables.hpp"

namespace {

constexpr std::int64_t tile_rows = 14, panel_cols = 32;  // those of kmeans_simd.hpp with AVX-512

// sum += the products of each four bytes of `fours` with the four of `four`. Written out, because GCC 12 gives the
// intrinsic's operand a copy of its own and then runs out of registers.
inline void add_products(__m512i& sum, __m512i fours, __m512i four) {
    asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(fours), "v"(four));
}

inline __m512 scaled(__m512i sum, __m512 scale, const float* offset) {
    return _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), scale, _mm512_loadu_ps(offset));
}

}  // namespace

void ccma::tile_product_avx512_vnni(const std::int8_t* x, std::int64_t stride, std::int64_t n,
                                    const std::uint8_t* panel, const std::int32_t* start, const float* scale,
                                    const float* panel_scale, const float* offset, float* out,
                                    std::int64_t out_stride) {
    __m512i sum[tile_rows][2];
#pragma GCC unroll 16
    for (std::int64_t r = 0; r < tile_rows; ++r) sum[r][0] = sum[r][1] = _mm512_set1_epi32(start[r]);
    for (std::int64_t d = 0; d < n; d += 4) {
        const std::uint8_t* fours = panel + d * panel_cols;
        const __m512i left = _mm512_loadu_si512(fours), right = _mm512_loadu_si512(fours + 64);
#pragma GCC unroll 16
        for (std::int64_t r = 0; r < tile_rows; ++r) {
            std::int32_t four;
            __builtin_memcpy(&four, x + r * stride + d, sizeof four);
            const __m512i value = _mm512_set1_epi32(four);
            add_products(sum[r][0], left, value);
            add_products(sum[r][1], right, value);
        }
    }
    const __m512 left_scale = _mm512_loadu_ps(panel_scale), right_scale = _mm512_loadu_ps(panel_scale + 16);
#pragma GCC unroll 16
    for (std::int64_t r = 0; r < tile_rows; ++r) {
        const __m512 factor = _mm512_set1_ps(scale[r]);
        _mm512_storeu_ps(out + r * out_stride, scaled(sum[r][0], _mm512_mul_ps(factor, left_scale), offset));
        _mm512_storeu_ps(out + r * out_stride + 16, scaled(sum[r][1], _mm512_mul_ps(factor, right_scale), offset + 16));
    }
}

void ccma::dots_avx512_vnni(const std::int8_t* x, const std::int8_t* rows, std::int64_t stride, std::int64_t n,
                            const std::int32_t* index, std::int64_t m, std::int32_t* out) {
    // One factor must be unsigned: it becomes so by 128, which adds 128 · Σ x.
    const __m512i shift = _mm512_set1_epi8(-128);
    const std::int64_t whole = n / 64 * 64;
    const __mmask64 rest = (__mmask64{1} << (n - whole)) - 1;
    __m512i start = _mm512_setzero_si512();
    for (std::int64_t d = 0; d < whole; d += 64) add_products(start, shift, _mm512_loadu_si512(x + d));
    if (rest) add_products(start, shift, _mm512_maskz_loadu_epi8(rest, x + whole));
    start = _mm512_sub_epi32(_mm512_setzero_si512(), start);

    // Four rows at a time, so that their sums wait for each other's memory and not for themselves.
    for (std::int64_t i = 0; i < m; i += 4) {
        const std::int8_t* row[4];
        __m512i sum[4];
        for (std::int64_t r = 0; r < 4; ++r) {
            row[r] = rows + index[i + r < m ? i + r : m - 1] * stride;
            sum[r] = start;
        }
        for (std::int64_t d = 0; d < whole; d += 64) {
            const __m512i part = _mm512_loadu_si512(x + d);
#pragma GCC unroll 4
            for (std::int64_t r = 0; r < 4; ++r) {
                add_products(sum[r], _mm512_xor_si512(_mm512_loadu_si512(row[r] + d), shift), part);
            }
        }
        if (rest) {
            const __m512i part = _mm512_maskz_loadu_epi8(rest, x + whole);
#pragma GCC unroll 4
            for (std::int64_t r = 0; r < 4; ++r) {
                const __m512i values = _mm512_maskz_loadu_epi8(rest, row[r] + whole);
                add_products(sum[r], _mm512_xor_si512(values, shift), part);
            }
        }
        // Each quarter of a vector comes to hold a part of all four sums.
        const auto pairs = [](__m512i a, __m512i b) {
            return _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
        };
        const __m512i left = pairs(sum[0], sum[1]), right = pairs(sum[2], sum[3]);
        const __m512i all = _mm512_add_epi32(_mm512_unpacklo_epi64(left, right), _mm512_unpackhi_epi64(left, right));
        const __m256i half = _mm256_add_epi32(_mm512_castsi512_si256(all), _mm512_extracti64x4_epi64(all, 1));
        const __m128i totals = _mm_add_epi32(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
        alignas(16) std::int32_t four[4];
        _mm_store_si128(reinterpret_cast<__m128i*>(four), totals);
        for (std::int64_t r = 0; r < 4 && i + r < m; ++r) out[i + r] = four[r];
    }
}
