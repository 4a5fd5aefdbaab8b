// The score of a class, defined once for sets and thresholds.
#pragma once

#include <cfloat>
#include <cmath>

#include "ccma/kernels.hpp"

namespace ccma {

// One row of logits in scratch memory, with its maximum and ln Σ exp(z − maximum).
struct ScoredRow {
    float maximum = 0.0f;
    double log_normalizer = 0.0;

    double score(float z) const { return log_normalizer + (static_cast<double>(maximum) - z); }

    // The smallest float z with score(z) ≤ q: the conformal set in one comparison of floats. Always finite, so that the
    // padding of a row, −inf, is never admitted; +inf where the set is empty.
    float cut(double q) const {
        if (log_normalizer > q) return HUGE_VALF;
        const double estimate = static_cast<double>(maximum) + (log_normalizer - q);
        if (!(estimate > -static_cast<double>(FLT_MAX))) return -FLT_MAX;
        float z = static_cast<float>(estimate);
        while (z > -FLT_MAX && score(std::nextafterf(z, -HUGE_VALF)) <= q) z = std::nextafterf(z, -HUGE_VALF);
        while (score(z) > q) z = std::nextafterf(z, HUGE_VALF);
        return z;
    }
};

}  // namespace ccma
