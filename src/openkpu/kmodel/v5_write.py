"""Program -> kmodel V5.

A program that was read from a file goes back into that file's layout (``V5Extra``); any other gets the layout of
``v5_layout``. What is written then is the same: the stackvm's code and .rdata, the k210 module's code and .rdata.
"""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import Any, Final

from openkpu.errors import UnsupportedError
from openkpu.kmodel import v5_container, v5_k210
from openkpu.kmodel.program import KpuConv, Memory, Operand, Program, Step
from openkpu.kmodel.v5_extra import CallRecord, V5Extra
from openkpu.kmodel.v5_isa import variant
from openkpu.kmodel.v5_registry import BY_STEP
from openkpu.kmodel.v5_stackvm import Assembler
from openkpu.kmodel.v5_structures import DTYPE_NUMBERS, K210, Function, Location, Module

LOCATIONS: Final = {
    Memory.INPUT: Location.INPUT.value,
    Memory.OUTPUT: Location.OUTPUT.value,
    Memory.CONST: Location.RDATA.value,
    Memory.MAIN: Location.DATA.value,
}


def write(program: Program) -> bytes:
    """Encode a program as a V5 file with the numbers of nncase 1.6 to 1.9; the same program gives the same bytes.

    A program that ``read`` made is written for the version it came from and gives the file's bytes again where these
    were laid out as the vendor's compiler does. ``UnsupportedError`` E247 names a step or memory that V5 cannot hold,
    E237 a value that does not fit its field.
    """
    extra = program.extra
    if isinstance(extra, V5Extra) and extra.steps is program.steps and (data := _rewrite(program, extra)) is not None:
        return data
    from openkpu.kmodel.v5_layout import lay_out

    return lay_out(program)


def _rewrite(program: Program, extra: V5Extra) -> bytes | None:
    """Write into the layout that was read; None where that has code that no step came from."""
    skeleton = extra.skeleton
    modules = []
    for index, module in enumerate(skeleton.modules):
        if any(s.merged_at is not None for s in module.sections):
            return None
        if index == skeleton.entry_module:
            if len(module.functions) != 1:
                return None
            text = assemble(program, extra)
            functions: tuple[Function, ...] = (replace(module.functions[0], entry=0, text_bytes=len(text)),)
            rdata = program.constants[: extra.rdata_bytes[index]]
        elif module.type == K210:
            code = _k210_text(index, module, extra)
            if code is None:
                return None
            text, functions = code, module.functions
            rdata = _k210_rdata(program, index, extra)
        else:
            return None
        bodies = {b".text": bytes(text), b".rdata": bytes(rdata)}
        if any(s.name not in bodies for s in module.sections):
            return None
        sections = tuple(replace(s, body=bodies[s.name]) for s in module.sections)
        modules.append(replace(module, functions=functions, sections=sections))
    return v5_container.write(replace(skeleton, modules=tuple(modules)))


def assemble(program: Program, extra: V5Extra) -> bytes:
    """Write the stackvm's code."""
    current: dict[str, int] = {}

    def place(x: Any, name: str) -> tuple[int, int]:
        if isinstance(x, Operand):
            return LOCATIONS[x.memory], x.start
        return Location.RDATA.value, current[name]

    known = variant(extra.variant)
    asm = Assembler(known, place, zero_for_one=extra.zero_for_one)
    calls = list(extra.calls)
    index = 0
    while index < len(program.steps) or calls:
        if calls and calls[0].first == index:
            call = calls.pop(0)
            asm.call(call.module, call.function, list(call.inputs), list(call.outputs), DTYPE_NUMBERS)
            index += call.count
            continue
        step = program.steps[index]
        function = BY_STEP.get(type(step))
        if function is None or function.name not in known.by_name:
            raise no_operator(index, step)
        current.clear()
        names = [name for kind, name in function.script if kind == "@"]
        values = fitting(index, step, lambda s=step, f=function: f.write(s))
        arrays = [n for n in names if not isinstance(values[n], Operand)]
        current.update(zip(arrays, extra.arrays.get(index, ()), strict=True))
        fitting(index, step, lambda f=function, v=values: asm.tensor(f, v))
        index += 1
    return bytes(asm.out)


def fitting(index: int, step: Step, make: Any) -> Any:
    """Run ``make``; E237 when a value does not fit its field."""
    try:
        return make()
    except (ValueError, struct.error, OverflowError, IndexError) as error:
        raise UnsupportedError(
            "E237",
            f"a value of {type(step).__name__} does not fit its field in V5",
            where=f"step {index} {step.name}".rstrip(),
            why=str(error),
            fix="This is a mistake of whatever built the program.",
        ) from error


def no_operator(index: int, step: Step) -> UnsupportedError:
    """Build the error for a step without an operator."""
    return UnsupportedError(
        "E247",
        f"V5 has no operator for {type(step).__name__}",
        where=f"step {index} {step.name}".rstrip(),
        why="the stackvm of nncase 1.x has no function that does this",
        fix="Write another kmodel version, or end the model before it.",
    )


def _k210_text(index: int, module: Module, extra: V5Extra) -> bytes | None:
    """Write a k210 module's code; None unless every function was called and has the length it had."""
    calls = {c.function: c for c in reversed(extra.calls) if c.module == index}
    text = bytearray(max((f.entry + f.text_bytes for f in module.functions), default=0))
    for number, function in enumerate(module.functions):
        call = calls.get(number)
        code = encode_function(extra, function, call, index) if call else b""
        if len(code) != function.text_bytes:
            return None
        text[function.entry : function.entry + len(code)] = code
    return bytes(text)


def encode_function(extra: V5Extra, function: Function, call: CallRecord, module: int) -> bytes:
    """Write the code of one k210 function from the steps of one of its calls."""

    def place(o: Operand, written: bool) -> tuple[int, int]:
        ins = [(Location.INPUT, *pair) for pair in zip(call.inputs, function.inputs, strict=True)]
        outs = [(Location.OUTPUT, *pair) for pair in zip(call.outputs, function.outputs, strict=True)]
        for location, own, buffer in (*outs, *ins) if written else (*ins, *outs):
            if (own.memory, own.start) == (o.memory, o.start):
                return location.value, buffer.range.start
        base = extra.const_base[module] if o.memory is Memory.CONST else extra.main_base[module]
        return (Location.RDATA if o.memory is Memory.CONST else Location.DATA).value, o.start - base

    code = bytearray()
    for i in range(call.first, call.first + call.count):
        step, parameters = extra.steps[i], extra.parameters.get(i)
        code += fitting(i, step, lambda s=step, p=parameters: v5_k210.encode(s, place, p, DTYPE_NUMBERS))
    return bytes(code)


def _k210_rdata(program: Program, index: int, extra: V5Extra) -> bytes:
    """Put the arrays of the KPU layers where they were; constants that steps copy come along."""
    size, base = extra.rdata_bytes[index], extra.const_base[index]
    rdata = bytearray(size)
    own = program.constants[base : base + size] if base else b""
    rdata[: len(own)] = own
    for call in extra.calls:
        if call.module == index:
            put_parameters(extra, rdata, range(call.first, call.first + call.count))
    return bytes(rdata)


def put_parameters(extra: V5Extra, rdata: bytearray, steps: range) -> None:
    """Write weights, batch norm and activation tables of KPU layers into ``rdata``."""
    for i in steps:
        step = extra.steps[i]
        if not isinstance(step, KpuConv):
            continue
        layer, at = step.layer, extra.parameters[i]
        for start, body in fitting(
            i,
            step,
            lambda s=layer, a=at: (
                (a.weights, s.weights.tobytes()),
                (a.batch_norm, s.batch_norm.encode().astype("<u8").tobytes()),
                (a.activation, s.activation.encode()),
            ),
        ):
            rdata[start : start + len(body)] = body
