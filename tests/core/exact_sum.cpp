// Sums of products, exactly.
#include "ccma/exact_sum.hpp"

#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "checks.hpp"

namespace ccma::tests {
namespace {

double value(const std::vector<std::int64_t>& limbs) {
    double sum = 0.0;
    for (std::int64_t i = exact_sum_limbs - 2; i >= 0; --i) {
        sum += std::ldexp(static_cast<double>(limbs[static_cast<std::size_t>(i)]),
                          static_cast<int>(32 * i - exact_sum_bias));
    }
    return sum;
}

std::vector<std::int64_t> summed(const std::vector<float>& w, const std::vector<float>& x, std::size_t first,
                                 std::size_t last) {
    std::vector<std::int64_t> limbs(exact_sum_limbs);
    exact_sum(w.data() + first, x.data() + first, static_cast<std::int64_t>(last - first), limbs.data(), {});
    return limbs;
}

}  // namespace

void test_exact_sum() {
    const float least = 1e-45f, most = 3.4e38f;
    check(value(summed({}, {}, 0, 0)) == 0.0, "exact sum of nothing");
    check(value(summed({least, 0.0f}, {least, most}, 0, 2)) == std::ldexp(1.0, -298), "exact sum of the least");
    const double largest = static_cast<double>(most) * most;
    check(value(summed({most, least}, {most, least}, 0, 2)) == largest, "exact sum of the largest");
    check(summed({1.0f, HUGE_VALF, 0.0f}, {1.0f, 1.0f, HUGE_VALF}, 0, 3).back() == 2, "terms that are not finite");

    // Parts, added up, are the whole, at any number of threads.
    std::vector<float> w(300007), x(w.size());
    for (std::size_t i = 0; i < w.size(); ++i) {
        w[i] = std::ldexp(static_cast<float>(i % 1009), static_cast<int>(i % 97) - 60);
        x[i] = std::ldexp(static_cast<float>(i % 4093), static_cast<int>(i % 89) - 50);
    }
    const std::vector<std::int64_t> whole = summed(w, x, 0, w.size());
    for (const std::size_t cut : {std::size_t{0}, std::size_t{1}, std::size_t{131072}, std::size_t{200001}}) {
        std::vector<std::int64_t> first = summed(w, x, 0, cut);
        const std::vector<std::int64_t> second = summed(w, x, cut, w.size());
        std::int64_t above = 0;
        for (std::size_t limb = 0; limb + 1 < first.size(); ++limb) {
            const std::int64_t sum = first[limb] + second[limb] + above;
            first[limb] = sum & 0xffffffff;
            above = sum >> 32;
        }
        check(first == whole, "exact sum cut at " + std::to_string(cut));
    }
}

}  // namespace ccma::tests
