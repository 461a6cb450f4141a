#include "quantizing.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <vector>

// One source for two instruction sets, chosen when the module is loaded. Nothing here depends on the width of vectors: sums
// have kLanes parts whatever the machine has, and no products are fused with sums.
#if defined(OPENKPU_X86) && defined(__GNUC__) && !defined(__clang__) && defined(__GLIBC__)
#define OPENKPU_CLONES __attribute__((target_clones("avx2", "default")))
#define OPENKPU_INLINE inline __attribute__((always_inline))
#else
#define OPENKPU_CLONES
#define OPENKPU_INLINE inline
#endif
#if defined(_MSC_VER)
#define OPENKPU_ALONE __restrict
#else
#define OPENKPU_ALONE __restrict__
#endif

namespace openkpu {
namespace {

constexpr size_t kLanes = 16;

// rint(v) for |v| < 2**22: half to even, and vectors need no instruction for it.
OPENKPU_INLINE float to_whole(float v) {
    constexpr float magic = 12582912.0f;
    return (v + magic) - magic;
}

OPENKPU_INLINE float clamp8(float v) { return v < -128.0f ? -128.0f : v > 127.0f ? 127.0f : v; }

OPENKPU_INLINE double total(double lanes[kLanes]) {
    for (size_t half = kLanes / 2; half > 0; half /= 2) {
        for (size_t k = 0; k < half; ++k) lanes[k] += lanes[k + half];
    }
    return lanes[0];
}

// Sum of n values that lie `step` apart.
OPENKPU_INLINE double sum(const float* x, size_t n, size_t step) {
    if (step != 1) {
        double lanes[4] = {};
        size_t i = 0;
        for (; i + 4 <= n; i += 4) {
            for (size_t k = 0; k < 4; ++k) lanes[k] += static_cast<double>(x[(i + k) * step]);
        }
        for (; i < n; ++i) lanes[0] += static_cast<double>(x[i * step]);
        return (lanes[0] + lanes[1]) + (lanes[2] + lanes[3]);
    }
    double lanes[kLanes] = {};
    size_t i = 0;
    for (; i + kLanes <= n; i += kLanes) {
        for (size_t k = 0; k < kLanes; ++k) lanes[k] += static_cast<double>(x[i + k]);
    }
    for (size_t k = 0; i < n; ++i, ++k) lanes[k] += static_cast<double>(x[i]);
    return total(lanes);
}

OPENKPU_INLINE double sum(const uint8_t* x, size_t n, size_t step) {
    uint64_t whole = 0;
    while (n > 0) {
        const size_t part = std::min<size_t>(n, size_t{1} << 20);
        uint32_t s = 0;
        if (step == 1) {
            for (size_t i = 0; i < part; ++i) s += x[i];
        } else {
            for (size_t i = 0; i < part; ++i) s += x[i * step];
        }
        whole += s, n -= part, x += part * step;
    }
    return static_cast<double>(whole);
}

// The positions o (of count) for which offset + step * o lies inside 0..size-1: the first such place, and how many.
struct Inside {
    size_t first, count;
};

OPENKPU_INLINE Inside inside(long offset, size_t count, size_t step, size_t size) {
    const long s = static_cast<long>(step);
    const long first = offset >= 0 ? offset : offset + s * ((-offset + s - 1) / s);
    const long last = std::min(offset + s * (static_cast<long>(count) - 1), static_cast<long>(size) - 1);
    return {static_cast<size_t>(first), last < first ? 0 : static_cast<size_t>((last - first) / s + 1)};
}

template <typename T>
OPENKPU_INLINE void every_position(const T* x, size_t rows, size_t columns, double* sums) {
    const T* last = x + (rows - 1) * columns;
    const double whole = sum(x, rows * columns, 1);
    const double row[3] = {sum(last, columns, 1), 0.0, sum(x, columns, 1)};
    const double column[3] = {sum(x + columns - 1, rows, columns), 0.0, sum(x, rows, columns)};
    for (size_t i = 0; i < 3; ++i) {
        for (size_t j = 0; j < 3; ++j) {
            double both = 0.0;
            if (i != 1 && j != 1) both = static_cast<double>((i == 0 ? last : x)[j == 0 ? columns - 1 : 0]);
            sums[i * 3 + j] += whole - row[i] - column[j] + both;
        }
    }
}

template <typename T>
OPENKPU_INLINE void means(const T* x, const Maps& m, const Positions& p, const double* pad, double* out) {
    const size_t taps = p.kernel * p.kernel, size = m.rows * m.columns;
    std::fill(out, out + m.channels * taps, 0.0);
    if (p.kernel == 1) {
        const size_t rows = (m.rows + p.step - 1) / p.step;
        const size_t columns = m.columns > p.left ? (m.columns - p.left + p.step - 1) / p.step : 0;
        for (size_t i = 0; i < m.n * m.channels; ++i) {
            const T* map = x + i * size;
            double& s = out[i % m.channels];
            if (p.step == 1) {
                s += sum(map, size, 1);
            } else {
                for (size_t r = 0; r < rows; ++r) s += sum(map + r * p.step * m.columns + p.left, columns, p.step);
            }
        }
        const double count = static_cast<double>(m.n * rows * (p.step == 1 ? m.columns : columns));
        for (size_t c = 0; c < m.channels; ++c) out[c] /= count;
        return;
    }
    if (p.step == 1) {
        for (size_t i = 0; i < m.n * m.channels; ++i) {
            every_position(x + i * size, m.rows, m.columns, out + i % m.channels * taps);
        }
        const double count = static_cast<double>(m.n * size);
        for (size_t c = 0; c < m.channels; ++c) {
            for (size_t t = 0; t < taps; ++t) {
                const size_t there = (m.rows - (t / 3 != 1)) * (m.columns - (t % 3 != 1));
                double& s = out[c * taps + t];
                s = (s + pad[c] * static_cast<double>(m.n) * static_cast<double>(size - there)) / count;
            }
        }
        return;
    }
    const size_t rows = m.rows / p.step, columns = m.columns / p.step;
    Inside ys[3], xs[3];
    for (long k = 0; k < 3; ++k) {
        ys[k] = inside(k - 1, rows, p.step, m.rows);
        xs[k] = inside(k - 1 + static_cast<long>(p.left), columns, p.step, m.columns);
    }
    std::vector<double> row_sums(m.rows * 3);
    for (size_t i = 0; i < m.n * m.channels; ++i) {
        const T* map = x + i * size;
        for (size_t y = 0; y < m.rows; ++y) {
            for (size_t k = 0; k < 3; ++k) row_sums[y * 3 + k] = sum(map + y * m.columns + xs[k].first, xs[k].count, p.step);
        }
        double* s = out + i % m.channels * taps;
        for (size_t t = 0; t < taps; ++t) {
            const Inside& part = ys[t / 3];
            for (size_t o = 0; o < part.count; ++o) s[t] += row_sums[(part.first + o * p.step) * 3 + t % 3];
        }
    }
    const double count = static_cast<double>(m.n * rows * columns);
    for (size_t c = 0; c < m.channels; ++c) {
        for (size_t t = 0; t < taps; ++t) {
            const size_t there = ys[t / 3].count * xs[t % 3].count;
            double& s = out[c * taps + t];
            s = (s + pad[c] * static_cast<double>(m.n) * static_cast<double>(rows * columns - there)) / count;
        }
    }
}

}  // namespace

OPENKPU_CLONES bool observe(const float* x, size_t channels, size_t n, size_t step, float* low, float* high,
                            float* samples) {
    // Floats as whole numbers in the same order: so least and greatest are found in any order, by vectors, and what is not
    // finite lies at the ends.
    constexpr int32_t kInfinity = 0x7f800000;
    const auto key = [](int32_t bits) { return bits ^ ((bits >> 31) & 0x7fffffff); };
    bool finite = true;
    for (size_t c = 0; c < channels; ++c) {
        const float* v = x + c * n;
        int32_t lo = std::numeric_limits<int32_t>::max(), hi = std::numeric_limits<int32_t>::min();
        for (size_t i = 0; i < n; ++i) {
            const int32_t k = key(std::bit_cast<int32_t>(v[i]));
            lo = std::min(lo, k), hi = std::max(hi, k);
        }
        finite = finite && hi < kInfinity && lo > key(static_cast<int32_t>(0xff800000u));
        low[c] = std::bit_cast<float>(key(lo)), high[c] = std::bit_cast<float>(key(hi));
    }
    for (size_t i = 0; i < channels * n; i += step) *samples++ = x[i];
    return finite;
}

OPENKPU_CLONES void tap_means(const uint8_t* x, const Maps& m, const Positions& p, const double* pad, double* out) {
    means(x, m, p, pad, out);
}

OPENKPU_CLONES void tap_means(const float* x, const Maps& m, const Positions& p, const double* pad, double* out) {
    means(x, m, p, pad, out);
}

namespace {

// The rows and columns of the positions: as many as `windows` of rounding.py takes.
struct Grid {
    size_t rows, columns, count;
};

OPENKPU_INLINE Grid grid(const Maps& m, const Positions& p) {
    const size_t rows = (m.rows - m.rows % p.step) / p.step;
    const size_t columns = m.columns > p.left ? (m.columns - p.left + p.step - 1) / p.step : 0;
    return {rows, columns, rows * columns};
}

}  // namespace

size_t window_count(const Maps& m, const Positions& p, size_t thin) {
    return (grid(m, p).count + thin - 1) / thin;
}

OPENKPU_CLONES void windows(const uint8_t* x, const Maps& m, const Positions& p, size_t thin, uint8_t pad, float* out) {
    const Grid g = grid(m, p);
    const size_t taps = p.kernel * p.kernel, count = window_count(m, p, thin), reach = p.kernel / 2;
    // a map with its padding, so that no tap needs a question
    const size_t pitch = m.columns + 2 * reach;
    std::vector<size_t> places(count);
    for (size_t i = 0; i < count; ++i) {
        const size_t at = i * thin;
        places[i] = at / g.columns * p.step * pitch + p.left + at % g.columns * p.step;
    }
    std::vector<uint8_t> padded((m.rows + 2 * reach) * pitch, pad);
    for (size_t c = 0; c < m.channels; ++c) {
        float* const to = out + c * taps * m.n * count;
        for (size_t n = 0; n < m.n; ++n) {
            const uint8_t* map = x + (n * m.channels + c) * m.rows * m.columns;
            for (size_t y = 0; y < m.rows; ++y) {
                std::copy_n(map + y * m.columns, m.columns, padded.data() + (y + reach) * pitch + reach);
            }
            for (size_t t = 0; t < taps; ++t) {
                const uint8_t* from = padded.data() + t / p.kernel * pitch + t % p.kernel;
                float* row = to + (t * m.n + n) * count;
                for (size_t i = 0; i < count; ++i) row[i] = static_cast<float>(from[places[i]]);
            }
        }
        for (size_t t = 0; t < taps; ++t) {
            float* row = to + t * m.n * count;
            const float mean = static_cast<float>(sum(row, m.n * count, 1) / static_cast<double>(m.n * count));
            for (size_t i = 0; i < m.n * count; ++i) row[i] -= mean;
        }
    }
}

namespace {

OPENKPU_INLINE double rounding_error(const float* w, size_t n, float scale) {
    const float inverse = 1.0f / scale;
    double sum = 0.0;
    float squares[64];
    for (size_t i = 0; i < n; i += 64) {
        const size_t part = std::min<size_t>(64, n - i);
        for (size_t k = 0; k < part; ++k) {
            const float e = clamp8(to_whole(w[i + k] * inverse)) * scale - w[i + k];
            squares[k] = e * e;
        }
        for (size_t k = part; k < 64; ++k) squares[k] = 0.0f;
        for (size_t half = 32; half > 0; half /= 2) {
            for (size_t k = 0; k < half; ++k) squares[k] += squares[k + half];
        }
        sum += static_cast<double>(squares[0]);
    }
    return sum;
}

// The best of 96 scales for a row with few weights that are not 0; the finest of equal ones.
OPENKPU_INLINE double scale_of_few(const float* w, size_t n, double base) {
    double found = base, least = std::numeric_limits<double>::infinity();
    float some[8];
    size_t count = 0;
    for (size_t i = 0; i < n && count < 8; ++i) {
        if (w[i] != 0.0f) some[count++] = w[i];
    }
    double errors[96];
    for (size_t k = 0; k < 96; ++k) {
        errors[k] = rounding_error(some, count, static_cast<float>(base * 127 / static_cast<double>(127 - k)));
        least = std::min(least, errors[k]);
    }
    for (size_t k = 0; k < 96; ++k) {
        if (errors[k] <= least * (1 + 1e-9)) {
            found = base * 127 / static_cast<double>(127 - k);
            break;
        }
    }
    return found;
}

}  // namespace

OPENKPU_CLONES void weight_scales(const float* w, size_t rows, size_t n, const double* shrink, size_t shrinks, size_t few, double* out) {
    float finest = std::numeric_limits<float>::infinity();
    std::vector<float> base(rows);
    for (size_t r = 0; r < rows; ++r) {
        const auto [lo, hi] = std::minmax_element(w + r * n, w + (r + 1) * n);
        base[r] = std::max(*hi / 127.0f, -*lo / 128.0f);
        if (base[r] > 0) finest = std::min(finest, base[r]);
    }
    for (size_t r = 0; r < rows; ++r) {
        const float* row = w + r * n;
        // a row of zeros takes the finest scale of the others, so that it does not coarsen the layer's fixed-point numbers
        const double first = base[r] > 0 ? static_cast<double>(base[r])
                                         : std::isfinite(finest) ? static_cast<double>(finest) : 1.0;
        const size_t used = n - static_cast<size_t>(std::count(row, row + n, 0.0f));
        if (used <= few) {
            out[r] = scale_of_few(row, n, first);
            continue;
        }
        double best = std::numeric_limits<double>::infinity();
        out[r] = first;
        for (size_t k = 0; k < shrinks; ++k) {
            const double error = rounding_error(row, n, static_cast<float>(first * shrink[k]));
            if (error < best * (1 - 1e-9)) best = error, out[r] = first * shrink[k];
        }
    }
}

OPENKPU_CLONES void weigh(const int16_t* w, size_t rows, size_t n, const double* means, bool apart, double* product, int64_t* up,
           int64_t* down) {
    for (size_t r = 0; r < rows; ++r) {
        const int16_t* row = w + r * n;
        const double* m = apart ? means + r * n : means;
        double lanes[kLanes] = {};
        int64_t positive = 0, all = 0;
        size_t i = 0;
        for (; i + kLanes <= n; i += kLanes) {
            for (size_t k = 0; k < kLanes; ++k) lanes[k] += static_cast<double>(row[i + k]) * m[i + k];
        }
        for (; i < n; ++i) lanes[i % kLanes] += static_cast<double>(row[i]) * m[i];
        for (i = 0; i < n; ++i) all += row[i], positive += std::max<int>(row[i], 0);
        product[r] = total(lanes), up[r] = positive, down[r] = all - positive;
    }
}

OPENKPU_CLONES void feedback(const Feedback& f) {
    const size_t width = f.last - f.first;
    for (size_t b = 0; b < f.batch; ++b) {
        const float* factor = f.factor + b * f.d * f.d;
        for (size_t r = 0; r < f.rows; ++r) {
            const size_t at = (b * f.rows + r) * f.d;
            float *aim = f.aim + at, *errors = f.errors + (b * f.rows + r) * width;
            for (size_t i = f.first; i < f.last; ++i) {
                const float q = clamp8(to_whole(aim[i]));
                f.out[at + i] = static_cast<int16_t>(q);
                const float error = f.w[at + i] - q;
                errors[i - f.first] = error;
                const float* row = factor + i * f.d;
                for (size_t k = i + 1; k < f.last; ++k) aim[k] += error * row[k];
            }
        }
    }
}

OPENKPU_CLONES size_t fit_segments(const double* x, const double* target, const double* weight, size_t n, CurveSegment segments[16]) {
    constexpr double kInfinity = std::numeric_limits<double>::infinity();
    constexpr size_t kSegments = 16;
    std::vector<double> t(n);
    for (size_t i = 0; i < n; ++i) t[i] = std::min(std::max(target[i], 0.0), 255.0);
    std::vector<double> sums[6];   // of w, wx, wxx, wt, wtx, wtt over the points before
    for (auto& s : sums) s.assign(n + 1, 0.0);
    for (size_t i = 0; i < n; ++i) {
        const double w = weight[i];
        const double terms[6] = {w, w * x[i], w * x[i] * x[i], w * t[i], w * t[i] * x[i], w * t[i] * t[i]};
        for (size_t k = 0; k < 6; ++k) sums[k][i + 1] = sums[k][i] + terms[k];
    }
    // the least cost of one segment over points i..j that starts at i - 1
    const double *w = sums[0].data(), *wx = sums[1].data(), *wxx = sums[2].data();
    const double *wt = sums[3].data(), *wtx = sums[4].data(), *wtt = sums[5].data();
    // cost of the segment over points i..j that starts at i - 1, at the output number `b`; its slope in `m`
    const auto segment = [=](size_t i, size_t j, double a, double b, double& m) {
        const double d0 = w[j + 1] - w[i], d1 = wx[j + 1] - wx[i], d3 = wt[j + 1] - wt[i];
        const double dxx = (wxx[j + 1] - wxx[i]) - 2 * a * d1 + a * a * d0;
        const double rise = ((wtx[j + 1] - wtx[i]) - a * d3) - b * (d1 - a * d0);
        const double ratio = rise / (dxx > 1e-300 ? dxx : 1.0);
        m = dxx > 1e-300 && ratio > 0.0 ? ratio : 0.0;
        return (wtt[j + 1] - wtt[i]) - 2 * b * d3 + b * b * d0 - 2 * m * rise + m * m * dxx;
    };
    const auto start_of = [&](size_t i, int delta) {
        return std::min(std::max(std::floor(t[i > 0 ? i - 1 : 0]) + delta, 0.0), 255.0);
    };
    thread_local std::vector<double> memory;
    memory.resize(std::max(memory.size(), n * n));
    double* const OPENKPU_ALONE cost = memory.data();
    for (size_t i = 0; i < n; ++i) {
        double* const OPENKPU_ALONE costs = cost + i * n;
        const double a = x[i > 0 ? i - 1 : 0], first = start_of(i, -1);
        double m = 0.0;
        for (size_t j = i; j < n; ++j) costs[j] = segment(i, j, a, first, m);
        for (int delta = 0; delta <= 2; ++delta) {
            const double b = start_of(i, delta);
            for (size_t j = i; j < n; ++j) {
                const double c = segment(i, j, a, b, m);
                costs[j] = c < costs[j] ? c : costs[j];
            }
        }
    }
    std::vector<double> level(n + 1), least(n + 1);
    for (size_t j = 0; j <= n; ++j) {
        const double mean = sums[0][j] > 0 ? sums[3][j] / sums[0][j] : 0.0;
        level[j] = j == 0 ? std::nearbyint(t[0]) : std::min(std::max(std::nearbyint(mean), 0.0), 255.0);
        least[j] = sums[5][j] - 2 * level[j] * sums[3][j] + level[j] * level[j] * sums[0][j];
    }
    // least[j]: least cost of the first j points with k segments; back[k][j]: where the last one begins, or -1
    std::vector<std::vector<int>> back(kSegments - 1, std::vector<int>(n + 1, -1));
    std::vector<double> next(n), choice(n);
    for (size_t k = 0; k + 1 < kSegments; ++k) {
        std::fill(next.begin(), next.end(), kInfinity);
        std::fill(choice.begin(), choice.end(), 0.0);
        for (size_t i = 0; i < n; ++i) {
            const double before = least[i], here = static_cast<double>(i);
            const double* const costs = cost + i * n;
            for (size_t j = i; j < n; ++j) {
                const double c = before + costs[j];
                const bool better = c < next[j];
                next[j] = better ? c : next[j], choice[j] = better ? here : choice[j];
            }
        }
        for (size_t j = 1; j <= n; ++j) {
            if (next[j - 1] < least[j] - 1e-15) least[j] = next[j - 1], back[k][j] = static_cast<int>(choice[j - 1]);
        }
    }
    std::vector<CurveSegment> found;
    size_t j = n;
    for (size_t k = kSegments - 1; k-- > 0 && j > 0;) {
        const int i = back[k][j];
        if (i < 0) continue;
        const size_t from = static_cast<size_t>(i), anchor = from > 0 ? from - 1 : 0;
        CurveSegment best{x[anchor], 0.0, 0};
        double least_cost = kInfinity;
        for (int delta = -1; delta <= 2; ++delta) {
            double m = 0.0;
            const double b = start_of(from, delta), c = segment(from, j - 1, x[anchor], b, m);
            if (c < least_cost) least_cost = c, best.slope = m, best.bias = static_cast<int64_t>(b);
        }
        found.push_back(best);
        j = static_cast<size_t>(i);
    }
    found.push_back({-kInfinity, 0.0, static_cast<int64_t>(level[j])});
    std::reverse_copy(found.begin(), found.end(), segments);
    return found.size();
}

void largest(const float* x, size_t n, float* out, size_t count) {
    std::partial_sort_copy(x, x + n, out, out + count, std::greater<float>());
}

OPENKPU_CLONES void histogram(const float* x, size_t n, double low, double high, double* counts, size_t bins) {
    std::fill(counts, counts + bins, 0.0);
    const double factor = static_cast<double>(bins) / (high - low), last = static_cast<double>(bins - 1);
    for (size_t i = 0; i < n; ++i) {
        const double place = (static_cast<double>(x[i]) - low) * factor;
        counts[static_cast<size_t>(std::min(std::max(place, 0.0), last))] += 1.0;
    }
}

OPENKPU_CLONES BatchNormSizes batch_norm(const BatchNormInput& in, int64_t* mul, int64_t* shift, int64_t* add) {
    BatchNormSizes largest{};
    const double limit = static_cast<double>(in.most_mul);
    for (size_t c = 0; c < in.channels; ++c) {
        const double gain = in.weight_scale[c] / in.out_scale[c] * in.units;
        const double bias = std::nearbyint(in.bias[c] / in.out_scale[c] * in.units);
        const double g = std::min(gain, limit);
        int exponent = 0;
        const double fraction = std::frexp(std::max(g, 1e-30), &exponent);
        const int room = in.mul_bits - 2 - exponent + (fraction == 0.5 ? 1 : 0);
        int s = std::min(std::max(room, 0), in.most_shift);
        double m = std::nearbyint(std::ldexp(g, s));
        if (m >= limit) m = std::nearbyint(std::ldexp(g, --s));
        mul[c] = static_cast<int64_t>(m), shift[c] = s;
        largest.gain = std::max(largest.gain, gain), largest.add = std::max(largest.add, std::abs(bias));
        if (std::abs(bias) >= 9e15) continue;    // beyond the field anyway
        add[c] = static_cast<int64_t>(bias);
        const int64_t up = in.up[c], down = in.down[c], zero = in.zero_point;
        for (const int64_t end : {up * (255 - zero) - down * zero, down * (255 - zero) - up * zero}) {
            const int64_t normed = (end * mul[c] >> s) + add[c];
            largest.sum = std::max(largest.sum, std::abs(end)), largest.normed = std::max(largest.normed, std::abs(normed));
        }
    }
    return largest;
}

OPENKPU_CLONES double squared_error(const double* counts, const double* centers, size_t bins, double low, double high) {
    low = std::min(low, 0.0), high = std::max(high, 0.0);
    const double scale = (high - low) / 255;
    double clipped = 0.0, used = 0.0;
    for (size_t i = 0; i < bins; ++i) {
        const double c = centers[i], away = c - std::min(std::max(c, low), high);
        clipped += counts[i] * away * away;
        used += c >= low && c <= high ? counts[i] : 0.0;
    }
    return clipped + used * scale * scale / 12;
}

OPENKPU_CLONES double divergence(const double* counts, const double* centers, size_t bins, double low, double high) {
    low = std::min(low, 0.0), high = std::max(high, 0.0);
    size_t first = 0, last = bins;      // centers rise
    while (first < bins && centers[first] < low) ++first;
    while (last > first && centers[last - 1] > high) --last;
    if (last < first + 2) return std::numeric_limits<double>::infinity();
    std::vector<double> p(counts + first, counts + last);
    for (size_t i = 0; i < first; ++i) p.front() += counts[i];
    for (size_t i = last; i < bins; ++i) p.back() += counts[i];
    double mass[256] = {}, occupied[256] = {}, all = 0.0, kept = 0.0;
    std::vector<uint8_t> level(p.size());
    for (size_t i = 0; i < p.size(); ++i) {
        const double l = std::nearbyint((centers[first + i] - low) / (high - low) * 255);
        level[i] = static_cast<uint8_t>(std::min(std::max(l, 0.0), 255.0));
        mass[level[i]] += counts[first + i], occupied[level[i]] += p[i] > 0 ? 1.0 : 0.0, all += p[i];
    }
    double share[256];      // of one bin in what its level tells of it
    for (size_t l = 0; l < 256; ++l) share[l] = mass[l] / std::max(occupied[l], 1.0), kept += mass[l];
    kept = std::max(kept, 1e-30);
    double log_share[256];
    for (size_t l = 0; l < 256; ++l) log_share[l] = occupied[l] > 0 ? std::log(std::max(share[l] / kept, 1e-9)) : 0.0;
    double result = 0.0;
    for (size_t i = 0; i < p.size(); ++i) {
        const double part = p[i] / all;
        if (part > 0) result += part * (std::log(part) - log_share[level[i]]);
    }
    return result;
}

}  // namespace openkpu
