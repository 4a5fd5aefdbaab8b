// Order statistics of all M · C scores without sorting them, and of M values without sorting those; the scores that add
// up probabilities, as thresholds on −ln p.
#pragma once

#include <cstdint>
#include <vector>

#include "ccma/parallel.hpp"
#include "ccma/types.hpp"

namespace ccma {

// The score that adds up the probabilities of a row's more probable classes (APS, Romano et al. 2020, arXiv 2006.02544;
// with a penalty on ranks RAPS, Angelopoulos et al. 2021, arXiv 2009.14193):
//
//   s_c = Σ_{c' before c} p_c' + u_i · p_c + penalty · max(0, r_c − k_reg),   r_c = 1 + number of classes before c,
//
// where c' stands before c if its score a (score.hpp) is smaller: classes of equal a share one s and are admitted
// together. s grows with a, so that { c : s_c ≤ q } = { c : a_c ≤ t_i } for a threshold t_i of each row. Probabilities
// are exponentials in double over their own sum. One more is added to the s of a class with p_c < least_probability:
// where the softmax saturates, the sums of all classes are 1, and a threshold of 1 is not to admit the impossible ones.
constexpr double least_probability = 0x1p-40;

struct Cumulative {
    double penalty = 0.0;       // not negative
    std::int64_t k_reg = 0;     // not negative
    const double* u = nullptr;  // (M,), in [0, 1]; 1 where null
};

// out[i] = t_i, the largest a of a class with s ≤ q_i, or −inf where there is none. Returns the first row that is not
// finite, or −1.
std::int64_t row_thresholds(const Matrix& logits, const Threshold& q, const Cumulative& cumulative, double* out,
                            const Poll& poll);

// out[i] = the smallest s of row i. Returns the first row that is not finite, or −1.
std::int64_t least_scores(const Matrix& logits, const Cumulative& cumulative, double* out, const Poll& poll);

struct ScoresBetween {
    std::int64_t bad_row = -1;     // first row with NaN or infinity; then the rest is not meaningful
    std::int64_t at_most_low = 0;  // how many scores are ≤ low
    std::int64_t between = 0;      // how many lie in (low, high]
    std::vector<double> values;    // those scores, all of them or, where they exceed it, a sample of about
                                   // `capacity` from everywhere in the matrix
};

// One pass over the logits, low ≤ high; the scores are a (score.hpp), or s where `cumulative` is not null.
ScoresBetween scores_between(const Matrix& logits, double low, double high, std::int64_t capacity,
                             const Cumulative* cumulative, const Poll& poll);

// Positions of the m largest of n values (no NaN), largest first; ties go to the lower position.
std::vector<std::int64_t> top_m(const float* values, std::int64_t n, std::int64_t m);

}  // namespace ccma
