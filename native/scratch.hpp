// Small things that the parts of Layer share.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace openkpu {

inline constexpr size_t kSlack = 64;               // pixels that a kernel may touch past the end
inline constexpr size_t kAiRam = size_t{2} << 20;
inline constexpr size_t kInputBlock = 24 * 1024;   // bytes of packed input that a block of pixels may use: half of an L1 cache
inline constexpr size_t kBand = 160 * 1024;        // bytes of packed input at a time, where the layer allows it: part of an L2 cache
inline constexpr size_t kPlanes = 192 * 1024;      // bytes of finished planes kept before they are written: part of an L2 cache

inline size_t divide_up(size_t a, size_t b) { return (a + b - 1) / b; }
inline size_t round_up(size_t a, size_t b) { return divide_up(a, b) * b; }

// Scratch memory that a thread keeps from call to call. Contents are not defined.
template <int WHICH>
uint8_t* scratch(size_t bytes) {
    thread_local std::vector<uint8_t> memory;
    if (memory.size() < bytes + 64) memory.resize(bytes + 64);
    return reinterpret_cast<uint8_t*>(round_up(reinterpret_cast<uintptr_t>(memory.data()), 64));
}

inline size_t address(size_t base, size_t channel_step, size_t group, size_t c) {
    // group is 1, 2 or 4; shifts, because this runs for every channel
    const size_t bits = group >> 1;
    return base + (c >> bits) * channel_step + ((c & (group - 1)) << (6 - bits));
}

}  // namespace openkpu
