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
    const auto load = [n](const std::int8_t* row, std::int64_t d) {
        const __mmask64 there = n - d >= 64 ? ~__mmask64{0} : (__mmask64{1} << (n - d)) - 1;
        return _mm512_maskz_loadu_epi8(there, row + d);
    };
    __m512i start = _mm512_setzero_si512();
    for (std::int64_t d = 0; d < n; d += 64) add_products(start, shift, load(x, d));
    for (std::int64_t i = 0; i < m; ++i) {
        const std::int8_t* row = rows + index[i] * stride;
        __m512i sum = _mm512_setzero_si512();
        for (std::int64_t d = 0; d < n; d += 64) add_products(sum, _mm512_xor_si512(load(row, d), shift), load(x, d));
        out[i] = _mm512_reduce_add_epi32(_mm512_sub_epi32(sum, start));
    }
}
