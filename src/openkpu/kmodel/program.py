"""What every kmodel version decodes to: a straight-line program over the chip's memories.

Main RAM holds the model's scratch buffer, AI RAM the KPU's feature maps. Weights and tables belong to the steps that
use them; other constant tensors of V4 and V5 lie in the constant area. A step names its operands; nothing in a step
refers to a file offset. Here are the steps of the KPU, which all versions share, and the CPU layers of V3; the tensor
operators of V4 and V5 are in ``operators``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openkpu.kpu.fmap import FeatureMapLayout
from openkpu.kpu.layer import KpuLayer


class Memory(Enum):
    """Where an operand lives."""

    MAIN = "main"
    """The scratch buffer in main RAM."""
    AI = "ai"
    """The KPU's own RAM."""
    CONST = "const"
    """The constant area of the file (V4: constants, V5: .rdata); never written."""
    INPUT = "input"
    """The caller's input buffers in main RAM (V5)."""
    OUTPUT = "output"
    """The caller's output buffers in main RAM (V5)."""


class DType(Enum):
    """Element type of an operand. V3 and V4 have uint8 and float32 only."""

    U8 = "uint8"
    F32 = "float32"
    I8 = "int8"
    I16 = "int16"
    I32 = "int32"
    I64 = "int64"
    U16 = "uint16"
    U32 = "uint32"
    U64 = "uint64"
    F16 = "float16"
    F64 = "float64"

    @property
    def size(self) -> int:
        """Bytes of one element."""
        return self.numpy.itemsize

    @property
    def numpy(self) -> np.dtype[Any]:
        """The NumPy type."""
        return _NUMPY[self]


_NUMPY = {d: np.dtype(d.value) for d in DType}


@dataclass(frozen=True, slots=True)
class Operand:
    """A typed piece of a memory. ``start`` is a byte address; in AI RAM it is a multiple of 64.

    In AI RAM the shape is (channels, height, width), or (batch, channels, height, width) for pictures one after the
    other, and the bytes are laid out as ``kpu.fmap`` says. ``strides`` (elements, one for each dimension) is for views
    of V5 that are not dense; None means dense, in row-major order.
    """

    memory: Memory
    start: int
    dtype: DType
    shape: tuple[int, ...]
    strides: tuple[int, ...] | None = None

    @property
    def elements(self) -> int:
        """Number of elements."""
        n = 1
        for d in self.shape:
            n *= d
        return n

    @property
    def size(self) -> int:
        """Bytes from the first element to the last, padding of the AI-RAM layout included."""
        if self.memory is Memory.AI:
            *batch, c, h, w = self.shape
            return (batch[0] if batch else 1) * FeatureMapLayout(c, h, w).bytes
        if self.strides is None or self.elements == 0:
            return self.elements * self.dtype.size
        last = sum((d - 1) * s for d, s in zip(self.shape, self.strides, strict=True))
        return (last + 1) * self.dtype.size

    @property
    def stop(self) -> int:
        """First byte after the operand."""
        return self.start + self.size


class Activation(Enum):
    """Activation of a CPU fully-connected step (numbers as in the V3 file)."""

    LINEAR = 0
    RELU = 1
    RELU6 = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """Base of all steps. ``flags`` is V3's body flag word, kept for exact re-writing (bit 0: result goes to main RAM).

    ``name`` is the source layer's name where the compiler knows it; files do not hold it.
    """

    flags: int = 0
    name: str = ""

    def operands(self) -> Iterator[tuple[str, Operand]]:
        """Every operand with the name of its field."""
        for f in fields(self):
            value = getattr(self, f.name)
            if isinstance(value, Operand):
                yield f.name, value
            elif isinstance(value, tuple):
                for item in value:
                    if isinstance(item, Operand):
                        yield f.name, item

    @property
    def reads(self) -> list[Operand]:
        """Operands that the step reads."""
        return [o for name, o in self.operands() if not name.startswith(("output", "main_output"))]

    @property
    def writes(self) -> list[Operand]:
        """Operands that the step writes."""
        return [o for name, o in self.operands() if name.startswith(("output", "main_output"))]


@dataclass(frozen=True, slots=True, kw_only=True)
class KpuConv(Step):
    """A KPU layer. Its AI-RAM operands follow from the registers; ``main_output`` where it also goes to main RAM.

    ``batches`` (V4, V5): the layer runs on so many pictures that lie one after the other in both places.
    """

    layer: KpuLayer
    main_output: Operand | None = None
    batches: int = 1

    @property
    def input(self) -> Operand:
        """The input feature map in AI RAM."""
        return self._map(self.layer.registers.image_src_addr, self.layer.input_shape)

    @property
    def output(self) -> Operand:
        """The output feature map in AI RAM."""
        return self._map(self.layer.registers.image_dst_addr, self.layer.output_shape)

    def _map(self, line: int, shape: tuple[int, ...]) -> Operand:
        return Operand(Memory.AI, line * 64, DType.U8, shape if self.batches == 1 else (self.batches, *shape))

    def operands(self) -> Iterator[tuple[str, Operand]]:
        """Input, output and main output."""
        yield "input", self.input
        yield "output", self.output
        if self.main_output is not None:
            yield "main_output", self.main_output


@dataclass(frozen=True, slots=True, kw_only=True)
class KpuUpload(Step):
    """Main RAM uint8 (c, h, w) -> AI RAM feature map."""

    input: Operand
    output: Operand


@dataclass(frozen=True, slots=True, kw_only=True)
class KpuDownload(Step):
    """AI RAM feature map -> main RAM uint8 (V5)."""

    input: Operand
    output: Operand


@dataclass(frozen=True, slots=True, kw_only=True)
class KpuAddPadding(Step):
    """Main RAM uint8 (c,) -> pixel (0, 0) of a (c, 4, 4) feature map; the other 15 pixels keep their content."""

    input: Operand
    output: Operand


@dataclass(frozen=True, slots=True, kw_only=True)
class KpuRemovePadding(Step):
    """Main RAM uint8 (c, 4, 4) -> (c,): every 16th byte."""

    input: Operand
    output: Operand


@dataclass(frozen=True, slots=True, kw_only=True)
class Add(Step):
    """float32 ``output = input_a + input_b``."""

    input_a: Operand
    input_b: Operand
    output: Operand


@dataclass(frozen=True, slots=True)
class QuantizedTerm:
    """``(x + offset) * mul`` and a later right shift by ``shift`` (QUANTIZED_ADD)."""

    offset: int
    mul: int
    shift: int


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizedAdd(Step):
    """uint8 addition in fixed point; the runtime works on whole groups of 8 bytes."""

    input_a: Operand
    input_b: Operand
    output: Operand
    a: QuantizedTerm
    b: QuantizedTerm
    o: QuantizedTerm


@dataclass(frozen=True, slots=True, kw_only=True)
class GlobalAveragePool(Step):
    """float32 (channels, kernel_size) -> (channels,)."""

    input: Operand
    output: Operand


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool2D(Step):
    """Common part of the CPU poolings; shapes (c, h, w); ``kernel`` etc. are (width, height) as in the file."""

    input: Operand
    output: Operand
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizedMaxPool(Pool2D):
    """uint8 maximum over the valid taps, 0 where there is none. A negative padding starts inside the picture."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AveragePool(Pool2D):
    """float32 mean over the valid taps. ``activation`` is in the file and ignored by the runtime."""

    activation: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantize(Step):
    """float32 -> uint8: ``clamp(round((x - bias) / scale))``."""

    input: Operand
    output: Operand
    scale: float
    bias: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Dequantize(Step):
    """uint8 -> float32: ``x * scale + bias``."""

    input: Operand
    output: Operand
    scale: float
    bias: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ChannelwiseDequantize(Step):
    """uint8 (c, n) -> float32, scale and bias for each channel (float32 (c,))."""

    input: Operand
    output: Operand
    scale: NDArray[np.float32]
    bias: NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Requantize(Step):
    """uint8 -> uint8 through a table of 256 bytes."""

    input: Operand
    output: Operand
    table: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class L2Normalization(Step):
    """float32 (c,) divided by its Euclidean norm."""

    input: Operand
    output: Operand


@dataclass(frozen=True, slots=True, kw_only=True)
class Softmax(Step):
    """float32 softmax over one vector."""

    input: Operand
    output: Operand


@dataclass(frozen=True, slots=True, kw_only=True)
class Logistic(Step):
    """float32 ``1 / (1 + exp(-x))``."""

    input: Operand
    output: Operand


@dataclass(frozen=True, slots=True, kw_only=True)
class Concat(Step):
    """Copy byte ranges of main RAM one after the other. Operands are uint8 (n,), whatever they hold."""

    inputs: tuple[Operand, ...]
    output: Operand
    quantized: bool = False


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FullyConnected(Step):
    """float32 ``output = activation(weights @ input + bias)``; weights (oc, ic), bias (oc,)."""

    input: Operand
    output: Operand
    weights: NDArray[np.float32]
    bias: NDArray[np.float32]
    activation: Activation = Activation.LINEAR


@dataclass(frozen=True, slots=True, kw_only=True)
class Flatten(Step):
    """float32 (c, h, w) -> (h, w, c), TensorFlow's order."""

    input: Operand
    output: Operand


@dataclass(frozen=True, slots=True, kw_only=True)
class ResizeNearest(Step):
    """Nearest-neighbour resize of (c, h, w), float32 or uint8 by the operands; ``align_corners`` has no effect."""

    input: Operand
    output: Operand
    align_corners: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A decoded kmodel.

    ``inputs`` are where the caller's arrays go before step 0, ``outputs`` where the results are after the last.
    ``constants`` is the constant area (``Memory.CONST``), ``input_bytes`` and ``output_bytes`` the sizes of V5's input
    and output memories. ``extra`` holds what a version's header has beyond that, for exact re-writing (its own
    dataclass in each codec).
    """

    version: int
    inputs: tuple[Operand, ...]
    outputs: tuple[Operand, ...]
    steps: tuple[Step, ...]
    main_bytes: int
    constants: bytes = field(default=b"", repr=False)
    input_bytes: int = 0
    output_bytes: int = 0
    extra: object | None = field(default=None, repr=False)
