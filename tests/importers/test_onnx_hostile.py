"""Whatever the file: a graph, or one OpenKPUError with its code, soon and in little memory."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from onnx_zoo import build, node, ops

from openkpu.errors import FileFormatError, InputError, OpenKPUError, SetupError, UnsupportedError
from openkpu.graph.ir import Graph
from openkpu.importers.onnx import load

X = {"x": (1, 3, 8, 8)}
W = np.random.default_rng(0).standard_normal((4, 3, 3, 3)).astype(np.float32)
CONV = node("Conv", ["x", "w"], name="c")


def code(model: onnx.ModelProto | bytes, **args: object) -> str:
    data = model if isinstance(model, bytes) else model.SerializeToString()
    with pytest.raises(OpenKPUError) as caught:
        load(data, **args)
    assert "why" in str(caught.value) or caught.value.fix
    return caught.value.code


def graph_or_code(data: bytes) -> Graph | str:
    try:
        graph = load(data)
    except OpenKPUError as error:
        return error.code
    graph.validate()
    return graph


def with_weights(w: np.ndarray) -> onnx.ModelProto:
    return build([CONV], X, {"w": w})


GOOD = with_weights(W).SerializeToString()


def test_not_onnx(tmp_path: Path) -> None:
    assert code(b"") == "E150"
    assert code(b"solver { net: 'x' }\n" * 20) == "E150"
    assert code(np.random.default_rng(0).bytes(5000)) == "E150"
    assert code(onnx.ModelProto().SerializeToString() or b"\x08\x07") == "E151"
    assert code(GOOD[: len(GOOD) // 2]) == "E150"
    for missing in (tmp_path / "nothing.onnx", tmp_path):
        with pytest.raises(OpenKPUError) as caught:
            load(missing)
        assert caught.value.code == "E510"


def test_weights_that_are_not_numbers() -> None:
    bad = W.copy()
    bad[0, 0, 0, :2] = np.nan, np.inf
    with pytest.raises(UnsupportedError, match="tensor 'w' has 2 of 108 values") as caught:
        load(with_weights(bad).SerializeToString())
    assert caught.value.code == "E264"
    assert caught.value.where == "Conv 'c'"


def test_damaged_weights() -> None:
    for change in ("dims", "data", "negative", "type"):
        model = with_weights(W)
        w = model.graph.initializer[0]
        if change == "dims":
            w.dims[0] = 1 << 40
        elif change == "negative":
            w.dims[0] = -4
        elif change == "type":
            w.data_type = 99
        else:
            w.raw_data = w.raw_data[:-5]
        assert code(model) == "E155"


def test_empty_tensors() -> None:
    assert code(with_weights(W[:0])) == "E265"
    assert code(build([node("Relu")], {"x": (1, 0, 8, 8)})) == "E265"
    assert code(build([node("Slice", starts=[3], ends=[3], axes=[2])], X, opset=9)) == "E265"


def test_names() -> None:
    twice = build([node("Relu", ["x"], ["a"]), node("Neg", ["x"], ["a"]), node("Abs", ["a"])], X)
    assert code(twice) == "E154"
    model = with_weights(W)
    model.graph.initializer.append(model.graph.initializer[0])
    assert code(model) == "E154"
    assert code(build([CONV], X)) == "E152"
    circle = [node("Add", ["x", "b"], ["a"]), node("Relu", ["a"], ["b"]), node("Neg", ["b"])]
    assert code(build(circle, X)) == "E153"
    assert code(build([node("Add", ["x", "y"])], X)) == "E153"
    assert code(build([node("Relu", ["x"], ["a"])], X)) == "E269"
    assert code(GOOD, outputs=["z"]) == "E269"


def test_nodes_of_one_name_are_fine() -> None:
    nodes = [node("Relu", ["x"], ["a"], name="n"), node("Neg", ["a"], ["y"], name="n")]
    assert ops(load(build(nodes, X).SerializeToString())) == ["Relu", "Neg"]


def test_input_sizes() -> None:
    open_size = build([node("Relu")], {"x": ("n", 3, "h", "w")})
    with pytest.raises(UnsupportedError, match="input_shapes=") as caught:
        load(open_size.SerializeToString())
    assert caught.value.code == "E260"
    graph = load(open_size.SerializeToString(), input_shapes={"x": (1, 3, 10, 12)})
    assert graph.inputs[0].shape == (1, 3, 10, 12)
    assert load(build([node("Relu")], {"x": ("n", 3, 8, 8)}).SerializeToString()).inputs[0].shape == (1, 3, 8, 8)
    no_shape = build([node("Relu")], X)
    no_shape.graph.input[0].type.tensor_type.ClearField("shape")
    assert code(no_shape) == "E260"
    for wrong in ({"z": (1, 3, 8, 8)}, {"x": (1, 3)}, {"x": (1, 3, 0, 8)}):
        with pytest.raises(InputError) as bad:
            load(open_size.SerializeToString(), input_shapes=wrong)
        assert bad.value.code == "E450"


def test_fixed_batch() -> None:
    reshape = [node("Relu", ["x"], ["r"]), node("Reshape", ["r", "s"])]
    batch = {"x": (4, 3, 8, 8)}
    graph = load(build(reshape, batch, {"s": np.array([4, -1])}).SerializeToString())
    assert graph.outputs[0].shape == (1, 192)
    mixed = build(reshape, batch, {"s": np.array([2, -1])})
    assert code(mixed) == "E268"
    assert code(build([node("ReduceMean", axes=[0])], batch)) == "E268"


def test_what_is_not_taken() -> None:
    assert code(build([node("DynamicQuantizeLinear", ["x"], ["y", "s", "z"])], X)) == "E263"
    assert code(build([node("FooBar", domain="custom")], X)) == "E261"
    assert code(build([node("NoSuchOp")], X)) == "E261"
    assert code(build([node("NonZero")], X)) == "E261"
    assert code(build([node("Relu")], X, opset=6)) == "E157"
    assert code(build([node("Conv", ["x", "x"])], X)) == "E267"
    assert (
        code(build([node("Pad", ["x", "p"], mode="reflect")], X, {"p": np.array([0, 0, 99, 1, 0, 0, 1, 1])})) == "E262"
    )
    pool = node("MaxPool", ["x"], ["y", "positions"], kernel_shape=[2, 2])
    assert code(build([pool, node("Cast", ["positions"], ["z"], to=1)], X, outputs=("z",))) == "E262"
    assert code(build([node("Relu", ["c"])], X, {"c": W})) == "E271"
    assert code(build([node("ReduceMean", axes=[2, 3], keepdims=7)], X)) == "E160"
    assert code(build([node("Resize", ["x", "", "s"], mode="cubic")], X, {"s": np.float32([1, 1, 2, 2])})) == "E262"


def test_constants_that_would_fill_the_memory() -> None:
    huge = np.array([1 << 20, 1 << 20])
    assert code(build([node("ConstantOfShape", ["n"], ["c"]), node("Add", ["x", "c"])], X, {"n": huge})) == "E270"
    assert code(build([node("Expand", ["o", "n"], ["c"]), node("Add", ["x", "c"])], X,
                      {"n": huge, "o": np.float32(1)})) == "E270"  # fmt: skip
    long = {"a": np.int64(0), "b": np.int64(1 << 40), "d": np.int64(1)}
    assert code(build([node("Range", [*long], ["c"]), node("Add", ["x", "c"])], X, long)) == "E270"
    assert code(build([node("Resize", ["x", "", "s"])], X, {"s": np.float32([1, 1, 1e9, 1])})) == "E270"
    many = {"n": np.ones(64, np.int64)}
    assert code(build([node("Expand", ["x", "n"])], X, many)) in ("E160", "E261")
    side = {"m": np.ones((1 << 12, 1 << 12), np.float32)}
    assert code(build([node("MatMul", ["m", "m"], ["c"]), node("Add", ["x", "c"])], X, side)) == "E270"


def calls_of(function: Callable[[], object]) -> int:
    """How many Python functions run: a measure of work that does not depend on the machine."""
    count = 0

    def see(_frame: object, event: str, _arg: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(see)
    try:
        function()
    finally:
        sys.setprofile(None)
    return count


def many_names(count: int) -> bytes:
    names = [f"x{i}" for i in range(count)]
    nodes = [node("Identity", [n], [f"y{n}"]) for n in names] + [node("Sum", [f"y{n}" for n in names], ["s"])]
    return build(nodes, dict.fromkeys(names, (1, 2)), outputs=["s", *(f"y{n}" for n in names)]).SerializeToString()


def test_work_grows_no_faster_than_the_number_of_names() -> None:
    few, many = many_names(200), many_names(800)
    load(few)  # what is imported on first use is not counted
    assert calls_of(lambda: load(many)) < 5 * calls_of(lambda: load(few))
    assert len(load(many).nodes) == 2 * 800 - 1


def test_functions_that_explode_or_call_themselves() -> None:
    opsets = [helper.make_opsetid("", 13), helper.make_opsetid("f", 1)]

    def model(bodies: list[list[onnx.NodeProto]]) -> onnx.ModelProto:
        functions = [helper.make_function("f", f"f{i}", ["a"], ["b"], body, opsets) for i, body in enumerate(bodies)]
        m = build([node("f0", domain="f")], X, functions=functions)
        m.opset_import.append(opsets[1])
        return m

    def twice(i: int) -> list[onnx.NodeProto]:
        return [node(f"f{i}", ["a"], ["t"], domain="f"), node(f"f{i}", ["t"], ["b"], domain="f")]

    assert code(model([*(twice(i + 1) for i in range(40)), [node("Relu", ["a"], ["b"])]])) == "E159"
    assert code(model([[node("f0", ["a"], ["b"], domain="f")]])) == "E153"


def test_without_the_onnx_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(SetupError) as caught:
        load(GOOD)
    assert caught.value.fix == "pip install 'openkpu[onnx]'"


def test_importing_the_importer_does_not_import_onnx() -> None:
    program = "import sys, openkpu.importers.onnx, openkpu.float.session; print('onnx' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_weights_in_another_file(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(with_weights(W), path, save_as_external_data=True, all_tensors_to_one_file=True, location="m.data",
              size_threshold=0)  # fmt: skip
    np.testing.assert_array_equal(load(path).nodes[0].inputs[1].data, W)
    assert code(path.read_bytes()) == "E156"
    (tmp_path / "m.data").unlink()
    with pytest.raises(FileFormatError) as caught:
        load(path)
    assert caught.value.code == "E156"
    model = with_weights(W)
    w = model.graph.initializer[0]
    w.ClearField("raw_data")
    w.data_location = TensorProto.EXTERNAL
    w.external_data.add(key="location", value="../../etc/hostname")
    path.write_bytes(model.SerializeToString())
    with pytest.raises(FileFormatError, match="E156"):
        load(path)


@settings(max_examples=150, deadline=2000)
@given(
    st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 255)), min_size=1, max_size=4), st.integers(0, 40)
)
def test_mutated_bytes(changes: list[tuple[int, int]], cut: int) -> None:
    data = bytearray(GOOD)
    for at, value in changes:
        data[at] = value
    outcome = graph_or_code(bytes(data[: len(data) - cut]))
    assert isinstance(outcome, Graph) or outcome[:2] in ("E1", "E2")


ATTRS = st.dictionaries(
    st.sampled_from(["axis", "axes", "perm", "pads", "kernel_shape", "strides", "split", "starts", "ends", "mode",
                     "scales", "group", "to", "alpha", "keepdims", "min", "epsilon", "auto_pad", "shape", "blocksize"]),
    st.one_of(st.integers(-5, 5), st.sampled_from([2**62, -(2**62)]), st.floats(width=32),
              st.lists(st.integers(-3, 9), min_size=1, max_size=5), st.text("abc", max_size=3)),
    max_size=4,
)  # fmt: skip
OPERATORS = ["Conv", "MaxPool", "AveragePool", "Softmax", "Concat", "Slice", "Pad", "Split", "Transpose", "Reshape",
             "Gemm", "Squeeze", "Unsqueeze", "ReduceMean", "Upsample", "Resize", "Clip", "Flatten", "Gather", "Cast",
             "Expand", "BatchNormalization", "ConvTranspose", "MatMul", "PRelu", "HardSigmoid", "DepthToSpace", "Tile",
             "TopK", "LRN", "ConstantOfShape", "Shape", "Constant", "LSTM", "Einsum", "If", "Loop"]  # fmt: skip


@settings(max_examples=300, deadline=2000)
@given(
    st.sampled_from(OPERATORS), ATTRS, st.lists(st.sampled_from(["x", "f", "i", "s", "v", ""]), max_size=4),
    st.sampled_from([7, 9, 10, 11, 13, 18, 21]),
)  # fmt: skip
def test_any_attributes_and_inputs(op: str, attrs: dict, inputs: list[str], opset: int) -> None:
    constants = {"f": W, "i": np.array([1, -1, 3]), "s": np.float32(2), "v": np.ones(3, np.float32)}
    model = build([node(op, inputs, ["m"], **attrs), node("Relu", ["m"])], X, constants, opset=opset)
    outcome = graph_or_code(model.SerializeToString())
    assert isinstance(outcome, Graph) or outcome[:2] in ("E1", "E2")
