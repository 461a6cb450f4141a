// From sums to bytes: ramps and tables, each with a quick way in single precision and an exact one in doubles.
#pragma once

#include <immintrin.h>

#include "avx512_common.hpp"

namespace openkpu {
namespace {

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

}  // namespace
}  // namespace openkpu
