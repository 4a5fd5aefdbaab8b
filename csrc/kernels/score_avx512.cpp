#include "score_simd.hpp"

const ccma::ScoreKernels ccma::score_avx512 = score_kernels;
