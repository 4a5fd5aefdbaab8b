// Greedy coverage of rows by some of them, over the pairs of rows with a gain: few beside all pairs, once some rows are
// selected.
//
// s_ij is the product of rows i and j, and near_i that of row i with the nearest row selected before. Row j gains from
// row i where s_ij > near_i.
#pragma once

#include <cstdint>
#include <vector>

#include "ccma/kmeans.hpp"
#include "ccma/parallel.hpp"
#include "ccma/types.hpp"

namespace ccma {

// Of each row j the rows i that it gains from, ascending, and s_ij.
class NearerPairs {
  public:
    // Rows of a square of pairs, which are stored together.
    static constexpr std::int64_t square = 1024;

    // At most `most` pairs of N rows are kept; near is (N).
    NearerPairs(const float* near, std::int64_t n, std::int64_t most);

    std::int64_t rows() const { return static_cast<std::int64_t>(near_.size()); }
    // Whether pairs can be added: they are not too many, nor complete, and nothing failed on the way.
    bool is_open() const { return state_ == State::open; }
    bool is_complete() const { return state_ == State::complete; }

    // Lists pairs of the rows of `others`, at most a square from row `first_other` on, with those of x, x · scale from
    // row `first` on, in both directions. Both begin at a multiple of `square`, and first_other ≤ first. Every pair is
    // to be looked at once, by ascending first_other, and by ascending first of each.
    //
    // Returns false where so many pairs are found that more than `most` are likely: then none are kept.
    bool add(const Panels& others, std::int64_t first_other, const Matrix& x, const float* scale, std::int64_t first,
             const Poll& poll);

    // Sorts the pairs, when all have been looked at.
    void complete();

    // Of row j, when complete.
    struct Of {
        const std::int32_t* rows;
        const float* values;
        std::int64_t count;
    };
    Of of(std::int64_t j) const;

    // The values s_ij of the rows j of a square, when complete; a non-decreasing function of them may take their place.
    std::int64_t squares() const { return static_cast<std::int64_t>(listed_.size()); }
    std::vector<float>& values(std::int64_t number) { return listed_[static_cast<std::size_t>(number)].values; }

  private:
    enum class State { open, closed, complete };
    // Products of some rows from `row` on with `others` rows, a square from `first_other` on.
    struct Block {
        std::int64_t row, rows, first_other, others;
    };
    // Pairs of a block as they are found, row after row: how many each row has, their rows of the square, and s.
    struct Found {
        Block block;
        bool rows_gain;  // rather than those of the square gain from them
        std::vector<std::int32_t> counts;
        std::vector<std::uint16_t> others;
        std::vector<float> values;
    };
    struct Listed {
        std::vector<std::int64_t> starts;
        std::vector<std::int32_t> rows;
        std::vector<float> values;
    };
    Found list(const Block& block, const float* products, bool rows_gain) const;

    std::vector<float> near_;
    std::int64_t most_, n_found_ = 0, n_seen_ = 0;
    State state_ = State::open;
    std::vector<std::vector<Found>> found_;  // of each square
    std::vector<Listed> listed_;
};

// The greedy choice by what rows gain, Σ_i w_i (max(v_ij, c_i) − c_i): v_ij the values of pairs, c_i what covers row i.
class ListedCoverage {
  public:
    // `pairs` is complete, and outlives this. covered (N) is c of the rows selected before; only rows of `open` (N) are
    // chosen. Gains are added up over `sum_rows` rows i at a time, whose sums then join the total.
    ListedCoverage(const NearerPairs& pairs, const float* covered, const float* weights, const bool* open,
                   std::int64_t sum_rows);

    const NearerPairs& pairs() const { return pairs_; }

    // What row j gains, summed in double by ascending i.
    double gain(std::int64_t j) const;

    // Takes the row of largest gain (ties: the first) from those that are open and not `closed` (N, or null), or
    // returns −1 where no gain is positive. Rows that are closed stay so: later calls close them too.
    std::int64_t take(const bool* closed);

    // Has row j cover others.
    void cover(std::int64_t j);

  private:
    // By submodularity an earlier gain is an upper bound.
    struct Bound {
        double gain;
        std::int64_t row;
        bool operator<(const Bound& other) const {
            return gain < other.gain || (gain == other.gain && row > other.row);
        }
    };

    const NearerPairs& pairs_;
    std::vector<float> covered_, weights_;
    std::int64_t sum_rows_;
    std::vector<Bound> heap_;
};

}  // namespace ccma
