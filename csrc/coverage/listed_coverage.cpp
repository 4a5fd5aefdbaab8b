#include <algorithm>

#include "ccma/coverage.hpp"

namespace ccma {

ListedCoverage::ListedCoverage(const NearerPairs& pairs, const float* covered, const float* weights, const bool* open,
                               std::int64_t sum_rows)
    : pairs_(pairs),
      covered_(covered, covered + pairs.rows()),
      weights_(weights, weights + pairs.rows()),
      sum_rows_(sum_rows) {
    for (std::int64_t j = 0; j < pairs.rows(); ++j) {
        if (open[j]) heap_.push_back({gain(j), j});
    }
    std::make_heap(heap_.begin(), heap_.end());
}

double ListedCoverage::gain(std::int64_t j) const {
    const NearerPairs::Of of = pairs_.of(j);
    double total = 0.0;
    for (std::int64_t p = 0; p < of.count;) {
        double sum = 0.0;
        for (const std::int64_t end = (of.rows[p] / sum_rows_ + 1) * sum_rows_; p < of.count && of.rows[p] < end; ++p) {
            const std::size_t i = static_cast<std::size_t>(of.rows[p]);
            sum += (std::max(of.values[p], covered_[i]) - covered_[i]) * weights_[i];
        }
        total += sum;
    }
    return total;
}

std::int64_t ListedCoverage::take(const bool* closed) {
    while (!heap_.empty()) {
        std::pop_heap(heap_.begin(), heap_.end());
        Bound& last = heap_.back();
        const std::int64_t row = last.row;
        if (!closed || !closed[row]) last.gain = gain(row);
        const bool is_out = (closed && closed[row]) || last.gain <= 0.0;
        if (is_out || heap_.size() == 1 || !(last < heap_.front())) {
            heap_.pop_back();
            if (is_out) continue;
            return row;
        }
        std::push_heap(heap_.begin(), heap_.end());
    }
    return -1;
}

void ListedCoverage::cover(std::int64_t j) {
    const NearerPairs::Of of = pairs_.of(j);
    for (std::int64_t p = 0; p < of.count; ++p) {
        float& covered = covered_[static_cast<std::size_t>(of.rows[p])];
        covered = std::max(covered, of.values[p]);
    }
}

}  // namespace ccma
