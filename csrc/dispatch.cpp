// The only place that maps an instruction set to functions.
#include <array>
#include <atomic>
#include <stdexcept>
#include <string>

#include "ccma/kernels.hpp"
#include "ccma/simd.hpp"
#include "kernels/tables.hpp"

namespace ccma {
namespace {

SimdLevel detect() {
#if defined(CCMA_X86)
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma") || !__builtin_cpu_supports("f16c")) {
        return SimdLevel::scalar;
    }
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl")) {
        return __builtin_cpu_supports("avx512vnni") ? SimdLevel::avx512_vnni : SimdLevel::avx512;
    }
    return SimdLevel::avx2;
#else
    return SimdLevel::scalar;
#endif
}

#if defined(CCMA_X86)
KMeansKernels with_products_of_bytes(KMeansKernels table) {
    table.tile_product_bytes = tile_product_avx512_vnni;
    table.dots_bytes = dots_avx512_vnni;
    return table;
}
#endif

const std::array<Kernels, 4>& tables() {
    static const std::array<Kernels, 4> all{
        Kernels{score_scalar, threshold_scalar, kmeans_scalar, head_scalar, {}},
#if defined(CCMA_X86)
        Kernels{score_avx2, threshold_avx2, kmeans_avx2, head_avx2, lanes_avx2},
        Kernels{score_avx512, threshold_avx512, kmeans_avx512, head_avx512, lanes_avx512},
        Kernels{score_avx512, threshold_avx512, with_products_of_bytes(kmeans_avx512), head_avx512, lanes_avx512},
#endif
    };
    return all;
}

std::atomic<int>& level_in_use() {
    static std::atomic<int> level{static_cast<int>(detected_simd_level())};
    return level;
}

}  // namespace

const char* name(SimdLevel level) {
    switch (level) {
        case SimdLevel::avx2:
            return "avx2";
        case SimdLevel::avx512:
            return "avx512";
        case SimdLevel::avx512_vnni:
            return "avx512_vnni";
        default:
            return "scalar";
    }
}

SimdLevel detected_simd_level() {
    static const SimdLevel level = detect();
    return level;
}

SimdLevel simd_level() { return static_cast<SimdLevel>(level_in_use().load()); }

void set_simd_level(SimdLevel level) {
    if (level > detected_simd_level()) {
        throw std::invalid_argument(std::string("this processor runs at most ") + name(detected_simd_level()) +
                                    ", not " + name(level));
    }
    level_in_use().store(static_cast<int>(level));
}

const Kernels& kernels() { return tables()[static_cast<std::size_t>(simd_level())]; }

}  // namespace ccma
