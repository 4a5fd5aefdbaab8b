// Thresholds on scores as cuts of logits.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "ccma/kernels.hpp"
#include "ccma/types.hpp"
#include "score_row.hpp"

namespace ccma {

// The cuts of a tile's rows at one threshold for each model. Without a teacher nothing passes for it.
struct TileCuts {
    float student[score_tile], teacher[score_tile];

    TileCuts() { std::fill_n(teacher, score_tile, HUGE_VALF); }
};

// Finds cuts side by side: at most two thresholds for each of two models.
class Cuts {
  public:
    explicit Cuts(const ScoreKernels& k) : k_(k) {}

    // Those of a tile, whose first row is that of `begin` in the matrix.
    void find(const ScoredTile& tile, const Threshold& q, std::int64_t begin, float* cut) {
        find(tile.maxima(), tile.log_normalizers(), tile.count(), q, begin, cut);
    }
    // Those of a tile of lanes.
    void find(const LaneTile& tile, const Threshold& q, std::int64_t begin, float* cut) {
        find(tile.maximum, tile.log_sum, tile.count, q, begin, cut);
    }
    // That of one row.
    void find(const ScoredRow& row, double q, float* cut) { find(&row.maximum, &row.log_normalizer, 1, q, 0, cut); }

    // Everything that was asked for is there after this.
    void flush() {
        float found[score_tile];
        row_cuts(k_, maximum_, log_sum_, q_, n_, found);
        const float* next = found;
        for (std::int64_t i = 0; i < n_asked_; next += asked_[i++].count) {
            std::copy_n(next, asked_[i].count, asked_[i].cut);
        }
        n_ = n_asked_ = 0;
    }

  private:
    struct Asked {
        float* cut;
        std::int64_t count;
    };

    void find(const float* maximum, const double* log_sum, std::int64_t count, const Threshold& q, std::int64_t begin,
              float* cut) {
        if (n_ + count > score_tile) flush();
        std::copy_n(maximum, count, maximum_ + n_);
        std::copy_n(log_sum, count, log_sum_ + n_);
        for (std::int64_t r = 0; r < count; ++r) q_[n_ + r] = q.at(begin + r);
        asked_[n_asked_++] = {cut, count};
        n_ += count;
    }

    const ScoreKernels& k_;
    std::int64_t n_ = 0, n_asked_ = 0;
    float maximum_[score_tile] = {};
    double log_sum_[score_tile] = {}, q_[score_tile] = {};
    Asked asked_[score_tile];
};

}  // namespace ccma
