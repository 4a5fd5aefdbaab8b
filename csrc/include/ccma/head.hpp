// The training of a linear layer on rows under batch normalisation and dropout, by AdamW.
#pragma once

#include <cstdint>
#include <memory>

#include "ccma/dropout.hpp"
#include "ccma/kernels.hpp"
#include "ccma/parallel.hpp"

namespace ccma {

struct BatchNorm {
    double epsilon;   // added to variances
    double momentum;  // share of a batch in the running moments
};

struct Dropout {
    double kept;          // share of the values that stays, and by which they are divided
    std::uint32_t below;  // a value stays where its 16 random bits are below this, at most 2¹⁶
};

// The state of one training. Rows x (n, D) and their classes, `labels`, are read, not copied, as long as it lives.
class HeadTraining {
  public:
    // `start`: weights (C, D), then intercepts (C).
    HeadTraining(const float* x, const std::int64_t* labels, std::int64_t n, std::int64_t d, std::int64_t classes,
                 const float* start, const BatchNorm& norm, const Dropout& dropout);
    ~HeadTraining();
    HeadTraining(HeadTraining&&) noexcept;

    std::int64_t count() const;
    std::int64_t dimensions() const;
    std::int64_t classes() const;

    // A step by the rows `chosen`, `count` > 1 of them, or by all n where that is null: in all steps, or in none.
    // Returns the sum of their cross-entropies before it, in nats. The batch is cut into as many pieces as there
    // are streams, the first ones a row longer where it must be; each stream draws for its piece, row after row, four
    // values from 64 bits, the lowest first.
    double step(const std::int64_t* chosen, std::int64_t count, const DropoutStream* streams, std::int64_t n_streams,
                const AdamW& factors, const Poll& poll);

    // Remembers the parameters and the running moments as they are.
    void keep();

    // What was remembered, or what it began with: weights and intercepts in the order of `start`, and running means and
    // variances (2, D).
    void kept(float* parameters, double* moments) const;

  private:
    class State;
    std::unique_ptr<State> state_;
};

}  // namespace ccma
