// δ straight from logits (steps 3 and 4), one row at a time in cache.
#pragma once

#include <cstdint>
#include <vector>

#include "ccma/parallel.hpp"
#include "ccma/threshold.hpp"
#include "ccma/types.hpp"

namespace ccma {

// The score of class c in a row z: a_c = ln Σ exp(z − max z) + (max z − z_c) in double, from float32 z; the sum has a
// relative error near 1e-7. c belongs to the conformal set where a_c ≤ q, decided on that double without further
// rounding, so that a threshold that is itself a score admits the class it came from.

struct ScoreTask {
    Matrix student;  // (M, C)
    Matrix teacher;  // (M, C), or data null: then δ = H
    Threshold q_student;
    Threshold q_teacher;
};

// Arrays of M; all written.
struct ScoreResult {
    float* delta;
    float* divergence;  // J; 0 without a teacher
    float* margin;      // p_(1) − p_(2) of the student
    float* confidence;  // max p of the teacher; 0 without one
    std::int32_t* student_top1;
    std::int32_t* teacher_top1;  // −1 without a teacher
    std::int32_t* student_size;
    std::int32_t* teacher_size;
    std::int32_t* overlap;
};

// The first row, in the order of rows and then student before teacher, that holds NaN or infinity.
struct BadRow {
    std::int64_t row = -1;  // −1: all rows are finite
    bool in_teacher = false;
};

BadRow score(const ScoreTask& task, const ScoreResult& result, const Poll& poll);

// What a row's score takes beside the logits of its sets.
struct Posterior {
    float student_maximum, teacher_maximum;
    double student_log_normalizer, teacher_log_normalizer;  // ln Σ exp(z − maximum)
    double entropy;
    double gate;
    float margin, confidence;
    std::int32_t student_top1, teacher_top1;
};

// Rows whose sets depend on where in their brackets the thresholds lie, with all that their scores can still need: the
// logits of the classes that are in a set at the brackets' upper ends, and of the most probable ones. Where classes are
// few, all logits of a row.
struct OpenRows {
    struct Row {
        std::int64_t index;
        std::int64_t begin, pairs;                  // of its logits
        std::int64_t student_place, teacher_place;  // of the most probable classes among them
        Posterior posterior;
    };
    struct Part {
        std::vector<Row> rows;
        std::vector<std::int64_t> whole_rows;  // the indices of rows whose logits are all there, instead of `rows`
        std::vector<float> student, teacher;

        std::size_t size() const { return rows.size() + whole_rows.size(); }
    };
    bool with_teacher = false;
    std::vector<Part> parts;

    std::int64_t size() const;
    std::int64_t bytes() const;
};

// A threshold that is known to lie in (low, high].
struct Bracket {
    double low, high;
};

struct BracketedScores {
    BadRow bad;                      // where there is one, the rest is not meaningful
    ScoresBetween student, teacher;  // the scores inside the brackets, all of them
    OpenRows open;
};

// One pass over the logits for thresholds that are only known to lie in brackets. Rows that have the same sets at both
// ends get their scores; the others stay open and get zeros.
BracketedScores score_in_brackets(const Matrix& student, const Matrix& teacher, const Bracket& q_student,
                                  const Bracket& q_teacher, const ScoreResult& result, const Poll& poll);

// The scores of open rows at thresholds inside the brackets, bit for bit those of score(): the j-th open row's place in
// the pass goes to rows[j], its scores to place j of `result`.
void settle(const OpenRows& open, double q_student, double q_teacher, std::int64_t* rows, const ScoreResult& result,
            const Poll& poll);

// ln Σ_c exp(z_c − max z) of each row, which is the smallest score of the row. Returns the first row that is not
// finite, or −1.
std::int64_t log_normalizers(const Matrix& logits, double* out, const Poll& poll);

// sets[i·C + c] = whether a_ic ≤ q_i, or c is the first most probable class of a row whose set would be empty.
std::int64_t prediction_sets(const Matrix& logits, const Threshold& q, std::uint8_t* sets, const Poll& poll);

}  // namespace ccma
