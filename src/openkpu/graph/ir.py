"""A static, single-assignment graph of float operators.

Importers produce it, passes rewrite it, ``text`` prints it. Every shape is known; batch is 1 and comes first (NCHW).
Operators are ONNX's, in one canonical form, so that a graph can go out as ONNX for the float reference:

=================== ==================== ==========================================================================
op                  inputs               attributes (all explicit; no defaults are left to the reader)
=================== ==================== ==========================================================================
Conv                x, w[, b]            strides (h, w), pads (top, left, bottom, right), dilations (h, w), group
ConvTranspose       x, w[, b]            as Conv, and output_padding (h, w)
BatchNormalization  x, scale, b, mean, v epsilon
Gemm                x (1, K), w (N, K)   [b (N,)]; y = x @ w.T + b
MatMul              a, b                 general; a constant right side of 2-D x becomes Gemm
MaxPool             x                    kernel (h, w), strides, pads (as Conv; ceil mode became pads)
AveragePool         x                    kernel, strides, pads, count_include_pad (0 or 1)
GlobalAveragePool   x                    (ReduceMean over H and W becomes this, followed by Reshape if dims go)
Relu Sigmoid Tanh HardSwish Softplus Mish Abs Neg Exp Log Sqrt Floor Ceil Erf Reciprocal Silu        x
LeakyRelu Elu ThresholdedRelu  x         alpha
HardSigmoid         x                    alpha, beta
Clip                x                    min, max (floats, +-inf where open)
PRelu               x, slope
Add Sub Mul Div Min Max Pow              a, b (NumPy broadcasting; either may be constant)
Concat              x...                 axis (>= 0)
Pad                 x                    pads (begin..., end...), value; mode constant only
Reshape             x                    shape (Flatten, Squeeze, Unsqueeze, Reshape all become this)
Transpose           x                    perm
Softmax             x                    axis (>= 0)
Resize              x                    mode ("nearest", "linear"), coordinate ("asymmetric", "half_pixel",
                                         "align_corners", "pytorch_half_pixel"), rounding ("floor", ...)
Slice               x                    starts, ends, steps, axes
DepthToSpace        x                    blocksize, mode ("DCR", "CRD"); SpaceToDepth: blocksize
ReduceMean ReduceSum ReduceMax ReduceMin ReduceProd ReduceL1 ReduceL2 ReduceSumSquare
                    x                    axes, keepdims; over H and W of a picture the first four become poolings
ArgMax ArgMin       x                    axis, keepdims, select_last_index; the result is int64
LpNormalization     x                    axis, p (1 or 2)
Sin Cos Round Sign  x
Tile Expand         x                    repeats; shape
=================== ==================== ==========================================================================

Anything else an importer meets stays an op under its own ONNX name, for the lowering to refuse by name.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(eq=False, slots=True)
class Tensor:
    """A value: name, static shape, element type, and the data where it is constant."""

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"
    data: NDArray[Any] | None = None
    producer: Node | None = field(default=None, repr=False)

    @property
    def is_constant(self) -> bool:
        """Whether the value is known at compile time."""
        return self.data is not None


@dataclass(eq=False, slots=True)
class Node:
    """An operator. ``source`` names the node(s) of the user's file that it came from, for messages."""

    op: str
    inputs: list[Tensor]
    outputs: list[Tensor]
    attrs: dict[str, Any] = field(default_factory=dict)
    source: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for t in self.outputs:
            t.producer = self

    @property
    def output(self) -> Tensor:
        """The only output."""
        (t,) = self.outputs
        return t

    def weights_and_bias(self, dtype: type[np.floating[Any]] = np.float32) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return the constant weights and bias of a Conv or Gemm; a bias that is left out is zeros (oc,)."""
        w = np.asarray(self.inputs[1].data, dtype)
        return w, np.asarray(self.inputs[2].data, dtype) if len(self.inputs) > 2 else np.zeros(w.shape[0], dtype)

    @property
    def label(self) -> str:
        """How messages call this node: the source name and the operator."""
        return f"{self.op} '{self.source[-1] if self.source else self.outputs[0].name}'"


@dataclass(frozen=True, slots=True)
class Scale:
    """What the uint8 form of a tensor stands for: ``real = scale * (q - zero_point)``, zero_point in 0..255."""

    scale: float
    zero_point: int


@dataclass(eq=False, slots=True)
class Graph:
    """Nodes in execution order, with the graph's inputs and outputs."""

    inputs: list[Tensor]
    outputs: list[Tensor]
    nodes: list[Node]
    name: str = "model"
    scales: dict[str, Scale] = field(default_factory=dict)
    """Of a model that came quantised: tensor name -> its quantisation. Names survive passes and lowering."""

    def consumers(self, tensor: Tensor) -> list[Node]:
        """Nodes that read ``tensor``, each once, in order."""
        return [n for n in self.nodes if any(t is tensor for t in n.inputs)]

    def users(self) -> dict[int, list[Node]]:
        """``id(tensor)`` -> its consumers, for all tensors at once."""
        table: dict[int, list[Node]] = {}
        for n in self.nodes:
            for t in n.inputs:
                group = table.setdefault(id(t), [])
                if not group or group[-1] is not n:
                    group.append(n)
        return table

    def is_output(self, tensor: Tensor) -> bool:
        """Whether ``tensor`` is one of the graph's outputs."""
        return any(t is tensor for t in self.outputs)

    def replace_uses(self, old: Tensor, new: Tensor) -> None:
        """Let everything that reads ``old`` (the graph's outputs too) read ``new``."""
        for n in self.nodes:
            n.inputs = [new if t is old else t for t in n.inputs]
        self.outputs = [new if t is old else t for t in self.outputs]

    def constant(self, name: str, data: NDArray[Any]) -> Tensor:
        """Make a constant tensor."""
        return Tensor(name, tuple(data.shape), str(data.dtype), data)

    def sort(self) -> None:
        """Bring the nodes into execution order (stable) and drop those that no output needs."""
        needed: set[int] = set()
        stack = [t.producer for t in self.outputs if t.producer]
        while stack:
            n = stack.pop()
            if id(n) in needed:
                continue
            needed.add(id(n))
            stack.extend(t.producer for t in n.inputs if t.producer)
        done: set[int] = set()
        pending = [n for n in self.nodes if id(n) in needed]
        ordered: list[Node] = []
        while pending:
            rest = []
            for n in pending:
                if all(t.producer is None or id(t.producer) in done for t in n.inputs):
                    ordered.append(n)
                    done.add(id(n))
                else:
                    rest.append(n)
            if len(rest) == len(pending):
                raise ValueError(f"the graph has a cycle or a missing node near {rest[0].label}")
            pending = rest
        self.nodes = ordered

    def only_reader(self, t: Tensor) -> Node | None:
        """Return the single reader of a tensor that is not an output; None where there is another number of readers."""
        readers = self.consumers(t)
        return readers[0] if len(readers) == 1 and not self.is_output(t) else None

    def fresh(self, stem: str) -> str:
        """Return a tensor name that the graph does not use yet."""
        used = {t.name for n in self.nodes for t in (*n.inputs, *n.outputs)} | {t.name for t in self.inputs}
        if stem not in used:
            return stem
        i = 1
        while f"{stem}.{i}" in used:
            i += 1
        return f"{stem}.{i}"

    def validate(self) -> None:
        """Check the invariants; ``ValueError`` names what is broken. Called after every pass."""
        seen = {id(t) for t in self.inputs}
        names: set[str] = {t.name for t in self.inputs}
        for n in self.nodes:
            for t in n.inputs:
                if not t.is_constant and id(t) not in seen:
                    raise ValueError(f"{n.label} reads '{t.name}' before it is produced")
            for t in n.outputs:
                if t.producer is not n:
                    raise ValueError(f"'{t.name}' does not know its producer {n.label}")
                if t.name in names:
                    raise ValueError(f"two tensors are called '{t.name}'")
                names.add(t.name)
                seen.add(id(t))
        for t in self.outputs:
            if not t.is_constant and id(t) not in seen:
                raise ValueError(f"output '{t.name}' is never produced")


def text(graph: Graph) -> str:
    """Print the graph, one line a node; constants by shape. Stable, for dumps and golden tests."""
    lines = [f"graph {graph.name}"]
    lines += [f"  input {t.name}: {_type(t)}" for t in graph.inputs]
    for n in graph.nodes:
        args = ", ".join(f"const{list(t.shape)}" if t.is_constant else t.name for t in n.inputs)
        attrs = "".join(f" {k}={_value(v)}" for k, v in sorted(n.attrs.items()))
        results = ", ".join(f"{t.name}: {_type(t)}" for t in n.outputs)
        origin = f"  # {'+'.join(n.source)}" if n.source else ""
        lines.append(f"  {results} = {n.op}({args}){attrs}{origin}")
    lines += [f"  output {t.name}" for t in graph.outputs]
    return "\n".join(lines) + "\n"


def _type(t: Tensor) -> str:
    return f"{'x'.join(map(str, t.shape)) or 'scalar'}" + ("" if t.dtype == "float32" else f":{t.dtype}")


def _value(v: Any) -> str:
    if isinstance(v, np.ndarray):
        return f"array{list(v.shape)}"
    if isinstance(v, float):
        return f"{v:.6g}"
    if isinstance(v, Iterable) and not isinstance(v, str):
        return "(" + ",".join(_value(i) for i in v) + ")"
    return str(v)
