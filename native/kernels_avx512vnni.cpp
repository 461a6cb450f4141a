// AVX-512 with VNNI: vpdpbusd multiplies unsigned inputs by signed weights and adds four products, exactly.
#include "avx512_finish.hpp"
#include "avx512_moves.hpp"

namespace openkpu {
namespace {

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
