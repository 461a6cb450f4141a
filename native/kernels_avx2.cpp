// AVX2. There is no exact instruction for bytes (vpmaddubsw saturates), so inputs are widened to 16 bits for vpmaddwd:
// the even and the odd bytes of a group of 4 channels, against weights stored as 16-bit pairs w0 w2, w1 w3.
#include <immintrin.h>

#include "kernels_plain.hpp"

namespace openkpu {
namespace {

constexpr size_t kLanes = 8;
constexpr size_t kOcBlock = 4;

template <size_t P, size_t Q>
void tile(const Gemm& g, size_t vector) {
    __m256i acc[Q][P];
    for (size_t q = 0; q < Q; ++q) {
        for (size_t p = 0; p < P; ++p) acc[q][p] = _mm256_set1_epi32(g.init[q]);
    }
    const __m256i even = _mm256_set1_epi16(0xFF);
    const uint8_t* const base = g.x + vector * kLanes * 4;
    const auto* w = static_cast<const uint8_t*>(g.w);
    for (size_t t = 0; t < g.tap_count; ++t) {
        const uint8_t* x = base + g.taps[t];
        for (size_t k = 0; k < g.groups; ++k) {
            __m256i in0[P], in1[P];
            for (size_t p = 0; p < P; ++p) {
                const __m256i v = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x + p * 32));
                in0[p] = _mm256_and_si256(v, even);
                in1[p] = _mm256_srli_epi16(v, 8);
            }
            for (size_t q = 0; q < Q; ++q) {
                int32_t pair[2];
                memcpy(pair, w + 8 * q, 8);
                const __m256i w0 = _mm256_set1_epi32(pair[0]), w1 = _mm256_set1_epi32(pair[1]);
                for (size_t p = 0; p < P; ++p) {
                    acc[q][p] = _mm256_add_epi32(acc[q][p], _mm256_madd_epi16(in0[p], w0));
                    acc[q][p] = _mm256_add_epi32(acc[q][p], _mm256_madd_epi16(in1[p], w1));
                }
            }
            x += g.group_stride;
            w += 8 * Q;
        }
    }
    for (size_t q = 0; q < Q; ++q) {
        int32_t* to = g.acc + q * g.acc_pitch + vector * kLanes;
        for (size_t p = 0; p < P; ++p) _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + p * kLanes), acc[q][p]);
    }
}

template <size_t Q>
void rows(const Gemm& g) {
    size_t v = 0;
    for (; v + 2 <= g.vectors; v += 2) tile<2, Q>(g, v);
    if (v < g.vectors) tile<1, Q>(g, v);
}

void gemm(const Gemm& g) {
    switch (g.q) {
        case 1: rows<1>(g); break;
        case 2: rows<2>(g); break;
        case 3: rows<3>(g); break;
        default: rows<4>(g); break;
    }
}

void interleave(const Interleave& v) {
    if (v.stride != 1) return plain_interleave(v);
    for (size_t y = 0; y < v.rows; ++y) {
        const uint8_t* in[4];
        for (int c = 0; c < 4; ++c) in[c] = v.channel[c] + y * v.pitch + v.column;
        uint8_t* dst = v.dst + y * v.dst_pitch;
        size_t i = 0;
        for (; i + 16 <= v.n; i += 16) {
            const __m128i a = _mm_loadu_si128(reinterpret_cast<const __m128i*>(in[0] + i));
            const __m128i b = _mm_loadu_si128(reinterpret_cast<const __m128i*>(in[1] + i));
            const __m128i c = _mm_loadu_si128(reinterpret_cast<const __m128i*>(in[2] + i));
            const __m128i d = _mm_loadu_si128(reinterpret_cast<const __m128i*>(in[3] + i));
            const __m128i ab0 = _mm_unpacklo_epi8(a, b), ab1 = _mm_unpackhi_epi8(a, b);
            const __m128i cd0 = _mm_unpacklo_epi8(c, d), cd1 = _mm_unpackhi_epi8(c, d);
            auto* to = reinterpret_cast<__m128i*>(dst + 4 * i);
            _mm_storeu_si128(to, _mm_unpacklo_epi16(ab0, cd0));
            _mm_storeu_si128(to + 1, _mm_unpackhi_epi16(ab0, cd0));
            _mm_storeu_si128(to + 2, _mm_unpacklo_epi16(ab1, cd1));
            _mm_storeu_si128(to + 3, _mm_unpackhi_epi16(ab1, cd1));
        }
        for (; i < v.n; ++i) {
            for (size_t c = 0; c < 4; ++c) dst[4 * i + c] = in[c][i];
        }
    }
}

inline __m256i words(const uint8_t* p) {
    return _mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}

// 16 pixels at a time; the nine taps go in pairs through vpmaddwd (the ninth with zero).
void depthwise(const Depthwise& d) {
    __m256i w[5];
    for (int i = 0; i < 5; ++i) {
        const int16_t pair[2] = {d.w[2 * i], i < 4 ? d.w[2 * i + 1] : int8_t{0}};
        int32_t word;
        memcpy(&word, pair, 4);
        w[i] = _mm256_set1_epi32(word);
    }
    const __m256i init = _mm256_set1_epi32(d.init), zero = _mm256_setzero_si256();
    for (size_t y = 0; y < d.rows; ++y) {
        const uint8_t* src = d.src + y * d.pitch;
        int32_t* acc = d.acc + y * d.width;
        for (size_t x = 0; x < d.width; x += 16) {
            __m256i tap[10];
            for (size_t i = 0; i < 9; ++i) tap[i] = words(src + i / 3 * d.pitch + x + i % 3);
            tap[9] = zero;
            __m256i low = init, high = init;
            for (int i = 0; i < 5; ++i) {
                low = _mm256_add_epi32(low, _mm256_madd_epi16(_mm256_unpacklo_epi16(tap[2 * i], tap[2 * i + 1]), w[i]));
                high = _mm256_add_epi32(high, _mm256_madd_epi16(_mm256_unpackhi_epi16(tap[2 * i], tap[2 * i + 1]), w[i]));
            }
            // unpack works in halves: low holds pixels 0-3 and 8-11, high 4-7 and 12-15.
            auto* to = reinterpret_cast<__m256i*>(acc + x);
            _mm256_storeu_si256(to, _mm256_permute2x128_si256(low, high, 0x20));
            _mm256_storeu_si256(to + 1, _mm256_permute2x128_si256(low, high, 0x31));
        }
    }
}

constexpr int kEven = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
constexpr int kFloor = _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC;

inline __m256d bn_floor(const int32_t* acc, __m256d scale) {
    const __m256d v = _mm256_cvtepi32_pd(_mm_loadu_si128(reinterpret_cast<const __m128i*>(acc)));
    return _mm256_round_pd(_mm256_mul_pd(v, scale), kFloor);
}

// Stores 16 bytes from four vectors of 32-bit results in 0..767.
inline void store_bytes(uint8_t* dst, __m128i a, __m128i b, __m128i c, __m128i d) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(dst), _mm_packus_epi16(_mm_packs_epi32(a, b), _mm_packs_epi32(c, d)));
}

void exact_ramp(const int32_t* acc, size_t n, const Ramp& r, uint8_t* dst) {
    const __m256d scale = _mm256_set1_pd(r.scale), offset = _mm256_set1_pd(r.offset), slope = _mm256_set1_pd(r.slope);
    const __m256d zero = _mm256_setzero_pd(), top = _mm256_set1_pd(512.0);
    const __m128i bias = _mm_set1_epi32(r.bias);
    const auto four = [&](const int32_t* from) {
        const __m256d z = _mm256_max_pd(_mm256_add_pd(bn_floor(from, scale), offset), zero);
        const __m256d t = _mm256_round_pd(_mm256_min_pd(_mm256_mul_pd(z, slope), top), kEven);
        return _mm_add_epi32(_mm256_cvttpd_epi32(t), bias);
    };
    for (size_t i = 0; i < n; i += 16) {
        store_bytes(dst + i, four(acc + i), four(acc + i + 4), four(acc + i + 8), four(acc + i + 12));
    }
}

void ramp(const int32_t* acc, size_t n, const Ramp& r, uint8_t* dst) {
    if (!(r.tie > 0.0F)) return exact_ramp(acc, n, r, dst);
    const __m256 a = _mm256_set1_ps(r.a), b = _mm256_set1_ps(r.b), sign = _mm256_set1_ps(-0.0F);
    const __m256 tie = _mm256_set1_ps(r.tie);
    const __m256i bias = _mm256_set1_epi8(static_cast<char>(r.bias));
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);     // the packs work in 128-bit halves
    for (size_t i = 0; i < n; i += 32) {
        __m256i y[4];
        __m256 worst = _mm256_setzero_ps();
        for (size_t j = 0; j < 4; ++j) {
            const __m256i sum = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(acc + i + 8 * j));
            const __m256 v = _mm256_add_ps(_mm256_mul_ps(_mm256_cvtepi32_ps(sum), a), b);
            const __m256 nearest = _mm256_round_ps(v, kEven);
            worst = _mm256_max_ps(worst, _mm256_andnot_ps(sign, _mm256_sub_ps(v, nearest)));
            y[j] = _mm256_cvttps_epi32(nearest);
        }
        const __m256i bytes = _mm256_packus_epi16(_mm256_packs_epi32(y[0], y[1]), _mm256_packs_epi32(y[2], y[3]));
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(dst + i),
                            _mm256_adds_epu8(_mm256_permutevar8x32_epi32(bytes, order), bias));
        if (_mm256_movemask_ps(_mm256_cmp_ps(worst, tie, _CMP_GT_OQ)) != 0) exact_ramp(acc + i, 32, r, dst + i);
    }
}

void table(const int32_t* acc, size_t n, const Table& a, double scale_, double add_, uint8_t* dst) {
    const __m256d scale = _mm256_set1_pd(scale_), add = _mm256_set1_pd(add_), zero = _mm256_setzero_pd();
    const __m256d low = _mm256_set1_pd(-1024.0), high = _mm256_set1_pd(1024.0), top = _mm256_set1_pd(255.0);
    const auto four = [&](const int32_t* from) {
        const __m256d bn = _mm256_add_pd(bn_floor(from, scale), add);
        __m256i k = _mm256_setzero_si256();
        for (int j = 0; j < a.edges; ++j) {
            k = _mm256_sub_epi64(k, _mm256_castpd_si256(_mm256_cmp_pd(bn, _mm256_set1_pd(a.edge[j]), _CMP_GT_OQ)));
        }
        __m256d t = _mm256_mul_pd(_mm256_sub_pd(bn, _mm256_i64gather_pd(a.start, k, 8)), _mm256_i64gather_pd(a.slope, k, 8));
        t = _mm256_max_pd(_mm256_min_pd(t, high), low);
        const __m256d e = _mm256_round_pd(t, kEven), f = _mm256_round_pd(t, kFloor);
        const __m256d quirk = _mm256_sub_pd(_mm256_add_pd(f, f), e);
        const __m256d r = _mm256_blendv_pd(e, quirk, _mm256_cmp_pd(t, zero, _CMP_LT_OQ));
        const __m256d y = _mm256_add_pd(r, _mm256_i64gather_pd(a.bias, k, 8));
        return _mm256_cvttpd_epi32(_mm256_min_pd(_mm256_max_pd(y, zero), top));
    };
    for (size_t i = 0; i < n; i += 16) {
        store_bytes(dst + i, four(acc + i), four(acc + i + 4), four(acc + i + 8), four(acc + i + 12));
    }
}

bool supported() {
    return __builtin_cpu_supports("avx2");
}

}  // namespace

const Kernels kernels_avx2 = {
    .name = "avx2",
    .lanes = kLanes,
    .oc_block = kOcBlock,
    .weight_bytes = 2,
    .fused = false,
    .signed_x = false,
    .supported = supported,
    .interleave = interleave,
    .interleave_lines = nullptr,
    .gemm = gemm,
    .depthwise = depthwise,
    .depthwise_lines = nullptr,
    .store_lines = nullptr,
    .copy_rows = plain_copy_rows,
    .move_rows = plain_move_rows,
    .add_scaled = plain_add_scaled,
    .ramp = ramp,
    .table = table,
    .quick_table = nullptr,
    .pool = plain_pool,
};

}  // namespace openkpu
