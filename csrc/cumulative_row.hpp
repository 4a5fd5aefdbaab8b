// The scores of one row that add up probabilities (threshold.hpp), in order, without sorting the row.
//
// The classes are dealt into buckets of a = −ln p, of which the sums of probabilities are known: only the buckets in
// which a threshold falls are sorted. Within a bucket no sum exceeds that of the bucket, so that, whatever the
// rounding, scores never fall from one class to the next.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "ccma/kernels.hpp"
#include "ccma/threshold.hpp"
#include "score_row.hpp"
#include "scratch.hpp"

namespace ccma {

class CumulativeRow {
  public:
    explicit CumulativeRow(std::int64_t cols)
        : n_(cols), z_(padded(cols)), e_(padded(cols)), bucket_(padded(cols)), classes_(cols) {}

    // False where row i is not finite.
    bool load(const ScoreKernels& k, const Matrix& logits, std::int64_t i, const Cumulative& cumulative) {
        if (k.load_logits(logits.row(i), logits.dtype, n_, 1, z_.get(), &row_.maximum, nullptr) >= 0) return false;
        double sums[score_tile], log_sums[score_tile];
        k.exp_sums(z_.get(), n_, 1, &row_.maximum, sums, log_sums, nullptr, logits.row(i + 1));
        row_.log_normalizer = log_sums[0];
        k.exp_row(z_.get(), n_, row_.maximum, e_.get());
        penalty_ = cumulative.penalty;
        k_reg_ = cumulative.k_reg;
        u_ = cumulative.u ? cumulative.u[i] : 1.0;
        deal();
        return true;
    }

    // The smallest score: the most probable class has exp(0) = 1.
    double least() const { return u_ / total() + penalty(1); }

    // The largest a of a class with s ≤ q, −inf where there is none.
    double threshold(double q) {
        double a = -HUGE_VAL;
        std::int64_t whole = -1;  // the last bucket that q admits without a look inside
        for (std::int64_t b = 0; b < n_buckets; ++b) {
            if (begin_[at(b)] == begin_[at(b + 1)]) continue;
            if (bound(b) <= q) {
                whole = b;
                continue;
            }
            bool ended = false;
            groups(b, [&](double s, double a_of_group, std::int64_t) {
                ended = s > q;
                if (!ended) a = a_of_group;
                return !ended;
            });
            if (ended) break;
        }
        if (whole >= 0 && a == -HUGE_VAL) {
            groups(whole, [&](double, double a_of_group, std::int64_t) {
                a = a_of_group;
                return true;
            });
        }
        return a;
    }

    // visit(s, number of classes that have it) for each s in (low, high], ascending; low ≤ high. Returns how many
    // classes have s ≤ low.
    template <class Visit>
    std::int64_t between(double low, double high, const Visit& visit) {
        std::int64_t at_most_low = 0;
        bool ended = false;
        for (std::int64_t b = 0; b < n_buckets && !ended; ++b) {
            if (begin_[at(b)] == begin_[at(b + 1)]) continue;
            if (bound(b) <= low) {
                at_most_low = begin_[at(b + 1)];
                continue;
            }
            if (mass_[at(b)] / total() > high) break;  // and what is added would only raise it
            groups(b, [&](double s, double, std::int64_t count) {
                ended = s > high;
                if (ended) return false;
                if (s <= low) {
                    at_most_low += count;
                } else {
                    visit(s, count);
                }
                return true;
            });
        }
        return at_most_low;
    }

  private:
    struct Class {
        float z;
        double e;
    };

    static constexpr std::int64_t n_buckets = 256;
    // The last bucket is that of the classes whose probability counts as zero.
    static constexpr std::int64_t impossible = n_buckets - 1;

    static std::size_t at(std::int64_t i) { return static_cast<std::size_t>(i); }
    double total() const { return mass_[n_buckets]; }
    double penalty(std::int64_t rank) const {
        return penalty_ * static_cast<double>(std::max<std::int64_t>(0, rank - k_reg_));
    }
    // What the score of a class of bucket b has beside probabilities, its rank given.
    double added(std::int64_t b, std::int64_t rank) const { return penalty(rank) + (b == impossible ? 1.0 : 0.0); }
    // No score of the bucket is larger.
    double bound(std::int64_t b) const { return mass_[at(b + 1)] / total() + added(b, begin_[at(b + 1)]); }

    void deal() {
        constexpr std::int64_t lanes = 8;
        const float* z = z_.get();
        float least[lanes];
        std::fill_n(least, lanes, row_.maximum);
        std::int64_t c = 0;
        for (; c + lanes <= n_; c += lanes)
            for (std::int64_t j = 0; j < lanes; ++j) least[j] = z[c + j] < least[j] ? z[c + j] : least[j];
        for (; c < n_; ++c) least[0] = std::min(least[0], z[c]);
        const double* e = e_.get();
        double sum = 0.0;
        for (c = 0; c < n_; ++c) sum += e[c];
        const double least_e = least_probability * sum;
        const double span = row_.score(*std::min_element(least, least + lanes)) - row_.log_normalizer;
        const double furthest = std::min(span, -std::log(least_e));
        const double scale = furthest > 0.0 ? static_cast<double>(impossible) / furthest : 0.0;

        // Of a, not of z: classes of equal a belong together.
        constexpr double last = static_cast<double>(impossible - 1);
        std::uint8_t* bucket = bucket_.get();
        for (c = 0; c < n_; ++c) {
            const double place = (row_.score(z[c]) - row_.log_normalizer) * scale;
            const auto of_possible = static_cast<std::int32_t>(place < last ? place : last);
            bucket[c] = static_cast<std::uint8_t>(e[c] < least_e ? static_cast<std::int32_t>(impossible) : of_possible);
        }
        begin_.fill(0);
        mass_.fill(0.0);
        for (c = 0; c < n_; ++c) {
            ++begin_[at(bucket[c] + 1)];
            mass_[at(bucket[c] + 1)] += e[c];
        }
        for (std::int64_t b = 0; b < n_buckets; ++b) {
            begin_[at(b + 1)] += begin_[at(b)];
            mass_[at(b + 1)] += mass_[at(b)];
        }
    }

    // The classes of bucket b in scratch memory, in the order of the row; how many there are.
    std::int64_t gather(std::int64_t b) {
        const std::int64_t count = begin_[at(b + 1)] - begin_[at(b)];
        const std::uint8_t* bucket = bucket_.get();
        std::int64_t c = -1;
        for (std::int64_t j = 0; j < count; ++j) {
            ++c;
            c += static_cast<const std::uint8_t*>(std::memchr(bucket + c, static_cast<int>(b), at(n_ - c))) -
                 (bucket + c);
            classes_.get()[j] = {z_.get()[c], e_.get()[c]};
        }
        return count;
    }

    // visit(s, a, count) for each group of classes of equal a in bucket b, from the most probable on, until it says no.
    template <class Visit>
    void groups(std::int64_t b, const Visit& visit) {
        const std::int64_t count = gather(b), begin = begin_[at(b)];
        const Class* classes = classes_.get();
        std::sort(classes_.get(), classes_.get() + count, [](const Class& x, const Class& y) { return x.z > y.z; });
        const double most = mass_[at(b + 1)];
        double before = mass_[at(b)];
        for (std::int64_t j = 0; j < count;) {
            const double a = row_.score(classes[j].z);
            const double s = std::min(before + u_ * classes[j].e, most) / total() + added(b, begin + j + 1);
            const std::int64_t first = j;
            for (; j < count && row_.score(classes[j].z) == a; ++j) before += classes[j].e;
            before = std::min(before, most);
            if (!visit(s, a, j - first)) return;
        }
    }

    std::int64_t n_;
    Scratch<float> z_;
    Scratch<double> e_;
    Scratch<std::uint8_t> bucket_;
    Scratch<Class> classes_;                         // of one bucket
    std::array<std::int64_t, n_buckets + 1> begin_;  // how many classes lie in the buckets before
    std::array<double, n_buckets + 1> mass_;         // and their Σ e
    ScoredRow row_;
    double penalty_ = 0.0, u_ = 1.0;
    std::int64_t k_reg_ = 0;
};

}  // namespace ccma
