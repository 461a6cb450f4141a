"""Every Caffe layer: the imported graph computes what the layer's definition says."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tflite_reference as ref
from caffe_builder import blob, declared, layer, message, pair, weights

from openkpu.errors import OpenKPUError, UnsupportedError
from openkpu.float.session import FloatSession
from openkpu.graph.ir import Graph
from openkpu.importers.load import load

RNG = np.random.default_rng(4)
X = RNG.standard_normal((1, 4, 7, 6)).astype(np.float32)
Y = RNG.standard_normal(X.shape).astype(np.float32)


def f32(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def run(path: Path, **load_args: Any) -> tuple[Graph, dict[str, np.ndarray]]:
    graph = load(path, **load_args)
    return graph, FloatSession(graph).run({t.name: {"x": X, "z": Y}[t.name] for t in graph.inputs})


def agrees(tmp_path: Path, text: str, wanted: np.ndarray, layers: Mapping[str, Sequence[Any]] | bytes = b"") -> Graph:
    graph, got = run(pair(tmp_path, declared(*X.shape) + text, layers), outputs=["y"])
    assert list(got) == ["y"]
    assert got["y"].shape == wanted.shape
    np.testing.assert_allclose(got["y"], wanted, rtol=1e-4, atol=1e-5)
    return graph


def convolved(x: np.ndarray, w: np.ndarray, stride: tuple[int, int], pad: tuple[int, int], dilation: int = 1):
    """NCHW, weights (O, I, kh, kw)."""
    padded = np.pad(x, ((0, 0), (0, 0), (pad[0],) * 2, (pad[1],) * 2)).transpose(0, 2, 3, 1)
    y = ref.conv(padded, w.transpose(0, 2, 3, 1), 1, dilation, same=False)
    return y[:, :: stride[0], :: stride[1]].transpose(0, 3, 1, 2)


@pytest.mark.parametrize(("fields", "kernel", "stride", "pad", "dilation"), [
    ("kernel_size: 3", (3, 3), (1, 1), (0, 0), 1),
    ("kernel_size: 3 stride: 2 pad: 1", (3, 3), (2, 2), (1, 1), 1),
    ("kernel_h: 3 kernel_w: 1 stride_h: 2 stride_w: 1 pad_h: 1 pad_w: 0", (3, 1), (2, 1), (1, 0), 1),
    ("kernel_size: 3 kernel_size: 2 stride: 1 stride: 2 pad: 2 pad: 1", (3, 2), (1, 2), (2, 1), 1),
    ("kernel_size: 3 pad: 2 dilation: 2", (3, 3), (1, 1), (2, 2), 2),
])  # fmt: skip
def test_convolution(tmp_path: Path, fields: str, kernel: tuple[int, int], stride: tuple[int, int],
                     pad: tuple[int, int], dilation: int) -> None:  # fmt: skip
    w, b = f32(5, 4, *kernel), f32(5)
    text = layer("Convolution", f"convolution_param {{ num_output: 5 {fields} }}")
    wanted = convolved(X, w, stride, pad, dilation) + b.reshape(5, 1, 1)
    agrees(tmp_path, text, wanted, {"l": [w, b]})


@pytest.mark.parametrize("kind", ["Convolution", "DepthwiseConvolution", "ConvolutionDepthwise"])
def test_groups(tmp_path: Path, kind: str) -> None:
    w = f32(4, 1, 3, 3)
    group = "group: 4" if kind == "Convolution" else ""
    text = layer(kind, f"convolution_param {{ num_output: 4 kernel_size: 3 pad: 1 bias_term: false {group} }}")
    wanted = np.concatenate([convolved(X[:, c : c + 1], w[c : c + 1], (1, 1), (1, 1)) for c in range(4)], 1)
    assert agrees(tmp_path, text, wanted, {"l": [w]}).nodes[0].attrs["group"] == 4


def test_deconvolution(tmp_path: Path) -> None:
    w, b = f32(4, 3, 4, 4), f32(3)
    whole = ref.transpose_conv(X.transpose(0, 2, 3, 1), w.transpose(1, 2, 3, 0), (16, 14), 2, same=False)
    wanted = whole[:, 1:-1, 1:-1].transpose(0, 3, 1, 2) + b.reshape(3, 1, 1)
    text = layer("Deconvolution", "convolution_param { num_output: 3 kernel_size: 4 stride: 2 pad: 1 }")
    agrees(tmp_path, text, wanted, {"l": [w, b]})


@pytest.mark.parametrize(("size", "stride", "pad", "mode"), [
    (2, 2, 0, ""), (3, 2, 0, ""), (3, 2, 1, ""), (3, 1, 1, ""), (2, 2, 0, "round_mode: FLOOR"),
    (3, 2, 0, "ceil_mode: false"),
])  # fmt: skip
def test_pooling_rounds_up(tmp_path: Path, size: int, stride: int, pad: int, mode: str) -> None:
    """Written from Caffe's own loops: padding counts in an average, what lies beyond it does not."""

    def pooled(average: bool) -> np.ndarray:
        sizes = []
        for n in X.shape[2:]:
            steps = (n + 2 * pad - size) / stride
            out = int(np.floor(steps) if mode else np.ceil(steps)) + 1
            sizes.append(out - 1 if pad and (out - 1) * stride >= n + pad else out)
        y = np.zeros((1, 4, *sizes))
        for i in range(sizes[0]):
            for j in range(sizes[1]):
                top, left = i * stride - pad, j * stride - pad
                bottom, right = min(top + size, 7 + pad), min(left + size, 6 + pad)
                area = (bottom - top) * (right - left)
                part = X[0, :, max(top, 0) : min(bottom, 7), max(left, 0) : min(right, 6)].reshape(4, -1)
                y[0, :, i, j] = part.sum(1) / area if average else part.max(1)
        return y

    for kind in ("MAX", "AVE"):
        text = layer(
            "Pooling", f"pooling_param {{ pool: {kind} kernel_size: {size} stride: {stride} pad: {pad} {mode} }}"
        )
        agrees(tmp_path, text, pooled(kind == "AVE"))


def test_global_pooling(tmp_path: Path) -> None:
    agrees(
        tmp_path, layer("Pooling", "pooling_param { pool: AVE global_pooling: true }"), X.mean((2, 3), keepdims=True)
    )
    agrees(tmp_path, layer("Pooling", "pooling_param { global_pooling: true }"), X.max((2, 3), keepdims=True))


def test_inner_product(tmp_path: Path) -> None:
    w, b = f32(5, 168), f32(5)
    text = layer("InnerProduct", "inner_product_param { num_output: 5 }")
    agrees(tmp_path, text, X.reshape(1, -1) @ w.T + b, {"l": [w, b]})
    agrees(tmp_path, text, X.reshape(1, -1) @ w.T + b, weights({"l": [w, b]}, old=True))
    turned = layer("InnerProduct", "inner_product_param { num_output: 5 transpose: true bias_term: false }")
    agrees(tmp_path, turned, X.reshape(1, -1) @ w.T, {"l": [np.ascontiguousarray(w.T)]})


@pytest.mark.parametrize("factor", [999.98, 1.0, 0.0])
def test_batch_norm_and_scale(tmp_path: Path, factor: float) -> None:
    """Means and variances are stored times a factor; a factor of 0 means zeros."""
    mean, variance, gamma, beta = f32(4), np.abs(f32(4)) + 0.5, f32(4), f32(4)
    text = layer("BatchNorm", "batch_norm_param { eps: 0.001 }", name="bn", top="x")
    text += layer("Scale", "scale_param { bias_term: true }", name="s")
    held = {"bn": [mean * factor, variance * factor, np.array([factor])], "s": [gamma, beta]}
    if factor == 0:
        mean, variance = mean * 0, variance * 0
    c = (4, 1, 1)
    wanted = (X - mean.reshape(c)) / np.sqrt(variance.reshape(c) + 1e-3) * gamma.reshape(c) + beta.reshape(c)
    agrees(tmp_path, text, wanted, held)


def test_factors_of_a_second_bottom(tmp_path: Path) -> None:
    """As in a squeeze-and-excite block."""
    text = layer("Pooling", "pooling_param { pool: AVE global_pooling: true }", name="p", top="m")
    mean = X.mean((2, 3), keepdims=True)
    agrees(tmp_path, text + layer("Scale", "scale_param { axis: 0 }", bottom="x m"), X * mean)
    text += layer("Reshape", "reshape_param { shape { dim: 0 dim: -1 } }", name="r", bottom="m", top="v")
    agrees(tmp_path, text + layer("Scale", "scale_param { axis: 0 }", bottom="x v"), X * mean)
    agrees(tmp_path, text + layer("Bias", "bias_param { axis: 0 }", bottom="x v"), X + mean)
    agrees(tmp_path, text + layer("Axpy", bottom="m x x"), X * mean + X)


def near(v: np.ndarray) -> np.ndarray:
    """Each channel with its neighbours added."""
    wide = np.pad(v, ((0, 0), (1, 1), (0, 0), (0, 0)))
    return wide[:, :-2] + wide[:, 1:-1] + wide[:, 2:]


FUNCTIONS: list[tuple[str, str, Callable[[np.ndarray], np.ndarray]]] = [
    ("ReLU", "", lambda v: np.maximum(v, 0)),
    ("ReLU", "relu_param { negative_slope: 0.1 }", lambda v: np.where(v > 0, v, v * 0.1)),
    ("ReLU6", "", lambda v: np.clip(v, 0, 6)),
    ("Clip", "clip_param { min: -0.5 max: 0.25 }", lambda v: np.clip(v, -0.5, 0.25)),
    ("Sigmoid", "", lambda v: 1 / (1 + np.exp(-v))),
    ("TanH", "", np.tanh),
    ("AbsVal", "", np.abs),
    ("BNLL", "", lambda v: np.log1p(np.exp(v))),
    ("ELU", "elu_param { alpha: 0.5 }", lambda v: np.where(v > 0, v, 0.5 * np.expm1(v))),
    ("Power", "power_param { power: 2 scale: 3 shift: 1 }", lambda v: (1 + 3 * v) ** 2),
    ("Power", "power_param { scale: 0.5 }", lambda v: v * 0.5),
    ("Exp", "exp_param { base: 2 scale: 0.5 shift: 1 }", lambda v: 2 ** (1 + 0.5 * v)),
    ("Log", "log_param { base: 10 scale: 0.1 shift: 9 }", lambda v: np.log10(9 + 0.1 * v)),
    ("Softmax", "", lambda v: np.exp(v) / np.exp(v).sum(1, keepdims=True)),
    ("Softmax", "softmax_param { axis: -1 }", lambda v: np.exp(v) / np.exp(v).sum(3, keepdims=True)),
    ("Dropout", "dropout_param { dropout_ratio: 0.4 }", lambda v: v),
    ("Flatten", "", lambda v: v.reshape(1, 168)),
    ("Flatten", "flatten_param { axis: 2 end_axis: 3 }", lambda v: v.reshape(1, 4, 42)),
    ("Reshape", "reshape_param { shape { dim: 0 dim: -1 dim: 6 } }", lambda v: v.reshape(1, 28, 6)),
    ("Reshape", "reshape_param { shape { dim: 42 } axis: 2 }", lambda v: v.reshape(1, 4, 42)),
    ("Reshape", "reshape_param { shape { dim: 1 } axis: -1 num_axes: 0 }", lambda v: v.reshape(*X.shape, 1)),
    ("Permute", "permute_param { order: 0 order: 2 order: 3 order: 1 }", lambda v: v.transpose(0, 2, 3, 1)),
    ("Upsample", "upsample_param { scale: 2 }", lambda v: v.repeat(2, 2).repeat(2, 3)),
    ("ShuffleChannel", "shuffle_channel_param { group: 2 }", lambda v: v[:, [0, 2, 1, 3]]),
    ("Tile", "tile_param { axis: 1 tiles: 3 }", lambda v: np.tile(v, (1, 3, 1, 1))),
    ("Reduction", "reduction_param { operation: MEAN axis: 1 coeff: 2 }", lambda v: 2 * v.mean((1, 2, 3))),
    ("ArgMax", "argmax_param { axis: 1 }", lambda v: v.argmax(1)[:, None]),
    ("LRN", "lrn_param { local_size: 3 alpha: 0.6 beta: 0.5 k: 2 }", lambda v: v * (2 + 0.2 * near(v**2)) ** -0.5),
    ("Interp", "interp_param { height: 13 width: 11 }", lambda v: ref.resize(
        v.transpose(0, 2, 3, 1), (13, 11), linear=True, align=True, half=False).transpose(0, 3, 1, 2)),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "body", "function"), FUNCTIONS)
def test_one_input(tmp_path: Path, kind: str, body: str, function: Callable[[np.ndarray], np.ndarray]) -> None:
    text = layer("AbsVal", name="first", top="a") if kind == "Dropout" else ""
    wanted = function(np.abs(X) if text else X)
    agrees(tmp_path, text + layer(kind, body, bottom="a" if text else "x"), wanted)


def test_prelu_and_normalize(tmp_path: Path) -> None:
    slope = f32(4)
    agrees(tmp_path, layer("PReLU"), np.where(X > 0, X, X * slope.reshape(4, 1, 1)), {"l": [slope]})
    shared = layer("PReLU", "prelu_param { channel_shared: true }")
    agrees(tmp_path, shared, np.where(X > 0, X, X * 0.25), {"l": [np.array([0.25])]})
    text = layer("Normalize", "norm_param { across_spatial: false channel_shared: false }")
    norm = X / np.sqrt((X**2).sum(1, keepdims=True)) * slope.reshape(4, 1, 1)
    agrees(tmp_path, text, norm, {"l": [slope]})


@pytest.mark.parametrize(("body", "wanted"), [
    ("", X + Y), ("operation: SUM coeff: 1 coeff: -1", X - Y), ("operation: SUM coeff: 0.5 coeff: 2", X / 2 + Y * 2),
    ("operation: PROD", X * Y), ("operation: MAX", np.maximum(X, Y)),
])  # fmt: skip
def test_eltwise(tmp_path: Path, body: str, wanted: np.ndarray) -> None:
    text = (
        declared(*X.shape)
        + declared(*Y.shape, name="z")
        + layer("Eltwise", f"eltwise_param {{ {body} }}", bottom="x z")
    )
    _, got = run(pair(tmp_path, text, b""))
    np.testing.assert_allclose(got["y"], wanted, rtol=1e-5, atol=1e-6)


def test_concat_slice_and_crop(tmp_path: Path) -> None:
    text = layer("Slice", "slice_param { slice_point: 1 slice_point: 2 }", name="s", top="a b c")
    agrees(tmp_path, text + layer("Concat", bottom="c a b"), X[:, [2, 3, 0, 1]])
    text = layer("Slice", "slice_param { axis: 2 slice_point: 4 }", name="s", top="a b")
    agrees(tmp_path, text + layer("Crop", "crop_param { axis: 2 offset: 1 offset: 0 }", bottom="x b"), X[:, :, 1:4])


def test_layers_in_place_and_shared_names(tmp_path: Path) -> None:
    """Layers that write over their bottom keep their order; every blob can be an end."""
    text = layer("Power", "power_param { shift: 1 }", name="a", top="m")
    text += layer("ReLU", name="b", bottom="m", top="m") + layer("Power", "power_param { scale: 2 }", bottom="m")
    agrees(tmp_path, text, np.maximum(X + 1, 0) * 2)
    graph, got = run(tmp_path / "net.prototxt", outputs=["m"])
    np.testing.assert_allclose(got["m"], np.maximum(X + 1, 0), rtol=1e-6)
    assert [n.source for n in graph.nodes] == [("a",), ("b",)]
    with pytest.raises(UnsupportedError, match="similar names") as caught:
        load(tmp_path / "net.prototxt", outputs=["mm"])
    assert caught.value.code == "E269"


def test_layers_for_training_go(tmp_path: Path) -> None:
    text = layer("Data", "transform_param { crop_size: 8 } include { phase: TRAIN }", bottom="", top="x label")
    text += layer(
        "Input", "input_param { shape { dim: 16 dim: 4 dim: 7 dim: 6 } } include { phase: TEST }", bottom="", top="x"
    )
    text += layer("ReLU", name="r", top="y")
    text += layer("Accuracy", bottom="y label", name="acc", top="accuracy")
    text += layer("SoftmaxWithLoss", bottom="y label", name="loss", top="loss")
    graph, got = run(pair(tmp_path, text, b""))
    assert [t.name for t in graph.outputs] == ["y"]
    np.testing.assert_array_equal(got["y"], np.maximum(X, 0))


def test_the_old_format(tmp_path: Path) -> None:
    """``layers`` with names in capitals, in text and in the caffemodel (types by number, blobs with four sizes)."""
    w, b = f32(5, 4, 3, 3), f32(5)
    text = 'input: "x" input_dim: 1 input_dim: 4 input_dim: 7 input_dim: 6 '
    text += (
        'layers { name: "c" type: CONVOLUTION bottom: "x" top: "y" convolution_param { num_output: 5 kernel_size: 3 } }'
    )
    text += 'layers { name: "r" type: RELU bottom: "y" top: "y" }'
    blobs = [(6, blob(w, old=True)), (6, blob(b, old=True))]
    body = [(2, "x"), (3, "y"), (4, "c"), (5, 4), *blobs, (10, message([(1, 5), (4, 3)]))]
    net = [(1, "net"), (3, "x"), *((4, d) for d in (1, 4, 7, 6)), (2, message(body)),
           (2, message([(2, "y"), (3, "y"), (4, "r"), (5, 18)]))]  # fmt: skip
    wanted = np.maximum(convolved(X, w, (1, 1), (0, 0)) + b.reshape(5, 1, 1), 0)
    _, got = run(pair(tmp_path, text, message(net)))
    np.testing.assert_allclose(got["y"], wanted, rtol=1e-4, atol=1e-5)
    (tmp_path / "net.prototxt").unlink()
    _, alone = run(tmp_path / "net.caffemodel")
    np.testing.assert_array_equal(alone["y"], got["y"])


def test_a_caffemodel_alone(tmp_path: Path) -> None:
    """It holds the layers; the size of the input comes from it or from the caller, and bytes do as well as a path."""
    w = f32(5, 4, 3, 3)
    conv = message([(1, 5), (2, 0), (6, 2), (9, 1), (10, 1), (11, 3), (12, 3)])
    body = message([(1, "c"), (2, "Convolution"), (3, "x"), (4, "y"), (7, blob(w, single=True)), (106, conv)])
    data = message([(1, "net"), (3, "x"), (100, body)])
    path = tmp_path / "only.caffemodel"
    path.write_bytes(data)
    wanted = convolved(X, w, (2, 2), (1, 1))
    for source in (path, data):
        with pytest.raises(UnsupportedError, match="input_shapes=") as caught:
            load(source)
        assert caught.value.code == "E260"
        _, got = run(source, input_shapes={"x": X.shape})
        np.testing.assert_allclose(got["y"], wanted, rtol=1e-4, atol=1e-5)


def test_which_files_belong_together(tmp_path: Path) -> None:
    path = pair(tmp_path, declared(*X.shape) + layer("ReLU"), b"")
    assert load(tmp_path / "net.caffemodel").outputs[0].name == "y"
    other = tmp_path / "net.deploy.prototxt"
    other.write_text(path.read_text().replace('"y"', '"z"'))
    assert load(other).outputs[0].name == "z"
    (tmp_path / "net.caffemodel").unlink()
    with pytest.raises(OpenKPUError, match=r"net\.caffemodel") as caught:
        load(path)
    assert caught.value.code == "E172"


@pytest.mark.parametrize(("text", "code", "word"), [
    (layer("Warp"), "E291", "Warp"),
    (layer("ReLU", bottom="nothing"), "E173", "nothing"),
    (layer("Convolution", "convolution_param { num_output: 5 kernel_size: 3 }"), "E174", "missing"),
    (layer("ReLU", "relu_param { negative_slope: high }"), "E171", "negative_slope"),
    (layer("Pooling", "pooling_param { pool: STOCHASTIC kernel_size: 2 }"), "E291", "STOCHASTIC"),
    (layer("BatchNorm", "batch_norm_param { use_global_stats: false }"), "E291", "batch"),
    ("layer { name: 3 ", "E170", "line 2"),
    ("layer { name: \"a\" ]", "E170", "line 2"),
    ("layer { name \"a\" }", "E170", "line 2"),
])  # fmt: skip
def test_errors_say_where(tmp_path: Path, text: str, code: str, word: str) -> None:
    with pytest.raises(OpenKPUError) as caught:
        load(pair(tmp_path, declared(*X.shape) + text, b""))
    assert caught.value.code == code
    assert word in str(caught.value)
    assert caught.value.where


def test_weights_that_do_not_fit(tmp_path: Path) -> None:
    text = declared(*X.shape) + layer("Convolution", "convolution_param { num_output: 5 kernel_size: 3 }")
    for blobs in (
        [f32(5, 4, 3, 2), f32(5)],
        [f32(6, 4, 3, 3), f32(6)],
        [f32(5, 4, 3, 3), f32(4)],
        [f32(5, 3, 3, 3), f32(5)],
    ):
        with pytest.raises(OpenKPUError) as caught:
            load(pair(tmp_path, text, {"l": blobs}))
        assert caught.value.code in ("E174", "E160")
        assert "'l'" in caught.value.where
