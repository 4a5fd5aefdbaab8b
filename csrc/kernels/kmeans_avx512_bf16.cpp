#include <immintrin.h>

#include "tables.hpp"

namespace {

constexpr std::int64_t tile_rows = 14, panel_cols = 32;  // those of kmeans_simd.hpp with AVX-512

}  // namespace

void ccma::tile_product_avx512_bf16(const std::uint16_t* x, std::int64_t stride, std::int64_t n,
                                    const std::uint16_t* panel, const float* offset, float* out,
                                    std::int64_t out_stride) {
    __m512 sum[tile_rows][2];
    const __m512 left_offset = _mm512_loadu_ps(offset), right_offset = _mm512_loadu_ps(offset + 16);
#pragma GCC unroll 16
    for (std::int64_t r = 0; r < tile_rows; ++r) sum[r][0] = sum[r][1] = _mm512_setzero_ps();
    for (std::int64_t d = 0; d < n; d += 2) {
        const std::uint16_t* pairs = panel + d * panel_cols;
        const __m512bh left = reinterpret_cast<__m512bh>(_mm512_loadu_si512(pairs));
        const __m512bh right = reinterpret_cast<__m512bh>(_mm512_loadu_si512(pairs + 32));
#pragma GCC unroll 16
        for (std::int64_t r = 0; r < tile_rows; ++r) {
            std::int32_t pair;
            __builtin_memcpy(&pair, x + r * stride + d, sizeof pair);
            const __m512bh value = reinterpret_cast<__m512bh>(_mm512_set1_epi32(pair));
            sum[r][0] = _mm512_dpbf16_ps(sum[r][0], value, left);
            sum[r][1] = _mm512_dpbf16_ps(sum[r][1], value, right);
        }
    }
#pragma GCC unroll 16
    for (std::int64_t r = 0; r < tile_rows; ++r) {
        _mm512_storeu_ps(out + r * out_stride, _mm512_add_ps(sum[r][0], left_offset));
        _mm512_storeu_ps(out + r * out_stride + 16, _mm512_add_ps(sum[r][1], right_offset));
    }
}

void ccma::dots_avx512_bf16(const std::uint16_t* x, const std::uint16_t* rows, std::int64_t stride, std::int64_t n,
                            const std::int32_t* index, std::int64_t m, float* out) {
    for (std::int64_t i = 0; i < m; ++i) {
        const std::uint16_t* row = rows + index[i] * stride;
        __m512 sum = _mm512_setzero_ps();
        for (std::int64_t d = 0; d < n; d += 32) {
            sum = _mm512_dpbf16_ps(sum, reinterpret_cast<__m512bh>(_mm512_loadu_si512(x + d)),
                                   reinterpret_cast<__m512bh>(_mm512_loadu_si512(row + d)));
        }
        out[i] = _mm512_reduce_add_ps(sum);
    }
}
