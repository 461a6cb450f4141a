// See tensor_ops.hpp. The inner loops are plain, so that the compiler makes vectors of them; no instruction set is named.
#include "tensor_ops.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

namespace openkpu {
namespace {

struct Span {
    int64_t first, stop, start;  // outputs first..stop take part; the first of them reads input `start`
};

int64_t floor_div(int64_t a, int64_t b) { return a >= 0 ? a / b : -((-a + b - 1) / b); }

Span span(int64_t size, int64_t out, int64_t offset, int64_t stride) {
    const int64_t first = std::max<int64_t>(0, -floor_div(offset, stride));
    const int64_t stop = std::min(out, floor_div(size - 1 - offset, stride) + 1);
    return {first, std::max(first, stop), first * stride + offset};
}

float multiply_add(float sum, float x, float w) { return sum + x * w; }

int32_t multiply_add(int32_t sum, int32_t x, int32_t w) {  // wraps, without undefined behaviour
    return static_cast<int32_t>(static_cast<uint32_t>(sum) + static_cast<uint32_t>(x) * static_cast<uint32_t>(w));
}

template <typename T>
void add_row(T* sum, const T* x, T weight, int64_t count, int64_t stride) {
    if (stride == 1) {
        for (int64_t i = 0; i < count; ++i) sum[i] = multiply_add(sum[i], x[i], weight);
    } else if (stride == 2) {
        for (int64_t i = 0; i < count; ++i) sum[i] = multiply_add(sum[i], x[2 * i], weight);
    } else {
        for (int64_t i = 0; i < count; ++i) sum[i] = multiply_add(sum[i], x[i * stride], weight);
    }
}

template <typename T>
void taps(const Window& s, const T* x, const T* weights, const T* bias, T* out) {
    const int64_t gic = s.c / s.groups, goc = s.oc / s.groups, window = s.kh * s.kw;
    for (int64_t n = 0; n < s.n; ++n) {
        for (int64_t o = 0; o < s.oc; ++o) {
            const T* group = x + (n * s.c + o / goc * gic) * s.h * s.w;
            const T* filter = weights + o * gic * window;
            T* map = out + (n * s.oc + o) * s.oh * s.ow;
            std::fill(map, map + s.oh * s.ow, bias[o]);
            for (int64_t step = 0; step < gic * window; ++step) {
                const int64_t ic = s.window_first ? step % gic : step / window;
                const int64_t tap = s.window_first ? step / gic : step % window;
                const int64_t ky = tap / s.kw, kx = tap % s.kw;
                const Span ys = span(s.h, s.oh, ky * s.dilation_h - s.top, s.stride_h);
                const Span xs = span(s.w, s.ow, kx * s.dilation_w - s.left, s.stride_w);
                const T weight = filter[ic * window + tap];
                const T* source = group + ic * s.h * s.w + ys.start * s.w + xs.start;
                for (int64_t y = ys.first; y < ys.stop; ++y, source += s.stride_h * s.w) {
                    add_row(map + y * s.ow + xs.first, source, weight, xs.stop - xs.first, s.stride_w);
                }
            }
        }
    }
}

// (v * mul + 2^(shift-1)) >> shift, cut to 32 bits.
int32_t scale_and_shift(int64_t v, int32_t mul, int32_t shift) {
    v *= mul;
    if (shift > 0) v = (v + (int64_t{1} << (shift - 1))) >> shift;
    return static_cast<int32_t>(static_cast<uint32_t>(static_cast<uint64_t>(v)));
}

int32_t wrapping(int64_t v) { return static_cast<int32_t>(static_cast<uint32_t>(static_cast<uint64_t>(v))); }

int32_t apply(int op, int32_t a, int32_t b) {
    switch (op) {
        case 0: return wrapping(int64_t{a} + b);
        case 1: return wrapping(int64_t{a} - b);
        case 2: return wrapping(int64_t{a} * b);
        case 3: return b == 0 ? -1 : wrapping(int64_t{wrapping(int64_t{a} + b / 2)} / b);  // by zero: the RISC-V divider
        case 4: return std::min(a, b);
        default: return std::max(a, b);
    }
}

uint8_t clamp_byte(int32_t v) { return static_cast<uint8_t>(std::clamp(v, 0, 255)); }

template <int op>
void rows_of(const float* rows, size_t count, size_t width, float* out) {
    for (size_t r = 0; r < count; ++r) {
        const float* row = rows + r * width;
        for (size_t i = 0; i < width; ++i) {
            if (op == 1) {
                out[i] = row[i] < out[i] ? row[i] : out[i];
            } else if (op == 2) {
                out[i] = out[i] < row[i] ? row[i] : out[i];
            } else {
                out[i] = out[i] + row[i];
            }
        }
    }
}

}  // namespace

void taps_f32(const Window& s, const float* x, const float* weights, const float* bias, float* out) {
    taps(s, x, weights, bias, out);
}

void taps_i32(const Window& s, const int32_t* x, const int32_t* weights, const int32_t* bias, int32_t* out) {
    taps(s, x, weights, bias, out);
}

void quantize(const float* x, uint8_t* out, size_t count, float scale, float zero, Halves halves) {
    const auto away = [&](float v) {
        if (halves == Halves::away) {
            v = std::fabs(v) < 2147483648.0f ? v : 0.0f;  // x86 converts the others, and NaN, to the least int
        } else {
            v = v != v ? 256.0f : v;  // RISC-V converts NaN to the greatest int
        }
        v = v < -1.0f ? -1.0f : v > 256.0f ? 256.0f : v;
        const double d = std::floor(static_cast<double>(v) + 0.5);
        return static_cast<uint8_t>(d < 0 ? 0 : d > 255 ? 255 : d);
    };
    if (halves == Halves::away) {
        for (size_t i = 0; i < count; ++i) out[i] = away(x[i] * scale + zero);
        return;
    }
    const size_t pairs = count / 2 * 2;
    for (size_t i = 0; i < pairs; ++i) {
        float v = x[i] * scale + zero;
        v = v < 0.0f ? 0.0f : v < 256.0f ? v : 256.0f;  // NaN goes to 256
        // Adding 1.5 * 2^23 leaves the nearest integer, halves to even, in the low bits.
        const float shifted = v + 12582912.0f;
        int32_t bits;
        std::memcpy(&bits, &shifted, sizeof bits);
        const int32_t q = bits & 0x1FF;
        out[i] = static_cast<uint8_t>(q < 255 ? q : 255);
    }
    if (pairs < count) out[pairs] = away(x[pairs] * scale + zero);
}

void look_up(const uint8_t* x, const float* table, float* out, size_t count) {
    for (size_t i = 0; i < count; ++i) out[i] = table[x[i]];
}

void quantized_binary(const Broadcast& s, const Fixed& f, const uint8_t* a, const uint8_t* b, uint8_t* out) {
    const auto one = [&](uint8_t x, uint8_t y) {
        const int32_t v = apply(f.op, f.va[x], f.vb[y]);
        return clamp_byte(wrapping(int64_t{scale_and_shift(v, f.o_mul, f.o_shift)} + f.o_offset));
    };
    const size_t count = static_cast<size_t>(s.shape[0] * s.shape[1] * s.shape[2] * s.shape[3]);
    // Two bytes have 65536 pairs: with many elements, or a constant operand, it pays to compute each pair once.
    std::vector<uint8_t> table;
    const bool single_b = std::all_of(s.b, s.b + 4, [](int64_t stride) { return stride == 0; });
    if (single_b) {
        table.resize(256);
        for (int i = 0; i < 256; ++i) table[static_cast<size_t>(i)] = one(static_cast<uint8_t>(i), *b);
    } else if (count >= 65536) {
        table.resize(65536);
        for (int i = 0; i < 65536; ++i) {
            table[static_cast<size_t>(i)] = one(static_cast<uint8_t>(i >> 8), static_cast<uint8_t>(i));
        }
    }
    const uint8_t* look = table.data();
    if (single_b && std::all_of(s.a, s.a + 4, [](int64_t stride) { return stride != 0; })) {
        for (size_t i = 0; i < count; ++i) out[i] = look[a[i]];
        return;
    }
    for (int64_t i = 0; i < s.shape[0]; ++i) {
        for (int64_t j = 0; j < s.shape[1]; ++j) {
            for (int64_t k = 0; k < s.shape[2]; ++k) {
                const uint8_t* pa = a + i * s.a[0] + j * s.a[1] + k * s.a[2];
                const uint8_t* pb = b + i * s.b[0] + j * s.b[1] + k * s.b[2];
                for (int64_t l = 0; l < s.shape[3]; ++l) {
                    const uint8_t x = pa[l * s.a[3]], y = pb[l * s.b[3]];
                    *out++ = single_b ? look[x] : look != nullptr ? look[x << 8 | y] : one(x, y);
                }
            }
        }
    }
}

void reduce_rows(int op, const float* rows, size_t count, size_t width, float* out) {
    if (op == 1) {
        rows_of<1>(rows, count, width, out);
    } else if (op == 2) {
        rows_of<2>(rows, count, width, out);
    } else {
        rows_of<0>(rows, count, width, out);
    }
}

void matmul(const float* a, const float* b, const float* bias, float* out, size_t rows, size_t inner, size_t columns) {
    for (size_t r = 0; r < rows; ++r) {
        float* row = out + r * columns;
        std::copy(bias, bias + columns, row);
        for (size_t i = 0; i < inner; ++i) {
            const float left = a[r * inner + i];
            const float* right = b + i * columns;
            for (size_t c = 0; c < columns; ++c) row[c] = row[c] + left * right[c];
        }
    }
}

}  // namespace openkpu
