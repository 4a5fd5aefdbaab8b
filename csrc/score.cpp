#include "ccma/score.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "ccma/kernels.hpp"
#include "score_row.hpp"
#include "scratch.hpp"

namespace ccma {
namespace {

// The conformal set of one row, by comparison with a cut, and the one class that it falls back to where no class
// passes.
struct Set {
    float cut;
    std::int64_t only;  // −1 where the cut decides

    Set(float cut_of_row, std::int64_t top1) : cut(cut_of_row), only(cut_of_row == HUGE_VALF ? top1 : -1) {}
    bool holds(const float* z, std::int64_t c) const { return c == only || z[c] >= cut; }
};

// The logits of both models over the union of a row's sets.
struct Union {
    std::int64_t size;
    std::int32_t counts[3];  // student's set, teacher's, both
};

Union union_of(const ScoreKernels& k, const float* s, const float* t, std::int64_t n, const Set& set_s,
               const Set& set_t, float* union_s, float* union_t) {
    Union u;
    u.size = k.union_pairs(s, t, n, set_s.cut, set_t.cut, union_s, union_t, u.counts);
    const auto admit = [&](std::int64_t c) {
        union_s[u.size] = s[c];
        union_t[u.size++] = t[c];
    };
    if (set_s.only >= 0) {
        u.counts[0] = 1;
        u.counts[2] = set_t.holds(t, set_s.only);
        if (t[set_s.only] < set_t.cut) admit(set_s.only);
    }
    if (set_t.only >= 0) {
        u.counts[1] = 1;
        u.counts[2] = set_s.holds(s, set_t.only);
        if (!set_s.holds(s, set_t.only)) admit(set_t.only);
    }
    return u;
}

// The first most probable class and the set of each row of a tile.
void top1_and_cuts(const ScoreKernels& k, const ScoredTile& tile, std::int64_t n, const Threshold& q,
                   std::int64_t begin, std::int32_t* top1, float* cut) {
    tile.cuts(k, q, begin, cut);
    for (std::int64_t r = 0; r < tile.count(); ++r) {
        top1[r] = static_cast<std::int32_t>(k.find(tile.z(r), n, tile.maximum(r)));
    }
}

}  // namespace

BadRow score(const ScoreTask& task, const ScoreResult& result, const Poll& poll) {
    const std::int64_t n = task.student.cols, width = padded(n) + row_padding;
    const bool with_teacher = task.teacher.data != nullptr;
    FirstIndex bad;  // 2 · row, plus 1 for the teacher's
    const ScoreKernels& k = kernels().score;

    const auto rows = [&](std::int64_t begin, std::int64_t end) {
        ScoredTile student(n), teacher(n);
        const Scratch<float> union_s(student.rows() * width), union_t(student.rows() * width);
        float cut_s[score_tile], cut_t[score_tile], margin[score_tile];
        for (std::int64_t i = begin; i < end; i += student.rows()) {
            const std::int64_t next = std::min(end, i + student.rows()), count = next - i;
            const std::int64_t bad_s = student.load(k, task.student, i, next, true);
            const std::int64_t bad_t = with_teacher ? teacher.load(k, task.teacher, i, next) : -1;
            if (bad_s >= 0 || bad_t >= 0) {
                return bad.report(bad_s >= 0 && (bad_t < 0 || bad_s <= bad_t) ? 2 * bad_s : 2 * bad_t + 1);
            }
            // H = −Σ p ln p with ln p = −(max − z) − ln Σ: two sums of non-negative terms.
            const auto entropy = [&](std::int64_t r) {
                return student.log_normalizer(r) + student.weighted(r) / student.sum(r);
            };
            student.margins(k, margin);
            std::copy_n(margin, count, result.margin + i);
            top1_and_cuts(k, student, n, task.q_student, i, result.student_top1 + i, cut_s);

            if (!with_teacher) {
                for (std::int64_t r = 0; r < count; ++r) {
                    const Set set(cut_s[r], result.student_top1[i + r]);
                    std::int32_t counts[3];
                    k.union_pairs(student.z(r), student.z(r), n, set.cut, set.cut, union_s.get(), union_t.get(),
                                  counts);
                    result.delta[i + r] = static_cast<float>(entropy(r));
                    result.student_size[i + r] = set.only >= 0 ? 1 : counts[0];
                    result.teacher_size[i + r] = result.overlap[i + r] = 0;
                    result.teacher_top1[i + r] = -1;
                    result.divergence[i + r] = result.confidence[i + r] = 0.0f;
                }
                continue;
            }

            top1_and_cuts(k, teacher, n, task.q_teacher, i, result.teacher_top1 + i, cut_t);
            std::int64_t sizes[score_tile];
            for (std::int64_t r = 0; r < count; ++r) {
                const Set set_s(cut_s[r], result.student_top1[i + r]), set_t(cut_t[r], result.teacher_top1[i + r]);
                const Union u = union_of(k, student.z(r), teacher.z(r), n, set_s, set_t, union_s.get() + r * width,
                                         union_t.get() + r * width);
                sizes[r] = u.size;
                result.student_size[i + r] = u.counts[0];
                result.teacher_size[i + r] = u.counts[1];
                result.overlap[i + r] = u.counts[2];
            }
            for (std::int64_t r = 0; r < count; ++r) {
                const double divergence = k.js(union_s.get() + r * width, union_t.get() + r * width, sizes[r],
                                               student.maximum(r), teacher.maximum(r));
                // g = max p^T / (max p^T + max p^S), and the largest probability of a row is 1 / Σ.
                const double gate = student.sum(r) / (student.sum(r) + teacher.sum(r));
                result.delta[i + r] = static_cast<float>(gate * divergence + (1.0 - gate) * entropy(r));
                result.divergence[i + r] = static_cast<float>(divergence);
                result.confidence[i + r] = static_cast<float>(1.0 / teacher.sum(r));
            }
        }
    };
    parallel_ranges(task.student.rows, chunk_rows(n), rows, poll);
    const std::int64_t first = bad.get();
    return first < 0 ? BadRow{} : BadRow{first / 2, first % 2 == 1};
}

std::int64_t log_normalizers(const Matrix& logits, double* out, const Poll& poll) {
    FirstIndex bad;
    const ScoreKernels& k = kernels().score;
    const auto rows = [&](std::int64_t begin, std::int64_t end) {
        bad.report_if(for_each_tile(k, logits, begin, end, [&](const ScoredTile& tile, std::int64_t i) {
            for (std::int64_t r = 0; r < tile.count(); ++r) out[i + r] = tile.log_normalizer(r);
        }));
    };
    parallel_ranges(logits.rows, chunk_rows(logits.cols), rows, poll);
    return bad.get();
}

std::int64_t prediction_sets(const Matrix& logits, const Threshold& q, std::uint8_t* sets, const Poll& poll) {
    FirstIndex bad;
    const ScoreKernels& k = kernels().score;
    const std::int64_t n = logits.cols;
    const auto rows = [&](std::int64_t begin, std::int64_t end) {
        bad.report_if(for_each_tile(k, logits, begin, end, [&](const ScoredTile& tile, std::int64_t i) {
            std::int32_t top1[score_tile];
            float cut[score_tile];
            top1_and_cuts(k, tile, n, q, i, top1, cut);
            for (std::int64_t r = 0; r < tile.count(); ++r) {
                const Set set(cut[r], top1[r]);
                for (std::int64_t c = 0; c < n; ++c) sets[(i + r) * n + c] = set.holds(tile.z(r), c);
            }
        }));
    };
    parallel_ranges(logits.rows, chunk_rows(n), rows, poll);
    return bad.get();
}

}  // namespace ccma
