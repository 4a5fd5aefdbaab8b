// Scores of some rows at known thresholds.
#pragma once

#include <cstdint>

#include "ccma/kernels.hpp"
#include "ccma/score.hpp"

namespace ccma {

// The scores of the rows [begin, end), that of row `begin` to place `first` of the result. Returns 2 · row, plus 1 for
// the teacher's, of the first row that is not finite, where it stops, or −1.
std::int64_t score_range(const Kernels& k, const ScoreTask& task, std::int64_t begin, std::int64_t end,
                         std::int64_t first, const ScoreResult& result);

}  // namespace ccma
