// Constants and loops of the AVX-512 kernels. Like all these headers it belongs to kernels_avx512vnni.cpp alone.
#pragma once

#include <immintrin.h>

#include "kernels_plain.hpp"

namespace openkpu {
namespace {

constexpr size_t kLanes = 16;
constexpr size_t kOcBlock = 6;
constexpr size_t kVectors = 4;
constexpr int kEven = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
constexpr int kFloor = _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC;

// Calls f(0) .. f(N - 1) with constants. A loop would do, but GCC then keeps arrays of vectors in memory.
template <size_t I>
struct Constant {
    static constexpr size_t value = I;
};
template <size_t N, size_t I = 0, typename F>
[[gnu::always_inline]] inline void each(const F& f) {
    if constexpr (I < N) {
        f(Constant<I>{});
        each<N, I + 1>(f);
    }
}
#define EACH(n, i, ...) each<n>([&](auto i) __attribute__((always_inline)) __VA_ARGS__)

__mmask64 first_bytes(size_t n) { return n >= 64 ? ~__mmask64{0} : (__mmask64{1} << n) - 1; }

}  // namespace
}  // namespace openkpu
