// Cumulative scores as thresholds on logits.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "ccma/score.hpp"
#include "ccma/simd.hpp"
#include "ccma/threshold.hpp"
#include "checks.hpp"

namespace ccma::tests {
namespace {

// Scores s of a row by their definition, in the order of its classes.
std::vector<double> cumulative_scores(const float* z, std::int64_t c, double u, const Cumulative& rule) {
    const auto at = [](std::int64_t i) { return static_cast<std::size_t>(i); };
    const double largest = *std::max_element(z, z + c);
    std::vector<double> p(at(c)), scores(at(c));
    double sum = 0.0;
    for (std::int64_t j = 0; j < c; ++j) sum += p[at(j)] = std::exp(z[j] - largest);
    for (std::int64_t j = 0; j < c; ++j) {
        double before = 0.0;
        std::int64_t rank = 1;
        for (std::int64_t k = 0; k < c; ++k) {
            if (z[k] <= z[j]) continue;
            before += p[at(k)] / sum;
            ++rank;
        }
        const std::int64_t above = std::max<std::int64_t>(0, rank - rule.k_reg);
        scores[at(j)] = before + u * p[at(j)] / sum + rule.penalty * static_cast<double>(above) +
                        (p[at(j)] / sum < least_probability ? 1.0 : 0.0);
    }
    return scores;
}

}  // namespace

void test_cumulative(SimdLevel level) {
    set_simd_level(level);
    for (const std::int64_t c : {2, 3, 16, 17, 33, 257}) {
        for (const double scale : {0.0, 1e-3, 2.0, 50.0}) {
            const std::int64_t m = 19;
            std::vector<float> z = random_values(m * c, scale, 7);
            for (std::int64_t j = 0; j < 5 * c; ++j)
                z[static_cast<std::size_t>(j)] = std::round(z[static_cast<std::size_t>(j)]);
            const std::vector<double> u(static_cast<std::size_t>(m), 0.4);
            const Matrix logits{z.data(), Dtype::f32, m, c};
            for (const Cumulative& rule : {Cumulative{}, Cumulative{0.1, 2, nullptr}, Cumulative{0.0, 0, u.data()}}) {
                for (const double q : {-HUGE_VAL, 0.25, 0.95, 1.0 + 1e-9, HUGE_VAL}) {
                    const std::string where = std::string(name(level)) + " C=" + std::to_string(c) +
                                              " scale=" + std::to_string(scale) + " q=" + std::to_string(q);
                    std::vector<double> thresholds(static_cast<std::size_t>(m)), least(thresholds.size()),
                        of_rows(thresholds.size(), q);
                    std::vector<std::uint8_t> sets(z.size());
                    check(row_thresholds(logits, Threshold(of_rows.data()), rule, thresholds.data(), {}) == -1, where);
                    check(prediction_sets(logits, Threshold(thresholds.data()), sets.data(), {}) == -1, where);
                    check(least_scores(logits, rule, least.data(), {}) == -1, where);
                    std::int64_t admitted = 0;
                    bool near = false;
                    for (std::int64_t i = 0; i < m; ++i) {
                        const double share = rule.u ? rule.u[i] : 1.0;
                        const std::vector<double> s = cumulative_scores(z.data() + i * c, c, share, rule);
                        const double smallest = *std::min_element(s.begin(), s.end());
                        check(close(least[static_cast<std::size_t>(i)], smallest, 1e-13), where + " least");
                        std::int64_t size = 0, wanted = 0;
                        for (std::int64_t j = 0; j < c; ++j) {
                            near = near || std::fabs(s[static_cast<std::size_t>(j)] - q) < 1e-13;
                            wanted += s[static_cast<std::size_t>(j)] <= q;
                            size += sets[static_cast<std::size_t>(i * c + j)];
                        }
                        admitted += std::isinf(thresholds[static_cast<std::size_t>(i)]) ? 0 : size;
                        if (!near) check(size == std::max<std::int64_t>(1, wanted), where + " set");
                    }
                    const ScoresBetween found = scores_between(logits, -1.0, std::max(q, -1.0), 1 << 20, &rule, {});
                    check(found.at_most_low == 0 && found.between == admitted, where + " count agrees with sets");
                    check(found.between == static_cast<std::int64_t>(found.values.size()), where + " values");
                }
            }
        }
    }
    std::vector<float> bad = random_values(40 * 5, 1.0, 3);
    bad[17 * 5 + 4] = std::numeric_limits<float>::quiet_NaN();
    std::vector<double> out(40);
    const Matrix logits{bad.data(), Dtype::f32, 40, 5};
    const Cumulative rule;
    check(row_thresholds(logits, 0.5, rule, out.data(), {}) == 17, "the first bad row is named");
    check(scores_between(logits, 0.0, 1.0, 10, &rule, {}).bad_row == 17, "the first bad row is named");
}

}  // namespace ccma::tests
