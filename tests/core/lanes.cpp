// Rows of few classes, a tile at a time: what a row at a time gives, bit for bit.
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "ccma/kernels.hpp"
#include "ccma/simd.hpp"
#include "checks.hpp"

namespace ccma::tests {
namespace {

// n values of the type, in heap memory of exactly that size.
std::vector<std::uint8_t> stored_values(Dtype dtype, std::int64_t n, double scale, unsigned seed) {
    std::vector<std::uint8_t> bytes(static_cast<std::size_t>(n) * item_size(dtype));
    const std::vector<float> values = random_values(n, scale, seed);
    std::mt19937 generator(seed);
    for (std::size_t i = 0; i < values.size(); ++i) {
        std::uint32_t bits;
        std::memcpy(&bits, &values[i], sizeof bits);
        // Every half from 2^−9 to 2^6 in size.
        const std::uint32_t half = (generator() % 0x3c00u + 0x1800u) | (generator() % 2u << 15);
        const auto narrow = static_cast<std::uint16_t>(dtype == Dtype::f16 ? half : bits >> 16);
        std::memcpy(bytes.data() + i * item_size(dtype),
                    dtype == Dtype::f32 ? static_cast<const void*>(&bits) : &narrow, item_size(dtype));
    }
    return bytes;
}

bool same(double a, double b) { return std::memcmp(&a, &b, sizeof a) == 0; }

void test_tile(const Kernels& k, Dtype dtype, std::int64_t n, std::int64_t count, double scale,
               const std::string& where) {
    const std::vector<std::uint8_t> rows = stored_values(dtype, n * count, scale, static_cast<unsigned>(n));
    std::vector<float> z(static_cast<std::size_t>(score_tile * padded(n)));
    float maximum[score_tile], second[score_tile];
    double sum[score_tile], log_sum[score_tile], weighted[score_tile];
    check(k.score.load_logits(rows.data(), dtype, n, count, z.data(), maximum, second) == -1, where + " rows");
    k.score.exp_sums(z.data(), n, count, maximum, sum, log_sum, weighted, rows.data());
    LaneTile tile;
    check(k.lanes.load(rows.data(), dtype, n, count, tile) == -1, where + " lanes");
    for (std::int64_t r = 0; r < count; ++r) {
        const float* row = z.data() + r * padded(n);
        for (std::int64_t c = 0; c < n; ++c) check(same(tile.z[c * score_tile + r], row[c]), where + " logits");
        check(same(tile.maximum[r], maximum[r]) && same(tile.second[r], second[r]), where + " largest");
        check(tile.top1[r] == static_cast<float>(k.score.find(row, n, maximum[r])), where + " class");
        check(same(tile.sum[r], sum[r]) && same(tile.log_sum[r], log_sum[r]), where + " sums");
        // A row at a time counts what its padding adds.
        check(std::fabs(tile.weighted[r] - weighted[r]) <= 1e-30, where + " weighted sums");
    }

    float low[score_tile], high[score_tile];
    for (std::int64_t r = 0; r < score_tile; ++r) {
        low[r] = r % 5 == 4 ? HUGE_VALF : tile.z[r * r % n * score_tile + r];
        high[r] = r % 5 == 4 ? HUGE_VALF : low[r] - 1.0f;
    }
    std::uint32_t between[most_lane_classes];
    std::int64_t reach_low = k.lanes.between(tile, n, low, high, between);
    for (std::int64_t c = 0; c < n; ++c) {
        std::uint32_t expected = 0;
        for (std::int64_t r = 0; r < count; ++r) {
            const float value = tile.z[c * score_tile + r];
            reach_low -= value >= low[r];
            expected |= static_cast<std::uint32_t>(value >= high[r] && value < low[r]) << r;
        }
        check(between[c] == expected, where + " between cuts");
    }
    check(reach_low == 0, where + " up to the first cut");
}

}  // namespace

void test_lanes(SimdLevel level) {
    set_simd_level(level);
    const Kernels& k = kernels();
    if (!k.lanes.load) return;
    for (std::int64_t n = 1; n <= most_lane_classes; ++n) {
        const std::string where = std::string(name(level)) + " lanes C=" + std::to_string(n);
        for (const std::int64_t count : {1, 7, 15, 16}) {
            for (const Dtype dtype : {Dtype::f32, Dtype::f16, Dtype::bf16}) {
                test_tile(k, dtype, n, count, 3.0, where);
                test_tile(k, dtype, n, count, 50.0, where + " far apart");
            }
        }
        std::vector<float> bad = random_values(n * score_tile, 1.0, 1);
        bad[static_cast<std::size_t>(11 * n + n / 2)] = std::numeric_limits<float>::quiet_NaN();
        LaneTile tile;
        check(k.lanes.load(bad.data(), Dtype::f32, n, 11, tile) == -1, where + " rows before a bad one");
        check(k.lanes.load(bad.data(), Dtype::f32, n, 12, tile) == 11, where + " the last row is bad");
        bad[static_cast<std::size_t>(3 * n)] = -HUGE_VALF;
        check(k.lanes.load(bad.data(), Dtype::f32, n, score_tile, tile) == 3, where + " the first bad row");
    }
}

}  // namespace ccma::tests
