#include "threshold_simd.hpp"

const ccma::ThresholdKernels ccma::threshold_avx2 = threshold_kernels;
