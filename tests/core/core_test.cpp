// The C++ core by itself: every instruction set against the plain loops, over awkward shapes and alignments, with
// guards around every output. Meant to run under the address, undefined-behaviour and thread sanitizers
// (CONTRIBUTING.md).
#include <cstdio>

#include "ccma/parallel.hpp"
#include "ccma/simd.hpp"
#include "checks.hpp"

int main() {
    using namespace ccma;
    using namespace ccma::tests;
    const SimdLevel best = detected_simd_level();
    for (const SimdLevel level : {SimdLevel::scalar, SimdLevel::avx2, SimdLevel::avx512, SimdLevel::avx512_vnni}) {
        if (level > best) continue;
        for (const int threads : {1, 3}) {
            set_num_threads(threads);
            test_scores(level);
            test_lanes(level);
            test_cumulative(level);
            test_regression(level);
            test_head(level);
            test_coverage(level);
            test_wide_product(level);
        }
        test_kmeans(level);
        test_sketch(level);
        test_fixed_point(level);
    }
    set_simd_level(best);
    test_exact_sum();
    test_top_m();
    test_parallel();
    test_mapped();
    std::printf("%s: %d passed, %d failed\n", name(best), passed.load(), failed.load());
    return failed == 0 ? 0 : 1;
}
