#include "lanes_simd.hpp"
#include "score_simd.hpp"

const ccma::ScoreKernels ccma::score_avx2 = score_kernels;
const ccma::LaneKernels ccma::lanes_avx2 = lane_kernels;
