#include "layer.hpp"

#include <algorithm>
#include <cstring>

#include "scratch.hpp"

namespace openkpu {

Layer::Layer(const Kernels& k, const Geometry& g, const uint16_t* weights, const int64_t* norm, const int64_t* activation)
    : k_(k), g_(g), p_(make_parameters(g, weights, norm, activation)) {
    const size_t stride = static_cast<size_t>(g.pool_stride), column = static_cast<size_t>(g.pool_column);
    sampled_ = !g.depthwise && g.pool_op == PoolOp::select && stride * (g.oh - 1) < g.h &&
               stride * (g.ow - 1) + column < g.w;
    grid_ = sampled_ ? Grid{g.oh, g.ow, stride, column} : Grid{g.h, g.w, 1, 0};
    for (int part = 0; part < p_.weight_parts; ++part) {
        init_[part].resize(g.oc);
        for (size_t c = 0; c < g.oc; ++c) {
            init_[part][c] = p_.exact ? 0 : static_cast<int32_t>(p_.constant[c]);
        }
    }
    quick_ = !p_.exact && p_.is_ramp &&
             std::all_of(p_.ramps.begin(), p_.ramps.end(), [](const Ramp& r) { return r.tie > 0; });
    g.depthwise ? pack_depthwise(weights) : pack_dense(weights);
}

int Layer::part_of(uint16_t weight, int part) const {
    if (p_.weight_parts == 1) return weight - p_.weight_offset;
    return (part == 0 ? weight & 255 : weight >> 8) - 128;
}

void Layer::run(uint8_t* ai_ram, size_t threads, uint8_t* out) const {
    g_.depthwise ? run_depthwise(ai_ram, threads, out) : run_dense(ai_ram, threads, out);
}

// The AI RAM to read from. The chip's result for maps that overlap is defined here as that of reading first: a layer
// that writes before it has read everything gets a copy.
const uint8_t* Layer::source(const uint8_t* ai_ram) const {
    const auto last = [](size_t channels, size_t step, size_t group, size_t rows, size_t row, size_t width) {
        return (channels - 1) / group * step + (std::min(channels, group) - 1) * (64 / group) + (rows - 1) * row + width;
    };
    const size_t src_end = g_.src + last(g_.ic, g_.src_channel, g_.src_group, g_.h, g_.src_row, g_.w);
    const size_t dst_end = g_.dst + last(g_.oc, g_.dst_channel, g_.dst_group, g_.oh, g_.dst_row, g_.ow);
    if (g_.src >= dst_end || g_.dst >= src_end) return ai_ram;
    uint8_t* copy = scratch<5>(kAiRam);
    memcpy(copy + g_.src, ai_ram + g_.src, src_end - g_.src);
    return copy;
}

void Layer::finish_row(const int32_t* acc, size_t n, size_t c, uint8_t* dst) const {
    if (p_.is_ramp) {
        k_.ramp(acc, n, p_.ramps[c], dst);
    } else {
        const double scale = p_.scale[c], add = static_cast<double>(p_.norm[c].add);
        if (k_.quick_table != nullptr && p_.quick[c].margin > 0) {
            k_.quick_table(acc, n, p_.quick[c], p_.table, scale, add, dst);
        } else {
            k_.table(acc, n, p_.table, scale, add, dst);
        }
    }
}

void Layer::finish_row_exactly(const int32_t* const parts[2], const int32_t* sum_x, size_t n, size_t c,
                               uint8_t* dst) const {
    for (size_t i = 0; i < n; ++i) {
        const int64_t sum = sum_x[i];
        int64_t alu = parts[0][i] + 128 * sum;
        if (p_.weight_parts == 2) alu += 256 * (parts[1][i] + 128 * sum);
        alu += ((g_.arg_x * sum) >> g_.shr_x) + p_.constant[c];
        dst[i] = finish_exactly(alu, p_.norm[c], p_.segments);
    }
}

// Pools a channel's plane, grid rows [row, row + rows), and writes it to AI RAM and to out.
void Layer::write_channel(const uint8_t* plane, size_t pitch, size_t row, size_t rows, size_t c, uint8_t* ai_ram,
                          uint8_t* out) const {
    const bool copy = sampled_ || (g_.pool_size == 1 && g_.oh <= g_.h && g_.ow <= g_.w);
    const size_t stride = sampled_ ? 1 : static_cast<size_t>(g_.pool_stride);
    const size_t begin = row / stride, end = row + rows == grid_.rows ? g_.oh : std::min(g_.oh, (row + rows) / stride);
    if (begin >= end) return;
    uint8_t* dst = ai_ram + address(g_.dst, g_.dst_channel, g_.dst_group, c) + begin * g_.dst_row;
    uint8_t* dense = out == nullptr ? nullptr : out + (c * g_.oh + begin) * g_.ow;
    if (copy) {
        k_.copy_rows(plane, pitch, dst, g_.dst_row, g_.ow, end - begin);
        if (dense != nullptr) k_.copy_rows(plane, pitch, dense, g_.ow, g_.ow, end - begin);
        return;
    }
    uint8_t* pooled = scratch<4>(g_.ow + kSlack);
    for (size_t y = begin; y < end; ++y, dst += g_.dst_row) {
        pool_row(plane, pitch, row, y, pooled);
        k_.copy_rows(pooled, 0, dst, 0, g_.ow, 1);
        if (dense != nullptr) k_.copy_rows(pooled, 0, dense + (y - begin) * g_.ow, 0, g_.ow, 1);
    }
}

// One pooled row of a plane that starts at grid row `row`. The part whose windows lie inside the map runs in the kernels; at the edges max ignores what is
// outside, mean takes the nearest pixel, select gives 0.
void Layer::pool_row(const uint8_t* plane, size_t pitch, size_t row, size_t oy, uint8_t* dst) const {
    const size_t size = static_cast<size_t>(g_.pool_size), stride = static_cast<size_t>(g_.pool_stride);
    const size_t top = oy * stride, column = static_cast<size_t>(g_.pool_column);
    size_t done = 0;
    if (g_.pool_op == PoolOp::select) {
        for (size_t x = 0; x < g_.ow; ++x) {
            const size_t at = x * stride + column;
            dst[x] = top < g_.h && at < g_.w ? plane[(top - row) * pitch + at] : 0;
        }
        return;
    }
    if (top + size <= g_.h && g_.w >= size) {
        done = std::min(g_.ow, (g_.w - size) / stride + 1);
        const uint8_t* rows[4] = {};
        for (size_t y = 0; y < size; ++y) rows[y] = plane + (top + y - row) * pitch;
        k_.pool(g_.pool_op, g_.pool_size, g_.pool_stride, rows, done, dst);
    }
    const bool max = g_.pool_op == PoolOp::max;
    for (size_t x = done; x < g_.ow; ++x) {
        unsigned total = 0;
        for (size_t dy = 0; dy < size; ++dy) {
            for (size_t dx = 0; dx < size; ++dx) {
                const size_t yy = top + dy, xx = x * stride + dx;
                if (max && (yy >= g_.h || xx >= g_.w)) continue;
                const unsigned v = plane[(std::min(yy, g_.h - 1) - row) * pitch + std::min(xx, g_.w - 1)];
                total = max ? std::max(total, v) : total + v;
            }
        }
        dst[x] = static_cast<uint8_t>(max ? total : total / (size * size));
    }
}

}  // namespace openkpu
