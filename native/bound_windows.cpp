// Windows and sums: reductions, pooling, convolution, products of matrices.
#include <cmath>
#include <cstring>

#include "bound_loops.hpp"
#include "tensor_ops.hpp"

namespace openkpu::bound {
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

// Minimum and maximum, first along the rows and then along the columns, of channels that lie side by side: short rows
// leave nothing else to make vectors of. Of equal values (-0 and 0) the first in the order of the window stays, as without
// the detour.
template <typename Op>
void window_in_two(const float* src, float* dst, const View& in, const View& out, const Window& w, float init, Op op) {
    constexpr int64_t most = 32;
    const int64_t h = in.shape[2], width = in.shape[3], oh = out.shape[2], ow = out.shape[3];
    std::vector<float> pixels(static_cast<size_t>(h * width * most)), rows(static_cast<size_t>(h * ow * most));
    const auto combine = [op](float* to, const float* from) {
        for (int64_t i = 0; i < most; ++i) to[i] = op(to[i], from[i]);
    };
    const int64_t maps = in.shape[0] * in.shape[1];
    for (int64_t first = 0; first < maps; first += most) {
        const int64_t n = std::min(most, maps - first), size = h * width;
        for (int64_t c = 0; c < n; ++c) {
            for (int64_t i = 0; i < size; ++i) pixels[static_cast<size_t>(i * most + c)] = src[(first + c) * size + i];
        }
        std::fill(rows.begin(), rows.end(), init);
        for (int64_t kx = 0; kx < w.kernel[1]; ++kx) {
            const Span s = span(width, ow, kx * w.dilation[1] - w.before[1], w.stride[1]);
            for (int64_t y = 0; y < h; ++y) {
                for (int64_t i = s.first, j = s.start; i < s.stop; ++i, j += w.stride[1]) {
                    combine(rows.data() + (y * ow + i) * most, pixels.data() + (y * width + j) * most);
                }
            }
        }
        for (int64_t oy = 0; oy < oh; ++oy) {
            for (int64_t ox = 0; ox < ow; ++ox) {
                float best[most];
                std::fill_n(best, most, init);
                for (int64_t ky = 0; ky < w.kernel[0]; ++ky) {
                    const int64_t y = oy * w.stride[0] - w.before[0] + ky * w.dilation[0];
                    if (y >= 0 && y < h) combine(best, rows.data() + (y * ow + ox) * most);
                }
                for (int64_t c = 0; c < n; ++c) dst[((first + c) * oh + oy) * ow + ox] = best[c];
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

void matmul(const float* a, const float* b, const float* bias, float* dst, int64_t m, int64_t k, int64_t n, float low,
            float high) {
    openkpu::matmul(a, b, bias, dst, static_cast<size_t>(m), static_cast<size_t>(k), static_cast<size_t>(n));
    for (int64_t i = 0; i < m * n; ++i) dst[i] = clamped(dst[i], low, high);
}

}  // namespace openkpu::bound
