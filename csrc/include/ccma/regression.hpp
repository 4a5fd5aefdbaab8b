// The loss of a softmax regression and its gradient, and what a solver computes of matrices of coefficients.
#pragma once

#include <cstdint>
#include <vector>

#include "ccma/kmeans.hpp"
#include "ccma/parallel.hpp"

namespace ccma {

// What M rows are to be, packed for many gradients.
class Targets {
  public:
    // The first `labelled` rows are of a class of `labels`; `soft` (M − labelled, C) holds the probabilities of the
    // others, those of a row sum to 1; `offset` (M, C) is a fixed part of the logits, null for none.
    Targets(const std::int64_t* labels, std::int64_t labelled, const float* soft, const float* offset, std::int64_t m,
            std::int64_t classes);

    std::int64_t count() const { return m_; }
    std::int64_t classes() const { return classes_; }

    // Turns logits of `count` rows from `begin` on, a multiple of score_tile, no more than there are in a tile, into w
    // (softmax(z + offset) − t): that of class c and row j is z[c · stride + j], and comes to out[c · out_stride + j].
    // Logits are overwritten, and losses w (ln Σ exp(z + offset) − t · (z + offset)), in nats, are returned in theirs.
    void residuals(std::int64_t begin, std::int64_t count, const float* weights, float* z, std::int64_t stride,
                   float* out, std::int64_t out_stride, double* losses) const;

  private:
    std::int64_t m_, classes_;
    std::vector<std::int64_t> labels_;
    std::int64_t first_soft_;     // the first tile with soft targets
    std::vector<float> soft_;     // (tiles from there on, C, score_tile)
    std::vector<float> offsets_;  // (tiles, C, score_tile)
};

// Rows x, (M, D), packed for the products that a gradient takes.
class RegressionRows {
  public:
    RegressionRows(const float* x, std::int64_t m, std::int64_t d);

    std::int64_t count() const { return rows_.count(); }
    std::int64_t dimensions() const { return rows_.dimensions(); }

    // Of logits z = W x + offset, p = softmax(z) and targets t: `gradient` (C, D) is Σ w (p − t) xᵀ, and Σ w (ln Σ exp
    // z − t · z), in nats, is returned. W is `coef` (C, D). Stretches of rows without weight take no time.
    double gradient(const Targets& targets, const float* coef, const float* weights, float* gradient,
                    const Poll& poll) const;

  private:
    struct Pass;
    void residuals(const Pass& pass, std::int64_t begin, std::int64_t end) const;
    void item_residuals(const Pass& pass, std::int64_t begin, std::int64_t end) const;
    void add_products(const Pass& pass, std::int64_t first, std::int64_t last) const;
    void columns(std::int64_t begin, std::int64_t end, std::int64_t first, float* out) const;

    Panels rows_;
};

// out[i] = Σ_j stack[i][j] · vector[j] in double, of `count` vectors of n values.
void dots(const float* stack, std::int64_t count, const float* vector, std::int64_t n, double* out, const Poll& poll);

// out[j] = Σ_i factors[i] · stack[i][j] in float32, in the order of i; count > 0.
void combination(const float* stack, std::int64_t count, const float* factors, std::int64_t n, float* out,
                 const Poll& poll);

// L⁻¹ of the symmetric matrix L Lᵀ (n, n), which has no eigenvalue below `least` but for rounding: no pivot is smaller.
void inverse_factor(const float* matrix, std::int64_t n, float least, float* out, const Poll& poll);

}  // namespace ccma
