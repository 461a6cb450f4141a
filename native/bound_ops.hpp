// Operators on tensors with strides, made for arguments that stay where they are: what the runtime of kmodel V5 does
// between KPU layers.
//
// A tensor is a pointer with shape and strides. Results equal those of the NumPy operators in openkpu.ops to the bit:
// every float operation is rounded on its own (the build forbids contraction), sums keep the order of the C loops.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace openkpu::bound {

constexpr int max_rank = 8;

struct View {
    char* data;
    int rank;
    int64_t shape[max_rank];
    int64_t stride[max_rank];   // bytes
    int64_t item;               // bytes of an element
    int64_t elements() const;
    bool dense() const;
};

// dst = src, element by element; both have the same shape and size of element (1, 2, 4 or 8).
void copy(const View& src, const View& dst);
// dst = the element at value
void fill(const char* value, const View& dst);
// dst = table[src], uint8
void lookup(const View& src, const uint8_t* table, const View& dst);

// dst = clamp(rint(src * multiplier + offset)), float32 -> uint8 or int8, halves to even, NaN -> greatest
void quantize(const View& src, const View& dst, float multiplier, float offset, bool is_signed);
// dst = src * multiplier + offset, uint8 or int8 -> float32
void dequantize(const View& src, const View& dst, float multiplier, float offset, bool is_signed);

// dst[c] = src[c] * multiplier[c] + offset[c], uint8 -> float32 (c, n)
void dequantize_channels(const View& src, const View& dst, const float* multiplier, const float* offset);
// dst = clamp(roundf((src - bias) * factor)), float32 -> uint8, halves away from zero, NaN -> 255; both dense
void quantize_away(const View& src, const View& dst, float bias, float factor);

enum class Binary : int { add, sub, mul, div, min, max };
// dst = max(min(a op b, high), low), float32; a and b have dst's shape (stride 0 where they repeat)
void binary(Binary op, const View& a, const View& b, const View& dst, float low, float high);

enum class Reduce : int { mean, min, max, sum };
// float32 (n, c, h, w); the window's numbers are (height, width)
struct Window {
    int64_t kernel[2], stride[2], dilation[2], before[2];
    float low, high;
};
void reduce_window(Reduce op, const View& src, const View& dst, const Window& window, float init);
// src has its reduced dimensions last, reduced of them; dst has the others. divide: sum / count, else sum * factor.
void reduce(Reduce op, const View& src, int reduced, const View& dst, float init, bool divide, float factor);

// float32 (n, c, h, w) by dense (oc, c / groups, kh, kw); order of a sum: bias, input channel, row, column.
struct Conv {
    Window window;
    int64_t groups;
    const float* weights;
    const float* bias;
    std::vector<float> turned;  // weights as (c, kh, kw, oc) where the rows are short, else empty
};
Conv prepare(const Window& window, int64_t groups, const float* weights, const float* bias, const int64_t shape[4],
             int64_t out_width);
void conv2d(const Conv& conv, const View& src, const View& dst, const int64_t kernel_shape[4]);

// Rows and columns say which input each output takes; size of element 1 or 4.
void resize_nearest(const View& src, const View& dst, const int64_t* rows, const int64_t* columns);

// (m, k) by (k, n), dense float32; bias first, then one product after the other.
void matmul(const float* a, const float* b, const float* bias, float* dst, int64_t m, int64_t k, int64_t n, float low,
            float high);

}  // namespace openkpu::bound
