// The loops of the compiler's quantisation over all values of a map, and over all weights of a layer. Sums of floats run
// in doubles and in a fixed order, so that every machine makes the same file. The twins in NumPy are in openkpu.quantize.
#pragma once

#include <cstddef>
#include <cstdint>

namespace openkpu {

// Least and greatest value of each channel of a map (channels, n), and every step-th value of all of it. Returns whether
// all values are finite.
bool observe(const float* x, size_t channels, size_t n, size_t step, float* low, float* high, float* samples);

// Which positions of a map reach the output: every step-th row and column, columns from `left` on.
struct Positions {
    size_t kernel, step, left;      // kernel: 1 or 3
};

struct Maps {
    size_t n, channels, rows, columns;
};

// Mean of the maps (n, channels, rows, columns) at each tap over those positions: (channels, kernel * kernel). `pad` (one
// number a channel) stands outside the picture.
void tap_means(const uint8_t* x, const Maps&, const Positions&, const double* pad, double* out);
void tap_means(const float* x, const Maps&, const Positions&, const double* pad, double* out);

// Samples of each tap, without their mean: (channels, kernel * kernel, n * positions) from every `thin`-th position.
void windows(const uint8_t* x, const Maps&, const Positions&, size_t thin, uint8_t pad, float* out);

// Number of positions that `windows` takes of one map.
size_t window_count(const Maps&, const Positions&, size_t thin);

// Scale of each row of weights (rows, n) whose 8-bit rounding has the least squared error.
void weight_scales(const float* w, size_t rows, size_t n, const double* shrink, size_t shrinks, size_t few, double* out);

// Of whole weights (rows, n): their product with the means (n, or rows * n where `apart`), and the sums of the positive and
// of the negative ones.
void weigh(const int16_t* w, size_t rows, size_t n, const double* means, bool apart, double* product, int64_t* up,
           int64_t* down);

// Rounds columns first..last-1 of `w` (batch, rows, d) to -128..127, one after the other. `aim` is what each is rounded to:
// `w` at first, then moved by the errors of the columns before it times `factor` (batch, d, d). The errors go to `errors`
// (batch, rows, last - first), those of columns from `last` on stay to be done.
struct Feedback {
    size_t batch, rows, d, first, last;
    const float* w;
    const float* factor;
    float* aim;
    int16_t* out;
    float* errors;
};
void feedback(const Feedback&);

// The best segments for a curve: segment_fit.py says what is computed. Returns their number; they are in order.
struct CurveSegment {
    double start, slope;
    int64_t bias;
};
size_t fit_segments(const double* x, const double* target, const double* weight, size_t n, CurveSegment segments[16]);

// The `count` largest values of x, in falling order.
void largest(const float* x, size_t n, float* out, size_t count);

// How many values fall into each of `bins` equal parts of low..high; those outside count at the ends.
void histogram(const float* x, size_t n, double low, double high, double* counts, size_t bins);

// Batch norm of a layer: `mul / 2**shift` closest to weight_scale / out_scale * units, and `add`, the bias in the same
// units. up and down are the sums of the positive and of the negative weights of each channel (weigh).
struct BatchNormInput {
    size_t channels;
    const double *weight_scale, *out_scale, *bias;
    const int64_t *up, *down;
    double units;
    int64_t zero_point, most_mul;
    int mul_bits, most_shift;
};

// The largest magnitudes that came up: of the factor and the bias before they were stored, and of what any input can give
// before and after batch norm.
struct BatchNormSizes {
    double gain, add;
    int64_t sum, normed;
};
BatchNormSizes batch_norm(const BatchNormInput&, int64_t* mul, int64_t* shift, int64_t* add);

// Costs of clipping a histogram (counts at centers) to low..high: ranges.py says what they mean.
double squared_error(const double* counts, const double* centers, size_t bins, double low, double high);
double divergence(const double* counts, const double* centers, size_t bins, double low, double high);

}  // namespace openkpu
