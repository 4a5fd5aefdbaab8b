#include "ccma/score.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "ccma/kernels.hpp"
#include "score_row.hpp"
#include "scratch.hpp"

namespace ccma {
namespace {

constexpr float infinity = HUGE_VALF;

// The conformal set of one row, by comparison with a cut, and the one class that it falls back to where no class
// passes.
struct Set {
    float cut;
    std::int64_t only;  // −1 where the cut decides

    Set(float cut_of_row, std::int64_t top1) : cut(cut_of_row), only(cut_of_row == infinity ? top1 : -1) {}
    bool holds(const float* z, std::int64_t c) const { return c == only || z[c] >= cut; }
};

// The logits of both models over the union of a row's sets.
struct Union {
    std::int64_t size;
    std::int32_t counts[3];                               // student's set, teacher's, both
    std::int64_t student_place = -1, teacher_place = -1;  // of a class that alone makes up a set, where that brought it
};

// `above`, if there is any, counts what is also in the sets of higher cuts, and says how high those are.
Union union_of(const ScoreKernels& k, const float* s, const float* t, std::int64_t n, const Set& set_s,
               const Set& set_t, float* union_s, float* union_t, AboveCuts* above = nullptr) {
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

// Writes the scores of rows whose sets are known. Rows of small sets wait until their divergences can be computed
// together, at the latest for `flush`.
class ScoreWriter {
  public:
    ScoreWriter(const ScoreKernels& k, std::int64_t cols, bool with_teacher, const ScoreResult& result)
        : k_(k),
          with_teacher_(with_teacher),
          result_(result),
          union_s_(padded(cols) + row_padding),
          union_t_(padded(cols) + row_padding) {
        clear();
    }

    // The row's union, in scratch memory until the next one is found. Without a teacher t is s and its set empty.
    Union find(const float* s, const float* t, std::int64_t n, const Set& set_s, const Set& set_t,
               AboveCuts* above = nullptr) {
        return union_of(k_, s, t, n, set_s, set_t, union_s_.get(), union_t_.get(), above);
    }
    float* union_s() const { return union_s_.get(); }
    float* union_t() const { return union_t_.get(); }

    // The scores of row i by the union found last.
    void put(std::int64_t i, const Posterior& p, const Union& u) {
        result_.margin[i] = p.margin;
        result_.confidence[i] = p.confidence;
        result_.student_top1[i] = p.student_top1;
        result_.teacher_top1[i] = p.teacher_top1;
        result_.student_size[i] = u.counts[0];
        result_.teacher_size[i] = u.counts[1];
        result_.overlap[i] = u.counts[2];
        if (!with_teacher_) {
            result_.delta[i] = static_cast<float>(p.entropy);
            result_.divergence[i] = 0.0f;
        } else if (u.size > most_lane_pairs) {
            put_divergence(i, p.gate, p.entropy,
                           k_.js(union_s(), union_t(), u.size, p.student_maximum, p.teacher_maximum));
        } else {
            std::copy_n(union_s(), u.size, waiting_s_.get() + n_waiting_ * most_lane_pairs);
            std::copy_n(union_t(), u.size, waiting_t_.get() + n_waiting_ * most_lane_pairs);
            size_[n_waiting_] = u.size;
            maximum_s_[n_waiting_] = p.student_maximum;
            maximum_t_[n_waiting_] = p.teacher_maximum;
            waiting_[n_waiting_++] = {i, p.gate, p.entropy};
            if (n_waiting_ == score_tile) flush();
        }
    }

    void flush() {
        double divergence[score_tile];
        k_.js_tile(waiting_s_.get(), waiting_t_.get(), size_, maximum_s_, maximum_t_, divergence);
        for (std::int64_t r = 0; r < n_waiting_; ++r) {
            put_divergence(waiting_[r].row, waiting_[r].gate, waiting_[r].entropy, divergence[r]);
        }
        clear();
    }

  private:
    struct Waiting {
        std::int64_t row;
        double gate, entropy;
    };

    void clear() {
        n_waiting_ = 0;
        std::fill_n(size_, score_tile, 0);
        std::fill_n(waiting_s_.get(), score_tile * most_lane_pairs, -infinity);
        std::fill_n(waiting_t_.get(), score_tile * most_lane_pairs, -infinity);
    }

    void put_divergence(std::int64_t i, double gate, double entropy, double divergence) {
        result_.delta[i] = static_cast<float>(gate * divergence + (1.0 - gate) * entropy);
        result_.divergence[i] = static_cast<float>(divergence);
    }

    const ScoreKernels& k_;
    bool with_teacher_;
    ScoreResult result_;
    Scratch<float> union_s_, union_t_;
    Scratch<float> waiting_s_{score_tile * most_lane_pairs}, waiting_t_{score_tile * most_lane_pairs};
    std::int64_t n_waiting_ = 0, size_[score_tile];
    float maximum_s_[score_tile] = {}, maximum_t_[score_tile] = {};
    Waiting waiting_[score_tile];
};

// of_tile(begin, student, teacher, posteriors) for tiles of the rows [begin, end); the teacher's tile is the student's
// where there is none. Returns 2 · row, plus 1 for the teacher's, of the first row that is not finite, where it stops,
// or −1.
template <class OfTile>
std::int64_t for_each_posterior(const ScoreKernels& k, const Matrix& of_student, const Matrix& of_teacher,
                                std::int64_t begin, std::int64_t end, const OfTile& of_tile) {
    const std::int64_t n = of_student.cols;
    const bool with_teacher = of_teacher.data != nullptr;
    ScoredTile student(n), teacher(n);
    for (; begin < end; begin += student.rows()) {
        const std::int64_t next = std::min(end, begin + student.rows());
        const std::int64_t bad_s = student.load(k, of_student, begin, next, true);
        const std::int64_t bad_t = with_teacher ? teacher.load(k, of_teacher, begin, next) : -1;
        if (bad_s >= 0 || bad_t >= 0) return bad_s >= 0 && (bad_t < 0 || bad_s <= bad_t) ? 2 * bad_s : 2 * bad_t + 1;
        float margin[score_tile];
        student.margins(k, margin);
        Posterior posterior[score_tile];
        for (std::int64_t r = 0; r < next - begin; ++r) {
            Posterior& p = posterior[r];
            p.student_maximum = student.maximum(r);
            p.student_log_normalizer = student.log_normalizer(r);
            // H = −Σ p ln p with ln p = −(max − z) − ln Σ: two sums of non-negative terms.
            p.entropy = student.log_normalizer(r) + student.weighted(r) / student.sum(r);
            p.margin = margin[r];
            p.student_top1 = static_cast<std::int32_t>(k.find(student.z(r), n, student.maximum(r)));
            p.teacher_maximum = p.confidence = 0.0f;
            p.teacher_log_normalizer = p.gate = 0.0;
            p.teacher_top1 = -1;
            if (!with_teacher) continue;
            p.teacher_maximum = teacher.maximum(r);
            p.teacher_log_normalizer = teacher.log_normalizer(r);
            // g = max p^T / (max p^T + max p^S), and the largest probability of a row is 1 / Σ.
            p.gate = student.sum(r) / (student.sum(r) + teacher.sum(r));
            p.confidence = static_cast<float>(1.0 / teacher.sum(r));
            p.teacher_top1 = static_cast<std::int32_t>(k.find(teacher.z(r), n, teacher.maximum(r)));
        }
        of_tile(begin, student, with_teacher ? teacher : student, posterior);
    }
    return -1;
}

// The cuts of a tile's rows, found side by side: at most two thresholds for each of two models.
class Cuts {
  public:
    explicit Cuts(const ScoreKernels& k) : k_(k) {}

    // Those of `count` rows; q is all of theirs, or that of rows `begin` and following.
    void find(const float* maximum, const double* log_sum, std::int64_t count, const Threshold& q, std::int64_t begin,
              float* cut) {
        if (n_ + count > score_tile) flush();
        std::copy_n(maximum, count, maximum_ + n_);
        std::copy_n(log_sum, count, log_sum_ + n_);
        for (std::int64_t r = 0; r < count; ++r) q_[n_ + r] = q.at(begin + r);
        asked_[n_asked_++] = {cut, count};
        n_ += count;
    }

    // Everything that was asked for is there after this.
    void flush() {
        float found[score_tile];
        row_cuts(k_, maximum_, log_sum_, q_, n_, found);
        const float* next = found;
        for (std::int64_t i = 0; i < n_asked_; next += asked_[i++].count) {
            std::copy_n(next, asked_[i].count, asked_[i].cut);
        }
        n_ = n_asked_ = 0;
    }

  private:
    struct Asked {
        float* cut;
        std::int64_t count;
    };

    const ScoreKernels& k_;
    std::int64_t n_ = 0, n_asked_ = 0;
    float maximum_[score_tile] = {};
    double log_sum_[score_tile] = {}, q_[score_tile] = {};
    Asked asked_[score_tile];
};

// Where among the logits of a union one model's first most probable class stands.
std::int64_t top1_place(const ScoreKernels& k, const float* of_union, std::int64_t size, std::int64_t brought,
                        float maximum, const Set& own, const float* other_z, const Set& other) {
    // Classes as probable as the first come in by the cut together with it, and it stands before them.
    if (own.only < 0) return k.find(of_union, size, maximum);
    if (brought >= 0) return brought;
    // The other model's set, to which it belongs, is all there is.
    return std::count_if(other_z, other_z + own.only, [&](float z) { return z >= other.cut; });
}

void put_nothing(const ScoreResult& result, std::int64_t i) {
    for (float* values : {result.delta, result.divergence, result.margin, result.confidence}) values[i] = 0.0f;
    for (std::int32_t* values :
         {result.student_top1, result.teacher_top1, result.student_size, result.teacher_size, result.overlap}) {
        values[i] = 0;
    }
}

BadRow bad_row(const FirstIndex& bad) {
    const std::int64_t first = bad.get();
    return first < 0 ? BadRow{} : BadRow{first / 2, first % 2 == 1};
}

}  // namespace

BadRow score(const ScoreTask& task, const ScoreResult& result, const Poll& poll) {
    const std::int64_t n = task.student.cols;
    const bool with_teacher = task.teacher.data != nullptr;
    FirstIndex bad;
    const ScoreKernels& k = kernels().score;

    const auto rows = [&](std::int64_t begin, std::int64_t end) {
        ScoreWriter writer(k, n, with_teacher, result);
        Cuts cuts(k);
        float cut_s[score_tile], cut_t[score_tile];
        std::fill_n(cut_t, score_tile, infinity);  // without a teacher nothing passes
        const auto of_tile = [&](std::int64_t i, const ScoredTile& s, const ScoredTile& t, const Posterior* p) {
            cuts.find(s.maxima(), s.log_normalizers(), s.count(), task.q_student, i, cut_s);
            if (with_teacher) cuts.find(t.maxima(), t.log_normalizers(), t.count(), task.q_teacher, i, cut_t);
            cuts.flush();
            for (std::int64_t r = 0; r < s.count(); ++r) {
                const Set set_s(cut_s[r], p[r].student_top1), set_t(cut_t[r], p[r].teacher_top1);
                writer.put(i + r, p[r], writer.find(s.z(r), t.z(r), n, set_s, set_t));
            }
        };
        bad.report_if(for_each_posterior(k, task.student, task.teacher, begin, end, of_tile));
        writer.flush();
    };
    parallel_ranges(task.student.rows, chunk_rows(task.student), rows, poll);
    return bad_row(bad);
}

std::int64_t OpenRows::size() const {
    std::int64_t n = 0;
    for (const Part& part : parts) n += static_cast<std::int64_t>(part.rows.size());
    return n;
}

std::int64_t OpenRows::bytes() const {
    std::size_t n = 0;
    for (const Part& part : parts) {
        n += part.rows.capacity() * sizeof(Row) + (part.student.capacity() + part.teacher.capacity()) * sizeof(float);
    }
    return static_cast<std::int64_t>(n);
}

BracketedScores score_in_brackets(const Matrix& student, const Matrix& teacher, const Bracket& q_student,
                                  const Bracket& q_teacher, const ScoreResult& result, const Poll& poll) {
    const std::int64_t n = student.cols, rows_of_chunk = chunk_rows(student);
    const std::int64_t n_chunks = (student.rows + rows_of_chunk - 1) / rows_of_chunk;
    const bool with_teacher = teacher.data != nullptr;
    FirstIndex bad;
    const ScoreKernels& k = kernels().score;
    struct Part {
        ScoresBetween student, teacher;
        OpenRows::Part open;
    };
    std::vector<Part> parts(static_cast<std::size_t>(n_chunks));

    const auto chunk = [&](std::int64_t index) {
        Part& part = parts[static_cast<std::size_t>(index)];
        const std::int64_t begin = index * rows_of_chunk, end = std::min(student.rows, begin + rows_of_chunk);
        ScoreWriter writer(k, n, with_teacher, result);
        Cuts cuts(k);
        float low_s[score_tile], high_s[score_tile], low_t[score_tile], high_t[score_tile];
        std::fill_n(low_t, score_tile, infinity);  // without a teacher nothing passes
        std::fill_n(high_t, score_tile, infinity);
        OpenRows::Part open;
        open.rows.reserve(static_cast<std::size_t>(end - begin));
        // Of the union's logits of one model, the scores of those between the cuts, of which there are m.
        const auto keep = [](const float* z, std::int64_t m, float cut_low, float cut_high, const ScoredRow& row,
                             ScoresBetween& found) {
            found.between += m;
            for (; m > 0; ++z) {
                if (*z < cut_high || *z >= cut_low) continue;
                found.values.push_back(row.score(*z));
                --m;
            }
        };
        const auto of_tile = [&](std::int64_t i, const ScoredTile& s, const ScoredTile& t, const Posterior* p) {
            cuts.find(s.maxima(), s.log_normalizers(), s.count(), q_student.low, i, low_s);
            cuts.find(s.maxima(), s.log_normalizers(), s.count(), q_student.high, i, high_s);
            if (with_teacher) {
                cuts.find(t.maxima(), t.log_normalizers(), t.count(), q_teacher.low, i, low_t);
                cuts.find(t.maxima(), t.log_normalizers(), t.count(), q_teacher.high, i, high_t);
            }
            cuts.flush();
            for (std::int64_t r = 0; r < s.count(); ++r) {
                const Set set_s(high_s[r], p[r].student_top1), set_t(high_t[r], p[r].teacher_top1);
                AboveCuts low{low_s[r], low_t[r], 0, 0};
                const Union u = writer.find(s.z(r), t.z(r), n, set_s, set_t, &low);
                const std::int64_t open_s = set_s.only < 0 ? u.counts[0] - low.student : 0;
                const std::int64_t open_t = set_t.only < 0 ? u.counts[1] - low.teacher : 0;
                part.student.at_most_low += low.student;
                part.teacher.at_most_low += low.teacher;
                if (open_s == 0 && open_t == 0) {
                    writer.put(i + r, p[r], u);
                    continue;
                }
                float *of_s = writer.union_s(), *of_t = writer.union_t();
                keep(of_s, open_s, low_s[r], high_s[r], s.row(r), part.student);
                keep(of_t, open_t, low_t[r], high_t[r], t.row(r), part.teacher);
                std::fill_n(of_s + u.size, row_padding, -infinity);
                std::fill_n(of_t + u.size, row_padding, -infinity);
                const std::int64_t place_s =
                    top1_place(k, of_s, u.size, u.student_place, p[r].student_maximum, set_s, t.z(r), set_t);
                const std::int64_t place_t = with_teacher ? top1_place(k, of_t, u.size, u.teacher_place,
                                                                       p[r].teacher_maximum, set_t, s.z(r), set_s)
                                                          : -1;
                const auto first = static_cast<std::int64_t>(open.student.size());
                open.rows.push_back({i + r, first, u.size, place_s, place_t, p[r]});
                open.student.insert(open.student.end(), of_s, of_s + u.size);
                if (with_teacher) open.teacher.insert(open.teacher.end(), of_t, of_t + u.size);
                put_nothing(result, i + r);
            }
        };
        bad.report_if(for_each_posterior(k, student, teacher, begin, end, of_tile));
        writer.flush();
        part.open = open;  // without room to spare
    };
    parallel_for(n_chunks, chunk, poll);

    BracketedScores whole;
    whole.bad = bad_row(bad);
    if (whole.bad.row >= 0) return whole;
    whole.open.with_teacher = with_teacher;
    for (Part& part : parts) {
        for (const auto of : {&Part::student, &Part::teacher}) {
            const ScoresBetween& found = part.*of;
            ScoresBetween& all = of == &Part::student ? whole.student : whole.teacher;
            all.at_most_low += found.at_most_low;
            all.between += found.between;
            all.values.insert(all.values.end(), found.values.begin(), found.values.end());
        }
        whole.open.parts.push_back(std::move(part.open));
    }
    return whole;
}

void settle(const OpenRows& open, double q_student, double q_teacher, std::int64_t* rows, const ScoreResult& result,
            const Poll& poll) {
    const ScoreKernels& k = kernels().score;
    std::vector<std::int64_t> first(1, 0);
    std::int64_t longest = 0;
    for (const OpenRows::Part& part : open.parts) {
        first.push_back(first.back() + static_cast<std::int64_t>(part.rows.size()));
        for (const OpenRows::Row& row : part.rows) longest = std::max(longest, row.pairs);
    }
    const auto of_part = [&](std::int64_t index) {
        const OpenRows::Part& part = open.parts[static_cast<std::size_t>(index)];
        ScoreWriter writer(k, longest, open.with_teacher, result);
        const Scratch<float> student(padded(longest)), teacher(padded(longest));
        const auto with_padding = [](const std::vector<float>& from, const OpenRows::Row& row, float* to) {
            std::copy_n(from.data() + row.begin, row.pairs, to);
            std::fill(to + row.pairs, to + padded(row.pairs), -infinity);
        };
        Cuts cuts(k);
        float cut_s[score_tile], cut_t[score_tile];
        std::fill_n(cut_t, score_tile, infinity);  // without a teacher nothing passes
        std::int64_t j = first[static_cast<std::size_t>(index)];
        for (std::size_t begin = 0; begin < part.rows.size(); begin += score_tile) {
            const std::size_t count = std::min<std::size_t>(score_tile, part.rows.size() - begin);
            const OpenRows::Row* row = part.rows.data() + begin;
            for (std::size_t r = 0; r < count; ++r) {
                const Posterior& p = row[r].posterior;
                cuts.find(&p.student_maximum, &p.student_log_normalizer, 1, q_student, 0, cut_s + r);
                if (!open.with_teacher) continue;
                cuts.find(&p.teacher_maximum, &p.teacher_log_normalizer, 1, q_teacher, 0, cut_t + r);
            }
            cuts.flush();
            for (std::size_t r = 0; r < count; ++r, ++j) {
                with_padding(part.student, row[r], student.get());
                if (open.with_teacher) with_padding(part.teacher, row[r], teacher.get());
                const float* t = open.with_teacher ? teacher.get() : student.get();
                const Set set_s(cut_s[r], row[r].student_place);
                const Set set_t(cut_t[r], row[r].teacher_place);
                rows[j] = row[r].index;
                writer.put(j, row[r].posterior, writer.find(student.get(), t, row[r].pairs, set_s, set_t));
            }
        }
        writer.flush();
    };
    parallel_for(static_cast<std::int64_t>(open.parts.size()), of_part, poll);
}

std::int64_t log_normalizers(const Matrix& logits, double* out, const Poll& poll) {
    FirstIndex bad;
    const ScoreKernels& k = kernels().score;
    const auto rows = [&](std::int64_t begin, std::int64_t end) {
        bad.report_if(for_each_tile(k, logits, begin, end, [&](const ScoredTile& tile, std::int64_t i) {
            for (std::int64_t r = 0; r < tile.count(); ++r) out[i + r] = tile.log_normalizer(r);
        }));
    };
    parallel_ranges(logits.rows, chunk_rows(logits), rows, poll);
    return bad.get();
}

std::int64_t prediction_sets(const Matrix& logits, const Threshold& q, std::uint8_t* sets, const Poll& poll) {
    FirstIndex bad;
    const ScoreKernels& k = kernels().score;
    const std::int64_t n = logits.cols;
    const auto rows = [&](std::int64_t begin, std::int64_t end) {
        bad.report_if(for_each_tile(k, logits, begin, end, [&](const ScoredTile& tile, std::int64_t i) {
            float cut[score_tile];
            tile.cuts(k, q, i, cut);
            for (std::int64_t r = 0; r < tile.count(); ++r) {
                const Set set(cut[r], k.find(tile.z(r), n, tile.maximum(r)));
                for (std::int64_t c = 0; c < n; ++c) sets[(i + r) * n + c] = set.holds(tile.z(r), c);
            }
        }));
    };
    parallel_ranges(logits.rows, chunk_rows(logits), rows, poll);
    return bad.get();
}

}  // namespace ccma
