// What scores take from whole rows of logits, whatever the thresholds are.
#pragma once

#include <algorithm>
#include <cstdint>

#include "ccma/kernels.hpp"
#include "ccma/score.hpp"
#include "score_row.hpp"

namespace ccma {

// The first of two rows that are not finite, where there are any: 2 · row, plus 1 for the teacher's.
inline std::int64_t first_bad(std::int64_t of_student, std::int64_t of_teacher) {
    const bool is_students = of_student >= 0 && (of_teacher < 0 || of_student <= of_teacher);
    return is_students ? 2 * of_student : 2 * of_teacher + 1;
}

// of_tile(begin, student, teacher, posteriors) for tiles of the rows [begin, end); the teacher's tile is the student's
// where there is none. Returns 2 · row, plus 1 for the teacher's, of the first row that is not finite, where it stops,
// or −1.
template <class OfTile>
std::int64_t for_each_posterior(const ScoreKernels& k, const Matrix& of_student, const Matrix& of_teacher,
                                std::int64_t begin, std::int64_t end, const OfTile& of_tile) {
    const std::int64_t n = of_student.cols;
    const bool with_teacher = of_teacher.data != nullptr;
    ScoredTile student(n), teacher(n);
    for (; begin < end; begin += student.rows()) {
        const std::int64_t next = std::min(end, begin + student.rows());
        const std::int64_t bad_s = student.load(k, of_student, begin, next, true);
        const std::int64_t bad_t = with_teacher ? teacher.load(k, of_teacher, begin, next) : -1;
        if (bad_s >= 0 || bad_t >= 0) return first_bad(bad_s, bad_t);
        float margin[score_tile];
        student.margins(k, margin);
        Posterior posterior[score_tile];
        for (std::int64_t r = 0; r < next - begin; ++r) {
            Posterior& p = posterior[r];
            p.student_maximum = student.maximum(r);
            p.student_log_normalizer = student.log_normalizer(r);
            // H = −Σ p ln p with ln p = −(max − z) − ln Σ: two sums of non-negative terms.
            p.entropy = student.log_normalizer(r) + student.weighted(r) / student.sum(r);
            p.margin = margin[r];
            p.student_top1 = static_cast<std::int32_t>(k.find(student.z(r), n, student.maximum(r)));
            p.teacher_maximum = p.confidence = 0.0f;
            p.teacher_log_normalizer = p.gate = 0.0;
            p.teacher_top1 = -1;
            if (!with_teacher) continue;
            p.teacher_maximum = teacher.maximum(r);
            p.teacher_log_normalizer = teacher.log_normalizer(r);
            // g = max p^T / (max p^T + max p^S), and the largest probability of a row is 1 / Σ.
            p.gate = student.sum(r) / (student.sum(r) + teacher.sum(r));
            p.confidence = static_cast<float>(1.0 / teacher.sum(r));
            p.teacher_top1 = static_cast<std::int32_t>(k.find(teacher.z(r), n, teacher.maximum(r)));
        }
        of_tile(begin, student, with_teacher ? teacher : student, posterior);
    }
    return -1;
}

inline BadRow bad_row(const FirstIndex& bad) {
    const std::int64_t first = bad.get();
    return first < 0 ? BadRow{} : BadRow{first / 2, first % 2 == 1};
}

}  // namespace ccma
