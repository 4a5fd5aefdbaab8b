// The nearest of many centroids, exactly, without computing most distances.
//
// What decides is the squared distance d²(x, μ) = ‖x − μ‖² in float32 of rows x · scale − origin and centroids μ −
// origin (sums in stretches, carried on in double): the nearest centroid is the one of least d², the lower index where
// several have it. Everything else only rules centroids out. With y = Pᵀx and ν = Pᵀμ, for the few orthonormal columns
// of P along which the data vary most, and ỹ ≈ y, ν̃ ≈ ν of one byte a number,
//
//     |x · μ − ỹ · ν̃| ≤ ‖x − P y‖ ‖μ − P ν‖ + ‖y − ỹ‖ ‖ν‖ + ‖ỹ‖ ‖ν − ν̃‖ + rounding
//
// (Cauchy and Schwarz), so that a short product per pair, of bytes where the processor multiplies those, bounds x · μ −
// ½ ‖μ‖² = ½ (‖x‖² − d²) from above: first along some columns for all centroids, then, for those whose bound reaches
// the best value found so far, along all columns, and for what is left by bytes of all D dimensions (P = I). Where that
// does not decide either d² is computed, best bound first. No result depends on P, on how many of its columns are
// looked at first, on threads, or on how rows are cut into chunks.
#pragma once

#include <cstdint>
#include <vector>

#include "ccma/kmeans.hpp"
#include "ccma/parallel.hpp"
#include "ccma/types.hpp"

namespace ccma {

// What goes with the bytes of a row, ỹ = scale · bytes.
struct SketchedRow {
    float scale;
    float off;    // upper bound on ‖x − P y‖
    float error;  // upper bound on ‖y − ỹ‖
};

// Rows seen along P.
struct Sketched {
    std::int8_t* bytes;  // (M, width)
    SketchedRow* rows;   // (M,)
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

    // Upper bound on ‖x − P y‖ from ‖x‖² and ‖y‖², of some of the columns or all.
    float off(double squares, double squares_along) const;

    const struct KMeansKernels& kernels() const { return kernels_; }

  private:
    const struct KMeansKernels& kernels_;  // those of the panels
    Panels panels_;
    std::vector<float> origin_;  // padded
    double product_error_, skew_;
};

// What is known of each row.
struct Hints {
    const std::int32_t* labels = nullptr;  // any centroid, the nearer the faster
    // d² to it when it was the nearest of all centroids, of equally near ones the one of lowest index, and those that
    // have not moved since stood where they do.
    const float* squared = nullptr;
};

// Centroids, packed once for many chunks of rows.
class Search {
  public:
    // `centroids` is (K, D) and `origin` (D,). With a sketch, whose origin it must be, the first `width` of its
    // directions are looked at first, a multiple of row_padding, as its own width is; without one, all D dimensions
    // are. `moved` (K) says which centroids do not stand where they did when the hints were found; null: all.
    Search(const float* centroids, std::int64_t k, std::int64_t d, const float* origin, const Sketch* sketch,
           std::int64_t width, const bool* moved = nullptr);

    std::int64_t count() const { return k_; }
    std::int64_t dimensions() const { return d_; }
    const Sketch* sketch() const { return sketch_; }

    // The nearest centroid of each row and d² to it. `sketched` is what the sketch's `project` made of the rows, where
    // there is one. A row that is not farther from its hint than it was meets only the centroids that moved. Where no
    // centroid is nearer than `within` the label is −1, and d² is `within`. Hints' labels or `within` must be null.
    void nearest(const Matrix& x, const float* scale, const Sketched& sketched, const Hints& hints, const float* within,
                 std::int32_t* labels, float* squared, const Poll& poll) const;

  private:
    struct Block;
    struct Candidates;
    struct Incumbent;

    // What goes with the bytes of all D dimensions of a row or centroid.
    struct Whole {
        float scale;
        float error;   // upper bound on the distance to scale · bytes
        float length;  // upper bound on the distance to the origin
    };

    void pack(const float* centroids);
    // `seen` is the centred centroid along the sketch's directions, or itself; its error as bytes, which `bytes` has
    // room for, is returned.
    float pack_column(std::int64_t column, const float* centred, const float* seen, std::int8_t* bytes);
    Whole whole_of(const float* centred, double squares, std::int8_t* bytes) const;
    void load(Block& block, const Matrix& x, const float* scale, const Sketched& sketched, const Hints& hints) const;
    void bounds(Block& block, std::int64_t rows, std::int64_t first_panel, std::int64_t panels) const;
    void look_further(const Sketched& sketched, std::int64_t row, std::int64_t first, Candidates& candidates) const;
    void look_closely(const Block& block, std::int64_t row, std::int64_t first, Candidates& candidates) const;
    // Of `count` centroids from column `first` on, whose scores the block has, lets all that may be nearer try.
    void meet(const Block& block, std::int64_t row, std::int64_t first, std::int64_t count, const Sketched& sketched,
              const Hints& hints, Candidates& candidates, Incumbent& incumbent) const;
    double least(const Block& block, std::int64_t row, const Incumbent& incumbent) const;
    void prefetch(std::int64_t column) const;
    float distance(const float* exact, std::int64_t column) const;
    void try_centroid(const Block& block, std::int64_t row, std::int64_t column, Incumbent& incumbent) const;

    const struct KMeansKernels& kernels_;  // those whose tiles the panels were packed for
    std::int64_t k_, d_, panel_cols_, n_panels_;
    std::int64_t width_;  // values per row that are looked at first
    std::int64_t rest_;   // and afterwards
    const Sketch* sketch_;
    bool by_bytes_;                        // products of bytes, else of float32
    std::vector<float> origin_;            // (padded D)
    std::vector<std::int32_t> label_of_;   // (K): which centroid stands in each column; those that moved come first
    std::vector<std::int64_t> column_of_;  // (K)
    std::int64_t n_moved_;
    std::vector<float> centred_;             // (K, padded D): μ − origin
    std::vector<float> panels_;              // (n_panels, width, panel_cols): ν, or
    std::vector<std::uint8_t> byte_panels_;  // the same of bytes + 128, by fours
    std::vector<float> scales_;              // (n_panels · panel_cols): ν̃ = scale · bytes
    std::vector<float> offsets_;             // (n_panels · panel_cols): −½‖μ − origin‖², −inf beyond K
    std::vector<std::int8_t> rests_;         // (K, rest): the bytes that are looked at afterwards
    std::vector<std::int8_t> whole_;         // (K, padded D): bytes of μ − origin, where there is a sketch
    std::vector<Whole> of_whole_;            // (K)
    std::vector<float> off_;                 // (K): upper bound on ‖μ − P ν‖ by what is looked at first
    std::vector<float> full_off_;            // (K): and by all
    double longest_ = 0.0;                   // largest ‖μ − origin‖
    double largest_error_ = 0.0;             // largest ‖ν − ν̃‖
};

}  // namespace ccma
