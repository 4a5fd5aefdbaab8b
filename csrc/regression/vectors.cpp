#include <algorithm>

#include "ccma/kernels.hpp"
#include "ccma/regression.hpp"

namespace ccma {
namespace {

// Values that are worth a thread.
constexpr std::int64_t least_values = 1 << 16;

}  // namespace

void dots(const float* stack, std::int64_t count, const float* vector, std::int64_t n, double* out, const Poll& poll) {
    const KMeansKernels& k = kernels().kmeans;
    const auto products = [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t i = begin; i < end; ++i) out[i] = k.dot(stack + i * n, vector, n);
    };
    parallel_ranges(count, 1 + least_values / n, products, poll);
}

void combination(const float* stack, std::int64_t count, const float* factors, std::int64_t n, float* out,
                 const Poll& poll) {
    const auto sums = [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t j = begin; j < end; ++j) out[j] = factors[0] * stack[j];
        for (std::int64_t i = 1; i < count; ++i) {
            const float* vector = stack + i * n;
            for (std::int64_t j = begin; j < end; ++j) out[j] += factors[i] * vector[j];
        }
    };
    parallel_ranges(n, std::max<std::int64_t>(1, least_values / count), sums, poll);
}

}  // namespace ccma
