"""What a handler of a TensorFlow Lite operator works with: its inputs in either layout, its options, its results.

TensorFlow Lite keeps pictures as (1, H, W, C), the graph as (1, C, H, W). A ``Value`` therefore has up to two forms:
``plain``, in the file's order, and ``planar``, a picture in the graph's order. A form is made from the other by a
Transpose the first time that somebody asks for it; chains of picture operators only ever ask for ``planar``, so in
ordinary networks no Transpose is made at all.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from openkpu.errors import FileFormatError, OpenKPUError, UnsupportedError
from openkpu.graph.ir import Scale, Tensor
from openkpu.importers.network import Network
from openkpu.importers.tflite_file import Operator, Stored, data_of

TO_PLANAR: Final = (0, 3, 1, 2)
TO_PLAIN: Final = (0, 2, 3, 1)
PLANAR_AXIS: Final = (0, 2, 3, 1)
"""Where dimension 0, 1, 2, 3 of a (1, H, W, C) tensor is in its planar form."""


@dataclass(frozen=True, slots=True)
class Batched:
    """A picture cut into ``block`` x ``block`` interleaved ones (SPACE_TO_BATCH_ND), with the padding it got first.

    A convolution with stride 1 on these is one with dilations on the picture itself; ``picture`` is what that reads.
    """

    picture: Tensor
    block: tuple[int, int]
    pads: tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Repeats:
    """A tensor whose numbers along ``axis`` stand ``count`` times in a new dimension behind it.

    Keras writes nearest-neighbour upsampling so: EXPAND_DIMS, TILE, RESHAPE. ``source`` is the tensor before that.
    """

    source: Value
    axis: int
    count: int = 1


POINTWISE: Final = frozenset(
    ("RELU", "RELU6", "RELU_N1_TO_1", "RELU_0_TO_1", "LEAKY_RELU", "LOGISTIC", "TANH", "HARD_SWISH", "ELU", "ABS",
     "QUANTIZE", "DEQUANTIZE", "FAKE_QUANT")
)  # fmt: skip
"""Operators that work number by number, between SPACE_TO_BATCH_ND and BATCH_TO_SPACE_ND too."""


class Value:
    """A tensor of the file while it is imported."""

    def __init__(self, network: Network, stored: Stored, *, plain: Tensor | None = None, planar: Tensor | None = None):
        self.network = network
        self.stored = stored
        self.batched: Batched | None = None
        self.repeats: Repeats | None = None
        self._plain = plain
        self._planar = planar

    @property
    def is_constant(self) -> bool:
        """Whether the numbers are known now."""
        t = self._plain or self._planar
        return t is not None and t.is_constant

    @property
    def is_planar(self) -> bool:
        """Whether it is a picture that the graph has in its own order."""
        return self._planar is not None

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape in the file's order."""
        if self._plain is not None:
            return self._plain.shape
        assert self._planar is not None
        return tuple(self._planar.shape[PLANAR_AXIS[i]] for i in range(4))

    @property
    def plain(self) -> Tensor:
        """The tensor in the file's order of dimensions."""
        if self._plain is None:
            assert self._planar is not None
            self._plain = self._moved(self._planar, TO_PLAIN)
        return self._plain

    @property
    def planar(self) -> Tensor:
        """The picture as (1, C, H, W)."""
        if self._planar is None:
            assert self._plain is not None
            assert len(self._plain.shape) == 4
            self._planar = self._moved(self._plain, TO_PLANAR)
        return self._planar

    @property
    def native(self) -> Tensor:
        """The form in which the graph has it, planar where it has both."""
        return self.plain if self._planar is None else self._planar

    def _moved(self, t: Tensor, perm: tuple[int, ...]) -> Tensor:
        shape = [t.shape[p] for p in perm]
        if t.data is not None:
            return self.network.constant(np.ascontiguousarray(t.data.transpose(perm)), f"{t.name}.order")
        moved = [p for p in perm if t.shape[p] != 1]
        if moved == sorted(moved):
            shape_in = self.network.ints(shape, f"{t.name}.shape")
            return self.network.add("Reshape", [t, shape_in], short(self.stored.name), f"{t.name}.order")
        return self.network.add("Transpose", [t], short(self.stored.name), f"{t.name}.order", perm=list(perm))


class Call:
    """One operator while it is imported. ``label`` is how messages call it."""

    def __init__(self, network: Network, operator: Operator, values: dict[int, Value], tensors: list[Stored]) -> None:
        self.network = network
        self.operator = operator
        self.op = operator.op
        self.values = values
        self.results = [tensors[i] for i in operator.outputs]
        self.name = self.results[0].name if self.results else f"operator {operator.index}"
        self.source = short(self.name)
        self.inside: Batched | None = None
        """The cut-up picture that this operator works on."""
        self.label = f"{self.op} '{self.source}'"

    # -- errors ---------------------------------------------------------------------------------------------------
    def damaged(self, what: str, why: str = "") -> OpenKPUError:
        """Return the error that this operator contradicts itself."""
        return FileFormatError(
            "E164", what, where=self.label, why=why or f"inputs {self.shapes()}", fix="convert the model again"
        )

    def refuse(self, what: str, why: str = "", fix: str = "") -> OpenKPUError:
        """Return the error that this operator cannot be taken."""
        return UnsupportedError("E290", what, where=self.label, why=why or f"inputs {self.shapes()}", fix=fix)

    def shapes(self) -> str:
        """Return the inputs' shapes for messages, in the file's order."""
        return ", ".join(
            "x".join(map(str, self.values[i].shape)) or "scalar" if i in self.values else "none"
            for i in self.operator.inputs
        )

    # -- inputs ---------------------------------------------------------------------------------------------------
    def has(self, i: int) -> bool:
        """Whether input ``i`` is given."""
        return i < len(self.operator.inputs) and self.operator.inputs[i] in self.values

    def value(self, i: int) -> Value:
        """Return input ``i``, which must be given."""
        if not self.has(i):
            raise self.damaged(f"{self.op} needs input {i}, which is missing")
        v = self.values[self.operator.inputs[i]]
        if v.batched is not None:
            if self.op in POINTWISE and not any(v.batched.pads):
                self.inside = v.batched  # number by number it does not matter how the picture is cut up
                return Value(self.network, v.stored, planar=v.batched.picture)
            raise self.refuse(
                f"{self.op} of a picture cut up by SPACE_TO_BATCH_ND",
                "only a convolution with stride 1 between SPACE_TO_BATCH_ND and BATCH_TO_SPACE_ND is taken",
                "give the convolution a dilation (dilation_rate) instead",
            )
        return v

    def picture(self, i: int = 0) -> Tensor:
        """Return input ``i`` as (1, C, H, W)."""
        v = self.value(i)
        if len(v.shape) != 4:
            raise self.refuse(f"{self.op} of {len(v.shape)} dimensions", "pictures (1, H, W, C) are taken")
        return v.planar

    def plain(self, i: int = 0) -> Tensor:
        """Return input ``i`` in the file's order."""
        return self.value(i).plain

    def const(self, i: int, what: str) -> NDArray[Any]:
        """Return the numbers of input ``i`` in the file's order; they must be known now."""
        v = self.value(i)
        if not v.is_constant:
            raise UnsupportedError(
                "E267", f"the {what} of this {self.op} are computed at run time", where=self.label,
                why=f"'{v.stored.name}' depends on the model's input",
                fix="make it a constant, or end the model before this operator (outputs=...)",
            )  # fmt: skip
        return np.asarray(v.plain.data)

    def const_ints(self, i: int, what: str) -> list[int]:
        """Return input ``i`` as whole numbers."""
        data = self.const(i, what)
        if data.size > 64:
            raise self.damaged(f"the {what} are {data.size} numbers")
        return [int(v) for v in data.reshape(-1)]

    def axis(self, value: int, rank: int) -> int:
        """Return an axis counted from the front."""
        if not -rank <= value < rank:
            raise self.damaged(f"axis {value} does not exist", f"the input has {rank} dimensions")
        return value % rank

    # -- options --------------------------------------------------------------------------------------------------
    def option(self, field: int, kind: str = "i32", default: float = 0) -> Any:
        """Return a number among the options."""
        table = self.operator.options
        return default if table is None else table.number(field, kind, default)

    def flag(self, field: int) -> bool:
        """Return a truth value among the options."""
        return bool(self.option(field, "u8"))

    # -- results --------------------------------------------------------------------------------------------------
    def add(self, op: str, inputs: Sequence[Tensor | None], stem: str = "", **attrs: Any) -> Tensor:
        """Import an ONNX operator; its result is called like this operator's output, or that with ``.stem``."""
        return self.network.add(op, inputs, self.source, f"{self.name}.{stem}" if stem else self.name, **attrs)

    def number(self, data: Any, stem: str) -> Tensor:
        """Return a constant."""
        return self.network.constant(data, f"{self.name}.{stem}")

    def reshape(self, t: Tensor, shape: Sequence[int], stem: str = "") -> Tensor:
        """Return a tensor in another shape."""
        return self.add("Reshape", [t, self.network.ints(shape, f"{self.name}.shape")], stem)

    def done(self, t: Tensor, i: int = 0, *, planar: bool = False) -> Value:
        """Let output ``i`` be ``t``, which is in the file's order or (``planar``) a picture in the graph's."""
        stored = self.results[i]
        value = Value(self.network, stored, **{"planar" if planar else "plain": t})
        if self.inside is not None:
            value.batched = Batched(value.planar, self.inside.block, self.inside.pads)
        self.values[stored.index] = value
        return value

    def activate(self, t: Tensor, field: int, *, planar: bool = False) -> None:
        """Apply the fused activation that option ``field`` names, and give output 0."""
        code = int(self.option(field, "i8"))
        if code == 0:
            self.done(t, planar=planar)
            return
        if code not in ACTIVATIONS:
            raise self.damaged(f"the fused activation number {code} does not exist")
        self.done(ACTIVATIONS[code](self, t), planar=planar)

    def before(self, field: int) -> str:
        """Return the stem of a result that a fused activation may follow."""
        return "linear" if int(self.option(field, "i8")) else ""


def clip(call: Call, t: Tensor, low: float, high: float, stem: str = "") -> Tensor:
    """Limit a tensor."""
    limits = [call.number(np.float32(v), n) if math.isfinite(v) else None for n, v in (("min", low), ("max", high))]
    return call.add("Clip", [t, *limits], stem)


ACTIVATIONS: Final[dict[int, Callable[[Call, Tensor], Tensor]]] = {
    1: lambda call, t: call.add("Relu", [t]),
    2: lambda call, t: clip(call, t, -1, 1),
    3: lambda call, t: clip(call, t, 0, 6),
    4: lambda call, t: call.add("Tanh", [t]),
}
"""ActivationFunctionType of the schema -> what it is in ONNX."""

Handler = Callable[[Call], None]
HANDLERS: Final[dict[str, Handler]] = {}
"""Operator name -> its handler."""


def handles(*ops: str) -> Callable[[Handler], Handler]:
    """Register a handler for the operators ``ops``."""

    def register(handler: Handler) -> Handler:
        for op in ops:
            HANDLERS[op] = handler
        return handler

    return register


def short(name: str) -> str:
    """Return the layer's name: converters join those of all layers that they fused, the last one first."""
    return name.partition(";")[0] or name


def real_data(stored: Stored, where: str) -> NDArray[Any]:
    """Return a constant's numbers: those that stand for real ones as float32, others as they are."""
    data = data_of(stored, where)
    if not stored.is_integer:
        return data
    shape = [1] * data.ndim
    if stored.scale.size > 1:
        shape[stored.axis] = -1
        if stored.scale.size != data.shape[stored.axis]:
            raise FileFormatError(
                "E163", f"tensor '{stored.name}' has {stored.scale.size} scales", where=where,
                why=f"for {data.shape[stored.axis]} channels", fix="convert the model again",
            )  # fmt: skip
    scale, zero = stored.scale.reshape(shape), stored.zero_point.reshape(shape)
    with np.errstate(over="ignore"):  # infinite weights are refused where they are used
        return np.asarray((data.astype(np.int64) - zero) * scale.astype(np.float64), np.float32)


def scale_of(stored: Stored) -> Scale | None:
    """Return what the uint8 form of an 8-bit tensor stands for; None for other tensors."""
    if stored.dtype not in ("int8", "uint8") or stored.scale.size != 1 or stored.scale[0] <= 0:
        return None
    zero = int(stored.zero_point[0]) + (128 if stored.dtype == "int8" else 0)
    return Scale(float(stored.scale[0]), zero) if 0 <= zero <= 255 else None
