// δ straight from logits (steps 3 and 4), one row at a time in cache.
#pragma once

#include <cstdint>

#include "ccma/parallel.hpp"
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

// ln Σ_c exp(z_c − max z) of each row, which is the smallest score of the row. Returns the first row that is not
// finite, or −1.
std::int64_t log_normalizers(const Matrix& logits, double* out, const Poll& poll);

// sets[i·C + c] = whether a_ic ≤ q_i, or c is the first most probable class of a row whose set would be empty.
std::int64_t prediction_sets(const Matrix& logits, const Threshold& q, std::uint8_t* sets, const Poll& poll);

}  // namespace ccma
