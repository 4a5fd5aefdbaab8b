#include "head_simd.hpp"

const ccma::HeadKernels ccma::head_avx2 = head_kernels;
