// Python objects that hold an operator with its arrays: made once, run often. Sizes and types are checked when made.
#include "bound_module.hpp"

#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "bound_ops.hpp"

namespace nb = nanobind;

namespace openkpu {
namespace {

using namespace bound;

using Source = nb::ndarray<nb::ro, nb::device::cpu>;
using Target = nb::ndarray<nb::device::cpu>;
using Floats = nb::ndarray<const float, nb::c_contig, nb::device::cpu>;
using Indices = nb::ndarray<const int64_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

[[noreturn]] void refuse(const char* why) { throw std::invalid_argument(why); }

template <typename Array>
View view(const Array& a) {
    View v{};
    if (a.ndim() > max_rank) refuse("too many dimensions");
    v.data = const_cast<char*>(static_cast<const char*>(static_cast<const void*>(a.data())));
    v.rank = static_cast<int>(a.ndim());
    v.item = static_cast<int64_t>(a.itemsize());
    for (size_t i = 0; i < a.ndim(); ++i) {
        v.shape[i] = static_cast<int64_t>(a.shape(i));
        v.stride[i] = a.stride(i) * v.item;
        if (v.shape[i] < 1) refuse("an empty array");
    }
    return v;
}

void same_shape(const View& a, const View& b) {
    bool same = a.rank == b.rank;
    for (int i = 0; same && i < a.rank; ++i) same = a.shape[i] == b.shape[i];
    if (!same) refuse("shapes differ");
}

template <typename T, typename Array>
void is(const Array& a) {
    if (a.dtype() != nb::dtype<T>()) refuse("wrong element type");
}

template <typename Array>
bool eight_bits(const Array& a) {
    const bool is_signed = a.dtype() == nb::dtype<int8_t>();
    if (!is_signed) is<uint8_t>(a);
    return is_signed;
}

template <typename... Arrays>
Operator make(std::function<void()> body, const Arrays&... arrays) {
    return {std::move(body), {nb::cast(arrays)...}};
}

Operator make_copy(const Source& src, const Target& dst) {
    const View s = view(src), d = view(dst);
    same_shape(s, d);
    if (s.item != d.item || (s.item != 1 && s.item != 2 && s.item != 4 && s.item != 8)) refuse("sizes of elements");
    return make([=] { copy(s, d); }, src, dst);
}

Operator make_fill(const Source& value, const Target& dst) {
    const View v = view(value), d = view(dst);
    if (v.elements() != 1 || v.item != d.item) refuse("one value of the array's type");
    return make([=] { fill(v.data, d); }, value, dst);
}

Operator make_lookup(const Source& src, nb::bytes table, const Target& dst) {
    const View s = view(src), d = view(dst);
    same_shape(s, d), is<uint8_t>(src), is<uint8_t>(dst);
    if (table.size() != 256) refuse("a table of 256 bytes");
    const auto* t = reinterpret_cast<const uint8_t*>(table.c_str());
    return make([=] { lookup(s, t, d); }, src, table, dst);
}

Operator make_quantize(const Source& src, const Target& dst, float multiplier, float offset) {
    const View s = view(src), d = view(dst);
    same_shape(s, d), is<float>(src);
    const bool is_signed = eight_bits(dst);
    return make([=] { quantize(s, d, multiplier, offset, is_signed); }, src, dst);
}

Operator make_dequantize(const Source& src, const Target& dst, float multiplier, float offset) {
    const View s = view(src), d = view(dst);
    same_shape(s, d), is<float>(dst);
    const bool is_signed = eight_bits(src);
    return make([=] { dequantize(s, d, multiplier, offset, is_signed); }, src, dst);
}

Operator make_dequantize_channels(const Source& src, const Floats& multiplier, const Floats& offset, const Target& dst) {
    const View s = view(src), d = view(dst);
    same_shape(s, d), is<uint8_t>(src), is<float>(dst);
    if (d.rank != 2 || s.stride[1] != 1 || d.stride[1] != 4) refuse("rows without gaps");
    const auto channels = static_cast<size_t>(d.shape[0]);
    if (multiplier.size() != channels || offset.size() != channels) refuse("channels do not fit");
    const float *m = multiplier.data(), *o = offset.data();
    return make([=] { dequantize_channels(s, d, m, o); }, src, multiplier, offset, dst);
}

Operator make_quantize_away(const Source& src, const Target& dst, float bias, float factor) {
    const View s = view(src), d = view(dst);
    same_shape(s, d), is<float>(src), is<uint8_t>(dst);
    if (!s.dense() || !d.dense()) refuse("arrays without gaps");
    return make([=] { quantize_away(s, d, bias, factor); }, src, dst);
}

Operator make_binary(int op, const Source& a, const Source& b, const Target& dst, float low, float high) {
    const View x = view(a), y = view(b), d = view(dst);
    same_shape(x, d), same_shape(y, d), is<float>(a), is<float>(b), is<float>(dst);
    if (op < 0 || op > 5) refuse("no such operation");
    return make([=] { binary(static_cast<Binary>(op), x, y, d, low, high); }, a, b, dst);
}

Reduce reduction(int op) {
    if (op < 0 || op > 3) refuse("no such operation");
    return static_cast<Reduce>(op);
}

Operator make_reduce(int op, const Source& src, int reduced, const Target& dst, float init, bool divide, float factor) {
    const View s = view(src), d = view(dst);
    is<float>(src), is<float>(dst);
    if (reduced < 0 || reduced > s.rank) refuse("dimensions to reduce");
    int64_t kept = 1;
    for (int i = 0; i < s.rank - reduced; ++i) kept *= s.shape[i];
    if (kept != d.elements()) refuse("shapes differ");
    const Reduce r = reduction(op);
    return make([=] { reduce(r, s, reduced, d, init, divide, factor); }, src, dst);
}

Window window(const std::vector<int64_t>& n, float low, float high) {
    if (n.size() != 8) refuse("eight numbers of the window");
    Window w{};
    for (size_t i = 0; i < 2; ++i) {
        w.kernel[i] = n[i], w.stride[i] = n[2 + i], w.dilation[i] = n[4 + i], w.before[i] = n[6 + i];
        if (w.kernel[i] < 1 || w.stride[i] < 1 || w.dilation[i] < 1) refuse("a window without extent");
    }
    w.low = low, w.high = high;
    return w;
}

void pictures(const View& s, const View& d) {
    if (s.rank != 4 || d.rank != 4 || s.shape[0] != d.shape[0]) refuse("(n, c, h, w) of one n");
}

Operator make_reduce_window(int op, const Source& src, const Target& dst, const std::vector<int64_t>& numbers, float init,
                            float low, float high) {
    const View s = view(src), d = view(dst);
    pictures(s, d), is<float>(src), is<float>(dst);
    if (s.shape[1] != d.shape[1]) refuse("shapes differ");
    const Window w = window(numbers, low, high);
    const Reduce r = reduction(op);
    return make([=] { reduce_window(r, s, d, w, init); }, src, dst);
}

Operator make_conv2d(const Source& src, const Floats& weights, const Floats& bias, const Target& dst, int64_t groups,
                     const std::vector<int64_t>& numbers, float low, float high) {
    const View s = view(src), d = view(dst);
    pictures(s, d), is<float>(src), is<float>(dst);
    std::vector<int64_t> k(4);
    if (weights.ndim() != 4) refuse("weights (oc, c, kh, kw)");
    for (size_t i = 0; i < 4; ++i) k[i] = static_cast<int64_t>(weights.shape(i));
    if (groups < 1 || s.shape[1] != k[1] * groups || d.shape[1] != k[0] || k[0] % groups ||
        static_cast<int64_t>(bias.size()) != k[0]) {
        refuse("channels do not fit");
    }
    Window w = window(numbers, low, high);
    w.kernel[0] = k[2], w.kernel[1] = k[3];
    auto conv = std::make_shared<Conv>(prepare(w, groups, weights.data(), bias.data(), k.data(), d.shape[3]));
    return make([=] { conv2d(*conv, s, d, k.data()); }, src, weights, bias, dst);
}

void inside(const Indices& index, int64_t count, int64_t size) {
    bool good = static_cast<int64_t>(index.size()) == count;
    for (size_t i = 0; good && i < index.size(); ++i) good = index.data()[i] >= 0 && index.data()[i] < size;
    if (!good) refuse("indices outside the picture");
}

Operator make_resize_nearest(const Source& src, const Target& dst, const Indices& rows, const Indices& columns) {
    const View s = view(src), d = view(dst);
    pictures(s, d);
    if (s.shape[1] != d.shape[1] || s.item != d.item || (s.item != 1 && s.item != 4)) refuse("shapes or types differ");
    inside(rows, d.shape[2], s.shape[2]), inside(columns, d.shape[3], s.shape[3]);
    const int64_t *r = rows.data(), *c = columns.data();
    return make([=] { resize_nearest(s, d, r, c); }, src, dst, rows, columns);
}

Operator make_matmul(const Floats& a, const Floats& b, const Floats& bias, const Target& dst, float low, float high) {
    const View d = view(dst);
    is<float>(dst);
    if (a.ndim() != 2 || b.ndim() != 2 || a.shape(1) != b.shape(0) || bias.size() != b.shape(1) || d.rank != 2 ||
        d.shape[0] != static_cast<int64_t>(a.shape(0)) || d.shape[1] != static_cast<int64_t>(b.shape(1)) || !d.dense()) {
        refuse("matrices do not fit");
    }
    const float *x = a.data(), *y = b.data(), *z = bias.data();
    const auto m = d.shape[0], k = static_cast<int64_t>(a.shape(1)), n = d.shape[1];
    return make([=] { matmul(x, y, z, reinterpret_cast<float*>(d.data), m, k, n, low, high); }, a, b, bias, dst);
}

// One operator that runs others in turn.
Operator make_sequence(const std::vector<nb::object>& operators) {
    std::vector<const Operator*> steps;
    for (const nb::object& o : operators) steps.push_back(nb::cast<const Operator*>(o));
    return {[steps] {
                for (const Operator* step : steps) step->body();
            },
            operators};
}

}  // namespace

void add_bound_operators(nb::module_& parent) {
    nb::module_ m = parent.def_submodule("bound", "Tensor operators with their arrays. Use openkpu.runtime.v5_native.");
    nb::class_<Operator>(m, "Operator", "A tensor operator with its arrays.").def("run", &Operator::run);
    m.def("sequence", make_sequence);
    m.def("copy", make_copy);
    m.def("fill", make_fill);
    m.def("lookup", make_lookup);
    m.def("quantize", make_quantize);
    m.def("dequantize", make_dequantize);
    m.def("dequantize_channels", make_dequantize_channels);
    m.def("quantize_away", make_quantize_away);
    m.def("binary", make_binary);
    m.def("reduce", make_reduce);
    m.def("reduce_window", make_reduce_window);
    m.def("conv2d", make_conv2d);
    m.def("resize_nearest", make_resize_nearest);
    m.def("matmul", make_matmul);
}

}  // namespace openkpu
