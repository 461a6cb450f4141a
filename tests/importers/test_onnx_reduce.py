"""Reductions, positions of maxima, vectors of length 1, blocks of pixels, copies: canonical over the opsets."""

import numpy as np
import pytest
from onnx_zoo import OPSETS, build, check, node, ops

X = {"x": (1, 4, 6, 8)}
REDUCTIONS = [
    "ReduceMean",
    "ReduceSum",
    "ReduceMax",
    "ReduceMin",
    "ReduceProd",
    "ReduceL1",
    "ReduceL2",
    "ReduceSumSquare",
]


def reduction(op: str, axes: list[int] | None, keep: int, opset: int) -> list[str]:
    """Axes are an attribute, from opset 18 on (ReduceSum: 13) an input."""
    at_input = opset >= (13 if op == "ReduceSum" else 18)
    attrs = {"axes": axes} if axes is not None and not at_input else {}
    given = ["x", "a"] if axes is not None and at_input else ["x"]
    constants = {"a": np.array(axes, np.int64)} if axes is not None and at_input else {}
    return ops(check(build([node(op, given, keepdims=keep, **attrs)], X, constants, opset=opset)))


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("op", REDUCTIONS)
def test_over_any_axes(op: str, opset: int) -> None:
    for axes in ([1], [-1, 1], None):
        for keep in (0, 1):
            assert reduction(op, axes, keep, opset) == [op]


@pytest.mark.parametrize("axes", [[1], [2, 3], None])
@pytest.mark.parametrize("keep", [0, 1])
def test_logarithms_of_sums(axes: list[int] | None, keep: int) -> None:
    at = {} if axes is None else {"axes": axes}
    assert ops(check(build([node("ReduceLogSumExp", keepdims=keep, **at)], X))) == ["Exp", "ReduceSum", "Log"]
    nodes = [node("Exp", ["x"], ["e"]), node("ReduceLogSum", ["e"], keepdims=keep, **at)]
    assert ops(check(build(nodes, X))) == ["Exp", "ReduceSum", "Log"]


@pytest.mark.parametrize("axes", [[2, 3], [-1, -2], [2], [3]])
@pytest.mark.parametrize("opset", [9, 13, 18])
def test_over_a_picture_it_is_a_pooling(axes: list[int], opset: int) -> None:
    whole = "GlobalAveragePool" if len(axes) == 2 else "AveragePool"
    expected = {"ReduceMean": [whole], "ReduceSum": [whole, "Mul"], "ReduceMax": ["MaxPool"],
                "ReduceMin": ["Neg", "MaxPool", "Neg"]}  # fmt: skip
    for op, wanted in expected.items():
        assert reduction(op, axes, 1, opset) == wanted
        assert reduction(op, axes, 0, opset) == [*wanted, "Reshape"]


@pytest.mark.parametrize("opset", OPSETS)
def test_positions_and_norms(opset: int) -> None:
    for op in ("ArgMax", "ArgMin"):
        for keep in (0, 1):
            model = build([node(op, axis=-3, keepdims=keep)], X, opset=opset)
            model.graph.output[0].type.tensor_type.elem_type = 7
            assert ops(check(model)) == [op]
    for p in (1, 2):
        assert ops(check(build([node("LpNormalization", axis=1, p=p)], X, opset=opset))) == ["LpNormalization"]


@pytest.mark.parametrize("opset", OPSETS)
def test_blocks_copies_and_functions(opset: int) -> None:
    modes = [{}] if opset < 11 else [{}, {"mode": "DCR"}, {"mode": "CRD"}]
    for mode in modes:
        assert ops(check(build([node("DepthToSpace", blocksize=2, **mode)], X, opset=opset))) == ["DepthToSpace"]
    assert ops(check(build([node("SpaceToDepth", blocksize=2)], X, opset=opset))) == ["SpaceToDepth"]
    tiles = {"r": np.array([1, 2, 1, 3], np.int64)}
    assert ops(check(build([node("Tile", ["x", "r"])], X, tiles, opset=opset))) == ["Tile"]
    shape = {"s": np.array([3, 1, 6, 1], np.int64)}
    if opset >= 8:
        assert ops(check(build([node("Expand", ["x", "s"])], {"x": (1, 4, 1, 8)}, shape, opset=opset))) == ["Expand"]
    for op, first in (("Sin", 7), ("Cos", 7), ("Sign", 9), ("Round", 11)):
        if opset >= first:
            assert ops(check(build([node(op)], X, opset=opset))) == [op]
