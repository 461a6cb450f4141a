// Bytes that move: rows, and the packing of four channels side by side.
#pragma once

#include <immintrin.h>

#include "avx512_common.hpp"

namespace openkpu {
namespace {

void copy_rows(const uint8_t* src, size_t src_pitch, uint8_t* dst, size_t dst_pitch, size_t n, size_t rows) {
    const size_t whole = n / 64 * 64;
    const __mmask64 rest = (__mmask64{1} << n % 64) - 1;
    for (; rows > 0; --rows, src += src_pitch, dst += dst_pitch) {
        for (size_t i = 0; i < whole; i += 64) _mm512_storeu_si512(dst + i, _mm512_loadu_si512(src + i));
        _mm512_mask_storeu_epi8(dst + whole, rest, _mm512_maskz_loadu_epi8(rest, src + whole));
    }
}

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

}  // namespace
}  // namespace openkpu
