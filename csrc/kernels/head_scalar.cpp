#include <algorithm>
#include <cmath>

#include "tables.hpp"

namespace ccma {
namespace {

__extension__ using Wide = unsigned __int128;

Wide wide(std::uint64_t high, std::uint64_t low) { return static_cast<Wide>(high) << 64 | low; }

std::uint64_t upper(Wide x) { return static_cast<std::uint64_t>(x >> 64); }

// PCG64's output, XSL-RR.
std::uint64_t output(Wide state) {
    const std::uint64_t mixed = upper(state) ^ static_cast<std::uint64_t>(state);
    const unsigned turn = upper(state) >> 58;
    return mixed >> turn | mixed << (-turn & 63);
}

void draw_below(DrawLanes& lanes, std::uint32_t limit, std::int64_t count, std::uint64_t* words) {
    const Wide factor = wide(lanes.factor_high, lanes.factor_low);
    const Wide increment = wide(lanes.increment_high, lanes.increment_low);
    for (std::int64_t w = 0; w < count; ++w) {
        words[w] = 0;
        for (int at = 0; at < 64; at += 4) {
            const int lane = at / 4 % draw_lanes;
            Wide state = wide(lanes.high[lane], lanes.low[lane]);
            const std::uint64_t draw = output(state);
            for (int i = 0; i < 4; ++i) words[w] |= std::uint64_t{(draw >> 16 * i & 0xffff) < limit} << (at + i);
            state = state * factor + increment;
            lanes.high[lane] = upper(state);
            lanes.low[lane] = static_cast<std::uint64_t>(state);
        }
    }
}

void add_chosen(const ChosenValues& values, std::int64_t rows, const float* matrix, std::int64_t stride, std::int64_t n,
                float* out, std::int64_t out_stride) {
    for (std::int64_t r = 0; r < rows; ++r) {
        const float* x = values.x + r * values.row_stride;
        float* sums = out + r * out_stride;
        for (std::uint64_t bits = values.bits[r * values.bits_stride]; bits != 0; bits &= bits - 1) {
            const std::int64_t j = __builtin_ctzll(bits);
            const float value = x[j * values.stride];
            for (std::int64_t c = 0; c < n; ++c) sums[c] += value * matrix[j * stride + c];
        }
    }
}

double softmax_row(float* z, std::int64_t n, float* maximum) {
    *maximum = *std::max_element(z, z + n);
    double sum = 0.0;
    for (std::int64_t c = 0; c < n; ++c) sum += z[c] = std::exp(z[c] - *maximum);
    for (std::int64_t c = 0; c < n; ++c) z[c] /= static_cast<float>(sum);
    return sum;
}

void adamw(const float* gradient, float scale, std::int64_t n, const AdamW& factors, float* parameters, float* first,
           float* second) {
    for (std::int64_t i = 0; i < n; ++i) {
        const float g = gradient[i] * scale;
        first[i] += 0.1f * (g - first[i]);
        second[i] = 0.999f * second[i] + 0.001f * g * g;
        parameters[i] -= factors.decay * parameters[i];
        parameters[i] -= factors.rate * first[i] / (factors.spread * std::sqrt(second[i]) + 1e-8f);
    }
}

}  // namespace

const HeadKernels head_scalar{draw_below, add_chosen, softmax_row, adamw};

}  // namespace ccma
