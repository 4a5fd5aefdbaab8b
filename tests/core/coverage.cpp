// Listed pairs against all products, and the choice by them against one that looks at every row for every pick.
#include <algorithm>
#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "ccma/coverage.hpp"
#include "checks.hpp"

namespace ccma::tests {
namespace {

std::size_t at(std::int64_t i) { return static_cast<std::size_t>(i); }

struct Rows {
    std::int64_t n, d;
    std::vector<float> x, scale, unit, near;

    Rows(std::int64_t n_, std::int64_t d_, float least)
        : n(n_), d(d_), x(random_values(n * d, 1.0, 1)), scale(random_values(n, 1.0, 2)), near(at(n), least) {
        std::copy_n(x.begin(), d, x.begin() + (n - 1) * d);  // equal rows
        scale[at(n - 1)] = scale[0];
        unit = x;
        for (std::int64_t i = 0; i < n; ++i)
            for (std::int64_t j = 0; j < d; ++j) unit[at(i * d + j)] *= scale[at(i)];
    }

    Matrix matrix(std::int64_t first, std::int64_t stop) const {
        Matrix view;
        view.data = x.data() + first * d;
        view.dtype = Dtype::f32;
        view.rows = stop - first;
        view.cols = d;
        return view;
    }

    std::vector<float> products() const {
        std::vector<float> out(at(n * n));
        Panels(unit.data(), n, d).multiply(matrix(0, n), scale.data(), nullptr, out.data(), {});
        return out;
    }

    // Whether the pairs are listed, with rows looked at `squares` at a time.
    bool list(NearerPairs& pairs, std::int64_t squares) const {
        constexpr std::int64_t square = NearerPairs::square;
        for (std::int64_t other = 0; other < n; other += square) {
            const Panels panels(unit.data() + other * d, std::min(square, n - other), d);
            for (std::int64_t first = other; first < n; first += squares * square) {
                const std::int64_t stop = std::min(n, first + squares * square);
                if (!pairs.add(panels, other, matrix(first, stop), scale.data() + first, first, {})) return false;
            }
        }
        pairs.complete();
        return true;
    }
};

// The picks of an exhaustive search among open rows.
std::vector<std::int64_t> exhaustive(const std::vector<float>& s, std::vector<float> covered,
                                     const std::vector<float>& weights, const bool* open, const bool* closed,
                                     std::int64_t n_picks) {
    const std::int64_t n = static_cast<std::int64_t>(covered.size());
    std::vector<std::int64_t> picks;
    while (static_cast<std::int64_t>(picks.size()) < n_picks) {
        std::int64_t best = -1;
        double best_gain = 0.0;
        for (std::int64_t j = 0; j < n; ++j) {
            if (!open[j] || closed[j] || std::find(picks.begin(), picks.end(), j) != picks.end()) continue;
            double gain = 0.0;
            for (std::int64_t i = 0; i < n; ++i)
                gain += (std::max(s[at(i * n + j)], covered[at(i)]) - covered[at(i)]) * weights[at(i)];
            if (gain > best_gain) {
                best = j;
                best_gain = gain;
            }
        }
        picks.push_back(best);
        if (best < 0) break;
        for (std::int64_t i = 0; i < n; ++i) covered[at(i)] = std::max(covered[at(i)], s[at(i * n + best)]);
    }
    return picks;
}

void test_pairs(const Rows& rows, const std::string& what) {
    const std::vector<float> s = rows.products();
    std::int64_t expected = 0;
    for (std::int64_t i = 0; i < rows.n; ++i)
        for (std::int64_t j = 0; j < rows.n; ++j) expected += s[at(i * rows.n + j)] > rows.near[at(i)];
    for (const std::int64_t squares : {1, 4}) {
        NearerPairs pairs(rows.near.data(), rows.n, rows.n * rows.n);
        check(rows.list(pairs, squares), what + ": pairs are listed");
        bool same = true;
        std::int64_t found = 0;
        for (std::int64_t j = 0; j < rows.n; ++j) {
            const NearerPairs::Of of = pairs.of(j);
            found += of.count;
            for (std::int64_t p = 0; p < of.count; ++p) {
                const std::int64_t i = of.rows[p];
                same = same && (p == 0 || i > of.rows[p - 1]) && of.values[p] == s[at(i * rows.n + j)] &&
                       of.values[p] > rows.near[at(i)];
            }
        }
        check(same && found == expected, what + ": exactly the pairs with a gain, by ascending rows");
    }
    if (expected < 2) return;
    NearerPairs few(rows.near.data(), rows.n, expected / 2 - 1);
    check(!rows.list(few, 4) && !few.is_open() && !few.is_complete(), what + ": pairs are too many");
}

void test_choice(const Rows& rows, const std::string& what, std::int64_t most_picks) {
    const std::vector<float> s = rows.products();
    std::vector<float> weights = random_values(rows.n, 1.0, 4);
    for (float& w : weights) w = std::max(0.0f, w);
    weights[0] = weights.back() = 3.0f;
    const auto open = std::make_unique<bool[]>(at(rows.n)), closed = std::make_unique<bool[]>(at(rows.n));
    for (std::int64_t i = 0; i < rows.n; ++i) open[at(i)] = i % 5 != 3, closed[at(i)] = i % 7 == 2;
    NearerPairs pairs(rows.near.data(), rows.n, rows.n * rows.n);
    rows.list(pairs, 4);
    ListedCoverage coverage(pairs, rows.near.data(), weights.data(), open.get(), rows.n);
    std::vector<std::int64_t> picks;
    const std::int64_t n_picks = std::min(rows.n, most_picks);
    while (static_cast<std::int64_t>(picks.size()) < n_picks) {
        const std::int64_t row = coverage.take(closed.get());
        picks.push_back(row);
        if (row < 0) break;
        coverage.cover(row);
    }
    check(picks == exhaustive(s, rows.near, weights, open.get(), closed.get(), n_picks),
          what + ": picks of an exhaustive search");
    std::vector<std::int64_t> rest;
    for (std::int64_t row; (row = coverage.take(closed.get())) >= 0;) {
        rest.push_back(row);
        coverage.cover(row);
    }
    check(rest.size() <= at(rows.n) && std::none_of(picks.begin(), picks.end(),
                                                    [&](std::int64_t row) {
                                                        return row >= 0 &&
                                                               std::find(rest.begin(), rest.end(), row) != rest.end();
                                                    }),
          what + ": no row twice");
}

}  // namespace

void test_coverage(SimdLevel level) {
    set_simd_level(level);
    const float lowest = -std::numeric_limits<float>::infinity();
    for (const std::int64_t n : {1, 2, 17, 150, 1025, 2060}) {
        for (const std::int64_t d : {3, 300}) {
            if (n > 1000 && d > 3) continue;
            const std::string what =
                std::string("coverage, ") + name(level) + ", n = " + std::to_string(n) + ", d = " + std::to_string(d);
            const float dimensions = static_cast<float>(d);
            Rows rows(n, d, 0.3f * dimensions);
            for (std::int64_t i = 0; i < n; i += 3) rows.near[at(i)] = dimensions;
            test_pairs(rows, what);
            test_choice(rows, what, n > 1000 ? 2 : 12);
            if (n < 1000) {
                test_pairs(Rows(n, d, lowest), what + ", nothing covered");
                test_pairs(Rows(n, d, -lowest), what + ", all covered");
                test_choice(Rows(n, d, -1e9f), what + ", far", 12);
            }
        }
    }
}

}  // namespace ccma::tests
