// CPU tensor operators of the V4 and V5 runtimes. Each equals the NumPy function of the same name in openkpu.ops, to the
// last bit: sums run in the same order, one rounding an operation. Sizes were checked by the caller.
#pragma once

#include <cstddef>
#include <cstdint>

namespace openkpu {

struct Window {
    int64_t n, c, h, w;          // input
    int64_t oc, groups, oh, ow;  // output
    int64_t kh, kw, stride_h, stride_w, dilation_h, dilation_w, top, left;
    int64_t window_first;        // 1: the window is the outer loop, 0: the input channels are
};

// Convolution tap by tap: x (n, c, h, w), weights (oc, c / groups, kh, kw), bias (oc), out (n, oc, oh, ow).
void taps_f32(const Window& s, const float* x, const float* weights, const float* bias, float* out);
void taps_i32(const Window& s, const int32_t* x, const int32_t* weights, const int32_t* bias, int32_t* out);

enum class Halves { even_pairs, away };  // even_pairs: halves to even, but away from zero for the last of an odd count

void quantize(const float* x, uint8_t* out, size_t count, float scale, float zero, Halves halves);

// out[i] = table[x[i]]; a table of 256 values.
void look_up(const uint8_t* x, const float* table, float* out, size_t count);

// v(a, b) for every element of a 4-dimensional output; strides in elements, 0 where an operand is broadcast.
struct Broadcast {
    int64_t shape[4], a[4], b[4];
};

struct Fixed {
    int32_t o_mul, o_shift, o_offset;
    int32_t op;             // as in kmodel files: add, sub, mul, div, min, max
    const int32_t *va, *vb;  // the scaled value of each of the 256 bytes
};

void quantized_binary(const Broadcast& s, const Fixed& f, const uint8_t* a, const uint8_t* b, uint8_t* out);

// Rows of `width` values, added up (op 0, 3), or minimum (1) or maximum (2), one after the other, into `out`.
void reduce_rows(int op, const float* rows, size_t count, size_t width, float* out);

// out (rows, columns) = bias + a (rows, inner) by b (inner, columns), one product after the other.
void matmul(const float* a, const float* b, const float* bias, float* out, size_t rows, size_t inner, size_t columns);

}  // namespace openkpu
