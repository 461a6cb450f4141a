// AVX-512 with VNNI: vpdpbusd multiplies unsigned inputs by signed weights and adds four products, exactly.
#include <immintrin.h>

#include "kernels_plain.hpp"

namespace openkpu {
namespace {

constexpr size_t kLanes = 16;
constexpr size_t kOcBlock = 6;
constexpr size_t kVectors = 4;
constexpr int kEven = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
constexpr int kFloor = _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC;

void copy_rows(const uint8_t* src, size_t src_pitch, uint8_t* dst, size_t dst_pitch, size_t n, size_t rows) {
    const size_t whole = n / 64 * 64;
    const __mmask64 rest = (__mmask64{1} << n % 64) - 1;
    for (; rows > 0; --rows, src += src_pitch, dst += dst_pitch) {
        for (size_t i = 0; i < whole; i += 64) _mm512_storeu_si512(dst + i, _mm512_loadu_si512(src + i));
        _mm512_mask_storeu_epi8(dst + whole, rest, _mm512_maskz_loadu_epi8(rest, src + whole));
    }
}

// Calls f(0) .. f(N - 1) with constants. A loop would do, but GCC then keeps arrays of vectors in memory.
template <size_t I>
struct Constant {
    static constexpr size_t value = I;
};
template <size_t N, size_t I = 0, typename F>
[[gnu::always_inline]] inline void each(const F& f) {
    if constexpr (I < N) {
        f(Constant<I>{});
        each<N, I + 1>(f);
    }
}
#define EACH(n, i, ...) each<n>([&](auto i) __attribute__((always_inline)) __VA_ARGS__)

__mmask64 first_bytes(size_t n) { return n >= 64 ? ~__mmask64{0} : (__mmask64{1} << n) - 1; }

// 64 bytes of a row that start at src, as many as need says.
template <bool EVEN>
[[gnu::always_inline]] inline __m512i row_bytes(const uint8_t* src, size_t need) {
    if (!EVEN) return _mm512_maskz_loadu_epi8(first_bytes(need), src);
    const __m256i low = _mm512_cvtepi16_epi8(_mm512_maskz_loadu_epi8(first_bytes(2 * need - 1), src));
    if (need <= 32) return _mm512_castsi256_si512(low);
    const __m256i high = _mm512_cvtepi16_epi8(_mm512_maskz_loadu_epi8(first_bytes(2 * need - 65), src + 64));
    return _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
}

template <bool EVEN>
void move_plain(const MoveRows& m) {
    const uint8_t* src = m.src;
    uint8_t* dst = m.dst;
    for (size_t y = 0; y < m.rows; ++y, src += m.src_pitch, dst += m.dst_pitch) {
        for (size_t x = 0; x < m.n; x += 64) {
            _mm512_mask_storeu_epi8(dst + x, first_bytes(m.n - x), row_bytes<EVEN>(src + (EVEN ? 2 * x : x), m.n - x));
        }
    }
}

// The table is in four registers: bits 0-5 of a byte say where in a register, bit 6 which of two, bit 7 which two.
template <bool EVEN>
[[gnu::target("avx512vbmi")]] void move_by_table(const MoveRows& m) {
    const __m512i t0 = _mm512_loadu_si512(m.table), t1 = _mm512_loadu_si512(m.table + 64);
    const __m512i t2 = _mm512_loadu_si512(m.table + 128), t3 = _mm512_loadu_si512(m.table + 192);
    const uint8_t* src = m.src;
    uint8_t* dst = m.dst;
    for (size_t y = 0; y < m.rows; ++y, src += m.src_pitch, dst += m.dst_pitch) {
        for (size_t x = 0; x < m.n; x += 64) {
            const __m512i bytes = row_bytes<EVEN>(src + (EVEN ? 2 * x : x), m.n - x);
            const __m512i low = _mm512_permutex2var_epi8(t0, bytes, t1), high = _mm512_permutex2var_epi8(t2, bytes, t3);
            _mm512_mask_storeu_epi8(dst + x, first_bytes(m.n - x),
                                    _mm512_mask_blend_epi8(_mm512_movepi8_mask(bytes), low, high));
        }
    }
}

void move_rows(const MoveRows& m) {
    static const bool tables = __builtin_cpu_supports("avx512vbmi");
    if (m.step > 2 || (m.table != nullptr && !tables)) return plain_move_rows(m);
    if (m.table != nullptr) return m.step == 1 ? move_by_table<false>(m) : move_by_table<true>(m);
    m.step == 1 ? move_plain<false>(m) : move_plain<true>(m);
}

// 32 pixels from 32 bytes of each channel. Unpacking works in 128-bit parts, so each part first gets its half of every 8
// pixels; then the results are in order.
inline void interleave_32(__m256i a, __m256i b, __m256i c, __m256i d, uint8_t* dst) {
    const __m256i spread = _mm256_setr_epi32(0, 2, 4, 6, 1, 3, 5, 7);
    a = _mm256_permutevar8x32_epi32(a, spread);
    b = _mm256_permutevar8x32_epi32(b, spread);
    c = _mm256_permutevar8x32_epi32(c, spread);
    d = _mm256_permutevar8x32_epi32(d, spread);
    const __m256i ab0 = _mm256_unpacklo_epi8(a, b), ab1 = _mm256_unpackhi_epi8(a, b);
    const __m256i cd0 = _mm256_unpacklo_epi8(c, d), cd1 = _mm256_unpackhi_epi8(c, d);
    auto* to = reinterpret_cast<__m256i*>(dst);
    _mm256_storeu_si256(to, _mm256_unpacklo_epi16(ab0, cd0));
    _mm256_storeu_si256(to + 1, _mm256_unpackhi_epi16(ab0, cd0));
    _mm256_storeu_si256(to + 2, _mm256_unpacklo_epi16(ab1, cd1));
    _mm256_storeu_si256(to + 3, _mm256_unpackhi_epi16(ab1, cd1));
}

// The same for 64 pixels.
inline void interleave_64(__m512i a, __m512i b, __m512i c, __m512i d, uint8_t* dst) {
    const __m512i spread = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    a = _mm512_permutexvar_epi32(spread, a);
    b = _mm512_permutexvar_epi32(spread, b);
    c = _mm512_permutexvar_epi32(spread, c);
    d = _mm512_permutexvar_epi32(spread, d);
    const __m512i ab0 = _mm512_unpacklo_epi8(a, b), ab1 = _mm512_unpackhi_epi8(a, b);
    const __m512i cd0 = _mm512_unpacklo_epi8(c, d), cd1 = _mm512_unpackhi_epi8(c, d);
    _mm512_storeu_si512(dst, _mm512_unpacklo_epi16(ab0, cd0));
    _mm512_storeu_si512(dst + 64, _mm512_unpackhi_epi16(ab0, cd0));
    _mm512_storeu_si512(dst + 128, _mm512_unpacklo_epi16(ab1, cd1));
    _mm512_storeu_si512(dst + 192, _mm512_unpackhi_epi16(ab1, cd1));
}

void interleave(const Interleave& v) {
    if (v.stride > 2) return plain_interleave(v);
    for (size_t y = 0; y < v.rows; ++y) {
        uint8_t* dst = v.dst + y * v.dst_pitch;
        const size_t at = y * v.pitch + v.column;
        if (v.stride == 1) {
            size_t i = 0;
            for (; i + 32 < v.n; i += 64, dst += 256) {
                const __mmask64 need = first_bytes(v.n - i);
                const auto load = [&](int c) { return _mm512_maskz_loadu_epi8(need, v.channel[c] + at + i); };
                interleave_64(load(0), load(1), load(2), load(3), dst);
            }
            if (i < v.n) {
                const auto need = static_cast<__mmask32>(first_bytes(v.n - i));
                const auto load = [&](int c) { return _mm256_maskz_loadu_epi8(need, v.channel[c] + at + i); };
                interleave_32(load(0), load(1), load(2), load(3), dst);
            }
        } else {
            for (size_t i = 0; i < v.n; i += 32, dst += 128) {
                const __mmask64 need = first_bytes(2 * (v.n - i) - 1);
                const auto load = [&](int c) {      // the even bytes
                    return _mm512_cvtepi16_epi8(_mm512_maskz_loadu_epi8(need, v.channel[c] + at + 2 * i));
                };
                interleave_32(load(0), load(1), load(2), load(3), dst);
            }
        }
    }
}

// A line is a 4 x 16 matrix of bytes: transposed by quads of pixels, then within them.
void interleave_lines(const Interleave& v) {
    const __m512i by_four = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    const __m512i transpose =
        _mm512_broadcast_i32x4(_mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
    const __m512i each = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const __m512i pick = _mm512_add_epi32(_mm512_mullo_epi32(each, _mm512_set1_epi32(static_cast<int>(v.stride))),
                                          _mm512_set1_epi32(static_cast<int>(v.column)));
    const uint8_t* line = v.channel[0];
    uint8_t* dst = v.dst;
    for (size_t y = 0; y < v.rows; ++y, line += v.pitch, dst += v.dst_pitch) {
        const __m512i quads = _mm512_permutexvar_epi32(by_four, _mm512_loadu_si512(line));
        _mm512_storeu_si512(dst, _mm512_permutexvar_epi32(pick, _mm512_shuffle_epi8(quads, transpose)));
    }
}

// Lane i gets bytes i, i+1, i+2, i+3 of the row: the three taps of pixel i (and one that meets a zero weight).
inline __m512i windows(const uint8_t* row, __m512i spread, __m512i shuffle) {
    const __m512i bytes = _mm512_castsi256_si512(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(row)));
    return _mm512_shuffle_epi8(_mm512_permutexvar_epi32(spread, bytes), shuffle);
}

void depthwise(const Depthwise& d) {
    const __m512i spread = _mm512_setr_epi32(0, 1, 0, 0, 1, 2, 0, 0, 2, 3, 0, 0, 3, 4, 0, 0);
    const __m512i shuffle = _mm512_broadcast_i32x4(_mm_setr_epi8(0, 1, 2, 3, 1, 2, 3, 4, 2, 3, 4, 5, 3, 4, 5, 6));
    __m512i w[3];
    for (int i = 0; i < 3; ++i) {
        const int8_t four[4] = {d.w[3 * i], d.w[3 * i + 1], d.w[3 * i + 2], 0};
        int32_t word;
        memcpy(&word, four, 4);
        w[i] = _mm512_set1_epi32(word);
    }
    const __m512i init = _mm512_set1_epi32(d.init);
    // Down each strip of 16 columns; a row of windows serves the three output rows that it touches. A strip that is not
    // full writes past its row's end: narrow maps go row by row, so that the next row then puts that right.
    const size_t strip = d.width > 16 ? d.rows : 1;
    for (size_t y0 = 0; y0 < d.rows; y0 += strip) {
        for (size_t x = 0;; x += 16) {
            if (x + 16 > d.width) x = d.width > 16 ? d.width - 16 : 0;
            const uint8_t* row = d.src + y0 * d.pitch + x;
            int32_t* to = d.acc + y0 * d.width + x;
            const __m512i r0 = windows(row, spread, shuffle), r1 = windows(row + d.pitch, spread, shuffle);
            __m512i upper = _mm512_dpbusd_epi32(_mm512_dpbusd_epi32(init, r0, w[0]), r1, w[1]);
            __m512i lower = _mm512_dpbusd_epi32(init, r1, w[0]);
            row += 2 * d.pitch;
            for (size_t y = 0; y < strip; ++y, row += d.pitch, to += d.width) {
                const __m512i r = windows(row, spread, shuffle);
                _mm512_storeu_si512(to, _mm512_dpbusd_epi32(upper, r, w[2]));
                upper = _mm512_dpbusd_epi32(lower, r, w[1]);
                lower = _mm512_dpbusd_epi32(init, r, w[0]);
            }
            if (x + 16 >= d.width) break;
        }
    }
}

inline __m512d bn_floor(__m256i acc, __m512d scale) {
    return _mm512_roundscale_pd(_mm512_mul_pd(_mm512_cvtepi32_pd(acc), scale), kFloor);
}

void exact_ramp(const int32_t* acc, size_t n, const Ramp& r, uint8_t* dst) {
    const __m512d scale = _mm512_set1_pd(r.scale), offset = _mm512_set1_pd(r.offset), slope = _mm512_set1_pd(r.slope);
    const __m512d zero = _mm512_setzero_pd(), top = _mm512_set1_pd(512.0);
    const __m512i bias = _mm512_set1_epi32(r.bias);
    const auto eight = [&](const int32_t* from) {
        const __m512d bn = bn_floor(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)), scale);
        const __m512d z = _mm512_max_pd(_mm512_add_pd(bn, offset), zero);
        return _mm512_cvt_roundpd_epi32(_mm512_min_pd(_mm512_mul_pd(z, slope), top), kEven);
    };
    for (size_t i = 0; i < n; i += 16) {
        const __m512i y = _mm512_inserti64x4(_mm512_castsi256_si512(eight(acc + i)), eight(acc + i + 8), 1);
        _mm_storeu_si128(reinterpret_cast<__m128i*>(dst + i), _mm512_cvtusepi32_epi8(_mm512_add_epi32(y, bias)));
    }
}

// 64 results from 4 vectors, by the quick way; worst gets each lane's largest distance from the nearest integer.
[[gnu::always_inline]] inline __m512i quick_ramp(const __m512i (&acc)[4], const __m512 (&a)[4], const __m512 (&b)[4],
                                                 __m512& worst) {
    constexpr int kLargerMagnitude = 0x0B;
    __m512i y[4];
    __m512 off[4];
    EACH(4, i, {
        const __m512 v = _mm512_fmadd_ps(_mm512_cvtepi32_ps(acc[i.value]), a[i.value], b[i.value]);
        off[i.value] = _mm512_reduce_ps(v, kEven);
        y[i.value] = _mm512_cvt_roundps_epi32(v, kEven);
    });
    worst = _mm512_range_ps(_mm512_range_ps(off[0], off[1], kLargerMagnitude),
                            _mm512_range_ps(off[2], off[3], kLargerMagnitude), kLargerMagnitude);
    const __m512i words01 = _mm512_packs_epi32(y[0], y[1]), words23 = _mm512_packs_epi32(y[2], y[3]);
    // The packs work in 128-bit parts: dword 4 * part + i is from y[i].
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    return _mm512_permutexvar_epi32(order, _mm512_packus_epi16(words01, words23));
}

// 16 results again, in doubles, where the quick way was not sure.
[[gnu::noinline]] void repair(const int32_t* acc, const Ramp& r, uint8_t* dst) {
    const __m512 v = _mm512_fmadd_ps(_mm512_cvtepi32_ps(_mm512_load_si512(acc)), _mm512_set1_ps(r.a), _mm512_set1_ps(r.b));
    const __m512 off = _mm512_abs_ps(_mm512_reduce_ps(v, kEven));
    if (_mm512_cmp_ps_mask(off, _mm512_set1_ps(r.tie), _CMP_GT_OQ) != 0) exact_ramp(acc, 16, r, dst);
}

// Finishes 64 sums of one output channel.
[[gnu::always_inline]] inline void finish(__m512i s0, __m512i s1, __m512i s2, __m512i s3, const Ramp& r, uint8_t* dst) {
    const __m512 a1 = _mm512_set1_ps(r.a), b1 = _mm512_set1_ps(r.b);
    const __m512i acc[4] = {s0, s1, s2, s3};
    const __m512 a[4] = {a1, a1, a1, a1}, b[4] = {b1, b1, b1, b1};
    __m512 worst;
    const __m512i y = quick_ramp(acc, a, b, worst);
    _mm512_storeu_si512(dst, _mm512_adds_epu8(y, _mm512_set1_epi8(static_cast<char>(r.bias))));
    if (_mm512_cmp_ps_mask(worst, _mm512_set1_ps(r.tie), _CMP_GT_OQ) != 0) [[unlikely]] {
        alignas(64) int32_t values[64];     // filled only here, so that the sums otherwise stay in registers
        _mm512_store_si512(values, s0);
        _mm512_store_si512(values + 16, s1);
        _mm512_store_si512(values + 32, s2);
        _mm512_store_si512(values + 48, s3);
        for (int i = 0; i < 64; i += 16) repair(values + i, r, dst + i);
    }
}

void ramp(const int32_t* acc, size_t n, const Ramp& r, uint8_t* dst) {
    if (!(r.tie > 0.0F)) return exact_ramp(acc, n, r, dst);
    for (size_t i = 0; i < n; i += 64) {
        finish(_mm512_loadu_si512(acc + i), _mm512_loadu_si512(acc + i + 16), _mm512_loadu_si512(acc + i + 32),
               _mm512_loadu_si512(acc + i + 48), r, dst + i);
    }
}

// P pixel vectors by Q output channels; up to 24 accumulators, 4 inputs and a weight fit the 32 registers. With SINGLE
// there is one more pixel; its accumulator's lanes are the output channels.
template <size_t P, size_t Q, bool SINGLE = false>
void tile(const Gemm& g, size_t vector) {
    __m512i acc[Q * P];
    EACH(Q * P, i, { acc[i.value] = _mm512_set1_epi32(g.init[i.value / P]); });
    __m256i single = _mm256_setzero_si256();
    const uint8_t* const base = g.x + vector * kLanes * 4;
    const auto* w = static_cast<const int8_t*>(g.w);
    for (size_t t = 0; t < g.tap_count; ++t) {
        const uint8_t* x = base + g.taps[t];
        for (size_t k = 0; k < g.groups; ++k) {
            if constexpr (SINGLE) {
                int32_t four;
                memcpy(&four, x + P * 64, 4);
                const __m256i weights = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(w));
                single = _mm256_dpbusd_epi32(single, _mm256_set1_epi32(four), weights);
            }
            __m512i in[P];
            EACH(P, p, { in[p.value] = _mm512_loadu_si512(x + p.value * 64); });
            EACH(Q, q, {
                int32_t four;
                memcpy(&four, w + 4 * q.value, 4);
                const __m512i weight = _mm512_set1_epi32(four);
                EACH(P, p, {
                    constexpr size_t at = decltype(q)::value * P + decltype(p)::value;
                    acc[at] = _mm512_dpbusd_epi32(acc[at], in[p.value], weight);
                });
            });
            x += g.group_stride;
            w += 4 * Q;
        }
    }
    if (g.ramps != nullptr) {
        EACH(Q, q, {
            constexpr size_t at = decltype(q)::value * P;
            __m512i last = P > 3 ? acc[at + (P > 3 ? 3 : 0)] : acc[at];
            if constexpr (SINGLE) {
                static_assert(P == 3);
                const __m512i lane = _mm512_set1_epi32(static_cast<int>(q.value));
                last = _mm512_add_epi32(_mm512_permutexvar_epi32(lane, _mm512_castsi256_si512(single)),
                                        _mm512_set1_epi32(g.init[q.value]));
            }
            finish(acc[at], acc[at + (P > 1 ? 1 : 0)], acc[at + (P > 2 ? 2 : 0)], last, g.ramps[q.value],
                   g.dst + q.value * g.dst_pitch + vector * kLanes);
        });
        return;
    }
    EACH(Q * P, i, {
        int32_t* to = g.acc + i.value / P * g.acc_pitch + (vector + i.value % P) * kLanes;
        _mm512_storeu_si512(to, acc[i.value]);
    });
    if constexpr (SINGLE) {
        alignas(32) int32_t last[8];
        _mm256_store_si256(reinterpret_cast<__m256i*>(last), single);
        for (size_t q = 0; q < Q; ++q) {
            const uint32_t sum = static_cast<uint32_t>(last[q]) + static_cast<uint32_t>(g.init[q]);
            g.acc[q * g.acc_pitch + (vector + P) * kLanes] = static_cast<int32_t>(sum);
        }
    }
}

template <size_t Q>
void rows(const Gemm& g) {
    // Shares the vectors evenly among as few tiles as possible: 13 are 4 + 3 + 3 + 3.
    const size_t tiles = (g.vectors + kVectors - 1) / kVectors;
    for (size_t i = 0; i < tiles; ++i) {
        const size_t begin = g.vectors * i / tiles, end = g.vectors * (i + 1) / tiles;
        switch (end - begin) {
            case 1: tile<1, Q>(g, begin); break;
            case 2: tile<2, Q>(g, begin); break;
            case 3: tile<3, Q>(g, begin); break;
            default:
                if (g.single && end == g.vectors) {
                    tile<3, Q, true>(g, begin);
                } else {
                    tile<4, Q>(g, begin);
                }
                break;
        }
    }
}

void gemm(const Gemm& g) {
    switch (g.q) {
        case 1: rows<1>(g); break;
        case 2: rows<2>(g); break;
        case 3: rows<3>(g); break;
        case 4: rows<4>(g); break;
        case 5: rows<5>(g); break;
        default: rows<6>(g); break;
    }
}

// Four pieces of a strip, row by row: calls each(y, sums) with the sums of every row.
template <typename Each>
[[gnu::always_inline]] inline void strip(const DepthwiseLines& d, const Each& each_row) {
    // A piece is loaded with the 4 bytes before it, except at the start of a row; lane i of its windows gets the bytes
    // left of, at and right of pixel i, and those outside the picture become pad_value.
    const __m512i start = _mm512_setr_epi32(0, 0, 1, 0, 0, 1, 2, 0, 1, 2, 3, 0, 2, 3, 4, 0);
    const __m512i inner = _mm512_setr_epi32(0, 1, 2, 0, 1, 2, 3, 0, 2, 3, 4, 0, 3, 4, 5, 0);
    const __m512i shuffle = _mm512_broadcast_i32x4(_mm_setr_epi8(3, 4, 5, 6, 4, 5, 6, 7, 5, 6, 7, 8, 6, 7, 8, 9));
    const __m512i pad = _mm512_set1_epi8(static_cast<char>(d.pad_value));
    __m512i w0[4], w1[4], w2[4], init[4], spread[4];
    size_t from[4];
    __mmask64 keep[4];
    EACH(4, i, {
        const DepthwiseLines::Piece& p = d.piece[i.value];
        w0[i.value] = _mm512_set1_epi32(p.w[0]);
        w1[i.value] = _mm512_set1_epi32(p.w[1]);
        w2[i.value] = _mm512_set1_epi32(p.w[2]);
        init[i.value] = _mm512_set1_epi32(p.init);
        spread[i.value] = p.row_start ? start : inner;
        from[i.value] = 16 * i.value - (p.row_start ? 0 : 4);
        keep[i.value] = p.keep;
    });
    const auto window = [&](const uint8_t* line, auto i) __attribute__((always_inline)) {
        const __m256i bytes = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(line + from[i.value]));
        const __m512i four = _mm512_permutexvar_epi32(spread[i.value], _mm512_castsi256_si512(bytes));
        return _mm512_mask_shuffle_epi8(pad, keep[i.value], four, shuffle);
    };
    const uint8_t* line = d.src;
    __m512i upper[4], lower[4];
    EACH(4, i, {
        const __m512i first = window(line, i);
        const __m512i above = _mm512_dpbusd_epi32(init[i.value], pad, w0[i.value]);
        upper[i.value] = _mm512_dpbusd_epi32(above, first, w1[i.value]);
        lower[i.value] = _mm512_dpbusd_epi32(init[i.value], first, w0[i.value]);
    });
    const size_t rows = d.rows, src_row = d.src_row;
    for (size_t y = 1; y <= rows; ++y) {
        line += src_row;
        __m512i acc[4];
        EACH(4, i, {
            const __m512i r = y < rows ? window(line, i) : pad;
            acc[i.value] = _mm512_dpbusd_epi32(upper[i.value], r, w2[i.value]);
            upper[i.value] = _mm512_dpbusd_epi32(lower[i.value], r, w1[i.value]);
            lower[i.value] = _mm512_dpbusd_epi32(init[i.value], r, w0[i.value]);
        });
        each_row(y - 1, acc);
    }
}

void depthwise_lines(const DepthwiseLines& d) {
    if (d.acc != nullptr) {
        return strip(d, [&](size_t y, const __m512i (&acc)[4]) __attribute__((always_inline)) {
            EACH(4, i, { _mm512_storeu_si512(d.acc + (i.value * d.rows + y) * 16, acc[i.value]); });
        });
    }
    __m512i bias = _mm512_setzero_si512();
    __m512 a[4], b[4], tie = _mm512_set1_ps(1.0F);
    EACH(4, i, {
        const Ramp& r = *d.piece[i.value].ramp;
        a[i.value] = _mm512_set1_ps(r.a);
        b[i.value] = _mm512_set1_ps(r.b);
        tie = _mm512_min_ps(tie, _mm512_set1_ps(r.tie));
        bias = _mm512_mask_set1_epi8(bias, __mmask64{0xFFFF} << 16 * i.value, static_cast<char>(r.bias));
    });
    strip(d, [&](size_t y, const __m512i (&acc)[4]) __attribute__((always_inline)) {
        __m512 worst;
        __m512i result = _mm512_adds_epu8(quick_ramp(acc, a, b, worst), bias);
        if (_mm512_cmp_ps_mask(worst, tie, _CMP_GT_OQ) != 0) [[unlikely]] {
            alignas(64) int32_t values[64];
            alignas(64) uint8_t bytes[64];
            _mm512_store_si512(bytes, result);
            EACH(4, i, {
                _mm512_store_si512(values + 16 * i.value, acc[i.value]);
                repair(values + 16 * i.value, *d.piece[i.value].ramp, bytes + 16 * i.value);
            });
            result = _mm512_load_si512(bytes);
        }
        _mm512_mask_storeu_epi8(d.dst + y * d.dst_row, d.store, result);
    });
}

void store_lines(const DepthwiseLines& d, const uint8_t* from) {
    const auto piece = [&](size_t i, size_t y) {
        return _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + (i * d.rows + y) * 16));
    };
    for (size_t y = 0; y < d.rows; ++y) {
        __m512i line = _mm512_castsi128_si512(piece(0, y));
        line = _mm512_inserti32x4(line, piece(1, y), 1);
        line = _mm512_inserti32x4(line, piece(2, y), 2);
        line = _mm512_inserti32x4(line, piece(3, y), 3);
        _mm512_mask_storeu_epi8(d.dst + y * d.dst_row, d.store, line);
    }
}

void table(const int32_t* acc, size_t n, const Table& a, double scale_, double add_, uint8_t* dst) {
    const __m512d scale = _mm512_set1_pd(scale_), add = _mm512_set1_pd(add_);
    const __m512d start0 = _mm512_loadu_pd(a.start), start1 = _mm512_loadu_pd(a.start + 8);
    const __m512d slope0 = _mm512_loadu_pd(a.slope), slope1 = _mm512_loadu_pd(a.slope + 8);
    const __m512d bias0 = _mm512_loadu_pd(a.bias), bias1 = _mm512_loadu_pd(a.bias + 8);
    const __m512d low = _mm512_set1_pd(-1024.0), high = _mm512_set1_pd(1024.0), zero = _mm512_setzero_pd();
    const __m512i one = _mm512_set1_epi64(1);
    const auto eight = [&](const int32_t* from) {
        const __m512d bn = _mm512_add_pd(bn_floor(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)), scale), add);
        __m512i k = _mm512_setzero_si512();
        for (int j = 0; j < a.edges; ++j) {
            k = _mm512_mask_add_epi64(k, _mm512_cmp_pd_mask(bn, _mm512_set1_pd(a.edge[j]), _CMP_GT_OQ), k, one);
        }
        __m512d t = _mm512_mul_pd(_mm512_sub_pd(bn, _mm512_permutex2var_pd(start0, k, start1)),
                                  _mm512_permutex2var_pd(slope0, k, slope1));
        t = _mm512_max_pd(_mm512_min_pd(t, high), low);
        const __m512d e = _mm512_roundscale_pd(t, kEven), f = _mm512_roundscale_pd(t, kFloor);
        const __mmask8 negative = _mm512_cmp_pd_mask(t, zero, _CMP_LT_OQ);
        const __m512d r = _mm512_mask_sub_pd(e, negative, _mm512_add_pd(f, f), e);
        const __m512d y = _mm512_max_pd(_mm512_add_pd(r, _mm512_permutex2var_pd(bias0, k, bias1)), zero);
        return _mm512_cvt_roundpd_epi32(y, kEven);
    };
    for (size_t i = 0; i < n; i += 16) {
        const __m512i y = _mm512_inserti64x4(_mm512_castsi256_si512(eight(acc + i)), eight(acc + i + 8), 1);
        _mm_storeu_si128(reinterpret_cast<__m128i*>(dst + i), _mm512_cvtusepi32_epi8(y));
    }
}

// A QuickTable in registers.
struct Curve {
    __m512i slopes, fraction, margin;
    __m512 offsets;
    __m128i bits;

    explicit Curve(const QuickTable& q)
        : slopes(_mm512_loadu_si512(q.a)), fraction(_mm512_set1_epi32((1 << q.bits) - 1)),
          margin(_mm512_set1_epi32(q.margin)), offsets(_mm512_loadu_ps(q.b)), bits(_mm_cvtsi32_si128(q.bits)) {}
};

// The interval of a sum, in the last four bits of each lane: by halving...
struct Halving {
    __m512i edge1, edge2, edge4, edge8, edge12;     // the edges that decide whether it is 1, 2, 4 or 8 more

    explicit Halving(const QuickTable& q)
        : edge1(_mm512_loadu_si512(q.edge)), edge2(_mm512_alignr_epi32(edge1, edge1, 1)),
          edge4(_mm512_set1_epi32(q.edge[3])), edge8(_mm512_set1_epi32(q.edge[7])), edge12(_mm512_set1_epi32(q.edge[11])) {}

    [[gnu::always_inline]] inline __m512i of(__m512i sum, __m512) const {
        const __m512i one = _mm512_set1_epi32(1), two = _mm512_set1_epi32(2), four = _mm512_set1_epi32(4);
        const __mmask16 upper = _mm512_cmpgt_epi32_mask(sum, edge8);
        __m512i k = _mm512_maskz_mov_epi32(upper, _mm512_set1_epi32(8));
        k = _mm512_mask_add_epi32(k, _mm512_cmpgt_epi32_mask(sum, _mm512_mask_blend_epi32(upper, edge4, edge12)), k, four);
        k = _mm512_mask_add_epi32(k, _mm512_cmpgt_epi32_mask(sum, _mm512_permutexvar_epi32(k, edge2)), k, two);
        return _mm512_mask_add_epi32(k, _mm512_cmpgt_epi32_mask(sum, _mm512_permutexvar_epi32(k, edge1)), k, one);
    }
};

// ... or by cells.
struct Cells {
    __m512i low, high;
    __m512 a, b;

    explicit Cells(const QuickTable& q)
        : low(_mm512_loadu_si512(q.cell)), high(_mm512_loadu_si512(q.cell + 16)), a(_mm512_set1_ps(q.cell_a)),
          b(_mm512_set1_ps(q.cell_b)) {}

    [[gnu::always_inline]] inline __m512i of(__m512i sum, __m512 real) const {
        const __m512i cell = _mm512_cvttps_epi32(_mm512_fmadd_ps(real, a, b));
        const __m512i inside = _mm512_min_epi32(_mm512_max_epi32(cell, _mm512_setzero_si512()), _mm512_set1_epi32(31));
        const __m512i edge = _mm512_permutex2var_epi32(low, inside, high);
        return _mm512_mask_add_epi32(edge, _mm512_cmpgt_epi32_mask(_mm512_slli_epi32(sum, 4), edge), edge,
                                     _mm512_set1_epi32(1));
    }
};

// 16 * P results, P up to 4; fractions are the last bits of each M.
template <size_t P, typename Interval>
[[gnu::always_inline]] inline __m512i quick_curve(const __m512i (&acc)[P], const Curve& c, const Interval& interval,
                                                  __m512i (&fractions)[P]) {
    const __m512i one = _mm512_set1_epi32(1);
    __m512i m[4] = {}, less[4] = {};
    EACH(P, p, {
        const __m512 real = _mm512_cvtepi32_ps(acc[p.value]);
        const __m512i k = interval.of(acc[p.value], real), slope = _mm512_permutexvar_epi32(k, c.slopes);
        const __m512i fixed = _mm512_cvtps_epi32(
            _mm512_fmadd_ps(real, _mm512_castsi512_ps(slope), _mm512_permutexvar_ps(k, c.offsets)));
        fractions[p.value] = _mm512_and_si512(fixed, c.fraction);
        m[p.value] = _mm512_sra_epi32(fixed, c.bits);
        less[p.value] = _mm512_ternarylogic_epi32(m[p.value], slope, one, 0x80);    // all three
    });
    const auto halve = [](__m512i m, __m512i less) { return _mm512_sub_epi16(_mm512_srai_epi16(m, 1), less); };
    const __m512i words01 = halve(_mm512_packs_epi32(m[0], m[1]), _mm512_packs_epi32(less[0], less[1]));
    const __m512i words23 = halve(_mm512_packs_epi32(m[2], m[3]), _mm512_packs_epi32(less[2], less[3]));
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    return _mm512_permutexvar_epi32(order, _mm512_packus_epi16(words01, words23));
}

template <size_t P, typename Interval>
[[gnu::always_inline]] inline void quick_vectors(const int32_t* acc, const Curve& c, const Interval& interval,
                                                 const Table& exact, double scale, double add, uint8_t* dst) {
    __m512i sums[P], fractions[P];
    EACH(P, p, { sums[p.value] = _mm512_loadu_si512(acc + 16 * p.value); });
    _mm512_storeu_si512(dst, quick_curve(sums, c, interval, fractions));
    __m512i least = fractions[0];
    EACH(P, p, { least = _mm512_min_epi32(least, fractions[p.value]); });
    if (_mm512_cmplt_epi32_mask(least, c.margin) != 0) [[unlikely]] {
        EACH(P, p, {
            if (_mm512_cmplt_epi32_mask(fractions[p.value], c.margin) != 0) {
                table(acc + 16 * p.value, 16, exact, scale, add, dst + 16 * p.value);
            }
        });
    }
}

template <typename Interval>
void quick_row(const int32_t* acc, size_t n, const QuickTable& q, const Table& exact, double scale, double add, uint8_t* dst) {
    const Curve curve(q);
    const Interval interval(q);
    for (; n > 48; n -= 64, acc += 64, dst += 64) {
        quick_vectors<4>(acc, curve, interval, exact, scale, add, dst);
        if (n <= 64) return;
    }
    switch ((n + 15) / 16) {
        case 3: return quick_vectors<3>(acc, curve, interval, exact, scale, add, dst);
        case 2: return quick_vectors<2>(acc, curve, interval, exact, scale, add, dst);
        case 1: return quick_vectors<1>(acc, curve, interval, exact, scale, add, dst);
        default: return;
    }
}

void quick_table(const int32_t* acc, size_t n, const QuickTable& q, const Table& exact, double scale, double add,
                 uint8_t* dst) {
    if (q.by_cells) return quick_row<Cells>(acc, n, q, exact, scale, add, dst);
    quick_row<Halving>(acc, n, q, exact, scale, add, dst);
}

bool supported() {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni");
}

}  // namespace

const Kernels kernels_avx512vnni = {
    .name = "avx512vnni",
    .lanes = kLanes,
    .oc_block = kOcBlock,
    .weight_bytes = 1,
    .fused = true,
    .signed_x = false,
    .supported = supported,
    .interleave = interleave,
    .interleave_lines = interleave_lines,
    .gemm = gemm,
    .depthwise = depthwise,
    .depthwise_lines = depthwise_lines,
    .store_lines = store_lines,
    .copy_rows = copy_rows,
    .move_rows = move_rows,
    .add_scaled = plain_add_scaled,
    .ramp = ramp,
    .table = table,
    .quick_table = quick_table,
    .pool = plain_pool,
};

}  // namespace openkpu
