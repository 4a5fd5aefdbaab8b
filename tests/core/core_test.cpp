// The C++ core by itself: every instruction set against the plain loops, over awkward shapes and alignments, with
// guards around every output. Meant to run under the address, undefined-behaviour and thread sanitizers
// (CONTRIBUTING.md).
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <limits>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "ccma/kernels.hpp"
#include "ccma/kmeans.hpp"
#include "ccma/mapped.hpp"
#include "ccma/nearest.hpp"
#include "ccma/parallel.hpp"
#include "ccma/score.hpp"
#include "ccma/simd.hpp"
#include "ccma/threshold.hpp"

namespace {

using namespace ccma;

std::atomic<int> passed{0}, failed{0};  // threads of a test check too

void check(bool condition, const std::string& what) {
    ++(condition ? passed : failed);
    if (!condition) std::printf("FAILED: %s\n", what.c_str());
}

bool close(double a, double b, double tolerance) { return std::fabs(a - b) <= tolerance * (1.0 + std::fabs(b)); }

// Heap memory of exactly the wanted size, so that the address sanitizer sees one value too many.
std::vector<float> random_values(std::int64_t n, double scale, unsigned seed) {
    std::mt19937 generator(seed);
    std::normal_distribution<double> normal(0.0, scale);
    std::vector<float> values(static_cast<std::size_t>(n));
    for (float& value : values) value = static_cast<float>(normal(generator));
    return values;
}

// The upper halves of float32: bfloat16 by truncation.
std::vector<std::uint16_t> bfloat_bits(const std::vector<float>& values) {
    std::vector<std::uint16_t> bits(values.size());
    for (std::size_t i = 0; i < values.size(); ++i) {
        std::uint32_t whole;
        std::memcpy(&whole, &values[i], sizeof whole);
        bits[i] = static_cast<std::uint16_t>(whole >> 16);
    }
    return bits;
}

struct Scores {
    std::vector<float> delta, divergence, margin, confidence;
    std::vector<std::int32_t> student_top1, teacher_top1, student, teacher, overlap;

    explicit Scores(std::int64_t n)
        : delta(static_cast<std::size_t>(n)),
          divergence(delta.size()),
          margin(delta.size()),
          confidence(delta.size()),
          student_top1(delta.size()),
          teacher_top1(delta.size()),
          student(delta.size()),
          teacher(delta.size()),
          overlap(delta.size()) {}
    ScoreResult view() {
        return {delta.data(),        divergence.data(), margin.data(),  confidence.data(), student_top1.data(),
                teacher_top1.data(), student.data(),    teacher.data(), overlap.data()};
    }
};

// Scores at q, known to be within `reach`, have the bits of those at q itself.
void test_brackets(const Matrix& student, const Matrix& teacher, double q, double reach, Scores& expected,
                   const std::string& where) {
    const Bracket bracket{std::isfinite(reach) ? q - reach : -HUGE_VAL, std::isfinite(reach) ? q + reach : HUGE_VAL};
    Scores whole(student.rows);
    const BracketedScores found = score_in_brackets(student, teacher, bracket, bracket, whole.view(), {});
    check(found.bad.row == -1, where + " finite");
    check(found.student.between == static_cast<std::int64_t>(found.student.values.size()), where + " all are kept");
    check(found.open.size() == 0 || reach > 0.0, where + " nothing is open");
    const std::int64_t n = found.open.size();
    Scores open(n);
    std::vector<std::int64_t> rows(static_cast<std::size_t>(n));
    settle(found.open, q, q, rows.data(), open.view(), {});
    for (std::size_t j = 0; j < rows.size(); ++j) {
        const auto i = static_cast<std::size_t>(rows[j]);
        check(whole.student[i] == 0 && whole.delta[i] == 0.0f, where + " open rows have zeros");
        whole.delta[i] = open.delta[j];
        whole.divergence[i] = open.divergence[j];
        whole.student[i] = open.student[j];
        whole.teacher[i] = open.teacher[j];
        whole.overlap[i] = open.overlap[j];
        whole.margin[i] = open.margin[j];
        whole.teacher_top1[i] = open.teacher_top1[j];
    }
    check(whole.delta == expected.delta && whole.divergence == expected.divergence, where + " scores in brackets");
    check(whole.student == expected.student && whole.teacher == expected.teacher, where + " sets in brackets");
    check(whole.overlap == expected.overlap && whole.margin == expected.margin, where + " overlaps in brackets");
    check(whole.teacher_top1 == expected.teacher_top1, where + " classes in brackets");
}

void test_scores(SimdLevel level) {
    for (const std::int64_t c : {2, 3, 15, 16, 17, 31, 32, 33, 100, 257}) {
        for (const std::int64_t m : {0, 1, 2, 33}) {
            const std::vector<float> s = random_values(m * c, 3.0, 1), t = random_values(m * c, 3.0, 2);
            const Matrix student{s.data(), Dtype::f32, m, c}, teacher{t.data(), Dtype::f32, m, c};
            for (const double q : {-1.0, 1.0, 4.0, HUGE_VAL}) {
                const std::string where =
                    std::string(name(level)) + " C=" + std::to_string(c) + " q=" + std::to_string(q);
                Scores plain(m), fast(m);
                set_simd_level(SimdLevel::scalar);
                check(score({student, teacher, q, q}, plain.view(), {}).row == -1, where + " finite");
                set_simd_level(level);
                check(score({student, teacher, q, q}, fast.view(), {}).row == -1, where + " finite");
                for (std::size_t i = 0; i < plain.delta.size(); ++i) {
                    check(close(fast.delta[i], plain.delta[i], 2e-6), where + " delta");
                    check(close(fast.divergence[i], plain.divergence[i], 2e-6), where + " divergence");
                    check(close(fast.margin[i], plain.margin[i], 2e-6), where + " margin");
                    check(close(fast.confidence[i], plain.confidence[i], 2e-6), where + " confidence");
                    check(fast.student_top1[i] == plain.student_top1[i], where + " student's class");
                    check(fast.teacher_top1[i] == plain.teacher_top1[i], where + " teacher's class");
                    check(std::abs(fast.student[i] - plain.student[i]) <= 1, where + " student set");
                    check(fast.student[i] >= 1 && fast.teacher[i] >= 1 && fast.overlap[i] <= fast.student[i], where);
                }
                for (const double reach : {0.0, 0.5, HUGE_VAL}) test_brackets(student, teacher, q, reach, fast, where);
                std::vector<std::uint8_t> sets(static_cast<std::size_t>(m * c));
                check(prediction_sets(student, q, sets.data(), {}) == -1, where);
                for (std::int64_t i = 0; i < m; ++i) {
                    std::int32_t size = 0;
                    for (std::int64_t j = 0; j < c; ++j) size += sets[static_cast<std::size_t>(i * c + j)];
                    check(size == fast.student[static_cast<std::size_t>(i)], where + " sets agree with sizes");
                }
                const ScoresBetween found = scores_between(student, -1.0, q, 1 << 20, nullptr, {});
                check(found.at_most_low == 0 && found.between == static_cast<std::int64_t>(found.values.size()), where);
            }
        }
    }
    std::vector<float> bad = random_values(40 * 5, 1.0, 3);
    bad[17 * 5 + 4] = std::numeric_limits<float>::quiet_NaN();
    bad[30 * 5] = HUGE_VALF;
    Scores out(40);
    const Matrix student{bad.data(), Dtype::f32, 40, 5};
    check(score({student, {}, 1.0, 1.0}, out.view(), {}).row == 17, "the first bad row is named");
    const Bracket bracket{0.5, 1.0};
    check(score_in_brackets(student, {}, bracket, bracket, out.view(), {}).bad.row == 17, "the first bad row is named");
}

// Scores s of a row by their definition, in the order of its classes.
std::vector<double> cumulative_scores(const float* z, std::int64_t c, double u, const Cumulative& rule) {
    const auto at = [](std::int64_t i) { return static_cast<std::size_t>(i); };
    const double largest = *std::max_element(z, z + c);
    std::vector<double> p(at(c)), scores(at(c));
    double sum = 0.0;
    for (std::int64_t j = 0; j < c; ++j) sum += p[at(j)] = std::exp(z[j] - largest);
    for (std::int64_t j = 0; j < c; ++j) {
        double before = 0.0;
        std::int64_t rank = 1;
        for (std::int64_t k = 0; k < c; ++k) {
            if (z[k] <= z[j]) continue;
            before += p[at(k)] / sum;
            ++rank;
        }
        const std::int64_t above = std::max<std::int64_t>(0, rank - rule.k_reg);
        scores[at(j)] = before + u * p[at(j)] / sum + rule.penalty * static_cast<double>(above) +
                        (p[at(j)] / sum < least_probability ? 1.0 : 0.0);
    }
    return scores;
}

void test_cumulative(SimdLevel level) {
    set_simd_level(level);
    for (const std::int64_t c : {2, 3, 16, 17, 33, 257}) {
        for (const double scale : {0.0, 1e-3, 2.0, 50.0}) {
            const std::int64_t m = 19;
            std::vector<float> z = random_values(m * c, scale, 7);
            for (std::int64_t j = 0; j < 5 * c; ++j)
                z[static_cast<std::size_t>(j)] = std::round(z[static_cast<std::size_t>(j)]);
            const std::vector<double> u(static_cast<std::size_t>(m), 0.4);
            const Matrix logits{z.data(), Dtype::f32, m, c};
            for (const Cumulative& rule : {Cumulative{}, Cumulative{0.1, 2, nullptr}, Cumulative{0.0, 0, u.data()}}) {
                for (const double q : {-HUGE_VAL, 0.25, 0.95, 1.0 + 1e-9, HUGE_VAL}) {
                    const std::string where = std::string(name(level)) + " C=" + std::to_string(c) +
                                              " scale=" + std::to_string(scale) + " q=" + std::to_string(q);
                    std::vector<double> thresholds(static_cast<std::size_t>(m)), least(thresholds.size()),
                        of_rows(thresholds.size(), q);
                    std::vector<std::uint8_t> sets(z.size());
                    check(row_thresholds(logits, Threshold(of_rows.data()), rule, thresholds.data(), {}) == -1, where);
                    check(prediction_sets(logits, Threshold(thresholds.data()), sets.data(), {}) == -1, where);
                    check(least_scores(logits, rule, least.data(), {}) == -1, where);
                    std::int64_t admitted = 0;
                    bool near = false;
                    for (std::int64_t i = 0; i < m; ++i) {
                        const double share = rule.u ? rule.u[i] : 1.0;
                        const std::vector<double> s = cumulative_scores(z.data() + i * c, c, share, rule);
                        const double smallest = *std::min_element(s.begin(), s.end());
                        check(close(least[static_cast<std::size_t>(i)], smallest, 1e-13), where + " least");
                        std::int64_t size = 0, wanted = 0;
                        for (std::int64_t j = 0; j < c; ++j) {
                            near = near || std::fabs(s[static_cast<std::size_t>(j)] - q) < 1e-13;
                            wanted += s[static_cast<std::size_t>(j)] <= q;
                            size += sets[static_cast<std::size_t>(i * c + j)];
                        }
                        admitted += std::isinf(thresholds[static_cast<std::size_t>(i)]) ? 0 : size;
                        if (!near) check(size == std::max<std::int64_t>(1, wanted), where + " set");
                    }
                    const ScoresBetween found = scores_between(logits, -1.0, std::max(q, -1.0), 1 << 20, &rule, {});
                    check(found.at_most_low == 0 && found.between == admitted, where + " count agrees with sets");
                    check(found.between == static_cast<std::int64_t>(found.values.size()), where + " values");
                }
            }
        }
    }
    std::vector<float> bad = random_values(40 * 5, 1.0, 3);
    bad[17 * 5 + 4] = std::numeric_limits<float>::quiet_NaN();
    std::vector<double> out(40);
    const Matrix logits{bad.data(), Dtype::f32, 40, 5};
    const Cumulative rule;
    check(row_thresholds(logits, 0.5, rule, out.data(), {}) == 17, "the first bad row is named");
    check(scores_between(logits, 0.0, 1.0, 10, &rule, {}).bad_row == 17, "the first bad row is named");
}

void test_kmeans(SimdLevel level) {
    for (const std::int64_t d : {1, 2, 15, 16, 17, 33, 255, 256, 257, 600}) {
        for (const std::int64_t m : {1, 5, 14, 15, 113}) {
            for (const std::int64_t k : {1, 2, 16, 31, 33}) {
                const std::string where = std::string(name(level)) + " D=" + std::to_string(d) +
                                          " M=" + std::to_string(m) + " K=" + std::to_string(k);
                const std::vector<float> x = random_values(m * d, 1.0, 4), centres = random_values(k * d, 1.0, 5);
                const std::vector<std::uint16_t> bits = bfloat_bits(x);
                const std::vector<float> scale = random_values(m, 1.0, 6), weights(static_cast<std::size_t>(m), 0.5f);
                for (const bool narrow : {false, true}) {
                    const Matrix rows =
                        narrow ? Matrix{bits.data(), Dtype::bf16, m, d} : Matrix{x.data(), Dtype::f32, m, d};
                    std::vector<std::int32_t> labels(static_cast<std::size_t>(m));
                    std::vector<float> squared(labels.size()), product(static_cast<std::size_t>(m * k));
                    set_simd_level(level);
                    const std::vector<float> origin(static_cast<std::size_t>(d), 0.25f);
                    const Search search(centres.data(), k, d, origin.data(), nullptr, 0);
                    search.nearest(rows, scale.data(), {}, {}, nullptr, labels.data(), squared.data(), {});
                    Panels(centres.data(), k, d).multiply(rows, scale.data(), nullptr, product.data(), {});
                    for (std::int64_t i = 0; i < m; ++i) {
                        double best = HUGE_VAL, chosen = 0.0;
                        for (std::int64_t j = 0; j < k; ++j) {
                            double distance = 0.0, dot = 0.0;
                            for (std::int64_t at = 0; at < d; ++at) {
                                float value = x[static_cast<std::size_t>(i * d + at)];
                                if (narrow) {
                                    const std::uint32_t whole =
                                        static_cast<std::uint32_t>(bits[static_cast<std::size_t>(i * d + at)]) << 16;
                                    std::memcpy(&value, &whole, sizeof value);
                                }
                                value *= scale[static_cast<std::size_t>(i)];
                                const double centre = centres[static_cast<std::size_t>(j * d + at)];
                                distance += (value - centre) * (value - centre);
                                dot += value * centre;
                            }
                            best = std::min(best, distance);
                            if (j == labels[static_cast<std::size_t>(i)]) chosen = distance;
                            check(close(product[static_cast<std::size_t>(i * k + j)], dot, 3e-5), where + " product");
                        }
                        check(chosen <= best + 1e-5 * (1.0 + best), where + " nearest");
                        check(close(squared[static_cast<std::size_t>(i)], chosen, 1e-5), where + " distance");
                    }
                    std::vector<double> sums(static_cast<std::size_t>(k * d)), mass(static_cast<std::size_t>(k)),
                        lengths(labels.size());
                    accumulate(rows, nullptr, labels.data(), weights.data(), k, sums.data(), mass.data(), {});
                    double total = 0.0;
                    for (const double value : mass) total += value;
                    check(close(total, 0.5 * static_cast<double>(m), 1e-12), where + " mass");
                    row_lengths(rows, lengths.data(), {});
                    check(std::isfinite(lengths[0]), where + " length");
                }
            }
        }
    }
}

// Along directions, with hints and within a distance: the same bits as without.
void test_sketch(SimdLevel level) {
    set_simd_level(level);
    const std::int64_t d = 100, m = 131, k = 77, width = 64;
    const std::vector<float> x = random_values(m * d, 1.0, 8), centres = random_values(k * d, 1.0, 9);
    const std::vector<float> origin = random_values(d, 0.1, 10);
    std::vector<float> directions(static_cast<std::size_t>(width * d), 0.0f);
    for (std::int64_t i = 0; i < width; ++i) directions[static_cast<std::size_t>(i * d + i)] = 1.0f;
    const Matrix rows{x.data(), Dtype::f32, m, d};
    const std::size_t n = static_cast<std::size_t>(m);
    const Sketch sketch(directions.data(), width, d, origin.data());
    std::vector<std::int8_t> bytes(static_cast<std::size_t>(m * width));
    std::vector<SketchedRow> of_rows(n);
    std::vector<float> expected(n), squared(n);
    std::vector<std::int32_t> nearest(n), labels(n);
    const Sketched sketched{bytes.data(), of_rows.data()};
    sketch.project(rows, nullptr, sketched, {});
    Search(centres.data(), k, d, origin.data(), nullptr, 0)
        .nearest(rows, nullptr, {}, {}, nullptr, nearest.data(), expected.data(), {});
    for (const std::int64_t first : {32, 64}) {
        const Search search(centres.data(), k, d, origin.data(), &sketch, first);
        search.nearest(rows, nullptr, sketched, {}, nullptr, labels.data(), squared.data(), {});
        check(labels == nearest && squared == expected, std::string(name(level)) + " along directions");
        search.nearest(rows, nullptr, sketched, {std::vector<std::int32_t>(n, 5).data(), nullptr}, nullptr,
                       labels.data(), squared.data(), {});
        check(labels == nearest && squared == expected, std::string(name(level)) + " with hints");
        const auto still = std::make_unique<bool[]>(static_cast<std::size_t>(k));  // none moved
        Search(centres.data(), k, d, origin.data(), &sketch, first, still.get())
            .nearest(rows, nullptr, sketched, {nearest.data(), expected.data()}, nullptr, labels.data(), squared.data(),
                     {});
        check(labels == nearest && squared == expected, std::string(name(level)) + " of settled rows");
        search.nearest(rows, nullptr, sketched, {}, expected.data(), labels.data(), squared.data(), {});
        check(labels == std::vector<std::int32_t>(n, -1) && squared == expected, std::string(name(level)) + " within");
    }
}

void test_top_m() {
    const std::vector<float> values{1.0f, 3.0f, -0.0f, 3.0f, 0.0f, -5.0f};
    check(top_m(values.data(), 6, 4) == std::vector<std::int64_t>{1, 3, 0, 2}, "ties go to the lower index, -0 is 0");
    check(top_m(values.data(), 6, 99).size() == 6, "no more than there are");
    check(top_m(values.data(), 0, 3).empty(), "none of none");
}

void test_parallel() {
    for (const int threads : {1, 2, 7}) {
        set_num_threads(threads);
        std::vector<int> seen(1000);
        parallel_for(1000, [&](std::int64_t i) { ++seen[static_cast<std::size_t>(i)]; }, {});
        check(seen == std::vector<int>(1000, 1), "every chunk once");
        bool thrown = false;
        try {
            parallel_for(1000,
                         [](std::int64_t i) {
                             if (i == 500) throw std::runtime_error("500");
                         },
                         {});
        } catch (const std::runtime_error& error) {
            thrown = std::string(error.what()) == "500";
        }
        check(thrown, "an exception of a body is rethrown");
    }
    set_num_threads(2);
    bool interrupted = false;
    std::atomic<long> spent{0};
    try {
        const auto busy = [&](std::int64_t) {
            for (int i = 0; i < 100000; ++i) spent.fetch_add(1, std::memory_order_relaxed);
        };
        parallel_for(1 << 20, busy, [] { return true; });
    } catch (const Interrupted&) {
        interrupted = true;
    }
    check(interrupted, "a poll stops the work");
}

// A file of so many pages, each byte of which is its page's number + 1, mapped.
struct MappedFile {
    explicit MappedFile(std::size_t n_pages)
        : page(static_cast<std::size_t>(sysconf(_SC_PAGESIZE))), size(n_pages * page), file(std::tmpfile()) {
        for (std::size_t i = 0; i < size; ++i) std::fputc(static_cast<int>(i / page + 1), file);
        std::fflush(file);
        data = static_cast<unsigned char*>(mmap(nullptr, size, PROT_READ, MAP_SHARED, fileno(file), 0));
    }
    ~MappedFile() {
        munmap(data, size);
        std::fclose(file);
    }
    MappedFile(const MappedFile&) = delete;
    MappedFile& operator=(const MappedFile&) = delete;

    void cut(std::size_t n_pages) { check(ftruncate(fileno(file), static_cast<off_t>(n_pages * page)) == 0, "cut"); }
    std::uintptr_t address() const { return reinterpret_cast<std::uintptr_t>(data); }
    unsigned at(std::size_t page_number) const {
        return *static_cast<volatile unsigned char*>(data + page_number * page);
    }

    std::size_t page, size;
    std::FILE* file;
    unsigned char* data;
};

// How a child process ends.
template <class Body>
int status_of(const Body& body) {
    const pid_t child = fork();
    if (child == 0) {
        body();
        _exit(0);
    }
    int status = 0;
    waitpid(child, &status, 0);
    return status;
}

void before_ours(int) { _exit(42); }

void test_mapped() {
    {
        MappedFile file(8), other(4);
        const MappedRange whole(file.address(), file.size), half(file.address(), 4 * file.page);
        const MappedRange end(file.address() + 6 * file.page, 2 * file.page), untouched(other.address(), other.size);
        file.cut(3);
        begin_reading();
        check(file.at(2) == 3 && !whole.is_broken(), "what the file still has is read");
        set_num_threads(3);
        parallel_for(8, [&](std::int64_t i) { file.at(static_cast<std::size_t>(i)); }, {});
        check(file.at(5) == 0 && file.at(2) == 3, "the rest is zeros");
        end_reading();
        check(whole.is_broken() && half.is_broken() && end.is_broken(), "every range knows of it");
        check(!untouched.is_broken() && other.at(3) == 4, "others do not");
        check(!MappedRange(other.address(), other.size).is_broken(), "nor does one that takes the place of another");
    }
    {
        std::vector<std::unique_ptr<MappedRange>> many;
        MappedFile file(2);
        for (int i = 0; i < 1000; ++i) many.push_back(std::make_unique<MappedRange>(file.address(), file.size));
        many.erase(many.begin(), many.begin() + 900);
        file.cut(1);
        begin_reading();
        check(file.at(1) == 0 && many.back()->is_broken(), "there is room for many");
        end_reading();
    }
    std::vector<std::thread> threads;
    for (int t = 0; t < 3; ++t) {
        threads.emplace_back([] {
            for (int i = 0; i < 200; ++i) {
                MappedFile file(2);
                const MappedRange range(file.address(), file.size);
                if (i % 10 == 0) file.cut(1);
                begin_reading();
                const unsigned found = file.at(1);
                end_reading();
                if (range.is_broken() != (found == 0)) std::abort();
            }
        });
    }
    for (std::thread& thread : threads) thread.join();
    // What is none of ours goes where it would have gone.
    MappedFile file(2), other(2);
    const MappedRange range(file.address(), file.size);
    file.cut(1);
    other.cut(1);
    const auto install = [] { signal(SIGBUS, before_ours); };
    int status = status_of([&] {
        install();
        begin_reading();
        other.at(1);
    });
    check(WIFEXITED(status) && WEXITSTATUS(status) == 42, "a fault elsewhere");
    status = status_of([&] {
        install();
        begin_reading();
        end_reading();
        file.at(1);
    });
    check(WIFEXITED(status) && WEXITSTATUS(status) == 42, "a fault while nobody reads");
    status = status_of([&] {
        install();
        begin_reading();
        raise(SIGBUS);
    });
    check(WIFEXITED(status) && WEXITSTATUS(status) == 42, "a signal that was sent");
    status = status_of([&] {
        install();
        begin_reading();
        if (file.at(1) != 0 || !range.is_broken()) _exit(1);
    });
    check(WIFEXITED(status) && WEXITSTATUS(status) == 0, "a fault of ours, in a child, over another handler");
    status = status_of([&] {
        signal(SIGBUS, SIG_DFL);
        begin_reading();
        other.at(1);
    });
    check(WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS, "a fault that nobody takes");
}

}  // namespace

int main() {
    const SimdLevel best = detected_simd_level();
    for (const SimdLevel level : {SimdLevel::scalar, SimdLevel::avx2, SimdLevel::avx512, SimdLevel::avx512_vnni}) {
        if (level > best) continue;
        for (const int threads : {1, 3}) {
            set_num_threads(threads);
            test_scores(level);
            test_cumulative(level);
        }
        test_kmeans(level);
        test_sketch(level);
    }
    set_simd_level(best);
    test_top_m();
    test_parallel();
    test_mapped();
    std::printf("%s: %d passed, %d failed\n", name(best), passed.load(), failed.load());
    return failed == 0 ? 0 : 1;
}
