// Products of rows with a matrix, and the update of weighted k-means.
//
// A row enters as x · scale in float32 (scale 1 where none is given). Products are accumulated in float32 in the order
// of the dimensions, in stretches of a few hundred; each depends on its row and its column alone, so that no result
// depends on the number of threads or on how rows are cut into chunks.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "ccma/kernels.hpp"
#include "ccma/parallel.hpp"
#include "ccma/types.hpp"

namespace ccma {

// Rows of a matrix (the weights of a linear layer, directions), packed once for many chunks of rows.
class Panels {
  public:
    enum class Of { rows, columns };

    // `matrix` is (K, D) float32, or (D, K), whose columns are packed then.
    Panels(const float* matrix, std::int64_t k, std::int64_t d, Of of = Of::rows);

    std::int64_t count() const { return k_; }
    std::int64_t dimensions() const { return d_; }
    const struct KMeansKernels& kernels() const { return kernels_; }

    // Panel p over the stretch of values that begins at `begin`, (values, panel_cols).
    const float* panel(std::int64_t p, std::int64_t begin) const { return panels_.data() + place(p, begin); }

    // out (M, K) = X matrixᵀ + bias (none where null).
    void multiply(const Matrix& x, const float* scale, const float* bias, float* out, const Poll& poll) const;

    // Of `rows` rows of x from `row` on, no more than rows_of_block: out (rows, K).
    void multiply_block(const Matrix& x, const float* scale, std::int64_t row, std::int64_t rows, float* out) const;

    // The same for `rows` float32 rows that lie `stride` apart; `offsets` has room for whole panels.
    void multiply_rows(const float* x, std::int64_t stride, std::int64_t rows, const float* offsets, float* out) const;

  private:
    std::int64_t place(std::int64_t p, std::int64_t begin) const {
        return (begin * n_panels_ + p * std::min(product_stretch, d_ - begin)) * panel_cols_;
    }
    // Of `rows` rows and some panels, from `row` and `first` on.
    void multiply_group(const Matrix& x, const float* scale, std::int64_t row, std::int64_t rows, std::int64_t first,
                        std::int64_t panels, const float* offsets, float* widened, float* product, float* out) const;

    const struct KMeansKernels& kernels_;  // those whose tiles the panels were packed for
    std::int64_t k_, d_, panel_cols_, n_panels_;
    std::vector<float> panels_;  // stretch after stretch of D, as they are read: (n_panels, values, panel_cols)
};

// Sums over the rows of clusters in fixed point: Σ w_i x_i, (limbs, K, D), and Σ w_i, (limbs, K).
struct ClusterSums {
    std::int64_t* sums;
    std::int64_t* mass;
    Limbs of_sums, of_mass;
};

// Adds rows to the sums of their clusters. Weights may be negative, which takes away what was added.
void accumulate(const Matrix& x, const float* scale, const std::int32_t* labels, const float* weights, std::int64_t k,
                const ClusterSums& out, const Poll& poll);

// Euclidean length of each row, in double; not finite exactly where the row holds NaN or infinity.
void row_lengths(const Matrix& x, double* lengths, const Poll& poll);

}  // namespace ccma
