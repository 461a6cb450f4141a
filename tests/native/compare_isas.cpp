// Runs random layers on every instruction set of this machine and compares each with the portable kernels, byte for byte.
// For machines where Python cannot easily run (an emulated one). Prints the names compared; exit code 1 on a difference.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <vector>

#include "layer.hpp"

using namespace openkpu;

namespace {

constexpr size_t kRam = size_t{2} << 20;
std::mt19937_64 rng(1);

int64_t pick(int64_t low, int64_t high) { return std::uniform_int_distribution<int64_t>(low, high)(rng); }

struct Case {
    Geometry g{};
    std::vector<uint16_t> weights;
    std::vector<int64_t> norm, activation;
};

void place(size_t channels, size_t h, size_t w, size_t& channel, size_t& row, size_t& group, size_t& bytes) {
    group = w <= 16 ? 4 : w <= 32 ? 2 : 1;
    row = (w + 63) / 64 * 64;
    channel = row * h;
    bytes = (channels + group - 1) / group * channel;
}

Case random_case() {
    Case c;
    Geometry& g = c.g;
    g.depthwise = pick(0, 1) != 0;
    g.kernel = pick(0, 1) != 0 ? 3 : 1;
    g.ic = static_cast<size_t>(pick(1, 40));
    g.oc = g.depthwise ? g.ic : static_cast<size_t>(pick(1, 40));
    g.h = static_cast<size_t>(pick(1, 24));
    g.w = static_cast<size_t>(pick(1, 70));
    const int kinds[10][4] = {{0, 1, 1, 0}, {1, 2, 2, 0}, {2, 2, 2, 0}, {1, 4, 4, 0}, {2, 4, 4, 0},
                              {0, 2, 2, 0}, {0, 2, 2, 1}, {0, 4, 4, 0}, {2, 2, 1, 0}, {1, 2, 1, 0}};
    const int* kind = kinds[pick(0, 9)];
    g.pool_op = static_cast<PoolOp>(kind[0]);
    g.pool_size = kind[1];
    g.pool_stride = kind[2];
    g.pool_column = kind[3];
    g.oh = std::max<size_t>(1, g.h / static_cast<size_t>(g.pool_stride));
    g.ow = std::max<size_t>(1, g.w / static_cast<size_t>(g.pool_stride));
    g.pad_value = static_cast<uint8_t>(pick(0, 255));
    size_t bytes;
    place(g.oc, g.oh, g.ow, g.dst_channel, g.dst_row, g.dst_group, bytes);
    g.dst = kRam - bytes;
    place(g.ic, g.h, g.w, g.src_channel, g.src_row, g.src_group, bytes);
    const bool sixteen = pick(0, 4) == 0, plain = pick(0, 2) != 0;
    const size_t n = g.inputs() * g.taps();
    const int64_t zw = pick(100, 156), zx = pick(0, 255);
    for (size_t i = 0; i < g.oc * n; ++i) c.weights.push_back(static_cast<uint16_t>(pick(0, sixteen ? 65535 : 255)));
    g.shr_x = plain ? 15 : static_cast<int>(pick(0, 15));
    g.arg_x = plain ? -zw * 32768 : pick(-(1 << 23), (1 << 23) - 1);
    g.arg_w = plain ? -zx : pick(-2000, 2000);
    g.arg_add = plain ? zx * zw * static_cast<int64_t>(g.taps()) : pick(-100000, 100000);
    // A spread of about 2^18 after batch norm, as in a compiled file.
    const auto spread = 255.0 * 60.0 * std::sqrt(static_cast<double>(n)) * (sixteen ? 256 : 1);
    for (size_t o = 0; o < g.oc; ++o) c.norm.push_back(static_cast<int64_t>(262144.0 / spread * 4096) + pick(0, 9));
    for (size_t o = 0; o < g.oc; ++o) c.norm.push_back(pick(-100000, 100000));
    for (size_t o = 0; o < g.oc; ++o) c.norm.push_back(pick(0, 3) == 0 ? 15 : 12);
    c.activation.assign(64, 0);
    const int64_t shape = pick(0, 2);
    for (size_t i = 0; i < 16; ++i) {
        const auto k = static_cast<int64_t>(i);
        c.activation[i] = i == 0 ? -(int64_t{1} << 35) : shape == 0 ? 0 : (k - 8) * 30000 + pick(0, 9000);
        c.activation[16 + i] = i == 0 ? 0 : shape == 0 ? 1024 : pick(shape == 1 ? 0 : -2000, 2000);
        c.activation[32 + i] = shape == 0 ? 20 : pick(16, 22);
        c.activation[48 + i] = shape == 0 ? 0 : pick(0, 255);
    }
    return c;
}

}  // namespace

int main(int argc, char** argv) {
    const int count = argc > 1 ? atoi(argv[1]) : 200;
    int paths[3] = {};
    for (int i = 0; i < count; ++i) {
        const Case c = random_case();
        std::vector<uint8_t> ram(kRam);
        for (size_t k = 0; k < kRam; k += 8) {
            const uint64_t v = rng();
            memcpy(ram.data() + k, &v, 8);
        }
        const auto run = [&](const Kernels& k) {
            std::vector<uint8_t> result = ram;
            const Layer layer(k, c.g, c.weights.data(), c.norm.data(), c.activation.data());
            layer.run(result.data(), 1 + i % 2, nullptr);
            if (&k == &kernels_portable) ++paths[layer.path()[0] == 'r' ? 0 : layer.path()[0] == 't' ? 1 : 2];
            return result;
        };
        const std::vector<uint8_t> want = run(kernels_portable);
        for (const Kernels* const* k = available_kernels(); *k != nullptr; ++k) {
            if (run(**k) != want) {
                printf("%s differs from portable in layer %d\n", (*k)->name, i);
                return 1;
            }
        }
    }
    for (const Kernels* const* k = available_kernels(); *k != nullptr; ++k) printf("%s ", (*k)->name);
    printf(": %d layers equal (%d ramp, %d table, %d exact)\n", count, paths[0], paths[1], paths[2]);
    return 0;
}
