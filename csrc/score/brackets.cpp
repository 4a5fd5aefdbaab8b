// Scores of rows at thresholds that are only known to lie in brackets, and those of what stays open once they are
// known.
#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "ccma/kernels.hpp"
#include "ccma/score.hpp"
#include "score/cuts.hpp"
#include "score/lanes.hpp"
#include "score/posterior.hpp"
#include "score/score_range.hpp"
#include "score/score_writer.hpp"
#include "score/union.hpp"
#include "score_row.hpp"
#include "scratch.hpp"

namespace ccma {
namespace {

// Where among the logits of a union one model's first most probable class stands.
std::int64_t top1_place(const ScoreKernels& k, const float* of_union, std::int64_t size, std::int64_t brought,
                        float maximum, const PredictionSet& own, const float* other_z, const PredictionSet& other) {
    // Classes as probable as the first come in by the cut together with it, and it stands before them.
    if (own.only < 0) return k.find(of_union, size, maximum);
    if (brought >= 0) return brought;
    // The other model's set, to which it belongs, is all there is.
    return std::count_if(other_z, other_z + own.only, [&](float z) { return z >= other.cut; });
}

void put_nothing(const ScoreResult& result, std::int64_t i) {
    for (float* values : {result.delta, result.divergence, result.margin, result.confidence}) values[i] = 0.0f;
    for (std::int32_t* values :
         {result.student_top1, result.teacher_top1, result.student_size, result.teacher_size, result.overlap}) {
        values[i] = 0;
    }
}

// What a pass finds in one chunk of rows.
struct FoundInChunk {
    ScoresBetween student, teacher;
    OpenRows::Part open;
};

void append(const ScoresBetween& found, ScoresBetween& all) {
    all.at_most_low += found.at_most_low;
    all.between += found.between;
    all.values.insert(all.values.end(), found.values.begin(), found.values.end());
}

// Of the union's logits of one model, the scores of those between the cuts, of which there are m.
void keep_between(const float* z, std::int64_t m, float cut_low, float cut_high, const ScoredRow& row,
                  ScoresBetween& found) {
    found.between += m;
    for (; m > 0; ++z) {
        if (*z < cut_high || *z >= cut_low) continue;
        found.values.push_back(row.score(*z));
        --m;
    }
}

// The pass over one chunk of rows.
class BracketPass {
  public:
    BracketPass(const ScoreKernels& k, std::int64_t cols, bool with_teacher, const ScoreResult& result,
                std::int64_t rows)
        : k_(k),
          cols_(cols),
          with_teacher_(with_teacher),
          result_(result),
          writer_(k, cols, with_teacher, result),
          cuts_(k) {
        found_.open.rows.reserve(static_cast<std::size_t>(rows));
    }

    // Rows i and following of the matrices.
    void put_tile(std::int64_t i, const ScoredTile& s, const ScoredTile& t, const Posterior* p,
                  const Bracket& q_student, const Bracket& q_teacher) {
        cuts_.find(s, q_student.low, i, low_.student);
        cuts_.find(s, q_student.high, i, high_.student);
        if (with_teacher_) {
            cuts_.find(t, q_teacher.low, i, low_.teacher);
            cuts_.find(t, q_teacher.high, i, high_.teacher);
        }
        cuts_.flush();
        for (std::int64_t r = 0; r < s.count(); ++r) put_row(i + r, r, s, t, p[r]);
    }

    void finish(FoundInChunk& found) {
        writer_.flush();
        found.student = std::move(found_.student);
        found.teacher = std::move(found_.teacher);
        found.open = found_.open;  // without room to spare
    }

  private:
    void put_row(std::int64_t i, std::int64_t r, const ScoredTile& s, const ScoredTile& t, const Posterior& p) {
        const PredictionSet set_s(high_.student[r], p.student_top1), set_t(high_.teacher[r], p.teacher_top1);
        AboveCuts low{low_.student[r], low_.teacher[r], 0, 0};
        const Union u = writer_.find(s.z(r), t.z(r), cols_, set_s, set_t, &low);
        const std::int64_t open_s = set_s.only < 0 ? u.counts[0] - low.student : 0;
        const std::int64_t open_t = set_t.only < 0 ? u.counts[1] - low.teacher : 0;
        found_.student.at_most_low += low.student;
        found_.teacher.at_most_low += low.teacher;
        if (open_s == 0 && open_t == 0) {
            writer_.put(i, p, u);
            return;
        }
        float *of_s = writer_.union_s(), *of_t = writer_.union_t();
        keep_between(of_s, open_s, low_.student[r], high_.student[r], s.row(r), found_.student);
        keep_between(of_t, open_t, low_.teacher[r], high_.teacher[r], t.row(r), found_.teacher);
        std::fill_n(of_s + u.size, row_padding, -HUGE_VALF);
        std::fill_n(of_t + u.size, row_padding, -HUGE_VALF);
        const std::int64_t place_s =
            top1_place(k_, of_s, u.size, u.student_place, p.student_maximum, set_s, t.z(r), set_t);
        const std::int64_t place_t =
            with_teacher_ ? top1_place(k_, of_t, u.size, u.teacher_place, p.teacher_maximum, set_t, s.z(r), set_s) : -1;
        OpenRows::Part& open = found_.open;
        open.rows.push_back({i, static_cast<std::int64_t>(open.student.size()), u.size, place_s, place_t, p});
        open.student.insert(open.student.end(), of_s, of_s + u.size);
        if (with_teacher_) open.teacher.insert(open.teacher.end(), of_t, of_t + u.size);
        put_nothing(result_, i);
    }

    const ScoreKernels& k_;
    std::int64_t cols_;
    bool with_teacher_;
    ScoreResult result_;
    ScoreWriter writer_;
    Cuts cuts_;
    TileCuts low_, high_;
    FoundInChunk found_;
};

// The pass over rows [begin, end) of few classes, of which all logits of an open row are kept. Returns what
// for_each_lane_pair does.
std::int64_t pass_in_lanes(const Kernels& k, const Matrix& student, const Matrix& teacher, std::int64_t begin,
                           std::int64_t end, const Bracket& q_student, const Bracket& q_teacher,
                           const ScoreResult& result, FoundInChunk& found) {
    const std::int64_t n = student.cols;
    const bool with_teacher = teacher.data != nullptr;
    Cuts cuts(k.score);
    TileCuts low, high;
    LaneScores scores;
    OpenRows::Part open;
    const auto room = static_cast<std::size_t>((end - begin) * n);
    open.student.reserve(room);
    if (with_teacher) open.teacher.reserve(room);
    const auto keep_row = [&](const LaneTile& tile, std::int64_t r, std::vector<float>& logits) {
        float row[most_lane_classes];
        for (std::int64_t c = 0; c < n; ++c) row[c] = tile.z[c * score_tile + r];
        logits.insert(logits.end(), row, row + n);
    };
    const auto of_tiles = [&](std::int64_t i, const LaneTile& s, const LaneTile* t) {
        cuts.find(s, q_student.low, i, low.student);
        cuts.find(s, q_student.high, i, high.student);
        if (t) {
            cuts.find(*t, q_teacher.low, i, low.teacher);
            cuts.find(*t, q_teacher.high, i, high.teacher);
        }
        cuts.flush();
        k.lanes.score(s, t, n, high.student, high.teacher, scores);
        put_lanes(scores, s.count, i, result);
        std::uint32_t is_open = take_between(k.lanes, s, n, low.student, high.student, SIZE_MAX, found.student);
        if (t) is_open |= take_between(k.lanes, *t, n, low.teacher, high.teacher, SIZE_MAX, found.teacher);
        for_each_bit(is_open, [&](int r) {
            open.whole_rows.push_back(i + r);
            keep_row(s, r, open.student);
            if (t) keep_row(*t, r, open.teacher);
            put_nothing(result, i + r);
        });
    };
    const std::int64_t bad = for_each_lane_pair(k.lanes, student, teacher, begin, end, of_tiles);
    found.open = open;  // without room to spare
    return bad;
}

}  // namespace

std::int64_t OpenRows::size() const {
    std::int64_t n = 0;
    for (const Part& part : parts) n += static_cast<std::int64_t>(part.size());
    return n;
}

std::int64_t OpenRows::bytes() const {
    std::size_t n = 0;
    for (const Part& part : parts) {
        n += part.rows.capacity() * sizeof(Row) + part.whole_rows.capacity() * sizeof(std::int64_t);
        n += (part.student.capacity() + part.teacher.capacity()) * sizeof(float);
    }
    return static_cast<std::int64_t>(n);
}

BracketedScores score_in_brackets(const Matrix& student, const Matrix& teacher, const Bracket& q_student,
                                  const Bracket& q_teacher, const ScoreResult& result, const Poll& poll) {
    const std::int64_t rows_of_chunk = chunk_rows(student);
    const std::int64_t n_chunks = (student.rows + rows_of_chunk - 1) / rows_of_chunk;
    const bool with_teacher = teacher.data != nullptr;
    FirstIndex bad;
    const Kernels& all = kernels();
    const ScoreKernels& k = all.score;
    std::vector<FoundInChunk> chunks(static_cast<std::size_t>(n_chunks));

    const auto chunk = [&](std::int64_t index) {
        const std::int64_t begin = index * rows_of_chunk, end = std::min(student.rows, begin + rows_of_chunk);
        FoundInChunk& found = chunks[static_cast<std::size_t>(index)];
        if (in_lanes(all, student.cols)) {
            return bad.report_if(pass_in_lanes(all, student, teacher, begin, end, q_student, q_teacher, result, found));
        }
        BracketPass pass(k, student.cols, with_teacher, result, end - begin);
        const auto of_tile = [&](std::int64_t i, const ScoredTile& s, const ScoredTile& t, const Posterior* p) {
            pass.put_tile(i, s, t, p, q_student, q_teacher);
        };
        bad.report_if(for_each_posterior(k, student, teacher, begin, end, of_tile));
        pass.finish(found);
    };
    parallel_for(n_chunks, chunk, poll);

    BracketedScores whole;
    whole.bad = bad_row(bad);
    if (whole.bad.row >= 0) return whole;
    whole.open.with_teacher = with_teacher;
    for (FoundInChunk& found : chunks) {
        append(found.student, whole.student);
        append(found.teacher, whole.teacher);
        whole.open.parts.push_back(std::move(found.open));
    }
    return whole;
}

void settle(const OpenRows& open, double q_student, double q_teacher, std::int64_t* rows, const ScoreResult& result,
            const Poll& poll) {
    const Kernels& all = kernels();
    const ScoreKernels& k = all.score;
    std::vector<std::int64_t> first(1, 0);
    std::int64_t longest = 0;
    for (const OpenRows::Part& part : open.parts) {
        first.push_back(first.back() + static_cast<std::int64_t>(part.size()));
        for (const OpenRows::Row& row : part.rows) longest = std::max(longest, row.pairs);
    }
    const auto of_part = [&](std::int64_t index) {
        const OpenRows::Part& part = open.parts[static_cast<std::size_t>(index)];
        const std::int64_t begin_of_part = first[static_cast<std::size_t>(index)];
        if (!part.whole_rows.empty()) {
            const auto n_rows = static_cast<std::int64_t>(part.whole_rows.size());
            const std::int64_t n = static_cast<std::int64_t>(part.student.size()) / n_rows;
            const Matrix student{part.student.data(), Dtype::f32, n_rows, n};
            const Matrix teacher{open.with_teacher ? part.teacher.data() : nullptr, Dtype::f32, n_rows, n};
            std::copy(part.whole_rows.begin(), part.whole_rows.end(), rows + begin_of_part);
            score_range(all, {student, teacher, q_student, q_teacher}, 0, n_rows, begin_of_part, result);
            return;
        }
        ScoreWriter writer(k, longest, open.with_teacher, result);
        const Scratch<float> student(padded(longest)), teacher(padded(longest));
        const auto with_padding = [](const std::vector<float>& from, const OpenRows::Row& row, float* to) {
            std::copy_n(from.data() + row.begin, row.pairs, to);
            std::fill(to + row.pairs, to + padded(row.pairs), -HUGE_VALF);
        };
        Cuts cuts(k);
        TileCuts cut;
        std::int64_t j = begin_of_part;
        for (std::size_t begin = 0; begin < part.rows.size(); begin += score_tile) {
            const std::size_t count = std::min<std::size_t>(score_tile, part.rows.size() - begin);
            const OpenRows::Row* row = part.rows.data() + begin;
            for (std::size_t r = 0; r < count; ++r) {
                const Posterior& p = row[r].posterior;
                cuts.find({p.student_maximum, p.student_log_normalizer}, q_student, cut.student + r);
                if (!open.with_teacher) continue;
                cuts.find({p.teacher_maximum, p.teacher_log_normalizer}, q_teacher, cut.teacher + r);
            }
            cuts.flush();
            for (std::size_t r = 0; r < count; ++r, ++j) {
                with_padding(part.student, row[r], student.get());
                if (open.with_teacher) with_padding(part.teacher, row[r], teacher.get());
                const float* t = open.with_teacher ? teacher.get() : student.get();
                const PredictionSet set_s(cut.student[r], row[r].student_place);
                const PredictionSet set_t(cut.teacher[r], row[r].teacher_place);
                rows[j] = row[r].index;
                writer.put(j, row[r].posterior, writer.find(student.get(), t, row[r].pairs, set_s, set_t));
            }
        }
        writer.flush();
    };
    parallel_for(static_cast<std::int64_t>(open.parts.size()), of_part, poll);
}

}  // namespace ccma
