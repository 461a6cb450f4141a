// One KPU layer, packed for one instruction set.
#pragma once

#include <vector>

#include "parameters.hpp"

namespace openkpu {

class Layer {
  public:
    Layer(const Kernels&, const Geometry&, const uint16_t* weights, const int64_t* norm, const int64_t* activation);
    Layer(const Layer&) = delete;           // pieces_ points into p_
    Layer(Layer&&) = default;

    // Reads the input from ai_ram (2 MiB), writes the output there and, if out is not null, dense to out. Thread-safe.
    void run(uint8_t* ai_ram, size_t threads, uint8_t* out) const;

    // How results are finished: "ramp", "table" or "exact".
    const char* path() const { return p_.exact ? "exact" : p_.is_ramp ? "ramp" : "table"; }

  private:
    // The positions that are computed: those a selecting pool keeps, or the whole map.
    struct Grid {
        size_t rows, columns, stride, column;   // grid position (y, x) is input pixel (y*stride, x*stride + column)
    };

    void pack_dense(const uint16_t* weights);
    void pack_depthwise(const uint16_t* weights);
    int part_of(uint16_t weight, int part) const;
    // Bands are runs of grid rows [row, row + rows).
    void pack_input(const uint8_t* src, uint8_t* x, size_t group, size_t row, size_t rows) const;
    void dense_block(const uint8_t* x, size_t row, size_t rows, size_t oc_begin, size_t oc_end, uint8_t* ai_ram,
                     uint8_t* out) const;
    const uint8_t* source(const uint8_t* ai_ram) const;
    size_t packed_bytes() const;
    void run_dense(uint8_t* ai_ram, size_t threads, uint8_t* out) const;
    void pack_pieces();
    void depthwise_lines(const uint8_t* src, size_t group, uint8_t* ai_ram, uint8_t* out) const;
    void depthwise_channel(const uint8_t* src, size_t c, uint8_t* ai_ram, uint8_t* out) const;
    void run_depthwise(uint8_t* ai_ram, size_t threads, uint8_t* out) const;
    void finish_row(const int32_t* acc, size_t n, size_t c, uint8_t* dst) const;
    void finish_row_exactly(const int32_t* const parts[2], const int32_t* sum_x, size_t n, size_t c, uint8_t* dst) const;
    void write_channel(const uint8_t* plane, size_t pitch, size_t row, size_t rows, size_t c, uint8_t* ai_ram,
                       uint8_t* out) const;
    void pool_row(const uint8_t* plane, size_t pitch, size_t row, size_t oy, uint8_t* dst) const;

    const Kernels& k_;
    Geometry g_;
    Parameters p_;
    Grid grid_{};
    bool quick_ = false;                    // every channel is a quick ramp
    bool by_lines_ = false;                 // depthwise and in the natural layout: whole lines at a time
    bool sampled_ = false;                  // the pool selects, and the grid holds exactly what it keeps

    // dense
    size_t groups_ = 0;                     // of 4 input channels
    size_t band_rows_ = 0;                  // grid rows that are packed at a time
    size_t phase_rows_ = 0, pitch_ = 0;     // a packed band: phases of (phase_rows_, pitch_) pixels
    size_t group_stride_ = 0;               // bytes
    struct Phase {
        size_t row, column;                 // of the padded input, modulo the stride
    };
    std::vector<Phase> phases_;
    std::vector<size_t> taps_;              // byte offset of each tap
    std::vector<uint8_t> w_[2], ones_;      // packed weights for each part
    std::vector<size_t> block_offset_;      // of each block of oc_block channels in w_
    // both
    std::vector<int32_t> init_[2];          // (oc,) for each part
    int32_t ones_init_ = 0;
    std::vector<int8_t> dw_[2];             // depthwise weights (oc, 9) for each part
    int8_t dw_ones_[9] = {};
    std::vector<DepthwiseLines::Piece> pieces_;     // when by_lines_: 4 for each line of each group of channels
    std::vector<uint64_t> stores_;
};

}  // namespace openkpu
