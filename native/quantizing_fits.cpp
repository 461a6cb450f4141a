// The fits of quantisation: the segments of an activation table, and what a range costs by the histogram of its values.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <vector>

#include "clones.hpp"
#include "quantizing.hpp"

namespace openkpu {

OPENKPU_CLONES size_t fit_segments(const double* x, const double* target, const double* weight, size_t n, CurveSegment segments[16]) {
    constexpr double kInfinity = std::numeric_limits<double>::infinity();
    constexpr size_t kSegments = 16;
    std::vector<double> t(n);
    for (size_t i = 0; i < n; ++i) t[i] = std::min(std::max(target[i], 0.0), 255.0);
    std::vector<double> sums[6];   // of w, wx, wxx, wt, wtx, wtt over the points before
    for (auto& s : sums) s.assign(n + 1, 0.0);
    for (size_t i = 0; i < n; ++i) {
        const double w = weight[i];
        const double terms[6] = {w, w * x[i], w * x[i] * x[i], w * t[i], w * t[i] * x[i], w * t[i] * t[i]};
        for (size_t k = 0; k < 6; ++k) sums[k][i + 1] = sums[k][i] + terms[k];
    }
    // the least cost of one segment over points i..j that starts at i - 1
    const double *w = sums[0].data(), *wx = sums[1].data(), *wxx = sums[2].data();
    const double *wt = sums[3].data(), *wtx = sums[4].data(), *wtt = sums[5].data();
    // cost of the segment over points i..j that starts at i - 1, at the output number `b`; its slope in `m`
    const auto segment = [=](size_t i, size_t j, double a, double b, double& m) {
        const double d0 = w[j + 1] - w[i], d1 = wx[j + 1] - wx[i], d3 = wt[j + 1] - wt[i];
        const double dxx = (wxx[j + 1] - wxx[i]) - 2 * a * d1 + a * a * d0;
        const double rise = ((wtx[j + 1] - wtx[i]) - a * d3) - b * (d1 - a * d0);
        const double ratio = rise / (dxx > 1e-300 ? dxx : 1.0);
        m = dxx > 1e-300 && ratio > 0.0 ? ratio : 0.0;
        return (wtt[j + 1] - wtt[i]) - 2 * b * d3 + b * b * d0 - 2 * m * rise + m * m * dxx;
    };
    const auto start_of = [&](size_t i, int delta) {
        return std::min(std::max(std::floor(t[i > 0 ? i - 1 : 0]) + delta, 0.0), 255.0);
    };
    thread_local std::vector<double> memory;
    memory.resize(std::max(memory.size(), n * n));
    double* const OPENKPU_ALONE cost = memory.data();
    for (size_t i = 0; i < n; ++i) {
        double* const OPENKPU_ALONE costs = cost + i * n;
        const double a = x[i > 0 ? i - 1 : 0], first = start_of(i, -1);
        double m = 0.0;
        for (size_t j = i; j < n; ++j) costs[j] = segment(i, j, a, first, m);
        for (int delta = 0; delta <= 2; ++delta) {
            const double b = start_of(i, delta);
            for (size_t j = i; j < n; ++j) {
                const double c = segment(i, j, a, b, m);
                costs[j] = c < costs[j] ? c : costs[j];
            }
        }
    }
    std::vector<double> level(n + 1), least(n + 1);
    for (size_t j = 0; j <= n; ++j) {
        const double mean = sums[0][j] > 0 ? sums[3][j] / sums[0][j] : 0.0;
        level[j] = j == 0 ? std::nearbyint(t[0]) : std::min(std::max(std::nearbyint(mean), 0.0), 255.0);
        least[j] = sums[5][j] - 2 * level[j] * sums[3][j] + level[j] * level[j] * sums[0][j];
    }
    // least[j]: least cost of the first j points with k segments; back[k][j]: where the last one begins, or -1
    std::vector<std::vector<int>> back(kSegments - 1, std::vector<int>(n + 1, -1));
    std::vector<double> next(n), choice(n);
    for (size_t k = 0; k + 1 < kSegments; ++k) {
        std::fill(next.begin(), next.end(), kInfinity);
        std::fill(choice.begin(), choice.end(), 0.0);
        for (size_t i = 0; i < n; ++i) {
            const double before = least[i], here = static_cast<double>(i);
            const double* const costs = cost + i * n;
            for (size_t j = i; j < n; ++j) {
                const double c = before + costs[j];
                const bool better = c < next[j];
                next[j] = better ? c : next[j], choice[j] = better ? here : choice[j];
            }
        }
        for (size_t j = 1; j <= n; ++j) {
            if (next[j - 1] < least[j] - 1e-15) least[j] = next[j - 1], back[k][j] = static_cast<int>(choice[j - 1]);
        }
    }
    std::vector<CurveSegment> found;
    size_t j = n;
    for (size_t k = kSegments - 1; k-- > 0 && j > 0;) {
        const int i = back[k][j];
        if (i < 0) continue;
        const size_t from = static_cast<size_t>(i), anchor = from > 0 ? from - 1 : 0;
        CurveSegment best{x[anchor], 0.0, 0};
        double least_cost = kInfinity;
        for (int delta = -1; delta <= 2; ++delta) {
            double m = 0.0;
            const double b = start_of(from, delta), c = segment(from, j - 1, x[anchor], b, m);
            if (c < least_cost) least_cost = c, best.slope = m, best.bias = static_cast<int64_t>(b);
        }
        found.push_back(best);
        j = static_cast<size_t>(i);
    }
    found.push_back({-kInfinity, 0.0, static_cast<int64_t>(level[j])});
    std::reverse_copy(found.begin(), found.end(), segments);
    return found.size();
}

void largest(const float* x, size_t n, float* out, size_t count) {
    std::partial_sort_copy(x, x + n, out, out + count, std::greater<float>());
}

OPENKPU_CLONES void histogram(const float* x, size_t n, double low, double high, double* counts, size_t bins) {
    std::fill(counts, counts + bins, 0.0);
    const double factor = static_cast<double>(bins) / (high - low), last = static_cast<double>(bins - 1);
    for (size_t i = 0; i < n; ++i) {
        const double place = (static_cast<double>(x[i]) - low) * factor;
        counts[static_cast<size_t>(std::min(std::max(place, 0.0), last))] += 1.0;
    }
}

OPENKPU_CLONES double squared_error(const double* counts, const double* centers, size_t bins, double low, double high) {
    low = std::min(low, 0.0), high = std::max(high, 0.0);
    const double scale = (high - low) / 255;
    double clipped = 0.0, used = 0.0;
    for (size_t i = 0; i < bins; ++i) {
        const double c = centers[i], away = c - std::min(std::max(c, low), high);
        clipped += counts[i] * away * away;
        used += c >= low && c <= high ? counts[i] : 0.0;
    }
    return clipped + used * scale * scale / 12;
}

OPENKPU_CLONES double divergence(const double* counts, const double* centers, size_t bins, double low, double high) {
    low = std::min(low, 0.0), high = std::max(high, 0.0);
    size_t first = 0, last = bins;      // centers rise
    while (first < bins && centers[first] < low) ++first;
    while (last > first && centers[last - 1] > high) --last;
    if (last < first + 2) return std::numeric_limits<double>::infinity();
    std::vector<double> p(counts + first, counts + last);
    for (size_t i = 0; i < first; ++i) p.front() += counts[i];
    for (size_t i = last; i < bins; ++i) p.back() += counts[i];
    double mass[256] = {}, occupied[256] = {}, all = 0.0, kept = 0.0;
    std::vector<uint8_t> level(p.size());
    for (size_t i = 0; i < p.size(); ++i) {
        const double l = std::nearbyint((centers[first + i] - low) / (high - low) * 255);
        level[i] = static_cast<uint8_t>(std::min(std::max(l, 0.0), 255.0));
        mass[level[i]] += counts[first + i], occupied[level[i]] += p[i] > 0 ? 1.0 : 0.0, all += p[i];
    }
    double share[256];      // of one bin in what its level tells of it
    for (size_t l = 0; l < 256; ++l) share[l] = mass[l] / std::max(occupied[l], 1.0), kept += mass[l];
    kept = std::max(kept, 1e-30);
    double log_share[256];
    for (size_t l = 0; l < 256; ++l) log_share[l] = occupied[l] > 0 ? std::log(std::max(share[l] / kept, 1e-9)) : 0.0;
    double result = 0.0;
    for (size_t i = 0; i < p.size(); ++i) {
        const double part = p[i] / all;
        if (part > 0) result += part * (std::log(part) - log_share[level[i]]);
    }
    return result;
}

}  // namespace openkpu
