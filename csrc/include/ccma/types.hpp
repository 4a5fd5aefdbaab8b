// Views of the caller's memory. Nothing here owns anything.
#pragma once

#include <cstddef>
#include <cstdint>

namespace ccma {

// The three storage types of a matrix; values are widened to float32 when a row is loaded.
enum class Dtype : int { f32 = 0, f16 = 1, bf16 = 2 };

static constexpr std::size_t item_size(Dtype dtype) { return dtype == Dtype::f32 ? 4 : 2; }

// A row-major matrix without gaps.
struct Matrix {
    const void* data = nullptr;
    Dtype dtype = Dtype::f32;
    std::int64_t rows = 0;
    std::int64_t cols = 0;

    // Row i from column j on.
    const void* row(std::int64_t i, std::int64_t j = 0) const {
        return static_cast<const char*>(data) + static_cast<std::size_t>(i * cols + j) * item_size(dtype);
    }
};

// A sum in fixed point, whole numbers in limbs: the first counts 1 / scale, and each further one takes what rounding
// left of the terms in the one before, in units `step` times as small. Powers of two. Whole numbers add up to the same
// in any order.
struct Limbs {
    std::int64_t count;
    double scale;
    double step;
};

// A threshold on the scores of all rows, or one for each.
struct Threshold {
    double all;
    const double* of_rows;  // (M,), or null

    Threshold(double everywhere = 0.0) : all(everywhere), of_rows(nullptr) {}
    explicit Threshold(const double* rows) : all(0.0), of_rows(rows) {}
    double at(std::int64_t i) const { return of_rows ? of_rows[i] : all; }
};

}  // namespace ccma
