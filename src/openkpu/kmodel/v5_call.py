"""One call of a tensor function, between the instructions of the file and the steps of a program.

A call is a dictionary: addresses and numbers that were on the stack, shapes that were in registers, and the fields of
the instruction. Each function declares the order in which the vendor's compiler emits these (its script), and with it
both directions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from openkpu.errors import FileFormatError, UnsupportedError
from openkpu.kmodel.program import DType, Memory, Operand, Step
from openkpu.kmodel.v5_structures import DTYPE_NUMBERS, DTYPES

MAX_ELEMENTS: Final = 1 << 28
Values = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Address:
    """A byte of a memory, as LEA_BUFFER gives it."""

    memory: Memory
    start: int


def dense(shape: tuple[int, ...], *, zero_for_one: bool = False) -> tuple[int, ...]:
    """Strides of a dense tensor; files of 2021 have 0 for dimensions of size 1."""
    strides, step = [], 1
    for n in reversed(shape):
        strides.append(0 if n == 1 and zero_for_one else step)
        step *= n
    return tuple(reversed(strides))


@dataclass(frozen=True, slots=True)
class Sizes:
    """Bytes of the memories, and the constants themselves."""

    main: int
    input: int
    output: int
    constants: bytes

    def of(self, memory: Memory) -> int:
        """Return the size of a memory of the CPU."""
        return {
            Memory.MAIN: self.main,
            Memory.INPUT: self.input,
            Memory.OUTPUT: self.output,
            Memory.CONST: len(self.constants),
        }[memory]


@dataclass(frozen=True, slots=True)
class Call:
    """A call that was read. ``where`` names its function and place for messages."""

    values: Values
    sizes: Sizes
    where: str

    def __getitem__(self, name: str) -> Any:
        return self.values[name]

    def error(self, what: str, why: str, code: str = "E148") -> FileFormatError:
        """Build the error for a call that makes no sense."""
        return FileFormatError(code, what, where=self.where, why=why, fix="The file is damaged: get it again.")

    def unsupported(self, what: str, why: str) -> UnsupportedError:
        """Build the error for a call that the device might run and the simulator does not."""
        return UnsupportedError("E245", what, where=self.where, why=why, fix="Compile the model again without it.")

    def need(self, good: bool, what: str, why: object) -> None:
        """Raise E148 unless ``good``."""
        if not good:
            raise self.error(what, str(why))

    def dtype(self, name: str, *allowed: DType) -> DType:
        """The element type in a field; E245 unless it is one of ``allowed`` (all but bfloat16 where none is given)."""
        found = DTYPES.get(self[name])
        if found is None or (allowed and found not in allowed):
            names = ", ".join(d.value for d in allowed) or "all but bfloat16"
            have = found.value if found else f"number {self[name]}"
            raise self.unsupported("an element type that this function does not take", f"{have}; it takes {names}")
        return found

    def one_of(self, name: str, kind: Any) -> Any:
        """The member of an enumeration with the number in a field; E148 where there is none."""
        try:
            return kind(self[name])
        except ValueError:
            raise self.error("a number without meaning", f"{name} is {self[name]}") from None

    def signed(self, name: str) -> tuple[int, ...]:
        """The values of a shape register as signed numbers."""
        return tuple(n - (1 << 32) if n >> 31 else n for n in self[name])

    def axis(self, value: int, rank: int) -> int:
        """An axis from 0 on; E148 outside the rank."""
        self.need(-rank <= value < rank, "an axis outside the tensor", f"axis {value} of {rank}")
        return value % rank

    def axes(self, name: str, rank: int) -> tuple[int, ...]:
        """Axes in a register."""
        found: tuple[int, ...] = self[name]
        good = len(set(found)) == len(found) and all(a < rank for a in found)
        self.need(good, "axes that make no sense", f"{found} of a tensor of rank {rank}")
        return found

    def operand(
        self, name: str, dtype: DType, shape: tuple[int, ...], strides: tuple[int, ...] | None = None
    ) -> Operand:
        """Make the operand at an address; E145 unless it lies in its memory, E148 for a shape without sense."""
        at = self[name]
        if not isinstance(at, Address):
            raise self.error("a number where an address is needed", f"{name} is {at}", "E144")
        elements = 1
        for n in shape:
            elements *= n
        self.need(0 < elements <= MAX_ELEMENTS, "a tensor of no sensible size", f"{name} has shape {shape}")
        if strides is not None:
            self.need(len(strides) == len(shape), "shape and strides of different rank", f"{shape} and {strides}")
            if strides in (dense(shape), dense(shape, zero_for_one=True)):
                strides = None
        found = Operand(at.memory, at.start, dtype, shape, strides)
        if found.stop > self.sizes.of(at.memory):
            raise self.error(
                "a tensor lies outside its memory",
                f"{name} is bytes {found.start}..{found.stop} of {at.memory.value} memory, which has "
                f"{self.sizes.of(at.memory)}",
                "E145",
            )
        if found.start % dtype.size:
            raise self.error("a tensor that is not aligned", f"{name} at byte {found.start}, {dtype.value}", "E145")
        return found

    def same(self, dtype: DType, out_dtype: DType | None = None) -> tuple[Operand, Operand]:
        """Input and output of one shape."""
        shape = self["in_shape"]
        return (
            self.operand("in", dtype, shape, self.values.get("in_strides")),
            self.operand("out", out_dtype or dtype, shape, self.values.get("out_strides")),
        )

    def constant(self, operand: Operand) -> NDArray[Any] | None:
        """A read-only view of an operand that is constant and dense; None for others."""
        if operand.memory is not Memory.CONST or operand.strides is not None:
            return None
        flat = np.frombuffer(self.sizes.constants, operand.dtype.numpy, operand.elements, operand.start)
        return flat.reshape(operand.shape)

    def broadcast(self, shapes: tuple[tuple[int, ...], ...], out: tuple[int, ...]) -> None:
        """Raise E148 unless all shapes broadcast to ``out``."""
        for s in shapes:
            good = len(s) <= len(out) and all(n in (1, m) for n, m in zip(reversed(s), reversed(out), strict=False))
            self.need(good, "shapes that do not broadcast", f"{s} to {out}")


@dataclass(frozen=True, slots=True)
class TensorFunction:
    """A tensor function.

    ``script``: what the vendor's compiler emits before the instruction, in order: ``@x`` the address of an operand,
    ``i:x`` an integer, ``f:x`` a float, ``s:x`` a number of the element type, ``w:x`` a padding (before, after,
    interior); ``r:x`` and ``p:x`` fill the next shape or paddings register. The stack holds the first four kinds.
    """

    name: str
    script: tuple[tuple[str, str], ...]
    steps: tuple[type[Step], ...]
    read: Callable[[Call], Step]
    write: Callable[[Any], Values]


def function(
    name: str, script: str, *steps: type[Step], read: Callable[[Call], Step], write: Callable[[Any], Values]
) -> TensorFunction:
    """Declare a function."""
    tokens = [("@", t[1:]) if t[0] == "@" else (t[0], t[2:]) for t in script.split()]
    return TensorFunction(name, tuple(tokens), steps, read, write)


def number(dtype: DType) -> int:
    """The number of an element type in the file."""
    return DTYPE_NUMBERS[dtype]


def fields_of(s: Any, kind: str = "type") -> Values:
    """What most functions have: operands ``in`` and ``out`` with their shape and strides, and the element type."""
    return {
        "in": s.input,
        "out": s.output,
        kind: number(s.input.dtype),
        "in_shape": s.input.shape,
        "in_strides": s.input,
        "out_strides": s.output,
    }
