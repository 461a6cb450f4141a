#include "parameters.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <numeric>

namespace openkpu {
namespace {

constexpr int64_t two(int n) { return int64_t{1} << n; }

int64_t wrap_mul(int64_t a, int64_t b) { return static_cast<int64_t>(static_cast<uint64_t>(a) * static_cast<uint64_t>(b)); }
int64_t wrap_add(int64_t a, int64_t b) { return static_cast<int64_t>(static_cast<uint64_t>(a) + static_cast<uint64_t>(b)); }
int64_t wrap_sub(int64_t a, int64_t b) { return static_cast<int64_t>(static_cast<uint64_t>(a) - static_cast<uint64_t>(b)); }

struct Range {
    int64_t low, high;
};

// The activation as intervals of bn: segment `which` holds for edge < bn <= next interval's edge.
struct Interval {
    int64_t edge;
    int which;
};

bool constant(const Segment& s) { return s.y_mul == 0; }

bool same(const Segment& a, const Segment& b) {
    if (constant(a) && constant(b)) return a.bias == b.bias;
    return a.x_start == b.x_start && a.y_mul == b.y_mul && a.shift == b.shift && a.bias == b.bias;
}

// The intervals that bn can reach. Starts need not be sorted: the largest index whose start is below bn wins; below all
// starts it is segment 0.
std::vector<Interval> reachable_intervals(const Segment segments[16], Range bn) {
    int order[16];
    std::iota(order, order + 16, 0);
    std::stable_sort(order, order + 16, [&](int a, int b) { return segments[a].x_start < segments[b].x_start; });
    std::vector<Interval> all{{std::numeric_limits<int64_t>::min(), 0}};
    int best = 0;
    for (int i : order) {
        best = std::max(best, i);
        if (all.back().edge == segments[i].x_start) {
            all.back().which = best;
        } else {
            all.push_back({segments[i].x_start, best});
        }
    }
    std::vector<Interval> kept;
    for (size_t k = 0; k < all.size(); ++k) {
        const bool above = k + 1 < all.size() && all[k + 1].edge < bn.low;
        const bool below = all[k].edge >= bn.high && k > 0;
        if (above || below) continue;
        if (!kept.empty() && same(segments[kept.back().which], segments[all[k].which])) continue;
        kept.push_back(all[k]);
    }
    return kept;
}

// Whether the intervals are [ramp] or [constant, ramp] with a ramp that starts at the constant (see struct Ramp).
bool find_ramp(const std::vector<Interval>& intervals, const Segment segments[16], Range bn, Segment& ramp) {
    if (intervals.empty() || intervals.size() > 2) return false;
    ramp = segments[intervals.back().which];
    if (ramp.y_mul < 0) return false;
    if (intervals.size() == 1) return bn.low >= ramp.x_start || constant(ramp);
    const Segment& floor = segments[intervals.front().which];
    return constant(floor) && floor.bias == ramp.bias && intervals.back().edge == ramp.x_start;
}

double power(int64_t shift) { return std::ldexp(1.0, -static_cast<int>(std::min<int64_t>(shift, 62))); }

// Fills in Ramp's quick way for sums of at most top. With T the value that rint() rounds,
//   T = (floor(acc * scale) + offset) * slope,   V = acc * (scale * slope) + (offset - 1/2) * slope,   |T - V| <= slope / 2.
// v is V in single precision: acc, a, b, the product and the sum are each rounded once, by at most 2^-24 of the value, so
//   |v - V| <= 2^-24 * (4 * |acc * a| + 2 * |b|) and a little; 5 and 3 below are more than that.
// Where |v| could leave 16 bits before the packing saturates it, or ties would be too frequent to pay, tie stays 0.
void add_quick_way(Ramp& r, int64_t top) {
    const double a = r.scale * r.slope, b = (r.offset - 0.5) * r.slope;
    const double reach = static_cast<double>(top) * std::abs(a), shift = std::abs(b);
    const double error = r.slope / 2 + std::ldexp(5 * reach + 3 * shift, -24) + 1e-7;
    if (error > 1.0 / 256 || reach + shift > 1e6) return;
    r.a = static_cast<float>(a);
    r.b = static_cast<float>(b);
    r.tie = static_cast<float>(0.5 - error);
}

int64_t ceil_div(int64_t a, int64_t b) { return a / b + (a % b != 0 && a > 0); }  // b > 0

// Looks for a division of bn into cells that keeps the edges apart, with some room for rounding.
Grading grade(const Table& t) {
    if (t.edges < 2) return {};
    const double span = t.edge[t.edges - 1] - t.edge[0];
    for (int i = 0; i < 160; ++i) {
        const double width = span * std::pow(0.96, i);
        for (int first = 0; first < 2; ++first) {       // the edge that lies in the second cell
            for (int j = 1; j < 8; ++j) {
                const double start = t.edge[first] - width * j / 8;
                int last = -1;
                bool apart = true;
                for (int k = 0; k < t.edges && apart; ++k) {
                    const double at = std::clamp((t.edge[k] - start) / width + 1, 0.0, 31.5), part = at - std::floor(at);
                    const int cell = static_cast<int>(at);
                    apart = cell > last && (cell == 0 || cell == 31 || (part > 0.01 && part < 0.99));
                    last = cell;
                }
                if (apart) return {start, width};
            }
        }
    }
    return {};
}

// Fills in the cells of a channel's quick table, where they can replace the search among the edges.
void add_cells(QuickTable& q, int edges, const Grading& grading, const ChannelNorm& n, Range alu) {
    if (grading.width == 0 || alu.low <= -two(27) || alu.high >= two(27)) return;
    const double scale = static_cast<double>(n.mul) * power(n.shift);
    q.cell_a = static_cast<float>(scale / grading.width);
    q.cell_b = static_cast<float>((static_cast<double>(n.add) - grading.start) / grading.width + 1);
    if (std::abs(std::ldexp(q.cell_a, 27)) + std::abs(q.cell_b) > 1e9F) return;     // it has to fit an integer
    const auto cell = [&](int32_t acc) {
        return std::clamp(static_cast<int>(std::fma(static_cast<float>(acc), q.cell_a, q.cell_b)), 0, 31);
    };
    int32_t inside[32], before[32] = {};
    std::fill_n(inside, 32, static_cast<int32_t>(two(27) - 1));
    for (int k = 0; k < edges; ++k) {
        const int32_t edge = q.edge[k];
        if (edge >= alu.high) continue;                 // never passed
        const int first = edge < alu.low ? -1 : cell(edge);
        for (int c = first + 1; c < 32; ++c) ++before[c];
        if (first < 0 || cell(edge + 1) != first) continue;
        if (inside[first] != two(27) - 1) return;
        inside[first] = edge;
    }
    for (int c = 0; c < 32; ++c) q.cell[c] = static_cast<int32_t>(static_cast<uint32_t>(inside[c]) << 4) | before[c];
    q.by_cells = true;
}

// The float nearest to v whose last bit is as wanted.
float with_last_bit(double v, bool bit) {
    const float near = static_cast<float>(v);
    const uint32_t raw = std::bit_cast<uint32_t>(near);
    if ((raw & 1U) == static_cast<uint32_t>(bit)) return near;
    const float up = std::bit_cast<float>(raw + 1), down = std::bit_cast<float>(raw == 0 ? 1U : raw - 1);
    return std::abs(up - v) < std::abs(down - v) ? up : down;
}

// Fills in the quick way of a table for a channel whose sums lie in alu. With bn = floor(acc * scale) + add,
//   t + bias = (bn - start) * slope + bias,   V = acc * (scale * slope) + (add - 1/2 - start) * slope + bias,
// and |t + bias - V| <= |slope| / 2. Let w be 2 * V (+ 1) in single precision. acc is rounded by at most 2^-24 of its value (not
// at all below 2^24), a by 2^-23 with its last bit, b and the result by 2^-24, and |acc * a| <= |w| + |b| + 1. So w is wrong
// by less than 2^-24 * 4 (or 3) * (|w| + |b| + 1). Where |w| > 520 that changes nothing: the result is 0 or 255 either way.
// All this is scaled by 2^bits, which is exact, rounded to an integer, and shifted up by half the margin.
void add_quick_table(QuickTable& q, const Table& table, const Grading& grading, const ChannelNorm& n, Range alu) {
    if (n.mul <= 0) return;
    const auto bn = [&](int64_t acc) { return ((acc * n.mul) >> n.shift) + n.add; };
    const double scale = static_cast<double>(n.mul) * power(n.shift);
    constexpr int32_t never = std::numeric_limits<int32_t>::max();
    const double roundings = alu.low > -two(24) && alu.high < two(24) ? 3 : 4;
    double a[16], b[16], worst = 0, reach = 1024;
    bool falling[16] = {};
    for (int k = 0; k < 16; ++k) {
        q.edge[k] = never, a[k] = 0, b[k] = 0.5;
        if (k > table.edges) continue;
        const int64_t below = k == 0 ? bn(alu.low) : std::max(bn(alu.low), static_cast<int64_t>(table.edge[k - 1]) + 1);
        int64_t above = bn(alu.high);
        if (k < table.edges) {
            // bn > edge: the least such acc, less one
            const int64_t edge = static_cast<int64_t>(table.edge[k]);
            const int64_t least = ceil_div((edge - n.add + 1) << n.shift, n.mul) - 1;
            q.edge[k] = static_cast<int32_t>(std::clamp<int64_t>(least, std::numeric_limits<int32_t>::min(), never));
            above = std::min(above, edge);
        }
        if (below > above) continue;    // nothing of this channel gets here
        b[k] = 2 * table.bias[k] + 0.5;
        if (table.slope[k] == 0) continue;
        const double t0 = (static_cast<double>(below) - table.start[k]) * table.slope[k];
        const double t1 = (static_cast<double>(above) - table.start[k]) * table.slope[k];
        falling[k] = std::min(t0, t1) < 0;
        if (falling[k] && std::max(t0, t1) > 0) return;
        a[k] = 2 * scale * table.slope[k];
        b[k] = 2 * ((static_cast<double>(n.add) - 0.5 - table.start[k]) * table.slope[k] + table.bias[k]) + !falling[k];
        worst = std::max(worst, std::abs(table.slope[k]) + std::ldexp(roundings * (522 + std::abs(b[k])), -24));
        reach = std::max({reach, 2 * std::abs(t0) + 1024, 2 * std::abs(t1) + 1024});
    }
    const int bits = std::min(14, 29 - std::ilogb(reach));      // the largest M fits an integer
    if (worst > 1.0 / 32 || bits < 8) return;
    const double half = std::ceil(std::ldexp(worst, bits)) + 1;
    for (int k = 0; k < 16; ++k) {
        q.a[k] = with_last_bit(std::ldexp(a[k], bits), falling[k]);
        q.b[k] = static_cast<float>(std::ldexp(b[k], bits) + half);
    }
    add_cells(q, table.edges, grading, n, alu);
    q.bits = bits;
    q.margin = static_cast<int32_t>(2 * half + 1);
}

}  // namespace

uint8_t finish_exactly(int64_t alu, const ChannelNorm& n, const Segment segments[16]) {
    const int64_t bn = wrap_add(wrap_mul(alu, n.mul) >> n.shift, n.add);
    int i = 15;
    while (i > 0 && bn <= segments[i].x_start) --i;
    const Segment& s = segments[i];
    const int64_t p = wrap_mul(wrap_sub(bn, s.x_start), s.y_mul);
    const int shift = static_cast<int>(std::min<int64_t>(s.shift, 62));
    int64_t r = p;
    if (shift > 0) {
        r = p >> shift;
        const int64_t fraction = p & (two(shift) - 1);
        const int64_t half = two(shift - 1);
        if (fraction > half || (fraction == half && (r & 1) != 0)) r += p < 0 ? -1 : 1;
    }
    return static_cast<uint8_t>(std::clamp<int64_t>(wrap_add(r, s.bias), 0, 255));
}

Parameters make_parameters(const Geometry& g, const uint16_t* weights, const int64_t* norm, const int64_t* activation) {
    Parameters p;
    const size_t per_channel = g.inputs() * g.taps();
    for (int i = 0; i < 16; ++i) {
        p.segments[i] = {activation[i], activation[16 + i], activation[32 + i], activation[48 + i]};
    }
    int low_w = 65535, high_w = 0;
    for (size_t i = 0; i < g.oc * per_channel; ++i) {
        low_w = std::min<int>(low_w, weights[i]);
        high_w = std::max<int>(high_w, weights[i]);
    }
    p.weight_parts = high_w > 255 ? 2 : 1;
    p.exact = p.weight_parts == 2;

    // sum(x*w) + (arg_x*sum(x) >> shr_x) = sum(x * (w + factor)) where the shift loses nothing.
    const int64_t factor = g.arg_x >> g.shr_x;
    if (factor << g.shr_x != g.arg_x) p.exact = true;
    if (!p.exact && low_w + factor >= -128 && high_w + factor <= 127) {
        p.weight_offset = static_cast<int>(-factor);
    } else {
        p.weight_offset = 128;
        p.sum_factor = static_cast<uint32_t>(static_cast<uint64_t>(factor + 128));
    }

    // Proof that the fast kernels are exact, from the bounds of each channel over all inputs 0..255:
    //  - alu fits 32 bits, so sums that wrap at 32 bits are right at the end;
    //  - |alu * mul| <= 2^53, so that product is exact in a double, and so is its floor after the scaling by 2^-shift;
    //  - |bn| <= 2^36, and starts have 36 bits and slopes 16: |(bn - start) * y_mul| <= 2^52 is exact, and scaling it by a
    //    power of two keeps it exact, so that rint() sees the true value. Clamping it before rint() moves no result in 0..255.
    constexpr int64_t max_bn = two(36);
    Range bn_range{std::numeric_limits<int64_t>::max(), std::numeric_limits<int64_t>::min()};
    std::vector<int64_t> tops;
    std::vector<Range> sums;
    for (size_t c = 0; c < g.oc; ++c) {
        const uint16_t* w = weights + c * per_channel;
        int64_t sum = 0, low = 0, high = 0;
        for (size_t i = 0; i < per_channel; ++i) {
            sum += w[i];
            const int64_t v = w[i] + factor;
            (v < 0 ? low : high) += 255 * v;
        }
        const ChannelNorm n{norm[c], norm[g.oc + c], norm[2 * g.oc + c]};
        const int64_t constant = ((g.arg_w * sum) >> g.shr_w) + g.arg_add * static_cast<int64_t>(g.inputs());
        p.constant.push_back(constant);
        p.norm.push_back(n);
        p.scale.push_back(static_cast<double>(n.mul) * power(n.shift));
        low += constant;
        high += constant;
        const int64_t top = std::max(std::abs(low), std::abs(high));
        tops.push_back(top);
        sums.push_back({low, high});
        if (top >= two(31) || n.shift < 0 || n.shift > 15 || top * std::abs(n.mul) > two(53)) {
            p.exact = true;
            continue;
        }
        const int64_t a = ((low * n.mul) >> n.shift) + n.add, b = ((high * n.mul) >> n.shift) + n.add;
        bn_range.low = std::min({bn_range.low, a, b});
        bn_range.high = std::max({bn_range.high, a, b});
    }
    if (p.exact || bn_range.low < -max_bn || bn_range.high > max_bn) {
        p.exact = true;
        p.weight_offset = 128;
        return p;
    }
    const std::vector<Interval> intervals = reachable_intervals(p.segments, bn_range);
    Segment ramp;
    p.is_ramp = find_ramp(intervals, p.segments, bn_range, ramp);
    if (p.is_ramp) {
        for (const ChannelNorm& n : p.norm) {
            Ramp r{static_cast<double>(n.mul) * power(n.shift), static_cast<double>(n.add - ramp.x_start),
                   static_cast<double>(ramp.y_mul) * power(ramp.shift), static_cast<int32_t>(ramp.bias), 0, 0, 0};
            add_quick_way(r, tops[p.ramps.size()]);
            p.ramps.push_back(r);
        }
        return p;
    }
    if (intervals.size() > 16) {
        p.exact = true;
        p.weight_offset = 128;
        return p;
    }
    p.table.edges = static_cast<int>(intervals.size()) - 1;
    for (size_t k = 0; k < intervals.size(); ++k) {
        const Segment& s = p.segments[intervals[k].which];
        p.table.start[k] = static_cast<double>(s.x_start);
        p.table.slope[k] = static_cast<double>(s.y_mul) * power(s.shift);
        p.table.bias[k] = static_cast<double>(s.bias);
        if (k > 0) p.table.edge[k - 1] = static_cast<double>(intervals[k].edge);
    }
    p.grading = grade(p.table);
    p.quick.resize(g.oc);
    for (size_t c = 0; c < g.oc; ++c) add_quick_table(p.quick[c], p.table, p.grading, p.norm[c], sums[c]);
    return p;
}

}  // namespace openkpu
