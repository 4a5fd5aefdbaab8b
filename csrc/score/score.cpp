// Scores of rows at known thresholds, and what needs one model's rows alone.
#include "ccma/score.hpp"

#include <algorithm>

#include "ccma/kernels.hpp"
#include "score/cuts.hpp"
#include "score/lanes.hpp"
#include "score/posterior.hpp"
#include "score/score_range.hpp"
#include "score/score_writer.hpp"
#include "score/union.hpp"
#include "score_row.hpp"

namespace ccma {

std::int64_t score_range(const Kernels& k, const ScoreTask& task, std::int64_t begin, std::int64_t end,
                         std::int64_t first, const ScoreResult& result) {
    const std::int64_t n = task.student.cols;
    const bool with_teacher = task.teacher.data != nullptr;
    Cuts cuts(k.score);
    TileCuts cut;
    if (in_lanes(k, n)) {
        LaneScores scores;
        const auto of_tiles = [&](std::int64_t i, const LaneTile& s, const LaneTile* t) {
            cuts.find(s, task.q_student, i, cut.student);
            if (t) cuts.find(*t, task.q_teacher, i, cut.teacher);
            cuts.flush();
            k.lanes.score(s, t, n, cut.student, cut.teacher, scores);
            put_lanes(scores, s.count, first + i - begin, result);
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

BadRow score(const ScoreTask& task, const ScoreResult& result, const Poll& poll) {
    FirstIndex bad;
    const Kernels& k = kernels();
    const auto rows = [&](std::int64_t begin, std::int64_t end) {
        bad.report_if(score_range(k, task, begin, end, begin, result));
    };
    parallel_ranges(task.student.rows, chunk_rows(task.student), rows, poll);
    return bad_row(bad);
}

std::int64_t log_normalizers(const Matrix& logits, double* out, const Poll& poll) {
    FirstIndex bad;
    const Kernels& k = kernels();
    const auto rows = [&](std::int64_t begin, std::int64_t end) {
        if (in_lanes(k, logits.cols)) {
            const auto of_lanes = [&](std::int64_t i, const LaneTile& tile) {
                std::copy_n(tile.log_sum, tile.count, out + i);
            };
            return bad.report_if(for_each_lane_tile(k.lanes, logits, begin, end, of_lanes));
        }
        bad.report_if(for_each_tile(k.score, logits, begin, end, [&](const ScoredTile& tile, std::int64_t i) {
            for (std::int64_t r = 0; r < tile.count(); ++r) out[i + r] = tile.log_normalizer(r);
        }));
    };
    parallel_ranges(logits.rows, chunk_rows(logits), rows, poll);
    return bad.get();
}

std::int64_t prediction_sets(const Matrix& logits, const Threshold& q, std::uint8_t* sets, const Poll& poll) {
    FirstIndex bad;
    const ScoreKernels& k = kernels().score;
    const std::int64_t n = logits.cols;
    const auto rows = [&](std::int64_t begin, std::int64_t end) {
        bad.report_if(for_each_tile(k, logits, begin, end, [&](const ScoredTile& tile, std::int64_t i) {
            float cut[score_tile];
            tile.cuts(k, q, i, cut);
            for (std::int64_t r = 0; r < tile.count(); ++r) {
                const PredictionSet set(cut[r], k.find(tile.z(r), n, tile.maximum(r)));
                for (std::int64_t c = 0; c < n; ++c) sets[(i + r) * n + c] = set.holds(tile.z(r), c);
            }
        }));
    };
    parallel_ranges(logits.rows, chunk_rows(logits), rows, poll);
    return bad.get();
}

}  // namespace ccma
