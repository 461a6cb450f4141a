// The loops of quantisation over maps and weights.
#include "quantizing.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "clones.hpp"

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

}  // namespace openkpu
