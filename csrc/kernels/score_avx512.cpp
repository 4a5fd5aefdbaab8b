#include "lanes_simd.hpp"
#include "score_simd.hpp"

const ccma::ScoreKernels ccma::score_avx512 = score_kernels;
const ccma::LaneKernels ccma::lanes_avx512 = lane_kernels;
