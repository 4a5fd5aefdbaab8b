#include "ccma/dropout.hpp"

#include <algorithm>

namespace ccma {
namespace {

__extension__ using Wide = unsigned __int128;

constexpr Wide multiplier = static_cast<Wide>(0x2360ed051fc65da4) << 64 | 0x4385df649fccf645;

std::uint64_t upper(Wide x) { return static_cast<std::uint64_t>(x >> 64); }

// n steps of a generator at once: state ↦ factor · state + increment.
struct Steps {
    Wide factor = 1, increment = 0;

    Steps(std::uint64_t n, Wide of_one) {
        for (Wide f = multiplier, i = of_one; n != 0; n >>= 1, i *= f + 1, f *= f) {
            if (n % 2 == 0) continue;
            factor *= f;
            increment = increment * f + i;
        }
    }
    Wide operator()(Wide state) const { return state * factor + increment; }
};

}  // namespace

DroppedValues::DroppedValues(const DropoutStream& stream, std::uint32_t below, std::int64_t row, std::int64_t d)
    : kernels_(kernels().head), below_(below), d_(d) {
    const Wide increment = static_cast<Wide>(stream.increment_high) << 64 | stream.increment_low;
    const std::int64_t values = row * d;
    const Steps to_first(static_cast<std::uint64_t>(values / 4) + 1, increment), one(1, increment);
    Wide state = to_first(static_cast<Wide>(stream.state_high) << 64 | stream.state_low);
    for (int i = 0; i < draw_lanes; ++i, state = one(state)) {
        lanes_.high[i] = upper(state);
        lanes_.low[i] = static_cast<std::uint64_t>(state);
    }
    const Steps all(draw_lanes, increment);
    lanes_.factor_high = upper(all.factor);
    lanes_.factor_low = static_cast<std::uint64_t>(all.factor);
    lanes_.increment_high = upper(all.increment);
    lanes_.increment_low = static_cast<std::uint64_t>(all.increment);
    if (values % 4 != 0) {
        draw(1, &left_);
        left_ >>= values % 4;
        n_left_ = 64 - static_cast<int>(values % 4);
    }
}

void DroppedValues::draw(std::int64_t count, std::uint64_t* words) {
    if (below_ >> 16 != 0) {
        std::fill_n(words, count, ~std::uint64_t{0});
    } else {
        kernels_.draw_below(lanes_, below_, count, words);
    }
}

void DroppedValues::next_row(std::uint64_t* words) {
    std::int64_t at = 0;
    if (n_left_ == 0) {
        at = d_ / 64;
        draw(at, words);
    }
    for (; at * 64 < d_; ++at) {
        const int wanted = static_cast<int>(std::min<std::int64_t>(64, d_ - at * 64));
        std::uint64_t word = left_;
        if (n_left_ < wanted) {
            std::uint64_t next;
            draw(1, &next);
            word |= next << n_left_;
            const int taken = wanted - n_left_;
            left_ = taken < 64 ? next >> taken : 0;
            n_left_ = 64 - taken;
        } else {
            left_ = wanted < 64 ? left_ >> wanted : 0;
            n_left_ -= wanted;
        }
        words[at] = wanted < 64 ? word & ((std::uint64_t{1} << wanted) - 1) : word;
    }
}

}  // namespace ccma
