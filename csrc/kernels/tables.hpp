// The kernels of every instruction set that this binary holds.
#pragma once

#include "ccma/kernels.hpp"

namespace ccma {

// Products are summed in float32 over stretches of so many dimensions before they join the total: the rounding error
// then grows with the root of this number, not of D.
constexpr std::int64_t product_stretch = 256;

extern const ScoreKernels score_scalar;
extern const ThresholdKernels threshold_scalar;
extern const KMeansKernels kmeans_scalar;

#if defined(CCMA_X86)
extern const ScoreKernels score_avx2, score_avx512;
extern const ThresholdKernels threshold_avx2, threshold_avx512;
extern const KMeansKernels kmeans_avx2, kmeans_avx512;
#endif

}  // namespace ccma
