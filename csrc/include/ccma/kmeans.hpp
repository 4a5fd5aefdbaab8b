// The passes of weighted k-means over a chunk of rows, and the product that they share with linear layers.
//
// A row enters as x · scale in float32 (scale 1 where none is given). Products are accumulated in float32 in the order
// of the dimensions, in stretches of a few hundred; each depends on its row and its centroid alone, so that no result
// depends on the number of threads or on how rows are cut into chunks.
#pragma once

#include <cstdint>
#include <vector>

#include "ccma/parallel.hpp"
#include "ccma/types.hpp"

namespace ccma {

// Rows of a matrix (centroids, or the weights of a linear layer), packed once for many chunks of rows.
class Panels {
  public:
    // `matrix` is (K, D) float32. Centred panels keep μ_k − mean(μ), which is what keeps distances exact for data far
    // from the origin.
    Panels(const float* matrix, std::int64_t k, std::int64_t d, bool centred);

    std::int64_t count() const { return k_; }
    std::int64_t dimensions() const { return d_; }

    // The nearest row k of each row of X (ties: the lower k) and the squared distance to it. Needs centred panels.
    void nearest(const Matrix& x, const float* scale, std::int32_t* labels, float* squared, const Poll& poll) const;

    // out (M, K) = X matrixᵀ + bias (none where null). Needs panels that are not centred.
    void multiply(const Matrix& x, const float* scale, const float* bias, float* out, const Poll& poll) const;

  private:
    const struct KMeansKernels& kernels_;  // those whose tiles the panels were packed for
    std::int64_t k_, d_, panel_cols_, n_panels_;
    std::vector<float> panels_;   // (n_panels, D, panel_cols)
    std::vector<float> shift_;    // (D,): the mean that was subtracted, empty where none was
    std::vector<float> offsets_;  // (n_panels · panel_cols): ½‖μ_k − mean‖², +inf beyond K
    std::vector<float> centred_;  // (K, padded D): the rows themselves, for exact distances
};

// sums (K, D) += Σ w_i x_i and mass (K) += Σ w_i over the rows of each cluster, in row order, in double.
void accumulate(const Matrix& x, const float* scale, const std::int32_t* labels, const float* weights, std::int64_t k,
                double* sums, double* mass, const Poll& poll);

// Euclidean length of each row, in double; not finite exactly where the row holds NaN or infinity.
void row_lengths(const Matrix& x, double* lengths, const Poll& poll);

}  // namespace ccma
