// The kernels of every instruction set that this binary holds.
#pragma once

#include "ccma/kernels.hpp"

namespace ccma {

extern const ScoreKernels score_scalar;
extern const ThresholdKernels threshold_scalar;
extern const KMeansKernels kmeans_scalar;
extern const HeadKernels head_scalar;

#if defined(CCMA_X86)
extern const ScoreKernels score_avx2, score_avx512;
extern const ThresholdKernels threshold_avx2, threshold_avx512;
extern const KMeansKernels kmeans_avx2, kmeans_avx512;
extern const HeadKernels head_avx2, head_avx512;
extern const LaneKernels lanes_avx2, lanes_avx512;
void tile_product_avx512_vnni(const std::int8_t* x, std::int64_t stride, std::int64_t n, const std::uint8_t* panel,
                              const std::int32_t* start, const float* scale, const float* panel_scale,
                              const float* offset, float* out, std::int64_t out_stride);
void dots_avx512_vnni(const std::int8_t* x, const std::int8_t* rows, std::int64_t stride, std::int64_t n,
                      const std::int32_t* index, std::int64_t m, std::int32_t* out);
#endif

}  // namespace ccma
