"""Every TensorFlow Lite operator: the imported graph computes what the operator's definition says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import tflite_reference as ref
from tflite_builder import Model, conv, depthwise, pool

from openkpu.errors import UnsupportedError
from openkpu.float.session import FloatSession
from openkpu.graph.ir import Graph
from openkpu.importers.load import load
from openkpu.passes import canonicalize

RNG = np.random.default_rng(3)
X = RNG.standard_normal((1, 7, 6, 4)).astype(np.float32)


def f32(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def run(m: Model, x: np.ndarray, *outputs: int, **load_args: Any) -> tuple[Graph, list[np.ndarray]]:
    """Import and run; outputs that are pictures come back in the file's order."""
    graph = load(m.bytes(*outputs), **load_args)
    feed = x.transpose(0, 3, 1, 2) if x.ndim == 4 and graph.inputs[0].shape != x.shape else x
    got = FloatSession(graph).run({"x": feed})
    return graph, [got[t.name] for t in graph.outputs]


def agrees(m: Model, x: np.ndarray, wanted: np.ndarray, *, planar: bool | None = None) -> Graph:
    graph, (got,) = run(m, x)
    if planar if planar is not None else wanted.ndim == 4:
        got = got.transpose(0, 2, 3, 1)
    assert got.shape == wanted.shape
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5)
    return graph


def ops(graph: Graph) -> list[str]:
    return [n.op for n in graph.nodes]


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("same", [True, False])
@pytest.mark.parametrize("kernel", [(1, 1), (3, 3), (2, 4)])
def test_conv(kernel: tuple[int, int], same: bool, stride: int) -> None:
    m = Model()
    w, b = f32(5, *kernel, 4), f32(5)
    wanted = ref.conv(X, w, stride, 1, same) + b
    m.op("CONV_2D", [m.input(*X.shape), m.const(w), m.const(b)], wanted.shape, conv(stride, same=same))
    assert ops(agrees(m, X, wanted)) == ["Conv"]


def test_conv_dilated_and_grouped() -> None:
    m = Model()
    w = f32(6, 3, 3, 2)
    wanted = np.concatenate([ref.conv(X[..., 2 * g : 2 * g + 2], w[3 * g : 3 * g + 3], 1, 2) for g in range(2)], 3)
    m.op("CONV_2D", [m.input(*X.shape), m.const(w)], wanted.shape, conv(dilation=2))
    agrees(m, X, wanted)


@pytest.mark.parametrize(("multiplier", "stride"), [(1, 1), (1, 2), (2, 1), (3, 2)])
def test_depthwise(multiplier: int, stride: int) -> None:
    m = Model()
    w = f32(1, 3, 3, 4 * multiplier)
    wanted = ref.depthwise(X, w, stride)
    m.op("DEPTHWISE_CONV_2D", [m.input(*X.shape), m.const(w)], wanted.shape, depthwise(stride, multiplier))
    agrees(m, X, wanted)


@pytest.mark.parametrize(("code", "function"), [
    (1, lambda v: np.maximum(v, 0)), (2, lambda v: np.clip(v, -1, 1)), (3, lambda v: np.clip(v, 0, 6)), (4, np.tanh),
])  # fmt: skip
def test_fused_activations(code: int, function: Callable[[np.ndarray], np.ndarray]) -> None:
    m = Model()
    w = f32(3, 1, 1, 4) * 4
    m.op("CONV_2D", [m.input(*X.shape), m.const(w)], (1, 7, 6, 3), conv(act=code))
    agrees(m, X, function(ref.conv(X, w)))


@pytest.mark.parametrize("same", [True, False])
@pytest.mark.parametrize(("size", "stride"), [(2, 2), (3, 2), (3, 1)])
def test_pools(size: int, stride: int, same: bool) -> None:
    for name, function in (("MAX_POOL_2D", ref.max_pool), ("AVERAGE_POOL_2D", ref.average_pool)):
        m = Model()
        wanted = function(X, size, stride, same)
        m.op(name, [m.input(*X.shape)], wanted.shape, pool(size, stride, same=same))
        agrees(m, X, wanted)


@pytest.mark.parametrize(("size", "stride", "same"), [((14, 12), 2, True), ((13, 11), 2, True), ((15, 13), 2, False),
                                                      ((7, 6), 1, True), ((21, 18), 3, True)])  # fmt: skip
def test_transpose_conv(size: tuple[int, int], stride: int, same: bool) -> None:
    m = Model()
    w = f32(5, 3, 3, 4)
    shape = m.const(np.array([1, *size, 5], np.int32))
    x = m.input(*X.shape)
    options = {0: ("i8", 0 if same else 1), 1: ("i32", stride), 2: ("i32", stride)}
    m.op("TRANSPOSE_CONV", [shape, m.const(w), x], (1, *size, 5), options)
    agrees(m, X, ref.transpose_conv(X, w, size, stride, same))


@pytest.mark.parametrize(("align", "half"), [(False, False), (True, False), (False, True)])
@pytest.mark.parametrize("size", [(14, 12), (4, 9), (21, 18)])
@pytest.mark.parametrize("linear", [True, False])
def test_resize(linear: bool, size: tuple[int, int], align: bool, half: bool) -> None:
    m = Model()
    flags = {(2 if linear else 0): ("u8", align), (3 if linear else 1): ("u8", half)}
    name = "RESIZE_BILINEAR" if linear else "RESIZE_NEAREST_NEIGHBOR"
    m.op(name, [m.input(*X.shape), m.const(np.array(size, np.int32))], (1, *size, 4), flags)
    agrees(m, X, ref.resize(X, size, linear=linear, align=align, half=half))


def test_fully_connected_keeps_the_order_of_the_numbers() -> None:
    m = Model()
    w, b = f32(5, 7 * 6 * 4), f32(5)
    flat = m.op("RESHAPE", [m.input(*X.shape), m.const(np.array([1, -1], np.int32))], (1, 168))
    m.op("FULLY_CONNECTED", [flat, m.const(w), m.const(b)], (1, 5), {0: ("i8", 1)})
    graph = agrees(m, X, np.maximum(X.reshape(1, -1) @ w.T + b, 0))
    canonicalize.run(graph)
    assert ops(graph) == ["Reshape", "Gemm", "Elementwise"]


def test_fully_connected_reads_pictures_and_keeps_dimensions() -> None:
    m = Model()
    w = f32(5, 4)
    m.op("FULLY_CONNECTED", [m.input(*X.shape), m.const(w)], (1, 7, 6, 5), {2: ("u8", 1)})
    agrees(m, X, X @ w.T, planar=False)
    m = Model()
    w = f32(5, 168)
    m.op("FULLY_CONNECTED", [m.input(*X.shape), m.const(w)], (1, 5), {})
    agrees(m, X, X.reshape(1, -1) @ w.T)


UNARY = [
    ("RELU", lambda v: np.maximum(v, 0)), ("RELU6", lambda v: np.clip(v, 0, 6)), ("TANH", np.tanh), ("ABS", np.abs),
    ("RELU_N1_TO_1", lambda v: np.clip(v, -1, 1)), ("LOGISTIC", lambda v: 1 / (1 + np.exp(-v))), ("NEG", np.negative),
    ("EXP", np.exp), ("SIN", np.sin), ("COS", np.cos), ("FLOOR", np.floor), ("CEIL", np.ceil), ("SQUARE", np.square),
    ("ELU", lambda v: np.where(v > 0, v, np.expm1(v))), ("HARD_SWISH", lambda v: v * np.clip(v + 3, 0, 6) / 6),
    ("QUANTIZE", lambda v: v), ("DEQUANTIZE", lambda v: v),
]  # fmt: skip


@pytest.mark.parametrize(("name", "function"), UNARY)
def test_unary(name: str, function: Callable[[np.ndarray], np.ndarray]) -> None:
    m = Model()
    m.op(name, [m.input(*X.shape)], X.shape)
    agrees(m, X, function(X), planar=True)


def test_functions_of_positive_numbers() -> None:
    x = np.abs(X) + 0.1
    for name, function in (("LOG", np.log), ("SQRT", np.sqrt), ("RSQRT", lambda v: 1 / np.sqrt(v))):
        m = Model()
        m.op(name, [m.input(*X.shape)], X.shape)
        agrees(m, x, function(x))


def test_slopes() -> None:
    m = Model()
    m.op("LEAKY_RELU", [m.input(*X.shape)], X.shape, {0: ("f32", 0.3)})
    agrees(m, X, np.where(X > 0, X, X * 0.3))
    m = Model()
    slope = f32(1, 1, 4)
    m.op("PRELU", [m.input(*X.shape), m.const(slope)], X.shape)
    agrees(m, X, np.where(X > 0, X, X * slope))


BINARY = [
    ("ADD", np.add), ("SUB", np.subtract), ("MUL", np.multiply), ("DIV", np.divide), ("MINIMUM", np.minimum),
    ("MAXIMUM", np.maximum), ("SQUARED_DIFFERENCE", lambda a, b: (a - b) ** 2),
]  # fmt: skip


@pytest.mark.parametrize("shape", [(), (4,), (6, 4), (1, 7, 6, 4), (1, 1, 1, 4), (7, 1, 1)])
@pytest.mark.parametrize(("name", "function"), BINARY)
def test_binary_with_a_constant(name: str, function: Callable[..., np.ndarray], shape: tuple[int, ...]) -> None:
    m = Model()
    other = np.asarray(RNG.uniform(0.5, 2, shape), np.float32)
    m.op(name, [m.input(*X.shape), m.const(other)], X.shape, {})
    agrees(m, X, function(X, other))


def test_binary_of_a_picture_and_a_vector() -> None:
    """As in a squeeze-and-excite block."""
    m = Model()
    x = m.input(*X.shape)
    mean = m.op("MEAN", [x, m.const(np.array([1, 2], np.int32))], (1, 4), {0: ("u8", 0)})
    gate = m.op("LOGISTIC", [mean], (1, 4))
    m.op("MUL", [x, gate], X.shape, {})
    graph = agrees(m, X, X / (1 + np.exp(-X.mean((1, 2)))))
    assert "Transpose" not in ops(graph)


def test_power() -> None:
    m = Model()
    m.op("POW", [m.input(*X.shape), m.const(np.float32(2))], X.shape)
    agrees(m, X, X**2)


@pytest.mark.parametrize("axes", [[1, 2], [3], [1], [-1, 1], [0, 1, 2, 3]])
@pytest.mark.parametrize("keep", [0, 1])
@pytest.mark.parametrize(("name", "function"), [("MEAN", np.mean), ("SUM", np.sum), ("REDUCE_MAX", np.max),
                                                ("REDUCE_MIN", np.min)])  # fmt: skip
def test_reductions(name: str, function: Callable[..., np.ndarray], keep: int, axes: list[int]) -> None:
    m = Model()
    wanted = np.asarray(function(X, axis=tuple(axes), keepdims=bool(keep)))
    m.op(name, [m.input(*X.shape), m.const(np.array(axes, np.int32))], wanted.shape, {0: ("u8", keep)})
    agrees(m, X, wanted)


def test_softmax_argmax_and_norm() -> None:
    e = np.exp(2 * (X - X.max(3, keepdims=True)))
    norm = X / np.sqrt((X**2).sum(3, keepdims=True))
    for name, options, extra, wanted in (
        ("SOFTMAX", {0: ("f32", 2.0)}, [], e / e.sum(3, keepdims=True)),
        ("L2_NORMALIZATION", {}, [], norm),
        ("ARG_MAX", {}, [np.array(3, np.int32)], X.argmax(3)),
        ("ARG_MAX", {}, [np.array(1, np.int32)], X.argmax(1)),
    ):
        m = Model()
        x = m.input(*X.shape)
        m.op(name, [x, *(m.const(c) for c in extra)], wanted.shape, options)
        agrees(m, X, wanted)


@pytest.mark.parametrize("axis", [1, 2, 3, -1])
def test_concatenation_and_split(axis: int) -> None:
    m = Model()
    x = m.input(*X.shape)
    wanted = np.concatenate([X, X * 2], axis)
    double = m.op("ADD", [x, x], X.shape, {})
    m.op("CONCATENATION", [x, double], wanted.shape, {0: ("i32", axis)})
    agrees(m, X, wanted)
    m = Model()
    sizes = [1, X.shape[axis] - 1]
    parts = np.split(X, [1], axis)
    args = [m.input(*X.shape), m.const(np.array(sizes, np.int32)), m.const(np.array(axis, np.int32))]
    first = m.op("SPLIT_V", args, parts[0].shape, {0: ("i32", 2)}, more=[parts[1].shape])
    _, got = run(m, X, first, first + 1)
    for g, p in zip(got, parts, strict=True):
        np.testing.assert_array_equal(g.transpose(0, 2, 3, 1), p)


def test_equal_split() -> None:
    m = Model()
    axis = m.const(np.array(3, np.int32))
    first = m.op("SPLIT", [axis, m.input(*X.shape)], (1, 7, 6, 2), {0: ("i32", 2)}, more=[(1, 7, 6, 2)])
    _, got = run(m, X, first, first + 1)
    np.testing.assert_array_equal(got[1].transpose(0, 2, 3, 1), X[..., 2:])


def test_pads() -> None:
    pads = np.array([[0, 0], [1, 2], [0, 3], [2, 0]], np.int32)
    m = Model()
    m.op("PAD", [m.input(*X.shape), m.const(pads)], (1, 10, 9, 6))
    agrees(m, X, np.pad(X, pads))
    m = Model()
    m.op("PADV2", [m.input(*X.shape), m.const(pads), m.const(np.float32(-2))], (1, 10, 9, 6))
    agrees(m, X, np.pad(X, pads, constant_values=-2))
    m = Model()
    m.op("MIRROR_PAD", [m.input(*X.shape), m.const(pads)], (1, 10, 9, 6), {0: ("i8", 0)})
    with pytest.raises(UnsupportedError, match="MIRROR_PAD"):
        load(m.bytes())


SLICES: list[tuple[str, Sequence[Any], dict[int, Any], tuple[slice | int, ...]]] = [
    ("SLICE", [[0, 1, 0, 1], [-1, 3, -1, 2]], {}, np.s_[:, 1:4, :, 1:3]),
    ("STRIDED_SLICE", [[0, 0, 1, 0], [1, 7, 6, 4], [1, 2, 2, 1]], {}, np.s_[:, ::2, 1::2]),
    ("STRIDED_SLICE", [[0, 2, 0, 0], [0, 0, 0, 2], [1, 1, 1, 1]], {0: ("i32", 5), 1: ("i32", 7)}, np.s_[:, 2:, :, :2]),
    ("STRIDED_SLICE", [[0, -3, 0, 0], [0, 0, 0, 0], [1, 1, 1, 1]], {0: ("i32", 13), 1: ("i32", 13), 4: ("i32", 2)},
     np.s_[:, -3, :, :]),
    ("STRIDED_SLICE", [[0, -1], [1, -8], [1, -1]], {}, np.s_[:, ::-1]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "numbers", "options", "taken"), SLICES)
def test_slices(name: str, numbers: Sequence[Any], options: dict[int, Any], taken: tuple[Any, ...]) -> None:
    m = Model()
    wanted = X[taken]
    x = m.input(*X.shape)
    m.op(name, [x, *(m.const(np.array(n, np.int32)) for n in numbers)], wanted.shape, options)
    agrees(m, X, wanted)


@pytest.mark.parametrize("perm", [(0, 3, 1, 2), (0, 2, 1, 3), (0, 1, 2, 3), (0, 3, 2, 1)])
def test_transpose(perm: tuple[int, ...]) -> None:
    m = Model()
    x = m.input(*X.shape)
    y = m.op("RELU", [x], X.shape)
    m.op("TRANSPOSE", [y, m.const(np.array(perm, np.int32))], [X.shape[p] for p in perm])
    graph, (got,) = run(m, X)
    wanted = np.maximum(X, 0).transpose(perm)
    if perm == (0, 3, 1, 2):  # only another view of the same picture
        assert ops(graph) == ["Relu"]
    else:
        got = got.transpose(0, 2, 3, 1)
    np.testing.assert_array_equal(got, wanted)


def test_a_model_converted_from_pytorch_has_a_planar_input() -> None:
    m = Model()
    w = f32(5, 3, 3, 4)
    x = m.input(1, 4, 7, 6)
    nhwc = m.op("TRANSPOSE", [x, m.const(np.array([0, 2, 3, 1], np.int32))], X.shape)
    y = m.op("CONV_2D", [nhwc, m.const(w)], (1, 7, 6, 5), conv())
    m.op("TRANSPOSE", [y, m.const(np.array([0, 3, 1, 2], np.int32))], (1, 5, 7, 6))
    planar = np.ascontiguousarray(X.transpose(0, 3, 1, 2))
    graph, (got,) = run(m, planar)
    assert ops(graph) == ["Conv"]
    np.testing.assert_allclose(got, ref.conv(X, w).transpose(0, 3, 1, 2), rtol=1e-4, atol=1e-5)


def test_reshapes() -> None:
    for name, extra, options, shape in (
        ("RESHAPE", [], {0: np.array([1, 42, 4], np.int32)}, (1, 42, 4)),
        ("EXPAND_DIMS", [np.array(1, np.int32)], {}, (1, 1, 7, 6, 4)),
        ("RESHAPE", [np.array([-1, 6], np.int32)], {}, (28, 6)),
    ):
        m = Model()
        x = m.input(*X.shape)
        m.op(name, [x, *(m.const(c) for c in extra)], shape, options)
        agrees(m, X, X.reshape(shape), planar=False)
    m = Model()
    mean = m.op("MEAN", [m.input(*X.shape), m.const(np.array([1, 2], np.int32))], (1, 1, 1, 4), {0: ("u8", 1)})
    m.op("SQUEEZE", [mean], (1, 4), {0: np.array([1, 2], np.int32)})
    agrees(m, X, X.mean((1, 2)))


def test_depth_and_space() -> None:
    x = f32(1, 4, 6, 8)
    blocks = x.reshape(1, 2, 2, 3, 2, 8).transpose(0, 1, 3, 2, 4, 5).reshape(1, 2, 3, 32)
    m = Model()
    m.op("SPACE_TO_DEPTH", [m.input(*x.shape)], blocks.shape, {0: ("i32", 2)})
    agrees(m, x, blocks)
    m = Model()
    m.op("DEPTH_TO_SPACE", [m.input(*blocks.shape)], x.shape, {0: ("i32", 2)})
    agrees(m, blocks, x)


def test_pack_and_unpack() -> None:
    m = Model()
    x = m.input(*X.shape)
    first = m.op("UNPACK", [x], (1, 6, 4), {0: ("i32", 7), 1: ("i32", 1)}, more=[(1, 6, 4)] * 6)
    m.op("PACK", [first + 2, first], (1, 2, 6, 4), {0: ("i32", 2), 1: ("i32", 1)})
    graph, (got,) = run(m, X)
    np.testing.assert_array_equal(got, X[:, [2, 0]])
    assert len(graph.nodes) < 12


def test_dilation_as_older_converters_write_it() -> None:
    """SPACE_TO_BATCH_ND, a convolution, BATCH_TO_SPACE_ND; 7x6 padded by 2 becomes 12x10 for the blocks."""
    w = f32(5, 3, 3, 4)
    m = Model()
    pads = np.array([[2, 3], [2, 2]], np.int32)
    block = np.array([2, 2], np.int32)
    cut = m.op("SPACE_TO_BATCH_ND", [m.input(*X.shape), m.const(block), m.const(pads)], (4, 6, 5, 4))
    y = m.op("CONV_2D", [cut, m.const(w)], (4, 4, 3, 5), conv(same=False, act=1))
    m.op("BATCH_TO_SPACE_ND", [y, m.const(block), m.const(np.array([[0, 1], [0, 0]], np.int32))], (1, 7, 6, 5))
    graph = agrees(m, X, np.maximum(ref.conv(X, w, 1, 2), 0))
    assert ops(graph)[0] == "Conv"
    m = Model()
    cut = m.op("SPACE_TO_BATCH_ND", [m.input(*X.shape), m.const(block), m.const(pads)], (4, 6, 5, 4))
    y = m.op("CONV_2D", [cut, m.const(w)], (4, 4, 3, 5), conv(same=False))
    y = m.op("RELU6", [y], (4, 4, 3, 5))
    m.op("BATCH_TO_SPACE_ND", [y, m.const(block), m.const(np.array([[0, 1], [0, 0]], np.int32))], (1, 7, 6, 5))
    assert ops(agrees(m, X, np.clip(ref.conv(X, w, 1, 2), 0, 6)))[:2] == ["Conv", "Clip"]
    m = Model()
    cut = m.op("SPACE_TO_BATCH_ND", [m.input(*X.shape), m.const(block), m.const(pads)], (4, 6, 5, 4))
    m.op("LOGISTIC", [cut], (4, 6, 5, 4))
    with pytest.raises(UnsupportedError, match="SPACE_TO_BATCH_ND"):
        load(m.bytes())


def test_upsampling_as_keras_writes_it() -> None:
    """EXPAND_DIMS, TILE, RESHAPE for the rows and again for the columns become two resizes."""
    m = Model()
    x = m.input(*X.shape)
    rows = m.op("EXPAND_DIMS", [x, m.const(np.array(2, np.int32))], (1, 7, 1, 6, 4))
    twice = m.op("TILE", [rows, m.const(np.array([1, 1, 2, 1, 1], np.int32))], (1, 7, 2, 6, 4))
    tall = m.op("RESHAPE", [twice, m.const(np.array([-1, 14, 6, 4], np.int32))], (1, 14, 6, 4))
    columns = m.op("EXPAND_DIMS", [tall, m.const(np.array(3, np.int32))], (1, 14, 6, 1, 4))
    thrice = m.op("TILE", [columns, m.const(np.array([1, 1, 1, 3, 1], np.int32))], (1, 14, 6, 3, 4))
    m.op("RESHAPE", [thrice, m.const(np.array([-1, 14, 18, 4], np.int32))], (1, 14, 18, 4))
    assert ops(agrees(m, X, X.repeat(2, 1).repeat(3, 2))) == ["Resize", "Resize"]


def test_shapes_that_are_computed() -> None:
    """Keras computes the batch of a reshape from the shape of its input."""
    m = Model()
    x = m.input(*X.shape)
    shape = m.op("SHAPE", [x], (4,), dtype="int32")
    bounds = [m.const(np.array(v, np.int32)) for v in ([0], [1], [1])]
    batch = m.op("STRIDED_SLICE", [shape, *bounds], (), {4: ("i32", 1)}, dtype="int32")
    target = m.op("PACK", [batch, m.const(np.int32(168))], (2,), {0: ("i32", 2)}, dtype="int32")
    m.op("RESHAPE", [x, target], (1, 168))
    agrees(m, X, X.reshape(1, 168))


def test_weights_of_other_types() -> None:
    """float16 behind DEQUANTIZE, int8 with one scale, int8 with a scale for each output, int4."""
    q = RNG.integers(-127, 128, (5, 3, 3, 4)).astype(np.int8)
    scale = RNG.uniform(0.01, 0.05, 5).astype(np.float32)
    small = RNG.integers(-8, 8, (5, 3, 3, 4)).astype(np.int8)
    pairs = small.reshape(-1, 2)
    packed = ((pairs[:, 0] & 15) | ((pairs[:, 1] & 15) << 4)).astype(np.uint8)
    half = f32(5, 3, 3, 4).astype(np.float16)

    def with_weights(make: Callable[[Model], int], w: np.ndarray) -> None:
        m = Model()
        m.op("CONV_2D", [m.input(*X.shape), make(m)], (1, 7, 6, 5), conv())
        assert not agrees(m, X, ref.conv(X, w)).scales

    with_weights(lambda m: m.op("DEQUANTIZE", [m.const(half)], half.shape), half.astype(np.float32))
    with_weights(lambda m: m.const(q, scale=0.02, zero=3), (q.astype(np.float32) - 3) * np.float32(0.02))
    with_weights(lambda m: m.const(q, scale=scale), q * scale.reshape(5, 1, 1, 1))
    with_weights(lambda m: m.tensor(small.shape, "int4", data=packed, scale=0.5), small * 0.5)


def test_depthwise_weights_have_their_scales_along_the_last_dimension() -> None:
    q = RNG.integers(-127, 128, (1, 3, 3, 4)).astype(np.int8)
    scale = RNG.uniform(0.01, 0.05, 4).astype(np.float32)
    m = Model()
    m.op("DEPTHWISE_CONV_2D", [m.input(*X.shape), m.const(q, scale=scale, axis=3)], X.shape, depthwise())
    agrees(m, X, ref.depthwise(X, q * scale))


def test_a_bias_with_the_axis_of_its_weights() -> None:
    """Converters of 2020 wrote quantized_dimension 3 beside one-dimensional biases of depthwise convolutions."""
    q = RNG.integers(-127, 128, (1, 3, 3, 4)).astype(np.int8)
    bias = RNG.integers(-2000, 2000, 4).astype(np.int32)
    scale = RNG.uniform(0.01, 0.05, 4).astype(np.float32)
    m = Model()
    args = [m.input(*X.shape), m.const(q, scale=scale, axis=3), m.const(bias, scale=scale / 255, axis=3)]
    m.op("DEPTHWISE_CONV_2D", args, X.shape, depthwise())
    agrees(m, X, ref.depthwise(X, q * scale) + bias * (scale / 255))


def test_names_and_ends() -> None:
    m = Model()
    x = m.input(*X.shape)
    inner = m.op("RELU", [x], X.shape)
    m.op("NO_SUCH_THING", [inner], X.shape)
    name = "relu_1"
    with pytest.raises(UnsupportedError, match="NO_SUCH_THING") as caught:
        load(m.bytes())
    assert caught.value.code == "E290"
    graph = load(m.bytes(), outputs=[name])
    assert [t.name for t in graph.outputs] == [name]
    with pytest.raises(UnsupportedError, match="relu_1") as caught:
        load(m.bytes(), outputs=["relu_2"])
    assert caught.value.code == "E269"


def test_a_layer_keeps_the_first_name_of_those_fused_into_it() -> None:
    m = Model()
    m.tensors.clear()
    x = m.input(*X.shape)
    m.op("RELU", [x], X.shape)
    m.tensors[-1][3] = "net/relu;net/bn;net/conv"
    graph = load(m.bytes())
    assert graph.nodes[0].source == ("net/relu",)
    assert graph.outputs[0].name == "net/relu;net/bn;net/conv"
    assert load(m.bytes(), outputs=["net/relu"]).outputs[0].name == "net/relu;net/bn;net/conv"


def test_input_sizes() -> None:
    m = Model()
    x = m.input(1, 1, 1, 4)
    m.tensors[x][7] = np.array([-1, -1, -1, 4], np.int32)
    m.op("RELU", [x], (1, 1, 1, 4))
    with pytest.raises(UnsupportedError) as caught:
        load(m.bytes())
    assert caught.value.code == "E260"
    assert load(m.bytes(), input_shapes={"x": (1, 9, 8, 4)}).inputs[0].shape == (1, 4, 9, 8)
