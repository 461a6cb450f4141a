"""Normalisations and rare functions of ONNX: written out, they compute what onnxruntime makes of the file."""

import numpy as np
import pytest
from onnx_zoo import build, check, node, ops

from openkpu.errors import FileFormatError, UnsupportedError
from openkpu.graph.ir import Graph

RNG = np.random.default_rng(4)
X = {"x": (1, 6, 5, 4)}


def f32(*shape: int) -> np.ndarray:
    return RNG.uniform(0.5, 1.5, shape).astype(np.float32)


def normalised(op: str, opset: int, scale: np.ndarray, shift: np.ndarray | None, shape: tuple, **attrs: float) -> Graph:
    constants = {"s": scale} | ({} if shift is None else {"b": shift})
    inputs = ["x", "s"] + ([] if shift is None else ["b"])
    return check(build([node(op, inputs, **attrs)], {"x": shape}, constants, opset=opset))


@pytest.mark.parametrize("shape", [(1, 6, 5, 4), (1, 6, 9), (1, 6, 3, 2, 4)])
def test_instance_normalization(shape: tuple) -> None:
    graph = normalised("InstanceNormalization", 13, f32(6), f32(6), shape, epsilon=1e-3)
    assert ("GlobalAveragePool" in ops(graph)) == (len(shape) == 4)
    assert "Add" not in ops(normalised("InstanceNormalization", 13, f32(6), np.zeros(6, np.float32), shape))[-1:]


@pytest.mark.parametrize("axis", [-1, 1, 2, 3])
@pytest.mark.parametrize("with_shift", [False, True])
def test_layer_normalization(axis: int, with_shift: bool) -> None:
    rest = X["x"][axis:]
    normalised("LayerNormalization", 17, f32(*rest), f32(*rest) if with_shift else None, X["x"], axis=axis)


def test_rms_normalization() -> None:
    normalised("RMSNormalization", 23, f32(4), None, X["x"], axis=-1)


@pytest.mark.parametrize("groups", [1, 2, 6])
def test_group_normalization(groups: int) -> None:
    normalised("GroupNormalization", 21, f32(6), f32(6), X["x"], num_groups=groups)
    normalised("GroupNormalization", 18, f32(groups), f32(groups), X["x"], num_groups=groups)


@pytest.mark.parametrize("axes", [None, [2, 3], [1], [1, 2, 3]])
def test_mean_variance_normalization(axes: list[int] | None) -> None:
    attrs = {} if axes is None else {"axes": axes}
    check(build([node("MeanVarianceNormalization", **attrs)], X, opset=13))


@pytest.mark.parametrize("size", [1, 3, 5, 11])
def test_local_response_normalization(size: int) -> None:
    attrs = {"alpha": 0.5, "beta": 0.6, "bias": 2.0}
    assert ops(check(build([node("LRN", size=size, **attrs)], X))) == ["Mul", "Conv", "Pow", "Mul"]
    check(build([node("LRN", size=size)], X))


def test_damaged_normalisations() -> None:
    for op, attrs in (("InstanceNormalization", {}), ("GroupNormalization", {"num_groups": 4})):
        model = build([node(op, ["x", "s", "b"], **attrs)], X, {"s": f32(4), "b": f32(4)}, opset=21)
        with pytest.raises(FileFormatError) as caught:
            check(model)
        assert caught.value.code == "E160"
    nodes = [node("LayerNormalization", ["x", "s"], ["y", "m"]), node("Relu", ["m"], ["z"])]
    model = build(nodes, X, {"s": f32(4)}, opset=17)
    with pytest.raises(UnsupportedError, match="mean"):
        check(model)


@pytest.mark.parametrize(
    ("op", "attrs"),
    [("Celu", {}), ("Celu", {"alpha": 0.4}), ("Softsign", {}), ("ThresholdedRelu", {"alpha": 0.3}), ("Sinh", {}),
     ("ThresholdedRelu", {}), ("Cosh", {}), ("Asinh", {})],
)  # fmt: skip
def test_functions(op: str, attrs: dict) -> None:
    check(build([node(op, **attrs)], X, opset=13))


def test_functions_of_a_part_of_the_numbers() -> None:
    """Acosh is defined from 1 on, Atanh between -1 and 1."""
    check(build([node("Exp", ["x"], ["p"]), node("Cosh", ["p"], ["q"]), node("Acosh", ["q"])], X))
    check(build([node("Tanh", ["x"], ["p"]), node("Atanh", ["p"])], {"x": (1, 3, 2, 2)}))
