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

// P pixel vectors by Q output channels; up to 24 accumulators, 4 inputs and a weight fit the 32 registers.
template <size_t P, size_t Q>
void tile(const Gemm& g, size_t vector) {
    __m512i acc[Q][P];
    for (size_t q = 0; q < Q; ++q) {
        for (size_t p = 0; p < P; ++p) acc[q][p] = _mm512_set1_epi32(g.init[q]);
    }
    const uint8_t* const base = g.x + vector * kLanes * 4;
    const auto* w = static_cast<const int8_t*>(g.w);
    for (size_t t = 0; t < g.tap_count; ++t) {
        const uint8_t* x = base + g.taps[t];
        for (size_t k = 0; k < g.groups; ++k) {
            __m512i in[P];
            for (size_t p = 0; p < P; ++p) in[p] = _mm512_loadu_si512(x + p * 64);
            for (size_t q = 0; q < Q; ++q) {
                int32_t four;
                memcpy(&four, w + 4 * q, 4);
                const __m512i weight = _mm512_set1_epi32(four);
                for (size_t p = 0; p < P; ++p) acc[q][p] = _mm512_dpbusd_epi32(acc[q][p], in[p], weight);
            }
            x += g.group_stride;
            w += 4 * Q;
        }
    }
    for (size_t q = 0; q < Q; ++q) {
        int32_t* to = g.acc + q * g.acc_pitch + vector * kLanes;
        for (size_t p = 0; p < P; ++p) _mm512_storeu_si512(to + p * kLanes, acc[q][p]);
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
            default: tile<4, Q>(g, begin); break;
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

void interleave(const uint8_t* const in[4], size_t n, uint8_t* dst) {
    for (size_t i = 0; i < n; i += 16, dst += 64) {
        const __m128i a = _mm_loadu_si128(reinterpret_cast<const __m128i*>(in[0] + i));
        const __m128i b = _mm_loadu_si128(reinterpret_cast<const __m128i*>(in[1] + i));
        const __m128i c = _mm_loadu_si128(reinterpret_cast<const __m128i*>(in[2] + i));
        const __m128i d = _mm_loadu_si128(reinterpret_cast<const __m128i*>(in[3] + i));
        const __m128i ab0 = _mm_unpacklo_epi8(a, b), ab1 = _mm_unpackhi_epi8(a, b);
        const __m128i cd0 = _mm_unpacklo_epi8(c, d), cd1 = _mm_unpackhi_epi8(c, d);
        auto* to = reinterpret_cast<__m128i*>(dst);
        _mm_storeu_si128(to, _mm_unpacklo_epi16(ab0, cd0));
        _mm_storeu_si128(to + 1, _mm_unpackhi_epi16(ab0, cd0));
        _mm_storeu_si128(to + 2, _mm_unpacklo_epi16(ab1, cd1));
        _mm_storeu_si128(to + 3, _mm_unpackhi_epi16(ab1, cd1));
    }
}

void interleave_line(const uint8_t* line, size_t stride, size_t column, uint8_t* dst) {
    const __m512i by_four = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    const __m512i transpose =
        _mm512_broadcast_i32x4(_mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
    __m512i v = _mm512_shuffle_epi8(_mm512_permutexvar_epi32(by_four, _mm512_loadu_si512(line)), transpose);
    if (stride != 1) {
        const __m512i each = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
        const __m512i at = _mm512_add_epi32(_mm512_mullo_epi32(each, _mm512_set1_epi32(static_cast<int>(stride))),
                                            _mm512_set1_epi32(static_cast<int>(column)));
        v = _mm512_permutexvar_epi32(at, v);
    }
    _mm512_storeu_si512(dst, v);
}

void decimate(const uint8_t* src, size_t n, size_t stride, uint8_t* dst) {
    if (stride != 2) return plain_decimate(src, n, stride, dst);
    for (size_t i = 0; i < n; i += 32) {
        // Bytes past the last one needed are not touched.
        const size_t left = n - i;
        const __mmask64 need = left >= 32 ? ~__mmask64{0} >> 1 : (__mmask64{1} << (2 * left - 1)) - 1;
        const __m256i even = _mm512_cvtepi16_epi8(_mm512_maskz_loadu_epi8(need, src + 2 * i));
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(dst + i), even);
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

// 64 results from 4 vectors, by the quick way; worst collects the distances from the nearest integer.
inline __m512i quick_ramp(const __m512i acc[4], const __m512 a[4], const __m512 b[4], __m512& worst) {
    __m512i y[4];
    for (int i = 0; i < 4; ++i) {
        const __m512 v = _mm512_fmadd_ps(_mm512_cvtepi32_ps(acc[i]), a[i], b[i]);
        worst = _mm512_range_ps(worst, _mm512_reduce_ps(v, kEven), 0x0B);      // the larger magnitude
        y[i] = _mm512_cvt_roundps_epi32(v, kEven);
    }
    const __m512i words01 = _mm512_packs_epi32(y[0], y[1]), words23 = _mm512_packs_epi32(y[2], y[3]);
    // The packs work in 128-bit parts: dword 4 * part + i is from y[i].
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    return _mm512_permutexvar_epi32(order, _mm512_packus_epi16(words01, words23));
}

void ramp(const int32_t* acc, size_t n, const Ramp& r, uint8_t* dst) {
    if (!(r.tie > 0.0F)) return exact_ramp(acc, n, r, dst);
    const __m512 a1 = _mm512_set1_ps(r.a), b1 = _mm512_set1_ps(r.b), tie = _mm512_set1_ps(r.tie);
    const __m512 a[4] = {a1, a1, a1, a1}, b[4] = {b1, b1, b1, b1};
    const __m512i bias = _mm512_set1_epi8(static_cast<char>(r.bias));
    for (size_t i = 0; i < n; i += 64) {
        __m512i in[4];
        for (size_t j = 0; j < 4; ++j) in[j] = _mm512_loadu_si512(acc + i + 16 * j);
        __m512 worst = _mm512_setzero_ps();
        const __m512i y = quick_ramp(in, a, b, worst);
        _mm512_storeu_si512(dst + i, _mm512_adds_epu8(y, bias));
        if (_mm512_cmp_ps_mask(worst, tie, _CMP_GT_OQ) != 0) [[unlikely]] exact_ramp(acc + i, 64, r, dst + i);
    }
}

// One line again, in doubles.
[[gnu::noinline]] __m512i exact_line(const __m512i acc[4], const DepthwiseLines& d) {
    alignas(64) int32_t values[16];
    alignas(64) uint8_t line[64];
    for (int i = 0; i < 4; ++i) {
        _mm512_store_si512(values, acc[i]);
        exact_ramp(values, 16, *d.piece[i].ramp, line + 16 * i);
    }
    return _mm512_load_si512(line);
}

void depthwise_lines(const DepthwiseLines& d) {
    // A piece is loaded with the 4 bytes before it, except at the start of a row; lane i of its windows gets the bytes
    // left of, at and right of pixel i, and those outside the picture become pad_value.
    const __m512i start = _mm512_setr_epi32(0, 0, 1, 0, 0, 1, 2, 0, 1, 2, 3, 0, 2, 3, 4, 0);
    const __m512i inner = _mm512_setr_epi32(0, 1, 2, 0, 1, 2, 3, 0, 2, 3, 4, 0, 3, 4, 5, 0);
    const __m512i shuffle = _mm512_broadcast_i32x4(_mm_setr_epi8(3, 4, 5, 6, 4, 5, 6, 7, 5, 6, 7, 8, 6, 7, 8, 9));
    const __m512i pad = _mm512_set1_epi8(static_cast<char>(d.pad_value));
    __m512i w[4][3], init[4], spread[4], bias = _mm512_setzero_si512();
    __m512 a[4], b[4], tie = _mm512_set1_ps(1.0F);
    size_t from[4];
    __mmask64 keep[4];
    for (int i = 0; i < 4; ++i) {
        const DepthwiseLines::Piece& p = d.piece[i];
        for (int k = 0; k < 3; ++k) w[i][k] = _mm512_set1_epi32(p.w[k]);
        init[i] = _mm512_set1_epi32(p.init);
        a[i] = _mm512_set1_ps(p.ramp->a);
        b[i] = _mm512_set1_ps(p.ramp->b);
        tie = _mm512_min_ps(tie, _mm512_set1_ps(p.ramp->tie));
        bias = _mm512_mask_set1_epi8(bias, __mmask64{0xFFFF} << 16 * i, static_cast<char>(p.ramp->bias));
        spread[i] = p.row_start ? start : inner;
        from[i] = 16 * static_cast<size_t>(i) - (p.row_start ? 0 : 4);
        keep[i] = p.keep;
    }
    const auto window = [&](const uint8_t* line, int i) {
        const __m256i bytes = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(line + from[i]));
        const __m512i four = _mm512_permutexvar_epi32(spread[i], _mm512_castsi256_si512(bytes));
        return _mm512_mask_shuffle_epi8(pad, keep[i], four, shuffle);
    };
    const uint8_t* line = d.src;
    __m512i upper[4], lower[4];
    for (int i = 0; i < 4; ++i) {
        const __m512i first = window(line, i);
        upper[i] = _mm512_dpbusd_epi32(_mm512_dpbusd_epi32(init[i], pad, w[i][0]), first, w[i][1]);
        lower[i] = _mm512_dpbusd_epi32(init[i], first, w[i][0]);
    }
    uint8_t* to = d.dst;
    for (size_t y = 1; y <= d.rows; ++y, to += d.dst_row) {
        line += d.src_row;
        __m512i acc[4];
        for (int i = 0; i < 4; ++i) {
            const __m512i r = y < d.rows ? window(line, i) : pad;
            acc[i] = _mm512_dpbusd_epi32(upper[i], r, w[i][2]);
            upper[i] = _mm512_dpbusd_epi32(lower[i], r, w[i][1]);
            lower[i] = _mm512_dpbusd_epi32(init[i], r, w[i][0]);
        }
        __m512 worst = _mm512_setzero_ps();
        __m512i result = _mm512_adds_epu8(quick_ramp(acc, a, b, worst), bias);
        if (_mm512_cmp_ps_mask(worst, tie, _CMP_GT_OQ) != 0) [[unlikely]] result = exact_line(acc, d);
        _mm512_mask_storeu_epi8(to, d.store, result);
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

bool supported() {
#if defined(_MSC_VER)
    return false;
#else
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni");
#endif
}

}  // namespace

const Kernels kernels_avx512vnni = {
    .name = "avx512vnni",
    .lanes = kLanes,
    .oc_block = kOcBlock,
    .weight_bytes = 1,
    .signed_x = false,
    .supported = supported,
    .interleave = interleave,
    .gemm = gemm,
    .depthwise = depthwise,
    .depthwise_lines = depthwise_lines,
    .interleave_line = interleave_line,
    .add_scaled = plain_add_scaled,
    .ramp = ramp,
    .table = table,
    .pool = plain_pool,
    .decimate = decimate,
};

}  // namespace openkpu
