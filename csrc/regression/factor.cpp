#include <algorithm>
#include <cmath>
#include <vector>

#include "ccma/regression.hpp"

namespace ccma {
namespace {

// Columns of a matrix up to which it is factored column by column, without products.
constexpr std::int64_t small_factor = 24;

using Values = std::vector<float>;

Values values(std::int64_t n) { return Values(static_cast<std::size_t>(n)); }

// a bᵀ of a (rows, inner) and b (columns, inner), or a b of a b (inner, columns).
Values product(const Values& a, std::int64_t rows, const Values& b, std::int64_t columns, Panels::Of of,
               const Poll& poll) {
    Values out = values(rows * columns);
    const std::int64_t inner = static_cast<std::int64_t>(a.size()) / rows;
    Panels(b.data(), columns, inner, of)
        .multiply({a.data(), Dtype::f32, rows, inner}, nullptr, nullptr, out.data(), poll);
    return out;
}

// A part of a matrix whose rows lie `stride` apart.
Values part(const float* matrix, std::int64_t stride, std::int64_t rows, std::int64_t columns) {
    Values copy = values(rows * columns);
    for (std::int64_t i = 0; i < rows; ++i) std::copy_n(matrix + i * stride, columns, copy.data() + i * columns);
    return copy;
}

// Column by column, in double.
Values small(const Values& matrix, std::int64_t n, float least) {
    std::vector<double> rest(matrix.begin(), matrix.end()), inverse(matrix.size(), 0.0);
    const auto at = [n](std::int64_t i, std::int64_t j) { return static_cast<std::size_t>(i * n + j); };
    for (std::int64_t i = 0; i < n; ++i) inverse[at(i, i)] = 1.0;
    for (std::int64_t k = 0; k < n; ++k) {
        const double pivot = std::max(rest[at(k, k)], static_cast<double>(least));
        for (std::int64_t i = k + 1; i < n; ++i) {
            const double share = rest[at(i, k)] / pivot;
            for (std::int64_t j = k + 1; j <= i; ++j) rest[at(i, j)] -= share * rest[at(j, k)];
            for (std::int64_t j = 0; j <= k; ++j) inverse[at(i, j)] -= share * inverse[at(k, j)];
        }
        const double scale = 1.0 / std::sqrt(pivot);
        for (std::int64_t j = 0; j <= k; ++j) inverse[at(k, j)] *= scale;
    }
    return Values(inverse.begin(), inverse.end());
}

// By halves: with M = (A, ·; B, C), L = (P, ·; Q, R) of P Pᵀ = A, Q = B P⁻ᵀ and R Rᵀ = C − Q Qᵀ, and the lower half of
// L⁻¹ is (−R⁻¹ Q P⁻¹, R⁻¹).
Values factored(const float* matrix, std::int64_t stride, std::int64_t n, float least, const Poll& poll) {
    if (n <= small_factor) return small(part(matrix, stride, n, n), n, least);
    const std::int64_t half = n / 2, other = n - half;
    const float* lower = matrix + half * stride;
    const Values first = factored(matrix, stride, half, least, poll);
    const Values below = product(part(lower, stride, other, half), other, first, half, Panels::Of::rows, poll);
    Values left = product(below, other, below, other, Panels::Of::rows, poll);
    for (std::int64_t i = 0; i < other; ++i) {
        for (std::int64_t j = 0; j < other; ++j) {
            float& value = left[static_cast<std::size_t>(i * other + j)];
            value = lower[i * stride + half + j] - value;
        }
    }
    const Values rest = factored(left.data(), other, other, least, poll);
    const Values across = product(product(rest, other, below, half, Panels::Of::columns, poll), other, first, half,
                                  Panels::Of::columns, poll);
    Values inverse = values(n * n);
    for (std::int64_t i = 0; i < half; ++i) std::copy_n(first.data() + i * half, half, inverse.data() + i * n);
    for (std::int64_t i = 0; i < other; ++i) {
        float* row = inverse.data() + (half + i) * n;
        for (std::int64_t j = 0; j < half; ++j) row[j] = -across[static_cast<std::size_t>(i * half + j)];
        std::copy_n(rest.data() + i * other, other, row + half);
    }
    return inverse;
}

}  // namespace

void inverse_factor(const float* matrix, std::int64_t n, float least, float* out, const Poll& poll) {
    const Values inverse = factored(matrix, n, n, least, poll);
    std::copy(inverse.begin(), inverse.end(), out);
}

}  // namespace ccma
