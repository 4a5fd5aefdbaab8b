// The training of a head against plain loops in double, and the random numbers of dropout against NumPy's.
#include "ccma/head.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "ccma/dropout.hpp"
#include "ccma/parallel.hpp"
#include "checks.hpp"

namespace ccma::tests {
namespace {

std::size_t at(std::int64_t i) { return static_cast<std::size_t>(i); }

DropoutStream stream_of(std::uint64_t seed) { return {seed * 77, seed + 1, seed * 5, 2 * seed + 1}; }

// Of the values of a stream whether they stay, in their order, drawn a single 64-bit number after the other.
std::vector<bool> staying(const DropoutStream& stream, std::uint32_t below, std::int64_t n) {
    __extension__ using Wide = unsigned __int128;
    const Wide factor = static_cast<Wide>(0x2360ed051fc65da4) << 64 | 0x4385df649fccf645;
    const Wide increment = static_cast<Wide>(stream.increment_high) << 64 | stream.increment_low;
    Wide state = static_cast<Wide>(stream.state_high) << 64 | stream.state_low;
    std::vector<bool> stays;
    while (static_cast<std::int64_t>(stays.size()) < n) {
        state = state * factor + increment;
        const std::uint64_t mixed = static_cast<std::uint64_t>(state >> 64) ^ static_cast<std::uint64_t>(state);
        const int turn = static_cast<int>(state >> 122);
        const std::uint64_t draw = turn ? mixed >> turn | mixed << (64 - turn) : mixed;
        for (int i = 0; i < 4; ++i) stays.push_back((draw >> 16 * i & 0xffff) < below);
    }
    stays.resize(at(n));
    return stays;
}

struct Problem {
    std::int64_t n, d, classes;
    Dropout dropout;
    std::vector<float> x, start;
    std::vector<std::int64_t> labels;
    std::vector<double> parameters, first, second, moments;

    Problem(std::int64_t n_, std::int64_t d_, std::int64_t classes_, std::uint32_t below)
        : n(n_),
          d(d_),
          classes(classes_),
          dropout{below / 65536.0, below},
          x(random_values(n * d, 2.0, 1)),
          start(random_values(classes * (d + 1), 0.3, 2)),
          parameters(start.begin(), start.end()),
          first(start.size(), 0.0),
          second(start.size(), 0.0),
          moments(at(2 * d), 0.0) {
        for (std::int64_t i = 0; i < n * d; ++i) x[at(i)] += static_cast<float>(i % d % 5);
        for (std::int64_t i = 0; i < n; ++i) labels.push_back(i * 5 % classes);
        std::fill(moments.begin() + d, moments.end(), 1.0);
    }

    // The rows of a batch, normalised; the running moments take theirs in.
    std::vector<double> normalized(const std::vector<std::int64_t>& rows) {
        const std::int64_t count = static_cast<std::int64_t>(rows.size());
        std::vector<double> values(at(count * d));
        for (std::int64_t j = 0; j < d; ++j) {
            double mean = 0.0, variance = 0.0;
            for (const std::int64_t row : rows) mean += x[at(row * d + j)];
            mean /= static_cast<double>(count);
            for (const std::int64_t row : rows) variance += std::pow(x[at(row * d + j)] - mean, 2);
            moments[at(j)] += 0.1 * (mean - moments[at(j)]);
            moments[at(d + j)] += 0.1 * (variance / static_cast<double>(count - 1) - moments[at(d + j)]);
            const double scale = std::sqrt(variance / static_cast<double>(count) + 1e-5) * dropout.kept;
            for (std::int64_t i = 0; i < count; ++i)
                values[at(i * d + j)] = (x[at(rows[at(i)] * d + j)] - mean) / scale;
        }
        return values;
    }

    double step(const std::vector<std::int64_t>& rows, const std::vector<DropoutStream>& streams,
                const AdamW& factors) {
        std::vector<double> values = normalized(rows), gradient(parameters.size(), 0.0), e(at(classes));
        const std::int64_t count = static_cast<std::int64_t>(rows.size()),
                           pieces = static_cast<std::int64_t>(streams.size());
        double loss = 0.0;
        for (std::int64_t piece = 0, i = 0; piece < pieces; ++piece) {
            const std::int64_t size = count / pieces + (piece < count % pieces);
            const std::vector<bool> stays = staying(streams[at(piece)], dropout.below, size * d);
            for (std::int64_t k = 0; k < size; ++k, ++i) {
                double* row = values.data() + i * d;
                for (std::int64_t j = 0; j < d; ++j) row[j] = stays[at(k * d + j)] ? row[j] : 0.0;
                double sum = 0.0;
                for (std::int64_t c = 0; c < classes; ++c) {
                    double z = parameters[at(classes * d + c)];
                    for (std::int64_t j = 0; j < d; ++j) z += parameters[at(c * d + j)] * row[j];
                    sum += e[at(c)] = std::exp(z);
                }
                const std::int64_t label = labels[at(rows[at(i)])];
                loss += std::log(sum / e[at(label)]);
                for (std::int64_t c = 0; c < classes; ++c) {
                    const double residual = e[at(c)] / sum - (c == label);
                    for (std::int64_t j = 0; j < d; ++j) gradient[at(c * d + j)] += residual * row[j];
                    gradient[at(classes * d + c)] += residual;
                }
            }
        }
        for (std::size_t i = 0; i < gradient.size(); ++i) {
            const double g = gradient[i] / static_cast<double>(count);
            first[i] += 0.1 * (g - first[i]);
            second[i] += 0.001 * (g * g - second[i]);
            parameters[i] *= 1.0 - factors.decay;
            parameters[i] -= factors.rate * first[i] / (factors.spread * std::sqrt(second[i]) + 1e-8);
        }
        return loss;
    }
};

void test_dropout() {
    // NumPy's default_rng(0).
    const DropoutStream zero{0x1aa1b5345996452d, 0x9585eb7a69561e3, 0x418ddadb3af71a82, 0x588133bc447873a9};
    const std::array<std::uint64_t, 4> draws{0xa30febcfd9c2825f, 0x4510bdf882d9d721, 0xa7d3da94ecde8b8,
                                             0x43b27b61342f01d};
    for (const std::uint32_t below : {1u, 20000u, 32767u, 32768u, 32769u, 40000u, 65535u, 65536u}) {
        std::uint64_t word = 0;
        DroppedValues(zero, below, 0, 16).next_row(&word);
        for (int i = 0; i < 16; ++i) {
            check((word >> i & 1) == ((draws[at(i / 4)] >> i % 4 * 16 & 0xffff) < below), "dropout of NumPy's draws");
        }
        for (const std::int64_t d : {1, 3, 4, 63, 64, 65, 126, 200}) {
            const std::int64_t rows = 9, words = (d + 63) / 64;
            const std::vector<bool> stays = staying(stream_of(7), below, rows * d);
            bool right = true;
            for (std::int64_t begin = 0; begin < rows; begin += 4) {  // from anywhere in the stream
                DroppedValues dropped(stream_of(7), below, begin, d);
                std::vector<std::uint64_t> found(at(words));
                for (std::int64_t row = begin; row < rows; ++row) {
                    dropped.next_row(found.data());
                    for (std::int64_t j = 0; j < 64 * words; ++j) {
                        const bool stay = j < d && stays[at(row * d + j)];
                        right = right && (found[at(j / 64)] >> j % 64 & 1) == stay;
                    }
                }
            }
            check(right, "dropout of rows of " + std::to_string(d) + " below " + std::to_string(below));
        }
    }
}

void test_steps(SimdLevel level) {
    struct Case {
        std::int64_t n, d, classes;
        std::uint32_t below;
        std::int64_t pieces;
    };
    for (const auto& [n, d, classes, below, pieces] : {Case{2, 1, 2, 65536, 1},
                                                       {9, 3, 7, 30000, 1},
                                                       {64, 64, 8, 16384, 1},
                                                       {65, 65, 16, 16384, 2},
                                                       {130, 129, 17, 32768, 3},
                                                       {200, 70, 113, 20000, 1},
                                                       {67, 20, 300, 16384, 2}}) {
        const std::string where = std::string(name(level)) + " training of " + std::to_string(n) + " x " +
                                  std::to_string(d) + ", " + std::to_string(classes) + " classes";
        for (const bool in_batches : {false, true}) {
            Problem plain(n, d, classes, below);
            std::vector<std::vector<float>> found;
            std::vector<double> losses, expected;
            for (const int n_threads : {1, 3}) {
                set_num_threads(n_threads);
                HeadTraining training(plain.x.data(), plain.labels.data(), n, d, classes, plain.start.data(),
                                      {1e-5, 0.1}, plain.dropout);
                for (int s = 0; s < 3; ++s) {
                    std::vector<std::int64_t> rows;
                    for (std::int64_t i = 0; i < n; ++i)
                        if (!in_batches || i % 2 == s % 2 || n < 4) rows.push_back(n - 1 - i);
                    if (!in_batches) std::reverse(rows.begin(), rows.end());
                    std::vector<DropoutStream> streams;
                    for (std::int64_t i = 0; i < pieces; ++i)
                        streams.push_back(stream_of(static_cast<std::uint64_t>(31 * s + i)));
                    const AdamW factors{0.02f / (1.0f + s), 1.5f, 0.003f};
                    losses.push_back(training.step(in_batches ? rows.data() : nullptr,
                                                   static_cast<std::int64_t>(rows.size()), streams.data(), pieces,
                                                   factors, {}));
                    if (s == 1) training.keep();
                    if (n_threads == 1 && s < 2) expected.push_back(plain.step(rows, streams, factors));
                }
                found.emplace_back(plain.parameters.size());
                std::vector<double> moments(plain.moments.size());
                training.kept(found.back().data(), moments.data());
                bool right = true;
                for (std::size_t i = 0; i < moments.size(); ++i)
                    right = right && close(moments[i], plain.moments[i], 1e-6);
                check(right, where + ": moments");
            }
            check(losses[0] == losses[3] && losses[2] == losses[5] && found[0] == found[1], where + ": threads");
            check(close(losses[0], expected[0], 1e-5) && close(losses[1], expected[1], 1e-4), where + ": loss");
            bool right = true;
            for (std::size_t i = 0; i < found[0].size(); ++i)
                right = right && close(found[0][i], plain.parameters[i], 1e-4);
            check(right, where + (in_batches ? " in batches" : ""));
        }
    }
}

}  // namespace

void test_head(SimdLevel level) {
    test_dropout();
    test_steps(level);
}

}  // namespace ccma::tests
