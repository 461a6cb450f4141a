"""Write a transposed convolution as an ordinary one whose channels are the pixels between, and a pixel shuffle.

before: ``y = ConvTranspose(x, w, b)`` with stride s
after:  ``y = Shuffle(Conv(x, w', b'))``: channel ``(sy, sx, c)`` of the convolution is pixel ``(s*Y + sy, s*X + sx)``

Exact: output row ``s*Y + r`` adds up the taps ``k`` with ``k = r + pad (mod s)``, which meet input rows near Y: at most
``ceil(k / s) + 1`` of them, so 2x2 with stride 2 is a 1x1 convolution and 4x4 with stride 2 and padding 1 is a 3x3
one. The order of the channels makes the shuffle one transpose of four dimensions. What follows channel by channel
(batch norm, functions, constants) moves before the shuffle. V4's runtime has the operator on the CPU; with few taps a
pixel (a kernel for each channel) that can be faster than the shuffle, and the estimate decides.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from openkpu.estimate import price
from openkpu.graph.elementwise import UNARY
from openkpu.graph.ir import Graph, Node, Tensor
from openkpu.passes.shuffles import DCR, cropped, interleaved

FUNCTIONS: Final = frozenset(
    {*UNARY, "Relu", "HardSwish", "Mish", "Silu", "Gelu", "Clip", "LeakyRelu", "Elu", "HardSigmoid", "Softsign", "Selu"}
)
HAS_OPERATOR: Final = 4
"""The kmodel version whose runtime has the operator."""
BINARY: Final = ("Add", "Sub", "Mul", "Div")
Array = NDArray[Any]


def expand_conv_transpose(graph: Graph, version: int = 3) -> None:
    """Rewrite every ConvTranspose with constant weights, but those for which V4's operator on the CPU is faster."""
    for node in [n for n in graph.nodes if n.op == "ConvTranspose"]:
        if all(t.is_constant for t in node.inputs[1:]) and len(node.output.shape) == 4 and node.output.shape[0] == 1:
            if version != HAS_OPERATOR or _expanded_us(node) <= _on_cpu_us(node):
                _expand(graph, node)
    graph.sort()


def _expanded_us(node: Node) -> float:
    """Price the convolution, its result's way to main RAM, the shuffle, and the way back."""
    x, out, (sy, sx) = node.inputs[0], node.output, node.attrs["strides"]
    k = node.inputs[1].shape[2:]
    kernel = 1 if (k[0], k[1]) == (sy, sx) and not any(node.attrs["pads"]) else 3
    wide = sy * sx * out.shape[1]
    conv = price.kpu_layer_us(
        x.shape[1], x.shape[2], x.shape[3], wide, kernel=kernel, depthwise=False, version=HAS_OPERATOR
    )
    return conv + price.shuffle_us(out.shape[1:], version=HAS_OPERATOR)


def _on_cpu_us(node: Node) -> float:
    """Price the runtime's own operator, in float, with the conversions before and behind it."""
    x, out, w = node.inputs[0], node.output, node.inputs[1]
    taps = w.shape[2] * w.shape[3] / (node.attrs["strides"][0] * node.attrs["strides"][1])
    macs = int(np.prod(out.shape)) * taps * w.shape[0] / node.attrs["group"]
    return price.cpu_float_us(int(np.prod(x.shape)), out.shape[1:], macs, version=HAS_OPERATOR)


def _expand(graph: Graph, node: Node) -> None:
    a, x = node.attrs, node.inputs[0]
    c, (h, w) = node.output.shape[1], node.output.shape[2:]
    sy, sx = a["strides"]
    group = a["group"]
    weights = _ordinary(np.asarray(node.inputs[1].data, np.float32), group)
    rows = _phases(weights.shape[2], sy, a["dilations"][0], a["pads"][0], h, x.shape[2])
    columns = _phases(weights.shape[3], sx, a["dilations"][1], a["pads"][1], w, x.shape[3])
    kh, kw = rows.window, columns.window
    phases = np.zeros((sy, sx, *weights.shape[:2], kh, kw), np.float32)
    for r, i, k in rows.taps:
        for q, j, m in columns.taps:
            phases[r, q, :, :, i, j] = weights[:, :, k, m]
    kernel = _dense(phases, group)
    bias = np.asarray(node.inputs[2].data, np.float32) if len(node.inputs) > 2 else np.zeros(c, np.float32)
    name = node.output.name
    constants = [
        graph.constant(f"{name}.weights", kernel),
        graph.constant(f"{name}.bias", np.tile(bias, sy * sx)),
    ]
    count = (rows.count, columns.count)
    wide = Tensor(f"{name}.phases", (1, sy * sx * c, *count))
    attrs = {
        "strides": (1, 1),
        "pads": (rows.before, columns.before, rows.after, columns.after),
        "dilations": (1, 1),
        "group": 1,
    }
    made = [Node("Conv", [x, *constants], [wide], attrs, node.source)]
    last, end = _hoist(graph, node.output, wide, sy * sx, made)
    taken = {id(n.output) for n in _chain(graph, node.output)}
    exact = (count[0] * sy, count[1] * sx) == (h, w)
    whole = end if exact else Tensor(f"{end.name}.whole", (1, c, count[0] * sy, count[1] * sx))
    made += interleaved(last, whole, (sy, sx), DCR, node.source)
    if not exact:
        made.append(cropped(whole, end, node.source))
    at = graph.nodes.index(node)
    graph.nodes[at : at + 1] = made
    graph.nodes = [n for n in graph.nodes if n in made or not any(id(t) in taken for t in n.outputs)]


class _Phases:
    """One axis: which tap of the transposed kernel is which tap of the convolution for each phase."""

    def __init__(self, taps: list[tuple[int, int, int]], first: int, last: int, count: int, size: int) -> None:
        # windows that would start behind the first row or end before the last get taps of zero
        first = min(first, 0)
        last = max(last, size - count)
        self.taps = [(phase, offset - first, k) for phase, offset, k in taps]
        self.window = last - first + 1
        self.count = count
        self.before = -first
        self.after = count - 1 + last - (size - 1)


def _phases(kernel: int, stride: int, dilation: int, pad: int, out: int, size: int) -> _Phases:
    taps = []
    for k in range(kernel):
        for phase in range(stride):
            distance = phase + pad - k * dilation
            if distance % stride == 0:
                taps.append((phase, distance // stride, k))
    offsets = [offset for _, offset, _ in taps] or [0]
    return _Phases(taps, min(offsets), max(offsets), -(-out // stride), size)


def _ordinary(w: Array, group: int) -> Array:
    """Turn (in, out per group, k, k) into (out, in per group, k, k)."""
    c, per = w.shape[:2]
    split = w.reshape(group, c // group, per, *w.shape[2:]).swapaxes(1, 2)
    return np.ascontiguousarray(split).reshape(group * per, c // group, *w.shape[2:])


def _dense(phases: Array, group: int) -> Array:
    """Return the kernel over all input channels, its output channels in the order (sy, sx, c)."""
    sy, sx, c, per = phases.shape[:4]
    each = c // group
    dense = np.zeros((sy, sx, c, per * group, *phases.shape[4:]), np.float32)
    for g in range(group):
        dense[:, :, g * each : (g + 1) * each, g * per : (g + 1) * per] = phases[:, :, g * each : (g + 1) * each]
    return dense.reshape(sy * sx * c, per * group, *phases.shape[4:])


# -- what follows channel by channel --------------------------------------------------------------------------------
def _chain(graph: Graph, t: Tensor) -> list[Node]:
    """Return the single readers behind ``t`` that work channel by channel."""
    found: list[Node] = []
    while not graph.is_output(t) and len(users := graph.consumers(t)) == 1 and _by_channel(users[0], t):
        found.append(users[0])
        t = users[0].output
    return found


def _by_channel(n: Node, t: Tensor) -> bool:
    if n.op in FUNCTIONS:
        return len(n.inputs) == 1
    if n.op in ("BatchNormalization", "PRelu") or n.op in BINARY:
        others = [i for i in n.inputs if i is not t]
        if len(others) != len(n.inputs) - 1 or not all(i.is_constant for i in others):
            return False
        return all(_per_channel(n.op, i, t.shape[1]) is not None for i in others) and n.output.shape == t.shape
    return False


def _per_channel(op: str, constant: Tensor, channels: int) -> Array | None:
    """Return a constant as one number, or one for each channel; None if it is neither."""
    a = np.asarray(constant.data)
    if a.size == 1:
        return a.reshape(()) if op != "BatchNormalization" else a.reshape(1)
    if op == "BatchNormalization":
        return a.reshape(-1) if a.size == channels else None
    by_channel = a.size == channels and a.ndim >= 3 and a.shape[-3] == channels
    return a.reshape(channels, 1, 1) if by_channel else None


def _hoist(graph: Graph, start: Tensor, wide: Tensor, copies: int, made: list[Node]) -> tuple[Tensor, Tensor]:
    """Append what follows ``start`` channel by channel, on the phases; returns its result and what that stood for."""
    t, end = wide, start
    for n in _chain(graph, start):
        inputs: list[Tensor] = []
        for i in n.inputs:
            if i is end:
                inputs.append(t)
                continue
            a = _per_channel(n.op, i, start.shape[1])
            assert a is not None  # _by_channel asked
            many = np.tile(a, (copies, *(1,) * (a.ndim - 1))) if a.ndim else a
            inputs.append(graph.constant(f"{i.name}.phases", np.ascontiguousarray(many)))
        out = Tensor(f"{n.output.name}.phases", wide.shape)
        made.append(Node(n.op, inputs, [out], dict(n.attrs), n.source))
        t, end = out, n.output
    return t, end
