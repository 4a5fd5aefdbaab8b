// Sums of products of float32 numbers, exactly, in whole numbers that may be added up in any order.
#pragma once

#include <cstdint>

#include "ccma/parallel.hpp"

namespace ccma {

// The sum is Σ_i limbs[i] · 2^(32 i − exact_sum_bias), and each limb is below 2^32 where the sum comes from
// `exact_sum`, so that 2^31 sums can be added limb by limb. The last limb counts the terms that are not finite.
constexpr std::int64_t exact_sum_limbs = 22, exact_sum_bias = 352;

// limbs = Σ w_i x_i over n numbers that are not negative.
void exact_sum(const float* w, const float* x, std::int64_t n, std::int64_t* limbs, const Poll& poll);

}  // namespace ccma
