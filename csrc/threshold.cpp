#include "ccma/threshold.hpp"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <numeric>

#include "ccma/kernels.hpp"
#include "score_row.hpp"
#include "scratch.hpp"

namespace ccma {

ScoresBetween scores_between(const Matrix& logits, double low, double high, std::int64_t capacity, const Poll& poll) {
    const std::int64_t n = logits.cols;
    const std::int64_t rows_of_chunk = chunk_rows(n);
    const std::int64_t n_chunks = (logits.rows + rows_of_chunk - 1) / rows_of_chunk;
    // Every chunk may keep four times its share: few matrices are so uneven that this drops what would have fitted.
    const std::size_t share = static_cast<std::size_t>(4 * capacity / std::max<std::int64_t>(n_chunks, 1) + 1);
    std::vector<ScoresBetween> parts(static_cast<std::size_t>(n_chunks));
    const Kernels& k = kernels();

    const auto chunk = [&](std::int64_t index) {
        ScoresBetween& part = parts[static_cast<std::size_t>(index)];
        const Scratch<float> z(padded(n)), inside(padded(n) + row_padding);
        const std::int64_t begin = index * rows_of_chunk, end = std::min(logits.rows, begin + rows_of_chunk);
        for (std::int64_t i = begin; i < end; ++i) {
            ScoredRow row;
            if (!k.score.load_logits(logits.row(i), logits.dtype, n, z.get(), &row.maximum)) {
                part.bad_row = i;
                return;
            }
            row.log_normalizer = std::log(k.score.exp_sum(z.get(), n, row.maximum, nullptr, logits.row(i + 1)));
            const float cut_low = row.cut(low), cut_high = row.cut(high);
            part.at_most_low += k.threshold.count_at_least(z.get(), n, cut_low);
            const std::int64_t m = k.threshold.between(z.get(), n, cut_high, cut_low, inside.get());
            part.between += m;
            for (std::int64_t j = 0; j < m && part.values.size() < share; ++j) {
                part.values.push_back(row.score(inside.get()[j]));
            }
        }
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
