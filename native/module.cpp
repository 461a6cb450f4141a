// The Python module openkpu._native. Arguments were checked in Python (openkpu.kpu.engine); sizes are checked again here.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <stdexcept>
#include <string>

#include "bound_module.hpp"
#include "layer.hpp"
#include "scratch.hpp"

namespace nb = nanobind;
using namespace openkpu;

namespace openkpu {
void bind_tensor_ops(nb::module_& m);  // tensor_module.cpp
void bind_quantizing(nb::module_& m);  // quantizing_module.cpp
}

namespace {

using Bytes = nb::ndarray<uint8_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Pictures = nb::ndarray<uint8_t, nb::ndim<4>, nb::c_contig, nb::device::cpu>;
using Output = nb::ndarray<uint8_t, nb::ndim<3>, nb::c_contig, nb::device::cpu>;
using Weights = nb::ndarray<const uint16_t, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Numbers = nb::ndarray<const int64_t, nb::ndim<2>, nb::c_contig, nb::device::cpu>;

const Kernels& kernels_named(const std::string& name) {
    for (const Kernels* const* k = available_kernels(); *k != nullptr; ++k) {
        if (name == (*k)->name) return **k;
    }
    throw std::invalid_argument("unknown instruction set " + name);
}

template <typename T>
void get(const nb::dict& d, const char* name, T& to) {
    to = static_cast<T>(nb::cast<int64_t>(d[name]));
}

Geometry read_geometry(const nb::dict& d) {
    Geometry g{};
    get(d, "ic", g.ic), get(d, "h", g.h), get(d, "w", g.w);
    get(d, "oc", g.oc), get(d, "oh", g.oh), get(d, "ow", g.ow);
    get(d, "kernel", g.kernel), get(d, "depthwise", g.depthwise), get(d, "pad_value", g.pad_value);
    get(d, "pool_op", g.pool_op), get(d, "pool_size", g.pool_size), get(d, "pool_stride", g.pool_stride);
    get(d, "pool_column", g.pool_column);
    get(d, "src", g.src), get(d, "src_channel", g.src_channel), get(d, "src_row", g.src_row);
    get(d, "src_group", g.src_group);
    get(d, "dst", g.dst), get(d, "dst_channel", g.dst_channel), get(d, "dst_row", g.dst_row);
    get(d, "dst_group", g.dst_group);
    get(d, "arg_x", g.arg_x), get(d, "arg_w", g.arg_w), get(d, "arg_add", g.arg_add);
    get(d, "shr_x", g.shr_x), get(d, "shr_w", g.shr_w);
    return g;
}

struct BoundLayer {
    Geometry geometry;
    Layer layer;

    static BoundLayer make(const std::string& isa, const nb::dict& geometry, const Weights& w, const Numbers& norm,
                           const Numbers& activation) {
        const Geometry g = read_geometry(geometry);
        if (w.shape(0) != g.oc || w.shape(1) != g.inputs() * g.taps() || norm.shape(0) != 3 || norm.shape(1) != g.oc ||
            activation.shape(0) != 4 || activation.shape(1) != 16) {
            throw std::invalid_argument("parameters do not match the geometry");
        }
        return {g, Layer(kernels_named(isa), g, w.data(), norm.data(), activation.data())};
    }

    void check(const Bytes& ai_ram, const std::optional<Output>& out) const {
        if (ai_ram.shape(0) != (size_t{2} << 20)) throw std::invalid_argument("AI RAM has 2 MiB");
        if (out && (out->shape(0) != geometry.oc || out->shape(1) != geometry.oh || out->shape(2) != geometry.ow)) {
            throw std::invalid_argument("out does not match the geometry");
        }
    }

    void run(const Bytes& ai_ram, size_t threads, const std::optional<Output>& out) const {
        check(ai_ram, out);
        uint8_t* dense = out ? out->data() : nullptr;
        uint8_t* ram = ai_ram.data();
        nb::gil_scoped_release release;
        layer.run(ram, threads, dense);
    }

    // Runs dense maps (n, ic, h, w) one after the other through the AI RAM, to dense results (n, oc, oh, ow).
    void run_pictures(const Bytes& ai_ram, size_t threads, const Pictures& x, const Pictures& out) const {
        const Geometry& g = geometry;
        const auto is = [](const Pictures& a, size_t n, size_t c, size_t h, size_t w) {
            return a.shape(0) == n && a.shape(1) == c && a.shape(2) == h && a.shape(3) == w;
        };
        const size_t n = x.shape(0);
        if (ai_ram.shape(0) != (size_t{2} << 20) || !is(x, n, g.ic, g.h, g.w) || !is(out, n, g.oc, g.oh, g.ow)) {
            throw std::invalid_argument("arrays do not match the geometry");
        }
        const auto end = [](size_t base, size_t channel, size_t group, size_t row, size_t c, size_t h, size_t w) {
            return base + (c - 1) / group * channel + (std::min(c, group) - 1) * (64 / group) + (h - 1) * row + w;
        };
        if (end(g.src, g.src_channel, g.src_group, g.src_row, g.ic, g.h, g.w) > kAiRam ||
            end(g.dst, g.dst_channel, g.dst_group, g.dst_row, g.oc, g.oh, g.ow) > kAiRam) {
            throw std::invalid_argument("a map leaves AI RAM");
        }
        uint8_t* ram = ai_ram.data();
        nb::gil_scoped_release release;
        for (size_t i = 0; i < n; ++i) {
            const uint8_t* from = x.data() + i * g.ic * g.h * g.w;
            for (size_t c = 0; c < g.ic; ++c) {
                uint8_t* to = ram + address(g.src, g.src_channel, g.src_group, c);
                for (size_t y = 0; y < g.h; ++y, from += g.w) memcpy(to + y * g.src_row, from, g.w);
            }
            layer.run(ram, threads, out.data() + i * g.oc * g.oh * g.ow);
        }
    }

    // The same, to run later and often.
    static Operator bind(const nb::object& self, const Bytes& ai_ram, size_t threads, const std::optional<Output>& out) {
        const BoundLayer& b = nb::cast<const BoundLayer&>(self);
        b.check(ai_ram, out);
        uint8_t* dense = out ? out->data() : nullptr;
        uint8_t* ram = ai_ram.data();
        return {[&b, ram, threads, dense] { b.layer.run(ram, threads, dense); },
                {self, nb::cast(ai_ram), out ? nb::cast(*out) : nb::none()}};
    }
};

}  // namespace

NB_MODULE(_native, m) {
    m.doc() = "KPU layers on the CPU's vector units. Use openkpu.kpu.engine.";
    m.def("isas", [] {
        nb::list names;
        for (const Kernels* const* k = available_kernels(); *k != nullptr; ++k) names.append((*k)->name);
        return nb::tuple(names);
    }, "Instruction sets that run here, best first.");
    nb::class_<BoundLayer>(m, "Layer")
        .def(nb::new_(&BoundLayer::make), nb::arg("isa"), nb::arg("geometry"), nb::arg("weights"), nb::arg("norm"),
             nb::arg("activation"))
        .def("run", &BoundLayer::run, nb::arg("ai_ram").noconvert(), nb::arg("threads"),
             nb::arg("out").noconvert().none())
        .def("run_pictures", &BoundLayer::run_pictures, nb::arg("ai_ram").noconvert(), nb::arg("threads"),
             nb::arg("x").noconvert(), nb::arg("out").noconvert())
        .def("bind", &BoundLayer::bind, nb::arg("ai_ram").noconvert(), nb::arg("threads"),
             nb::arg("out").noconvert().none())
        .def_prop_ro("path", [](const BoundLayer& b) { return b.layer.path(); });
    bind_tensor_ops(m);
    bind_quantizing(m);
    add_bound_operators(m);
}
