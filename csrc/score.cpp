#include "ccma/score.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "ccma/kernels.hpp"
#include "score_row.hpp"
#include "scratch.hpp"

namespace ccma {
namespace {

// The student's and the teacher's conformal set of one row, by comparisons with a cut, and the one class that a set
// falls back to where no class passes.
struct Set {
    float cut;
    std::int64_t only = -1;

    Set(const ScoreKernels& k, const float* z, std::int64_t n, const ScoredRow& row, double q) : cut(row.cut(q)) {
        if (cut == HUGE_VALF) only = k.find(z, n, row.maximum);
    }
    bool holds(const float* z, std::int64_t c) const { return c == only || z[c] >= cut; }
};

}  // namespace

BadRow score(const ScoreTask& task, const ScoreResult& result, const Poll& poll) {
    const std::int64_t n = task.student.cols, width = padded(n);
    const bool with_teacher = task.teacher.data != nullptr;
    FirstIndex bad;  // 2 · row, plus 1 for the teacher's
    const ScoreKernels& k = kernels().score;

    const auto rows = [&](std::int64_t begin, std::int64_t end) {
        const Scratch<float> s(width), t(width), union_s(width + row_padding), union_t(width + row_padding);
        for (std::int64_t i = begin; i < end; ++i) {
            ScoredRow student, teacher;
            if (!k.load_logits(task.student.row(i), task.student.dtype, n, s.get(), &student.maximum)) {
                return bad.report(2 * i);
            }
            double weighted;
            const double sum_s = k.exp_sum(s.get(), n, student.maximum, &weighted, task.student.row(i + 1));
            student.log_normalizer = std::log(sum_s);
            // H = −Σ p ln p with ln p = −(max − z) − ln Σ: two sums of non-negative terms.
            const double entropy = student.log_normalizer + weighted / sum_s;
            const float second = k.second_largest(s.get(), n);
            result.margin[i] = static_cast<float>(-std::expm1(static_cast<double>(second) - student.maximum) / sum_s);
            result.student_top1[i] = static_cast<std::int32_t>(k.find(s.get(), n, student.maximum));
            const Set set_s(k, s.get(), n, student, task.q_student.at(i));

            if (!with_teacher) {
                std::int64_t counts[3];
                k.union_pairs(s.get(), s.get(), n, set_s.cut, set_s.cut, union_s.get(), union_t.get(), counts);
                result.delta[i] = static_cast<float>(entropy);
                result.student_size[i] = static_cast<std::int32_t>(set_s.only >= 0 ? 1 : counts[0]);
                result.teacher_size[i] = result.overlap[i] = 0;
                result.teacher_top1[i] = -1;
                result.divergence[i] = result.confidence[i] = 0.0f;
                continue;
            }

            if (!k.load_logits(task.teacher.row(i), task.teacher.dtype, n, t.get(), &teacher.maximum)) {
                return bad.report(2 * i + 1);
            }
            const double sum_t = k.exp_sum(t.get(), n, teacher.maximum, nullptr, task.teacher.row(i + 1));
            teacher.log_normalizer = std::log(sum_t);
            const Set set_t(k, t.get(), n, teacher, task.q_teacher.at(i));

            std::int64_t counts[3];
            std::int64_t m =
                k.union_pairs(s.get(), t.get(), n, set_s.cut, set_t.cut, union_s.get(), union_t.get(), counts);
            const auto admit = [&](std::int64_t c) {
                union_s.get()[m] = s.get()[c];
                union_t.get()[m++] = t.get()[c];
            };
            if (set_s.only >= 0) {
                counts[0] = 1;
                counts[2] = set_t.holds(t.get(), set_s.only);
                if (t.get()[set_s.only] < set_t.cut) admit(set_s.only);
            }
            if (set_t.only >= 0) {
                counts[1] = 1;
                counts[2] = set_s.holds(s.get(), set_t.only);
                if (!set_s.holds(s.get(), set_t.only)) admit(set_t.only);
            }

            const double divergence = k.js(union_s.get(), union_t.get(), m, student.maximum, teacher.maximum);
            // g = max p^T / (max p^T + max p^S), and the largest probability of a row is 1 / Σ.
            const double gate = sum_s / (sum_s + sum_t);
            result.delta[i] = static_cast<float>(gate * divergence + (1.0 - gate) * entropy);
            result.divergence[i] = static_cast<float>(divergence);
            result.confidence[i] = static_cast<float>(1.0 / sum_t);
            result.teacher_top1[i] = static_cast<std::int32_t>(k.find(t.get(), n, teacher.maximum));
            result.student_size[i] = static_cast<std::int32_t>(counts[0]);
            result.teacher_size[i] = static_cast<std::int32_t>(counts[1]);
            result.overlap[i] = static_cast<std::int32_t>(counts[2]);
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
        const Scratch<float> z(padded(logits.cols));
        for (std::int64_t i = begin; i < end; ++i) {
            float maximum;
            if (!k.load_logits(logits.row(i), logits.dtype, logits.cols, z.get(), &maximum)) return bad.report(i);
            out[i] = std::log(k.exp_sum(z.get(), logits.cols, maximum, nullptr, logits.row(i + 1)));
        }
    };
    parallel_ranges(logits.rows, chunk_rows(logits.cols), rows, poll);
    return bad.get();
}

std::int64_t prediction_sets(const Matrix& logits, const Threshold& q, std::uint8_t* sets, const Poll& poll) {
    FirstIndex bad;
    const ScoreKernels& k = kernels().score;
    const std::int64_t n = logits.cols;
    const auto rows = [&](std::int64_t begin, std::int64_t end) {
        const Scratch<float> z(padded(n));
        for (std::int64_t i = begin; i < end; ++i) {
            ScoredRow row;
            if (!k.load_logits(logits.row(i), logits.dtype, n, z.get(), &row.maximum)) return bad.report(i);
            row.log_normalizer = std::log(k.exp_sum(z.get(), n, row.maximum, nullptr, logits.row(i + 1)));
            const Set set(k, z.get(), n, row, q.at(i));
            for (std::int64_t c = 0; c < n; ++c) sets[i * n + c] = set.holds(z.get(), c);
        }
    };
    parallel_ranges(logits.rows, chunk_rows(n), rows, poll);
    return bad.get();
}

}  // namespace ccma
