// The scores of a row from its posterior and the union of its sets.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "ccma/kernels.hpp"
#include "ccma/score.hpp"
#include "score/union.hpp"
#include "scratch.hpp"

namespace ccma {

// Writes the scores of rows whose sets are known. Rows of small sets wait until their divergences can be computed
// together, at the latest for `flush`.
class ScoreWriter {
  public:
    ScoreWriter(const ScoreKernels& k, std::int64_t cols, bool with_teacher, const ScoreResult& result)
        : k_(k),
          with_teacher_(with_teacher),
          result_(result),
          union_s_(padded(cols) + row_padding),
          union_t_(padded(cols) + row_padding) {
        clear();
    }

    // The row's union, in scratch memory until the next one is found. Without a teacher t is s and its set empty.
    Union find(const float* s, const float* t, std::int64_t n, const PredictionSet& set_s, const PredictionSet& set_t,
               AboveCuts* above = nullptr) {
        return union_of(k_, s, t, n, set_s, set_t, union_s_.get(), union_t_.get(), above);
    }
    float* union_s() const { return union_s_.get(); }
    float* union_t() const { return union_t_.get(); }

    // The scores of row i by the union found last.
    void put(std::int64_t i, const Posterior& p, const Union& u) {
        result_.margin[i] = p.margin;
        result_.confidence[i] = p.confidence;
        result_.student_top1[i] = p.student_top1;
        result_.teacher_top1[i] = p.teacher_top1;
        result_.student_size[i] = u.counts[0];
        result_.teacher_size[i] = u.counts[1];
        result_.overlap[i] = u.counts[2];
        if (!with_teacher_) {
            result_.delta[i] = static_cast<float>(p.entropy);
            result_.divergence[i] = 0.0f;
        } else if (u.size > most_lane_pairs) {
            put_divergence(i, p.gate, p.entropy,
                           k_.js(union_s(), union_t(), u.size, p.student_maximum, p.teacher_maximum));
        } else {
            std::copy_n(union_s(), u.size, waiting_s_.get() + n_waiting_ * most_lane_pairs);
            std::copy_n(union_t(), u.size, waiting_t_.get() + n_waiting_ * most_lane_pairs);
            size_[n_waiting_] = u.size;
            maximum_s_[n_waiting_] = p.student_maximum;
            maximum_t_[n_waiting_] = p.teacher_maximum;
            waiting_[n_waiting_++] = {i, p.gate, p.entropy};
            if (n_waiting_ == score_tile) flush();
        }
    }

    void flush() {
        double divergence[score_tile];
        k_.js_tile(waiting_s_.get(), waiting_t_.get(), size_, maximum_s_, maximum_t_, divergence);
        for (std::int64_t r = 0; r < n_waiting_; ++r) {
            put_divergence(waiting_[r].row, waiting_[r].gate, waiting_[r].entropy, divergence[r]);
        }
        clear();
    }

  private:
    struct Waiting {
        std::int64_t row;
        double gate, entropy;
    };

    void clear() {
        n_waiting_ = 0;
        std::fill_n(size_, score_tile, 0);
        std::fill_n(waiting_s_.get(), score_tile * most_lane_pairs, -HUGE_VALF);
        std::fill_n(waiting_t_.get(), score_tile * most_lane_pairs, -HUGE_VALF);
    }

    void put_divergence(std::int64_t i, double gate, double entropy, double divergence) {
        result_.delta[i] = static_cast<float>(gate * divergence + (1.0 - gate) * entropy);
        result_.divergence[i] = static_cast<float>(divergence);
    }

    const ScoreKernels& k_;
    bool with_teacher_;
    ScoreResult result_;
    Scratch<float> union_s_, union_t_;
    Scratch<float> waiting_s_{score_tile * most_lane_pairs}, waiting_t_{score_tile * most_lane_pairs};
    std::int64_t n_waiting_ = 0, size_[score_tile];
    float maximum_s_[score_tile] = {}, maximum_t_[score_tile] = {};
    Waiting waiting_[score_tile];
};

}  // namespace ccma
