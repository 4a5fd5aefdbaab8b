#include "kmeans_simd.hpp"

const ccma::KMeansKernels ccma::kmeans_avx512 = kmeans_kernels;
