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

// Products of some rows from `row` on with `others` rows, a square from `first_other` on.
struct NearerPairs::Block {
    std::int64_t row, rows, first_other, others;
};

NearerPairs::NearerPairs(const float* near, std::int64_t n, std::int64_t most)
    : near_(near, near + n), most_(most), found_(at((n + square - 1) / square)) {}

bool NearerPairs::add(const Panels& others, std::int64_t first_other, const Matrix& x, const float* scale,
                      std::int64_t first, const Poll& poll) {
    const std::int64_t k = others.count(), size = rows_of_block(others.kernels());
    const std::int64_t blocks = (square + size - 1) / size;  // of a square, the last one smaller
    const std::int64_t items = (x.rows + square - 1) / square * blocks;
    n_seen_ += 2 * x.rows * k - (first == first_other ? std::min(k, x.rows) * k : 0);
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
            Found &of_other = of_others[at(item)], &of_row = of_rows[at(item)];
            list({first + row, stop - row, first_other, k}, products.get(), of_other, of_row);
            n_found += static_cast<std::int64_t>(of_other.rows.size() + of_row.rows.size());
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
    return true;
}

void NearerPairs::list(const Block& block, const float* products, Found& of_others, Found& of_rows) const {
    const KMeansKernels& kernel = kernels().kmeans;
    const std::int64_t k = block.others;
    const float *near_rows = near_.data() + block.row, *near_others = near_.data() + block.first_other;
    const std::vector<float> nothing(at(k), 0.0f);
    std::vector<std::int32_t> index(at(k + row_padding));
    std::vector<float> bounds(at(k + row_padding));
    Found others, rows;  // with room to spare
    const auto append = [&](Found& found, std::int64_t m, const float* values) {
        for (std::int64_t j = 0; j < m; ++j) found.values.push_back(values[index[at(j)]]);
    };
    const bool is_diagonal = block.row / square == block.first_other / square;
    for (std::int64_t r = 0; r < block.rows; ++r) {
        const float* of_row = products + r * k;
        const std::int32_t row = static_cast<std::int32_t>(block.row + r);
        const float above = std::nextafter(near_rows[r], std::numeric_limits<float>::infinity());
        std::int64_t m = kernel.reaching(of_row, nothing.data(), k, 0.0f, above, index.data(), bounds.data());
        others.rows.insert(others.rows.end(), at(m), row);
        others.others.insert(others.others.end(), index.begin(), index.begin() + m);
        append(others, m, of_row);
        if (is_diagonal) continue;  // it has both (i, j) and (j, i)
        // s − near is no smaller than the least float above 0 exactly where s > near: a difference has the right sign.
        m = kernel.reaching(of_row, near_others, k, -1.0f, std::numeric_limits<float>::denorm_min(), index.data(),
                            bounds.data());
        rows.others.insert(rows.others.end(), at(m), static_cast<std::uint16_t>(row % square));
        for (std::int64_t j = 0; j < m; ++j) {
            rows.rows.push_back(static_cast<std::int32_t>(block.first_other + index[at(j)]));
        }
        append(rows, m, of_row);
    }
    of_others = others;
    of_rows = rows;
}

void NearerPairs::complete() {
    for (std::size_t number = 0; number < found_.size(); ++number) {
        const std::int64_t count = std::min(square, rows() - static_cast<std::int64_t>(number) * square);
        Listed listed;
        listed.starts.assign(at(count + 1), 0);
        for (const Found& part : found_[number])
            for (const std::uint16_t j : part.others) ++listed.starts[j + 1u];
        std::partial_sum(listed.starts.begin(), listed.starts.end(), listed.starts.begin());
        std::vector<std::int64_t> next(listed.starts.begin(), listed.starts.end() - 1);
        listed.rows.resize(at(listed.starts.back()));
        listed.values.resize(at(listed.starts.back()));
        for (Found& part : found_[number]) {
            for (std::size_t p = 0; p < part.rows.size(); ++p) {
                const std::size_t to = at(next[part.others[p]]++);
                listed.rows[to] = part.rows[p];
                listed.values[to] = part.values[p];
            }
            part = {};
        }
        listed_.push_back(std::move(listed));
    }
    found_.clear();
}

NearerPairs::Of NearerPairs::of(std::int64_t j) const {
    const Listed& listed = listed_[at(j / square)];
    const std::int64_t start = listed.starts[at(j % square)], stop = listed.starts[at(j % square + 1)];
    return {listed.rows.data() + start, listed.values.data() + start, stop - start};
}

}  // namespace ccma
