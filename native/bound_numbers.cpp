// Element by element: numbers of 8 bits and float32, and arithmetic of two tensors.
#include <cmath>
#include <limits>
#include <type_traits>
#include <utility>
#include <vector>

#include "bound_loops.hpp"

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace openkpu::bound {
namespace {

// Rounds to the nearest integer, halves to even, for |v| < 2^22: what is added pushes the fraction out of the number.
inline float rounded(float v) { return (v + 12582912.0f) - 12582912.0f; }

// A dense row; returns how many of its elements were done.
template <typename T>
int64_t quantize_row(const float* from, T* to, int64_t n, float multiplier, float offset) {
    int64_t i = 0;
#if defined(__SSE2__)
    // The conversion rounds halves to even; the packs saturate below, and what is far below converts to the least int.
    const __m128 m = _mm_set1_ps(multiplier), b = _mm_set1_ps(offset);
    const __m128 top = _mm_set1_ps(std::numeric_limits<T>::max());
    const auto four = [&](const float* x) {
        const __m128 v = _mm_add_ps(_mm_mul_ps(_mm_loadu_ps(x), m), b);
        return _mm_cvtps_epi32(_mm_min_ps(v, top));  // top also for what is not a number
    };
    for (; i + 16 <= n; i += 16) {
        const __m128i low = _mm_packs_epi32(four(from + i), four(from + i + 4));
        const __m128i high = _mm_packs_epi32(four(from + i + 8), four(from + i + 12));
        const __m128i bytes = std::is_signed_v<T> ? _mm_packs_epi16(low, high) : _mm_packus_epi16(low, high);
        _mm_storeu_si128(reinterpret_cast<__m128i*>(to + i), bytes);
    }
#else
    (void)from, (void)to, (void)n, (void)multiplier, (void)offset;
#endif
    return i;
}

template <typename T>
void quantize_as(View src, View dst, float multiplier, float offset) {
    constexpr float low = std::numeric_limits<T>::min(), high = std::numeric_limits<T>::max();
    sort_dimensions(src, dst);
    const Loops<2> loops({&src, &dst});
    const int64_t s = loops.stride[0][loops.rank - 1], d = loops.stride[1][loops.rank - 1];
    const auto one = [=](float x) {
        float v = x * multiplier + offset;
        v = v < high ? v : high;  // also what is not a number
        v = v > low ? v : low;
        return static_cast<T>(static_cast<int32_t>(rounded(v)));
    };
    loops.run({src.data, dst.data}, [=](char** p, int64_t n) {
        if (s == 4 && d == 1) {
            const float* from = reinterpret_cast<const float*>(p[0]);
            T* to = reinterpret_cast<T*>(p[1]);
            for (int64_t i = quantize_row(from, to, n, multiplier, offset); i < n; ++i) to[i] = one(from[i]);
        } else {
            for (int64_t i = 0; i < n; ++i) at<T>(p[1], i * d) = one(at<float>(p[0], i * s));
        }
    });
}

template <typename T>
void dequantize_row(const T* from, float* to, int64_t n, float multiplier, float offset) {
    for (int64_t i = 0; i < n; ++i) to[i] = static_cast<float>(from[i]) * multiplier + offset;
}

// Where the source is dense along dimension r and the target along those after it: the bytes of some rows are turned first.
template <typename T>
void dequantize_turned(const Loops<2>& loops, int r, const View& src, const View& dst, float multiplier, float offset) {
    constexpr int64_t most = 16, wide = 256;
    std::vector<int64_t> from{0};       // of each column
    for (int d = r + 1; d < loops.rank; ++d) {
        std::vector<int64_t> next;
        for (const int64_t base : from) {
            for (int64_t i = 0; i < loops.shape[d]; ++i) next.push_back(base + i * loops.stride[0][d]);
        }
        from = std::move(next);
    }
    const int64_t rows = loops.shape[r], columns = static_cast<int64_t>(from.size()), step = loops.stride[1][r];
    Loops<2> outer = loops;
    outer.rank = r + 1, outer.shape[r] = 1;
    outer.run({src.data, dst.data}, [&](char** p, int64_t) {
        T turned[most * wide];
        for (int64_t x = 0; x < columns; x += wide) {
            const int64_t n = std::min(wide, columns - x);
            for (int64_t y = 0; y < rows; y += most) {
                const int64_t m = std::min(most, rows - y);
                for (int64_t i = 0; i < n; ++i) {
                    const T* column = reinterpret_cast<const T*>(p[0] + from[static_cast<size_t>(x + i)]) + y;
                    for (int64_t k = 0; k < m; ++k) turned[k * n + i] = column[k];
                }
                for (int64_t k = 0; k < m; ++k) {
                    float* to = reinterpret_cast<float*>(p[1] + (y + k) * step) + x;
                    dequantize_row(turned + k * n, to, n, multiplier, offset);
                }
            }
        }
    });
}

// The dimension r that dequantize_turned() wants, or -1.
int turned_dimension(const Loops<2>& loops) {
    int64_t dense = 4;
    for (int r = loops.rank - 1; r >= 0; --r) {
        if (loops.stride[0][r] == 1) return dense >= 16 ? r : -1;
        if (loops.stride[1][r] != dense) return -1;
        dense *= loops.shape[r];
    }
    return -1;
}

template <typename T>
void dequantize_as(View src, View dst, float multiplier, float offset) {
    sort_dimensions(src, dst);
    const Loops<2> loops({&src, &dst});
    const int last = loops.rank - 1;
    const int64_t s = loops.stride[0][last], d = loops.stride[1][last];
    if (const int r = turned_dimension(loops); r >= 0) {
        return dequantize_turned<T>(loops, r, src, dst, multiplier, offset);
    }
    loops.run({src.data, dst.data}, [=](char** p, int64_t n) {
        if (s == 1 && d == 4) {
            dequantize_row(reinterpret_cast<const T*>(p[0]), reinterpret_cast<float*>(p[1]), n, multiplier, offset);
        } else {
            for (int64_t i = 0; i < n; ++i) {
                at<float>(p[1], i * d) = static_cast<float>(at<T>(p[0], i * s)) * multiplier + offset;
            }
        }
    });
}

}  // namespace

void quantize(const View& src, const View& dst, float multiplier, float offset, bool is_signed) {
    if (is_signed) return quantize_as<int8_t>(src, dst, multiplier, offset);
    quantize_as<uint8_t>(src, dst, multiplier, offset);
}

void dequantize(const View& src, const View& dst, float multiplier, float offset, bool is_signed) {
    if (is_signed) return dequantize_as<int8_t>(src, dst, multiplier, offset);
    dequantize_as<uint8_t>(src, dst, multiplier, offset);
}

void dequantize_channels(const View& src, const View& dst, const float* multiplier, const float* offset) {
    for (int64_t c = 0; c < dst.shape[0]; ++c) {
        const auto* from = reinterpret_cast<const uint8_t*>(src.data + c * src.stride[0]);
        dequantize_row(from, reinterpret_cast<float*>(dst.data + c * dst.stride[0]), dst.shape[1], multiplier[c], offset[c]);
    }
}

void quantize_away(const View& src, const View& dst, float bias, float factor) {
    const float* from = reinterpret_cast<const float*>(src.data);
    auto* to = reinterpret_cast<uint8_t*>(dst.data);
    for (int64_t i = 0; i < dst.elements(); ++i) {
        float v = (from[i] - bias) * factor;
        v = v > 256.0F || v != v ? 256.0F : v < -1.0F ? -1.0F : v;
        const double rounded = std::floor(static_cast<double>(v) + 0.5);
        to[i] = static_cast<uint8_t>(rounded < 0 ? 0 : rounded > 255 ? 255 : rounded);
    }
}

namespace {

template <typename Op>
void binary_as(const View& a, const View& b, const View& dst, float low, float high, Op op) {
    const Loops<3> loops({&dst, &a, &b});
    const int last = loops.rank - 1;
    const int64_t d = loops.stride[0][last], sa = loops.stride[1][last], sb = loops.stride[2][last];
    loops.run({dst.data, a.data, b.data}, [=](char** p, int64_t n) {
        float* to = reinterpret_cast<float*>(p[0]);
        const float* x = reinterpret_cast<const float*>(p[1]);
        const float* y = reinterpret_cast<const float*>(p[2]);
        if (d == 4 && sa == 4 && sb == 4) {
            for (int64_t i = 0; i < n; ++i) to[i] = clamped(op(x[i], y[i]), low, high);
        } else if (d == 4 && sa == 4 && sb == 0) {
            const float v = y[0];
            for (int64_t i = 0; i < n; ++i) to[i] = clamped(op(x[i], v), low, high);
        } else if (d == 4 && sa == 0 && sb == 4) {
            const float v = x[0];
            for (int64_t i = 0; i < n; ++i) to[i] = clamped(op(v, y[i]), low, high);
        } else {
            for (int64_t i = 0; i < n; ++i) {
                at<float>(p[0], i * d) = clamped(op(at<float>(p[1], i * sa), at<float>(p[2], i * sb)), low, high);
            }
        }
    });
}

}  // namespace

void binary(Binary op, const View& a, const View& b, const View& dst, float low, float high) {
    switch (op) {
        case Binary::add: return binary_as(a, b, dst, low, high, [](float x, float y) { return x + y; });
        case Binary::sub: return binary_as(a, b, dst, low, high, [](float x, float y) { return x - y; });
        case Binary::mul: return binary_as(a, b, dst, low, high, [](float x, float y) { return x * y; });
        case Binary::div: return binary_as(a, b, dst, low, high, [](float x, float y) { return x / y; });
        case Binary::min: return binary_as(a, b, dst, low, high, least);
        case Binary::max: return binary_as(a, b, dst, low, high, greatest);
    }
}

}  // namespace openkpu::bound
