// A layer's arguments, and the form of them that the kernels read.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels.hpp"

namespace openkpu {

// Everything the registers say. Addresses and distances are in bytes of AI RAM; all was checked by the caller.
struct Geometry {
    size_t ic, h, w, oc, oh, ow;
    int kernel;                 // 1 or 3
    bool depthwise;
    uint8_t pad_value;
    PoolOp pool_op;
    int pool_size, pool_stride, pool_column;
    size_t src, src_channel, src_row, src_group;
    size_t dst, dst_channel, dst_row, dst_group;
    int64_t arg_x, arg_w, arg_add;
    int shr_x, shr_w;

    size_t inputs() const { return depthwise ? 1 : ic; }            // input channels of one output channel
    size_t taps() const { return static_cast<size_t>(kernel) * static_cast<size_t>(kernel); }
};

struct Segment {
    int64_t x_start, y_mul, shift, bias;
};

// A division of bn into 32 cells of one width, the outermost without an end, so that no two edges of a table share a cell.
struct Grading {
    double start = 0, width = 0;            // of the second cell; no such division where the width is 0
};

struct ChannelNorm {
    int64_t mul, add, shift;
};

// What the kernels need beyond the weights. `exact` layers can leave the ranges in which 32-bit sums and doubles are exact;
// they are computed in 64-bit integers, value by value.
struct Parameters {
    bool exact = false;
    int weight_parts = 1;                   // 2: weights above 255, as high and low bytes
    int weight_offset = 128;                // the kernels multiply by w - weight_offset
    uint32_t sum_factor = 0;                // alu = kernel sum + sum_factor * sum(x) + constant; 0: no sum(x) needed
    std::vector<int64_t> constant;          // (oc,) (arg_w * sum(w) >> shr_w) + arg_add * n
    std::vector<ChannelNorm> norm;          // (oc,)
    std::vector<double> scale;              // (oc,) mul * 2^-shift
    Segment segments[16];
    bool is_ramp = false;
    std::vector<Ramp> ramps;                // (oc,) when is_ramp
    Table table{};                          // else, with norm's scale and add
    Grading grading;                        // of table
    std::vector<QuickTable> quick;          // (oc,) beside table
};

// weights: (oc, inputs * taps), order [input][tap].
Parameters make_parameters(const Geometry&, const uint16_t* weights, const int64_t* norm, const int64_t* activation);

// The specification itself, for one value (section "arithmetic" of reference.py); wraps at 64 bits as NumPy does.
uint8_t finish_exactly(int64_t alu, const ChannelNorm&, const Segment segments[16]);

}  // namespace openkpu
