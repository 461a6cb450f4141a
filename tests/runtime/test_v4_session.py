"""V4 programs in a session: rounding, batches, constants, the checking mode, notes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import program_builders as b
import pytest
import v4_builders

import openkpu
from openkpu.errors import InputError
from openkpu.kmodel import operators as t
from openkpu.kmodel import operators_v4 as o4
from openkpu.kmodel import program as p
from openkpu.kmodel import v4
from openkpu.kmodel.program import DType, KpuConv, Memory, Operand, Program, QuantizedTerm, Step
from openkpu.runtime import checks
from openkpu.runtime.memories import Rounding
from openkpu.runtime.session import Session

U8, F32 = DType.U8, DType.F32
X, Y, Z = (b.main(at, F32, 2, 4) for at in (0, 32, 64))
HALVES = np.array([0.5, 1.5, 2.5, 3.5], np.float32)


def program(*steps: Step, constants: bytes = b"", main_bytes: int = 256) -> Program:
    outputs = tuple(o for o in steps[-1].writes if o.memory is Memory.MAIN)
    return Program(version=4, inputs=(X,), outputs=outputs, steps=steps, main_bytes=main_bytes, constants=constants)


def findings(*steps: Step, **more: bytes) -> list[tuple[int, str]]:
    session = Session(program(*steps, **more), check=True)  # type: ignore[arg-type]
    session.run(np.ones((2, 4), np.float32))
    return [(f.step, f.kind) for f in session.findings]


@pytest.mark.parametrize(("rounding", "want"), [("device", [0, 2, 2, 4]), ("simulator", [1, 2, 3, 4])])
@pytest.mark.parametrize("engine", ["native", "reference"])
def test_rounding(rounding: Rounding, engine: str, want: list[int]) -> None:
    source = b.main(0, F32, 4)
    step = t.QuantizeTensor(input=source, output=b.main(32, U8, 4), scale=1.0, zero_point=0)
    model = openkpu.Model(replace(program(step), inputs=(source,)))
    (got,) = model.run(HALVES, rounding=rounding, engine=engine)  # type: ignore[arg-type]
    assert got.tolist() == want


def test_the_chip_is_the_default() -> None:
    step = t.QuantizeTensor(input=X, output=b.main(32, U8, 2, 4), scale=1.0, zero_point=0)
    given = np.tile(HALVES, (2, 1))
    model = openkpu.Model(program(step))
    np.testing.assert_array_equal(model.run(given)[0], model.run(given, rounding="device")[0])
    assert model.run(given)[0].tolist() != model.run(given, rounding="simulator")[0].tolist()


@pytest.mark.parametrize("engine", ["native", "reference"])
def test_an_output_may_be_larger_than_both_operands(engine: str) -> None:
    """The runtime walks over the output's shape and reads index 0 of what an operand does not have."""
    wide = b.main(64, F32, 1, 3, 2, 4)
    flat = t.Binary(
        input_a=b.main(0, F32, 1, 1, 2, 4), input_b=b.main(0, F32, 1, 1, 1, 4), output=wide, op=t.BinaryOp.ADD
    )
    same = p.QuantizedTerm(0, 1, 0)
    small = o4.QuantizedBinary(
        input_a=b.main(0, U8, 1, 1, 1, 4),
        input_b=b.main(0, U8, 1, 1, 1, 1),
        output=b.main(192, U8, 1, 2, 1, 4),
        op=t.BinaryOp.ADD,
        a=same,
        b=same,
        o=same,
    )
    made = replace(program(flat, small), outputs=(flat.output, small.output))
    given = np.arange(8, dtype=np.float32).reshape(2, 4)
    wide_got, small_got = Session(made, engine=engine).run(given)  # type: ignore[arg-type]
    np.testing.assert_array_equal(wide_got, np.broadcast_to(given + given[0], (1, 3, 2, 4)))
    assert small_got.shape == (1, 2, 1, 4)
    np.testing.assert_array_equal(small_got[:, 0], small_got[:, 1])


@pytest.mark.parametrize("engine", ["native", "reference"])
def test_programs_may_leave_the_batch_out(engine: str) -> None:
    """Compilers think in (c, h, w); the file then has a batch of 1."""
    x, y, z = (b.main(at, F32, 2, 2, 2) for at in (0, 32, 64))
    half = QuantizedTerm(0, 1, 1)
    u, v = b.main(96, U8, 2, 2, 2), b.main(104, U8, 2, 2, 2)
    steps = (
        t.Binary(input_a=x, input_b=x, output=y, op=t.BinaryOp.ADD),
        t.TransposeTensor(input=y, output=z, perm=(1, 2, 0)),
        t.QuantizeTensor(input=z, output=u, scale=1.0, zero_point=0),
        o4.QuantizedBinary(input_a=u, input_b=u, output=v, op=t.BinaryOp.ADD, a=half, b=half, o=QuantizedTerm(0, 1, 0)),
        t.PadTensor(input=v, output=b.main(112, U8, 2, 2, 3), pads=((0, 0), (0, 0), (0, 1)), value=9),
        t.SliceTensor(
            input=b.main(112, U8, 2, 2, 3),
            output=b.main(128, U8, 1, 2, 3),
            begin=(1, 0, 0),
            end=(2, 2, 3),
            stride=(1, 1, 1),
        ),
        t.ResizeImage(input=x, output=b.main(136, F32, 2, 1, 1), mode=t.ResizeMode.NEAREST),
        t.Reduce(input=x, output=b.main(144, F32, 2, 1, 1), op=t.ReduceOp.MAX, axes=(1, 2), init=-9.0),
    )
    made = replace(program(*steps), inputs=(x,), outputs=(steps[5].output, steps[7].output))
    given = np.arange(8, dtype=np.float32).reshape(2, 2, 2)
    again = v4.read(v4.write(made))
    for one in (made, again):
        cut, top = Session(one, engine=engine).run(given)  # type: ignore[arg-type]
        assert cut.tolist() == [[[4, 12, 9], [6, 14, 9]]]
        assert top.reshape(-1).tolist() == [3, 7]


def test_unknown_rounding() -> None:
    with pytest.raises(InputError, match="E413"):
        Session(program(t.CopyTensor(input=X, output=Y)), rounding="up")  # type: ignore[arg-type]


def test_a_batch_is_so_many_single_runs() -> None:
    layer = b.kpu_layer(0, 8000, 3, 5, 9, 11, k=3, pool=1, bn_mul=30)
    pictures = np.random.default_rng(0).integers(0, 256, (3, 3, 9, 11)).astype(np.uint8)
    source = Operand(Memory.AI, 0, U8, (3, 3, 9, 11))
    batch = KpuConv(layer=layer, batches=3, main_output=b.main(0, U8, 3, *layer.output_shape))
    both = Program(version=4, inputs=(source,), outputs=(batch.main_output,), steps=(batch,), main_bytes=512)  # type: ignore[arg-type]
    (got,) = Session(both).run(pictures)
    one = KpuConv(layer=layer, main_output=b.main(0, U8, *layer.output_shape))
    single = Session(replace(both, inputs=(one.input,), outputs=(one.main_output,), steps=(one,)))  # type: ignore[arg-type]
    for picture, result in zip(pictures, got, strict=True):
        np.testing.assert_array_equal(single.run(picture)[0], result)
    np.testing.assert_array_equal(Session(both, engine="reference").run(pictures)[0], got)
    assert v4.read(v4.write(both)).steps[0].batches == 3  # type: ignore[attr-defined]


def test_every_operator_is_clean_in_the_checking_mode() -> None:
    made = v4_builders.every_operator(4)
    session = Session(made, check=True)
    rng = np.random.default_rng(4)
    session.run(*(rng.integers(0, 4, o.shape).astype(o.dtype.numpy) for o in made.inputs))
    # The builder looks at the same bytes with several shapes, and at bytes of another step as a table; nothing else.
    assert {f.kind for f in session.findings} <= {checks.SEGMENT}


def test_in_place() -> None:
    add = t.Binary(input_a=X, input_b=X, output=X, op=t.BinaryOp.ADD)
    assert findings(add) == []
    assert findings(t.Unary(input=X, output=X, op=t.UnaryOp.NEG)) == []
    assert findings(t.QuantizeTensor(input=X, output=b.main(0, U8, 2, 4), scale=1.0, zero_point=0)) == []
    transposed = b.main(0, F32, 4, 2)
    assert findings(t.TransposeTensor(input=X, output=transposed, perm=(1, 0))) == [(0, checks.IN_PLACE)]
    # a row that is added to every row, and is overwritten by the first
    row = t.Binary(input_a=X, input_b=b.main(0, F32, 1, 4), output=X, op=t.BinaryOp.ADD)
    assert findings(row) == [(0, checks.IN_PLACE)]


def test_reads_of_nothing_and_of_constants() -> None:
    assert findings(t.Unary(input=Z, output=Y, op=t.UnaryOp.NEG)) == [(0, checks.UNINITIALISED)]
    constant = Operand(Memory.CONST, 0, F32, (2, 4))
    add = t.Binary(input_a=X, input_b=constant, output=Y, op=t.BinaryOp.ADD)
    assert findings(add, constants=np.ones(8, np.float32).tobytes()) == []


def test_results_of_the_kpu_are_copied_to_the_byte() -> None:
    """V3's DMA writes whole groups of 8 bytes; V4 copies, so that a neighbour in the same group stays."""
    pixels, number = b.main(0, U8, 1, 3, 3), b.main(16, F32, 1)
    layer = b.conv(0, 600, 1, 1, 3, 3, to_main=32)  # 9 bytes
    neighbour = t.CopyTensor(input=number, output=b.main(44, F32, 1))
    last = t.CopyTensor(input=b.main(44, F32, 1), output=b.main(64, F32, 1))
    upload = p.KpuUpload(input=pixels, output=b.ai(0, 1, 3, 3))
    made = replace(program(neighbour, upload, layer, last), inputs=(pixels, number))
    for version, kinds in ((4, set()), (3, {checks.OVERLAP})):
        checker = checks.Checker(replace(made, version=version))
        for index, step in enumerate(made.steps):
            checker.before(index, step)
            checker.after(index, step)
        checker.finish()
        assert {f.kind for f in checker.findings} == kinds


def notes(*steps: Step, **more: object) -> str:
    return " ".join(openkpu.Model(replace(program(*steps), **more)).notes)  # type: ignore[arg-type]


def test_notes_name_what_the_chip_does_otherwise() -> None:
    copy = t.CopyTensor(input=X, output=Y)
    assert "kpu.set_outputs(task, 0, 4, 2, 1)" in notes(copy)
    assert "bias" not in notes(copy)
    assert "takes floats" in notes(copy)
    assert "takes floats" not in notes(copy, inputs=(b.ai(0, 3, 8, 8),))
    weights = np.ones((1, 1, 1, 1), np.float32)
    shape = b.main(0, F32, 1, 1, 2, 2)
    transposed = t.Conv2DTranspose(
        input=shape,
        output=b.main(32, F32, 1, 1, 2, 2),
        weights=weights,
        bias=np.ones(1, np.float32),
        groups=1,
        pads=((0, 0), (0, 0)),
        stride=(1, 1),
        dilation=(1, 1),
    )
    assert "node 0 (conv2d_transpose) has a bias" in notes(transposed).lower()
    layer = b.conv(0, 600, 3, 4, 8, 8)
    assert "channels only" not in notes(layer, outputs=(X,))
    few = replace(layer.layer, registers=replace(layer.layer.registers, o_ch_num_coef=1, load_time=2))
    assert "node 0 load the weights of a part" in notes(replace(layer, layer=few), outputs=(X,))
    assert "multiples of 256" in notes(layer, outputs=(X,), extra=v4.V4Extra(gaps=((0, (8, 0, 0)),)))
    assert "3 bytes follow" in notes(copy, extra=v4.V4Extra(trailing=b"abc"))


def test_save_and_load(tmp_path: Path) -> None:
    model = openkpu.Model(v4_builders.every_operator(6))
    path = tmp_path / "all.kmodel"
    model.save(path)
    again = openkpu.load(path)
    assert again.version == 4
    assert again.to_bytes() == path.read_bytes()
    rng = np.random.default_rng(6)
    given = [rng.integers(0, 9, o.shape).astype(o.dtype.numpy) for o in model.inputs]
    for one, other in zip(model.run(*given), again.run(*given), strict=True):
        np.testing.assert_array_equal(one.reshape(-1), other.reshape(-1))
    assert again.memory.weights_bytes > sum(len(s.code) for s in model.steps if isinstance(s, o4.NnilUnary))
