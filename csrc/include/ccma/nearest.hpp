// The nearest of many centroids, exactly, without computing most distances.
//
// What decides is the squared distance d²(x, μ) = ‖x − μ‖² in float32 of rows x · scale − origin and centroids μ −
// origin (sums in stretches, carried on in double): the nearest centroid is the one of least d², the lower index where
// several have it. Everything else only rules centroids out. With x ≈ P ỹ and μ ≈ P μ̃, for the few orthonormal columns
// of P along which the data vary most,
//
//     |x · μ − ỹ · μ̃| ≤ ‖x − P ỹ‖ ‖μ − P μ̃‖ + rounding
//
// (Cauchy and Schwarz), so that a short product per pair, in bfloat16 where the processor multiplies it, bounds x · μ −
// ½ ‖μ‖² = ½ (‖x‖² − d²) from above: first along some columns for all centroids, then along all columns for those whose
// bound reaches the best value found so far. For what is left d² is computed, best bound first. No result depends on P,
// on how many of its columns are looked at first, on threads, or on how rows are cut into chunks.
#pragma once

#include <cstdint>
#include <vector>

#include "ccma/kmeans.hpp"
#include "ccma/parallel.hpp"
#include "ccma/types.hpp"

namespace ccma {

// Rows seen along P: ỹ as bfloat16 bits, and an upper bound on ‖x − P ỹ‖.
struct Sketched {
    std::uint16_t* values;  // (M, width)
    float* residual;        // (M,)
};

// The directions P, and what is lost by looking along them only.
class Sketch {
  public:
    // `directions` is (width, D): Pᵀ, rows orthonormal but for rounding, the most telling first. `origin` is (D,).
    Sketch(const float* directions, std::int64_t width, std::int64_t d, const float* origin);

    std::int64_t width() const { return panels_.count(); }
    std::int64_t dimensions() const { return panels_.dimensions(); }
    const float* origin() const { return origin_.data(); }

    void project(const Matrix& x, const float* scale, const Sketched& out, const Poll& poll) const;

    // Pᵀ x of `rows` rows that lie `stride` apart, in float32, (rows, width).
    void along(const float* x, std::int64_t stride, std::int64_t rows, float* out) const;

    // Bounds, as shares of ‖x‖: of the rounding of Pᵀ x, and on ‖PᵀP − I‖.
    double product_error() const { return product_error_; }
    double skew() const { return skew_; }

    // Upper bound on ‖x − P ỹ‖² from ‖x‖² and ‖Pᵀ x‖², with ỹ = Pᵀ x rounded to bfloat16.
    double squared_residual(double squares, double squares_along) const;

    const struct KMeansKernels& kernels() const { return kernels_; }

  private:
    const struct KMeansKernels& kernels_;  // those of the panels
    Panels panels_;
    std::vector<float> origin_;  // padded
    double product_error_, skew_;
};

// Centroids, packed once for many chunks of rows.
class Search {
  public:
    // `centroids` is (K, D) and `origin` (D,). With a sketch, whose origin it must be, the first `width` of its
    // directions are looked at first, a multiple of row_padding, as its own width is; without one, all D dimensions
    // are.
    Search(const float* centroids, std::int64_t k, std::int64_t d, const float* origin, const Sketch* sketch,
           std::int64_t width);

    std::int64_t count() const { return k_; }
    std::int64_t dimensions() const { return d_; }
    const Sketch* sketch() const { return sketch_; }

    // The nearest centroid of each row and d² to it. `sketched` is what the sketch's `project` made of the rows, where
    // there is one. A hint is any centroid, the nearer the faster. Of centroids that are not nearer than `within` the
    // label is −1, and d² is `within`. Either may be null, one of them must be.
    void nearest(const Matrix& x, const float* scale, const Sketched& sketched, const std::int32_t* hints,
                 const float* within, std::int32_t* labels, float* squared, const Poll& poll) const;

  private:
    struct Block;
    struct Incumbent;

    // Share that rounding takes from a value of all D dimensions that are looked at.
    double seen_rounding() const;
    void load(Block& block, const Matrix& x, const float* scale, const Sketched& sketched) const;
    void bounds(Block& block, std::int64_t first_panel, std::int64_t panels) const;
    void look_further(const Sketched& sketched, std::int64_t row, std::int64_t first, const std::int32_t* index,
                      std::int64_t n, float* rest, float* products) const;
    double least(const Block& block, std::int64_t row, const Incumbent& incumbent) const;
    void prefetch(std::int64_t centroid) const;
    void try_centroid(const Block& block, std::int64_t row, std::int32_t centroid, Incumbent& incumbent) const;

    const struct KMeansKernels& kernels_;  // those whose tiles the panels were packed for
    std::int64_t k_, d_, panel_cols_, n_panels_;
    std::int64_t width_;  // values per row that are looked at first, even
    std::int64_t rest_;   // and afterwards
    const Sketch* sketch_;
    std::vector<float> origin_;               // (padded D)
    std::vector<float> centred_;              // (K, padded D): μ − origin
    std::vector<float> panels_;               // (n_panels, width, panel_cols), or
    std::vector<std::uint16_t> bf16_panels_;  // the same by pairs
    std::vector<float> offsets_;              // (n_panels · panel_cols): −½‖μ − origin‖², −inf beyond K
    std::vector<float> rests_;                // (K, rest): the values that are looked at afterwards, or
    std::vector<std::uint16_t> bf16_rests_;   // the same
    std::vector<float> reach_;                // (K): upper bound on ‖μ − P μ̃‖ by what is looked at first
    std::vector<float> full_reach_;           // (K): and by all
    double longest_ = 0.0;                    // largest ‖μ − origin‖
};

}  // namespace ccma
