"""Damaged and hostile V5 files: always an OpenKPUError (or a model that runs), in bounded time and memory."""

from __future__ import annotations

import struct
from dataclasses import replace

import numpy as np
import program_builders as b
import pytest
import v5_builders
from hypothesis import given, settings
from hypothesis import strategies as st

from openkpu import load
from openkpu.errors import FileFormatError, OpenKPUError
from openkpu.kmodel import v5, v5_container
from openkpu.kmodel.program import KpuConv
from openkpu.kmodel.v5_isa import LATEST, OPCODES, variant
from openkpu.kmodel.v5_structures import Location, Pool

SAMPLE = v5.write(v5_builders.program(["kpu", *v5_builders.MAKERS], 1))
SMALL = v5.write(v5_builders.program(["kpu", "quantize", "binary", "pad"], 0))
INTERESTING = [0, 1, 7, 255, 4096, 65535, 1 << 20, 1 << 26, (1 << 31) - 1, 1 << 31, (1 << 32) - 1]


def run_or_refuse(data: bytes) -> str:
    """Load and run; return the error's code, or "" when it ran. Anything but an OpenKPUError fails the test."""
    try:
        model = load(data)
        model.run(*(np.zeros(o.shape, o.dtype.numpy) for o in model.inputs))
        code = ""
    except OpenKPUError as error:
        code = error.code if error.what and error.fix else "a message without what or fix"
    return code


def test_the_samples_run() -> None:
    assert run_or_refuse(SAMPLE) == ""
    assert run_or_refuse(SMALL) == ""


@pytest.mark.parametrize("data", [SMALL, SAMPLE], ids=["small", "every operator"])
def test_truncation(data: bytes) -> None:
    for length in (*range(0, 200, 7), *range(200, len(data) - 1, len(data) // 60), len(data) - 1):
        assert run_or_refuse(data[:length]) in ({"E101"} if length < 8 else {"E141", "E142"}), length


@pytest.mark.parametrize("offset", [*range(8, 120, 4)])
def test_numbers_of_the_headers(offset: int) -> None:
    for value in INTERESTING:
        data = bytearray(SMALL)
        struct.pack_into("<I", data, offset, value)
        run_or_refuse(bytes(data))


@settings(max_examples=150)
@given(st.data())
def test_mutations(data: st.DataObject) -> None:
    raw = bytearray(data.draw(st.sampled_from([SMALL, SAMPLE])))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(8, len(raw) - 4))
        if data.draw(st.booleans()):
            raw[at] = data.draw(st.integers(0, 255))
        else:
            struct.pack_into("<I", raw, at, data.draw(st.sampled_from(INTERESTING)))
    run_or_refuse(bytes(raw))


def text_of(data: bytes) -> int:
    """File offset of the entry function's code."""
    code = v5_container.read(data).modules[0].section(b".text")
    return data.index(code)


@settings(max_examples=150)
@given(st.integers(0, 10**9), st.integers(0, 255))
def test_mutations_of_the_code(at: int, value: int) -> None:
    code = v5_container.read(SAMPLE).modules[0].section(b".text")
    raw = bytearray(SAMPLE)
    raw[text_of(SAMPLE) + at % len(code)] = value
    run_or_refuse(bytes(raw))


def with_code(code: bytes) -> bytes:
    """SMALL with other code in its entry function."""
    c = v5_container.read(SMALL)
    stackvm, *others = c.modules
    functions = (replace(stackvm.functions[0], text_bytes=len(code)),)
    sections = tuple(replace(s, body=code) if s.name == b".text" else s for s in stackvm.sections)
    return v5_container.write(replace(c, modules=(replace(stackvm, functions=functions, sections=sections), *others)))


def ldc(value: int) -> bytes:
    return struct.pack("<BI", OPCODES["LDC_I4"], value & 0xFFFFFFFF)


def lea(location: int, offset: int) -> bytes:
    return struct.pack("<BBBI", OPCODES["LEA_BUFFER"], location, 0, offset)


def shape(register: int, *values: int) -> bytes:
    return b"".join(ldc(v) for v in values) + struct.pack("<BBB", OPCODES["STSHAPE"], register, len(values))


def packed(name: str, **values: float) -> bytes:
    return variant(LATEST).by_name[name].pack(values)


def copy(source: bytes, target: bytes, *sizes: int, strides: tuple[int, ...] | None = None) -> bytes:
    fields = variant(LATEST).by_name["COPY"]
    code = source + target + shape(0, *sizes) + shape(1, *(strides or (1,) * len(sizes))) + shape(2, *(1,) * len(sizes))
    return code + fields.pack({"type": 4, "in_shape": 0, "in_strides": 1, "out_strides": 2})


def call(module: int, function: int, inputs: int = 0, outputs: int = 0) -> bytes:
    fields = variant(LATEST).by_name["CALL"]
    return fields.pack({"module": module, "function": function, "inputs": inputs, "outputs": outputs})


ONE = struct.pack("<BI", OPCODES["BR"], 0)
CASES = {
    "empty code": (b"", ""),
    "a copy": (copy(lea(0, 0), lea(3, 0), 4), ""),
    "cut inside an instruction": (b"\x02\0", "E141"),
    "an unknown instruction": (b"\xff", "E143"),
    "an unknown function": (b"\x5e\xff\x7f", "E143"),
    "an empty stack": (bytes([OPCODES["POP"]]), "E144"),
    "values left": (ldc(1), "E144"),
    "a number for an address": (copy(ldc(0), lea(3, 0), 4), "E144"),
    "an address for a number": (lea(3, 0) + struct.pack("<BBB", OPCODES["STSHAPE"], 0, 1), "E144"),
    "a register that nobody set": (
        lea(0, 0)
        + lea(3, 0)
        + variant(LATEST).by_name["COPY"].pack({"type": 4, "in_shape": 9, "in_strides": 9, "out_strides": 9}),
        "E144",
    ),
    "a branch": (ONE, "E243"),
    "scalar arithmetic": (ldc(1) + ldc(2) + bytes([OPCODES["ADD"]]), "E243"),
    "an address outside": (copy(lea(3, 1 << 30), lea(3, 0), 4), "E145"),
    "a tensor that leaves its memory": (copy(lea(0, 0), lea(3, 0), 1 << 24), "E145"),
    "a shape of too many elements": (copy(lea(0, 0), lea(3, 0), 1 << 20, 1 << 20), "E148"),
    "no elements": (copy(lea(0, 0), lea(3, 0), 0), "E148"),
    "strides of another rank": (copy(lea(0, 0), lea(3, 0), 4, strides=(1, 1)), "E148"),
    "an unknown location": (copy(lea(9, 0), lea(3, 0), 4), "E145"),
    "a call of nothing": (call(7, 0), "E146"),
    "a call of no function": (call(1, 999), "E146"),
    "a call without tensors": (call(1, 0), "E146"),
    "a call of the CPU's module": (call(0, 0, 0, 0), "E246"),
    "a function that is not simulated": (
        variant(LATEST)
        .by_name["RANDOM_NORMAL"]
        .pack({"type": 9, "out_shape": 0, "mean": 0.0, "std": 1.0, "seed": 0.0}),
        "E244",
    ),
}


@pytest.mark.parametrize("case", sorted(CASES))
def test_code(case: str) -> None:
    code, expected = CASES[case]
    assert run_or_refuse(with_code(code)) == expected


@pytest.mark.parametrize("memory", [Location.DATA, Location.RDATA])
def test_absurd_pools(memory: Location) -> None:
    c = v5_container.read(SMALL)
    pools = tuple(Pool(p.location, (1 << 32) - 1 if p.location == memory.value else p.size) for p in c.modules[0].pools)
    data = v5_container.write(replace(c, modules=(replace(c.modules[0], pools=pools), *c.modules[1:])))
    # the size of .rdata is the section's; its pool says nothing that is needed
    assert run_or_refuse(data) == ("E310" if memory is Location.DATA else "")


def test_another_machine_is_named() -> None:
    c = v5_container.read(SMALL)
    data = v5_container.write(replace(c, modules=(replace(c.modules[0], type=b"vulkan"), *c.modules[1:])))
    with pytest.raises(OpenKPUError, match="E246"):
        v5.read(data)


def test_the_other_kinds_are_named() -> None:
    with pytest.raises(FileFormatError, match="E140: not a kmodel V5 but: "):
        v5.read(b"\x03\0\0\0" * 20)


@pytest.mark.parametrize("seed", range(3))
def test_k210_operations(seed: int) -> None:
    """Every byte of the KPU's code, changed."""
    c = v5_container.read(SMALL)
    start = SMALL.rindex(c.modules[1].section(b".text"))
    rng = np.random.default_rng(seed)
    for at in range(seed, len(c.modules[1].section(b".text")), 3):
        data = bytearray(SMALL)
        data[start + at] = int(rng.integers(0, 256))
        run_or_refuse(bytes(data))


def test_many_calls_are_bounded() -> None:
    """Code that is all calls: as long as it may be it is read, longer it is refused."""
    one = copy(lea(0, 0), lea(3, 0), 4)
    data = with_code(one * ((500 << 10) // len(one)))
    assert len(v5.read(data).steps) > 4000
    assert run_or_refuse(with_code(one * ((600 << 10) // len(one)))) == "E142"


def test_layers_that_share_their_weights_are_bounded() -> None:
    """A packed layer holds its weights; a file whose layers all have the same must not fill the memory."""
    m = v5_builders.Builder(0)
    layer = b.kpu_layer(0, 4096, 512, 512, 4, 4, k=3)
    m.steps.append(KpuConv(layer=layer))
    c = v5_container.read(v5.write(m.program()))
    k210 = c.modules[1]
    text = k210.section(b".text") * 80
    functions = (replace(k210.functions[0], text_bytes=len(text)),)
    sections = tuple(replace(s, body=text) if s.name == b".text" else s for s in k210.sections)
    data = v5_container.write(replace(c, modules=(c.modules[0], replace(k210, functions=functions, sections=sections))))
    with pytest.raises(OpenKPUError, match="E142: more weights"):
        v5.read(data)


def test_many_small_pictures_are_bounded() -> None:
    m = v5_builders.Builder(0)
    m.steps += [KpuConv(layer=b.kpu_layer(0, 16384, 1, 1, 4, 4), batches=4096)] * 20
    with pytest.raises(OpenKPUError, match=r"E247.*sensible time"):
        v5.write(m.program())
