#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "ccma/head.hpp"
#include "row_block.hpp"
#include "scratch.hpp"

namespace ccma {
namespace {

// Rows and columns that meet at a time: a word of the mask, and as much as the first-level cache holds.
constexpr std::int64_t block = 64;

// What a value takes, in multiplications: to learn whether it stays, and at least if it does.
constexpr double of_value = 10.0, of_staying = 50.0;

// What is worth a thread in each half of a step, of which there are hundreds.
constexpr std::int64_t least_work = 2 * least_products;

std::int64_t blocks(std::int64_t n) { return (n + block - 1) / block; }

// Classes that are added up at a time, whole vectors: as few groups of them as there can be, of about the same size.
std::int64_t group_of(std::int64_t classes) {
    const std::int64_t groups = (classes + most_chosen - 1) / most_chosen;
    return (classes + groups * chosen_padding - 1) / (groups * chosen_padding) * chosen_padding;
}

// Room for columns of classes, whole vectors and an odd number of cache lines, so that rows of a matrix do not fall
// into the same sets of the cache.
std::int64_t class_stride(std::int64_t classes) {
    return ((classes + chosen_padding - 1) / chosen_padding | 1) * chosen_padding;
}

Scratch<float> zeros(std::int64_t n) {
    Scratch<float> values(n);
    std::fill_n(values.get(), n, 0.0f);
    return values;
}

// Bit j of word i becomes bit i of word j.
void transpose(std::uint64_t* words) {
    std::uint64_t low = 0x00000000ffffffff;
    for (int half = 32; half != 0; half >>= 1, low ^= low << half) {
        for (int i = 0; i < 64; i = (i + half + 1) & ~half) {
            const std::uint64_t changed = (words[i] >> half ^ words[i + half]) & low;
            words[i] ^= changed << half;
            words[i + half] ^= changed;
        }
    }
}

// Some of the rows, or all.
struct Batch {
    const std::int64_t* chosen;
    std::int64_t count;

    std::int64_t row(std::int64_t i) const { return chosen ? chosen[i] : i; }
};

}  // namespace

// Parameters lie as the products read them: a row of classes for each column of x, then one of intercepts.
class HeadTraining::State {
  public:
    const std::int64_t n, d, classes;

    State(const float* x, const std::int64_t* labels, std::int64_t n, std::int64_t d, std::int64_t classes,
          const float* start, const BatchNorm& norm, const Dropout& dropout)
        : n(n),
          d(d),
          classes(classes),
          x_(x),
          labels_(labels),
          words_(blocks(d)),
          stride_(class_stride(classes)),
          group_(group_of(classes)),
          norm_(norm),
          dropout_(dropout),
          parameters_(zeros(size())),
          first_(zeros(size())),
          second_(zeros(size())),
          kept_parameters_(size()),
          moments_(static_cast<std::size_t>(2 * d), 0.0),
          of_batch_(moments_.size()) {
        std::fill(moments_.begin() + d, moments_.end(), 1.0);
        for (std::int64_t j = 0; j < d; ++j)
            for (std::int64_t c = 0; c < classes; ++c) parameters_.get()[j * stride_ + c] = start[c * d + j];
        std::copy_n(start + classes * d, classes, parameters_.get() + d * stride_);
        keep();
    }

    double step(const Batch& batch, const DropoutStream* streams, std::int64_t n_streams, const AdamW& factors,
                const Poll& poll) {
        if (batch.chosen || !is_normalized_) normalize(batch, poll);
        for (std::size_t i = 0; i < moments_.size(); ++i) moments_[i] += norm_.momentum * (of_batch_[i] - moments_[i]);

        const double of_columns_kept = dropout_.kept * std::max(of_staying, static_cast<double>(stride_));
        const std::int64_t of_row = d * static_cast<std::int64_t>(of_value + of_columns_kept);
        const auto of_rows = [&](std::int64_t first, std::int64_t last) {
            for (std::int64_t i = first; i < last; ++i) {
                const std::int64_t begin = i * block, end = std::min(batch.count, begin + block);
                drop(batch, streams, n_streams, begin, end);
                residuals(batch, begin, end);
            }
        };
        const auto of_columns = [&](std::int64_t first, std::int64_t last) {
            for (std::int64_t i = first; i < last; ++i) update(batch, i, factors);
        };
        parallel_ranges(blocks(batch.count), 1 + least_work / (block * of_row), of_rows, poll);
        parallel_ranges(words_ + 1, 1 + least_work * words_ / (batch.count * of_row), of_columns, poll);
        return std::accumulate(losses_.begin(), losses_.begin() + batch.count, 0.0);
    }

    void keep() {
        std::copy_n(parameters_.get(), size(), kept_parameters_.get());
        kept_moments_ = moments_;
    }

    void kept(float* parameters, double* moments) const {
        for (std::int64_t j = 0; j < d; ++j)
            for (std::int64_t c = 0; c < classes; ++c) parameters[c * d + j] = kept_parameters_.get()[j * stride_ + c];
        std::copy_n(kept_parameters_.get() + d * stride_, classes, parameters + classes * d);
        std::copy(kept_moments_.begin(), kept_moments_.end(), moments);
    }

  private:
    std::int64_t size() const { return (d + 1) * stride_; }

    // The values of a block of rows in a word of columns, (block, block).
    float* values(std::int64_t row_block, std::int64_t word) const {
        return values_.get() + (row_block * words_ + word) * block * block;
    }

    void normalize(const Batch& batch, const Poll& poll) {
        if (batch.count > room_) {
            values_ = Scratch<float>(blocks(batch.count) * words_ * block * block);
            mask_ = Scratch<std::uint64_t>(batch.count * words_);
            residuals_ = Scratch<float>(batch.count * stride_);
            losses_.resize(static_cast<std::size_t>(batch.count));
            room_ = batch.count;
        }
        const auto of_words = [&](std::int64_t first, std::int64_t last) {
            for (std::int64_t word = first; word < last; ++word) normalize_columns(batch, word);
        };
        parallel_ranges(words_, 1 + least_products / (4 * batch.count * block), of_words, poll);
        is_normalized_ = true;
    }

    void normalize_columns(const Batch& batch, std::int64_t word) {
        const std::int64_t begin = word * block, columns = std::min(block, d - begin);
        const double count = static_cast<double>(batch.count);
        double mean[block] = {}, variance[block] = {}, scale[block];
        const auto row = [&](std::int64_t i) { return values(i / block, word) + i % block * block; };
        for (std::int64_t i = 0; i < batch.count; ++i) {
            const float* x = std::copy_n(x_ + batch.row(i) * d + begin, columns, row(i)) - columns;
            for (std::int64_t j = 0; j < columns; ++j) mean[j] += x[j];
        }
        for (std::int64_t j = 0; j < columns; ++j) mean[j] /= count;
        for (std::int64_t i = 0; i < batch.count; ++i) {
            const float* x = row(i);
            for (std::int64_t j = 0; j < columns; ++j) variance[j] += (x[j] - mean[j]) * (x[j] - mean[j]);
        }
        for (std::int64_t j = 0; j < columns; ++j) {
            variance[j] /= count;
            of_batch_[static_cast<std::size_t>(begin + j)] = mean[j];
            of_batch_[static_cast<std::size_t>(d + begin + j)] = variance[j] * (count / (count - 1.0));
            scale[j] = 1.0 / (std::sqrt(variance[j] + norm_.epsilon) * dropout_.kept);
        }
        for (std::int64_t i = 0; i < batch.count; ++i) {
            float* x = row(i);
            for (std::int64_t j = 0; j < columns; ++j) x[j] = static_cast<float>((x[j] - mean[j]) * scale[j]);
        }
    }

    // Which values of the rows [begin, end) stay.
    void drop(const Batch& batch, const DropoutStream* streams, std::int64_t n_streams, std::int64_t begin,
              std::int64_t end) {
        const std::int64_t size = batch.count / n_streams, longer = batch.count % n_streams;
        const auto first_of = [&](std::int64_t piece) { return piece * size + std::min(piece, longer); };
        for (std::int64_t piece = 0; begin < end; ++piece) {
            const std::int64_t last = std::min(end, first_of(piece + 1));
            if (begin >= last) continue;
            DroppedValues dropped(streams[piece], dropout_.below, begin - first_of(piece), d);
            for (; begin < last; ++begin) dropped.next_row(mask_.get() + begin * words_);
        }
    }

    // softmax(z) − t of the rows of a block, and their losses.
    void residuals(const Batch& batch, std::int64_t begin, std::int64_t end) {
        const HeadKernels& k = kernels().head;
        float* z = residuals_.get() + begin * stride_;
        for (std::int64_t i = 0; i < end - begin; ++i) {
            std::copy_n(parameters_.get() + d * stride_, stride_, z + i * stride_);
        }
        for (std::int64_t c = 0; c < classes; c += group_) {
            for (std::int64_t word = 0; word < words_; ++word) {
                const ChosenValues staying{mask_.get() + begin * words_ + word, words_, values(begin / block, word),
                                           block, 1};
                k.add_chosen(staying, end - begin, parameters_.get() + word * block * stride_ + c, stride_,
                             std::min(group_, classes - c), z + c, stride_);
            }
        }
        for (std::int64_t i = begin; i < end; ++i, z += stride_) {
            const std::int64_t label = labels_[batch.row(i)];
            const float of_label = z[label];
            float maximum;
            const double sum = k.softmax_row(z, classes, &maximum);
            losses_[static_cast<std::size_t>(i)] = std::log(sum) + maximum - of_label;
            z[label] -= 1.0f;
        }
    }

    // The step of the parameters of a word of columns or, behind them, of the intercepts, whose column is ones.
    void update(const Batch& batch, std::int64_t word, const AdamW& factors) {
        const HeadKernels& k = kernels().head;
        const bool of_intercepts = word == words_;
        const std::int64_t first = of_intercepts ? d : word * block;
        const std::int64_t columns = of_intercepts ? 1 : std::min(block, d - first);
        const Scratch<float> gradient = zeros(columns * stride_);
        const float one = 1.0f;
        for (std::int64_t row = 0; row < batch.count; row += block) {
            const std::int64_t rows = std::min(block, batch.count - row);
            std::uint64_t bits[block] = {~std::uint64_t{0} >> (block - rows)};
            ChosenValues staying{bits, 1, &one, 0, 0};
            if (!of_intercepts) {
                bits[0] = 0;
                for (std::int64_t i = 0; i < rows; ++i) bits[i] = mask_.get()[(row + i) * words_ + word];
                transpose(bits);
                staying = {bits, 1, values(row / block, word), 1, block};
            }
            for (std::int64_t c = 0; c < classes; c += group_) {
                k.add_chosen(staying, columns, residuals_.get() + row * stride_ + c, stride_,
                             std::min(group_, classes - c), gradient.get() + c, stride_);
            }
        }
        const std::int64_t at = first * stride_;
        k.adamw(gradient.get(), 1.0f / static_cast<float>(batch.count), columns * stride_, factors,
                parameters_.get() + at, first_.get() + at, second_.get() + at);
    }

    const float* x_;
    const std::int64_t* labels_;
    std::int64_t words_, stride_, group_;
    BatchNorm norm_;
    Dropout dropout_;
    Scratch<float> parameters_, first_, second_, kept_parameters_;
    std::vector<double> moments_, of_batch_, kept_moments_;  // means and variances (2, D), running and of the batch
    bool is_normalized_ = false;                             // a batch was, which for all rows is done once
    std::int64_t room_ = 0;                                  // for rows in what follows
    Scratch<float> values_{0};                               // normalised
    Scratch<std::uint64_t> mask_{0};                         // (rows, words)
    Scratch<float> residuals_{0};                            // (rows, stride)
    std::vector<double> losses_;
};

HeadTraining::HeadTraining(const float* x, const std::int64_t* labels, std::int64_t n, std::int64_t d,
                           std::int64_t classes, const float* start, const BatchNorm& norm, const Dropout& dropout)
    : state_(std::make_unique<State>(x, labels, n, d, classes, start, norm, dropout)) {}

HeadTraining::~HeadTraining() = default;
HeadTraining::HeadTraining(HeadTraining&&) noexcept = default;

std::int64_t HeadTraining::count() const { return state_->n; }
std::int64_t HeadTraining::dimensions() const { return state_->d; }
std::int64_t HeadTraining::classes() const { return state_->classes; }

double HeadTraining::step(const std::int64_t* chosen, std::int64_t count, const DropoutStream* streams,
                          std::int64_t n_streams, const AdamW& factors, const Poll& poll) {
    return state_->step({chosen, count}, streams, n_streams, factors, poll);
}

void HeadTraining::keep() { state_->keep(); }

void HeadTraining::kept(float* parameters, double* moments) const { state_->kept(parameters, moments); }

}  // namespace ccma
