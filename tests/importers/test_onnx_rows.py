"""Convolutions and poolings of one dimension: imported as those of pictures of one row."""

import numpy as np
import pytest
from onnx_zoo import build, check, node, ops

from openkpu.errors import FileFormatError

RNG = np.random.default_rng(2)
X = {"x": (1, 4, 20)}


def f32(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize(
    ("op", "inputs", "attrs"),
    [
        ("Conv", {"w": f32(6, 4, 3), "b": f32(6)}, {"pads": [1, 1], "strides": [2]}),
        ("Conv", {"w": f32(4, 1, 5)}, {"group": 4, "dilations": [2], "kernel_shape": [5]}),
        ("Conv", {"w": f32(2, 4, 4)}, {"auto_pad": "SAME_UPPER"}),
        ("ConvTranspose", {"w": f32(4, 3, 4)}, {"strides": [2], "pads": [1, 1], "output_padding": [1]}),
        ("MaxPool", {}, {"kernel_shape": [3], "strides": [2], "ceil_mode": 1}),
        ("AveragePool", {}, {"kernel_shape": [2], "strides": [2]}),
        ("GlobalAveragePool", {}, {}),
        ("GlobalMaxPool", {}, {}),
    ],
)
def test_each(op: str, inputs: dict, attrs: dict) -> None:
    graph = check(build([node(op, ["x", *inputs], **attrs)], X, inputs))
    assert ops(graph)[0] == ops(graph)[-1] == "Reshape"


def test_between_layers_the_row_stays_a_picture() -> None:
    constants = {"w": f32(4, 4, 3), "v": f32(4, 4, 3)} | {n: np.abs(f32(4)) for n in ("s", "h", "m", "r")}
    nodes = [
        node("Conv", ["x", "w"], ["a"], pads=[1, 1]),
        node("BatchNormalization", ["a", "s", "h", "m", "r"], ["b"]),
        node("Relu", ["b"], ["c"]),
        node("MaxPool", ["c"], ["d"], kernel_shape=[2], strides=[2]),
        node("Conv", ["d", "v"]),
    ]
    expected = ["Reshape", "Conv", "BatchNormalization", "Relu", "MaxPool", "Conv", "Reshape"]
    assert list(ops(check(build(nodes, X, constants)))) == expected


def test_attributes_of_a_picture_on_a_row_are_refused() -> None:
    model = build([node("MaxPool", kernel_shape=[2, 2])], X)
    with pytest.raises(FileFormatError) as caught:
        check(model)
    assert caught.value.code == "E160"
