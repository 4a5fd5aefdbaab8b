// The gradient of a softmax regression, the sums of a solver and a factor's inverse against plain loops in double.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "ccma/parallel.hpp"
#include "ccma/regression.hpp"
#include "checks.hpp"

namespace ccma::tests {
namespace {

struct Problem {
    std::int64_t m, d, classes, n;
    std::vector<float> x, coef, soft, offset, weights;
    std::vector<std::int64_t> labels;

    Problem(std::int64_t m_, std::int64_t d_, std::int64_t classes_)
        : m(m_),
          d(d_),
          classes(classes_),
          n(m_ / 3),
          x(random_values(m * d, 2.0, 1)),
          coef(random_values(classes * d, 2.0, 2)),
          soft(random_values((m - n) * classes, 1.0, 3)),
          offset(random_values(m * classes, 3.0, 4)),
          weights(random_values(m, 1.0, 5)) {
        for (float& t : soft) t = std::abs(t);
        for (std::int64_t i = 0; i < m - n; ++i) {
            float* row = soft.data() + i * classes;
            float sum = 1e-3f;
            for (std::int64_t c = 0; c < classes; ++c) sum += row[c];
            for (std::int64_t c = 0; c < classes; ++c) row[c] /= sum;
        }
        for (std::int64_t i = 0; i < m; ++i) {
            float& w = weights[at(i)];
            w = i % 7 == 3 || (i >= m / 4 && i < m / 2) ? 0.0f : std::abs(w);
        }
        for (std::int64_t i = 0; i < n; ++i) labels.push_back(i * 5 % classes);
    }

    double gradient(const float* of_offset, std::vector<float>& out) const {
        return RegressionRows(x.data(), m, d)
            .gradient(Targets(labels.data(), n, soft.data(), of_offset, m, classes), coef.data(), weights.data(),
                      out.data(), {});
    }

    double plain(const float* of_offset, std::vector<double>& out) const {
        double loss = 0.0;
        std::vector<double> z(at(classes));
        for (std::int64_t i = 0; i < m; ++i) {
            double sum = 0.0, of_target = 0.0, total = 0.0;
            for (std::int64_t c = 0; c < classes; ++c) {
                double value = of_offset ? of_offset[i * classes + c] : 0.0;
                for (std::int64_t j = 0; j < d; ++j)
                    value += static_cast<double>(coef[at(c * d + j)]) * x[at(i * d + j)];
                z[at(c)] = value;
                sum += std::exp(value);
            }
            for (std::int64_t c = 0; c < classes; ++c) {
                const double t = target(i, c), w = weights[at(i)];
                of_target += t * z[at(c)];
                total += t;
                for (std::int64_t j = 0; j < d; ++j)
                    out[at(c * d + j)] += w * (std::exp(z[at(c)]) / sum - t) * x[at(i * d + j)];
            }
            loss += weights[at(i)] * (std::log(sum) - of_target);
        }
        return loss;
    }

    double target(std::int64_t i, std::int64_t c) const {
        return i < n ? labels[at(i)] == c : static_cast<double>(soft[at((i - n) * classes + c)]);
    }

    static std::size_t at(std::int64_t i) { return static_cast<std::size_t>(i); }
};

void test_gradient(SimdLevel level) {
    for (const auto& [m, d, classes] : {std::array<std::int64_t, 3>{1, 1, 1},
                                        {2, 3, 2},
                                        {61, 40, 7},
                                        {700, 5, 33},
                                        {257, 300, 3},
                                        {130, 17, 300},
                                        {1100, 2, 2100}}) {
        const Problem problem(m, d, classes);
        for (const float* offset : {static_cast<const float*>(nullptr), problem.offset.data()}) {
            const std::string where = std::string(name(level)) + " gradient of " + std::to_string(m) + " x " +
                                      std::to_string(d) + ", " + std::to_string(classes) +
                                      (offset ? " classes with offsets" : " classes");
            std::vector<double> expected(Problem::at(classes * d), 0.0);
            const double loss = problem.plain(offset, expected);
            std::vector<float> found(expected.size(), -1.0f), again(expected.size(), -1.0f);
            set_num_threads(1);
            const double of_one = problem.gradient(offset, found);
            set_num_threads(3);
            const double of_three = problem.gradient(offset, again);
            check(close(of_one, loss, 1e-5), where + ": loss");
            check(of_one == of_three && found == again, where + ": threads");
            bool right = true;
            for (std::size_t i = 0; i < expected.size(); ++i) right = right && close(found[i], expected[i], 1e-4);
            check(right, where);
        }
    }
}

void test_vectors(SimdLevel level) {
    for (const std::int64_t n : {1, 15, 16, 47, 200000}) {
        const std::int64_t count = 4;
        const std::vector<float> stack = random_values(count * n, 2.0, 1), vector = random_values(n, 2.0, 2);
        const std::vector<float> factors = random_values(count, 1.0, 3);
        std::vector<double> products(Problem::at(count));
        std::vector<float> sum(Problem::at(n));
        dots(stack.data(), count, vector.data(), n, products.data(), {});
        combination(stack.data(), count, factors.data(), n, sum.data(), {});
        const std::string where = std::string(name(level)) + " vectors of " + std::to_string(n);
        for (std::int64_t i = 0; i < count; ++i) {
            double product = 0.0;
            for (std::int64_t j = 0; j < n; ++j)
                product += static_cast<double>(stack[Problem::at(i * n + j)]) * vector[Problem::at(j)];
            check(close(products[Problem::at(i)], product, 1e-9), where + ": product");
        }
        bool right = true;
        for (std::int64_t j = 0; j < n; ++j) {
            float total = factors[0] * stack[Problem::at(j)];
            for (std::int64_t i = 1; i < count; ++i) total += factors[Problem::at(i)] * stack[Problem::at(i * n + j)];
            right = right && sum[Problem::at(j)] == total;
        }
        check(right, where + ": combination");
    }
}

void test_factor(SimdLevel level) {
    for (const std::int64_t n : {1, 2, 24, 25, 60, 111}) {
        // A = B Bᵀ / n + I / 8
        const std::vector<float> b = random_values(n * n, 1.7, 1);
        std::vector<float> a(Problem::at(n * n)), inverse(a.size(), -1.0f);
        for (std::int64_t i = 0; i < n; ++i) {
            for (std::int64_t j = 0; j < n; ++j) {
                double sum = i == j ? 0.125 : 0.0;
                for (std::int64_t k = 0; k < n; ++k)
                    sum += static_cast<double>(b[Problem::at(i * n + k)]) * b[Problem::at(j * n + k)] /
                           static_cast<double>(n);
                a[Problem::at(i * n + j)] = static_cast<float>(sum);
            }
        }
        inverse_factor(a.data(), n, 0.125f, inverse.data(), {});
        // L⁻¹ A L⁻ᵀ = I, and nothing above the diagonal.
        std::vector<double> half(a.size(), 0.0);  // L⁻¹ A
        for (std::int64_t i = 0; i < n; ++i)
            for (std::int64_t k = 0; k < n; ++k)
                for (std::int64_t j = 0; j < n; ++j)
                    half[Problem::at(i * n + j)] +=
                        static_cast<double>(inverse[Problem::at(i * n + k)]) * a[Problem::at(k * n + j)];
        bool right = true;
        for (std::int64_t i = 0; i < n; ++i) {
            for (std::int64_t j = 0; j < n; ++j) {
                double sum = 0.0;
                for (std::int64_t k = 0; k < n; ++k)
                    sum += half[Problem::at(i * n + k)] * inverse[Problem::at(j * n + k)];
                right = right && close(sum, i == j ? 1.0 : 0.0, 1e-4);
                right = right && (j <= i || inverse[Problem::at(i * n + j)] == 0.0f);
            }
        }
        check(right, std::string(name(level)) + " factor of " + std::to_string(n));
    }
    // A pivot of zero counts as the least.
    const std::vector<float> singular{1.0f, 1.0f, 1.0f, 1.0f};
    std::vector<float> inverse(4);
    inverse_factor(singular.data(), 2, 0.25f, inverse.data(), {});
    check(inverse == std::vector<float>{1.0f, 0.0f, -2.0f, 2.0f}, std::string(name(level)) + " singular factor");
}

}  // namespace

void test_regression(SimdLevel level) {
    set_simd_level(level);
    const int threads = num_threads();
    test_gradient(level);
    set_num_threads(threads);
    test_vectors(level);
    test_factor(level);
}

}  // namespace ccma::tests
