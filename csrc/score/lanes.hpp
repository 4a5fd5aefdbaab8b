// Scores of rows of few classes, a tile of rows at a time.
#pragma once

#include <algorithm>
#include <cstdint>

#include "ccma/kernels.hpp"
#include "ccma/score.hpp"
#include "ccma/threshold.hpp"
#include "score/posterior.hpp"
#include "score_row.hpp"
#include "scratch.hpp"

namespace ccma {

// Whether rows of n classes are scored a tile at a time.
inline bool in_lanes(const Kernels& k, std::int64_t n) { return n <= most_lane_classes && k.lanes.load; }

// Row `begin` and following, as many as a tile has and at most up to `end`. Returns the first that is not finite, or
// −1.
inline std::int64_t load_tile(const LaneKernels& k, const Matrix& logits, std::int64_t begin, std::int64_t end,
                              LaneTile& tile) {
    const std::int64_t count = std::min(end - begin, score_tile);
    const std::int64_t bad = k.load(logits.row(begin), logits.dtype, logits.cols, count, tile);
    return bad < 0 ? bad : begin + bad;
}

// of_tile(begin, tile) for tiles of the rows [begin, end). Returns the first row that is not finite, where it
// stops, or −1.
template <class OfTile>
std::int64_t for_each_lane_tile(const LaneKernels& k, const Matrix& logits, std::int64_t begin, std::int64_t end,
                                const OfTile& of_tile) {
    const Scratch<LaneTile> tile(1);
    for (; begin < end; begin += score_tile) {
        const std::int64_t bad = load_tile(k, logits, begin, end, *tile.get());
        if (bad >= 0) return bad;
        of_tile(begin, *tile.get());
    }
    return -1;
}

// of_tiles(begin, student, teacher) for tiles of both models' rows; the teacher is null where there is none.
// Returns 2 · row, plus 1 for the teacher's, of the first row that is not finite, where it stops, or −1.
template <class OfTiles>
std::int64_t for_each_lane_pair(const LaneKernels& k, const Matrix& of_student, const Matrix& of_teacher,
                                std::int64_t begin, std::int64_t end, const OfTiles& of_tiles) {
    const bool with_teacher = of_teacher.data != nullptr;
    const Scratch<LaneTile> student(1), teacher(1);
    for (; begin < end; begin += score_tile) {
        const std::int64_t bad_s = load_tile(k, of_student, begin, end, *student.get());
        const std::int64_t bad_t = with_teacher ? load_tile(k, of_teacher, begin, end, *teacher.get()) : -1;
        if (bad_s >= 0 || bad_t >= 0) return first_bad(bad_s, bad_t);
        of_tiles(begin, *student.get(), with_teacher ? teacher.get() : nullptr);
    }
    return -1;
}

// visit(r) for each row whose bit is set.
template <class Visit>
void for_each_bit(std::uint32_t rows, const Visit& visit) {
    for (; rows != 0; rows &= rows - 1) visit(__builtin_ctz(rows));
}

// Adds the scores of a tile's rows to what is found in a bracket with these cuts, values only while there
// are fewer than `most`. Returns the bits of the rows that have any between.
inline std::uint32_t take_between(const LaneKernels& k, const LaneTile& tile, std::int64_t n, const float* low,
                                  const float* high, std::size_t most, ScoresBetween& found) {
    std::uint32_t rows[most_lane_classes], any = 0;
    found.at_most_low += k.between(tile, n, low, high, rows);
    for (std::int64_t c = 0; c < n; ++c) {
        any |= rows[c];
        found.between += __builtin_popcount(rows[c]);
        for_each_bit(rows[c], [&](int r) {
            if (found.values.size() >= most) return;
            found.values.push_back(ScoredRow{tile.maximum[r], tile.log_sum[r]}.score(tile.z[c * score_tile + r]));
        });
    }
    return any;
}

// Rows i and following of the result.
inline void put_lanes(const LaneScores& scores, std::int64_t count, std::int64_t i, const ScoreResult& result) {
    std::copy_n(scores.delta, count, result.delta + i);
    std::copy_n(scores.divergence, count, result.divergence + i);
    std::copy_n(scores.margin, count, result.margin + i);
    std::copy_n(scores.confidence, count, result.confidence + i);
    std::copy_n(scores.student_top1, count, result.student_top1 + i);
    std::copy_n(scores.teacher_top1, count, result.teacher_top1 + i);
    std::copy_n(scores.student_size, count, result.student_size + i);
    std::copy_n(scores.teacher_size, count, result.teacher_size + i);
    std::copy_n(scores.overlap, count, result.overlap + i);
}

}  // namespace ccma
