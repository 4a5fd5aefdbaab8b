// The centroids that bounds leave, and the search itself: what decides is d², in `try_centroid` alone.
#include <algorithm>
#include <cmath>
#include <vector>

#include "ccma/parallel.hpp"
#include "nearest/block.hpp"

namespace ccma {
namespace {

// Scores of a block of rows that are kept while they are looked through; with the rows they fill half of a small
// second-level cache.
constexpr std::int64_t score_bytes = 256 << 10;

// Blocks that one thread takes at a time.
constexpr std::int64_t blocks_of_task = 4;

// Beyond these squares products may overflow, and nothing is ruled out.
constexpr double too_large = 1e37;

}  // namespace

void Search::try_centroid(const Block& block, std::int64_t row, std::int64_t column, Incumbent& incumbent) const {
    const float squared = distance(block.exact_row(row), column);
    const std::int32_t label = label_of_[at(column)];
    if (squared < incumbent.squared || (squared == incumbent.squared && label < incumbent.label)) {
        incumbent.label = label;
        incumbent.squared = squared;
        incumbent.least = static_cast<float>(least(block, row, incumbent));
    }
}

void Search::meet(const Block& block, std::int64_t row, std::int64_t first, std::int64_t count,
                  const Sketched& sketched, const Hints& hints, Candidates& candidates, Incumbent& incumbent) const {
    const KMeansKernels& k = kernels_;
    const float* scores = block.scores.get() + row * block.columns;
    const float off = block.off.get()[row];
    if (!(block.squares.get()[row] + longest_ * longest_ < too_large)) {
        for (std::int64_t j = 0; j < count; ++j) try_centroid(block, row, first + j, incumbent);
        return;
    }
    std::int64_t tried = hints.labels ? column_of_[at(hints.labels[block.row(row)])] - first : -1;
    if (!hints.labels) {  // a good one first, so that few are listed
        tried = k.largest(scores, count);
        if (scores[tried] + off * off_[at(first + tried)] >= incumbent.least) {
            try_centroid(block, row, first + tried, incumbent);
        }
    }
    std::int32_t* index = candidates.index.get();
    float* bound = candidates.bound.get();
    candidates.count = k.reaching(scores, off_.data() + first, count, off, incumbent.least, index, bound);
    if (sketch_) {
        for (std::int64_t i = 0; i < candidates.count; ++i) candidates.score.get()[i] = scores[index[i]];
        candidates.keep(incumbent.least, tried);
        if (rest_ > 0) {
            look_further(sketched, block.row(row), first, candidates);
            candidates.keep(incumbent.least, tried);
        }
        if (!whole_.empty()) look_closely(block, row, first, candidates);
    }
    // Best bound first; the next one's centroid is on its way while one is tried.
    std::int64_t& n = candidates.count;
    std::int64_t best = n > 0 ? k.largest(bound, n) : 0;
    while (n > 0 && bound[best] >= incumbent.least) {
        const std::int32_t next = index[best];
        --n;
        index[best] = index[n];
        bound[best] = bound[n];
        if (n > 0) {
            best = k.largest(bound, n);
            if (bound[best] >= incumbent.least) prefetch(first + index[best]);
        }
        if (next != tried) try_centroid(block, row, first + next, incumbent);
    }
}

void Search::nearest(const Matrix& x, const float* scale, const Sketched& sketched, const Hints& hints,
                     const float* within, std::int32_t* labels, float* squared, const Poll& poll) const {
    const std::int64_t rows = tiles_of_block * kernels_.tile_rows;
    const std::int64_t chunk =
        std::clamp<std::int64_t>(score_bytes / (4 * rows * panel_cols_), 1, n_panels_) * panel_cols_;
    const std::int64_t shared = std::min(k_, (n_moved_ + panel_cols_ - 1) / panel_cols_ * panel_cols_);

    const auto search_block = [&](Block& block, std::int64_t begin, std::int64_t end) {
        block.begin = begin;
        block.end = end;
        load(block, x, scale, sketched, hints);
        Candidates candidates(chunk);
        std::vector<Incumbent> incumbents(at(end - begin));
        for (std::int64_t row = 0; row < end - begin; ++row) {
            Incumbent& incumbent = incumbents[at(row)];
            incumbent = {std::numeric_limits<std::int32_t>::max(), infinity, -infinity};
            if (within) incumbent = {-1, within[block.row(row)], -infinity};
            if (hints.labels) incumbent = {hints.labels[block.row(row)], block.first.get()[row], -infinity};
            if (within || hints.labels) incumbent.least = static_cast<float>(least(block, row, incumbent));
        }
        std::int64_t count;
        for (std::int64_t first = 0; first < k_; first += count) {
            // Rows that are settled meet the panels with a centroid that moved.
            const bool all = first < shared;
            count = std::min(chunk, (all ? shared : k_) - first);
            const std::int64_t n_rows = all ? end - begin : block.open;
            bounds(block, n_rows, first / panel_cols_, (count + panel_cols_ - 1) / panel_cols_);
            for (std::int64_t row = 0; row < n_rows; ++row) {
                meet(block, row, first, count, sketched, hints, candidates, incumbents[at(row)]);
            }
        }
        for (std::int64_t row = 0; row < end - begin; ++row) {
            labels[block.row(row)] = incumbents[at(row)].label;
            squared[block.row(row)] = incumbents[at(row)].squared;
        }
    };
    // Several blocks in the same memory: clearing new pages for each would take a tenth of the time.
    const auto search = [&](std::int64_t begin, std::int64_t end) {
        Block block(rows, d_, width_, chunk, by_bytes_);
        for (std::int64_t first = begin; first < end; first += rows) {
            search_block(block, first, std::min(end, first + rows));
        }
    };
    parallel_ranges(x.rows, blocks_of_task * rows, search, poll);
}

}  // namespace ccma
