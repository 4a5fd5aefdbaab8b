// What every instruction set provides: operations on one row, or one tile of rows, of float32 values in scratch memory.
//
// Scratch rows are padded to a multiple of `row_padding` values and aligned to 64 bytes. Sums over a row are formed in
// float32 over short stretches and carried on in double, so that their relative error stays near 1e-7 at any length.
// Given the same values in the same columns a kernel returns the same bits, wherever the row lies.
#pragma once

#include <cstdint>

#include "ccma/types.hpp"

namespace ccma {

constexpr std::int64_t row_padding = 32;

// Products are summed in float32 over stretches of so many dimensions before they join the total: the rounding error
// then grows with the root of this number, not of D.
constexpr std::int64_t product_stretch = 256;

static constexpr std::int64_t padded(std::int64_t n) { return (n + row_padding - 1) / row_padding * row_padding; }

// Rows of logits that are scored together. Whatever is one number a row is kept in arrays of so many, and what is done
// to it is done to all of them at once, used or not.
constexpr std::int64_t score_tile = 16;

// Pairs of logits of a row whose divergence is computed beside those of other rows.
constexpr std::int64_t most_lane_pairs = 32;

// Rows of logits whose moments under a temperature are computed together.
constexpr std::int64_t tempered_tile = 8;

// How many logits of a row reach cuts.
struct AboveCuts {
    float cut_student, cut_teacher;
    std::int32_t student, teacher;
};

struct ScoreKernels {
    // Widens `count` rows of n values to float32 into `z`, padded(n) apart, pads with −inf, and finds the maximum of
    // each, and the second largest (the maximum where that occurs twice) unless `second` is null. Returns the first row
    // with a value that is NaN or infinite, or −1.
    std::int64_t (*load_logits)(const void* rows, Dtype dtype, std::int64_t n, std::int64_t count, float* z,
                                float* maximum, float* second);

    // Of each row, as load_logits left it: sum = Σ exp(z − maximum), log_sum = ln of it, and Σ exp(z − maximum) ·
    // (maximum − z) unless `weighted` is null. Meanwhile asks for the memory from `next` on, as many bytes as the rows
    // have: the hardware's own prefetch stops at each page, about a row of 1000 classes.
    void (*exp_sums)(const float* z, std::int64_t n, std::int64_t count, const float* maximum, double* sum,
                     double* log_sum, double* weighted, const void* next);

    // Every exp(z − maximum) of one row in double, within some units in the last place, into `out`, whose padding is
    // overwritten.
    void (*exp_row)(const float* z, std::int64_t n, float maximum, double* out);

    // ScoredRow::cut (score_row.hpp) of a tile's rows. Returns the bits of those rows whose cut is still to be found.
    std::uint32_t (*cuts)(const float* maximum, const double* log_sum, const double* q, float* cut);

    // (1 − exp(second − maximum)) / sum of a tile's rows.
    void (*margins)(const float* maximum, const float* second, const double* sum, float* margin);

    // Index of the first value equal to `value`, which must occur.
    std::int64_t (*find)(const float* z, std::int64_t n, float value);

    // Copies the pairs (s_c, t_c) with s_c ≥ cut_s or t_c ≥ cut_t, in order, to (out_s, out_t), each with room for n +
    // row_padding values. Returns how many; counts[0..2] receive how many s, t and both passed, and `above`, unless it
    // is null, how many would have passed cuts that are no lower.
    std::int64_t (*union_pairs)(const float* s, const float* t, std::int64_t n, float cut_s, float cut_t, float* out_s,
                                float* out_t, std::int32_t* counts, AboveCuts* above);

    // Jensen-Shannon divergence, in nats, of softmax(s) and softmax(t) over n pairs. The maxima are those of s and t;
    // values beyond n, up to the padding, are overwritten.
    double (*js)(float* s, float* t, std::int64_t n, float maximum_s, float maximum_t);

    // The same of score_tile rows at once, row r at s + r · most_lane_pairs: its sizes[r] pairs, followed by −inf up to
    // the largest of the sizes. All values are overwritten.
    void (*js_tile)(float* s, float* t, const std::int64_t* sizes, const float* maximum_s, const float* maximum_t,
                    double* out);

    // Of score_tile columns of n > 0 logits, z[c · stride + column], which are overwritten: out[c · out_stride +
    // column] = w (softmax(z) − t), t[c · score_tile + column] or 0 where null, the weights w of the columns. Their
    // losses are w (ln Σ exp z − t · z).
    void (*softmax_residuals)(float* z, std::int64_t stride, std::int64_t n, const float* t, const float* weights,
                              float* out, std::int64_t out_stride, double* losses);

    // Of tempered_tile columns of n > 0 values s ≤ 0, s[c · stride + column], the mean and the variance under
    // softmax(beta · s), of columns whose largest value is 0.
    void (*tempered)(const double* s, std::int64_t stride, std::int64_t n, double beta, double* mean, double* variance);
};

// Rows of at most so many classes are scored a row a lane, where the instruction set has kernels for it.
constexpr std::int64_t most_lane_classes = 32;

// Some rows of logits of one model, class after class: that of class c and row r lies at c · score_tile + r. Unused
// rows repeat the last one.
struct LaneTile {
    std::int64_t count;
    alignas(64) float z[most_lane_classes * score_tile];
    alignas(64) float e[most_lane_classes * score_tile];                // exp(z − maximum)
    float maximum[score_tile], second[score_tile];                      // as ScoreKernels::load_logits finds them
    float top1[score_tile];                                             // the first class of that maximum
    double sum[score_tile], log_sum[score_tile], weighted[score_tile];  // as ScoreKernels::exp_sums forms them
};

// The scores of a tile's rows, as ScoreResult (score.hpp) has them.
struct LaneScores {
    float delta[score_tile], divergence[score_tile], margin[score_tile], confidence[score_tile];
    std::int32_t student_top1[score_tile], teacher_top1[score_tile];
    std::int32_t student_size[score_tile], teacher_size[score_tile], overlap[score_tile];
};

// The operations of ScoreKernels on a tile of rows, with the same bits. Null where an instruction set has none.
struct LaneKernels {
    // From `count` rows of n values, 0 < count ≤ score_tile. Returns the first that is not finite, or −1.
    std::int64_t (*load)(const void* rows, Dtype dtype, std::int64_t n, std::int64_t count, LaneTile& tile) = nullptr;

    // rows[c] = the bits of those rows that are used with high ≤ z_c < low, the cuts of the row, low ≥ high.
    // Returns how many logits reach low.
    std::int64_t (*between)(const LaneTile& tile, std::int64_t n, const float* low, const float* high,
                            std::uint32_t* rows) = nullptr;

    // With the sets of the logits that reach the cuts, or of the first most probable class where the cut is +inf. The
    // teacher may be null.
    void (*score)(const LaneTile& student, const LaneTile* teacher, std::int64_t n, const float* cut_student,
                  const float* cut_teacher, LaneScores& scores) = nullptr;
};

struct ThresholdKernels {
    // How many values are ≥ low, and how many ≥ high, low ≤ high.
    void (*count_at_least)(const float* z, std::int64_t n, float low, float high, std::int64_t* counts);

    // Copies the values with low ≤ z < high, in order, to `out` (room for n + row_padding). Returns how many.
    std::int64_t (*between)(const float* z, std::int64_t n, float low, float high, float* out);
};

// Adding it to a number of at most 2^51 in size rounds that to a whole one (ties to even), and leaves this in the low
// bits.
constexpr double whole_shifter = 6755399441055744.0;  // 1.5 · 2^52

// Rows without a value above this in size are quantized to nothing.
constexpr float least_quantized = 1e-30f;

// A tile is `tile_rows` rows of X against one panel of `panel_cols` rows of a second matrix, packed so that panel[d *
// panel_cols + j] is column d of its j-th row.
struct KMeansKernels {
    std::int64_t tile_rows;
    std::int64_t panel_cols;

    // out[d] = x[d] · scale − shift[d] in float32 (no shift where null), padded with zeros.
    void (*load_row)(const void* row, Dtype dtype, std::int64_t n, float scale, const float* shift, float* out);

    // Σ x², in double; not finite exactly where a value is NaN or infinite.
    double (*sum_squares)(const void* row, Dtype dtype, std::int64_t n);

    // Σ a b, in double.
    double (*dot)(const float* a, const float* b, std::int64_t n);

    // For each of the first `rows` rows of a tile, x + r · stride: out[r · out_stride + j] = its product with the
    // panel's j-th row over n ≤ product_stretch values, plus what stood there where `adds`, plus offset[j] where that
    // is not null.
    void (*tile_product)(const float* x, std::int64_t stride, std::int64_t n, std::int64_t rows, const float* panel,
                         const float* offset, bool adds, float* out, std::int64_t out_stride);

    // to[j · panel_cols + i] = from[i · panel_cols + j] for i < n ≤ panel_cols, 0 for i from n to panel_cols − 1.
    void (*turn_panel)(const float* from, std::int64_t n, float* to);

    // The position of the largest of n > 0 values, the first of several.
    std::int64_t (*largest)(const float* values, std::int64_t n);

    // Lists every j < n with values[j] + factor · reach[j] ≥ least: j in `index` and that sum in `bounds`, each with
    // room for n + row_padding. Returns how many. What is not a number is not listed.
    std::int64_t (*reaching)(const float* values, const float* reach, std::int64_t n, float factor, float least,
                             std::int32_t* index, float* bounds);

    // ‖a − b‖² over n values.
    double (*squared_distance)(const float* a, const float* b, std::int64_t n);

    // Adds weight · x[d] to the fixed-point sums of limbs.count limbs that begin at sums[d], `stride` apart. `weight`
    // is one of float32 times limbs.scale, so that the product is exact, and it is at most 2^51 in size.
    void (*add_fixed)(std::int64_t* sums, std::int64_t stride, const Limbs& limbs, const float* x, double weight,
                      std::int64_t n);

    // bytes[d] = the whole number nearest to x[d] / s with s = max |x| / 127, for n values, n a multiple of
    // row_padding. Returns s, 0 where the values are all zero or nearly so; `squared_error` receives Σ (x − s ·
    // bytes)².
    float (*quantize)(const float* x, std::int64_t n, std::int8_t* bytes, double* squared_error);

    // out[i] = product of x with row index[i] of rows that lie `stride` apart, exactly; n a multiple of row_padding, at
    // most 2^16.
    void (*dots_bytes)(const std::int8_t* x, const std::int8_t* rows, std::int64_t stride, std::int64_t n,
                       const std::int32_t* index, std::int64_t m, std::int32_t* out);

    // tile_product of bytes, n a multiple of 4, exact until it is scaled:
    //
    //     out[r · out_stride + j] = (start[r] + Σ_d x[r · stride + d] · panel_j[d]) · scale[r] · panel_scale[j] +
    //     offset[j].
    //
    // The panel is packed by fours: panel[(d / 4 · panel_cols + j) · 4 + d % 4]. Null where the processor has no such
    // instruction.
    void (*tile_product_bytes)(const std::int8_t* x, std::int64_t stride, std::int64_t n, const std::uint8_t* panel,
                               const std::int32_t* start, const float* scale, const float* panel_scale,
                               const float* offset, float* out, std::int64_t out_stride) = nullptr;
};

// Rows of values of which some are used, at most 64 each, those whose bit is set.
struct ChosenValues {
    const std::uint64_t* bits;  // of row r bits[r · bits_stride]
    std::int64_t bits_stride;
    const float* x;  // value j of row r lies at r · row_stride + j · stride
    std::int64_t row_stride, stride;
};

// Columns that are added up at a time, as many vectors as registers hold, and what their number is padded to.
constexpr std::int64_t most_chosen = 112, chosen_padding = 16;

// A step of AdamW: m ← m + 0.1 (g − m), v ← 0.999 v + 0.001 g², p ← (1 − decay) p − rate m / (spread √v + 10⁻⁸).
struct AdamW {
    float rate, spread, decay;
};

// The states of a PCG64 generator after its next draws, one after the other, and the step by so many draws:
// state ↦ factor · state + increment, modulo 2¹²⁸.
constexpr int draw_lanes = 8;
struct DrawLanes {
    std::uint64_t high[draw_lanes], low[draw_lanes];
    std::uint64_t factor_high, factor_low, increment_high, increment_low;
};

struct HeadKernels {
    // Bit i of words[w] tells whether the i-th of 64 values is below `limit` < 2¹⁶: each is a fourth of a
    // draw, the lowest first. Sixteen draws are taken for each of the words.
    void (*draw_below)(DrawLanes& lanes, std::uint32_t limit, std::int64_t count, std::uint64_t* words);

    // out[r · out_stride + c] += Σ_j x_rj · matrix[j · stride + c] over the values chosen of `rows` rows, in the order
    // of j, for n ≤ most_chosen columns, padded to whole vectors.
    void (*add_chosen)(const ChosenValues& values, std::int64_t rows, const float* matrix, std::int64_t stride,
                       std::int64_t n, float* out, std::int64_t out_stride);

    // Turns n > 0 logits of a row, followed by room for whole vectors, into exp(z − maximum) / Σ exp(z − maximum) and
    // zeros. Returns that sum.
    double (*softmax_row)(float* z, std::int64_t n, float* maximum);

    // A step of n parameters, a multiple of chosen_padding, by gradient · scale.
    void (*adamw)(const float* gradient, float scale, std::int64_t n, const AdamW& factors, float* parameters,
                  float* first, float* second);
};

struct Kernels {
    ScoreKernels score;
    ThresholdKernels threshold;
    KMeansKernels kmeans;
    HeadKernels head;
    LaneKernels lanes;
};

// The kernels of the level in use (dispatch.cpp, the only place that maps a level to functions).
const Kernels& kernels();

}  // namespace ccma
