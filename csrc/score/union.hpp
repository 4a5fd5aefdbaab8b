// The sets of a row, and their union, which is what a row's divergence is computed over.
#pragma once

#include <cmath>
#include <cstdint>

#include "ccma/kernels.hpp"

namespace ccma {

// The conformal set of one row, by comparison with a cut, and the one class that it falls back to where no class
// passes.
struct PredictionSet {
    float cut;
    std::int64_t only;  // −1 where the cut decides

    PredictionSet(float cut_of_row, std::int64_t top1) : cut(cut_of_row), only(cut_of_row == HUGE_VALF ? top1 : -1) {}
    bool holds(const float* z, std::int64_t c) const { return c == only || z[c] >= cut; }
};

// The union of a row's sets. The logits of both models over it are in the caller's memory.
struct Union {
    std::int64_t size;
    std::int32_t counts[3];                               // student's set, teacher's, both
    std::int64_t student_place = -1, teacher_place = -1;  // of a class that alone makes up a set, where that brought it
};

// `above`, if there is any, counts what is also in the sets of higher cuts, and says how high those are.
inline Union union_of(const ScoreKernels& k, const float* s, const float* t, std::int64_t n, const PredictionSet& set_s,
                      const PredictionSet& set_t, float* union_s, float* union_t, AboveCuts* above = nullptr) {
    Union u;
    u.size = k.union_pairs(s, t, n, set_s.cut, set_t.cut, union_s, union_t, u.counts, above);
    const auto admit = [&](std::int64_t c) {
        union_s[u.size] = s[c];
        union_t[u.size] = t[c];
        return u.size++;
    };
    if (set_s.only >= 0) {
        u.counts[0] = 1;
        u.counts[2] = set_t.holds(t, set_s.only);
        if (t[set_s.only] < set_t.cut) u.student_place = admit(set_s.only);
    }
    if (set_t.only >= 0) {
        u.counts[1] = 1;
        u.counts[2] = set_s.holds(s, set_t.only);
        u.teacher_place = set_t.only == set_s.only    ? u.student_place
                          : s[set_t.only] < set_s.cut ? admit(set_t.only)
                                                      : -1;
    }
    return u;
}

}  // namespace ccma
