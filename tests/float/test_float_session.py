"""Float sessions: inputs, outputs, watched tensors."""

import numpy as np
import pytest

from openkpu.errors import InputError, SetupError, UnsupportedError
from openkpu.extras import require
from openkpu.float.session import FloatSession
from openkpu.graph.ir import Graph, Node, Tensor

RNG = np.random.default_rng(0)


def conv_relu() -> Graph:
    x = Tensor("x", (1, 3, 6, 6))
    w = Tensor("w", (4, 3, 3, 3), "float32", RNG.standard_normal((4, 3, 3, 3)).astype(np.float32))
    conv = Node("Conv", [x, w], [Tensor("c", (1, 4, 6, 6))],
                {"strides": (1, 1), "pads": (1, 1, 1, 1), "dilations": (1, 1), "group": 1}, ("conv",))  # fmt: skip
    relu = Node("Relu", [conv.output], [Tensor("y", (1, 4, 6, 6))])
    return Graph([x], [relu.output], [conv, relu])


def test_watched_tensors_are_what_the_next_node_saw() -> None:
    graph = conv_relu()
    conv, relu = graph.nodes
    x = RNG.standard_normal((1, 3, 6, 6)).astype(np.float32)
    got = FloatSession(graph, [graph.inputs[0], conv.output, relu.output, conv.inputs[1]]).run(x)
    assert set(got) == {"x", "c", "y", "w"}
    assert (got["c"] < 0).any()
    np.testing.assert_array_equal(np.maximum(got["c"], 0), got["y"])
    np.testing.assert_array_equal(got["x"], x)
    np.testing.assert_array_equal(got["w"], conv.inputs[1].data)
    np.testing.assert_allclose(FloatSession(graph, threads=2).run({"x": x[0]})["y"], got["y"], rtol=1e-5, atol=1e-6)


def test_values_are_converted() -> None:
    graph = conv_relu()
    x = RNG.integers(0, 255, (1, 3, 6, 6)).astype(np.uint8)
    session = FloatSession(graph)
    np.testing.assert_array_equal(session.run(x)["y"], session.run(x.astype(np.float64))["y"])


@pytest.mark.parametrize(
    "bad", [np.zeros((1, 3, 6, 5)), np.zeros((3, 3, 6, 6)), np.array(["a"]), {"z": np.zeros(3)}, {}]
)
def test_inputs_that_do_not_fit(bad) -> None:
    with pytest.raises(InputError) as caught:
        FloatSession(conv_relu()).run(bad)
    assert caught.value.code == "E451"


def test_a_graph_that_onnxruntime_refuses() -> None:
    graph = conv_relu()
    graph.nodes[0].attrs["group"] = 2
    with pytest.raises(UnsupportedError) as caught:
        FloatSession(graph).run(np.zeros((1, 3, 6, 6)))
    assert caught.value.code == "E282"
    graph.nodes[0].attrs["strides"] = (1, 1, 1)
    with pytest.raises(UnsupportedError) as caught:
        FloatSession(graph)
    assert caught.value.code == "E282"


def test_missing_extra_says_how_to_get_it() -> None:
    with pytest.raises(SetupError) as caught:
        require("no_such_package_here.inner", "onnx")
    assert caught.value.fix == "pip install 'openkpu[onnx]'"
    assert "no_such_package_here" in caught.value.what
