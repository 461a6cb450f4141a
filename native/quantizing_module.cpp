// The quantisation's part of the Python module openkpu._native: use openkpu.quantize.native. Sizes are checked here.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <stdexcept>

#include "bound_module.hpp"
#include "quantizing.hpp"

namespace nb = nanobind;

namespace openkpu {
namespace {

template <typename T, size_t N>
using Array = nb::ndarray<T, nb::ndim<N>, nb::c_contig, nb::device::cpu>;

void need(bool fits) {
    if (!fits) throw std::invalid_argument("arrays do not match");
}

template <typename T>
Maps maps_of(const Array<const T, 4>& x, const Positions& p) {
    const Maps m{x.shape(0), x.shape(1), x.shape(2), x.shape(3)};
    need(m.n > 0 && m.channels > 0 && (p.kernel == 1 || p.kernel == 3) && p.step > 0 && p.left < m.columns);
    need(m.rows >= p.step && m.columns >= p.step);
    return m;
}

template <typename T>
void bound_tap_means(const Array<const T, 4>& x, size_t kernel, size_t step, size_t left,
                     const Array<const double, 1>& pad, const Array<double, 3>& out) {
    const Positions p{kernel, step, left};
    const Maps m = maps_of(x, p);
    need(pad.shape(0) == m.channels && out.shape(0) == m.channels && out.shape(1) == kernel && out.shape(2) == kernel);
    nb::gil_scoped_release release;
    tap_means(x.data(), m, p, pad.data(), out.data());
}

}  // namespace

void bind_quantizing(nb::module_& parent) {
    nb::module_ m = parent.def_submodule("quantizing", "Loops of the quantisation. Use openkpu.quantize.native.");
    m.def("observe", [](const Array<const float, 1>& x, size_t step, size_t row, const Array<float, 2>& lows,
                        const Array<float, 2>& highs, const Array<float, 2>& samples) {
        const size_t channels = lows.shape(1), size = x.shape(0);
        need(step > 0 && size > 0 && channels > 0 && size % channels == 0 && highs.shape(1) == channels);
        need(row < lows.shape(0) && row < highs.shape(0) && row < samples.shape(0));
        need(samples.shape(1) == (size + step - 1) / step);
        float *const low = lows.data() + row * channels, *const high = highs.data() + row * channels;
        float* const some = samples.data() + row * samples.shape(1);
        nb::gil_scoped_release release;
        return observe(x.data(), channels, size / channels, step, low, high, some);
    });
    m.def("tap_means_u8", bound_tap_means<uint8_t>);
    m.def("tap_means_f32", bound_tap_means<float>);
    m.def("window_count", [](const Array<const uint8_t, 4>& x, size_t kernel, size_t step, size_t left, size_t thin) {
        const Positions p{kernel, step, left};
        need(thin > 0);
        return window_count(maps_of(x, p), p, thin);
    });
    m.def("windows", [](const Array<const uint8_t, 4>& x, size_t kernel, size_t step, size_t left, size_t thin,
                        uint8_t pad, const Array<float, 3>& out) {
        const Positions p{kernel, step, left};
        const Maps maps = maps_of(x, p);
        need(thin > 0 && out.shape(0) == maps.channels && out.shape(1) == kernel * kernel);
        need(out.shape(2) == maps.n * window_count(maps, p, thin));
        nb::gil_scoped_release release;
        windows(x.data(), maps, p, thin, pad, out.data());
    });
    m.def("weight_scales", [](const Array<const float, 2>& w, const Array<const double, 1>& shrink, size_t few,
                              const Array<double, 1>& out) {
        need(w.shape(0) > 0 && w.shape(1) > 0 && out.shape(0) == w.shape(0) && few <= 8);
        nb::gil_scoped_release release;
        weight_scales(w.data(), w.shape(0), w.shape(1), shrink.data(), shrink.shape(0), few, out.data());
    });
    m.def("weigh", [](const Array<const int16_t, 2>& w, const Array<const double, 1>& means, bool apart,
                      const Array<double, 1>& product, const Array<int64_t, 1>& up, const Array<int64_t, 1>& down) {
        const size_t rows = w.shape(0), n = w.shape(1);
        need(means.shape(0) == (apart ? rows * n : n));
        need(product.shape(0) == rows && up.shape(0) == rows && down.shape(0) == rows);
        nb::gil_scoped_release release;
        weigh(w.data(), rows, n, means.data(), apart, product.data(), up.data(), down.data());
    });
    m.def("feedback", [](const Array<const float, 3>& w, const Array<const float, 3>& factor, const Array<float, 3>& aim,
                         const Array<int16_t, 3>& out, const Array<float, 3>& errors, size_t first, size_t last) {
        const size_t batch = w.shape(0), rows = w.shape(1), d = w.shape(2);
        need(first < last && last <= d && factor.shape(0) == batch && factor.shape(1) == d && factor.shape(2) == d);
        need(errors.shape(0) == batch && errors.shape(1) == rows && errors.shape(2) == last - first);
        for (size_t i = 0; i < 3; ++i) need(aim.shape(i) == w.shape(i) && out.shape(i) == w.shape(i));
        nb::gil_scoped_release release;
        feedback({batch, rows, d, first, last, w.data(), factor.data(), aim.data(), out.data(), errors.data()});
    });
    m.def("fit_segments", [](const Array<const double, 1>& x, const Array<const double, 1>& target,
                             const Array<const double, 1>& weight) {
        const size_t n = x.shape(0);
        need(n > 0 && n <= 4096 && target.shape(0) == n && weight.shape(0) == n);
        CurveSegment segments[16];
        const size_t count = fit_segments(x.data(), target.data(), weight.data(), n, segments);
        nb::list result;
        for (size_t i = 0; i < count; ++i) {
            result.append(nb::make_tuple(segments[i].start, segments[i].slope, segments[i].bias));
        }
        return result;
    });
    m.def("largest", [](const Array<const float, 1>& x, const Array<float, 1>& out) {
        need(out.shape(0) <= x.shape(0));
        nb::gil_scoped_release release;
        largest(x.data(), x.shape(0), out.data(), out.shape(0));
    });
    m.def("histogram", [](const Array<const float, 1>& x, double low, double high, const Array<double, 1>& counts) {
        need(high > low && counts.shape(0) > 0);
        nb::gil_scoped_release release;
        histogram(x.data(), x.shape(0), low, high, counts.data(), counts.shape(0));
    });
    m.def("batch_norm", [](const Array<const double, 1>& weight_scale, const Array<const double, 1>& out_scale,
                           const Array<const double, 1>& bias, const Array<const int64_t, 1>& up,
                           const Array<const int64_t, 1>& down, double units, int64_t zero_point, int mul_bits,
                           int most_shift, const Array<int64_t, 2>& out) {
        const size_t n = weight_scale.shape(0);
        need(out_scale.shape(0) == n && bias.shape(0) == n && up.shape(0) == n && down.shape(0) == n);
        need(out.shape(0) == 3 && out.shape(1) == n && mul_bits > 1 && mul_bits < 32 && most_shift >= 0 && most_shift < 32);
        int64_t* const to = out.data();
        const BatchNormSizes sizes = batch_norm(
            {n, weight_scale.data(), out_scale.data(), bias.data(), up.data(), down.data(), units, zero_point,
             int64_t{1} << (mul_bits - 1), mul_bits, most_shift}, to, to + n, to + 2 * n);
        return nb::make_tuple(sizes.gain, sizes.add, sizes.sum, sizes.normed);
    });
    m.def("clipping_cost", [](bool entropy, const Array<const double, 1>& counts, const Array<const double, 1>& centers,
                              double low, double high) {
        need(counts.shape(0) > 0 && centers.shape(0) == counts.shape(0));
        nb::gil_scoped_release release;
        const auto cost = entropy ? divergence : squared_error;
        return cost(counts.data(), centers.data(), counts.shape(0), low, high);
    });
}

}  // namespace openkpu
