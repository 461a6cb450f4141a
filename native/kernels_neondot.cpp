// Arm NEON with the dot-product extension. sdot multiplies signed by signed bytes, so gemm computes with x - 128 and the
// caller adds 128 * sum(w) to init.
#include <arm_neon.h>

#if defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

#include "kernels_plain.hpp"

namespace openkpu {
namespace {

constexpr size_t kLanes = 4;
constexpr size_t kOcBlock = 4;
constexpr size_t kVectors = 4;

template <size_t P>
void tile4(const Gemm& g, size_t vector) {
    int32x4_t acc[4][P];
    for (size_t q = 0; q < 4; ++q) {
        for (size_t p = 0; p < P; ++p) acc[q][p] = vdupq_n_s32(g.init[q]);
    }
    const uint8x16_t flip = vdupq_n_u8(0x80);
    const uint8_t* const base = g.x + vector * kLanes * 4;
    const auto* w = static_cast<const int8_t*>(g.w);
    for (size_t t = 0; t < g.tap_count; ++t) {
        const uint8_t* x = base + g.taps[t];
        for (size_t k = 0; k < g.groups; ++k, x += g.group_stride, w += 16) {
            const int8x16_t weight = vld1q_s8(w);
            for (size_t p = 0; p < P; ++p) {
                const int8x16_t in = vreinterpretq_s8_u8(veorq_u8(vld1q_u8(x + p * 16), flip));
                acc[0][p] = vdotq_laneq_s32(acc[0][p], in, weight, 0);
                acc[1][p] = vdotq_laneq_s32(acc[1][p], in, weight, 1);
                acc[2][p] = vdotq_laneq_s32(acc[2][p], in, weight, 2);
                acc[3][p] = vdotq_laneq_s32(acc[3][p], in, weight, 3);
            }
        }
    }
    for (size_t q = 0; q < 4; ++q) {
        for (size_t p = 0; p < P; ++p) vst1q_s32(g.acc + q * g.acc_pitch + (vector + p) * kLanes, acc[q][p]);
    }
}

// One output channel of a block of Q < 4.
void tile1(const Gemm& g, size_t vector, size_t q) {
    int32x4_t acc = vdupq_n_s32(g.init[q]);
    const uint8x16_t flip = vdupq_n_u8(0x80);
    const uint8_t* const base = g.x + vector * kLanes * 4;
    const auto* w = static_cast<const int8_t*>(g.w) + 4 * q;
    for (size_t t = 0; t < g.tap_count; ++t) {
        const uint8_t* x = base + g.taps[t];
        for (size_t k = 0; k < g.groups; ++k, x += g.group_stride, w += 4 * g.q) {
            int32_t four;
            memcpy(&four, w, 4);
            const int8x16_t in = vreinterpretq_s8_u8(veorq_u8(vld1q_u8(x), flip));
            acc = vdotq_s32(acc, in, vreinterpretq_s8_s32(vdupq_n_s32(four)));
        }
    }
    vst1q_s32(g.acc + q * g.acc_pitch + vector * kLanes, acc);
}

void gemm(const Gemm& g) {
    size_t v = 0;
    if (g.q == 4) {
        for (; v + kVectors <= g.vectors; v += kVectors) tile4<kVectors>(g, v);
        for (; v < g.vectors; ++v) tile4<1>(g, v);
        return;
    }
    for (; v < g.vectors; ++v) {
        for (size_t q = 0; q < g.q; ++q) tile1(g, v, q);
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
            vst4q_u8(dst + 4 * i, uint8x16x4_t{{vld1q_u8(in[0] + i), vld1q_u8(in[1] + i), vld1q_u8(in[2] + i),
                                               vld1q_u8(in[3] + i)}});
        }
        for (; i < v.n; ++i) {
            for (size_t c = 0; c < 4; ++c) dst[4 * i + c] = in[c][i];
        }
    }
}

void depthwise(const Depthwise& d) {
    const int32x4_t init = vdupq_n_s32(d.init);
    for (size_t y = 0; y < d.rows; ++y) {
        const uint8_t* src = d.src + y * d.pitch;
        int32_t* acc = d.acc + y * d.width;
        for (size_t x = 0; x < d.width; x += 8) {
            int32x4_t low = init, high = init;
            for (size_t t = 0; t < 9; ++t) {
                const int16x8_t v = vreinterpretq_s16_u16(vmovl_u8(vld1_u8(src + t / 3 * d.pitch + x + t % 3)));
                low = vmlal_n_s16(low, vget_low_s16(v), d.w[t]);
                high = vmlal_n_s16(high, vget_high_s16(v), d.w[t]);
            }
            vst1q_s32(acc + x, low);
            vst1q_s32(acc + x + 4, high);
        }
    }
}

// Two lanes: floor(acc * scale).
inline float64x2_t bn_floor(int32x2_t acc, float64x2_t scale) {
    return vrndmq_f64(vmulq_f64(vcvtq_f64_s64(vmovl_s32(acc)), scale));
}

template <typename Two>
inline void map_bytes(const int32_t* acc, size_t n, uint8_t* dst, Two two) {
    const auto four = [&](const int32_t* from) {
        return vcombine_s32(vmovn_s64(vcvtq_s64_f64(two(vld1_s32(from)))), vmovn_s64(vcvtq_s64_f64(two(vld1_s32(from + 2)))));
    };
    for (size_t i = 0; i < n; i += 8) {
        vst1_u8(dst + i, vqmovun_s16(vcombine_s16(vmovn_s32(four(acc + i)), vmovn_s32(four(acc + i + 4)))));
    }
}

void ramp(const int32_t* acc, size_t n, const Ramp& r, uint8_t* dst) {
    const float64x2_t scale = vdupq_n_f64(r.scale), offset = vdupq_n_f64(r.offset), slope = vdupq_n_f64(r.slope);
    const float64x2_t zero = vdupq_n_f64(0.0), top = vdupq_n_f64(512.0), bias = vdupq_n_f64(r.bias);
    map_bytes(acc, n, dst, [&](int32x2_t v) {
        const float64x2_t z = vmaxq_f64(vaddq_f64(bn_floor(v, scale), offset), zero);
        return vaddq_f64(vrndnq_f64(vminq_f64(vmulq_f64(z, slope), top)), bias);
    });
}

void table(const int32_t* acc, size_t n, const Table& a, double scale_, double add_, uint8_t* dst) {
    const float64x2_t scale = vdupq_n_f64(scale_), add = vdupq_n_f64(add_);
    const float64x2_t low = vdupq_n_f64(-1024.0), high = vdupq_n_f64(1024.0), zero = vdupq_n_f64(0.0);
    const auto pick = [](const double* from, int64x2_t k) {
        return vcombine_f64(vld1_f64(from + vgetq_lane_s64(k, 0)), vld1_f64(from + vgetq_lane_s64(k, 1)));
    };
    map_bytes(acc, n, dst, [&](int32x2_t v) {
        const float64x2_t bn = vaddq_f64(bn_floor(v, scale), add);
        int64x2_t k = vdupq_n_s64(0);
        for (int j = 0; j < a.edges; ++j) {
            k = vsubq_s64(k, vreinterpretq_s64_u64(vcgtq_f64(bn, vdupq_n_f64(a.edge[j]))));
        }
        float64x2_t t = vmulq_f64(vsubq_f64(bn, pick(a.start, k)), pick(a.slope, k));
        t = vmaxq_f64(vminq_f64(t, high), low);
        const float64x2_t e = vrndnq_f64(t), f = vrndmq_f64(t);
        const float64x2_t r = vbslq_f64(vcltq_f64(t, zero), vsubq_f64(vaddq_f64(f, f), e), e);
        return vmaxq_f64(vaddq_f64(r, pick(a.bias, k)), zero);
    });
}

bool supported() {
#if defined(__linux__)
    return (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0;
#else
    return true;    // every 64-bit Arm Mac has the extension
#endif
}

}  // namespace

const Kernels kernels_neondot = {
    .name = "neondot",
    .lanes = kLanes,
    .oc_block = kOcBlock,
    .weight_bytes = 1,
    .fused = false,
    .signed_x = true,
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
