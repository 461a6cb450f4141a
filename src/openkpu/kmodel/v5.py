"""kmodel V5 (nncase 1.x) <-> Program.

The entry function of the stackvm module is executed with its constants (``v5_stackvm``); its calls of tensor functions
become steps, and a call of a k210 function is replaced by that function's operations. Main RAM holds the data pools of
all modules one after the other, the stackvm's first. A file does not say which version of nncase made it, and the
numbers of the tensor functions changed often before 1.6: the version is found by reading the code as each of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from openkpu.errors import FileFormatError, MemoryLimitError, OpenKPUError, UnsupportedError
from openkpu.k210 import MAIN_RAM_BYTES
from openkpu.kmodel import v5_container, v5_k210
from openkpu.kmodel.damage import damaged
from openkpu.kmodel.detect import Kind, detect
from openkpu.kmodel.operators import Conv2D, MatMul, ReduceWindow
from openkpu.kmodel.operators_v5 import Conv2DFromMemory, MatMulFromMemory
from openkpu.kmodel.program import KpuConv, Memory, Operand, Program, Requantize, Step
from openkpu.kmodel.v5_call import Address, Call, Sizes, dense
from openkpu.kmodel.v5_extra import CallRecord, V5Extra
from openkpu.kmodel.v5_isa import Variant, variants
from openkpu.kmodel.v5_k210 import Operation, Parameters
from openkpu.kmodel.v5_stackvm import Listing, ModuleCall, listing
from openkpu.kmodel.v5_structures import DTYPES, K210, STACKVM, Container, Function, Layout, Location, Range
from openkpu.kmodel.v5_write import write

__all__ = ["V5Extra", "read", "write"]

MAX_MAIN_BYTES: Final = 64 * 1024 * 1024  # ten times what the chip has; more is a damaged file
MAX_CODE_BYTES: Final = 512 * 1024  # thirty times the largest known
MAX_STEPS: Final = 1 << 15
MAX_WORK: Final = 1 << 32
"""Most element operations all steps may take; the chip would need more than 10 s for that."""
MAX_WEIGHT_BYTES: Final = 128 * 1024 * 1024
"""Weights of all layers together; layers of a hostile file may share theirs, but not in packed form."""
_ALIGN: Final = 256


def read(data: bytes) -> Program:
    """Decode a V5 file. Every offset, size and count is checked before anything is allocated or run.

    Raises ``FileFormatError`` (E140..E148), ``MemoryLimitError`` (E310, E311, E340, E341) or ``UnsupportedError``
    (E232, E236, E240..E246). Weights and tables are read-only views of the file's bytes.
    """
    kind = detect(data)
    if kind.kind is not Kind.V5:
        raise FileFormatError(
            "E140",
            f"not a kmodel V5 but: {kind.title}",
            where="file offset 0",
            why="the first bytes say so",
            fix=kind.advice,
        )
    container = v5_container.read(bytes(data))
    return _Decoder(container).program()


@dataclass(frozen=True, slots=True)
class _Reading:
    """The code, read as one version."""

    variant: Variant
    listing: Listing
    steps: tuple[Step, ...]
    calls: tuple[CallRecord, ...]
    arrays: dict[int, tuple[int, ...]]
    parameters: dict[int, Parameters]


class _Decoder:
    def __init__(self, container: Container) -> None:
        self.container = container
        self.index = container.entry_module
        self.module = container.modules[self.index]
        if self.module.type != STACKVM:
            raise UnsupportedError(
                "E246",
                "the model does not start in a stackvm module",
                where="header",
                why=f"the entry module is for {self.module.type.decode('ascii', 'replace')!r}",
                fix="Compile the model for the K210.",
            )
        self.entry = self.module.functions[container.entry_function]
        self.code = self.module.code(self.entry)
        if len(self.code) > MAX_CODE_BYTES:
            raise damaged("E142", "the code is too long", "entry function", f"{len(self.code)} bytes")
        self.main_base, self.main_bytes = self._pools()
        self.const_base, constants = self._constants()
        self.sizes = Sizes(self.main_bytes, self.entry.input_bytes, self.entry.output_bytes, constants)
        if max(self.entry.input_bytes, self.entry.output_bytes) > MAX_MAIN_BYTES:
            raise self._too_large(max(self.entry.input_bytes, self.entry.output_bytes))
        self._operations: dict[tuple[int, int], tuple[Operation, ...]] = {}

    # -- memories

    def _pools(self) -> tuple[dict[int, int], int]:
        """Where each module's data pool lies in main RAM."""
        others = [i for i in range(len(self.container.modules)) if i != self.index]
        bases: dict[int, int] = {}
        end = 0
        for i in (self.index, *others):
            size = self.container.modules[i].pool(Location.DATA)
            base = -(-end // _ALIGN) * _ALIGN if size else end
            bases[i], end = base, base + size
        if end > MAX_MAIN_BYTES:
            raise self._too_large(end)
        return bases, end

    @staticmethod
    def _too_large(size: int) -> MemoryLimitError:
        return MemoryLimitError(
            "E310",
            "the model wants more main memory than the chip could ever have",
            where="memory pools",
            why=f"{size} bytes; the K210 has {MAIN_RAM_BYTES}",
            fix="The file is damaged: get it again.",
        )

    def _constants(self) -> tuple[dict[int, int], bytes]:
        """Where each module's .rdata lies in the constant area, the stackvm's first."""
        constants = bytearray(self.module.section(b".rdata"))
        bases = {self.index: 0}
        for i, m in enumerate(self.container.modules):
            if i != self.index and m.type == K210:
                constants += bytes(-len(constants) % _ALIGN)
                bases[i] = len(constants)
                constants += m.section(b".rdata")
        return bases, bytes(constants)

    def _lea(self, location: int, offset: int, where: str) -> Address:
        memory = {0: Memory.INPUT, 1: Memory.OUTPUT, 2: Memory.CONST, 3: Memory.MAIN}.get(location)
        limit = self.module.pool(Location.DATA) if memory is Memory.MAIN else None
        if memory is Memory.CONST:
            limit = len(self.module.section(b".rdata"))
        if memory is None or offset > (self.sizes.of(memory) if limit is None else limit):
            why = f"location {location}, byte {offset}"
            raise damaged("E145", "an address outside every memory", where, why)
        return Address(memory, offset)

    # -- versions

    def program(self) -> Program:
        """Read the code as each version that the file may be of, newest first; the first that fits is right."""
        old = self.container.layout is Layout.MODULES
        best: tuple[int, OpenKPUError] | None = None
        for variant in variants():
            if (variant.name == "2021-07") is not old:
                continue
            try:
                return self._finish(self._read_as(variant))
            except (FileFormatError, UnsupportedError, MemoryLimitError) as error:
                reached = self._reached
                if best is None or reached > best[0]:
                    best = reached, error
        assert best is not None
        raise best[1]

    _reached = 0
    """How far the last reading got, to tell which version's error is the one to show."""

    def _read_as(self, variant: Variant) -> _Reading:
        self._reached = 0
        try:
            found = listing(self.code, variant, self.sizes, self._lea)
        except OpenKPUError as error:
            self._reached = _offset(error.where)
            raise
        steps: list[Step] = []
        calls: list[CallRecord] = []
        arrays: dict[int, tuple[int, ...]] = {}
        parameters: dict[int, Parameters] = {}
        for number, (function, item) in enumerate(found.items):
            self._reached = len(self.code) + number
            if isinstance(item, ModuleCall):
                calls.append(self._inline(item, steps, parameters))
            else:
                assert function is not None
                step = function.read(item)
                arrays.update({len(steps): at} if (at := _array_places(step, item)) else {})
                steps.append(step)
            if len(steps) > MAX_STEPS:
                raise damaged("E142", "too many steps", item.where, f"more than {MAX_STEPS}")
        return _Reading(variant, found, tuple(steps), tuple(calls), arrays, parameters)

    # -- calls of the k210 module

    def _inline(self, call: ModuleCall, steps: list[Step], parameters: dict[int, Parameters]) -> CallRecord:
        target = self._target(call)
        module = self.container.modules[call.module]
        inputs = self._arguments(call, target, "input")
        outputs = self._arguments(call, target, "output")
        key = call.module, call.function
        if key not in self._operations:
            where = f"module {call.module}, function {call.function}"
            code = module.code(target)
            self._operations[key] = v5_k210.decode(code, module.section(b".rdata"), where)
        first = len(steps)
        resolve = self._resolver(call.module, target, inputs, outputs)
        for op in self._operations[key]:
            step = v5_k210.step(op, resolve)
            for name, operand in step.operands():
                self._inside(operand, f"{op.where}, {name}")
            if op.layer is not None:
                parameters[len(steps)] = Parameters(*(r.start for r in op.ranges[:3]))
            steps.append(step)
        return CallRecord(first, len(steps) - first, call.module, call.function, inputs, outputs)

    def _target(self, call: ModuleCall) -> Function:
        modules = self.container.modules
        if call.module >= len(modules) or call.function >= len(modules[call.module].functions):
            why = f"function {call.function} of module {call.module}"
            raise damaged("E146", "a call of a function that is not there", call.where, why)
        if modules[call.module].type != K210:
            raise UnsupportedError(
                "E246",
                "a call of a function that is not for the K210",
                where=call.where,
                why=f"its module is for {modules[call.module].type.decode('ascii', 'replace')!r}",
                fix="Compile the model for the K210.",
            )
        function = modules[call.module].functions[call.function]
        if (len(call.inputs), len(call.outputs)) != (len(function.inputs), len(function.outputs)):
            why = f"{len(call.inputs)} and {len(call.outputs)}, not {len(function.inputs)} and {len(function.outputs)}"
            raise damaged("E146", "a call with the wrong number of tensors", call.where, why)
        return function

    def _arguments(self, call: ModuleCall, function: Function, side: str) -> tuple[Operand, ...]:
        given, wanted = (call.inputs, function.inputs) if side == "input" else (call.outputs, function.outputs)
        found = []
        for i, (a, w) in enumerate(zip(given, wanted, strict=True)):
            where = f"{call.where}, {side} {i}"
            dtype = DTYPES.get(a.dtype)
            if dtype is None or (a.dtype, a.shape) != (w.range.dtype, w.shape):
                why = f"type {a.dtype} and shape {a.shape}, not {w.range.dtype} and {w.shape}"
                raise damaged("E146", "a call with a tensor that does not fit", where, why)
            if a.strides not in (dense(a.shape), dense(a.shape, zero_for_one=True)):
                raise UnsupportedError(
                    "E245",
                    "a call with a tensor that is not dense",
                    where=where,
                    why=f"shape {a.shape}, strides {a.strides}",
                    fix="Compile the model again without it.",
                )
            operand = Operand(a.address.memory, a.address.start, dtype, a.shape)
            self._inside(operand, where)
            found.append(operand)
        return tuple(found)

    def _inside(self, operand: Operand, where: str) -> None:
        if operand.memory is Memory.AI:
            return
        if operand.stop > self.sizes.of(operand.memory) or operand.start % operand.dtype.size:
            raise damaged(
                "E145",
                "a tensor lies outside its memory",
                where,
                f"bytes {operand.start}..{operand.stop} of {operand.memory.value} memory, which has "
                f"{self.sizes.of(operand.memory)}",
            )

    def _resolver(
        self, module: int, function: Function, inputs: tuple[Operand, ...], outputs: tuple[Operand, ...]
    ) -> Callable[[Range, str], Address]:
        by_start = {
            Location.INPUT.value: {b.range.start: o for b, o in zip(function.inputs, inputs, strict=True)},
            Location.OUTPUT.value: {b.range.start: o for b, o in zip(function.outputs, outputs, strict=True)},
        }

        def resolve(r: Range, where: str) -> Address:
            if (buffers := by_start.get(r.location)) is not None:
                if (o := buffers.get(r.start)) is None:
                    raise damaged("E147", "a range that is no input or output of its function", where, f"{r}")
                return Address(o.memory, o.start)
            if r.location == Location.DATA.value:
                return Address(Memory.MAIN, self.main_base[module] + r.start)
            if r.location == Location.RDATA.value:
                return Address(Memory.CONST, self.const_base[module] + r.start)
            if r.location == Location.KPU.value:
                return Address(Memory.AI, r.start)
            raise damaged("E147", "a range in an unknown memory", where, f"location {r.location}")

        return resolve

    # -- the program

    def _finish(self, r: _Reading) -> Program:
        self._reached = len(self.code) * 2
        work = sum(_work(s) for s in r.steps)
        if work > MAX_WORK:
            raise UnsupportedError(
                "E236",
                "the model does not end in a sensible time",
                where="all steps",
                why=f"{work} element operations, the limit is {MAX_WORK}",
                fix="The file is damaged: get it again.",
            )
        layers = {id(s.layer): s.layer.weights.nbytes for s in r.steps if isinstance(s, KpuConv)}
        weights = sum(layers.values()) + sum(s.weights.nbytes for s in r.steps if isinstance(s, Conv2D))
        if weights > MAX_WEIGHT_BYTES:
            raise damaged("E142", "more weights than a file can have", "all steps", f"{weights} bytes")
        inputs = tuple(self._buffer(b.range, b.shape, Memory.INPUT, i) for i, b in enumerate(self.entry.inputs))
        outputs = tuple(self._buffer(b.range, b.shape, Memory.OUTPUT, i) for i, b in enumerate(self.entry.outputs))
        own = len(self.module.section(b".rdata"))
        used = max((o.stop for s in r.steps for _, o in s.operands() if o.memory is Memory.CONST), default=0)
        constants = self.sizes.constants if used > own else self.sizes.constants[:own]
        zero_for_one = any(
            n == 1 and s == 0
            for _, item in r.listing.items
            if isinstance(item, Call) and "in_strides" in item.values
            for n, s in zip(item["in_shape"], item["in_strides"], strict=False)
        )
        extra = V5Extra(
            variant=r.variant.name,
            skeleton=_skeleton(self.container),
            rdata_bytes=tuple(len(m.section(b".rdata")) for m in self.container.modules),
            main_base=tuple(self.main_base[i] for i in range(len(self.container.modules))),
            const_base=tuple(self.const_base.get(i, 0) for i in range(len(self.container.modules))),
            zero_for_one=zero_for_one,
            steps=r.steps,
            calls=r.calls,
            arrays=r.arrays,
            parameters=r.parameters,
        )
        return Program(
            version=5,
            inputs=inputs,
            outputs=outputs,
            steps=r.steps,
            main_bytes=self.main_bytes,
            constants=constants,
            input_bytes=self.entry.input_bytes,
            output_bytes=self.entry.output_bytes,
            extra=extra,
        )

    def _buffer(self, r: Range, shape: tuple[int, ...], memory: Memory, index: int) -> Operand:
        where = f"entry function, {memory.value} {index}"
        location = Location.INPUT if memory is Memory.INPUT else Location.OUTPUT
        dtype = DTYPES.get(r.dtype)
        if dtype is None or r.location != location.value or 0 in shape:
            raise damaged("E142", "a buffer that makes no sense", where, f"{r}, shape {shape}")
        # without the batch of 1, as in other versions: pictures are (channels, height, width)
        operand = Operand(memory, r.start, dtype, shape[1:] if len(shape) > 1 and shape[0] == 1 else shape)
        self._inside(operand, where)
        return operand


def _offset(where: str) -> int:
    """The offset in the code that an error names."""
    word = where.removeprefix(".text offset ").split(" ", 1)[0]
    return int(word) if word.isdigit() else 0


def _array_places(step: Step, call: Call) -> tuple[int, ...]:
    """Where in the constants the arrays lie that a step holds itself."""
    names = {Conv2D: ("weights", "bias"), MatMul: ("bias",), Requantize: ("table",)}.get(type(step), ())
    return tuple(call[name].start for name in names)


def _skeleton(c: Container) -> Container:
    """The container without the bodies of its sections, which are made from the program."""
    return replace(
        c, modules=tuple(replace(m, sections=tuple(replace(s, body=b"") for s in m.sections)) for m in c.modules)
    )


def _work(step: Step) -> int:
    if isinstance(step, KpuConv):
        # The KPU and its simulation do many at once; a picture costs something however small it is.
        return step.layer.macs * step.batches // 8 + (step.batches << 16)
    elements = sum(o.elements for _, o in step.operands())
    result = step.writes[0].elements
    if isinstance(step, Conv2D):
        return int(result * (step.weights.size // step.weights.shape[0]))
    if isinstance(step, Conv2DFromMemory):
        return result * (step.weights.elements // step.weights.shape[0])
    if isinstance(step, MatMul | MatMulFromMemory):
        return result * step.input_a.shape[-1]
    if isinstance(step, ReduceWindow):
        return elements + result * step.kernel[0] * step.kernel[1]
    return elements
