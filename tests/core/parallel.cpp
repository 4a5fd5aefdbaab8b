// Chunks on threads, and the selection of the largest scores.
#include <atomic>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include "ccma/parallel.hpp"
#include "ccma/threshold.hpp"
#include "checks.hpp"

namespace ccma::tests {

void test_top_m() {
    const std::vector<float> values{1.0f, 3.0f, -0.0f, 3.0f, 0.0f, -5.0f};
    check(top_m(values.data(), 6, 4) == std::vector<std::int64_t>{1, 3, 0, 2}, "ties go to the lower index, -0 is 0");
    check(top_m(values.data(), 6, 99).size() == 6, "no more than there are");
    check(top_m(values.data(), 0, 3).empty(), "none of none");
}

void test_parallel() {
    for (const int threads : {1, 2, 7}) {
        set_num_threads(threads);
        std::vector<int> seen(1000);
        parallel_for(1000, [&](std::int64_t i) { ++seen[static_cast<std::size_t>(i)]; }, {});
        check(seen == std::vector<int>(1000, 1), "every chunk once");
        bool thrown = false;
        try {
            parallel_for(1000,
                         [](std::int64_t i) {
                             if (i == 500) throw std::runtime_error("500");
                         },
                         {});
        } catch (const std::runtime_error& error) {
            thrown = std::string(error.what()) == "500";
        }
        check(thrown, "an exception of a body is rethrown");
    }
    set_num_threads(2);
    bool interrupted = false;
    std::atomic<long> spent{0};
    try {
        const auto busy = [&](std::int64_t) {
            for (int i = 0; i < 100000; ++i) spent.fetch_add(1, std::memory_order_relaxed);
        };
        parallel_for(1 << 20, busy, [] { return true; });
    } catch (const Interrupted&) {
        interrupted = true;
    }
    check(interrupted, "a poll stops the work");
}

}  // namespace ccma::tests
