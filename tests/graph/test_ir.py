import numpy as np
import pytest
from graph_builders import Builder

from openkpu.graph.ir import Graph, Node, Tensor, text


def test_text_is_stable():
    b = Builder(1, 3, 8, 8)
    t = b.relu(b.conv(b.x, 4, 3, stride=(2, 2)))
    graph = b.graph(b.unary("Clip", t, min=0.0, max=6.0))
    assert text(graph) == (
        "graph test\n"
        "  input x: 1x3x8x8\n"
        "  t3: 1x4x4x4 = Conv(x, const[4, 3, 3, 3], const[4]) dilations=(1,1) group=1 pads=(1,1,1,1) strides=(2,2)"
        "  # Conv_3\n"
        "  t4: 1x4x4x4 = Relu(t3)  # Relu_4\n"
        "  t5: 1x4x4x4 = Clip(t4) max=6 min=0  # Clip_5\n"
        "  output t5\n"
    )


def test_sort_orders_and_drops_what_no_output_needs():
    b = Builder(1, 2, 4, 4)
    first = b.relu(b.x)
    second = b.relu(first)
    b.relu(b.x)
    graph = Graph([b.x], [second], b.nodes[::-1])
    graph.sort()
    assert [n.output for n in graph.nodes] == [first, second]
    graph.validate()


def test_sort_refuses_a_cycle():
    a, b = Tensor("a", (1,)), Tensor("b", (1,))
    graph = Graph([], [a], [Node("Relu", [b], [a]), Node("Relu", [a], [b])])
    with pytest.raises(ValueError, match="cycle"):
        graph.sort()


def test_users_and_consumers_count_a_node_once():
    b = Builder(1, 2, 4, 4)
    t = b.relu(b.x)
    b.add(t, t)
    graph = b.graph(b.relu(t))
    assert graph.users()[id(t)] == graph.consumers(t) == [b.nodes[1], b.nodes[2]]
    assert graph.is_output(graph.outputs[0])
    assert not graph.is_output(t)


def test_replace_uses_reaches_nodes_and_outputs():
    b = Builder(1, 2, 4, 4)
    t = b.relu(b.x)
    graph = b.graph(b.relu(t), t)
    graph.replace_uses(t, b.x)
    assert graph.nodes[1].inputs == [b.x]
    assert graph.outputs[1] is b.x


def test_fresh_names():
    b = Builder(1, 2, 4, 4)
    graph = b.graph(b.relu(b.x))
    assert graph.fresh("new") == "new"
    assert graph.fresh("x") == "x.1"
    assert graph.fresh("t1") == "t1.1"


def broken_order(b):
    graph = b.graph(b.relu(b.relu(b.x)))
    graph.nodes.reverse()
    return graph


def broken_producer(b):
    t = b.relu(b.x)
    t.producer = None
    return b.graph(t)


def broken_names(b):
    t = b.relu(b.x)
    t.name = "x"
    return b.graph(t)


def broken_output(b):
    return b.graph(Tensor("nowhere", (1,)))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (broken_order, "before it is produced"),
        (broken_producer, "does not know its producer"),
        (broken_names, "two tensors"),
        (broken_output, "never produced"),
    ],
)
def test_validate_names_what_is_broken(make, message):
    with pytest.raises(ValueError, match=message):
        make(Builder(1, 2, 4, 4)).validate()


def test_constants():
    graph = Builder(1, 2).graph()
    t = graph.constant("c", np.ones((2, 3), np.float32))
    assert t.is_constant
    assert (t.shape, t.dtype) == ((2, 3), "float32")
