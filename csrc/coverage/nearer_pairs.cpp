#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <numeric>

#include "ccma/coverage.hpp"
#include "row_block.hpp"
#include "scratch.hpp"

namespace ccma {
namespace {

std::size_t at(std::int64_t i) { return static_cast<std::size_t>(i); }

}  // namespace

NearerPairs::NearerPairs(const float* near, std::int64_t n, std::int64_t most)
    : near_(near, near + n), most_(most), found_(at((n + square - 1) / square)) {}

bool NearerPairs::add(const Panels& others, std::int64_t first_other, const Matrix& x, const float* scale,
                      std::int64_t first, const Poll& poll) {
    const std::int64_t k = others.count(), size = rows_of_block(others.kernels());
    const std::int64_t blocks = (square + size - 1) / size;  // of a square, the last one smaller
    const std::int64_t items = (x.rows + square - 1) / square * blocks;
    state_ = State::closed;
    const bool is_diagonal = first == first_other;  // of its first square
    n_seen_ += 2 * x.rows * k - (is_diagonal ? std::min(k, x.rows) * k : 0);
    const double share = 2.0 * static_cast<double>(n_seen_) / static_cast<double>(rows()) / static_cast<double>(rows());
    const std::int64_t most = static_cast<std::int64_t>(static_cast<double>(most_) * std::min(1.0, share));
    std::vector<Found> of_others(at(items)), of_rows(at(items));
    std::atomic<std::int64_t> n_found{n_found_};
    const auto work = [&](std::int64_t begin, std::int64_t end) {
        const Scratch<float> products(size * k);
        for (std::int64_t item = begin; item < end && n_found <= most; ++item) {
            const std::int64_t row = item / blocks * square + item % blocks * size;
            const std::int64_t stop = std::min({row + size, (item / blocks + 1) * square, x.rows});
            if (row >= stop) continue;
            others.multiply_block(x, scale, row, stop - row, products.get());
            const Block block{first + row, stop - row, first_other, k};
            of_others[at(item)] = list(block, products.get(), false);
            // The diagonal square has both (i, j) and (j, i).
            if (!is_diagonal || item >= blocks) of_rows[at(item)] = list(block, products.get(), true);
            n_found += static_cast<std::int64_t>(of_others[at(item)].values.size() + of_rows[at(item)].values.size());
        }
    };
    const std::int64_t products = size * k * others.dimensions();
    parallel_ranges(items, 1 + least_products / (products + 1), work, poll);
    n_found_ = n_found;
    if (n_found_ > most) {
        found_.clear();
        return false;
    }
    for (std::int64_t item = 0; item < items; ++item) {
        found_[at(first_other / square)].push_back(std::move(of_others[at(item)]));
        found_[at(first / square + item / blocks)].push_back(std::move(of_rows[at(item)]));
    }
    state_ = State::open;
    return true;
}

NearerPairs::Found NearerPairs::list(const Block& block, const float* products, bool rows_gain) const {
    const KMeansKernels& kernel = kernels().kmeans;
    const std::int64_t k = block.others;
    const std::vector<float> nothing(at(k), 0.0f);
    std::vector<std::int32_t> index(at(k + row_padding));
    std::vector<float> bounds(at(k + row_padding));
    Found found{block, rows_gain, {}, {}, {}};  // with room to spare
    for (std::int64_t r = 0; r < block.rows; ++r) {
        const float* of_row = products + r * k;
        // s − near is no smaller than the least float above 0 exactly where s > near: a difference has the right sign.
        const std::int64_t m =
            rows_gain
                ? kernel.reaching(of_row, near_.data() + block.first_other, k, -1.0f,
                                  std::numeric_limits<float>::denorm_min(), index.data(), bounds.data())
                : kernel.reaching(of_row, nothing.data(), k, 0.0f,
                                  std::nextafter(near_[at(block.row + r)], std::numeric_limits<float>::infinity()),
                                  index.data(), bounds.data());
        found.counts.push_back(static_cast<std::int32_t>(m));
        found.others.insert(found.others.end(), index.begin(), index.begin() + m);
        for (std::int64_t j = 0; j < m; ++j) found.values.push_back(of_row[index[at(j)]]);
    }
    return Found(static_cast<const Found&>(found));  // without it
}

void NearerPairs::complete() {
    state_ = State::closed;
    for (std::size_t number = 0; number < found_.size(); ++number) {
        const std::int64_t count = std::min(square, rows() - static_cast<std::int64_t>(number) * square);
        // (j in its square, i, s) of each pair, candidates by ascending rows.
        const auto each = [&](const Found& part, const auto& take) {
            std::size_t p = 0;
            for (std::size_t r = 0; r < part.counts.size(); ++r) {
                const std::int64_t row = part.block.row + static_cast<std::int64_t>(r);
                for (const std::size_t end = p + at(part.counts[r]); p < end; ++p) {
                    const std::int64_t other = part.others[p];
                    if (part.rows_gain) {
                        take(row % square, part.block.first_other + other, part.values[p]);
                    } else {
                        take(other, row, part.values[p]);
                    }
                }
            }
        };
        Listed listed;
        listed.starts.assign(at(count + 1), 0);
        for (const Found& part : found_[number])
            each(part, [&](std::int64_t j, std::int64_t, float) { ++listed.starts[at(j + 1)]; });
        std::partial_sum(listed.starts.begin(), listed.starts.end(), listed.starts.begin());
        std::vector<std::int64_t> next(listed.starts.begin(), listed.starts.end() - 1);
        listed.rows.resize(at(listed.starts.back()));
        listed.values.resize(at(listed.starts.back()));
        for (Found& part : found_[number]) {
            each(part, [&](std::int64_t j, std::int64_t i, float value) {
                const std::size_t to = at(next[at(j)]++);
                listed.rows[to] = static_cast<std::int32_t>(i);
                listed.values[to] = value;
            });
            part = {};
        }
        listed_.push_back(std::move(listed));
    }
    found_.clear();
    state_ = State::complete;
}

NearerPairs::Of NearerPairs::of(std::int64_t j) const {
    const Listed& listed = listed_[at(j / square)];
    const std::int64_t start = listed.starts[at(j % square)], stop = listed.starts[at(j % square + 1)];
    return {listed.rows.data() + start, listed.values.data() + start, stop - start};
}

}  // namespace ccma
