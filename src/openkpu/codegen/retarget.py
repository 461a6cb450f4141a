"""Write an existing program for another kmodel version, with the same outputs.

The KPU is the same in all versions, so its layers stay as they are, and every value keeps its address. The operators of
the CPU are replaced by those of the other runtime; what they need beside is placed in gaps. A version's rules are in
``retarget_tensor`` (V4 and V5) and ``retarget_v3``.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openkpu.codegen import gaps
from openkpu.codegen.gaps import FOREVER, Held
from openkpu.codegen.identity import identity_layer
from openkpu.errors import MemoryLimitError, UnsupportedError
from openkpu.k210 import AI_LINE_BYTES, AI_RAM_BYTES, MIN_SIZE
from openkpu.kmodel import operators as t
from openkpu.kmodel import program as p
from openkpu.kmodel.program import DType, KpuConv, Memory, Operand, Program, Step
from openkpu.kpu.fmap import FeatureMapLayout

U8, F32 = DType.U8, DType.F32
Rule = Callable[["Rewriter", Any], None]


@dataclass(slots=True)
class Rewriter:
    """The program being written, and where its values lie."""

    source: Program
    version: int
    values: list[Held]
    steps: list[Step] = field(default_factory=list)
    constants: bytearray = field(default_factory=bytearray)
    main_bytes: int = 0
    position: int = 0
    """Index of the first source step being rewritten."""
    taken: int = 1
    """How many source steps are rewritten together."""
    moved: dict[Memory, tuple[Memory, int]] = field(default_factory=dict)
    """Memories that the target lacks -> where their bytes are."""
    known: dict[bytes, Operand] = field(default_factory=dict)
    folded: dict[tuple[Memory, int], tuple[int, NDArray[Any]]] = field(default_factory=dict)
    """Values that are known at once -> the step that makes them, and what they are."""

    @property
    def step(self) -> Step:
        """The source step being rewritten."""
        return self.source.steps[self.position]

    def add(self, step: Step) -> None:
        """Append a step; it keeps the source's name."""
        self.steps.append(replace(step, name=self.step.name))

    def at(self, o: Operand) -> Operand:
        """Return an operand where it lies in the target."""
        if o.strides is not None and contiguous(o):
            o = replace(o, strides=None)
        if o.memory not in self.moved:
            return o
        memory, base = self.moved[o.memory]
        return replace(o, memory=memory, start=base + o.start)

    def scratch(self, dtype: DType, shape: tuple[int, ...], memory: Memory = Memory.MAIN) -> Operand:
        """Return a free place for a value that lives while the source step is rewritten."""
        if memory is Memory.AI:
            size = FeatureMapLayout(*shape).bytes
        else:
            size = int(np.prod(shape)) * dtype.size
            size += -size % gaps.ROUND
        first, last = self.position, self.position + self.taken - 1
        start = gaps.gap(self.values, memory, size, first, last)
        self.values.append(Held(memory, start, start + size, first, last))
        if memory is Memory.MAIN:
            self.main_bytes = max(self.main_bytes, start + size)
        elif start + size > AI_RAM_BYTES:
            raise MemoryLimitError(
                "E303",
                "AI RAM has no room for a copy that the other kmodel version needs",
                where=self.where,
                why=f"{size} bytes are needed beside what is in use",
                fix="compile the source model for that version",
            )
        return Operand(memory, start, dtype, shape)

    def constant(self, array: NDArray[Any]) -> Operand:
        """Return a constant, uint8 or float32."""
        data = np.ascontiguousarray(array).tobytes()
        key = bytes(array.dtype.name, "ascii") + data
        if key not in self.known:
            self.constants += bytes(-len(self.constants) % 8)
            self.known[key] = Operand(Memory.CONST, len(self.constants), DType(array.dtype.name), array.shape)
            self.constants += data
        return replace(self.known[key], shape=array.shape)

    @property
    def where(self) -> str:
        """How messages call the source step."""
        return f"step {self.position} ({type(self.step).__name__})"

    def refuse(self, why: str, have: str = "") -> UnsupportedError:
        """Build the error of a step that has no counterpart."""
        return UnsupportedError(
            "E222",
            f"this kmodel cannot be written as V{self.version}",
            where=self.where,
            why=why,
            fix=have or "compile the source model for that version",
        )


def unlimited(clamp: tuple[float, float]) -> bool:
    """Whether an operator's limits limit nothing; V5 files also write infinities."""
    return clamp[0] <= -t.FLT_MAX and clamp[1] >= t.FLT_MAX


def contiguous(o: Operand) -> bool:
    """Whether the elements lie one after the other although strides are given."""
    expected = 1
    for d, s in zip(reversed(o.shape), reversed(o.strides or ()), strict=True):
        if d != 1 and s != expected:
            return False
        expected *= d
    return True


def whole(o: Operand) -> Operand | None:
    """Return the dense tensor of which a view with strides is the start of every dimension; None if there is none."""
    strides = o.strides
    if strides is None or strides[-1] != 1 or any(a % b for a, b in itertools.pairwise(strides) if b):
        return None
    sizes = [a // b for a, b in itertools.pairwise(strides)]
    shape = (o.shape[0], *sizes)
    fits = all(d <= n for d, n in zip(o.shape, shape, strict=True))
    return replace(o, shape=shape, strides=None) if fits else None


def retarget(program: Program, version: int) -> Program:
    """Return the program for another kmodel version. ``UnsupportedError`` E222 names the step in the way."""
    from openkpu.codegen.retarget_tensor import tensor_rules
    from openkpu.codegen.retarget_v3 import V3_RULES

    r = Rewriter(program, version, gaps.held(program), main_bytes=program.main_bytes)
    r.constants += program.constants if version > 3 else b""
    inputs = _inputs(r)
    rules = V3_RULES if version == 3 else tensor_rules(version)
    while r.position < len(program.steps):
        r.taken = 1
        if r.position not in _uploads_of_inputs(program, version):
            rule = rules.get(type(r.step))
            if rule is None:
                raise r.refuse(f"V{version}'s runtime has no operator that does what {type(r.step).__name__} does")
            rule(r, r.step)
        r.position += r.taken
    outputs = _outputs(r)
    result = Program(
        version=version,
        inputs=inputs,
        outputs=outputs,
        steps=tuple(r.steps),
        main_bytes=max(r.main_bytes, 8),
        constants=bytes(r.constants),
        input_bytes=sum(_rounded(o) for o in inputs) if version == 5 else 0,
        output_bytes=sum(_rounded(o) for o in outputs) if version == 5 else 0,
    )
    if version == 3:
        _check_start(result)
    return result


def _rounded(o: Operand) -> int:
    return o.size + -o.size % gaps.ROUND


def _uploads_of_inputs(program: Program, version: int) -> dict[int, Operand]:
    """Return the uploads whose source is an input that nothing else reads: step -> input; there, V3 and V4 take it."""
    if version == 5:
        return {}
    found = {}
    for o in program.inputs:
        readers = [
            i for i, s in enumerate(program.steps) for x in s.reads
            if x.memory is o.memory and x.start < o.stop and o.start < x.stop
        ]  # fmt: skip
        if o.memory is Memory.AI or len(readers) != 1:
            continue
        upload = program.steps[readers[0]]
        if not isinstance(upload, p.KpuUpload) or upload.input.start != o.start or upload.input.size != o.size:
            continue
        # the map must be free from the start of the program on
        before = [
            x for s in program.steps[: readers[0]] for x in (*s.reads, *s.writes)
            if x.memory is Memory.AI and x.start < upload.output.stop and upload.output.start < x.stop
        ]  # fmt: skip
        if not before and (o.memory is Memory.INPUT or not _written_before(program, o, readers[0])):
            found[readers[0]] = o
    return found


def _written_before(program: Program, o: Operand, index: int) -> bool:
    return any(
        x.memory is o.memory and x.start < o.stop and o.start < x.stop for s in program.steps[:index] for x in s.writes
    )


def _inputs(r: Rewriter) -> tuple[Operand, ...]:
    """Place the inputs as the target wants them."""
    program = r.source
    if r.version != 5:
        direct = {id(o): i for i, o in _uploads_of_inputs(program, r.version).items()}
        result = []
        for o in program.inputs:
            if id(o) in direct:
                upload = program.steps[direct[id(o)]]
                assert isinstance(upload, p.KpuUpload)
                result.append(upload.output)
                r.values.append(Held(Memory.AI, upload.output.start, upload.output.stop, -1, direct[id(o)]))
            else:
                result.append(o)
        for memory, size in ((Memory.INPUT, program.input_bytes), (Memory.OUTPUT, program.output_bytes)):
            if size:
                base = r.main_bytes + -r.main_bytes % gaps.ROUND
                r.moved[memory] = (Memory.MAIN, base)
                r.main_bytes = base + size
                r.values.append(Held(Memory.MAIN, base, base + size, -1, FOREVER))
        result = [r.at(o) for o in result]
        if r.version == 3 and len(result) == 1 and result[0].memory is Memory.MAIN and result[0].dtype is U8:
            return (_picture_to_main(r, result[0]),)
        return tuple(result)
    if program.version == 5:
        return program.inputs
    inputs, end = [], 0
    for o in program.inputs:
        place = Operand(Memory.INPUT, end, o.dtype, o.shape)
        end += _rounded(place)
        inputs.append(place)
        picture = o.memory is Memory.AI
        r.steps.append(p.KpuUpload(input=place, output=o) if picture else t.CopyTensor(input=place, output=o))
    return tuple(inputs)


def _picture_to_main(r: Rewriter, o: Operand) -> Operand:
    """V3 takes pictures into AI RAM: a layer that copies them brings them to where the program reads them."""
    shape = o.shape[-3:]
    if len(shape) != 3 or min(shape[1:]) < MIN_SIZE or o.elements != math.prod(shape):
        return o
    picture, copy = (r.scratch(U8, shape, Memory.AI) for _ in range(2))
    layer = identity_layer(shape)
    registers = replace(
        layer.registers,
        image_src_addr=picture.start // AI_LINE_BYTES,
        image_dst_addr=copy.start // AI_LINE_BYTES,
    )
    placed = replace(layer, registers=registers)
    r.steps.append(KpuConv(layer=placed, main_output=replace(o, shape=shape), flags=1))
    return picture


def _outputs(r: Rewriter) -> tuple[Operand, ...]:
    if r.version != 5 or r.source.version == 5:
        return tuple(r.at(o) for o in r.source.outputs)
    r.position = len(r.source.steps) - 1
    outputs, end = [], 0
    for o in r.source.outputs:
        place = Operand(Memory.OUTPUT, end, o.dtype, o.shape)
        end += _rounded(place)
        r.add(p.KpuDownload(input=o, output=place) if o.memory is Memory.AI else t.CopyTensor(input=o, output=place))
        outputs.append(place)
    return tuple(outputs)


def _check_start(program: Program) -> None:
    """V3 begins with a KPU layer on a picture in AI RAM or a fully connected layer on floats."""
    first = program.steps[0] if program.steps else None
    picture = isinstance(first, KpuConv) and program.inputs[0] == first.input
    vector = isinstance(first, p.FullyConnected) and program.inputs[0].memory is Memory.MAIN
    if len(program.inputs) != 1 or not (picture or vector):
        raise UnsupportedError(
            "E222",
            "this kmodel cannot be written as V3",
            where="the model's input",
            why="V3 has one input and starts with a KPU layer on a picture or a fully connected layer on a vector; "
            f"this has {len(program.inputs)} and starts with {type(first).__name__}",
            fix="compile the source model for V3, or use V4 or V5",
        )
