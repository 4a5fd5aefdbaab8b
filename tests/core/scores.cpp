// Scores, at known thresholds and in brackets, and prediction sets.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "ccma/parallel.hpp"
#include "ccma/score.hpp"
#include "ccma/simd.hpp"
#include "ccma/temperature.hpp"
#include "ccma/threshold.hpp"
#include "checks.hpp"

namespace ccma::tests {
namespace {

struct Scores {
    std::vector<float> delta, divergence, margin, confidence;
    std::vector<std::int32_t> student_top1, teacher_top1, student, teacher, overlap;

    explicit Scores(std::int64_t n)
        : delta(static_cast<std::size_t>(n)),
          divergence(delta.size()),
          margin(delta.size()),
          confidence(delta.size()),
          student_top1(delta.size()),
          teacher_top1(delta.size()),
          student(delta.size()),
          teacher(delta.size()),
          overlap(delta.size()) {}
    ScoreResult view() {
        return {delta.data(),        divergence.data(), margin.data(),  confidence.data(), student_top1.data(),
                teacher_top1.data(), student.data(),    teacher.data(), overlap.data()};
    }
};

// Scores at q, known to be within `reach`, have the bits of those at q itself.
void test_brackets(const Matrix& student, const Matrix& teacher, double q, double reach, Scores& expected,
                   const std::string& where) {
    const Bracket bracket{std::isfinite(reach) ? q - reach : -HUGE_VAL, std::isfinite(reach) ? q + reach : HUGE_VAL};
    Scores whole(student.rows);
    const BracketedScores found = score_in_brackets(student, teacher, bracket, bracket, whole.view(), {});
    check(found.bad.row == -1, where + " finite");
    check(found.student.between == static_cast<std::int64_t>(found.student.values.size()), where + " all are kept");
    check(found.open.size() == 0 || reach > 0.0, where + " nothing is open");
    const std::int64_t n = found.open.size();
    Scores open(n);
    std::vector<std::int64_t> rows(static_cast<std::size_t>(n));
    settle(found.open, q, q, rows.data(), open.view(), {});
    for (std::size_t j = 0; j < rows.size(); ++j) {
        const auto i = static_cast<std::size_t>(rows[j]);
        check(whole.student[i] == 0 && whole.delta[i] == 0.0f, where + " open rows have zeros");
        whole.delta[i] = open.delta[j];
        whole.divergence[i] = open.divergence[j];
        whole.student[i] = open.student[j];
        whole.teacher[i] = open.teacher[j];
        whole.overlap[i] = open.overlap[j];
        whole.margin[i] = open.margin[j];
        whole.teacher_top1[i] = open.teacher_top1[j];
    }
    check(whole.delta == expected.delta && whole.divergence == expected.divergence, where + " scores in brackets");
    check(whole.student == expected.student && whole.teacher == expected.teacher, where + " sets in brackets");
    check(whole.overlap == expected.overlap && whole.margin == expected.margin, where + " overlaps in brackets");
    check(whole.teacher_top1 == expected.teacher_top1, where + " classes in brackets");
}

// A row has the same scores in whatever matrix, and wherever it lies there.
void test_rows_alone(const Matrix& student, const Matrix& teacher, double q, const Scores& whole,
                     const std::string& where) {
    for (std::int64_t i = 0; i < student.rows; ++i) {
        const Matrix s{student.row(i), student.dtype, 1, student.cols},
            t{teacher.row(i), teacher.dtype, 1, teacher.cols};
        Scores alone(1);
        check(score({s, t, q, q}, alone.view(), {}).row == -1, where + " finite");
        const auto at = static_cast<std::size_t>(i);
        check(alone.delta[0] == whole.delta[at] && alone.divergence[0] == whole.divergence[at], where + " row alone");
        check(alone.margin[0] == whole.margin[at] && alone.student[0] == whole.student[at], where + " row alone");
    }
}

// Moments of logits under a temperature against plain loops.
void test_tempered(SimdLevel level) {
    for (const std::int64_t rows : {1, 7, 8, 9, 300}) {
        for (const std::int64_t classes : {1, 2, 10, 200}) {
            const std::vector<float> logits = random_values(rows * classes, 3.0, 4);
            std::vector<double> s(logits.size());
            double mean = 0.0, variance = 0.0;
            for (std::int64_t r = 0; r < rows; ++r) {
                const auto at = [&](std::int64_t c) { return static_cast<std::size_t>(c * rows + r); };
                double top = logits[at(0)], sum = 0.0, first = 0.0, second = 0.0;
                for (std::int64_t c = 1; c < classes; ++c) top = std::max<double>(top, logits[at(c)]);
                for (std::int64_t c = 0; c < classes; ++c) {
                    s[at(c)] = logits[at(c)] - top;
                    const double e = std::exp(1.5 * s[at(c)]);
                    sum += e;
                    first += e * s[at(c)];
                    second += e * s[at(c)] * s[at(c)];
                }
                mean += first / sum;
                variance += second / sum - first / sum * first / sum;
            }
            set_num_threads(3);
            const Tempered found = tempered(s.data(), rows, classes, 1.5, {});
            check(close(found.mean, mean, 1e-12) && close(found.variance, variance, 1e-10),
                  std::string(name(level)) + " tempered, " + std::to_string(rows) + " rows");
        }
    }
}

}  // namespace

void test_scores(SimdLevel level) {
    test_tempered(level);
    for (const std::int64_t c : {2, 3, 8, 10, 15, 16, 17, 31, 32, 33, 100, 257}) {
        for (const std::int64_t m : {0, 1, 2, 33}) {
            const std::vector<float> s = random_values(m * c, 3.0, 1), t = random_values(m * c, 3.0, 2);
            const Matrix student{s.data(), Dtype::f32, m, c}, teacher{t.data(), Dtype::f32, m, c};
            for (const double q : {-1.0, 1.0, 4.0, HUGE_VAL}) {
                const std::string where =
                    std::string(name(level)) + " C=" + std::to_string(c) + " q=" + std::to_string(q);
                Scores plain(m), fast(m);
                set_simd_level(SimdLevel::scalar);
                check(score({student, teacher, q, q}, plain.view(), {}).row == -1, where + " finite");
                set_simd_level(level);
                check(score({student, teacher, q, q}, fast.view(), {}).row == -1, where + " finite");
                for (std::size_t i = 0; i < plain.delta.size(); ++i) {
                    check(close(fast.delta[i], plain.delta[i], 2e-6), where + " delta");
                    check(close(fast.divergence[i], plain.divergence[i], 2e-6), where + " divergence");
                    check(close(fast.margin[i], plain.margin[i], 2e-6), where + " margin");
                    check(close(fast.confidence[i], plain.confidence[i], 2e-6), where + " confidence");
                    check(fast.student_top1[i] == plain.student_top1[i], where + " student's class");
                    check(fast.teacher_top1[i] == plain.teacher_top1[i], where + " teacher's class");
                    check(std::abs(fast.student[i] - plain.student[i]) <= 1, where + " student set");
                    check(fast.student[i] >= 1 && fast.teacher[i] >= 1 && fast.overlap[i] <= fast.student[i], where);
                }
                test_rows_alone(student, teacher, q, fast, where);
                for (const double reach : {0.0, 0.5, HUGE_VAL}) test_brackets(student, teacher, q, reach, fast, where);
                std::vector<std::uint8_t> sets(static_cast<std::size_t>(m * c));
                check(prediction_sets(student, q, sets.data(), {}) == -1, where);
                for (std::int64_t i = 0; i < m; ++i) {
                    std::int32_t size = 0;
                    for (std::int64_t j = 0; j < c; ++j) size += sets[static_cast<std::size_t>(i * c + j)];
                    check(size == fast.student[static_cast<std::size_t>(i)], where + " sets agree with sizes");
                }
                const ScoresBetween found = scores_between(student, -1.0, q, 1 << 20, nullptr, {});
                check(found.at_most_low == 0 && found.between == static_cast<std::int64_t>(found.values.size()), where);
            }
        }
    }
    std::vector<float> bad = random_values(40 * 5, 1.0, 3);
    bad[17 * 5 + 4] = std::numeric_limits<float>::quiet_NaN();
    bad[30 * 5] = HUGE_VALF;
    Scores out(40);
    const Matrix student{bad.data(), Dtype::f32, 40, 5};
    check(score({student, {}, 1.0, 1.0}, out.view(), {}).row == 17, "the first bad row is named");
    const Bracket bracket{0.5, 1.0};
    check(score_in_brackets(student, {}, bracket, bracket, out.view(), {}).bad.row == 17, "the first bad row is named");
}

}  // namespace ccma::tests
