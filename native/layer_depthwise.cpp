// Depthwise layers: whole lines of AI RAM at a time, or channel by channel.
#include <algorithm>
#include <cstring>

#include "layer.hpp"
#include "scratch.hpp"
#include "threads.hpp"

namespace openkpu {

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
    by_lines_ = k_.depthwise_lines != nullptr && natural && plain && !p_.exact && p_.sum_factor == 0;
    if (by_lines_) pack_pieces();
}

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
                    if (quick_) piece.ramp = &p_.ramps[c];
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
    const size_t piece = 16 * g_.h;
    int32_t* acc = quick_ ? nullptr : reinterpret_cast<int32_t*>(scratch<2>((4 * piece + kSlack) * 4));
    uint8_t* planes = quick_ ? nullptr : scratch<1>(4 * piece + kSlack);
    for (size_t i = 0; i < lines; ++i) {
        const size_t at = group * lines + i;
        const DepthwiseLines strip{from + 64 * i, g_.src_row, to + 64 * i, g_.dst_row, g_.h, g_.pad_value, stores_[at],
                                   &pieces_[4 * at], acc};
        k_.depthwise_lines(strip);
        if (quick_) continue;
        for (size_t k = 0; k < 4; ++k) {
            const size_t c = group * share + k * share / 4, x = share == 1 ? 64 * i + 16 * k : 16 * k % (64 / share);
            if (c < g_.oc && x < g_.w) finish_row(acc + k * piece, piece, c, planes + k * piece);
        }
        k_.store_lines(strip, planes);
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

}  // namespace openkpu
