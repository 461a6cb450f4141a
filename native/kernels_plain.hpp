// The primitives in plain C++. Every instruction set includes this file, so that its compiler flags vectorise what it does
// not write by hand; all is in an unnamed namespace because the same code must stay apart in each of those files (one
// shared copy, compiled for the newest instructions, would crash older machines). No standard-library templates here
// for the same reason.
#pragma once

#include <cmath>
#include <cstring>

#include "kernels.hpp"

namespace openkpu {
namespace {

// Rows are short (often 7 to 56 bytes): a few moves each, the last of which overlaps the one before.
[[maybe_unused]] void plain_copy_rows(const uint8_t* src, size_t src_pitch, uint8_t* dst, size_t dst_pitch, size_t n,
                                      size_t rows) {
    for (; rows > 0; --rows, src += src_pitch, dst += dst_pitch) {
        if (n >= 16) {
            for (size_t i = 0; i + 16 <= n; i += 16) memcpy(dst + i, src + i, 16);
            memcpy(dst + n - 16, src + n - 16, 16);
        } else if (n >= 8) {
            memcpy(dst, src, 8);
            memcpy(dst + n - 8, src + n - 8, 8);
        } else {
            for (size_t i = 0; i < n; ++i) dst[i] = src[i];
        }
    }
}

[[maybe_unused]] void plain_move_rows(const MoveRows& m) {
    const uint8_t* src = m.src;
    uint8_t* dst = m.dst;
    for (size_t y = 0; y < m.rows; ++y, src += m.src_pitch, dst += m.dst_pitch) {
        const auto n = static_cast<ptrdiff_t>(m.n);
        if (m.table != nullptr) {
            for (ptrdiff_t x = 0; x < n; ++x) dst[x] = m.table[src[x * m.step]];
        } else if (m.step == 1) {
            plain_copy_rows(src, 0, dst, 0, m.n, 1);
        } else {
            for (ptrdiff_t x = 0; x < n; ++x) dst[x] = src[x * m.step];
        }
    }
}

[[maybe_unused]] void plain_interleave(const Interleave& v) {
    for (size_t y = 0; y < v.rows; ++y) {
        const size_t at = y * v.pitch + v.column;
        const uint8_t *a = v.channel[0] + at, *b = v.channel[1] + at, *c = v.channel[2] + at, *d = v.channel[3] + at;
        uint8_t* dst = v.dst + y * v.dst_pitch;
        for (size_t i = 0; i < v.n; ++i) {
            dst[4 * i] = a[i * v.stride];
            dst[4 * i + 1] = b[i * v.stride];
            dst[4 * i + 2] = c[i * v.stride];
            dst[4 * i + 3] = d[i * v.stride];
        }
    }
}

[[maybe_unused]] void plain_gemm(const Gemm& g) {
    constexpr size_t lanes = 8;
    for (size_t v = 0; v < g.vectors; ++v) {
        for (size_t q = 0; q < g.q; ++q) {
            uint32_t acc[lanes];
            for (size_t p = 0; p < lanes; ++p) acc[p] = static_cast<uint32_t>(g.init[q]);
            const int8_t* w = static_cast<const int8_t*>(g.w) + 4 * q;
            for (size_t t = 0; t < g.tap_count; ++t) {
                const uint8_t* x = g.x + g.taps[t] + 4 * lanes * v;
                for (size_t k = 0; k < g.groups; ++k, x += g.group_stride, w += 4 * g.q) {
                    const int32_t w0 = w[0], w1 = w[1], w2 = w[2], w3 = w[3];
                    for (size_t p = 0; p < lanes; ++p) {
                        acc[p] += static_cast<uint32_t>(x[4 * p] * w0 + x[4 * p + 1] * w1 + x[4 * p + 2] * w2 +
                                                        x[4 * p + 3] * w3);
                    }
                }
            }
            memcpy(g.acc + q * g.acc_pitch + lanes * v, acc, sizeof acc);
        }
    }
}

[[maybe_unused]] void plain_depthwise(const Depthwise& d) {
    for (size_t y = 0; y < d.rows; ++y) {
        const uint8_t* r0 = d.src + y * d.pitch;
        const uint8_t* r1 = r0 + d.pitch;
        const uint8_t* r2 = r1 + d.pitch;
        int32_t* acc = d.acc + y * d.width;
        const int8_t* w = d.w;
        for (size_t x = 0; x < d.width; ++x) {
            const int32_t sum = r0[x] * w[0] + r0[x + 1] * w[1] + r0[x + 2] * w[2] + r1[x] * w[3] + r1[x + 1] * w[4] +
                                r1[x + 2] * w[5] + r2[x] * w[6] + r2[x + 1] * w[7] + r2[x + 2] * w[8];
            acc[x] = static_cast<int32_t>(static_cast<uint32_t>(d.init) + static_cast<uint32_t>(sum));
        }
    }
}

[[maybe_unused]] void plain_add_scaled(int32_t* acc, const int32_t* sum, uint32_t factor, size_t n) {
    for (size_t i = 0; i < n; ++i) {
        acc[i] = static_cast<int32_t>(static_cast<uint32_t>(acc[i]) + static_cast<uint32_t>(sum[i]) * factor);
    }
}

// Rounds half to even for |v| < 2^51: adding 1.5 * 2^52 leaves no bits for the fraction.
inline double round_even(double v) {
    constexpr double magic = 6755399441055744.0;
    return (v + magic) - magic;
}

// floor for |v| < 2^51, without the library call that older machines would need.
inline double round_down(double v) {
    const double r = round_even(v);
    return r > v ? r - 1.0 : r;
}

[[maybe_unused]] void plain_ramp(const int32_t* acc, size_t n, const Ramp& r, uint8_t* dst) {
    for (size_t i = 0; i < n; ++i) {
        double z = round_down(acc[i] * r.scale) + r.offset;
        z = z > 0.0 ? z : 0.0;
        double t = z * r.slope;
        t = t < 512.0 ? t : 512.0;
        const int32_t y = static_cast<int32_t>(round_even(t)) + r.bias;
        dst[i] = static_cast<uint8_t>(y < 255 ? y : 255);
    }
}

[[maybe_unused]] void plain_table(const int32_t* acc, size_t n, const Table& a, double scale, double add, uint8_t* dst) {
    for (size_t i = 0; i < n; ++i) {
        const double bn = round_down(acc[i] * scale) + add;
        int k = 0;
        for (int j = 0; j < a.edges; ++j) k += bn > a.edge[j] ? 1 : 0;
        double t = (bn - a.start[k]) * a.slope[k];
        t = t < 1024.0 ? t : 1024.0;
        t = t > -1024.0 ? t : -1024.0;
        const double e = round_even(t);
        double y = (t < 0.0 ? 2.0 * round_down(t) - e : e) + a.bias[k];
        y = y > 0.0 ? y : 0.0;
        y = y < 255.0 ? y : 255.0;
        dst[i] = static_cast<uint8_t>(static_cast<int32_t>(y));
    }
}

template <int SIZE, int STRIDE, bool MAX>
inline void pool_row(const uint8_t* const rows[4], size_t n, uint8_t* dst) {
    for (size_t i = 0; i < n; ++i) {
        unsigned total = 0;
        for (int y = 0; y < SIZE; ++y) {
            for (int x = 0; x < SIZE; ++x) {
                const unsigned v = rows[y][i * STRIDE + static_cast<size_t>(x)];
                total = MAX ? (v > total ? v : total) : total + v;
            }
        }
        dst[i] = static_cast<uint8_t>(MAX ? total : total / (SIZE * SIZE));
    }
}

[[maybe_unused]] void plain_pool(PoolOp op, int size, int stride, const uint8_t* const rows[4], size_t n, uint8_t* dst) {
    const bool max = op == PoolOp::max;
    if (size == 2 && stride == 1) {
        max ? pool_row<2, 1, true>(rows, n, dst) : pool_row<2, 1, false>(rows, n, dst);
    } else if (size == 2) {
        max ? pool_row<2, 2, true>(rows, n, dst) : pool_row<2, 2, false>(rows, n, dst);
    } else {
        max ? pool_row<4, 4, true>(rows, n, dst) : pool_row<4, 4, false>(rows, n, dst);
    }
}

}  // namespace
}  // namespace openkpu
