#include <algorithm>
#include <cmath>

#include "tables.hpp"
#include "widen_scalar.hpp"

namespace ccma {
namespace {

// Small enough for the baseline's sixteen 128-bit registers; compilers vectorise the loop over columns.
constexpr std::int64_t tile_rows = 4, panel_cols = 8;

// Fused where that is one instruction, as it is on aarch64.
inline float multiply_add(float a, float b, float c) {
#if defined(__FP_FAST_FMAF)
    return __builtin_fmaf(a, b, c);
#else
    return a * b + c;
#endif
}

void load_row(const void* row, Dtype dtype, std::int64_t n, float scale, const float* shift, float* out) {
    for (std::int64_t d = 0; d < n; ++d) {
        const float value = widen(row, dtype, d) * scale;
        out[d] = shift ? value - shift[d] : value;
    }
    for (std::int64_t d = n; d < padded(n); ++d) out[d] = 0.0f;
}

double sum_squares(const void* row, Dtype dtype, std::int64_t n) {
    double sum = 0.0;
    for (std::int64_t d = 0; d < n; ++d) {
        const double value = widen(row, dtype, d);
        sum += value * value;
    }
    return sum;
}

double dot(const float* a, const float* b, std::int64_t n) {
    double sum = 0.0;
    for (std::int64_t d = 0; d < n; ++d) sum += static_cast<double>(a[d]) * b[d];
    return sum;
}

void tile_product(const float* x, std::int64_t stride, std::int64_t n, std::int64_t rows, const float* panel,
                  const float* offset, bool adds, float* out, std::int64_t out_stride) {
    for (std::int64_t r = 0; r < rows; ++r) {
        float sum[panel_cols] = {};
        for (std::int64_t d = 0; d < n; ++d)
            for (std::int64_t j = 0; j < panel_cols; ++j)
                sum[j] = multiply_add(x[r * stride + d], panel[d * panel_cols + j], sum[j]);
        float* to = out + r * out_stride;
        for (std::int64_t j = 0; j < panel_cols; ++j) {
            if (adds) sum[j] += to[j];
            to[j] = offset ? sum[j] + offset[j] : sum[j];
        }
    }
}

void turn_panel(const float* from, std::int64_t n, float* to) {
    for (std::int64_t i = 0; i < panel_cols; ++i)
        for (std::int64_t j = 0; j < panel_cols; ++j) to[j * panel_cols + i] = i < n ? from[i * panel_cols + j] : 0.0f;
}

std::int64_t largest(const float* values, std::int64_t n) {
    std::int64_t best = 0;
    for (std::int64_t j = 1; j < n; ++j)
        if (values[j] > values[best]) best = j;
    return best;
}

std::int64_t reaching(const float* values, const float* reach, std::int64_t n, float factor, float least,
                      std::int32_t* index, float* bounds) {
    std::int64_t m = 0;
    for (std::int64_t j = 0; j < n; ++j) {
        const float bound = multiply_add(factor, reach[j], values[j]);
        if (bound >= least) {
            bounds[m] = bound;
            index[m++] = static_cast<std::int32_t>(j);
        }
    }
    return m;
}

double squared_distance(const float* a, const float* b, std::int64_t n) {
    double sum = 0.0;
    for (std::int64_t d = 0; d < n; ++d) {
        const double difference = static_cast<double>(a[d]) - b[d];
        sum += difference * difference;
    }
    return sum;
}

void dots_bytes(const std::int8_t* x, const std::int8_t* rows, std::int64_t stride, std::int64_t n,
                const std::int32_t* index, std::int64_t m, std::int32_t* out) {
    for (std::int64_t i = 0; i < m; ++i) {
        const std::int8_t* row = rows + index[i] * stride;
        out[i] = 0;
        for (std::int64_t d = 0; d < n; ++d) out[i] += x[d] * row[d];
    }
}

void add_fixed(std::int64_t* sums, std::int64_t stride, const Limbs& limbs, const float* x, double weight,
               std::int64_t n) {
    for (std::int64_t d = 0; d < n; ++d) {
        double term = weight * x[d];
        for (std::int64_t limb = 0; limb < limbs.count; ++limb) {
            const double whole = (term + whole_shifter) - whole_shifter;
            sums[limb * stride + d] += static_cast<std::int64_t>(whole);
            term = (term - whole) * limbs.step;
        }
    }
}

float quantize(const float* x, std::int64_t n, std::int8_t* bytes, double* squared_error) {
    float top = 0.0f;
    for (std::int64_t d = 0; d < n; ++d) top = std::max(top, std::fabs(x[d]));
    const float scale = top > least_quantized ? top / 127.0f : 0.0f;
    const float inverse = top > least_quantized ? 127.0f / top : 0.0f;
    *squared_error = 0.0;
    for (std::int64_t d = 0; d < n; ++d) {
        const float whole = std::nearbyint(x[d] * inverse);
        bytes[d] = static_cast<std::int8_t>(whole);
        const double error = static_cast<double>(x[d]) - static_cast<double>(scale) * whole;
        *squared_error += error * error;
    }
    return scale;
}

}  // namespace

const KMeansKernels kmeans_scalar{tile_rows,    panel_cols, load_row,  sum_squares, dot,
                                  tile_product, turn_panel, largest,   reaching,    squared_distance,
                                  add_fixed,    quantize,   dots_bytes};

}  // namespace ccma
