#include "ccma/exact_sum.hpp"

#include <algorithm>
#include <cstring>
#include <vector>

namespace ccma {
namespace {

constexpr std::int64_t value_limbs = exact_sum_limbs - 1, terms_of_chunk = 1 << 17;

// Of a double: the place of its lowest bit, where its exponent is zero, in the limbs; its bits.
constexpr int lowest_place = -1075 + static_cast<int>(exact_sum_bias), mantissa_bits = 52, infinite = 0x7ff;

// Every limb to what is below 2^32, what is above to the next one.
void carry(std::int64_t* limbs) {
    for (std::int64_t i = 0; i + 1 < value_limbs; ++i) {
        limbs[i + 1] += limbs[i] >> 32;
        limbs[i] &= 0xffffffff;
    }
}

void add_product(double product, std::int64_t* limbs) {
    std::uint64_t bits;
    std::memcpy(&bits, &product, sizeof bits);
    if (bits == 0) return;
    const int exponent = static_cast<int>(bits >> mantissa_bits);
    if (exponent >= infinite) {  // also what is negative
        ++limbs[value_limbs];
        return;
    }
    // A product of two float32 numbers is a normal number, and its last bit is worth at least 2^-298.
    const std::uint64_t mantissa = (bits & ((1ULL << mantissa_bits) - 1)) | 1ULL << mantissa_bits;
    const int place = exponent + lowest_place, shift = place % 32;
    std::int64_t* at = limbs + place / 32;
    const std::uint64_t low = (mantissa & 0xffffffff) << shift, high = (mantissa >> 32) << shift;
    at[0] += static_cast<std::int64_t>(low & 0xffffffff);
    at[1] += static_cast<std::int64_t>((low >> 32) + (high & 0xffffffff));
    at[2] += static_cast<std::int64_t>(high >> 32);
}

}  // namespace

void exact_sum(const float* w, const float* x, std::int64_t n, std::int64_t* limbs, const Poll& poll) {
    const std::int64_t n_chunks = (n + terms_of_chunk - 1) / terms_of_chunk;
    std::vector<std::int64_t> of_chunks(static_cast<std::size_t>(n_chunks * exact_sum_limbs), 0);
    const auto chunk = [&](std::int64_t begin, std::int64_t end) {
        // Two sums in turn: neighbours often meet the same limb, and would wait for each other.
        std::int64_t even[exact_sum_limbs] = {}, odd[exact_sum_limbs] = {};
        std::int64_t i = begin;
        for (; i + 1 < end; i += 2) {
            add_product(static_cast<double>(w[i]) * x[i], even);
            add_product(static_cast<double>(w[i + 1]) * x[i + 1], odd);
        }
        if (i < end) add_product(static_cast<double>(w[i]) * x[i], even);
        std::int64_t* out = of_chunks.data() + begin / terms_of_chunk * exact_sum_limbs;
        for (std::int64_t limb = 0; limb < exact_sum_limbs; ++limb) out[limb] = even[limb] + odd[limb];
        carry(out);
    };
    parallel_ranges(n, terms_of_chunk, chunk, poll);
    std::fill_n(limbs, exact_sum_limbs, 0);
    for (std::size_t i = 0; i < of_chunks.size(); ++i) limbs[i % exact_sum_limbs] += of_chunks[i];
    carry(limbs);
}

}  // namespace ccma
