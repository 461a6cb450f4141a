// Dense layers: pack the input, multiply, finish, write.
#include <algorithm>
#include <cstring>

#include "layer.hpp"
#include "scratch.hpp"
#include "threads.hpp"

namespace openkpu {
namespace {

int32_t wrap_add(int32_t a, int32_t b) { return static_cast<int32_t>(static_cast<uint32_t>(a) + static_cast<uint32_t>(b)); }


}  // namespace

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

}  // namespace openkpu
