// What the tests of the core share, and the tests themselves.
#pragma once

#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <random>
#include <string>
#include <vector>

#include "ccma/simd.hpp"

namespace ccma::tests {

inline std::atomic<int> passed{0}, failed{0};  // threads of a test check too

inline void check(bool condition, const std::string& what) {
    ++(condition ? passed : failed);
    if (!condition) std::printf("FAILED: %s\n", what.c_str());
}

inline bool close(double a, double b, double tolerance) { return std::fabs(a - b) <= tolerance * (1.0 + std::fabs(b)); }

// Heap memory of exactly the wanted size, so that the address sanitizer sees one value too many.
inline std::vector<float> random_values(std::int64_t n, double scale, unsigned seed) {
    std::mt19937 generator(seed);
    std::normal_distribution<double> normal(0.0, scale);
    std::vector<float> values(static_cast<std::size_t>(n));
    for (float& value : values) value = static_cast<float>(normal(generator));
    return values;
}

void test_scores(SimdLevel level);
void test_lanes(SimdLevel level);
void test_regression(SimdLevel level);
void test_head(SimdLevel level);
void test_coverage(SimdLevel level);
void test_cumulative(SimdLevel level);
void test_wide_product(SimdLevel level);
void test_kmeans(SimdLevel level);
void test_sketch(SimdLevel level);
void test_fixed_point(SimdLevel level);
void test_exact_sum();
void test_top_m();
void test_parallel();
void test_mapped();

}  // namespace ccma::tests
