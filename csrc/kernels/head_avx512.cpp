#include "head_simd.hpp"

const ccma::HeadKernels ccma::head_avx512 = head_kernels;
