"""Small float graphs for tests: a builder with one method an operator, and random graphs of a few layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from openkpu.float.session import FloatSession
from openkpu.graph.ir import Graph, Node, Tensor
from openkpu.lower.export import register_exporters
from openkpu.lower.lower import lower
from openkpu.lower.target import V3, Target
from openkpu.passes import canonicalize

T = TypeVar("T")
Pick = Callable[[Sequence[T]], T]
"""Chooses one of some values: a hypothesis draw or a random generator."""


class Builder:
    """Appends nodes; every method returns the new tensor. Weights are random but the same in every run."""

    def __init__(self, *shape: int, seed: int = 0) -> None:
        self.x = Tensor("x", shape)
        self.nodes: list[Node] = []
        self.rng = np.random.default_rng(seed)
        self.count = 0

    def op(self, op: str, inputs: list[Tensor], shape: tuple[int, ...], /, **attrs: Any) -> Tensor:
        self.count += 1
        out = Tensor(f"t{self.count}", tuple(int(d) for d in shape))
        self.nodes.append(Node(op, inputs, [out], attrs, (f"{op}_{self.count}",)))
        return out

    def const(self, array: Any) -> Tensor:
        self.count += 1
        a = np.asarray(array, np.float32)
        return Tensor(f"c{self.count}", a.shape, "float32", a)

    def graph(self, *outputs: Tensor) -> Graph:
        return Graph([self.x], list(outputs), self.nodes, "test")

    # -- operators ------------------------------------------------------------------------------------------------
    def conv(
        self,
        x: Tensor,
        oc: int,
        kernel: int | tuple[int, int] = 3,
        *,
        stride: tuple[int, int] = (1, 1),
        pads: tuple[int, int, int, int] | None = None,
        dilation: int = 1,
        group: int = 1,
        bias: bool = True,
    ) -> Tensor:
        kh, kw = (kernel, kernel) if isinstance(kernel, int) else kernel
        top, left, bottom, right = pads if pads is not None else (kh // 2, kw // 2, kh // 2, kw // 2)
        _, c, h, w = x.shape
        oh = (h + top + bottom - dilation * (kh - 1) - 1) // stride[0] + 1
        ow = (w + left + right - dilation * (kw - 1) - 1) // stride[1] + 1
        weights = self.rng.normal(size=(oc, c // group, kh, kw)) / np.sqrt(c // group * kh * kw)
        inputs = [x, self.const(weights)]
        if bias:
            inputs.append(self.const(self.rng.normal(size=oc) * 0.3))
        return self.op(
            "Conv",
            inputs,
            (1, oc, oh, ow),
            strides=stride,
            pads=(top, left, bottom, right),
            dilations=(dilation, dilation),
            group=group,
        )

    def depthwise(self, x: Tensor, kernel: int | tuple[int, int] = 3, **options: Any) -> Tensor:
        c = x.shape[1]
        return self.conv(x, c * options.pop("multiplier", 1), kernel, group=c, **options)

    def gemm(self, x: Tensor, n: int) -> Tensor:
        k = x.shape[1]
        w = self.rng.normal(size=(n, k)) / np.sqrt(k)
        return self.op("Gemm", [x, self.const(w), self.const(self.rng.normal(size=n) * 0.3)], (1, n))

    def batch_norm(self, x: Tensor) -> Tensor:
        c = x.shape[1]
        r = self.rng
        params = [r.uniform(0.5, 1.5, c), r.normal(size=c) * 0.2, r.normal(size=c) * 0.2, r.uniform(0.5, 2, c)]
        return self.op("BatchNormalization", [x, *map(self.const, params)], x.shape, epsilon=1e-3)

    def pool(
        self,
        x: Tensor,
        kind: str,
        kernel: int,
        stride: int,
        pads: tuple[int, int, int, int] = (0, 0, 0, 0),
        count_include_pad: int = 0,
    ) -> Tensor:
        _, c, h, w = x.shape
        oh, ow = ((n + pads[i] + pads[i + 2] - kernel) // stride + 1 for i, n in enumerate((h, w)))
        attrs: dict[str, Any] = {"kernel": (kernel, kernel), "strides": (stride, stride), "pads": pads}
        if kind == "AveragePool":
            attrs["count_include_pad"] = count_include_pad
        return self.op(kind, [x], (1, c, oh, ow), **attrs)

    def max_pool(self, x: Tensor, kernel: int = 2, stride: int = 2, pads: Any = (0, 0, 0, 0)) -> Tensor:
        return self.pool(x, "MaxPool", kernel, stride, pads)

    def average_pool(
        self, x: Tensor, kernel: int = 2, stride: int = 2, pads: Any = (0, 0, 0, 0), include: int = 0
    ) -> Tensor:
        return self.pool(x, "AveragePool", kernel, stride, pads, include)

    def gap(self, x: Tensor) -> Tensor:
        return self.op("GlobalAveragePool", [x], (*x.shape[:2], 1, 1))

    def unary(self, op: str, x: Tensor, **attrs: Any) -> Tensor:
        return self.op(op, [x], x.shape, **attrs)

    def relu(self, x: Tensor) -> Tensor:
        return self.unary("Relu", x)

    def relu6(self, x: Tensor) -> Tensor:
        return self.unary("Clip", x, min=0.0, max=6.0)

    def leaky(self, x: Tensor, alpha: float = 0.1) -> Tensor:
        return self.unary("LeakyRelu", x, alpha=alpha)

    def binary(self, op: str, a: Tensor, b: Tensor) -> Tensor:
        return self.op(op, [a, b], np.broadcast_shapes(a.shape, b.shape))

    def add(self, a: Tensor, b: Tensor) -> Tensor:
        return self.binary("Add", a, b)

    def concat(self, *parts: Tensor, axis: int = 1) -> Tensor:
        shape = list(parts[0].shape)
        shape[axis] = sum(p.shape[axis] for p in parts)
        return self.op("Concat", list(parts), tuple(shape), axis=axis)

    def pad(self, x: Tensor, top: int, left: int, bottom: int, right: int, value: float = 0.0) -> Tensor:
        _, c, h, w = x.shape
        pads = (0, 0, top, left, 0, 0, bottom, right)
        return self.op("Pad", [x], (1, c, h + top + bottom, w + left + right), pads=pads, value=value)

    def resize(self, x: Tensor, factor: int = 2) -> Tensor:
        _, c, h, w = x.shape
        return self.op(
            "Resize", [x], (1, c, h * factor, w * factor), mode="nearest", coordinate="asymmetric", rounding="floor"
        )

    def reshape(self, x: Tensor, *shape: int) -> Tensor:
        return self.op("Reshape", [x], shape, shape=shape)

    def flatten(self, x: Tensor) -> Tensor:
        return self.reshape(x, 1, int(np.prod(x.shape)))

    def transpose(self, x: Tensor, *perm: int) -> Tensor:
        return self.op("Transpose", [x], tuple(x.shape[p] for p in perm), perm=perm)

    def softmax(self, x: Tensor, axis: int) -> Tensor:
        return self.unary("Softmax", x, axis=axis)


def run_float(graph: Graph, x: Any) -> list[np.ndarray]:
    """Run a float or lowered graph in onnxruntime."""
    register_exporters()
    values = FloatSession(graph).run({graph.inputs[0].name: np.asarray(x, np.float32)})
    return [values[t.name] for t in graph.outputs]


def picture(shape: Sequence[int], seed: int = 0) -> np.ndarray:
    """A float input with values around zero."""
    return np.random.default_rng(seed).normal(size=tuple(shape)).astype(np.float32)


def lowered_equals_source(graph: Graph, tolerance: float = 1e-4, target: Target = V3) -> Graph:
    """Canonicalize and lower the graph, compare in float on a random input, and return the lowered graph."""
    x = picture(graph.inputs[0].shape)
    shapes = [t.shape for t in graph.outputs]
    want = run_float(graph, x)
    canonicalize.run(graph)
    lowered, _ = lower(graph, target=target)
    lowered.validate()
    got = run_float(lowered, x.reshape(lowered.inputs[0].shape) if x.shape != lowered.inputs[0].shape else x)
    assert [t.shape for t in lowered.outputs] == shapes
    for a, b in zip(got, want, strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * max(1.0, float(np.abs(b).max())))
    return lowered


def random_graph(pick: Any, layers: int, *, outputs: bool = True, largest: int = 20, benign: bool = False) -> Graph:
    """Draw a graph of a few layers whose results are used once, many times or not at all.

    ``pick(values)`` chooses. ``benign`` leaves out functions that lose much accuracy in 8 bits.
    """
    h, w = pick(range(4, largest + 1)), pick(range(4, largest + 1))
    b = Builder(1, pick([1, 2, 3, 4]), h, w, seed=pick(range(100)))
    maps = [b.conv(b.x, pick([2, 3, 4, 5, 8]), pick([1, 3]))]
    flats: list[Tensor] = []
    for _ in range(layers):
        x = maps[-1] if pick([True, True, False]) else pick(maps)
        y = _random_layer(b, pick, x, maps, benign)
        if y is not None and min(y.shape) >= 1 and np.prod(y.shape) < 60000:
            maps.append(y)
    last = maps[-1]
    kind = pick(["map", "gap", "flat", "hwc", "split", "softmax"])
    if kind == "gap":
        flats.append(b.gap(last))
    elif kind == "flat":
        flats.append(b.gemm(b.flatten(last), pick([2, 5])))
    elif kind == "hwc":
        t = b.transpose(last, 0, 2, 3, 1)
        flats.append(b.reshape(t, 1, int(np.prod(t.shape[1:3])), t.shape[3]))
    elif kind == "split":
        n = pick([d for d in range(1, last.shape[1] + 1) if last.shape[1] % d == 0])
        flats.append(b.reshape(last, 1, n, last.shape[1] // n, *last.shape[2:]))
    elif kind == "softmax":
        flats.append(b.softmax(b.gemm(b.flatten(last), 4), 1))
    results = flats or [last]
    if outputs and pick([True, False]):
        results.append(pick(maps))
    return b.graph(*results)


def _random_layer(b: Builder, pick: Any, x: Tensor, maps: list[Tensor], benign: bool) -> Tensor | None:
    _, c, h, w = x.shape
    often = ["conv", "conv", "conv", "depthwise", "depthwise", "act", "act", "add", "add", "concat", "concat"]
    kind = pick([*often, "pointwise", "max", "mean", "residual", "pad", "resize", "bn", "affine", "sub"])
    if kind in ("conv", "depthwise"):
        kernel = pick([(3, 3), (3, 3), (3, 3), (1, 1), (2, 2), (1, 3), (3, 1), (2, 3)])
        pads = pick([None, None, (0, 0, 0, 0), (0, 0, 1, 1), (1, 1, 0, 0), (1, 0, 1, 0), (2, 2, 2, 2), (0, 1, 2, 0)])
        stride = pick([(1, 1), (1, 1), (2, 2), (2, 2), (2, 1), (3, 3)])
        if pads is None:
            pads = (kernel[0] // 2, kernel[1] // 2) * 2
        if h + pads[0] + pads[2] < kernel[0] or w + pads[1] + pads[3] < kernel[1]:
            return None
        if kind == "depthwise":
            return b.depthwise(x, kernel, stride=stride, pads=pads, multiplier=pick([1, 1, 2]))
        return b.conv(x, pick([1, 2, 4, 6]) * 2, kernel, stride=stride, pads=pads)
    if kind == "pointwise":
        return b.conv(x, pick([3, 4, 8]), 1)
    if kind in ("max", "mean"):
        none, all_round, far = (0, 0, 0, 0), (1, 1, 1, 1), (0, 0, 1, 1)
        on_kpu = [(2, 2, none), (2, 2, none), (2, 1, far), (3, 2, far), (3, 2, none), (4, 4, none)]
        k, s, pads = pick([*on_kpu, (3, 2, all_round), (3, 1, all_round), (2, 1, none), (5, 1, (2, 2, 2, 2))])
        if h + pads[0] + pads[2] < k or w + pads[1] + pads[3] < k:
            return None
        return b.max_pool(x, k, s, pads) if kind == "max" else b.average_pool(x, k, s, pads, pick([0, 1]))
    if kind == "act":
        curved = [] if benign else ["Sigmoid", "Tanh", "HardSwish", "Abs"]
        op = pick(["Relu", "Relu", "Clip", "LeakyRelu", *curved])
        attrs: dict[str, Any] = {"Clip": {"min": 0.0, "max": 6.0}, "LeakyRelu": {"alpha": 0.1}}.get(op, {})
        return b.unary(op, x, **attrs)
    if kind in ("add", "sub"):
        same = [m for m in maps if m.shape == x.shape]
        return b.binary("Add" if kind == "add" else "Sub", x, pick(same))
    if kind == "residual":
        return b.add(b.conv(b.relu(b.conv(x, 2 * c, 1)), c, 1), x)
    if kind == "concat":
        same = [m for m in maps if m.shape[2:] == x.shape[2:]]
        return b.concat(*[pick([x, pick(same)]) for _ in range(pick([2, 2, 3]))])
    if kind == "pad":
        return b.pad(x, *(pick([0, 1, 2]) for _ in range(4)))
    if kind == "resize":
        return b.resize(x) if max(h, w) <= 16 else None
    if kind == "bn":
        return b.batch_norm(x)
    values = b.rng.uniform(0.5, 1.5, (1, c, 1, 1))
    return b.binary(pick(["Mul", "Add", "Sub", "Div"]), x, b.const(pick([values, 0.7])))
