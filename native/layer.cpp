#include "layer.hpp"

#include <algorithm>
#include <cstring>

#include "threads.hpp"

namespace openkpu {
namespace {

constexpr size_t kSlack = 64;               // pixels that a kernel may touch past the end
constexpr size_t kAiRam = size_t{2} << 20;
constexpr size_t kInputBlock = 24 * 1024;   // bytes of packed input that a block of pixels may use: half of an L1 cache
constexpr size_t kBand = 160 * 1024;        // bytes of packed input at a time, where the layer allows it: part of an L2 cache
constexpr size_t kPlanes = 192 * 1024;      // bytes of finished planes kept before they are written: part of an L2 cache

size_t divide_up(size_t a, size_t b) { return (a + b - 1) / b; }
size_t round_up(size_t a, size_t b) { return divide_up(a, b) * b; }

// Scratch memory that a thread keeps from call to call. Contents are not defined.
template <int WHICH>
uint8_t* scratch(size_t bytes) {
    thread_local std::vector<uint8_t> memory;
    if (memory.size() < bytes + 64) memory.resize(bytes + 64);
    return reinterpret_cast<uint8_t*>(round_up(reinterpret_cast<uintptr_t>(memory.data()), 64));
}

int32_t wrap_add(int32_t a, int32_t b) { return static_cast<int32_t>(static_cast<uint32_t>(a) + static_cast<uint32_t>(b)); }

size_t address(size_t base, size_t channel_step, size_t group, size_t c) {
    // group is 1, 2 or 4; shifts, because this runs for every channel
    const size_t bits = group >> 1;
    return base + (c >> bits) * channel_step + ((c & (group - 1)) << (6 - bits));
}

}  // namespace

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

void Layer::pack_dense(const uint16_t* weights) {
    groups_ = divide_up(g_.ic, 4);
    const size_t s = grid_.stride, kernel = static_cast<size_t>(g_.kernel), last = kernel - 1;
    pitch_ = grid_.columns + (grid_.column + last) / s;
    // Bands end between pooling windows; windows that overlap the next one need the whole map.
    band_rows_ = grid_.rows;
    if (sampled_ || g_.pool_size == g_.pool_stride) {
        const size_t unit = sampled_ ? 1 : static_cast<size_t>(g_.pool_size);
        const size_t bands = divide_up(grid_.rows * pitch_ * s * s * groups_ * 4, kBand);
        band_rows_ = std::min(grid_.rows, round_up(divide_up(grid_.rows, bands), unit));
    }
    phase_rows_ = band_rows_ + last / s;
    group_stride_ = round_up((phase_rows_ * pitch_ + kSlack) * 4, 64);    // interleave() may write past the end
    for (size_t ky = 0; ky < kernel; ++ky) {
        for (size_t kx = 0; kx < kernel; ++kx) {
            const Phase want{ky % s, (grid_.column + kx) % s};
            size_t i = 0;
            while (i < phases_.size() && (phases_[i].row != want.row || phases_[i].column != want.column)) ++i;
            if (i == phases_.size()) phases_.push_back(want);
            const size_t pixel = ky / s * pitch_ + (grid_.column + kx) / s;
            taps_.push_back(i * groups_ * group_stride_ + pixel * 4);
        }
    }

    const size_t bytes = k_.weight_bytes;
    const auto put = [&](std::vector<uint8_t>& to, const int values[4]) {
        if (bytes == 1) {
            for (int i = 0; i < 4; ++i) to.push_back(static_cast<uint8_t>(values[i]));
        } else {
            for (int i : {0, 2, 1, 3}) {
                const auto v = static_cast<int16_t>(values[i]);
                uint8_t raw[2];
                memcpy(raw, &v, 2);
                to.insert(to.end(), raw, raw + 2);
            }
        }
    };
    const size_t taps = taps_.size();
    for (int part = 0; part < p_.weight_parts; ++part) {
        std::vector<uint8_t>& to = w_[part];
        to.reserve(g_.oc * groups_ * taps * 4 * bytes + 64);
        block_offset_.clear();
        for (size_t first = 0; first < g_.oc; first += k_.oc_block) {
            block_offset_.push_back(to.size());
            const size_t q = std::min(k_.oc_block, g_.oc - first);
            for (size_t t = 0; t < taps; ++t) {
                for (size_t group = 0; group < groups_; ++group) {
                    for (size_t o = first; o < first + q; ++o) {
                        int v[4] = {};
                        for (size_t i = 0; i < 4 && group * 4 + i < g_.ic; ++i) {
                            v[i] = part_of(weights[(o * g_.ic + group * 4 + i) * taps + t], part);
                            if (k_.signed_x) init_[part][o] = wrap_add(init_[part][o], 128 * v[i]);
                        }
                        put(to, v);
                    }
                }
            }
        }
        to.resize(to.size() + 64);
    }
    for (size_t t = 0; t < taps; ++t) {
        for (size_t group = 0; group < groups_; ++group) {
            int v[4] = {};
            for (size_t i = 0; i < 4 && group * 4 + i < g_.ic; ++i) v[i] = 1;
            put(ones_, v);
        }
    }
    ones_.resize(ones_.size() + 64);
    if (k_.signed_x) ones_init_ = static_cast<int32_t>(128 * g_.ic * taps);
}

void Layer::pack_depthwise(const uint16_t* weights) {
    // A 1x1 kernel is a 3x3 one whose other taps are 0.
    const size_t taps = g_.taps();
    for (int part = 0; part < p_.weight_parts; ++part) {
        dw_[part].assign(g_.oc * 9, 0);
        for (size_t c = 0; c < g_.oc; ++c) {
            for (size_t t = 0; t < taps; ++t) {
                dw_[part][c * 9 + (taps == 1 ? 4 : t)] = static_cast<int8_t>(part_of(weights[c * taps + t], part));
            }
        }
    }
    for (size_t t = 0; t < taps; ++t) dw_ones_[taps == 1 ? 4 : t] = 1;

    const size_t group = g_.w <= 16 ? 4 : g_.w <= 32 ? 2 : 1, row = round_up(g_.w, 64);
    const bool natural = g_.src_group == group && g_.dst_group == group && g_.src_row == row && g_.dst_row == row &&
                         g_.src_channel == row * g_.h && g_.dst_channel == row * g_.h;
    const bool plain = g_.pool_size == 1 && g_.oh == g_.h && g_.ow == g_.w;
    by_lines_ = k_.depthwise_lines != nullptr && natural && plain && quick_ && p_.sum_factor == 0;
    if (by_lines_) pack_pieces();
}

void Layer::run(uint8_t* ai_ram, size_t threads, uint8_t* out) const {
    g_.depthwise ? run_depthwise(ai_ram, threads, out) : run_dense(ai_ram, threads, out);
}

// -- dense ------------------------------------------------------------------------------------------------------------

// Packs one group of 4 input channels: every phase, with the ring of padding. Where the last group has fewer channels, a
// present one stands in for a missing one: its weights are 0.
void Layer::pack_input(const uint8_t* src, uint8_t* x, size_t group, size_t row, size_t rows) const {
    const size_t s = grid_.stride, pad = g_.kernel == 3 ? 1 : 0, row_bytes = pitch_ * 4;
    Interleave v{};
    for (size_t i = 0; i < 4; ++i) {
        const size_t c = std::min(group * 4 + i, g_.ic - 1);
        v.channel[i] = src + address(g_.src, g_.src_channel, g_.src_group, c);
    }
    v.pitch = s * g_.src_row;
    v.dst_pitch = row_bytes;
    v.stride = s;
    const bool lines = k_.interleave_lines != nullptr && g_.src_group == 4 && g_.w <= 16;
    for (size_t f = 0; f < phases_.size(); ++f) {
        uint8_t* plane = x + (f * groups_ + group) * group_stride_;
        // Index j of a phase is padded coordinate j*s + phase; [begin, end) of them are inside the picture.
        const auto inside = [&](size_t phase, size_t size, size_t room, size_t& begin, size_t& end) {
            begin = phase >= pad ? 0 : 1;
            const size_t first = begin * s + phase - pad;
            end = first >= size ? begin : std::min(room, begin + divide_up(size - first, s));
            return first;
        };
        size_t left, right, top, bottom;
        const size_t used_rows = rows + phase_rows_ - band_rows_;
        const size_t first_row = inside(row * s + phases_[f].row, g_.h, used_rows, top, bottom);
        v.column = inside(phases_[f].column, g_.w, pitch_, left, right);
        v.n = right - left;
        v.rows = bottom - top;
        v.dst = plane + top * row_bytes + left * 4;
        if (v.n > 0 && v.rows > 0) {
            Interleave part = v;
            for (const uint8_t*& channel : part.channel) channel += first_row * g_.src_row;
            lines ? k_.interleave_lines(part) : k_.interleave(part);
        }
        // The padding comes after: interleave() may write past the end of its rows.
        for (size_t y = top; y < bottom && (left > 0 || right < pitch_); ++y) {
            memset(plane + y * row_bytes, g_.pad_value, left * 4);
            memset(plane + y * row_bytes + right * 4, g_.pad_value, (pitch_ - right) * 4);
        }
        memset(plane, g_.pad_value, top * row_bytes);
        memset(plane + bottom * row_bytes, g_.pad_value, (used_rows - bottom) * row_bytes);
    }
}

size_t Layer::packed_bytes() const {
    return phases_.size() * groups_ * group_stride_ + (kSlack + 2 * pitch_ + 16) * 4;
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

void Layer::run_dense(uint8_t* ai_ram, size_t threads, uint8_t* out) const {
    const size_t bands = divide_up(grid_.rows, band_rows_);
    const uint8_t* src = bands == 1 ? ai_ram : source(ai_ram);
    // Many bands are shared out as they are; of few, each is packed and computed by all threads.
    const size_t outer = bands >= 2 * threads ? threads : 1, inner = threads / outer;
    parallel_for(bands, outer, [&](size_t band) {
        const size_t row = band * band_rows_, rows = std::min(band_rows_, grid_.rows - row);
        uint8_t* x = scratch<0>(packed_bytes());
        const size_t jobs = std::min(inner, groups_);
        parallel_for(jobs, inner, [&](size_t j) {
            for (size_t i = groups_ * j / jobs; i < groups_ * (j + 1) / jobs; ++i) pack_input(src, x, i, row, rows);
        });
        const size_t plane = round_up(rows * pitch_, 64) + 64, q = k_.oc_block;
        size_t share = std::max(q, kPlanes / plane / q * q);
        if (inner > 1) share = std::min(share, std::max(q, round_up(divide_up(g_.oc, 2 * inner), q)));
        parallel_for(divide_up(g_.oc, share), inner, [&](size_t job) {
            dense_block(x, row, rows, job * share, std::min(g_.oc, (job + 1) * share), ai_ram, out);
        });
    });
}

// Computes and writes output channels [oc_begin, oc_end) of a band; oc_begin is a multiple of oc_block.
void Layer::dense_block(const uint8_t* x, size_t row, size_t rows, size_t oc_begin, size_t oc_end, uint8_t* ai_ram,
                        uint8_t* out) const {
    const size_t lanes = k_.lanes;
    const size_t pixels = (rows - 1) * pitch_ + grid_.columns;
    const size_t vectors = divide_up(pixels, lanes);
    const size_t plane = round_up(rows * pitch_, 64) + 64;
    const size_t most = std::clamp(kInputBlock / (4 * groups_), size_t{64}, size_t{512}) / 64 * 64 / lanes;
    const size_t blocks = divide_up(vectors, most);

    uint8_t* planes = scratch<1>((oc_end - oc_begin) * plane);
    const size_t acc_pitch = most * lanes + 16;
    auto* acc = reinterpret_cast<int32_t*>(scratch<2>((2 * k_.oc_block + 1) * acc_pitch * 4 + 256));
    int32_t* const sum_x = acc + 2 * k_.oc_block * acc_pitch;
    const bool need_sum = p_.exact || p_.sum_factor != 0, fused = k_.fused && quick_ && !need_sum;

    for (size_t b = 0; b < blocks; ++b) {
        const size_t v0 = vectors * b / blocks, v1 = vectors * (b + 1) / blocks;
        const size_t p0 = v0 * lanes, n = (v1 - v0) * lanes;
        Gemm gemm{};
        gemm.x = x + p0 * 4;
        gemm.taps = taps_.data();
        gemm.tap_count = taps_.size();
        gemm.group_stride = group_stride_;
        gemm.groups = groups_;
        gemm.vectors = v1 - v0;
        gemm.single = b + 1 == blocks && pixels % lanes == 1;
        gemm.acc_pitch = acc_pitch;
        if (need_sum) {
            gemm.w = ones_.data();
            gemm.q = 1;
            gemm.init = &ones_init_;
            gemm.acc = sum_x;
            k_.gemm(gemm);
        }
        for (size_t o = oc_begin; o < oc_end; o += k_.oc_block) {
            gemm.q = std::min(k_.oc_block, oc_end - o);
            if (fused) {
                gemm.ramps = &p_.ramps[o];
                gemm.dst = planes + (o - oc_begin) * plane + p0;
                gemm.dst_pitch = plane;
            }
            for (int part = 0; part < p_.weight_parts; ++part) {
                gemm.w = w_[part].data() + block_offset_[o / k_.oc_block];
                gemm.init = init_[part].data() + o;
                gemm.acc = acc + static_cast<size_t>(part) * k_.oc_block * acc_pitch;
                k_.gemm(gemm);
            }
            for (size_t q = 0; q < gemm.q && !fused; ++q) {
                int32_t* row = acc + q * acc_pitch;
                uint8_t* dst = planes + (o + q - oc_begin) * plane + p0;
                if (p_.exact) {
                    const int32_t* const parts[2] = {row, row + k_.oc_block * acc_pitch};
                    finish_row_exactly(parts, sum_x, n, o + q, dst);
                } else {
                    if (p_.sum_factor != 0) k_.add_scaled(row, sum_x, p_.sum_factor, n);
                    finish_row(row, n, o + q, dst);
                }
            }
        }
    }
    for (size_t o = oc_begin; o < oc_end; ++o) {
        write_channel(planes + (o - oc_begin) * plane, pitch_, row, rows, o, ai_ram, out);
    }
}

// -- depthwise --------------------------------------------------------------------------------------------------------

void Layer::run_depthwise(uint8_t* ai_ram, size_t threads, uint8_t* out) const {
    const uint8_t* src = source(ai_ram);
    if (by_lines_) {
        const size_t groups = divide_up(g_.oc, g_.src_group), jobs = threads == 1 ? 1 : std::min(groups, 4 * threads);
        parallel_for(jobs, threads, [&](size_t job) {
            for (size_t i = groups * job / jobs; i < groups * (job + 1) / jobs; ++i) depthwise_lines(src, i, ai_ram, out);
        });
        return;
    }
    const size_t jobs = threads == 1 ? 1 : std::min(g_.oc, 4 * threads);
    parallel_for(jobs, threads, [&](size_t job) {
        for (size_t c = g_.oc * job / jobs; c < g_.oc * (job + 1) / jobs; ++c) depthwise_channel(src, c, ai_ram, out);
    });
}

void Layer::pack_pieces() {
    static constexpr Ramp nothing{0, 0, 0, 0, 0, 0, 0.5F};
    const size_t share = g_.src_group, slot = 64 / share, groups = divide_up(g_.oc, share);
    for (size_t group = 0; group < groups; ++group) {
        for (size_t line = 0; line < g_.src_row; line += 64) {
            uint64_t store = 0;
            for (size_t i = 0; i < 4; ++i) {
                const size_t c = group * share + 16 * i / slot, x0 = share == 1 ? line + 16 * i : 16 * i % slot;
                DepthwiseLines::Piece piece{{}, 0, &nothing, 0, x0 == 0};
                if (c < g_.oc && x0 < g_.w) {
                    piece.ramp = &p_.ramps[c];
                    piece.init = init_[0][c];
                    for (size_t k = 0; k < 3; ++k) memcpy(&piece.w[k], &dw_[0][c * 9 + 3 * k], 3);
                    for (size_t x = x0; x < x0 + 16; ++x) {
                        for (size_t k = 0; k < 3; ++k) {
                            if (x + k >= 1 && x + k <= g_.w) piece.keep |= uint64_t{1} << (4 * (x - x0) + k);
                        }
                        if (x < g_.w) store |= uint64_t{1} << (16 * i + x - x0);
                    }
                }
                pieces_.push_back(piece);
            }
            stores_.push_back(store);
        }
    }
}

// One group of channels (as share lines) from lines to lines.
void Layer::depthwise_lines(const uint8_t* src, size_t group, uint8_t* ai_ram, uint8_t* out) const {
    const size_t share = g_.src_group, bytes = g_.h * g_.src_row, lines = g_.src_row / 64;
    const uint8_t* from = src + g_.src + group * g_.src_channel;
    if (g_.src + group * g_.src_channel + bytes + 16 > kAiRam) {
        uint8_t* copy = scratch<3>(bytes + 16);     // the kernel reads 16 bytes past the end
        memcpy(copy, from, bytes);
        from = copy;
    }
    uint8_t* to = ai_ram + g_.dst + group * g_.dst_channel;
    for (size_t i = 0; i < lines; ++i) {
        const size_t at = group * lines + i;
        k_.depthwise_lines({from + 64 * i, g_.src_row, to + 64 * i, g_.dst_row, g_.h, g_.pad_value, stores_[at],
                            &pieces_[4 * at]});
    }
    if (out == nullptr) return;
    for (size_t c = group * share; c < std::min(g_.oc, (group + 1) * share); ++c) {
        k_.copy_rows(to + c % share * (64 / share), g_.dst_row, out + c * g_.h * g_.w, g_.w, g_.w, g_.h);
    }
}

void Layer::depthwise_channel(const uint8_t* src, size_t c, uint8_t* ai_ram, uint8_t* out) const {
    const size_t h = g_.h, w = g_.w, pitch = round_up(w + 2, 16) + 16;
    uint8_t* padded = scratch<3>((h + 2) * pitch + kSlack);
    const uint8_t* from = src + address(g_.src, g_.src_channel, g_.src_group, c);
    memset(padded, g_.pad_value, w + 2);
    k_.copy_rows(from, g_.src_row, padded + pitch + 1, pitch, w, h);
    for (size_t y = 1; y <= h; ++y) padded[y * pitch] = padded[y * pitch + w + 1] = g_.pad_value;
    memset(padded + (h + 1) * pitch, g_.pad_value, w + 2);

    const size_t most = std::clamp<size_t>(1024 / w, 1, h);
    const size_t acc_room = round_up(most * w, 64) + 64;
    auto* acc = reinterpret_cast<int32_t*>(scratch<2>(3 * acc_room * 4));
    uint8_t* plane = scratch<1>(h * w + kSlack);
    const bool need_sum = p_.exact || p_.sum_factor != 0;
    for (size_t y = 0; y < h; y += most) {
        const size_t rows = std::min(most, h - y), n = rows * w;
        Depthwise d{padded + y * pitch, pitch, w, rows, nullptr, 0, nullptr};
        for (int part = 0; part < p_.weight_parts; ++part) {
            d.w = dw_[part].data() + c * 9;
            d.init = init_[part][c];
            d.acc = acc + static_cast<size_t>(part) * acc_room;
            k_.depthwise(d);
        }
        int32_t* sum_x = acc + 2 * acc_room;
        if (need_sum) {
            d.w = dw_ones_;
            d.init = 0;
            d.acc = sum_x;
            k_.depthwise(d);
        }
        if (p_.exact) {
            const int32_t* const parts[2] = {acc, acc + acc_room};
            finish_row_exactly(parts, sum_x, n, c, plane + y * w);
        } else {
            if (p_.sum_factor != 0) k_.add_scaled(acc, sum_x, p_.sum_factor, n);
            finish_row(acc, n, c, plane + y * w);
        }
    }
    write_channel(plane, w, 0, h, c, ai_ram, out);
}

// -- both -------------------------------------------------------------------------------------------------------------

void Layer::finish_row(const int32_t* acc, size_t n, size_t c, uint8_t* dst) const {
    if (p_.is_ramp) {
        k_.ramp(acc, n, p_.ramps[c], dst);
    } else {
        const ChannelNorm& norm = p_.norm[c];
        const double scale = static_cast<double>(norm.mul) / static_cast<double>(int64_t{1} << norm.shift);
        k_.table(acc, n, p_.table, scale, static_cast<double>(norm.add), dst);
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
