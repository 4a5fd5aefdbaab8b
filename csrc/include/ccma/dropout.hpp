// Which values dropout leaves, by the random numbers of NumPy's PCG64.
#pragma once

#include <cstdint>

#include "ccma/kernels.hpp"

namespace ccma {

// A PCG64 generator as NumPy has it: the high and the low words of its state and of its increment.
struct DropoutStream {
    std::uint64_t state_high, state_low, increment_high, increment_low;
};

// Bits of the values of a piece of a batch, row after row of d values. A value stays where its 16 random bits are below
// `below` ≤ 2¹⁶: four values take those of a draw, the lowest first.
class DroppedValues {
  public:
    // From row `row` of the piece on.
    DroppedValues(const DropoutStream& stream, std::uint32_t below, std::int64_t row, std::int64_t d);

    // Of the next row: bit j % 64 of words[j / 64] is set where value j stays; others are zero.
    void next_row(std::uint64_t* words);

  private:
    void draw(std::int64_t count, std::uint64_t* words);

    const HeadKernels& kernels_;
    DrawLanes lanes_;
    std::uint32_t below_;
    std::int64_t d_;
    std::uint64_t left_ = 0;  // bits that the row before had no values for
    int n_left_ = 0;
};

}  // namespace ccma
