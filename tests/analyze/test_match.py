from dataclasses import replace

import numpy as np
import program_builders as build

from openkpu.analyze.match import match
from openkpu.graph.ir import Graph, Node, Tensor


def conv(x: Tensor, oc: int, k: int, pool: str = "none", depthwise: bool = False, vector: bool = False) -> Node:
    ic = x.shape[1]
    w = Tensor("w", (oc, 1 if depthwise else ic, k, k), data=np.zeros((oc, 1 if depthwise else ic, k, k), np.float32))
    stride = 2 if pool == "max2" else 1
    shape = (1, oc) if vector else (1, oc, x.shape[2] // stride, x.shape[3] // stride)
    return Node("KpuConv", [x, w], [Tensor(f"t{oc}", shape)], {"depthwise": depthwise, "pool": pool, "vector": vector})


def chain() -> tuple[Graph, list[Node]]:
    x = Tensor("x", (1, 3, 8, 8))
    a = conv(x, 4, 3, "max2")
    b = conv(a.output, 4, 3, depthwise=True)
    c = conv(b.output, 6, 1)
    nodes = [a, b, c]
    return Graph([x], [c.output], nodes), nodes


FIRST = build.conv(0, 64, 3, 4, 8, 8, k=3, pool=1)
DEPTHWISE = build.conv(64, 128, 4, 4, 4, 4, k=3, depthwise=True)
LAST = build.conv(128, 192, 4, 6, 4, 4)
COPY = build.conv(128, 256, 4, 4, 4, 4, depthwise=True)


def test_layers_are_found_in_order():
    graph, nodes = chain()
    assert match(graph, [FIRST, DEPTHWISE, LAST]) == dict(enumerate(nodes))


def test_copies_and_repeats_are_passed_over():
    graph, (a, b, c) = chain()
    again = replace(LAST, main_output=build.main(0, build.DType.U8, 6, 4, 4))
    assert match(graph, [FIRST, COPY, DEPTHWISE, COPY, LAST, again]) == {0: a, 2: b, 4: c}


def test_another_structure_is_no_match():
    graph, _ = chain()
    assert match(graph, [FIRST, LAST]) is None
    assert match(graph, [DEPTHWISE, FIRST, LAST]) is None
    assert match(graph, []) is None


def test_a_vector_layer_is_a_4x4_map():
    x = Tensor("x", (1, 12))
    node = conv(x, 5, 1, vector=True)
    assert match(Graph([x], [node.output], [node]), [build.conv(0, 64, 12, 5, 4, 4)]) == {0: node}


def test_cpu_steps_do_not_count():
    graph, nodes = chain()
    assert match(graph, [build.fully_connected(0, 64, 4, 4), FIRST, DEPTHWISE, LAST]) == dict(enumerate(nodes, 1))
