// The residual of a softmax regression against the plain formula in double.
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "ccma/softmax.hpp"
#include "checks.hpp"

namespace ccma::tests {

void test_softmax(SimdLevel level) {
    set_simd_level(level);
    for (const std::int64_t classes : {1, 2, 7, 33, 300}) {
        for (const std::int64_t rows : {0, 1, 15, 16, 61, 700}) {
            const std::int64_t n = rows / 3, m = rows - n;
            const std::string where =
                std::string(name(level)) + " softmax of " + std::to_string(classes) + " x " + std::to_string(rows);
            std::vector<float> z = random_values(classes * rows, 9.0, 3), weights = random_values(rows, 1.0, 4);
            const std::vector<float> given = z;
            std::vector<std::int64_t> labels;
            for (std::int64_t i = 0; i < n; ++i) labels.push_back(i * 5 % classes);
            std::vector<float> soft(static_cast<std::size_t>(classes * m), 1.0f / static_cast<float>(classes));
            std::vector<double> losses(static_cast<std::size_t>(rows), -1.0);
            softmax_residual(z.data(), classes, rows, {labels.data(), n, soft.data()}, weights.data(), losses.data(),
                             {});
            bool right = true;
            for (std::int64_t i = 0; i < rows; ++i) {
                const auto at = [&](std::int64_t c) { return static_cast<std::size_t>(c * rows + i); };
                const double w = weights[static_cast<std::size_t>(i)];
                double sum = 0.0, of_target = 0.0;
                for (std::int64_t c = 0; c < classes; ++c) sum += std::exp(static_cast<double>(given[at(c)]));
                for (std::int64_t c = 0; c < classes; ++c) {
                    const double t = i < n ? labels[static_cast<std::size_t>(i)] == c
                                           : static_cast<double>(soft[static_cast<std::size_t>(c * m + i - n)]);
                    of_target += t * given[at(c)];
                    right = right && close(z[at(c)], w * (std::exp(given[at(c)]) / sum - t), 1e-6);
                }
                right = right && close(losses[static_cast<std::size_t>(i)], w * (std::log(sum) - of_target), 1e-5);
            }
            check(right, where);
        }
    }
}

}  // namespace ccma::tests
