"""Generated V5 programs: written, read, written again, run."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import program_builders as b
import pytest
import v5_builders
from hypothesis import given, settings
from hypothesis import strategies as st

from openkpu import load
from openkpu.errors import OpenKPUError, UnsupportedError
from openkpu.kmodel import operators as o
from openkpu.kmodel import v5, v5_container, v5_isa
from openkpu.kmodel.program import Concat, DType, KpuConv, KpuUpload, Memory, Operand, Program, Step
from openkpu.kmodel.v5_extra import V5Extra
from openkpu.kmodel.v5_registry import FUNCTIONS
from openkpu.kmodel.v5_structures import Container, Layout
from openkpu.runtime.session import Session

KINDS = sorted(v5_builders.MAKERS)
F32, U8 = DType.F32, DType.U8


def outputs(program: Program, **options: object) -> list[np.ndarray[tuple[int, ...], np.dtype[np.generic]]]:
    return Session(program, **options).run(*v5_builders.arrays())  # type: ignore[arg-type]


def same(a: Program, c: Program) -> None:
    for x, y in zip(outputs(a), outputs(c), strict=True):
        np.testing.assert_array_equal(x.reshape(y.shape), y)


@settings(max_examples=40)
@given(st.lists(st.sampled_from(KINDS), min_size=1, max_size=6), st.integers(0, 10**6))
def test_written_programs_read_back(kinds: list[str], seed: int) -> None:
    program = v5_builders.program(kinds, seed)
    data = v5.write(program)
    again = v5.read(data)
    assert v5.write(again) == data
    assert v5.write(program) == data
    expected = outputs(replace(program, steps=again.steps, constants=again.constants), engine="reference")
    for x, y in zip(expected, outputs(again), strict=True):
        assert y.shape in (x.shape, x.shape[1:])  # a batch of 1 is taken away
        np.testing.assert_array_equal(x.reshape(y.shape), y)


@pytest.mark.parametrize("kind", KINDS)
def test_every_operator_keeps_its_numbers(kind: str) -> None:
    program = v5_builders.program([kind], 5)
    again = v5.read(v5.write(program))
    ours = [s for s in program.steps if not isinstance(s, o.ConcatTensors)]
    theirs = again.steps[-len(ours) :]
    assert [type(s) for s in ours] == [type(s) for s in theirs]
    for a, c in zip(ours, theirs, strict=True):
        assert list(a.operands()) == list(c.operands())
        if not isinstance(a, KpuConv) and type(a).__eq__ is not object.__eq__:
            assert a == c


def test_every_function_is_declared_once() -> None:
    fields = v5_isa.variant(v5_isa.LATEST).by_name
    for name, function in FUNCTIONS.items():
        on_stack = {t for kind, t in function.script if kind not in "rp"}
        registers = {t for kind, t in function.script if kind in "rp"}
        wanted = {t for kind, t in fields[name].fields if kind in "rp"}
        assert wanted == registers, name
        assert on_stack.isdisjoint(t for _, t in fields[name].fields), name


@pytest.mark.parametrize("variant", [v.name for v in v5_isa.variants()])
def test_files_of_every_version_are_read(variant: str) -> None:
    """A program written with the numbers of an old version is recognised by reading it as that version."""
    program = v5_builders.program(["quantize", "dequantize", "pad", "reduce", "transpose", "conv", "binary"], 3)
    extra = v5.read(v5.write(program)).extra
    assert isinstance(extra, V5Extra)
    read = v5.read(v5.write(program))
    skeleton = extra.skeleton
    if variant == "2021-07":  # one function a module, without a header for it
        skeleton = replace(skeleton, layout=Layout.MODULES)
    old = replace(read, extra=replace(extra, variant=variant, zero_for_one=variant < "2", skeleton=skeleton))
    data = v5.write(old)
    again = v5.read(data)
    assert [type(s) for s in again.steps] == [type(s) for s in program.steps]
    assert isinstance(again.extra, V5Extra)
    assert "nncase" in again.extra.made_by
    assert v5.write(again) == data
    same(read, again)


def test_interior_pads_are_refused_by_versions_without_them() -> None:
    m = v5_builders.Builder(0)
    out = m.target(F32, 1, 1, 3, 3)
    pads = ((0, 0),) * 4
    m.add(o.PadTensor(input=m.source(F32, 1, 1, 2, 2), output=out, pads=pads, interior=(0, 0, 1, 1)))
    program = m.program()
    (result, *_) = outputs(program)
    assert result[0, 0, 1].tolist() == [0, 0, 0]
    assert result[0, 0, 0, 1] == 0


def test_inputs_and_outputs_elsewhere_are_copied() -> None:
    """A compiler may put its inputs and outputs into main RAM or AI RAM."""
    layer = b.kpu_layer(0, 64, 2, 3, 4, 8)
    steps = (KpuConv(layer=layer), o.CopyTensor(input=b.main(0, F32, 4), output=b.main(16, F32, 4)))
    program = Program(
        version=5,
        inputs=(b.ai(0, 2, 4, 8), b.main(0, F32, 4)),
        outputs=(b.ai(64, 3, 4, 8), b.main(16, F32, 4)),
        steps=steps,
        main_bytes=32,
    )
    again = v5.read(v5.write(program))
    assert {x.memory for x in again.inputs} == {Memory.INPUT}
    assert {x.memory for x in again.outputs} == {Memory.OUTPUT}
    picture = np.random.default_rng(0).integers(0, 256, (2, 4, 8), np.uint8)
    floats = np.arange(4, dtype=np.float32)
    for x, y in zip(Session(program).run(picture, floats), Session(again).run(picture, floats), strict=True):
        np.testing.assert_array_equal(x, y)


def test_kpu_steps_that_read_what_their_run_wrote_are_split() -> None:
    """The runtime may have copied a function's inputs before it runs."""
    m = v5_builders.Builder(1)
    first, second = b.kpu_layer(0, 64, 2, 2, 4, 8), b.kpu_layer(128, 256, 2, 2, 4, 8, seed=1)
    out = m.target(U8, 2, 4, 8)
    m.steps.append(KpuUpload(input=m.source(U8, 2, 4, 8), output=b.ai(0, 2, 4, 8)))
    m.add(KpuConv(layer=first, main_output=out), out)
    m.steps.append(KpuUpload(input=out, output=b.ai(128, 2, 4, 8)))
    final = m.target(U8, 2, 4, 8)
    m.add(KpuConv(layer=second, main_output=final), final)
    program = m.program()
    data = v5.write(program)
    assert len(v5_container.read(data).modules[1].functions) == 2
    same(program, v5.read(data))


def test_equal_tables_are_written_once() -> None:
    m = v5_builders.Builder(0)
    weights, bias = m.floats(4, 3, 3, 3), m.floats(4)
    for _ in range(3):
        window = {"pads": ((1, 1), (1, 1)), "stride": (1, 1), "dilation": (1, 1), "groups": 1}
        out = m.target(F32, 1, 4, 5, 5)
        m.add(o.Conv2D(input=m.source(F32, 1, 3, 5, 5), output=out, weights=weights, bias=bias, **window))  # type: ignore[arg-type]
    assert len(v5.read(v5.write(m.program())).constants) == weights.nbytes + bias.nbytes


def test_names_do_not_change_the_file() -> None:
    program = v5_builders.program(["binary", "kpu"], 0)
    named = replace(program, steps=tuple(replace(s, name=f"layer {i}") for i, s in enumerate(program.steps)))
    assert v5.write(named) == v5.write(program)


def test_replaced_steps_are_laid_out_anew() -> None:
    again = v5.read(v5.write(v5_builders.program(["binary", "reduce"], 0)))
    longer = replace(again, steps=(*again.steps, again.steps[-1]))
    assert len(v5.read(v5.write(longer)).steps) == len(again.steps) + 1


def refused(step: Step, code: str) -> UnsupportedError:
    program = Program(version=5, inputs=(), outputs=(), steps=(step,), main_bytes=4096)
    with pytest.raises(UnsupportedError) as caught:
        v5.write(program)
    assert caught.value.code == code
    assert caught.value.fix
    return caught.value


def test_steps_without_an_operator() -> None:
    x = b.main(0, F32, 1, 1, 4, 4)
    weights, bias = np.zeros((1, 1, 1, 1), np.float32), np.zeros(1, np.float32)
    pads = ((0, 0), (0, 0))
    deconv = o.Conv2DTranspose(
        name="up", input=x, output=x, weights=weights, bias=bias, groups=1, pads=pads, stride=(2, 2), dilation=(1, 1)
    )
    assert "up" in refused(deconv, "E247").where
    refused(Concat(inputs=(b.main(0, U8, 4),), output=b.main(8, U8, 4)), "E247")
    wide = b.kpu_layer(0, 64, 1, 1, 4, 4, dtype=np.uint16)
    refused(KpuConv(layer=wide), "E237")
    refused(o.Unary(input=x, output=x, op=o.UnaryOp.COSH), "E237")


def test_what_v5_does_not_allow_is_refused() -> None:
    outside = Operand(Memory.MAIN, 4000, F32, (100,))
    refused(o.CopyTensor(input=outside, output=outside), "E247")
    bytes_ = b.main(0, U8, 1, 1, 4, 4)
    refused(o.Unary(input=bytes_, output=bytes_, op=o.UnaryOp.ABS), "E247")
    value = o.QuantizeTensor(input=b.main(0, F32, 4), output=b.main(64, U8, 4), scale=0.5, zero_point=1 << 200)
    refused(value, "E237")


def test_load_and_save(tmp_path: object) -> None:
    program = v5_builders.program(["kpu", "dequantize"], 2)
    model = load(v5.write(program))
    assert (model.version, model.kind.version) == (5, 5)
    assert load(model.to_bytes()).to_bytes() == model.to_bytes()
    assert any("firmware" in n for n in model.notes)
    assert model.memory.weights_bytes > 0


def test_the_container_of_2021_has_one_function_a_module() -> None:
    data = v5.write(v5_builders.program(["binary"], 0))
    old = v5_container.write(replace(v5_container.read(data), layout=Layout.MODULES))
    assert isinstance(v5_container.read(old), Container)
    with pytest.raises(OpenKPUError):
        v5.read(old)  # numbers of 1.9 in a container of 2021
