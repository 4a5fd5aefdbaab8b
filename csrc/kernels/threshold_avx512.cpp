#include "threshold_simd.hpp"

const ccma::ThresholdKernels ccma::threshold_avx512 = threshold_kernels;
