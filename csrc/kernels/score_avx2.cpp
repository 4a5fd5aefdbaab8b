#include "score_simd.hpp"

const ccma::ScoreKernels ccma::score_avx2 = score_kernels;
