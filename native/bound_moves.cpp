// Elements that move, as they are or through a table of bytes.
#include <cstring>

#include "bound_loops.hpp"
#include "kernels.hpp"

namespace openkpu::bound {

int64_t View::elements() const {
    int64_t n = 1;
    for (int i = 0; i < rank; ++i) n *= shape[i];
    return n;
}

bool View::dense() const {
    int64_t step = item;
    for (int i = rank - 1; i >= 0; --i) {
        if (shape[i] != 1 && stride[i] != step) return false;
        step *= shape[i];
    }
    return true;
}

namespace {

template <typename T>
void copy_rows(const Loops<2>& loops, const View& src, const View& dst) {
    const int last = loops.rank - 1;
    const int64_t s = loops.stride[0][last], d = loops.stride[1][last];
    constexpr int64_t item = sizeof(T);
    loops.run({src.data, dst.data}, [=](char** p, int64_t n) {
        if (s == item && d == item) {
            std::memcpy(p[1], p[0], static_cast<size_t>(n * item));
        } else if (d == item) {
            T* to = reinterpret_cast<T*>(p[1]);
            for (int64_t i = 0; i < n; ++i) to[i] = at<T>(p[0], i * s);
        } else {
            for (int64_t i = 0; i < n; ++i) at<T>(p[1], i * d) = at<T>(p[0], i * s);
        }
    });
}

// The last two dimensions in blocks, where source and target run in different directions.
template <typename T>
void copy_turned(const Loops<2>& loops, const View& src, const View& dst) {
    constexpr int64_t block = 32;
    const int r = loops.rank - 2, c = loops.rank - 1;
    Loops<2> outer = loops;
    outer.rank = loops.rank - 1;
    outer.shape[r] = 1;
    const int64_t rows = loops.shape[r], columns = loops.shape[c];
    const int64_t sr = loops.stride[0][r], sc = loops.stride[0][c], dr = loops.stride[1][r], dc = loops.stride[1][c];
    outer.run({src.data, dst.data}, [=](char** p, int64_t) {
        for (int64_t y = 0; y < rows; y += block) {
            for (int64_t x = 0; x < columns; x += block) {
                const int64_t ye = std::min(rows, y + block), xe = std::min(columns, x + block);
                for (int64_t i = y; i < ye; ++i) {
                    for (int64_t j = x; j < xe; ++j) at<T>(p[1], i * dr + j * dc) = at<T>(p[0], i * sr + j * sc);
                }
            }
        }
    });
}

template <typename T>
void copy_as(const View& src, const View& dst) {
    const Loops<2> loops({&src, &dst});
    const int last = loops.rank - 1;
    const bool straight = loops.stride[0][last] == loops.stride[1][last] || loops.rank == 1;
    if (!straight && loops.shape[last] >= 8 && loops.shape[last - 1] >= 8) {
        copy_turned<T>(loops, src, dst);
    } else {
        copy_rows<T>(loops, src, dst);
    }
}

}  // namespace

namespace {

// Bytes through a table, or as they are where there is none: rows of the last two dimensions at a time.
void move_bytes(const View& src, const uint8_t* table, const View& dst) {
    Loops<2> loops({&src, &dst});
    if (loops.rank == 1) loops.add_row();
    const int rows = loops.rank - 2, last = loops.rank - 1;
    const int64_t step = loops.stride[0][last];
    if (loops.stride[1][last] != 1 || step < 1) {
        if (table == nullptr) return copy_as<uint8_t>(src, dst);
        const int64_t d = loops.stride[1][last];
        return loops.run({src.data, dst.data}, [=](char** p, int64_t n) {
            for (int64_t i = 0; i < n; ++i) at<uint8_t>(p[1], i * d) = table[at<uint8_t>(p[0], i * step)];
        });
    }
    static const Kernels& kernels = *available_kernels()[0];
    MoveRows m{};
    m.src_pitch = loops.stride[0][rows], m.dst_pitch = loops.stride[1][rows], m.step = step, m.table = table;
    m.n = static_cast<size_t>(loops.shape[last]), m.rows = static_cast<size_t>(loops.shape[rows]);
    --loops.rank, loops.shape[rows] = 1;
    loops.run({src.data, dst.data}, [=](char** p, int64_t) {
        MoveRows here = m;
        here.src = reinterpret_cast<const uint8_t*>(p[0]), here.dst = reinterpret_cast<uint8_t*>(p[1]);
        kernels.move_rows(here);
    });
}

}  // namespace

void copy(const View& source, const View& target) {
    View src = source, dst = target;
    sort_dimensions(src, dst);
    switch (src.item) {
        case 1: return move_bytes(src, nullptr, dst);
        case 2: return copy_as<uint16_t>(src, dst);
        case 4: return copy_as<uint32_t>(src, dst);
        default: return copy_as<uint64_t>(src, dst);
    }
}

void fill(const char* value, const View& dst) {
    View src = dst;
    src.data = const_cast<char*>(value);
    std::fill(src.stride, src.stride + max_rank, 0);
    const Loops<2> loops({&src, &dst});
    const int64_t item = dst.item, step = loops.stride[1][loops.rank - 1];
    loops.run({src.data, dst.data}, [=](char** p, int64_t n) {
        if (item == 1 && step == 1) {
            std::memset(p[1], *value, static_cast<size_t>(n));
        } else if (item == 4 && step == 4) {
            uint32_t v;
            std::memcpy(&v, value, 4);
            std::fill_n(reinterpret_cast<uint32_t*>(p[1]), n, v);
        } else {
            for (int64_t i = 0; i < n; ++i) std::memcpy(p[1] + i * step, value, static_cast<size_t>(item));
        }
    });
}

void lookup(const View& source, const uint8_t* table, const View& target) {
    View src = source, dst = target;
    sort_dimensions(src, dst);
    move_bytes(src, table, dst);
}

namespace {

template <typename T>
void nearest_as(const View& src, const View& dst, const int64_t* rows, const int64_t* columns) {
    for (int64_t n = 0; n < dst.shape[0]; ++n) {
        for (int64_t c = 0; c < dst.shape[1]; ++c) {
            char* from = src.data + n * src.stride[0] + c * src.stride[1];
            char* to = dst.data + n * dst.stride[0] + c * dst.stride[1];
            for (int64_t y = 0; y < dst.shape[2]; ++y) {
                char* row = from + rows[y] * src.stride[2];
                char* out = to + y * dst.stride[2];
                for (int64_t x = 0; x < dst.shape[3]; ++x) {
                    at<T>(out, x * dst.stride[3]) = at<T>(row, columns[x] * src.stride[3]);
                }
            }
        }
    }
}

}  // namespace

void resize_nearest(const View& src, const View& dst, const int64_t* rows, const int64_t* columns) {
    if (src.item == 1) return nearest_as<uint8_t>(src, dst, rows, columns);
    nearest_as<uint32_t>(src, dst, rows, columns);
}

}  // namespace openkpu::bound
