"""ONNX models that came quantised: their own numbers are taken, and the chip gives what onnxruntime gives of them."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from graph_builders import Builder
from onnx import helper
from onnx_zoo import build, run
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

import openkpu
from openkpu.compiler import compile
from openkpu.errors import InputError, OpenKPUError, UnsupportedError
from openkpu.float.export import to_onnx
from openkpu.importers.onnx import load
from openkpu.kmodel.program import KpuConv

RNG = np.random.default_rng(3)
PIXELS = [RNG.integers(0, 256, (3, 16, 16), np.uint8) for _ in range(6)]
PICTURES = [(p.astype(np.float32) / 255)[None] for p in PIXELS]


class Reader(CalibrationDataReader):
    def __init__(self):
        self.rows = iter([{"x": x} for x in PICTURES])

    def get_next(self):
        return next(self.rows, None)


def network():
    b = Builder(1, 3, 16, 16)
    t = b.relu(b.conv(b.x, 8, 3, stride=(2, 2)))
    u = b.conv(b.relu6(b.depthwise(b.relu6(b.conv(t, 16, 1)), 3)), 8, 1)
    t = b.max_pool(b.add(t, u))
    t = b.concat(b.relu(b.conv(t, 8, 3)), b.relu(b.conv(t, 8, 1)))
    return to_onnx(b.graph(b.gemm(b.flatten(b.gap(t)), 5)))


def db(reference, got):
    reference, got = (np.asarray(v, np.float64).ravel() for v in (reference, got))
    return 10 * np.log10((reference**2).sum() / max(((reference - got) ** 2).sum(), 1e-30))


@pytest.mark.parametrize("form", [QuantFormat.QDQ, QuantFormat.QOperator])
@pytest.mark.parametrize(
    ("activations", "weights", "per_channel"),
    [
        (QuantType.QUInt8, QuantType.QInt8, True),
        (QuantType.QInt8, QuantType.QInt8, True),
        (QuantType.QUInt8, QuantType.QUInt8, False),
    ],
)
def test_models_of_onnxruntimes_quantiser(form, activations, weights, per_channel, tmp_path: Path):
    source, target = tmp_path / "float.onnx", tmp_path / "quantised.onnx"
    onnx.save(network(), source)
    how = {"activation_type": activations, "weight_type": weights, "per_channel": per_channel}
    quantize_static(str(source), str(target), Reader(), quant_format=form, **how)
    options = ort.SessionOptions()
    options.log_severity_level = 4
    theirs = ort.InferenceSession(str(target), options, providers=["CPUExecutionProvider"])
    want = [theirs.run(None, {"x": x})[0] for x in PICTURES]
    c = compile(target)  # no pictures
    assert c.report.calibration_pictures == 0
    model = openkpu.load(c.model.to_bytes())
    got = [model.run(p, check=True)[0] for p in PIXELS]
    assert not model.findings
    assert db(want, got) > 28


def test_weights_stay_the_integers_of_the_file():
    q = RNG.integers(-127, 128, (8, 3, 3, 3)).astype(np.int8)
    ws, bias = RNG.uniform(0.001, 0.01, 8).astype(np.float32), RNG.integers(-900, 900, 8).astype(np.int32)
    sx, zx, sy, zy = np.float32(1 / 255), np.uint8(0), np.float32(0.03), np.uint8(120)
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "sx", "zx"], ["xq"]),
        helper.make_node("DequantizeLinear", ["xq", "sx", "zx"], ["xr"]),
        helper.make_node("DequantizeLinear", ["q", "ws", "wz"], ["w"], axis=0),
        helper.make_node("DequantizeLinear", ["bias", "bs", "bz"], ["b"], axis=0),
        helper.make_node("Conv", ["xr", "w", "b"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("QuantizeLinear", ["c", "sy", "zy"], ["yq"]),
        helper.make_node("DequantizeLinear", ["yq", "sy", "zy"], ["y"]),
    ]
    constants = {
        "q": q, "ws": ws, "wz": np.zeros(8, np.int8), "bias": bias, "bs": ws * sx, "bz": np.zeros(8, np.int32),
        "sx": sx, "zx": zx, "sy": sy, "zy": zy,
    }  # fmt: skip
    model = build(nodes, {"x": (1, 3, 16, 16)}, constants)
    c = compile(model.SerializeToString())
    (layer,) = (s.layer for s in c.model.steps if isinstance(s, KpuConv))
    stored = layer.weights.astype(np.int64) + layer.registers.arg_x
    np.testing.assert_array_equal(stored, q.astype(np.int64).transpose(0, 3, 1, 2) if stored.shape != q.shape else q)
    for pixels, picture in zip(PIXELS, PICTURES, strict=True):
        (want,) = run(model, {"x": picture})
        got = c.model.run(pixels)[0].reshape(want.shape)
        difference = np.abs(got - want) / sy
        assert difference.max() <= 1.01
        assert np.mean(difference < 0.01) > 0.97


@pytest.mark.parametrize(("zero", "clip"), [(0, True), (255, True), (10, False)])
def test_a_relu_that_the_range_stands_for(zero, clip):
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("QuantizeLinear", ["c", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"]),
    ]
    w = RNG.normal(size=(4, 3, 1, 1)).astype(np.float32)
    constants = {"w": w, "s": np.float32(0.02), "z": np.uint8(zero)}
    graph = load(build(nodes, {"x": (1, 3, 16, 16)}, constants).SerializeToString())
    assert [n.op for n in graph.nodes] == (["Conv", "Clip"] if clip else ["Conv"])
    assert graph.scales["y"].zero_point == zero


def test_fake_quantised_weights_and_an_integer_input():
    """PyTorch writes weights as floats with both operators behind; some exporters give pixels as they are."""
    nodes = [
        helper.make_node("DequantizeLinear", ["x", "sx", "zx"], ["xr"]),
        helper.make_node("QuantizeLinear", ["w", "ws", "wz"], ["wq"], axis=0),
        helper.make_node("DequantizeLinear", ["wq", "ws", "wz"], ["wr"], axis=0),
        helper.make_node("Conv", ["xr", "wr"], ["c"]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("QuantizeLinear", ["r", "sy", "zy"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "sy", "zy"], ["y"]),
    ]
    constants = {
        "w": RNG.normal(size=(4, 3, 1, 1)).astype(np.float32), "ws": np.full(4, 0.02, np.float32),
        "wz": np.zeros(4, np.int8), "sx": np.float32(1 / 128), "zx": np.uint8(128), "sy": np.float32(0.02),
        "zy": np.uint8(0),
    }  # fmt: skip
    model = build(nodes, {"x": (1, 3, 16, 16)}, constants, elem=onnx.TensorProto.UINT8)
    c = compile(model.SerializeToString())
    assert c.input_params.zero_point == 128
    (want,) = run(model, {"x": PIXELS[0][None]})
    got = c.model.run(PIXELS[0])[0].reshape(want.shape)
    assert np.abs(got - want).max() <= 0.0201


def test_16_bits_are_left_to_calibration():
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("QuantizeLinear", ["c", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"]),
    ]
    constants = {"w": RNG.normal(size=(4, 3, 1, 1)).astype(np.float32), "s": np.float32(1e-4), "z": np.uint16(30000)}
    data = build(nodes, {"x": (1, 3, 16, 16)}, constants, opset=21).SerializeToString()
    assert load(data).scales == {}
    with pytest.raises(InputError, match="E410"):
        compile(data)


def test_damaged_numbers_are_one_error():
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"]),
    ]
    for s, z in (
        (np.float32(0), np.uint8(0)),
        (np.float32("nan"), np.uint8(0)),
        (np.zeros(3, np.float32), np.uint8(0)),
    ):
        graph = load(build(nodes, {"x": (1, 3, 16, 16)}, {"s": s, "z": z}).SerializeToString())
        assert graph.scales == {}
    computed = build([helper.make_node("QuantizeLinear", ["x", "x"], ["y"])], {"x": (1, 3, 16, 16)})
    with pytest.raises(OpenKPUError) as caught:
        load(computed.SerializeToString())
    assert caught.value.code == "E267"
    assert isinstance(caught.value, UnsupportedError)


@pytest.mark.parametrize("target", ["v3", "v4", "v5"])
@pytest.mark.parametrize(("channels", "whole"), [(8, True), (8, False), (6, True)])
def test_borders_of_concatenated_maps_with_zero_points_of_their_own(channels, whole, target):
    """The KPU pads all channels with one byte; parts that others read as well are brought to the same zero point."""
    rng = np.random.default_rng(5)
    nodes, constants = [], {}

    def pair(x, name, scale, zero):
        constants.update({f"{name}.s": np.float32(scale), f"{name}.z": np.uint8(zero)})
        how = [f"{name}.s", f"{name}.z"]
        nodes.append(helper.make_node("QuantizeLinear", [x, *how], [f"{name}.q"]))
        nodes.append(helper.make_node("DequantizeLinear", [f"{name}.q", *how], [name]))
        return name

    def conv(x, name, shape):
        q, scale = rng.integers(-127, 128, shape).astype(np.int8), np.full(shape[0], 0.004, np.float32)
        constants.update({f"{name}.w": q, f"{name}.ws": scale, f"{name}.wz": np.zeros(shape[0], np.int8)})
        nodes.append(
            helper.make_node("DequantizeLinear", [f"{name}.w", f"{name}.ws", f"{name}.wz"], [f"{name}.r"], axis=0)
        )
        nodes.append(helper.make_node("Conv", [x, f"{name}.r"], [name], pads=[shape[2] // 2] * 4))
        return name

    x = pair("x", "a", 1 / 255, 0)
    left = pair(conv(x, "c", (channels, 3, 3, 3)), "d", 0.02, 120)
    right = pair(conv(x, "e", (channels, 3, 1, 1)), "f", 0.013, 90)
    nodes.append(helper.make_node("Concat", [left, right], ["g"], axis=1))
    both = pair("g", "h", 0.031, 110) if whole else "g"
    pair(conv(both, "i", (4, 2 * channels, 3, 3)), "y", 0.05, 128)
    nodes.append(helper.make_node("GlobalAveragePool", [left], ["m"]))
    nodes.append(helper.make_node("GlobalAveragePool", [right], ["n"]))
    model = build(nodes, {"x": (1, 3, 16, 16)}, constants, outputs=["y", "m", "n"])
    c = compile(model.SerializeToString(), target=target)
    loaded = openkpu.load(c.model.to_bytes())
    want = [run(model, {"x": p})[0] for p in PICTURES]
    assert db(want, [loaded.run(p, check=True)[0] for p in PIXELS]) > (60 if whole else 35)
    assert not loaded.findings
