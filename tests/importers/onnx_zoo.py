"""Small ONNX models for tests, and the comparison of the imported graph with the model itself in onnxruntime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import helper, numpy_helper

from openkpu.float.session import FloatSession
from openkpu.graph.ir import Graph
from openkpu.importers.onnx import load

OPSETS = (7, 9, 11, 13, 17, 18, 21, 24)


def build(
    nodes: Sequence[Any],
    shapes: Mapping[str, Sequence[Any]],
    constants: Mapping[str, Any] | None = None,
    *,
    opset: int = 13,
    outputs: Sequence[str] = ("y",),
    elem: int = onnx.TensorProto.FLOAT,
    **extra: Any,
) -> onnx.ModelProto:
    """Make a model without any shapes but those of its inputs."""
    graph = helper.make_graph(
        list(nodes),
        "test",
        [helper.make_tensor_value_info(n, elem, list(s)) for n, s in shapes.items()],
        [onnx.ValueInfoProto(name=o) for o in outputs],
        [numpy_helper.from_array(np.asarray(a), n) for n, a in (constants or {}).items()],
    )
    for o in graph.output:
        o.type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8, **extra)


def run(model: onnx.ModelProto, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """Run a model in onnxruntime as it is."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return list(session.run(None, dict(feeds)))


def check(model: onnx.ModelProto, *, seed: int = 0, **load_args: Any) -> Graph:
    """Import, run both, compare; returns the graph."""
    graph = load(model.SerializeToString(), **load_args)
    graph.validate()
    rng = np.random.default_rng(seed)
    feeds = {t.name: rng.standard_normal(t.shape).astype(t.dtype) for t in graph.inputs}
    wanted = run(model, feeds)
    got = FloatSession(graph).run(feeds)
    for output, reference, tensor in zip(model.graph.output, wanted, graph.outputs, strict=True):
        assert tensor.name == output.name
        assert tensor.shape == reference.shape
        np.testing.assert_allclose(got[output.name], reference, rtol=1e-4, atol=1e-5)
    return graph


def ops(graph: Graph) -> list[str]:
    """Operators in order."""
    return [n.op for n in graph.nodes]


def node(op: str, inputs: Sequence[str] = ("x",), outputs: Sequence[str] = ("y",), **attrs: Any) -> Any:
    """Make a node."""
    return helper.make_node(op, list(inputs), list(outputs), **attrs)
