#include "bound_ops.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <type_traits>

#include "tensor_ops.hpp"

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace openkpu::bound {

int64_t View::elements() const {
    int64_t n = 1;
    for (int i = 0; i < rank; ++i) n *= shape[i];
    return n;
}

bool View::dense() const {
    int64_t step = item;
    for (int i = rank - 1; i >= 0; --i) {
        if (shape[i] != 1 && stride[i] != step) return false;
        step *= shape[i];
    }
    return true;
}

namespace {

// Loops over operands of one shape: the dimensions of size 1 are dropped, neighbours that can be are merged, and body
// gets one row at a time.
template <int N>
struct Loops {
    int rank = 0;
    int64_t shape[max_rank];
    int64_t stride[N][max_rank];

    explicit Loops(const View* const (&views)[N]) {
        const View& first = *views[0];
        for (int i = 0; i < first.rank; ++i) {
            if (first.shape[i] == 1) continue;
            bool merge = rank > 0;
            for (int k = 0; k < N; ++k) merge = merge && stride[k][rank - 1] == views[k]->stride[i] * first.shape[i];
            if (merge) {
                shape[rank - 1] *= first.shape[i];
            } else {
                shape[rank++] = first.shape[i];
            }
            for (int k = 0; k < N; ++k) stride[k][rank - 1] = views[k]->stride[i];
        }
        if (rank == 0) {
            shape[rank] = 1;
            for (int k = 0; k < N; ++k) stride[k][rank] = views[k]->item;
            ++rank;
        }
    }

    template <typename Body>
    void run(char* const (&data)[N], Body body) const {
        char* at[N];
        std::copy(std::begin(data), std::end(data), at);
        step(0, at, body);
    }

  private:
    template <typename Body>
    void step(int d, char** at, Body& body) const {
        if (d == rank - 1) {
            body(at, shape[d]);
            return;
        }
        char* here[N];
        std::copy(at, at + N, here);
        for (int64_t i = 0; i < shape[d]; ++i) {
            char* next[N];
            std::copy(here, here + N, next);
            step(d + 1, next, body);
            for (int k = 0; k < N; ++k) here[k] += stride[k][d];
        }
    }
};

template <typename T>
T& at(char* p, int64_t bytes) {
    return *reinterpret_cast<T*>(p + bytes);
}

template <typename T>
void copy_rows(const Loops<2>& loops, const View& src, const View& dst) {
    const int last = loops.rank - 1;
    const int64_t s = loops.stride[0][last], d = loops.stride[1][last];
    constexpr int64_t item = sizeof(T);
    loops.run({src.data, dst.data}, [=](char** p, int64_t n) {
        if (s == item && d == item) {
            std::memcpy(p[1], p[0], static_cast<size_t>(n * item));
        } else if (d == item) {
            T* to = reinterpret_cast<T*>(p[1]);
            for (int64_t i = 0; i < n; ++i) to[i] = at<T>(p[0], i * s);
        } else {
            for (int64_t i = 0; i < n; ++i) at<T>(p[1], i * d) = at<T>(p[0], i * s);
        }
    });
}

// The last two dimensions in blocks, where source and target run in different directions.
template <typename T>
void copy_turned(const Loops<2>& loops, const View& src, const View& dst) {
    constexpr int64_t block = 32;
    const int r = loops.rank - 2, c = loops.rank - 1;
    Loops<2> outer = loops;
    outer.rank = loops.rank - 1;
    outer.shape[r] = 1;
    const int64_t rows = loops.shape[r], columns = loops.shape[c];
    const int64_t sr = loops.stride[0][r], sc = loops.stride[0][c], dr = loops.stride[1][r], dc = loops.stride[1][c];
    outer.run({src.data, dst.data}, [=](char** p, int64_t) {
        for (int64_t y = 0; y < rows; y += block) {
            for (int64_t x = 0; x < columns; x += block) {
                const int64_t ye = std::min(rows, y + block), xe = std::min(columns, x + block);
                for (int64_t i = y; i < ye; ++i) {
                    for (int64_t j = x; j < xe; ++j) at<T>(p[1], i * dr + j * dc) = at<T>(p[0], i * sr + j * sc);
                }
            }
        }
    });
}

template <typename T>
void copy_as(const View& src, const View& dst) {
    const Loops<2> loops({&src, &dst});
    const int last = loops.rank - 1;
    const bool straight = loops.stride[0][last] == loops.stride[1][last] || loops.rank == 1;
    if (!straight && loops.shape[last] >= 8 && loops.shape[last - 1] >= 8) {
        copy_turned<T>(loops, src, dst);
    } else {
        copy_rows<T>(loops, src, dst);
    }
}

// Bring the dimension along which both operands are dense to the end, for loops that work on rows.
void sort_dimensions(View& a, View& b) {
    for (int i = 1; i < a.rank; ++i) {
        for (int j = i; j > 0 && std::abs(b.stride[j - 1]) < std::abs(b.stride[j]); --j) {
            std::swap(a.shape[j - 1], a.shape[j]), std::swap(b.shape[j - 1], b.shape[j]);
            std::swap(a.stride[j - 1], a.stride[j]), std::swap(b.stride[j - 1], b.stride[j]);
        }
    }
}

}  // namespace

void copy(const View& source, const View& target) {
    View src = source, dst = target;
    sort_dimensions(src, dst);
    switch (src.item) {
        case 1: return copy_as<uint8_t>(src, dst);
        case 2: return copy_as<uint16_t>(src, dst);
        case 4: return copy_as<uint32_t>(src, dst);
        default: return copy_as<uint64_t>(src, dst);
    }
}

void fill(const char* value, const View& dst) {
    View src = dst;
    src.data = const_cast<char*>(value);
    std::fill(src.stride, src.stride + max_rank, 0);
    const Loops<2> loops({&src, &dst});
    const int64_t item = dst.item, step = loops.stride[1][loops.rank - 1];
    loops.run({src.data, dst.data}, [=](char** p, int64_t n) {
        if (item == 1 && step == 1) {
            std::memset(p[1], *value, static_cast<size_t>(n));
        } else if (item == 4 && step == 4) {
            uint32_t v;
            std::memcpy(&v, value, 4);
            std::fill_n(reinterpret_cast<uint32_t*>(p[1]), n, v);
        } else {
            for (int64_t i = 0; i < n; ++i) std::memcpy(p[1] + i * step, value, static_cast<size_t>(item));
        }
    });
}

void lookup(const View& src, const uint8_t* table, const View& dst) {
    const Loops<2> loops({&src, &dst});
    const int64_t s = loops.stride[0][loops.rank - 1], d = loops.stride[1][loops.rank - 1];
    loops.run({src.data, dst.data}, [=](char** p, int64_t n) {
        for (int64_t i = 0; i < n; ++i) p[1][i * d] = static_cast<char>(table[static_cast<uint8_t>(p[0][i * s])]);
    });
}

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
void quantize_as(const View& src, const View& dst, float multiplier, float offset) {
    constexpr float low = std::numeric_limits<T>::min(), high = std::numeric_limits<T>::max();
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
void dequantize_as(const View& src, const View& dst, float multiplier, float offset) {
    const Loops<2> loops({&src, &dst});
    const int64_t s = loops.stride[0][loops.rank - 1], d = loops.stride[1][loops.rank - 1];
    loops.run({src.data, dst.data}, [=](char** p, int64_t n) {
        if (s == 1 && d == 4) {
            const T* from = reinterpret_cast<const T*>(p[0]);
            float* to = reinterpret_cast<float*>(p[1]);
            for (int64_t i = 0; i < n; ++i) to[i] = static_cast<float>(from[i]) * multiplier + offset;
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

namespace {

inline float clamped(float v, float low, float high) {
    v = high < v ? high : v;
    return v < low ? low : v;
}

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

inline float least(float a, float b) { return b < a ? b : a; }
inline float greatest(float a, float b) { return a < b ? b : a; }

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

namespace {

int64_t floor_div(int64_t a, int64_t b) { return a / b - (a % b != 0 && (a < 0) != (b < 0)); }

// The outputs whose tap k lies in the picture: [first, stop).
struct Span {
    int64_t first, stop, start;  // start: input of the first
};

Span span(int64_t size, int64_t out, int64_t tap, int64_t stride) {
    const int64_t first = std::max<int64_t>(0, -floor_div(tap, stride));
    const int64_t stop = std::min(out, floor_div(size - 1 - tap, stride) + 1);
    return {first, std::max(first, stop), first * stride + tap};
}

// A dense copy of a tensor that is not, or its own data.
struct Dense {
    std::vector<float> store;
    const float* data;

    explicit Dense(const View& v) : data(reinterpret_cast<const float*>(v.data)) {
        if (v.dense()) return;
        store.resize(static_cast<size_t>(v.elements()));
        View to = v;
        to.data = reinterpret_cast<char*>(store.data());
        int64_t step = v.item;
        for (int i = v.rank - 1; i >= 0; --i) to.stride[i] = step, step *= v.shape[i];
        copy(v, to);
        data = store.data();
    }
};

// Where results go: the tensor itself where it is dense, else a buffer that is copied out at the end.
struct Result {
    View view;
    std::vector<float> store;
    float* data;

    explicit Result(const View& v) : view(v), data(reinterpret_cast<float*>(v.data)) {
        if (v.dense()) return;
        store.resize(static_cast<size_t>(v.elements()));
        data = store.data();
    }

    void finish() {
        if (store.empty()) return;
        View from = view;
        from.data = reinterpret_cast<char*>(store.data());
        int64_t step = view.item;
        for (int i = view.rank - 1; i >= 0; --i) from.stride[i] = step, step *= view.shape[i];
        copy(from, view);
    }
};

template <typename Op>
void window_rows(const float* src, float* dst, const View& in, const View& out, const Window& w, Op op) {
    const int64_t h = in.shape[2], width = in.shape[3], oh = out.shape[2], ow = out.shape[3];
    for (int64_t m = 0; m < in.shape[0] * in.shape[1]; ++m, src += h * width) {
        for (int64_t oy = 0; oy < oh; ++oy, dst += ow) {
            for (int64_t ky = 0; ky < w.kernel[0]; ++ky) {
                const int64_t y = oy * w.stride[0] - w.before[0] + ky * w.dilation[0];
                if (y < 0 || y >= h) continue;
                const float* row = src + y * width;
                for (int64_t kx = 0; kx < w.kernel[1]; ++kx) {
                    const Span s = span(width, ow, kx * w.dilation[1] - w.before[1], w.stride[1]);
                    const float* x = row + s.start;
                    const int64_t step = w.stride[1], n = s.stop - s.first;
                    float* to = dst + s.first;
                    if (step == 1) {
                        for (int64_t i = 0; i < n; ++i) to[i] = op(to[i], x[i]);
                    } else {
                        for (int64_t i = 0; i < n; ++i) to[i] = op(to[i], x[i * step]);
                    }
                }
            }
        }
    }
}

// Minimum and maximum, first along the rows and then along the columns. Of equal values (-0 and 0) the first in the order
// of the window stays, as without the detour.
template <typename Op>
void window_in_two(const float* src, float* dst, const View& in, const View& out, const Window& w, float init, Op op) {
    const int64_t h = in.shape[2], width = in.shape[3], oh = out.shape[2], ow = out.shape[3];
    std::vector<float> rows(static_cast<size_t>(h * ow));
    std::vector<Span> spans;
    for (int64_t k = 0; k < w.kernel[1]; ++k) {
        spans.push_back(span(width, ow, k * w.dilation[1] - w.before[1], w.stride[1]));
    }
    for (int64_t m = 0; m < in.shape[0] * in.shape[1]; ++m, src += h * width, dst += oh * ow) {
        std::fill(rows.begin(), rows.end(), init);
        for (int64_t y = 0; y < h; ++y) {
            const float* x = src + y * width;
            float* to = rows.data() + y * ow;
            for (const Span& s : spans) {
                for (int64_t i = s.first, j = s.start; i < s.stop; ++i, j += w.stride[1]) to[i] = op(to[i], x[j]);
            }
        }
        for (int64_t oy = 0; oy < oh; ++oy) {
            float* to = dst + oy * ow;
            for (int64_t k = 0; k < w.kernel[0]; ++k) {
                const int64_t y = oy * w.stride[0] - w.before[0] + k * w.dilation[0];
                if (y < 0 || y >= h) continue;
                const float* x = rows.data() + y * ow;
                for (int64_t i = 0; i < ow; ++i) to[i] = op(to[i], x[i]);
            }
        }
    }
}

// How many taps of each output lie in the picture, along one direction.
std::vector<int64_t> counts(int64_t size, int64_t out, int64_t kernel, int64_t dilation, int64_t before, int64_t stride) {
    std::vector<int64_t> n(static_cast<size_t>(out), 0);
    for (int64_t k = 0; k < kernel; ++k) {
        const Span s = span(size, out, k * dilation - before, stride);
        for (int64_t i = s.first; i < s.stop; ++i) ++n[static_cast<size_t>(i)];
    }
    return n;
}

}  // namespace

void reduce_window(Reduce op, const View& src, const View& dst, const Window& w, float init) {
    const Dense in(src);
    Result out(dst);
    const int64_t n = dst.elements(), oh = dst.shape[2], ow = dst.shape[3];
    std::fill_n(out.data, n, init);
    switch (op) {
        case Reduce::min: window_in_two(in.data, out.data, src, dst, w, init, least); break;
        case Reduce::max: window_in_two(in.data, out.data, src, dst, w, init, greatest); break;
        default: window_rows(in.data, out.data, src, dst, w, [](float a, float b) { return a + b; });
    }
    if (op == Reduce::mean) {
        const auto rows = counts(src.shape[2], oh, w.kernel[0], w.dilation[0], w.before[0], w.stride[0]);
        const auto columns = counts(src.shape[3], ow, w.kernel[1], w.dilation[1], w.before[1], w.stride[1]);
        float* p = out.data;
        for (int64_t m = 0; m < dst.shape[0] * dst.shape[1]; ++m) {
            for (int64_t y = 0; y < oh; ++y) {
                for (int64_t x = 0; x < ow; ++x, ++p) {
                    *p /= static_cast<float>(rows[static_cast<size_t>(y)] * columns[static_cast<size_t>(x)]);
                }
            }
        }
    }
    for (int64_t i = 0; i < n; ++i) out.data[i] = clamped(out.data[i], w.low, w.high);
    out.finish();
}

namespace {

// Outputs of several rows at a time, so that one addition need not wait for the other; each row keeps its order.
template <typename Op>
void reduce_rows(const float* x, int64_t rows, int64_t n, float init, float* dst, Op op) {
    constexpr int64_t lanes = 8;
    for (int64_t r = 0; r < rows; r += lanes) {
        const int64_t m = std::min(lanes, rows - r);
        float acc[lanes];
        std::fill(acc, acc + lanes, init);
        const float* p = x + r * n;
        if (m == lanes) {
            for (int64_t i = 0; i < n; ++i) {
                for (int64_t k = 0; k < lanes; ++k) acc[k] = op(acc[k], p[k * n + i]);
            }
        } else {
            for (int64_t k = 0; k < m; ++k) {
                for (int64_t i = 0; i < n; ++i) acc[k] = op(acc[k], p[k * n + i]);
            }
        }
        std::copy(acc, acc + m, dst + r);
    }
}

}  // namespace

void reduce(Reduce op, const View& src, int reduced, const View& dst, float init, bool divide, float factor) {
    const Dense in(src);
    Result out(dst);
    int64_t n = 1;
    for (int i = src.rank - reduced; i < src.rank; ++i) n *= src.shape[i];
    const int64_t rows = src.elements() / n;
    switch (op) {
        case Reduce::min: reduce_rows(in.data, rows, n, init, out.data, least); break;
        case Reduce::max: reduce_rows(in.data, rows, n, init, out.data, greatest); break;
        default: reduce_rows(in.data, rows, n, init, out.data, [](float a, float b) { return a + b; });
    }
    if (op == Reduce::mean) {
        for (int64_t i = 0; i < rows; ++i) out.data[i] = divide ? out.data[i] / factor : out.data[i] * factor;
    }
    out.finish();
}

Conv prepare(const Window& window, int64_t groups, const float* weights, const float* bias, const int64_t shape[4],
             int64_t out_width) {
    Conv c{window, groups, weights, bias, {}};
    const int64_t oc = shape[0], taps = shape[1] * shape[2] * shape[3];
    if (groups == 1 && out_width < 16 && oc >= 8) {
        c.turned.resize(static_cast<size_t>(oc * taps));
        for (int64_t o = 0; o < oc; ++o) {
            for (int64_t t = 0; t < taps; ++t) c.turned[static_cast<size_t>(t * oc + o)] = weights[o * taps + t];
        }
    }
    return c;
}

namespace {

// Short rows: all output channels of one pixel at a time.
void conv_pixels(const Conv& c, const float* src, float* dst, const View& in, const View& out, const int64_t k[4]) {
    const Window& w = c.window;
    const int64_t h = in.shape[2], width = in.shape[3], oc = k[0], oh = out.shape[2], ow = out.shape[3];
    std::vector<float> acc(static_cast<size_t>(oc));
    for (int64_t oy = 0; oy < oh; ++oy) {
        for (int64_t ox = 0; ox < ow; ++ox) {
            std::copy(c.bias, c.bias + oc, acc.begin());
            for (int64_t ic = 0; ic < k[1]; ++ic) {
                for (int64_t ky = 0; ky < k[2]; ++ky) {
                    const int64_t y = oy * w.stride[0] - w.before[0] + ky * w.dilation[0];
                    if (y < 0 || y >= h) continue;
                    for (int64_t kx = 0; kx < k[3]; ++kx) {
                        const int64_t x = ox * w.stride[1] - w.before[1] + kx * w.dilation[1];
                        if (x < 0 || x >= width) continue;
                        const float v = src[(ic * h + y) * width + x];
                        const float* weight = c.turned.data() + ((ic * k[2] + ky) * k[3] + kx) * oc;
                        float* a = acc.data();
                        for (int64_t o = 0; o < oc; ++o) a[o] += v * weight[o];
                    }
                }
            }
            for (int64_t o = 0; o < oc; ++o) {
                dst[(o * oh + oy) * ow + ox] = clamped(acc[static_cast<size_t>(o)], w.low, w.high);
            }
        }
    }
}

}  // namespace

void conv2d(const Conv& c, const View& src, const View& dst, const int64_t kernel_shape[4]) {
    const Dense in(src);
    Result out(dst);
    const int64_t in_one = src.shape[1] * src.shape[2] * src.shape[3];
    const int64_t out_one = dst.shape[1] * dst.shape[2] * dst.shape[3];
    const Window& w = c.window;
    if (c.turned.empty()) {
        const openkpu::Window taps{src.shape[0],    src.shape[1],    src.shape[2],  src.shape[3],  dst.shape[1],
                                   c.groups,        dst.shape[2],    dst.shape[3],  w.kernel[0],   w.kernel[1],
                                   w.stride[0],     w.stride[1],     w.dilation[0], w.dilation[1], w.before[0],
                                   w.before[1],     0};
        taps_f32(taps, in.data, c.weights, c.bias, out.data);
        for (int64_t i = 0; i < src.shape[0] * out_one; ++i) out.data[i] = clamped(out.data[i], w.low, w.high);
    } else {
        for (int64_t b = 0; b < src.shape[0]; ++b) {
            conv_pixels(c, in.data + b * in_one, out.data + b * out_one, src, dst, kernel_shape);
        }
    }
    out.finish();
}

namespace {

template <typename T>
void nearest_as(const View& src, const View& dst, const int64_t* rows, const int64_t* columns) {
    for (int64_t n = 0; n < dst.shape[0]; ++n) {
        for (int64_t c = 0; c < dst.shape[1]; ++c) {
            char* from = src.data + n * src.stride[0] + c * src.stride[1];
            char* to = dst.data + n * dst.stride[0] + c * dst.stride[1];
            for (int64_t y = 0; y < dst.shape[2]; ++y) {
                char* row = from + rows[y] * src.stride[2];
                char* out = to + y * dst.stride[2];
                for (int64_t x = 0; x < dst.shape[3]; ++x) {
                    at<T>(out, x * dst.stride[3]) = at<T>(row, columns[x] * src.stride[3]);
                }
            }
        }
    }
}

}  // namespace

void resize_nearest(const View& src, const View& dst, const int64_t* rows, const int64_t* columns) {
    if (src.item == 1) return nearest_as<uint8_t>(src, dst, rows, columns);
    nearest_as<uint32_t>(src, dst, rows, columns);
}

void matmul(const float* a, const float* b, const float* bias, float* dst, int64_t m, int64_t k, int64_t n, float low,
            float high) {
    openkpu::matmul(a, b, bias, dst, static_cast<size_t>(m), static_cast<size_t>(k), static_cast<size_t>(n));
    for (int64_t i = 0; i < m * n; ++i) dst[i] = clamped(dst[i], low, high);
}

}  // namespace openkpu::bound
