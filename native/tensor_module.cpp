// The tensor operators' part of the Python module openkpu._native. Arguments were checked in Python (openkpu.ops.fast);
// sizes are checked again here.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <algorithm>
#include <stdexcept>

#include "tensor_ops.hpp"

namespace nb = nanobind;

namespace openkpu {
namespace {

template <typename T, size_t N>
using Array = nb::ndarray<T, nb::ndim<N>, nb::c_contig, nb::device::cpu>;
using Numbers = Array<const int64_t, 1>;

void need(bool fits) {
    if (!fits) throw std::invalid_argument("arrays do not match");
}

template <typename T>
Window window(const Array<const T, 4>& x, const Array<const T, 4>& weights, const Array<const T, 1>& bias,
              const Array<T, 4>& out, const Numbers& p) {
    need(p.shape(0) == 8);
    const auto size = [](const auto& a, size_t i) { return static_cast<int64_t>(a.shape(i)); };
    const Window s{size(x, 0), size(x, 1), size(x, 2), size(x, 3), size(out, 1), p(0), size(out, 2), size(out, 3),
                   size(weights, 2), size(weights, 3), p(1), p(2), p(3), p(4), p(5), p(6), p(7)};
    need(s.groups > 0 && s.stride_h > 0 && s.stride_w > 0 && s.c % s.groups == 0 && s.oc % s.groups == 0);
    need(size(out, 0) == s.n && size(weights, 0) == s.oc && size(weights, 1) == s.c / s.groups && size(bias, 0) == s.oc);
    return s;
}

}  // namespace

void bind_tensor_ops(nb::module_& m) {
    m.def("taps_f32", [](const Array<const float, 4>& x, const Array<const float, 4>& w, const Array<const float, 1>& bias,
                         const Array<float, 4>& out, const Numbers& p) {
        const Window s = window(x, w, bias, out, p);
        nb::gil_scoped_release release;
        taps_f32(s, x.data(), w.data(), bias.data(), out.data());
    });
    m.def("taps_i32", [](const Array<const int32_t, 4>& x, const Array<const int32_t, 4>& w,
                         const Array<const int32_t, 1>& bias, const Array<int32_t, 4>& out, const Numbers& p) {
        const Window s = window(x, w, bias, out, p);
        nb::gil_scoped_release release;
        taps_i32(s, x.data(), w.data(), bias.data(), out.data());
    });
    m.def("quantize", [](const Array<const float, 1>& x, const Array<uint8_t, 1>& out, float scale, float zero, bool away) {
        need(x.shape(0) == out.shape(0));
        quantize(x.data(), out.data(), x.shape(0), scale, zero, away ? Halves::away : Halves::even_pairs);
    });
    m.def("look_up", [](const Array<const uint8_t, 1>& x, const Array<const float, 1>& table, const Array<float, 1>& out) {
        need(table.shape(0) == 256 && x.shape(0) == out.shape(0));
        look_up(x.data(), table.data(), out.data(), x.shape(0));
    });
    m.def("quantized_binary", [](const Array<const uint8_t, 4>& a, const Array<const uint8_t, 4>& b,
                                 const Array<uint8_t, 4>& out, const Array<const int32_t, 2>& values, int op, int mul,
                                 int shift, int offset) {
        need(values.shape(0) == 2 && values.shape(1) == 256 && shift >= 0 && shift < 64);
        Broadcast s{};
        int64_t step_a = 1, step_b = 1;
        for (size_t i = 4; i-- > 0;) {
            s.shape[i] = static_cast<int64_t>(out.shape(i));
            need((a.shape(i) == 1 || a.shape(i) == out.shape(i)) && (b.shape(i) == 1 || b.shape(i) == out.shape(i)));
            s.a[i] = a.shape(i) == 1 ? 0 : step_a;
            s.b[i] = b.shape(i) == 1 ? 0 : step_b;
            step_a *= static_cast<int64_t>(a.shape(i));
            step_b *= static_cast<int64_t>(b.shape(i));
        }
        const Fixed f{mul, shift, offset, op, values.data(), values.data() + 256};
        quantized_binary(s, f, a.data(), b.data(), out.data());
    });
    m.def("reduce_rows", [](int op, const Array<const float, 2>& rows, const Array<float, 1>& out) {
        need(rows.shape(1) == out.shape(0));
        reduce_rows(op, rows.data(), rows.shape(0), rows.shape(1), out.data());
    });
    m.def("matmul", [](const Array<const float, 2>& a, const Array<const float, 2>& b, const Array<const float, 1>& bias,
                       const Array<float, 2>& out) {
        need(a.shape(1) == b.shape(0) && out.shape(0) == a.shape(0) && out.shape(1) == b.shape(1));
        need(bias.shape(0) == b.shape(1));
        nb::gil_scoped_release release;
        matmul(a.data(), b.data(), bias.data(), out.data(), a.shape(0), a.shape(1), b.shape(1));
    });
}

}  // namespace openkpu
