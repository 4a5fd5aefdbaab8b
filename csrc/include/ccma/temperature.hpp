// What the likeliest temperature of logits is found by.
#pragma once

#include <cstdint>

#include "ccma/parallel.hpp"

namespace ccma {

struct Tempered {
    double mean;      // Σ over rows of Σ_c p_c s_c
    double variance;  // Σ over rows of Σ_c p_c s_c² − (Σ_c p_c s_c)²
};

// Of rows of `classes` > 0 logits s ≤ 0, class after class, that of row r and class c at s[c · rows + r]; the largest
// of a row is 0. p = softmax(beta · s), beta > 0.
Tempered tempered(const double* s, std::int64_t rows, std::int64_t classes, double beta, const Poll& poll);

}  // namespace ccma
