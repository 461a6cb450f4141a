"""Graphs go out as ONNX: the registry, several nodes for one, names that collide."""

import numpy as np
import onnx
import pytest

from openkpu.errors import UnsupportedError
from openkpu.float import export
from openkpu.float.export import exporter, to_onnx
from openkpu.float.session import FloatSession
from openkpu.graph.ir import Graph, Node, Tensor

CANONICAL = [
    "Conv",
    "ConvTranspose",
    "BatchNormalization",
    "Gemm",
    "MatMul",
    "MaxPool",
    "AveragePool",
    "GlobalAveragePool",
    "Relu",
    "Sigmoid",
    "Tanh",
    "HardSwish",
    "Softplus",
    "Mish",
    "Abs",
    "Neg",
    "Exp",
    "Log",
    "Sqrt",
    "Floor",
    "Ceil",
    "Erf",
    "Reciprocal",
    "Silu",
    "LeakyRelu",
    "Elu",
    "HardSigmoid",
    "Clip",
    "PRelu",
    "Add",
    "Sub",
    "Mul",
    "Div",
    "Min",
    "Max",
    "Pow",
    "Concat",
    "Pad",
    "Reshape",
    "Transpose",
    "Softmax",
    "Resize",
    "Slice",
]


def constant(name: str, *values: float) -> Tensor:
    return Tensor(name, (len(values),), "float32", np.array(values, np.float32))


def graph_of(op: str, *others: Tensor, **attrs: object) -> tuple[Graph, Tensor]:
    x = Tensor("x", (1, 2))
    node = Node(op, [x, *others], [Tensor("y", (1, 2))], dict(attrs), ("here",))
    return Graph([x], [node.output], [node]), x


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "_EXPORTERS", dict(export._EXPORTERS))


@pytest.mark.parametrize("op", CANONICAL)
def test_every_canonical_operator_has_an_exporter(op: str) -> None:
    assert op in export._EXPORTERS


@pytest.mark.parametrize(
    ("op", "attrs", "wanted"),
    [
        ("Silu", {}, lambda x: x / (1 + np.exp(-x))),
        ("Mish", {}, lambda x: x * np.tanh(np.log1p(np.exp(x)))),
        ("HardSwish", {}, lambda x: x * np.clip(x / 6 + 0.5, 0, 1)),
        ("Clip", {"min": -0.5, "max": np.inf}, lambda x: np.maximum(x, -0.5)),
        ("Clip", {"min": -np.inf, "max": np.inf}, lambda x: x),
        ("HardSigmoid", {"alpha": 0.3, "beta": 0.4}, lambda x: np.clip(0.3 * x + 0.4, 0, 1)),
    ],
)
def test_functions(op: str, attrs: dict, wanted) -> None:
    graph, _ = graph_of(op, **attrs)
    x = np.array([[-2.0, 1.5]], np.float32)
    np.testing.assert_allclose(FloatSession(graph).run(x)["y"], wanted(x), rtol=1e-6)


def test_the_model_is_valid_onnx() -> None:
    graph, _ = graph_of("Add", constant("c", 1, 2))
    model = to_onnx(graph)
    onnx.checker.check_model(model, full_check=True)
    assert (model.opset_import[0].version, model.ir_version) == (17, 8)


def test_one_node_may_become_several(registry: None) -> None:
    @exporter("Twice")
    def twice(node: Node, emit: export.Emitter) -> None:
        emit.node("Mul", [node.inputs[0].name, emit.const("c", np.float32(2))], [f"{node.output.name}.pre"])
        emit.node("Add", [f"{node.output.name}.pre", node.inputs[1].name], [node.output.name])

    graph, _ = graph_of("Twice", constant("c", 1, 1))
    got = FloatSession(graph, [Tensor("y.pre", (1, 2))]).run(np.array([[3, 4]], np.float32))
    assert got["y"].tolist() == [[7, 9]]
    assert got["y.pre"].tolist() == [[6, 8]]


def test_unknown_operator_and_unknown_output() -> None:
    with pytest.raises(UnsupportedError, match="Einsum") as caught:
        to_onnx(graph_of("Einsum")[0])
    assert (caught.value.code, caught.value.where) == ("E280", "Einsum 'here'")
    with pytest.raises(UnsupportedError) as caught:
        to_onnx(graph_of("Relu")[0], extra_outputs=[Tensor("z", (1, 2))])
    assert caught.value.code == "E281"


def test_constants_of_one_name_and_a_constant_called_like_a_tensor() -> None:
    x = Tensor("x", (1, 2))
    a = Node("Add", [x, constant("c", 1, 1)], [Tensor("a", (1, 2))])
    b = Node("Mul", [a.output, constant("c", 10, 20)], [Tensor("b", (1, 2))])
    c = Node("Sub", [b.output, constant("x", 5, 5)], [Tensor("y", (1, 2))])
    graph = Graph([x], [c.output], [a, b, c])
    assert FloatSession(graph).run(np.array([[1, 2]], np.float32))["y"].tolist() == [[15, 55]]
    assert all(n.output.producer is n for n in graph.nodes)
    assert [t.name for n in graph.nodes for t in n.inputs if t.is_constant] == ["c", "c", "x"]
