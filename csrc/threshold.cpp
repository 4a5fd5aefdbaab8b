#include "ccma/threshold.hpp"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <numeric>

#include "ccma/kernels.hpp"
#include "cumulative_row.hpp"
#include "score/cuts.hpp"
#include "score/lanes.hpp"
#include "score_row.hpp"
#include "scratch.hpp"

namespace ccma {
namespace {

// of_row(row) of every row into `out`; the first row that is not finite, or −1.
template <class OfRow>
std::int64_t from_cumulative_rows(const Matrix& logits, const Cumulative& cumulative, double* out, const Poll& poll,
                                  const OfRow& of_row) {
    FirstIndex bad;
    const ScoreKernels& k = kernels().score;
    const auto rows = [&](std::int64_t begin, std::int64_t end) {
        CumulativeRow row(logits.cols);
        for (std::int64_t i = begin; i < end; ++i) {
            if (!row.load(k, logits, i, cumulative)) return bad.report(i);
            out[i] = of_row(row, i);
        }
    };
    parallel_ranges(logits.rows, chunk_rows(logits), rows, poll);
    return bad.get();
}

// scores_between of the rows [begin, end) of few classes. Returns the first row that is not finite, or −1.
std::int64_t scores_between_in_lanes(const Kernels& k, const Matrix& logits, std::int64_t begin, std::int64_t end,
                                     double low, double high, std::size_t share, ScoresBetween& found) {
    const std::int64_t n = logits.cols;
    Cuts cuts(k.score);
    return for_each_lane_tile(k.lanes, logits, begin, end, [&](std::int64_t i, const LaneTile& tile) {
        float cut_low[score_tile], cut_high[score_tile];
        cuts.find(tile, low, i, cut_low);
        cuts.find(tile, high, i, cut_high);
        cuts.flush();
        take_between(k.lanes, tile, n, cut_low, cut_high, share, found);
    });
}

}  // namespace

std::int64_t row_thresholds(const Matrix& logits, const Threshold& q, const Cumulative& cumulative, double* out,
                            const Poll& poll) {
    return from_cumulative_rows(logits, cumulative, out, poll,
                                [&](CumulativeRow& row, std::int64_t i) { return row.threshold(q.at(i)); });
}

std::int64_t least_scores(const Matrix& logits, const Cumulative& cumulative, double* out, const Poll& poll) {
    return from_cumulative_rows(logits, cumulative, out, poll,
                                [](CumulativeRow& row, std::int64_t) { return row.least(); });
}

ScoresBetween scores_between(const Matrix& logits, double low, double high, std::int64_t capacity,
                             const Cumulative* cumulative, const Poll& poll) {
    const std::int64_t n = logits.cols;
    const std::int64_t rows_of_chunk = chunk_rows(logits);
    const std::int64_t n_chunks = (logits.rows + rows_of_chunk - 1) / rows_of_chunk;
    // Every chunk may keep four times its share: few matrices are so uneven that this drops what would have fitted.
    const std::size_t share = static_cast<std::size_t>(4 * capacity / std::max<std::int64_t>(n_chunks, 1) + 1);
    std::vector<ScoresBetween> parts(static_cast<std::size_t>(n_chunks));
    const Kernels& k = kernels();

    const auto chunk = [&](std::int64_t index) {
        ScoresBetween& part = parts[static_cast<std::size_t>(index)];
        const std::int64_t begin = index * rows_of_chunk, end = std::min(logits.rows, begin + rows_of_chunk);
        if (cumulative) {
            CumulativeRow row(n);
            for (std::int64_t i = begin; i < end; ++i) {
                if (!row.load(k.score, logits, i, *cumulative)) {
                    part.bad_row = i;
                    return;
                }
                part.at_most_low += row.between(low, high, [&](double s, std::int64_t count) {
                    part.between += count;
                    for (; count > 0 && part.values.size() < share; --count) part.values.push_back(s);
                });
            }
            return;
        }
        if (in_lanes(k, n)) {
            part.bad_row = scores_between_in_lanes(k, logits, begin, end, low, high, share, part);
            return;
        }
        const Scratch<float> inside(padded(n) + row_padding);
        part.bad_row = for_each_tile(k.score, logits, begin, end, [&](const ScoredTile& tile, std::int64_t i) {
            float cut_low[score_tile], cut_high[score_tile];
            tile.cuts(k.score, low, i, cut_low);
            tile.cuts(k.score, high, i, cut_high);
            std::int64_t counts[score_tile][2];
            for (std::int64_t r = 0; r < tile.count(); ++r) {
                k.threshold.count_at_least(tile.z(r), n, cut_high[r], cut_low[r], counts[r]);
            }
            for (std::int64_t r = 0; r < tile.count(); ++r) {
                part.at_most_low += counts[r][1];
                const std::int64_t m = counts[r][0] - counts[r][1];
                part.between += m;
                if (m == 0 || part.values.size() >= share) continue;
                k.threshold.between(tile.z(r), n, cut_high[r], cut_low[r], inside.get());
                const ScoredRow row = tile.row(r);
                for (std::int64_t j = 0; j < m && part.values.size() < share; ++j) {
                    part.values.push_back(row.score(inside.get()[j]));
                }
            }
        });
    };
    parallel_for(n_chunks, chunk, poll);

    ScoresBetween whole;
    for (const ScoresBetween& part : parts) {
        if (part.bad_row >= 0) {
            whole.bad_row = part.bad_row;
            return whole;
        }
        whole.at_most_low += part.at_most_low;
        whole.between += part.between;
        whole.values.insert(whole.values.end(), part.values.begin(), part.values.end());
    }
    return whole;
}

std::vector<std::int64_t> top_m(const float* values, std::int64_t n, std::int64_t m) {
    m = std::min(m, n);
    if (m <= 0) return {};
    // Bits in the order of the numbers; −0 and +0 are one number and so one key.
    const auto key = [values](std::int64_t i) {
        const float value = values[i] + 0.0f;
        std::uint32_t bits;
        std::memcpy(&bits, &value, sizeof bits);
        return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
    };
    std::vector<std::int64_t> counts(1 << 16);
    for (std::int64_t i = 0; i < n; ++i) ++counts[key(i) >> 16];
    std::uint32_t bin = 0xffff;
    for (std::int64_t above = counts[bin]; above < m; above += counts[bin]) --bin;

    std::vector<std::int64_t> kept;
    for (std::int64_t i = 0; i < n; ++i) {
        if (key(i) >> 16 >= bin) kept.push_back(i);
    }
    const auto before = [&](std::int64_t a, std::int64_t b) {
        const std::uint32_t key_a = key(a), key_b = key(b);
        return key_a != key_b ? key_a > key_b : a < b;
    };
    std::partial_sort(kept.begin(), kept.begin() + m, kept.end(), before);
    kept.resize(static_cast<std::size_t>(m));
    return kept;
}

}  // namespace ccma
