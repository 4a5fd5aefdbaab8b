// The nearest centroids and what k-means sums up, with and without a sketch.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "ccma/kmeans.hpp"
#include "ccma/nearest.hpp"
#include "ccma/simd.hpp"
#include "checks.hpp"

namespace ccma::tests {
namespace {

// The upper halves of float32: bfloat16 by truncation.
std::vector<std::uint16_t> bfloat_bits(const std::vector<float>& values) {
    std::vector<std::uint16_t> bits(values.size());
    for (std::size_t i = 0; i < values.size(); ++i) {
        std::uint32_t whole;
        std::memcpy(&whole, &values[i], sizeof whole);
        bits[i] = static_cast<std::uint16_t>(whole >> 16);
    }
    return bits;
}

}  // namespace

// Few rows of many columns, which threads share out: each product is what it is by itself.
void test_wide_product(SimdLevel level) {
    set_simd_level(level);
    const std::int64_t m = 30, k = 2003, d = 300;
    const std::vector<float> x = random_values(m * d, 1.0, 7), matrix = random_values(k * d, 1.0, 8);
    const std::vector<float> bias = random_values(k, 1.0, 9);
    std::vector<float> whole(static_cast<std::size_t>(m * k)), one(static_cast<std::size_t>(m));
    Panels(matrix.data(), k, d).multiply({x.data(), Dtype::f32, m, d}, nullptr, bias.data(), whole.data(), {});
    for (const std::int64_t column : {0, 1, 500, 1001, 1535, 1536, 2002}) {
        const Panels alone(matrix.data() + column * d, 1, d);
        alone.multiply({x.data(), Dtype::f32, m, d}, nullptr, bias.data() + column, one.data(), {});
        bool same = true;
        for (std::int64_t i = 0; i < m; ++i)
            same = same && one[static_cast<std::size_t>(i)] == whole[static_cast<std::size_t>(i * k + column)];
        check(same, std::string(name(level)) + " wide product, column " + std::to_string(column));
    }
}

void test_kmeans(SimdLevel level) {
    for (const std::int64_t d : {1, 2, 15, 16, 17, 33, 255, 256, 257, 600}) {
        for (const std::int64_t m : {1, 5, 14, 15, 113}) {
            for (const std::int64_t k : {1, 2, 16, 31, 33}) {
                const std::string where = std::string(name(level)) + " D=" + std::to_string(d) +
                                          " M=" + std::to_string(m) + " K=" + std::to_string(k);
                const std::vector<float> x = random_values(m * d, 1.0, 4), centres = random_values(k * d, 1.0, 5);
                const std::vector<std::uint16_t> bits = bfloat_bits(x);
                const std::vector<float> scale = random_values(m, 1.0, 6), weights(static_cast<std::size_t>(m), 0.5f);
                for (const bool narrow : {false, true}) {
                    const Matrix rows =
                        narrow ? Matrix{bits.data(), Dtype::bf16, m, d} : Matrix{x.data(), Dtype::f32, m, d};
                    std::vector<std::int32_t> labels(static_cast<std::size_t>(m));
                    std::vector<float> squared(labels.size()), product(static_cast<std::size_t>(m * k));
                    set_simd_level(level);
                    const std::vector<float> origin(static_cast<std::size_t>(d), 0.25f);
                    const Search search(centres.data(), k, d, origin.data(), nullptr, 0);
                    search.nearest(rows, scale.data(), {}, {}, nullptr, labels.data(), squared.data(), {});
                    Panels(centres.data(), k, d).multiply(rows, scale.data(), nullptr, product.data(), {});
                    for (std::int64_t i = 0; i < m; ++i) {
                        double best = HUGE_VAL, chosen = 0.0;
                        for (std::int64_t j = 0; j < k; ++j) {
                            double distance = 0.0, dot = 0.0;
                            for (std::int64_t at = 0; at < d; ++at) {
                                float value = x[static_cast<std::size_t>(i * d + at)];
                                if (narrow) {
                                    const std::uint32_t whole =
                                        static_cast<std::uint32_t>(bits[static_cast<std::size_t>(i * d + at)]) << 16;
                                    std::memcpy(&value, &whole, sizeof value);
                                }
                                value *= scale[static_cast<std::size_t>(i)];
                                const double centre = centres[static_cast<std::size_t>(j * d + at)];
                                distance += (value - centre) * (value - centre);
                                dot += value * centre;
                            }
                            best = std::min(best, distance);
                            if (j == labels[static_cast<std::size_t>(i)]) chosen = distance;
                            check(close(product[static_cast<std::size_t>(i * k + j)], dot, 3e-5), where + " product");
                        }
                        check(chosen <= best + 1e-5 * (1.0 + best), where + " nearest");
                        check(close(squared[static_cast<std::size_t>(i)], chosen, 1e-5), where + " distance");
                    }
                    std::vector<std::int64_t> sums(static_cast<std::size_t>(k * d)), mass(static_cast<std::size_t>(k));
                    std::vector<double> lengths(labels.size());
                    const ClusterSums out{sums.data(), mass.data(), {1, 0x1p30, 0x1p40}, {1, 0x1p20, 0x1p40}};
                    accumulate(rows, nullptr, labels.data(), weights.data(), k, out, {});
                    std::int64_t total = 0;
                    for (const std::int64_t value : mass) total += value;
                    check(total == m << 19, where + " mass");
                    row_lengths(rows, lengths.data(), {});
                    check(std::isfinite(lengths[0]), where + " length");
                }
            }
        }
    }
}

// Sums of clusters in limbs: those of exact arithmetic, the same in any order, and nothing once rows are taken away.
void test_fixed_point(SimdLevel level) {
    set_simd_level(level);
    for (const std::int64_t d : {1, 3, 4, 8, 19, 64}) {
        const std::int64_t m = 41, k = 3, limbs = 3;
        const std::string where = std::string(name(level)) + " fixed point, D=" + std::to_string(d);
        const std::vector<float> x = random_values(m * d, 1.0, 11), spread = random_values(m, 20.0, 12);
        std::vector<float> weights(static_cast<std::size_t>(m)), taken(weights.size());
        std::vector<std::int32_t> labels(weights.size());
        for (std::size_t i = 0; i < weights.size(); ++i) {
            weights[i] = std::exp2(std::min(spread[i], 8.0f));
            taken[i] = -weights[i];
            labels[i] = static_cast<std::int32_t>(i % 3);
        }
        const auto size = static_cast<std::size_t>(limbs * k * d);
        std::vector<std::int64_t> sums(size), mass(static_cast<std::size_t>(limbs * k)), parts(sums), of_parts(mass);
        const Limbs of{limbs, 0x1p36, 0x1p40};
        const Matrix rows{x.data(), Dtype::f32, m, d};
        accumulate(rows, nullptr, labels.data(), weights.data(), k, {sums.data(), mass.data(), of, of}, {});
        for (const auto& [begin, end] : {std::pair<std::int64_t, std::int64_t>{17, m}, {0, 17}}) {
            accumulate({rows.row(begin), Dtype::f32, end - begin, d}, nullptr, labels.data() + begin,
                       weights.data() + begin, k, {parts.data(), of_parts.data(), of, of}, {});
        }
        check(parts == sums && of_parts == mass, where + " in parts");
        for (std::int64_t at = 0; at < k * d; ++at) {
            long double exact = 0.0L, found = 0.0L;
            for (std::int64_t i = at / d; i < m; i += k) {
                exact += static_cast<long double>(weights[static_cast<std::size_t>(i)]) *
                         x[static_cast<std::size_t>(i * d + at % d)];
            }
            for (std::int64_t limb = limbs - 1; limb >= 0; --limb) {
                found = found * 0x1p-40L + static_cast<long double>(sums[static_cast<std::size_t>(limb * k * d + at)]);
            }
            check(close(static_cast<double>(found * 0x1p-36L), static_cast<double>(exact), 1e-15), where + " sum");
        }
        accumulate(rows, nullptr, labels.data(), taken.data(), k, {sums.data(), mass.data(), of, of}, {});
        check(sums == std::vector<std::int64_t>(size, 0) && mass == std::vector<std::int64_t>(mass.size(), 0),
              where + " taken away");
    }
}

// Along directions, with hints and within a distance: the same bits as without.
void test_sketch(SimdLevel level) {
    set_simd_level(level);
    const std::int64_t d = 100, m = 131, k = 77, width = 64;
    const std::vector<float> x = random_values(m * d, 1.0, 8), centres = random_values(k * d, 1.0, 9);
    const std::vector<float> origin = random_values(d, 0.1, 10);
    std::vector<float> directions(static_cast<std::size_t>(width * d), 0.0f);
    for (std::int64_t i = 0; i < width; ++i) directions[static_cast<std::size_t>(i * d + i)] = 1.0f;
    const Matrix rows{x.data(), Dtype::f32, m, d};
    const std::size_t n = static_cast<std::size_t>(m);
    const Sketch sketch(directions.data(), width, d, origin.data());
    std::vector<std::int8_t> bytes(static_cast<std::size_t>(m * width));
    std::vector<SketchedRow> of_rows(n);
    std::vector<float> expected(n), squared(n);
    std::vector<std::int32_t> nearest(n), labels(n);
    const Sketched sketched{bytes.data(), of_rows.data()};
    sketch.project(rows, nullptr, sketched, {});
    Search(centres.data(), k, d, origin.data(), nullptr, 0)
        .nearest(rows, nullptr, {}, {}, nullptr, nearest.data(), expected.data(), {});
    for (const std::int64_t first : {32, 64}) {
        const Search search(centres.data(), k, d, origin.data(), &sketch, first);
        search.nearest(rows, nullptr, sketched, {}, nullptr, labels.data(), squared.data(), {});
        check(labels == nearest && squared == expected, std::string(name(level)) + " along directions");
        search.nearest(rows, nullptr, sketched, {std::vector<std::int32_t>(n, 5).data(), nullptr}, nullptr,
                       labels.data(), squared.data(), {});
        check(labels == nearest && squared == expected, std::string(name(level)) + " with hints");
        const auto still = std::make_unique<bool[]>(static_cast<std::size_t>(k));  // none moved
        Search(centres.data(), k, d, origin.data(), &sketch, first, still.get())
            .nearest(rows, nullptr, sketched, {nearest.data(), expected.data()}, nullptr, labels.data(), squared.data(),
                     {});
        check(labels == nearest && squared == expected, std::string(name(level)) + " of settled rows");
        search.nearest(rows, nullptr, sketched, {}, expected.data(), labels.data(), squared.data(), {});
        check(labels == std::vector<std::int32_t>(n, -1) && squared == expected, std::string(name(level)) + " within");
    }
}

}  // namespace ccma::tests
