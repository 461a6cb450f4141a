// What the bound operators share: loops over tensors with strides.
#pragma once

#include <algorithm>
#include <cstdlib>
#include <iterator>
#include <utility>

#include "bound_ops.hpp"

namespace openkpu::bound {

// Loops over operands of one shape: the dimensions of size 1 are dropped, neighbours that can be are merged, and body
// gets one row at a time.
template <int N>
struct Loops {
    int rank = 0;
    int64_t shape[max_rank];
    int64_t stride[N][max_rank];

    explicit Loops(const View* const (&views)[N]) {
        const View& first = *views[0];
        for (int i = 0; i < first.rank; ++i) {
            if (first.shape[i] == 1) continue;
            bool merge = rank > 0;
            for (int k = 0; k < N; ++k) merge = merge && stride[k][rank - 1] == views[k]->stride[i] * first.shape[i];
            if (merge) {
                shape[rank - 1] *= first.shape[i];
            } else {
                shape[rank++] = first.shape[i];
            }
            for (int k = 0; k < N; ++k) stride[k][rank - 1] = views[k]->stride[i];
        }
        if (rank == 0) {
            shape[rank] = 1;
            for (int k = 0; k < N; ++k) stride[k][rank] = views[k]->item;
            ++rank;
        }
    }

    // A first dimension of size 1, for bodies that want two.
    void add_row() {
        shape[1] = shape[0], shape[0] = 1, rank = 2;
        for (int k = 0; k < N; ++k) stride[k][1] = stride[k][0];
    }

    template <typename Body>
    void run(char* const (&data)[N], Body body) const {
        char* at[N];
        std::copy(std::begin(data), std::end(data), at);
        step(0, at, body);
    }

  private:
    template <typename Body>
    void step(int d, char** at, Body& body) const {
        if (d == rank - 1) {
            body(at, shape[d]);
            return;
        }
        char* here[N];
        std::copy(at, at + N, here);
        for (int64_t i = 0; i < shape[d]; ++i) {
            char* next[N];
            std::copy(here, here + N, next);
            step(d + 1, next, body);
            for (int k = 0; k < N; ++k) here[k] += stride[k][d];
        }
    }
};

template <typename T>
T& at(char* p, int64_t bytes) {
    return *reinterpret_cast<T*>(p + bytes);
}

// Brings the dimension along which b is dense to the end, for loops that work on rows.
inline void sort_dimensions(View& a, View& b) {
    for (int i = 1; i < a.rank; ++i) {
        for (int j = i; j > 0 && std::abs(b.stride[j - 1]) < std::abs(b.stride[j]); --j) {
            std::swap(a.shape[j - 1], a.shape[j]), std::swap(b.shape[j - 1], b.shape[j]);
            std::swap(a.stride[j - 1], a.stride[j]), std::swap(b.stride[j - 1], b.stride[j]);
        }
    }
}

inline constexpr auto least = [](float a, float b) { return b < a ? b : a; };
inline constexpr auto greatest = [](float a, float b) { return a < b ? b : a; };

inline float clamped(float v, float low, float high) {
    v = high < v ? high : v;
    return v < low ? low : v;
}

}  // namespace openkpu::bound
