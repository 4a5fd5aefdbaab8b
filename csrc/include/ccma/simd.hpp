// Which instruction set runs.
#pragma once

namespace ccma {

enum class SimdLevel : int { scalar = 0, avx2 = 1, avx512 = 2, avx512_vnni = 3 };

const char* name(SimdLevel level);

// The highest level that this binary holds and this processor and operating system run.
SimdLevel detected_simd_level();

// The level in use: the detected one unless set lower.
SimdLevel simd_level();

// For tests and comparisons. Throws std::invalid_argument for a level that cannot run here.
void set_simd_level(SimdLevel level);

}  // namespace ccma
