"""The code of V5's stack machine: executed with its constants, it is a list of calls; and the way back.

A function is straight-line code: it pushes addresses and constants, puts shapes into registers and calls tensor
functions. Nothing depends on data, so executing it once without data tells everything. Branches and memory access by
scalar instructions, which no compiled model has, are refused by name.
Source: nncase v1.9.0, ``runtime/stackvm``.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from openkpu.errors import FileFormatError, UnsupportedError
from openkpu.kmodel.program import DType, Operand
from openkpu.kmodel.v5_call import Address, Call, Sizes, TensorFunction, Values, dense
from openkpu.kmodel.v5_isa import OPCODES, SCALARS, TENSOR, FunctionFields, Variant
from openkpu.kmodel.v5_registry import FUNCTIONS, NOT_RUN
from openkpu.kmodel.v5_structures import DTYPES

MAX_STACK: Final = 4096
MAX_CALLS: Final = 1 << 16
Lea = Callable[[int, int, str], Address]
"""(location, offset, where) -> address."""


@dataclass(frozen=True, slots=True)
class Argument:
    """A tensor that a function of another module gets."""

    address: Address
    dtype: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ModuleCall:
    """A call of a function of another module."""

    module: int
    function: int
    inputs: tuple[Argument, ...]
    outputs: tuple[Argument, ...]
    where: str


Item = Call | ModuleCall


@dataclass(frozen=True, slots=True)
class Listing:
    """What the code does: (tensor function or None, call) in order."""

    items: tuple[tuple[TensorFunction | None, Item], ...]
    names: tuple[str, ...]
    """Names of the functions, to compare two readings of the same code."""


class _Machine:
    def __init__(self, text: bytes, variant: Variant, sizes: Sizes, lea: Lea) -> None:
        self.text, self.variant, self.sizes, self.lea = text, variant, sizes, lea
        self.stack: list[int | float | Address] = []
        self.shapes: dict[int, tuple[int, ...]] = {}
        self.pads: dict[int, tuple[tuple[int, int, int], ...]] = {}
        self.at = 0
        self.name = ""

    @property
    def where(self) -> str:
        return f".text offset {self.at} ({self.name})"

    def error(self, code: str, what: str, why: str) -> FileFormatError:
        return FileFormatError(code, what, where=self.where, why=why, fix="The file is damaged: get it again.")

    def pop(self) -> int | float | Address:
        if not self.stack:
            raise self.error("E144", "the stack is empty", "the instruction takes a value from it")
        return self.stack.pop()

    def pop_int(self) -> int:
        value = self.pop()
        if not isinstance(value, int):
            raise self.error("E144", "a wrong kind of value on the stack", f"{value} where a whole number is needed")
        return value

    def pop_address(self) -> Address:
        value = self.pop()
        if not isinstance(value, Address):
            raise self.error("E144", "a wrong kind of value on the stack", f"{value} where an address is needed")
        return value

    def pop_float(self) -> float:
        """A float; a whole number is taken by its bits, as the runtime does."""
        value = self.pop()
        if isinstance(value, Address):
            raise self.error("E144", "a wrong kind of value on the stack", "an address where a number is needed")
        if isinstance(value, int):
            return float(struct.unpack("<f", struct.pack("<i", value))[0])
        return value

    def pop_padding(self) -> tuple[int, int, int]:
        """(before, after, interior)."""
        interior = self.pop_int() if self.variant.interior else 0
        after = self.pop_int()
        return self.pop_int(), after, interior

    def pop_scalar(self, dtype: DType | None) -> int | float:
        if dtype is DType.F32:
            if self.stack and self.stack[-1] == 0 and isinstance(self.stack[-1], int):
                return self.pop_int()  # a whole 0 is the float 0 too; kept, to write it back as it was
            return self.pop_float()
        value = self.pop_int()
        if dtype in (DType.U8, DType.U16, DType.U32, DType.I8, DType.I16, DType.I32):
            return int(np.array(value & 0xFFFFFFFF, np.uint32).astype(dtype.numpy))
        raise UnsupportedError(
            "E245",
            "an element type that this function does not take",
            where=self.where,
            why=f"{dtype.value if dtype else 'bfloat16'}",
            fix="Compile the model again without it.",
        )

    def register(self, kind: str, index: int) -> Any:
        found = (self.shapes if kind == "r" else self.pads).get(index)
        if found is None:
            raise self.error("E144", "a register that nobody set", f"{kind}{index}")
        return found

    # -- instructions

    def run(self) -> Listing:
        items: list[tuple[TensorFunction | None, Item]] = []
        names: list[str] = []
        position = 0
        while position < len(self.text):
            self.at = position
            code = self.text[position]
            position += 1
            if code == TENSOR:
                fields, position = self.fields(position)
                names.append(fields.name)
                items.append(self.tensor(fields, position - fields.record.size))
                if len(items) > MAX_CALLS:
                    raise self.error("E142", "too many calls", f"more than {MAX_CALLS}")
                continue
            if code >= len(SCALARS):
                raise self.error("E143", "an unknown instruction", f"number 0x{code:02x}")
            self.name, record = SCALARS[code]
            if position + record.size > len(self.text):
                raise self.error("E141", "the code ends inside an instruction", f"{len(self.text)} bytes of code")
            immediates = record.unpack_from(self.text, position)
            position += record.size
            if self.name == "RET":
                break
            self.scalar(immediates)
        if self.stack:
            self.name = "end"
            raise self.error("E144", "values are left on the stack", f"{len(self.stack)} of them")
        return Listing(tuple(items), tuple(names))

    def fields(self, position: int) -> tuple[FunctionFields, int]:
        self.name = "TENSOR"
        if position + 2 > len(self.text):
            raise self.error("E141", "the code ends inside an instruction", f"{len(self.text)} bytes of code")
        (number,) = struct.unpack_from("<H", self.text, position)
        fields = self.variant.by_number.get(number)
        if fields is None:
            raise self.error("E143", "an unknown tensor function", f"number {number} in version {self.variant.name}")
        self.name = fields.name
        if position + 2 + fields.record.size > len(self.text):
            raise self.error("E141", "the code ends inside an instruction", f"{len(self.text)} bytes of code")
        return fields, position + 2 + fields.record.size

    def scalar(self, immediates: tuple[Any, ...]) -> None:
        name = self.name
        if name == "LEA_BUFFER":
            location, _, offset = immediates
            self.push(self.lea(location, offset, self.where))
        elif name in ("LDC_I4", "LDC_R4"):
            self.push(immediates[0])
        elif name in ("LDC_I4_0", "LDNULL"):
            self.push(0)
        elif name == "LDC_I4_1":
            self.push(1)
        elif name == "STSHAPE":
            index, rank = immediates
            values = [self.pop_int() & 0xFFFFFFFF for _ in range(rank)]
            self.shapes[index] = tuple(reversed(values))
        elif name == "STPADDINGS":
            index, rank = immediates
            rows = [self.pop_padding() for _ in range(rank)]
            self.pads[index] = tuple(reversed(rows))
        elif name == "DUP":
            value = self.pop()
            self.push(value)
            self.push(value)
        elif name == "POP":
            self.pop()
        elif name != "NOP":
            control = name in ("BR", "BR_TRUE", "BR_FALSE", "CALL", "ECALL", "THROW", "BREAK")
            raise UnsupportedError(
                "E243",
                "the model's code is not straight-line",
                where=self.where,
                why=f"instruction {name}: {'control flow' if control else 'scalar arithmetic or memory access'}, "
                "which no compiled model is known to have",
                fix="Check that the file is not damaged.",
            )

    def push(self, value: int | float | Address) -> None:
        if len(self.stack) >= MAX_STACK:
            raise self.error("E144", "the stack is full", f"{MAX_STACK} values")
        self.stack.append(value)

    # -- tensor functions

    def tensor(self, fields: FunctionFields, at: int) -> tuple[TensorFunction | None, Item]:
        raw = dict(zip((n for _, n in fields.fields), fields.record.unpack_from(self.text, at), strict=True))
        if fields.name == "CALL":
            return None, self.module_call(raw)
        if fields.name in NOT_RUN or fields.name not in FUNCTIONS:
            raise UnsupportedError(
                "E244",
                f"the simulator does not have the tensor function {fields.name}",
                where=self.where,
                why=NOT_RUN.get(fields.name, "only versions of early 2022 had it"),
                fix="End the model before it and do it in the script.",
            )
        function = FUNCTIONS[fields.name]
        values: Values = {}
        for kind, name in fields.fields:
            value = raw[name]
            if kind == "?" and value > 1:
                raise self.error("E148", "a number without meaning", f"{name} is {value}, not 0 or 1")
            values[name] = self.register(kind, value) if kind in "rp" else value
        for kind, name in reversed(function.script):
            if kind in "rp":
                continue
            if kind == "@":
                values[name] = self.pop_address()
            elif kind == "i":
                values[name] = self.pop_int()
            elif kind == "f":
                values[name] = self.pop_float()
            elif kind == "s":
                values[name] = self.pop_scalar(DTYPES.get(values["type"]))
            else:
                values[name] = self.pop_padding()
        return function, Call(values, self.sizes, self.where)

    def module_call(self, raw: Values) -> ModuleCall:
        def arguments(count: int) -> tuple[Argument, ...]:
            found = []
            for _ in range(count):
                strides, shape = (self.register("r", self.pop_int()) for _ in range(2))
                dtype = self.pop_int() & 0xFF
                found.append(Argument(self.pop_address(), dtype, shape, strides))
            return tuple(reversed(found))

        outputs = arguments(raw["outputs"])
        return ModuleCall(raw["module"], raw.get("function", 0), arguments(raw["inputs"]), outputs, self.where)


def listing(text: bytes, variant: Variant, sizes: Sizes, lea: Lea) -> Listing:
    """Execute the code of a function; return its calls.

    ``FileFormatError`` E141, E143, E144 for code that is none in this variant, ``UnsupportedError`` E243, E244 for what
    the simulator does not have.
    """
    return _Machine(text, variant, sizes, lea).run()


# -- writing -------------------------------------------------------------------------------------------------------

_LEA: Final = struct.Struct("<BBBI")


class Assembler:
    """Writes code as the vendor's compiler does.

    ``place`` gives (location, offset) of an operand, or of an array by its name in the function's script.
    """

    def __init__(
        self, variant: Variant, place: Callable[[Any, str], tuple[int, int]], *, zero_for_one: bool = False
    ) -> None:
        self.out = bytearray()
        self._variant = variant
        self._place = place
        self._zero_for_one = zero_for_one

    def strides(self, x: Any) -> tuple[int, ...]:
        """Strides of an operand or array as the file has them."""
        own = x.strides if isinstance(x, Operand) else None
        return dense(x.shape, zero_for_one=self._zero_for_one) if own is None else own

    def lea(self, x: Any, name: str = "") -> None:
        """Push an address."""
        location, offset = self._place(x, name)
        self.out += _LEA.pack(OPCODES["LEA_BUFFER"], location, 0, offset)

    def integer(self, value: int) -> None:
        """Push a whole number (32 bits, of either sign)."""
        self.out += struct.pack("<BI", OPCODES["LDC_I4"], value & 0xFFFFFFFF)
        if not -(1 << 31) <= value < 1 << 32:
            raise struct.error(f"{value} does not fit 32 bits")

    def real(self, value: float) -> None:
        """Push a float."""
        self.out += struct.pack("<Bf", OPCODES["LDC_R4"], value)

    def padding(self, value: tuple[int, int, int]) -> None:
        """Push a padding."""
        for v in value if self._variant.interior else value[:2]:
            self.integer(v)

    def shape(self, register: int, values: tuple[int, ...]) -> None:
        """Fill a shape register."""
        for v in values:
            self.integer(v)
        self.out += struct.pack("<BBB", OPCODES["STSHAPE"], register, len(values))

    def tensor(self, function: TensorFunction, values: Values) -> None:
        """Write a call; ``KeyError`` when this version lacks the function."""
        fields = self._variant.by_name[function.name]
        wanted = {name: kind for kind, name in fields.fields}
        raw = {name: values[name] for name, kind in wanted.items() if kind not in "rp"}
        used = {"r": 0, "p": 0}
        for kind, name in function.script:
            if kind in "rp" and name not in wanted:
                continue
            value = values[name]
            if kind == "@":
                self.lea(value, name)
            elif kind == "i":
                self.integer(value)
            elif kind == "f":
                self.real(value)
            elif kind == "s":
                self.integer(value) if isinstance(value, int) else self.real(value)
            elif kind == "w":
                self.padding(value)
            elif kind == "r":
                raw[name] = used["r"]
                used["r"] += 1
                self.shape(raw[name], self.strides(value) if name.endswith("strides") else tuple(value))
            else:
                raw[name] = used["p"]
                used["p"] += 1
                for row in value:
                    self.padding(row)
                self.out += struct.pack("<BBB", OPCODES["STPADDINGS"], raw[name], len(value))
        self.out += fields.pack(raw)

    def call(
        self, module: int, function: int, inputs: list[Any], outputs: list[Any], numbers: dict[DType, int]
    ) -> None:
        """Write a call of another module's function."""
        register = 0
        for x in (*inputs, *outputs):
            self.lea(x)
            self.integer(numbers[x.dtype])
            for values in (x.shape, self.strides(x)):
                self.shape(register, values)
                self.integer(register)
                register += 1
        fields = self._variant.by_name["CALL"]
        counts = {"module": module, "function": function, "inputs": len(inputs), "outputs": len(outputs)}
        self.out += fields.pack(counts)
