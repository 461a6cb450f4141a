// What an instruction set provides: a handful of primitives over plain arrays. layer.cpp strings them together.
//
// Pixels lie in lanes: the input is packed as [group of 4 channels][pixel][4 channels], so that a vector register holds
// the 4-channel groups of consecutive pixels, a weight is 4 broadcast bytes, and an accumulator register holds
// consecutive pixels of one output channel.
//
// Every primitive may read and write up to 64 pixels past the count it is given; callers leave that room.
#pragma once

#include <cstddef>
#include <cstdint>

namespace openkpu {

struct Ramp;

// acc[q][p] = init[q] + sum over taps, groups and 4 channels of x * w, in 32 bits (wrapping).
struct Gemm {
    const uint8_t* x;           // first pixel of tap offset 0
    const size_t* taps;         // byte offset of each tap from x
    size_t tap_count;
    size_t group_stride;        // bytes from one group of 4 channels to the next
    size_t groups;
    const void* w;              // [tap][group][q][4], in the instruction set's own element type (Kernels::weight_bytes)
    size_t q;                   // 1..Kernels::oc_block output channels
    size_t vectors;             // pixels / Kernels::lanes, rounded up
    bool single;                // only the first pixel of the last vector is needed
    const int32_t* init;        // (q,)
    int32_t* acc;
    size_t acc_pitch;           // elements from one output channel to the next
    // Where ramps is not null (Kernels::fused, all with tie > 0), the result is finished at once and goes to dst, not acc.
    const Ramp* ramps;          // (q,)
    uint8_t* dst;
    size_t dst_pitch;
};

// dst[y][x][c] = channel[c][y][column + x * stride], c = 0..3. Reads nothing past the last pixel it needs.
struct Interleave {
    const uint8_t* channel[4];
    size_t pitch;               // bytes from row to row
    uint8_t* dst;
    size_t dst_pitch;           // bytes
    size_t n;                   // pixels of a row of dst
    size_t rows;
    size_t stride, column;
};

// dst[y][x] = table[src[y][x * step]], or without the table where it is null. Touches no other byte of dst.
struct MoveRows {
    const uint8_t* src;
    ptrdiff_t src_pitch, step;
    uint8_t* dst;
    ptrdiff_t dst_pitch;
    size_t n, rows;
    const uint8_t* table;       // 256 bytes
};

// acc[y][x] = init + sum over 3x3 taps of src * w; src points at the pixel left above of output (0, 0); acc is dense.
struct Depthwise {
    const uint8_t* src;
    size_t pitch;
    size_t width;
    size_t rows;
    const int8_t* w;            // (9,)
    int32_t init;
    int32_t* acc;
};

// Batch norm and an activation that is one rising ramp:
//   y = min(255, rint(max(floor(acc * scale) + offset, 0) * slope) + bias)
// All operations on doubles are exact for the layers that use it (parameters.cpp has the proof), rint is half to even.
//
// The quick way, where tie > 0: v = acc * a + b in single precision differs from the value that rint() rounds by less
// than 0.5 - tie. So when v is within tie of an integer, that integer is the result, and only where some v of a few
// vectors is not (rarely) are these computed again in doubles.
struct Ramp {
    double scale, offset, slope;
    int32_t bias;
    float a, b, tie;
};

// A whole depthwise layer of one strip of AI RAM: a column of 64-byte lines that lie row_bytes apart. A line holds four
// pieces of 16 pixels, of one, two or four channels. Rows above and below are padding. Output lines are made alike.
struct DepthwiseLines {
    struct Piece {
        int32_t w[3];           // a row of the kernel each: 3 weights and 0
        int32_t init;
        const Ramp* ramp;       // tie > 0 unless acc is given
        uint64_t keep;          // bit 4*i+k: the pixel k-1 right of pixel i is in the picture
        bool row_start;         // nothing of this channel's row lies before this piece
    };
    const uint8_t* src;         // 16 bytes after each line can be read, and 4 before a piece that is not at a row's start
    size_t src_row;
    uint8_t* dst;
    size_t dst_row;
    size_t rows;
    uint8_t pad_value;
    uint64_t store;             // bytes of a line that are pixels
    const Piece* piece;         // (4,)
    // Where acc is not null, the ramps are not used and the sums go there: piece i, row y at acc + (i * rows + y) * 16.
    int32_t* acc;
};

// The general activation: k = number of edges below bn, t = (bn - start[k]) * slope[k], r = rint(t) for t >= 0 and
// 2 * floor(t) - rint(t) below (the chip moves the floor the wrong way there), y = clamp(r + bias[k], 0, 255).
struct Table {
    int edges;                  // 0..15; segments = edges + 1
    double edge[16], start[16], slope[16], bias[16];
};

// The quick way of the general activation for one output channel, where margin > 0. The interval is found exactly from the
// sum itself: k = number of edges below acc. There acc * a[k] + b[k] in single precision, rounded to an integer M, is between
// 0 and margin above
//   2^bits * (2 * (t + bias) + 1)   where t >= 0, and   2^bits * 2 * (t + bias)   where t <= 0; the last bit of a[k] is then set.
// With m = M >> bits and that bit the result is
//   y = clamp((m >> 1) - (m & bit), 0, 255)
// unless the last bits of M are less than margin: then doubles decide.
//
// Where by_cells, k is found in fewer steps: acc lies in cell c = trunc(clamp(acc * cell_a + cell_b, 0, 31)), again in single
// precision. Bits 4 and up of cell[c] are the one edge that may lie in that cell, bits 0 to 3 the number of edges before it.
struct QuickTable {
    int32_t edge[16];           // acc > edge[k]: interval k + 1 or a later one
    float a[16], b[16];
    int32_t margin = 0;
    int bits = 0;
    bool by_cells = false;
    float cell_a, cell_b;
    int32_t cell[32];
};

enum class PoolOp : int { select = 0, max = 1, mean = 2 };

struct Kernels {
    const char* name;
    size_t lanes;               // pixels of one vector
    size_t oc_block;            // output channels of one gemm call
    size_t weight_bytes;        // 1: int8 w0 w1 w2 w3; 2: int16 w0 w2 w1 w3
    bool fused;                 // gemm can apply ramps
    bool signed_x;              // gemm computes with x - 128; the caller makes up for it in init
    bool (*supported)();
    void (*interleave)(const Interleave&);
    // The same from lines of 4 channels x 16 pixels: channel[0] is the line. May be null.
    void (*interleave_lines)(const Interleave&);
    void (*gemm)(const Gemm&);
    void (*depthwise)(const Depthwise&);
    void (*depthwise_lines)(const DepthwiseLines&);             // may be null
    // The bytes of four pieces, piece i, row y at from + (i * rows + y) * 16, into lines; beside depthwise_lines.
    void (*store_lines)(const DepthwiseLines&, const uint8_t* from);
    // Copies rows of n bytes, and touches no other byte of dst.
    void (*copy_rows)(const uint8_t* src, size_t src_pitch, uint8_t* dst, size_t dst_pitch, size_t n, size_t rows);
    void (*move_rows)(const MoveRows&);
    void (*add_scaled)(int32_t* acc, const int32_t* sum, uint32_t factor, size_t n);   // acc += sum * factor, wrapping
    void (*ramp)(const int32_t* acc, size_t n, const Ramp&, uint8_t* dst);
    // bn = floor(acc * scale) + add
    void (*table)(const int32_t* acc, size_t n, const Table&, double scale, double add, uint8_t* dst);
    // The same by the quick way, with the others for what it is not sure of. May be null.
    void (*quick_table)(const int32_t* acc, size_t n, const QuickTable&, const Table&, double scale, double add,
                        uint8_t* dst);
    // dst[i] = op over rows 0..size-1, columns i*stride .. i*stride+size-1; never reads past column (n-1)*stride+size-1
    void (*pool)(PoolOp op, int size, int stride, const uint8_t* const rows[4], size_t n, uint8_t* dst);
};

extern const Kernels kernels_portable;
#if defined(OPENKPU_X86)
extern const Kernels kernels_avx2;
extern const Kernels kernels_avx512vnni;
#endif
#if defined(OPENKPU_ARM64)
extern const Kernels kernels_neondot;
#endif

// Instruction sets that run on this machine, best first; a null pointer ends the list.
const Kernels* const* available_kernels();

}  // namespace openkpu
