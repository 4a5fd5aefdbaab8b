// The loss of a softmax regression and its derivative by the logits.
#pragma once

#include <cstdint>

#include "ccma/parallel.hpp"

namespace ccma {

// What rows are to be: the first ones of a class, the others of each class with a probability.
struct Targets {
    const std::int64_t* labels;  // (n): classes
    std::int64_t n;
    const float* soft;  // (C, M − n): probabilities, those of a row sum to 1
};

// Of logits z, (C, M): a column is a row of data. With p = softmax(z) and the target t of each,
//
//     z ← w (p − t),  losses = w (ln Σ exp z − t · z)
//
// in nats, the losses (M) and what is summed over classes in double.
void softmax_residual(float* z, std::int64_t classes, std::int64_t rows, const Targets& targets, const float* weights,
                      double* losses, const Poll& poll);

}  // namespace ccma
