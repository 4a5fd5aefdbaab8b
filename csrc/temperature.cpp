#include "ccma/temperature.hpp"

#include <algorithm>
#include <vector>

#include "ccma/kernels.hpp"
#include "scratch.hpp"

namespace ccma {
namespace {

// Exponentials that are worth a thread: some 0.1 ms.
constexpr std::int64_t least_exponentials = 1 << 15;

}  // namespace

Tempered tempered(const double* s, std::int64_t rows, std::int64_t classes, double beta, const Poll& poll) {
    const ScoreKernels& k = kernels().score;
    const std::int64_t tiles = (rows + tempered_tile - 1) / tempered_tile;
    std::vector<Tempered> of_rows(static_cast<std::size_t>(tiles * tempered_tile));
    const auto of_tiles = [&](std::int64_t first, std::int64_t last) {
        for (std::int64_t tile = first; tile < last; ++tile) {
            const std::int64_t begin = tile * tempered_tile, count = std::min(tempered_tile, rows - begin);
            double mean[tempered_tile], variance[tempered_tile];
            if (count == tempered_tile) {
                k.tempered(s + begin, rows, classes, beta, mean, variance);
            } else {
                const Scratch<double> padded(classes * tempered_tile);
                std::fill_n(padded.get(), classes * tempered_tile, 0.0);
                for (std::int64_t c = 0; c < classes; ++c) {
                    std::copy_n(s + c * rows + begin, count, padded.get() + c * tempered_tile);
                }
                k.tempered(padded.get(), tempered_tile, classes, beta, mean, variance);
            }
            for (std::int64_t r = 0; r < count; ++r) {
                of_rows[static_cast<std::size_t>(begin + r)] = {mean[r], variance[r]};
            }
        }
    };
    parallel_ranges(tiles, 1 + least_exponentials / (classes * tempered_tile), of_tiles, poll);
    Tempered sum{0.0, 0.0};
    for (const Tempered& of_row : of_rows) {
        sum.mean += of_row.mean;
        sum.variance += of_row.variance;
    }
    return sum;
}

}  // namespace ccma
