// Order statistics of all M · C scores without sorting them, and of M values without sorting those.
#pragma once

#include <cstdint>
#include <vector>

#include "ccma/parallel.hpp"
#include "ccma/types.hpp"

namespace ccma {

struct ScoresBetween {
    std::int64_t bad_row = -1;     // first row with NaN or infinity; then the rest is not meaningful
    std::int64_t at_most_low = 0;  // how many scores a ≤ low
    std::int64_t between = 0;      // how many low < a ≤ high
    std::vector<double> values;    // those scores, all of them or, where they exceed it, a sample of about
                                   // `capacity` from everywhere in the matrix
};

// One pass over the logits (scores as in score.hpp).
ScoresBetween scores_between(const Matrix& logits, double low, double high, std::int64_t capacity, const Poll& poll);

// Positions of the m largest of n values (no NaN), largest first; ties go to the lower position.
std::vector<std::int64_t> top_m(const float* values, std::int64_t n, std::int64_t m);

}  // namespace ccma
