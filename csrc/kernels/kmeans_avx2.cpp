#include "kmeans_simd.hpp"

const ccma::KMeansKernels ccma::kmeans_avx2 = kmeans_kernels;
