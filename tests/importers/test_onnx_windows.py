"""Convolutions and poolings with any attributes give what onnxruntime gives."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from onnx_zoo import build, check, node

from openkpu.errors import OpenKPUError
from openkpu.importers.onnx import load

AUTO = st.sampled_from(["NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"])
SIZES = st.tuples(st.integers(3, 11), st.integers(3, 11))
PAIR = st.tuples(st.integers(1, 3), st.integers(1, 3))


def f32(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


@settings(max_examples=60, deadline=None)
@given(
    SIZES, PAIR, PAIR, PAIR, st.lists(st.integers(0, 2), min_size=4, max_size=4), AUTO,
    st.sampled_from([(2, 4, 1), (4, 4, 2), (3, 6, 3)]), st.booleans(), st.sampled_from([7, 11, 13, 21]),
)  # fmt: skip
def test_conv(size, kernel, strides, dilations, pads, auto, channels, bias, opset) -> None:
    ic, oc, group = channels
    if auto.startswith("SAME"):
        assume(dilations == (1, 1))  # onnxruntime's own rule for both differs between its versions
    attrs = {"strides": strides, "dilations": dilations, "group": group, "kernel_shape": kernel}
    attrs |= {"pads": pads} if auto == "NOTSET" else {"auto_pad": auto}
    constants = {"w": f32(oc, ic // group, *kernel), "b": f32(oc)}
    model = build([node("Conv", ["x", "w", "b"][: 2 + bias], **attrs)], {"x": (1, ic, *size)}, constants, opset=opset)
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    padded = [n + (pads[i] + pads[i + 2] if auto == "NOTSET" else 0) for i, n in enumerate(size)]
    assume(auto.startswith("SAME") or all(r <= p for r, p in zip(reach, padded, strict=True)))
    (conv,) = check(model).nodes
    assert (conv.op, conv.attrs["strides"], conv.attrs["group"]) == ("Conv", strides, group)
    assert len(conv.attrs["pads"]) == 4
    assert min(conv.attrs["pads"]) >= 0


@settings(max_examples=80, deadline=None)
@given(
    SIZES, PAIR, PAIR, st.lists(st.integers(0, 2), min_size=4, max_size=4), AUTO, st.booleans(),
    st.sampled_from(["MaxPool", "AveragePool"]), st.integers(0, 1), st.sampled_from([10, 13, 19, 22]),
)  # fmt: skip
def test_pool(size, kernel, strides, pads, auto, ceil, op, include, opset) -> None:
    if auto.startswith("SAME"):
        assume(all(k >= s for k, s in zip(kernel, strides, strict=True)))  # else onnxruntime pads by -1, or refuses
    pads = [min(p, k - 1) for p, k in zip(pads, [*kernel, *kernel], strict=True)]
    attrs = {"strides": strides, "kernel_shape": kernel, "ceil_mode": int(ceil)}
    attrs |= {"pads": pads} if auto == "NOTSET" else {"auto_pad": auto}
    if op == "AveragePool":
        attrs["count_include_pad"] = include
    check(build([node(op, **attrs)], {"x": (1, 2, *size)}, opset=opset))


@settings(max_examples=40, deadline=None)
@given(
    SIZES, PAIR, PAIR, PAIR, st.lists(st.integers(0, 1), min_size=4, max_size=4), st.integers(0, 1),
    st.sampled_from(["NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"]), st.sampled_from([1, 2]),
)  # fmt: skip
def test_conv_transpose(size, kernel, strides, dilations, pads, extra, auto, group) -> None:
    attrs = {"strides": strides, "dilations": dilations, "group": group, "kernel_shape": kernel}
    attrs |= {"pads": pads} if auto == "NOTSET" else {"auto_pad": auto}
    if auto.startswith("SAME"):
        assume(all(k >= s and d == 1 for k, s, d in zip(kernel, strides, dilations, strict=True)))
    else:
        assume(all(extra < s for s in strides))
        attrs["output_padding"] = [extra, extra]
    constants = {"w": f32(4, 3, *kernel), "b": f32(3 * group)}
    check(build([node("ConvTranspose", ["x", "w", "b"], **attrs)], {"x": (1, 4, *size)}, constants))


def test_the_overhang_of_ceil_mode_does_not_count() -> None:
    attrs = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1], "ceil_mode": 1, "count_include_pad": 1}
    graph = check(build([node("AveragePool", **attrs)], {"x": (1, 2, 6, 6)}, opset=19))
    assert [n.op for n in graph.nodes] == ["Pad", "AveragePool"]


@pytest.mark.parametrize(
    ("op", "shape", "attrs", "weights"),
    [
        ("Conv", (1, 3, 8, 8, 8), {}, (4, 3, 3, 3, 3)),
        ("Conv", (1, 3, 20), {}, (4, 3, 3, 3)),
        ("ConvTranspose", (1, 3, 8, 8, 8), {}, (3, 4, 3, 3, 3)),
        ("MaxPool", (1, 3, 8, 8, 8), {"kernel_shape": [2, 2, 2]}, None),
        ("MaxPool", (1, 3, 8, 8), {"kernel_shape": [2, 2], "dilations": [2, 2]}, None),
        ("GlobalAveragePool", (1, 3, 8, 8, 8), {}, None),
        ("Conv", (1, 3, 8, 8), {"pads": [-1, 0, 0, 0]}, (4, 3, 3, 3)),
        ("Conv", (1, 3, 2, 2), {}, (4, 3, 3, 3)),
        ("Conv", (1, 4, 8, 8), {}, (4, 3, 3, 3)),
        ("Conv", (1, 3, 8, 8), {"strides": [0, 1]}, (4, 3, 3, 3)),
        ("Conv", (1, 3, 8, 8), {"kernel_shape": [5, 5]}, (4, 3, 3, 3)),
        ("Conv", (1, 3, 8, 8), {"group": 0}, (4, 3, 3, 3)),
        ("Conv", (1, 3, 8, 8), {"pads": [2**40] * 4}, (4, 3, 3, 3)),
    ],
)
def test_refused_by_name(op: str, shape: tuple, attrs: dict, weights: tuple | None) -> None:
    constants = {"w": f32(*weights)} if weights else {}
    model = build([node(op, ["x", *constants], name="here", **attrs)], {"x": shape}, constants)
    with pytest.raises(OpenKPUError) as caught:
        load(model.SerializeToString())
    assert caught.value.where == f"{op} 'here'"
    assert caught.value.why


@pytest.mark.parametrize(
    ("mode", "pads"),
    [
        ("reflect", [0, 0, 1, 2, 0, 0, 3, 0]),
        ("reflect", [0, 0, 5, 0, 0, 0, 5, 0]),
        ("edge", [0, 1, 2, 0, 0, 0, 1, 3]),
        ("wrap", [0, 0, 6, 1, 0, 0, 0, 2]),
    ],
)
def test_padding_with_the_tensors_own_rows_and_columns(mode: str, pads: list[int]) -> None:
    model = build([node("Pad", ["x", "p"], mode=mode)], {"x": (1, 2, 6, 5)}, {"p": np.array(pads)}, opset=19)
    assert {n.op for n in check(model).nodes} == {"Slice", "Concat"}


def test_reflected_padding_beyond_the_map_is_refused() -> None:
    pads = {"p": np.array([0, 0, 6, 0, 0, 0, 0, 0])}
    model = build([node("Pad", ["x", "p"], mode="reflect")], {"x": (1, 2, 6, 5)}, pads)
    with pytest.raises(OpenKPUError) as caught:
        load(model.SerializeToString())
    assert caught.value.code == "E262"
