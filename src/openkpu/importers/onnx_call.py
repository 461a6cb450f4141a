"""What an operator handler works with: one node of the file, its inputs as IR tensors, and the graph being built."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from openkpu.errors import FileFormatError, OpenKPUError, UnsupportedError
from openkpu.extras import require
from openkpu.graph.ir import Node, Scale, Tensor

MAX_ELEMENTS: Final = 1 << 28
"""Bound of one tensor, far above the chip's 6 MiB; keeps damaged files from asking for all memory."""


class Builder:
    """The graph being built: ``values`` maps the file's tensor names to IR tensors."""

    def __init__(self, opset: int, ir_version: int, rebatch: int) -> None:
        self.opset = opset
        self.ir_version = ir_version
        self.rebatch = rebatch
        """The fixed batch that became 1, or 1: a Reshape to this first dimension means the batch."""
        self.values: dict[str, Tensor] = {}
        self.nodes: list[Node] = []
        self.names: set[str] = set()
        self.scales: dict[int, tuple[Tensor, Scale]] = {}
        """Of a model that came quantised: id of a tensor -> the tensor and its quantisation."""
        self._counts: dict[str, int] = {}
        self._floats: dict[int, tuple[Tensor, Tensor]] = {}

    def fresh(self, stem: str) -> str:
        """Return a name that no tensor has, and take it."""
        name, i = stem, self._counts.get(stem, 0)
        while name in self.names:
            i += 1
            name = f"{stem}.{i}"
        self._counts[stem] = i
        self.names.add(name)
        return name

    def bind(self, name: str, tensor: Tensor) -> None:
        """Let ``name`` of the file mean ``tensor``."""
        self.values[name] = tensor

    def operand(self, tensor: Tensor, label: str) -> Tensor:
        """Return ``tensor`` fit for a node: constants as float32 (if they are floats), finite and not empty."""
        if tensor.data is None:
            return tensor
        if id(tensor) in self._floats:
            return self._floats[id(tensor)][1]
        data = tensor.data
        if 0 in data.shape:
            raise UnsupportedError(
                "E265", f"tensor '{tensor.name}' is empty", where=label, why=f"its shape is {_dims(data.shape)}",
                fix="export the model again",
            )  # fmt: skip
        result = tensor
        if is_float(data.dtype):
            with np.errstate(over="ignore"):
                data = np.ascontiguousarray(data, np.float32).reshape(data.shape)
            bad = int(data.size - np.isfinite(data).sum())
            if bad:
                raise UnsupportedError(
                    "E264",
                    f"tensor '{tensor.name}' has {bad} of {data.size} values that are NaN or infinite",
                    where=label,
                    why="weights must be finite float32 numbers",
                    fix="look at the training (learning rate, mixed precision) and export again",
                )
            if data is not tensor.data:
                result = Tensor(tensor.name, tuple(data.shape), "float32", data)
        elif data.dtype.kind not in "biu":
            raise UnsupportedError(
                "E262", f"tensor '{tensor.name}' of type {data.dtype}", where=label, fix="export a float32 model"
            )
        self._floats[id(tensor)] = (tensor, result)
        return result


class Call:
    """One node of the file while it is being imported. ``label`` is how messages call it."""

    def __init__(self, builder: Builder, proto: Any, attrs: dict[str, Any], inputs: list[Tensor | None]) -> None:
        self.builder = builder
        self.proto = proto
        self.op: str = proto.op_type
        self.attrs = attrs
        self.inputs = inputs
        self.outputs: list[str] = list(proto.output)
        self.name: str = proto.name or next((o for o in self.outputs if o), "")
        self.label = f"{self.op} '{self.name}'"
        self.opset = builder.opset

    # -- errors ---------------------------------------------------------------------------------------------------
    def refuse(self, what: str, why: str = "", fix: str = "", code: str = "E262") -> OpenKPUError:
        """Return the error that this node cannot be taken."""
        return UnsupportedError(code, what, where=self.label, why=why or f"inputs {self.shapes()}", fix=fix)

    def damaged(self, what: str, why: str = "") -> OpenKPUError:
        """Return the error that this node contradicts itself or the ONNX rules."""
        return FileFormatError(
            "E160", what, where=self.label, why=why or f"inputs {self.shapes()}", fix="export the model again"
        )

    def shapes(self) -> str:
        """Return the inputs' shapes for messages."""
        return ", ".join("none" if t is None else _dims(t.shape) for t in self.inputs)

    # -- inputs and attributes ------------------------------------------------------------------------------------
    def has(self, i: int) -> bool:
        """Whether input ``i`` is given."""
        return i < len(self.inputs) and self.inputs[i] is not None

    def input(self, i: int) -> Tensor:
        """Return input ``i``, which must be given."""
        t = self.inputs[i] if i < len(self.inputs) else None
        if t is None:
            raise self.damaged(f"{self.op} needs input {i}, which is missing")
        return t

    @property
    def x(self) -> Tensor:
        """The first input."""
        return self.input(0)

    def const(self, i: int, what: str) -> NDArray[Any]:
        """Return input ``i``, which must be known now."""
        t = self.input(i)
        if t.data is None:
            raise self.refuse(
                f"the {what} of this {self.op} are computed at run time",
                f"'{t.name}' {_dims(t.shape)} depends on the model's input",
                "make it a constant, or end the model before this operator (outputs=...)",
                code="E267",
            )
        return t.data

    def const_ints(self, i: int, what: str) -> list[int]:
        """Return input ``i`` as whole numbers."""
        data = self.const(i, what)
        if data.size > 32:  # as many dimensions as NumPy 1 has
            raise self.damaged(f"the {what} are {data.size} numbers")
        return [int(v) for v in data.reshape(-1)]

    def axes(self, i: int = 1) -> list[int] | None:
        """Return ``axes``, from the attribute or from input ``i``, as it is written; None where it is not given."""
        if "axes" in self.attrs:
            return self.ints("axes")
        return self.const_ints(i, "axes") if self.has(i) else None

    def axis(self, value: int, rank: int) -> int:
        """Return an axis counted from the front."""
        if not -rank <= value < rank:
            raise self.damaged(f"axis {value} does not exist", f"the input has {rank} dimensions")
        return value % rank

    def integer(self, name: str, default: int) -> int:
        """Return a whole-number attribute."""
        value = self.attrs.get(name, default)
        if not isinstance(value, int):
            raise self.damaged(f"attribute '{name}' is not a whole number")
        return value

    def real(self, name: str, default: float) -> float:
        """Return a number attribute, finite."""
        value = self.attrs.get(name, default)
        if not isinstance(value, float | int) or not np.isfinite(value):
            raise self.damaged(f"attribute '{name}' is {value}, not a finite number")
        return float(value)

    def string(self, name: str, default: str) -> str:
        """Return a string attribute."""
        value = self.attrs.get(name, default)
        if not isinstance(value, str):
            raise self.damaged(f"attribute '{name}' is not a string")
        return value

    def ints(self, name: str, default: Sequence[int] = (), count: int | None = None) -> list[int]:
        """Return an attribute of whole numbers, ``count`` of them."""
        value = self.attrs.get(name, list(default))
        if not isinstance(value, list) or not all(isinstance(v, int) for v in value):
            raise self.damaged(f"attribute '{name}' is not a list of whole numbers")
        if count is not None and len(value) != count:
            raise self.damaged(f"attribute '{name}' has {len(value)} numbers", f"{count} are needed")
        return list(value)

    # -- results --------------------------------------------------------------------------------------------------
    def alias(self, tensor: Tensor, i: int = 0) -> None:
        """Let output ``i`` be ``tensor``: the node vanishes."""
        self.builder.bind(self.outputs[i], tensor)

    def emit(self, op: str, inputs: Sequence[Tensor], shape: Sequence[int], i: int = 0, /, **attrs: Any) -> Tensor:
        """Add a node that gives output ``i``."""
        t = self._add(op, inputs, shape, self.outputs[i], attrs)
        self.builder.bind(self.outputs[i], t)
        return t

    def step(self, op: str, inputs: Sequence[Tensor], shape: Sequence[int], /, **attrs: Any) -> Tensor:
        """Add a node on the way to the output."""
        name = self.builder.fresh(f"{self.outputs[0]}.{op.lower()}")
        return self._add(op, inputs, shape, name, attrs)

    def number(self, data: Any, stem: str = "const") -> Tensor:
        """Make a constant tensor."""
        array = np.asarray(data)
        return Tensor(self.builder.fresh(f"{self.outputs[0]}.{stem}"), tuple(array.shape), str(array.dtype), array)

    def emit_many(self, op: str, results: Sequence[tuple[str, tuple[int, ...], str]], attrs: dict[str, Any]) -> None:
        """Add a node under its own name, with all inputs and ``results`` (name, shape, dtype)."""
        inputs = [self.builder.operand(t, self.label) for t in self.inputs if t is not None]
        outputs = [Tensor(name, self.checked(shape), dtype) for name, shape, dtype in results]
        self.builder.nodes.append(Node(op, inputs, outputs, attrs, (self.name,)))
        for t in outputs:
            self.builder.bind(t.name, t)

    def checked(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Return a shape after checking that a tensor of it is neither empty nor larger than ``MAX_ELEMENTS``."""
        dims = tuple(int(d) for d in shape)
        if any(d <= 0 for d in dims):
            raise self.refuse(
                f"the output of this {self.op} would be empty",
                f"shape {_dims(dims)} from {self.shapes()}",
                "make the input larger, or check strides, kernels and padding",
                code="E265",
            )
        if int(np.prod(dims, dtype=object)) > MAX_ELEMENTS:
            raise self.refuse(f"the output of this {self.op} is too large", f"shape {_dims(dims)}", code="E270")
        return dims

    def _add(self, op: str, inputs: Sequence[Tensor], shape: Sequence[int], name: str, attrs: dict[str, Any]) -> Tensor:
        operands = [self.builder.operand(t, self.label) for t in inputs]
        dtype = next((t.dtype for t in operands if t.data is None), "float32")
        out = Tensor(name, self.checked(shape), dtype)
        self.builder.nodes.append(Node(op, operands, [out], attrs, (self.name,)))
        return out


Handler = Callable[[Call], None]
HANDLERS: Final[dict[str, Handler]] = {}
"""Operator name of the default domain -> its handler."""


def handles(*ops: str) -> Callable[[Handler], Handler]:
    """Register a handler for the ONNX operators ``ops``."""

    def register(handler: Handler) -> Handler:
        for op in ops:
            HANDLERS[op] = handler
        return handler

    return register


def is_float(dtype: np.dtype[Any]) -> bool:
    """Whether a NumPy type (bfloat16 of ml_dtypes too) is a floating-point number."""
    return dtype.kind == "f" or dtype.name in ("bfloat16",)


def attributes(proto: Any) -> dict[str, Any]:
    """Return a node's attributes as Python values (strings decoded); subgraphs and tensors stay as they are."""
    helper = require("onnx.helper", "onnx")

    def plain(value: Any) -> Any:
        if isinstance(value, bytes):
            return value.decode("utf-8", "replace")
        if isinstance(value, str | int | float) or not hasattr(value, "__iter__"):
            return value
        return [plain(v) for v in value]

    try:
        return {a.name: plain(helper.get_attribute_value(a)) for a in proto.attribute}
    except (ValueError, TypeError) as error:
        raise FileFormatError(
            "E160", "an attribute cannot be read", where=f"{proto.op_type} '{proto.name}'", why=str(error)
        ) from error


def _dims(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape)) or "scalar"
