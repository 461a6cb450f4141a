"""The layout of a V5 file for a program that was not read from one.

Consecutive KPU steps become one function of the k210 module; everything else is the entry function of the stackvm
module. Arrays of CPU steps follow the constants in the stackvm's .rdata, those of KPU layers are the k210's .rdata;
main RAM is the stackvm's data pool. Inputs and outputs that lie elsewhere are copied.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np

from openkpu.errors import OpenKPUError, UnsupportedError
from openkpu.k210 import AI_RAM_BYTES
from openkpu.kmodel import v5_container
from openkpu.kmodel.operators import ConcatTensors, CopyTensor
from openkpu.kmodel.program import KpuConv, KpuDownload, KpuUpload, Memory, Operand, Program, Step
from openkpu.kmodel.v5_call import dense
from openkpu.kmodel.v5_extra import CallRecord, V5Extra
from openkpu.kmodel.v5_isa import LATEST
from openkpu.kmodel.v5_k210 import Parameters
from openkpu.kmodel.v5_registry import BY_STEP
from openkpu.kmodel.v5_structures import (
    DTYPE_NUMBERS,
    K210,
    STACKVM,
    Buffer,
    Container,
    Function,
    Location,
    Module,
    Pool,
    Range,
    Section,
)
from openkpu.kmodel.v5_write import assemble, encode_function, fitting, no_operator, put_parameters

_KPU: Final = (KpuConv, KpuUpload, KpuDownload)
_BUFFER_ALIGN: Final = 8
_ARRAY_ALIGN: Final = 16
_WEIGHTS_ALIGN: Final = 128  # as in V3
_ACT_ALIGN: Final = 256  # the runtime refuses a table that is not aligned so
_MOST_BUFFERS: Final = 100
"""Of one k210 function: each takes two of the 256 shape registers of a call."""


def _align(n: int, to: int) -> int:
    return -(-n // to) * to


def lay_out(program: Program) -> bytes:
    """Write a program into a layout of our own. ``UnsupportedError`` E237, E247."""
    program = _with_buffers(_without_concat(program))
    calls, functions = _runs(program.steps)
    arrays, constants = _place_arrays(program)
    parameters, k210_bytes = _place_parameters(program.steps)
    skeleton = Container((), alignment=256 if calls else 8)
    extra = V5Extra(
        variant=LATEST,
        skeleton=skeleton,
        rdata_bytes=(len(constants), k210_bytes),
        main_base=(0, program.main_bytes),
        const_base=(0, len(constants)),
        zero_for_one=False,
        steps=program.steps,
        calls=calls,
        arrays=arrays,
        parameters=parameters,
    )
    modules = [_stackvm(program, extra, constants)]
    if calls:
        modules.append(_k210(extra, functions, k210_bytes))
    data = v5_container.write(replace(skeleton, modules=tuple(modules)))
    _check(data, program)
    return data


# -- what V5 has in another form -----------------------------------------------------------------------------------


def _without_concat(program: Program) -> Program:
    """Turn a concatenation into copies to the parts of its output."""
    steps: list[Step] = []
    for step in program.steps:
        if not isinstance(step, ConcatTensors):
            steps.append(step)
            continue
        out, axis = step.output, step.axis % len(step.output.shape)
        strides = out.strides or dense(out.shape)
        position = out.start
        for source in step.inputs:
            part = Operand(out.memory, position, out.dtype, source.shape, strides)
            steps.append(CopyTensor(name=step.name, input=source, output=part))
            position += source.shape[axis] * strides[axis] * out.dtype.size
    return replace(program, steps=tuple(steps))


def _with_buffers(program: Program) -> Program:
    """Let the inputs and outputs be the caller's buffers, as V5 has them; copy where they are not."""
    before, inputs, input_bytes = _buffers(program.inputs, Memory.INPUT, program.input_bytes)
    after, outputs, output_bytes = _buffers(program.outputs, Memory.OUTPUT, program.output_bytes)
    return replace(
        program,
        steps=(*before, *program.steps, *after),
        inputs=inputs,
        outputs=outputs,
        input_bytes=input_bytes,
        output_bytes=output_bytes,
    )


def _buffers(operands: tuple[Operand, ...], memory: Memory, size: int) -> tuple[list[Step], tuple[Operand, ...], int]:
    """Steps that copy, the operands in the caller's buffers, and the size of these together."""
    steps: list[Step] = []
    found = []
    size = _align(size, _BUFFER_ALIGN)
    for o in operands:
        if o.memory is memory:
            found.append(o)
            continue
        buffer = Operand(memory, size, o.dtype, o.shape)
        size = _align(buffer.stop, _BUFFER_ALIGN)
        found.append(buffer)
        source, target = (buffer, o) if memory is Memory.INPUT else (o, buffer)
        if o.memory is Memory.AI:
            kind: Any = KpuUpload if memory is Memory.INPUT else KpuDownload
            steps.append(kind(input=source, output=target))
        else:
            steps.append(CopyTensor(input=source, output=target))
    return steps, tuple(found), size


# -- functions of the k210 module ----------------------------------------------------------------------------------


@dataclass
class _Run:
    """Consecutive KPU steps."""

    first: int
    count: int = 0
    inputs: list[Operand] = field(default_factory=list)
    outputs: list[Operand] = field(default_factory=list)

    def takes(self, reads: list[Operand], writes: list[Operand]) -> bool:
        """Whether a step with these operands in main RAM may join.

        It may not read what the run has written: the runtime may have copied the inputs before the run started.
        """
        if len({*self.inputs, *reads}) + len({*self.outputs, *writes}) > _MOST_BUFFERS:
            return False
        return not any(
            r.memory is w.memory and r.start < w.stop and w.start < r.stop for r in reads for w in self.outputs
        )

    def add(self, reads: list[Operand], writes: list[Operand]) -> None:
        """Let a step join."""
        self.count += 1
        self.inputs += [o for o in reads if o not in self.inputs]
        self.outputs += [o for o in writes if o not in self.outputs]


def _runs(steps: tuple[Step, ...]) -> tuple[tuple[CallRecord, ...], list[Function]]:
    """Group the KPU steps into functions."""
    runs: list[_Run] = []
    for index, step in enumerate(steps):
        if not isinstance(step, _KPU):
            continue
        reads, writes = ([o for o in side if o.memory is not Memory.AI] for side in (step.reads, step.writes))
        last = runs[-1] if runs else None
        if last is None or last.first + last.count != index or not last.takes(reads, writes):
            last = _Run(index)
            runs.append(last)
        last.add(reads, writes)
    calls = tuple(CallRecord(r.first, r.count, 1, i, tuple(r.inputs), tuple(r.outputs)) for i, r in enumerate(runs))
    return calls, [_function(c) for c in calls]


def _function(call: CallRecord) -> Function:
    sides = []
    for operands, location in ((call.inputs, Location.INPUT), (call.outputs, Location.OUTPUT)):
        start, buffers = 0, []
        for o in operands:
            buffers.append(Buffer(Range(location.value, DTYPE_NUMBERS[o.dtype], start, o.size), o.shape))
            start = _align(start + o.size, _BUFFER_ALIGN)
        sides.append((tuple(buffers), start))
    (inputs, input_bytes), (outputs, output_bytes) = sides
    return Function(inputs, outputs, input_bytes, output_bytes)


# -- constants -----------------------------------------------------------------------------------------------------


def _place_arrays(program: Program) -> tuple[dict[int, tuple[int, ...]], bytes]:
    """Append the arrays that CPU steps hold to the constants; equal ones are written once."""
    constants = bytearray(program.constants)
    places: dict[int, tuple[int, ...]] = {}
    known: dict[bytes, int] = {}
    for index, step in enumerate(program.steps):
        function = BY_STEP.get(type(step))
        if isinstance(step, _KPU):
            continue
        if function is None:
            raise no_operator(index, step)
        values = fitting(index, step, lambda s=step, f=function: f.write(s))
        found = []
        for kind, name in function.script:
            if kind != "@" or isinstance(values[name], Operand):
                continue
            array = np.ascontiguousarray(values[name])
            body = array.astype(array.dtype.newbyteorder("<")).tobytes()
            if body not in known:
                at = constants.find(body)  # a program that was read still has its arrays there
                if at < 0 or at % array.itemsize:
                    constants += bytes(-len(constants) % _ARRAY_ALIGN)
                    at = len(constants)
                    constants += body
                known[body] = at
            found.append(known[body])
        if found:
            places[index] = tuple(found)
    return places, bytes(constants)


def _place_parameters(steps: tuple[Step, ...]) -> tuple[dict[int, Parameters], int]:
    """Lay out the arrays of the KPU layers."""
    places: dict[int, Parameters] = {}
    end = 0
    for index, step in enumerate(steps):
        if not isinstance(step, KpuConv):
            continue
        weights = _align(end, _WEIGHTS_ALIGN)
        norm = _align(weights + step.layer.weights.nbytes, _WEIGHTS_ALIGN)
        table = _align(norm + 8 * step.layer.registers.o_ch_num, _ACT_ALIGN)
        places[index] = Parameters(weights, norm, table)
        end = table + 144
    return places, end


# -- modules -------------------------------------------------------------------------------------------------------


def _stackvm(program: Program, extra: V5Extra, constants: bytes) -> Module:
    text = assemble(program, extra)

    def buffers(operands: tuple[Operand, ...], location: Location) -> tuple[Buffer, ...]:
        ranges = [Range(location.value, DTYPE_NUMBERS[o.dtype], o.start, o.size) for o in operands]
        # nncase's own files have a batch; a reader takes it away again
        shapes = [o.shape if len(o.shape) in (2, 4) else (1, *o.shape) for o in operands]
        return tuple(Buffer(r, s) for r, s in zip(ranges, shapes, strict=True))

    entry = Function(
        buffers(program.inputs, Location.INPUT),
        buffers(program.outputs, Location.OUTPUT),
        program.input_bytes,
        program.output_bytes,
        0,
        len(text),
    )
    pools = (Pool(Location.RDATA.value, len(constants)), Pool(Location.DATA.value, program.main_bytes))
    return Module(STACKVM, (entry,), (Section(b".rdata", constants), Section(b".text", text)), pools)


def _k210(extra: V5Extra, functions: list[Function], rdata_bytes: int) -> Module:
    text = bytearray()
    done = []
    for call, function in zip(extra.calls, functions, strict=True):
        code = encode_function(extra, function, call, 1)
        done.append(replace(function, entry=len(text), text_bytes=len(code)))
        text += code
    rdata = bytearray(rdata_bytes)
    put_parameters(extra, rdata, range(len(extra.steps)))
    pools = (
        Pool(Location.RDATA.value, rdata_bytes),
        Pool(Location.DATA.value, 0),
        Pool(Location.KPU.value, AI_RAM_BYTES),
    )
    return Module(K210, tuple(done), (Section(b".rdata", bytes(rdata)), Section(b".text", bytes(text))), pools)


def _check(data: bytes, program: Program) -> None:
    """Read the file again: what V5 does not allow (types, shapes, places) shows there."""
    from openkpu.kmodel.v5 import read

    try:
        again = read(data)
    except OpenKPUError as error:
        raise UnsupportedError(
            "E247",
            f"V5 cannot hold this program: {error.what}",
            where=error.where,
            why=error.why,
            fix="Write another kmodel version, or change the step.",
        ) from error
    if [type(s) for s in again.steps] != [type(s) for s in program.steps]:
        raise UnsupportedError(
            "E247",
            "V5 cannot hold this program",
            where="all steps",
            why="some of its steps read back as others",
            fix="This is a mistake of whatever built the program.",
        )
