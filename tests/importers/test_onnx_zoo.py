"""Every operator in its canonical form, over the opsets: the import computes what onnxruntime makes of the file."""

import numpy as np
import onnx
import pytest
from onnx_zoo import OPSETS, build, check, node, ops

RNG = np.random.default_rng(1)
F = (1, 4, 5, 6)


def f32(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def i64(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize(
    ("op", "attrs", "expected"),
    [
        ("Relu", {}, ["Relu"]),
        ("Sigmoid", {}, ["Sigmoid"]),
        ("Tanh", {}, ["Tanh"]),
        ("Softplus", {}, ["Softplus"]),
        ("Abs", {}, ["Abs"]),
        ("Neg", {}, ["Neg"]),
        ("Exp", {}, ["Exp"]),
        ("Floor", {}, ["Floor"]),
        ("Ceil", {}, ["Ceil"]),
        ("Reciprocal", {}, ["Reciprocal"]),
        ("LeakyRelu", {}, ["LeakyRelu"]),
        ("LeakyRelu", {"alpha": 0.2}, ["LeakyRelu"]),
        ("Elu", {"alpha": 0.7}, ["Elu"]),
        ("HardSigmoid", {}, ["HardSigmoid"]),
        ("HardSigmoid", {"alpha": 1 / 6, "beta": 0.5}, ["HardSigmoid"]),
        ("GlobalAveragePool", {}, ["GlobalAveragePool"]),
        ("GlobalMaxPool", {}, ["MaxPool"]),
        ("Flatten", {}, ["Reshape"]),
        ("Flatten", {"axis": 2}, ["Reshape"]),
        ("Flatten", {"axis": 4}, ["Reshape"]),
        ("Transpose", {}, ["Transpose"]),
        ("Transpose", {"perm": [0, 2, 3, 1]}, ["Transpose"]),
        ("MaxPool", {"kernel_shape": [2, 2], "strides": [2, 2]}, ["MaxPool"]),
        ("AveragePool", {"kernel_shape": [5, 6]}, ["GlobalAveragePool"]),
        ("AveragePool", {"kernel_shape": [3, 2], "pads": [1, 0, 1, 1], "count_include_pad": 1}, ["AveragePool"]),
    ],
)
def test_one_input(op: str, attrs: dict, expected: list[str], opset: int) -> None:
    assert ops(check(build([node(op, **attrs)], {"x": F}, opset=opset))) == expected


@pytest.mark.parametrize("axis", [None, 1, 2, 3, -1])
@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax"])
@pytest.mark.parametrize("opset", OPSETS)
def test_softmax(opset: int, op: str, axis: int | None) -> None:
    attrs = {} if axis is None else {"axis": axis}
    graph = check(build([node(op, **attrs)], {"x": F}, opset=opset))
    flattened = opset < 13 and axis in (None, 1, 2)
    assert ("Reshape" in ops(graph)) == flattened


def test_old_softmax_of_a_vector_needs_no_reshape() -> None:
    assert ops(check(build([node("Softmax")], {"x": (1, 10)}, opset=11))) == ["Softmax"]


@pytest.mark.parametrize(("op", "opset"), [("HardSwish", 14), ("Mish", 18), ("Erf", 9), ("HardSwish", 21)])
def test_newer_functions(op: str, opset: int) -> None:
    assert ops(check(build([node(op)], {"x": F}, opset=opset))) == [op]


@pytest.mark.parametrize(
    ("op", "opset", "attrs"),
    [
        ("Gelu", 20, {}),
        ("Gelu", 20, {"approximate": "tanh"}),
        ("Selu", 13, {}),
        ("Selu", 7, {"alpha": 1.5, "gamma": 2.0}),
    ],
)
def test_functions_that_are_written_out(op: str, opset: int, attrs: dict) -> None:
    graph = check(build([node(op, name="here", **attrs)], {"x": F}, opset=opset))
    assert op not in ops(graph)
    assert {n.source for n in graph.nodes} == {("here",)}


@pytest.mark.parametrize("limits", [(0.0, 6.0), (-1.0, None), (None, 0.5), (None, None)])
@pytest.mark.parametrize("opset", OPSETS)
def test_clip(opset: int, limits: tuple[float | None, float | None]) -> None:
    given = {k: v for k, v in zip(("min", "max"), limits, strict=True) if v is not None}
    if opset < 11:
        model = build([node("Clip", **given)], {"x": F}, opset=opset)
    else:
        names = [k if k in given else "" for k in ("min", "max")]
        model = build(
            [node("Clip", ["x", *names])], {"x": F}, {k: np.float32(v) for k, v in given.items()}, opset=opset
        )
    (clip,) = check(model).nodes
    assert (clip.attrs["min"], clip.attrs["max"]) == (given.get("min", -np.inf), given.get("max", np.inf))


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div", "Pow"])
def test_binary(op: str, opset: int) -> None:
    check(build([node("Abs", ["x"], ["a"]), node(op, ["a", "c"])], {"x": F}, {"c": np.float32(2.5)}, opset=opset))
    check(build([node("Abs", ["x"], ["a"]), node(op, ["c", "a"])], {"x": F}, {"c": abs(f32(4, 1, 1))}, opset=opset))


@pytest.mark.parametrize("opset", [8, 13, 21])
@pytest.mark.parametrize(("op", "ir"), [("Sum", "Add"), ("Max", "Max"), ("Min", "Min")])
def test_variadic(op: str, ir: str, opset: int) -> None:
    model = build([node(op, ["x", "c", "d"])], {"x": F}, {"c": f32(*F), "d": f32(1, 4, 1, 1)}, opset=opset)
    assert ops(check(model)) == [ir, ir]
    assert ops(check(build([node("Mean", ["x", "c"])], {"x": F}, {"c": f32(*F)}, opset=opset))) == ["Add", "Mul"]


@pytest.mark.parametrize("opset", OPSETS)
def test_batch_normalization_prelu_and_dropout(opset: int) -> None:
    stats = {"s": f32(4), "b": f32(4), "m": f32(4), "v": abs(f32(4)) + 0.1, "slope": f32(4, 1, 1)}
    nodes = [
        node("Dropout", ["x"], ["d"]),
        node("BatchNormalization", ["d", "s", "b", "m", "v"], ["n"], epsilon=1e-3),
        node("PRelu", ["n", "slope"], ["p"]),
        node("Identity", ["p"], ["y"]),
    ]
    graph = check(build(nodes, {"x": F}, stats, opset=opset))
    assert ops(graph) == ["BatchNormalization", "PRelu"]
    assert [n.source for n in graph.nodes] == [("n",), ("p",)]


@pytest.mark.parametrize("opset", OPSETS)
def test_squeeze_unsqueeze(opset: int) -> None:
    def axes(op: str, x: str, y: str, *values: int) -> tuple:
        if opset < 13:
            return node(op, [x], [y], axes=values), {}
        return node(op, [x, f"{y}_axes"], [y]), {f"{y}_axes": i64(*values)}

    pool = node("GlobalAveragePool", ["x"], ["g"])
    a, ca = axes("Squeeze", "g", "s", 2, 3)
    b, cb = axes("Unsqueeze", "s", "y", 0, 3)
    graph = check(build([pool, a, b], {"x": F}, {**ca, **cb}, opset=opset))
    assert graph.outputs[0].shape == (1, 1, 4, 1)
    assert check(build([pool, node("Squeeze", ["g"])], {"x": F}, opset=opset)).outputs[0].shape == (4,)


@pytest.mark.parametrize("opset", OPSETS)
def test_pad(opset: int) -> None:
    def model(pads: list[int], value: float) -> onnx.ModelProto:
        if opset < 11:
            return build([node("Pad", pads=pads, value=value)], {"x": F}, opset=opset)
        return build([node("Pad", ["x", "p", "v"])], {"x": F}, {"p": i64(*pads), "v": np.float32(value)}, opset=opset)

    assert ops(check(model([0, 0, 1, 2, 0, 0, 3, 0], 0.5))) == ["Pad"]
    assert ops(check(model([0, 0, 1, -2, 0, 0, -1, 1], 0.0))) == ["Slice", "Pad"]
    assert ops(check(model([0, 0, -1, 0, 0, 0, 0, 0], 0.0))) == ["Slice"]


def test_pad_with_axes() -> None:
    constants = {"p": i64(1, 2), "v": np.float32(0), "a": i64(-1)}
    assert check(build([node("Pad", ["x", "p", "v", "a"])], {"x": F}, constants, opset=18)).outputs[0].shape == (
        1,
        4,
        5,
        9,
    )


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize(
    ("starts", "ends", "axes", "steps"),
    [
        ((1,), (3,), (1,), (1,)),
        ((0, -3), (2**31, 2**62), (2, 3), (1, 1)),
        ((1,), (6,), (3,), (2,)),
        ((-1,), (-(2**40),), (2,), (-1,)),
    ],
)  # fmt: skip
def test_slice(opset: int, starts: tuple, ends: tuple, axes: tuple, steps: tuple) -> None:
    if opset < 10:
        if any(s != 1 for s in steps):
            pytest.skip("no steps before opset 10")
        model = build([node("Slice", starts=starts, ends=ends, axes=axes)], {"x": F}, opset=opset)
    else:
        bounds = {"s": i64(*starts), "e": i64(*ends), "a": i64(*axes), "t": i64(*steps)}
        model = build([node("Slice", ["x", *bounds])], {"x": F}, bounds, opset=opset)
    assert ops(check(model)) == ["Slice"]


@pytest.mark.parametrize("opset", OPSETS)
def test_split_and_concat(opset: int) -> None:
    if opset < 13:
        split, constants = node("Split", ["x"], ["a", "b"], axis=1, split=[1, 3]), {}
    else:
        split, constants = node("Split", ["x", "sizes"], ["a", "b"], axis=1), {"sizes": i64(1, 3)}
    graph = check(build([split, node("Concat", ["b", "a", "b"], axis=-3)], {"x": F}, constants, opset=opset))
    assert ops(graph) == ["Slice", "Slice", "Concat"]
    assert graph.nodes[-1].attrs == {"axis": 1}


def test_split_by_number_of_outputs() -> None:
    split = node("Split", ["x"], ["a", "b"], axis=2, num_outputs=2)
    graph = check(build([split], {"x": F}, opset=18, outputs=("a", "b")))
    assert [t.shape for t in graph.outputs] == [(1, 4, 3, 6), (1, 4, 2, 6)]


@pytest.mark.parametrize("keepdims", [0, 1])
@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize(
    ("axes", "ir"), [((2, 3), "GlobalAveragePool"), ((-1,), "AveragePool"), ((3, -2), "GlobalAveragePool")]
)
def test_reduce_mean(axes: tuple, ir: str, opset: int, keepdims: int) -> None:
    if opset < 18:
        model = build([node("ReduceMean", axes=axes, keepdims=keepdims)], {"x": F}, opset=opset)
    else:
        model = build([node("ReduceMean", ["x", "a"], keepdims=keepdims)], {"x": F}, {"a": i64(*axes)}, opset=opset)
    assert ops(check(model)) == [ir] + ["Reshape"] * (not keepdims)


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_resize_by_scales(opset: int, mode: str) -> None:
    scales = np.array([1, 1, 2, 3], np.float32)
    if opset < 9:
        model = build([node("Upsample", mode=mode, scales=scales.tolist())], {"x": F}, opset=opset)
    elif opset < 10:
        model = build([node("Upsample", ["x", "s"], mode=mode)], {"x": F}, {"s": scales}, opset=opset)
    else:
        model = build([node("Resize", ["x", "", "s"] if opset > 12 else ["x", "r", "s"], mode=mode)], {"x": F},
                      {"s": scales, "r": f32(0)}, opset=opset)  # fmt: skip
    (resize,) = check(model).nodes
    if mode == "nearest" and opset < 11:
        assert (resize.attrs["coordinate"], resize.attrs["rounding"]) == ("asymmetric", "floor")


@pytest.mark.parametrize("scale", [2.0, 0.5])
@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_resize_10(mode: str, scale: float) -> None:
    scales = np.array([1, 1, scale, scale], np.float32)
    check(build([node("Resize", ["x", "s"], mode=mode)], {"x": (1, 2, 6, 8)}, {"s": scales}, opset=10))


@pytest.mark.parametrize("size", [(10, 12), (5, 18), (7, 9), (3, 4)])
@pytest.mark.parametrize("rounding", ["floor", "ceil", "round_prefer_floor", "round_prefer_ceil"])
@pytest.mark.parametrize("coordinate", ["asymmetric", "half_pixel", "align_corners", "pytorch_half_pixel"])
@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_resize_to_sizes(mode: str, coordinate: str, rounding: str, size: tuple[int, int]) -> None:
    attrs = {"mode": mode, "coordinate_transformation_mode": coordinate, "nearest_mode": rounding}
    model = build([node("Resize", ["x", "", "", "z"], **attrs)], {"x": F}, {"z": i64(1, 4, *size)}, opset=13)
    assert ops(check(model)) == ["Resize"]


def test_doubling_becomes_plain_whatever_the_rule() -> None:
    attrs = {"mode": "nearest", "coordinate_transformation_mode": "half_pixel", "nearest_mode": "round_prefer_ceil"}
    scales = {"s": np.array([1, 1, 2, 2], np.float32)}
    (resize,) = check(build([node("Resize", ["x", "", "s"], **attrs)], {"x": F}, scales, opset=13)).nodes
    assert (resize.attrs["coordinate"], resize.attrs["rounding"]) == ("asymmetric", "floor")


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize(("trans_a", "trans_b", "rows"), [(0, 0, 1), (0, 1, 1), (1, 0, 1), (0, 1, 3), (1, 1, 3)])
@pytest.mark.parametrize("bias", [(7,), (1, 7), (1,), ()])
def test_gemm(opset: int, trans_a: int, trans_b: int, rows: int, bias: tuple) -> None:
    attrs = {"transA": trans_a, "transB": trans_b, "alpha": 0.5, "beta": 2.0}
    constants = {"w": f32(7, 5) if trans_b else f32(5, 7), "b": f32(*bias)}
    shape = (5, rows) if trans_a else (rows, 5)
    if trans_a or rows > 1:
        # a first dimension above 1 of a model input is a batch: get the matrix from inside
        nodes = [node("Reshape", ["x", "shape"], ["m"]), node("Gemm", ["m", "w", "b"], **attrs)]
        graph = check(build(nodes, {"x": (1, 5 * rows)}, {**constants, "shape": i64(*shape)}, opset=opset))
    else:
        graph = check(build([node("Gemm", ["x", "w", "b"], **attrs)], {"x": shape}, constants, opset=opset))
    assert ops(graph)[-1] == ("Gemm" if rows == 1 else "Add")


def test_matmul() -> None:
    assert ops(check(build([node("MatMul", ["x", "w"])], {"x": (1, 5)}, {"w": f32(5, 7)}))) == ["Gemm"]
    assert ops(check(build([node("MatMul", ["x", "w"])], {"x": (1, 3, 5)}, {"w": f32(5, 7)}))) == ["MatMul"]
    assert ops(check(build([node("MatMul", ["w", "x"])], {"x": (1, 5, 3)}, {"w": f32(7, 5)}))) == ["MatMul"]


@pytest.mark.parametrize(
    ("index", "axis", "expected"), [(i64(0, 2), 1, ["Slice"]), (np.int64(-1), 2, ["Slice", "Reshape"])]
)
def test_gather_of_fixed_positions(index: np.ndarray, axis: int, expected: list[str]) -> None:
    assert ops(check(build([node("Gather", ["x", "i"], axis=axis)], {"x": F}, {"i": index}))) == expected


@pytest.mark.parametrize("opset", OPSETS)
def test_shape_computations_fold(opset: int) -> None:
    nodes = [
        node("Shape", ["x"], ["s"]),
        node("Constant", [], ["zero"], value=onnx.numpy_helper.from_array(i64(0))),
        node("Constant", [], ["minus"], value=onnx.numpy_helper.from_array(i64(-1))),
        node("Gather", ["s", "zero"], ["n"], axis=0),
        node("Mul", ["n", "n"], ["nn"]),
        node("Cast", ["nn"], ["nf"], to=onnx.TensorProto.FLOAT),
        node("Floor", ["nf"], ["floor"]),
        node("Cast", ["floor"], ["ni"], to=onnx.TensorProto.INT64),
        node("Concat", ["ni", "minus"], ["target"], axis=0),
        node("Reshape", ["x", "target"], ["y"]),
    ]
    assert ops(check(build(nodes, {"x": F}, opset=opset))) == ["Reshape"]


def test_moves_that_change_nothing_vanish() -> None:
    nodes = [
        node("Reshape", ["x", "same"], ["a"]),
        node("Transpose", ["a"], ["b"], perm=[0, 1, 2, 3]),
        node("Pad", ["b", "none"], ["c"]),
        node("Cast", ["c"], ["d"], to=onnx.TensorProto.FLOAT),
        node("Relu", ["d"], ["e"]),
        node("Dropout", ["e"], ["y"]),
    ]
    graph = check(build(nodes, {"x": F}, {"same": i64(0, 4, -1, 6), "none": i64(*[0] * 8)}))
    assert ops(graph) == ["Relu"]
    assert graph.outputs[0].name == "y"


def test_if_with_a_known_condition_takes_its_branch() -> None:
    def branch(op: str) -> onnx.GraphProto:
        out = onnx.helper.make_tensor_value_info("inner", onnx.TensorProto.FLOAT, None)
        return onnx.helper.make_graph([node(op, ["x"], ["inner"])], "branch", [], [out])

    choice = onnx.helper.make_node("If", ["c"], ["y"], then_branch=branch("Relu"), else_branch=branch("Neg"))
    assert ops(check(build([choice], {"x": F}, {"c": np.array(False)}))) == ["Neg"]


def test_local_functions_are_put_in_place() -> None:
    body = [node("Sigmoid", ["a"], ["s"]), node("Mul", ["a", "s"], ["b"])]
    silu = onnx.helper.make_function("local", "Silu", ["a"], ["b"], body, [onnx.helper.make_opsetid("", 13)])
    model = build([node("Silu", domain="local")], {"x": F}, functions=[silu])
    model.opset_import.append(onnx.helper.make_opsetid("local", 1))
    assert ops(check(model)) == ["Sigmoid", "Mul"]


def test_outputs_cut_the_graph() -> None:
    nodes = [node("Relu", ["x"], ["r"]), node("Neg", ["r"], ["n"]), node("FooBar", ["n"], domain="custom")]
    from openkpu.importers.onnx import load

    graph = load(build(nodes, {"x": F}).SerializeToString(), outputs=["r", "n"])
    assert [t.name for t in graph.outputs] == ["r", "n"]
    assert ops(graph) == ["Relu", "Neg"]


def test_one_tensor_as_two_outputs() -> None:
    nodes = [node("Relu", ["x"], ["a"]), node("Identity", ["a"], ["b"]), node("Identity", ["x"], ["c"])]
    graph = check(build(nodes, {"x": F}, outputs=("a", "b", "c")))
    assert ops(graph) == ["Relu", "Reshape", "Reshape"]


def test_unsorted_nodes_and_wrong_shapes_in_the_file() -> None:
    model = build([node("Neg", ["r"], ["y"]), node("Relu", ["x"], ["r"])], {"x": F})
    model.graph.value_info.append(onnx.helper.make_tensor_value_info("r", onnx.TensorProto.FLOAT, [9, 9]))
    from openkpu.importers.onnx import load

    graph = load(model.SerializeToString())
    assert [n.output.shape for n in graph.nodes] == [F, F]
    assert ops(graph) == ["Relu", "Neg"]


def test_half_and_double_precision_become_float32() -> None:
    from openkpu.importers.onnx import load

    for kind, dtype in ((onnx.TensorProto.FLOAT16, np.float16), (onnx.TensorProto.DOUBLE, np.float64)):
        nodes = [node("Mul", ["x", "c"], ["m"]), node("Cast", ["m"], to=onnx.TensorProto.FLOAT)]
        graph = load(build(nodes, {"x": F}, {"c": np.array([1.5], dtype)}, elem=kind).SerializeToString())
        assert ops(graph) == ["Mul"]
        assert {t.dtype for n in graph.nodes for t in (*n.inputs, *n.outputs)} == {"float32"}


@pytest.mark.parametrize(("limit", "expected"), [(20, ["Softplus"]), (1, ["Greater", "Softplus", "Where"])])
def test_softplus_as_pytorch_writes_it(limit: float, expected: list[str]) -> None:
    from openkpu.importers.onnx import load

    nodes = [
        node("Mul", ["x", "one"], ["scaled"]),
        node("Softplus", ["scaled"], ["soft"]),
        node("Div", ["soft", "one"], ["unscaled"]),
        node("Greater", ["scaled", "limit"], ["large"]),
        node("Where", ["large", "x", "unscaled"]),
    ]
    model = build(nodes, {"x": F}, {"one": np.float32(1), "limit": np.float32(limit)})
    assert sorted(ops(load(model.SerializeToString()))) == expected
    if limit == 20:
        check(model)


@pytest.mark.parametrize(
    ("op", "inputs", "value", "vanishes"),
    [("Add", ["x", "c"], 0, True), ("Add", ["c", "x"], 0, True), ("Mul", ["c", "x"], 1, True),
     ("Div", ["x", "c"], 1, True),
     ("Sub", ["x", "c"], 0, True), ("Sub", ["c", "x"], 0, False), ("Div", ["c", "x"], 1, False),
     ("Mul", ["x", "c"], 0, False)],
)  # fmt: skip
def test_adding_nothing_vanishes(op: str, inputs: list[str], value: int, vanishes: bool) -> None:
    nodes = [node("Neg", ["x"], ["n"]), node(op, [{"x": "n"}.get(i, i) for i in inputs])]
    graph = check(build(nodes, {"x": F}, {"c": np.full((4, 1, 1), value, np.float32)}))
    assert ops(graph) == (["Neg"] if vanishes else ["Neg", op])


def test_integer_input_that_is_only_cast() -> None:
    from openkpu.importers.onnx import load

    nodes = [node("Cast", ["x"], ["f"], to=onnx.TensorProto.FLOAT), node("Relu", ["f"])]
    graph = load(build(nodes, {"x": F}, elem=onnx.TensorProto.UINT8).SerializeToString())
    assert (ops(graph), graph.inputs[0].dtype) == (["Relu"], "float32")


def test_unknown_standard_operator_keeps_its_name() -> None:
    from openkpu.importers.onnx import load

    (kept,) = load(build([node("DepthToSpace", blocksize=2)], {"x": (1, 4, 5, 6)}).SerializeToString()).nodes
    assert (kept.op, kept.output.shape, kept.attrs["blocksize"]) == ("DepthToSpace", (1, 1, 10, 12), 2)
