// Scores of some rows at known thresholds.
#pragma once

#include <cstdint>

#include "ccma/kernels.hpp"
#include "ccma/score.hpp"
#include "score/cuts.hpp"
#include "score/lanes.hpp"
#include "score/posterior.hpp"
#include "score/score_writer.hpp"
#include "score/union.hpp"

namespace ccma {

// The scores of the rows [begin, end), that of row `begin` to place `first` of the result. Returns 2 · row, plus 1 for
// the teacher's, of the first row that is not finite, where it stops, or −1.
inline std::int64_t score_range(const Kernels& k, const ScoreTask& task, std::int64_t begin, std::int64_t end,
                                std::int64_t first, const ScoreResult& result) {
    const std::int64_t n = task.student.cols;
    const bool with_teacher = task.teacher.data != nullptr;
    Cuts cuts(k.score);
    TileCuts cut;
    if (in_lanes(k, n)) {
        LaneScores scores;
        const auto of_tiles = [&](std::int64_t i, std::int64_t count, const LaneTile& s, const LaneTile* t) {
            cuts.find(s, count, task.q_student, i, cut.student);
            if (t) cuts.find(*t, count, task.q_teacher, i, cut.teacher);
            cuts.flush();
            k.lanes.score(s, t, n, cut.student, cut.teacher, scores);
            put_lanes(scores, count, first + i - begin, result);
        };
        return for_each_lane_pair(k.lanes, task.student, task.teacher, begin, end, of_tiles);
    }
    ScoreWriter writer(k.score, n, with_teacher, result);
    const auto of_tile = [&](std::int64_t i, const ScoredTile& s, const ScoredTile& t, const Posterior* p) {
        cuts.find(s, task.q_student, i, cut.student);
        if (with_teacher) cuts.find(t, task.q_teacher, i, cut.teacher);
        cuts.flush();
        for (std::int64_t r = 0; r < s.count(); ++r) {
            const PredictionSet set_s(cut.student[r], p[r].student_top1), set_t(cut.teacher[r], p[r].teacher_top1);
            writer.put(first + i - begin + r, p[r], writer.find(s.z(r), t.z(r), n, set_s, set_t));
        }
    };
    const std::int64_t bad = for_each_posterior(k.score, task.student, task.teacher, begin, end, of_tile);
    writer.flush();
    return bad;
}

}  // namespace ccma
