from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import program_builders as b
import pytest

import openkpu
from openkpu.errors import InputError, MemoryLimitError, OpenKPUError, SetupError, UnsupportedError
from openkpu.files import check_writable
from openkpu.kmodel import program as p
from openkpu.kmodel import v3
from openkpu.kmodel.detect import Kind, byteswap
from openkpu.kmodel.program import DType
from openkpu.runtime.session import Session

U8, F32 = DType.U8, DType.F32


def small() -> p.Program:
    return b.program(
        b.conv(0, 1000, 3, 4, 8, 40, k=3, name="first"),
        b.conv(1000, 2000, 4, 4, 8, 40, pool=1, to_main=0),
        p.Dequantize(input=b.main(0, U8, 4, 4, 20), output=b.main(320, F32, 4, 4, 20), scale=0.5, bias=-1.0),
    )


PICTURE = np.random.default_rng(1).integers(0, 256, (3, 8, 40)).astype(np.uint8)


@pytest.mark.parametrize("engine", ["native", "reference"])
def test_run_and_trace(engine: str) -> None:
    seen: list[tuple[int, str, tuple[int, ...], str]] = []
    model = openkpu.Model(small())
    (out,) = model.run(
        PICTURE,
        engine=engine,  # type: ignore[arg-type]
        trace=lambda i, s, a: seen.append((i, type(s).__name__, a.shape, str(a.dtype))),
    )
    assert seen == [
        (0, "KpuConv", (4, 8, 40), "uint8"),
        (1, "KpuConv", (4, 4, 20), "uint8"),
        (2, "Dequantize", (4, 4, 20), "float32"),
    ]
    assert out.shape == (4, 4, 20)
    assert out.dtype == np.float32
    assert out.std() > 0


def test_engines_and_threads_agree() -> None:
    model = openkpu.Model(small())
    results = [
        model.run(PICTURE, engine="reference"),
        model.run(PICTURE),
        model.run(PICTURE, threads=2),
        model.run(PICTURE[None]),
        model.run(PICTURE, check=True),
    ]
    for r in results[1:]:
        np.testing.assert_array_equal(r[0], results[0][0])
    assert model.findings == []


def test_wide_input_is_copied_as_by_dma() -> None:
    """A width that is a multiple of 64 lies dense in AI RAM, any other with padded rows."""
    for width, second_row in ((64, 64), (40, 64), (128, 128)):
        session = Session(b.program(b.conv(0, 4000, 1, 1, 4, width, to_main=0)))
        x = np.arange(4 * width, dtype=np.uint8).reshape(1, 4, width)
        session.run(x)
        np.testing.assert_array_equal(session.ai[second_row : second_row + width], x[0, 1])


def test_dma_leaves_the_tail_bytes() -> None:
    prog = b.program(b.conv(0, 1000, 3, 3, 5, 5, to_main=0), main_bytes=80)
    session = Session(prog, fill=0x77)
    session.run(np.zeros((3, 5, 5), np.uint8))
    assert set(session.main[75:80].tolist()) == {0x77}


def test_padding_steps() -> None:
    prog = b.program(
        b.fully_connected(0, 64, 4, 5),
        p.Quantize(input=b.main(64, F32, 5), output=b.main(96, U8, 5), scale=0.05, bias=-3.0),
        p.KpuAddPadding(input=b.main(96, U8, 5), output=b.ai(10, 5, 4, 4)),
    )
    session = Session(prog, fill=9)
    traced: list[np.ndarray] = []
    session.run(np.ones(4, np.float32), trace=lambda i, s, a: traced.append(a))
    padded = [int(session.ai[640 + c // 4 * 256 + c % 4 * 16]) for c in range(5)]
    assert padded == traced[1].tolist() == traced[2].tolist()
    assert session.ai[641] == 9


@pytest.mark.parametrize(
    ("arrays", "code"),
    [
        ((), "E420"),
        ((PICTURE, PICTURE), "E420"),
        ((PICTURE.astype(np.float32),), "E421"),
        ((PICTURE[:, :4],), "E422"),
        ((PICTURE.transpose(1, 2, 0),), "E422"),
        ((np.zeros((2, 3, 8, 40), np.uint8),), "E422"),
    ],
)
def test_wrong_inputs(arrays: tuple, code: str) -> None:
    with pytest.raises(InputError, match=code):
        openkpu.Model(small()).run(*arrays)


def test_channels_last_gets_a_hint() -> None:
    with pytest.raises(InputError, match=r"transpose\(2, 0, 1\)"):
        openkpu.Model(small()).run(PICTURE.transpose(1, 2, 0))


def test_programs_that_cannot_run() -> None:
    with pytest.raises(InputError, match="E413"):
        Session(small(), engine="gpu")  # type: ignore[arg-type]
    with pytest.raises(MemoryLimitError, match="E310"):
        Session(b.program(b.conv(0, 1000, 3, 4, 8, 8, to_main=0), main_bytes=1 << 40))
    with pytest.raises(MemoryLimitError, match="E312"):
        Session(b.program(b.conv(0, 1000, 3, 4, 8, 8, to_main=0), main_bytes=8))
    with pytest.raises(MemoryLimitError, match="E312"):
        Session(
            b.program(
                b.conv(0, 1000, 3, 4, 8, 8, to_main=0),
                p.KpuUpload(input=b.main(0, U8, 4, 8, 8), output=b.ai(32767, 4, 8, 8)),
            )
        )
    with pytest.raises(UnsupportedError, match="E238"):
        Session(b.program(b.conv(0, 1000, 3, 4, 8, 8, to_main=0), p.Step()))


def test_model_properties() -> None:
    model = openkpu.Model(small())
    assert model.version == 3
    assert model.kind.kind is Kind.V3
    assert model.inputs[0].shape == (3, 8, 40)
    assert [o.shape for o in model.outputs] == [(4, 4, 20)]
    use = model.memory
    assert use.file_bytes == len(model.to_bytes())
    assert use.main_bytes == 320 + 1280
    assert (use.ai_low, use.ai_high) == (0, (2000 + 8) * 64)  # 4 channels in 2 lines of 32 bytes, 4 rows
    assert use.ai_peak == (24 + 32) * 64  # the first layer: 3 and 4 channels of 8 rows of 64 bytes
    assert use.weights_bytes == 4 * 3 * 9 + 4 * 4 + 2 * (4 * 8 + 144)
    assert model.notes == []


def test_notes() -> None:
    wide = openkpu.Model(b.program(b.conv(0, 1000, 3, 4, 8, 8, dtype=np.uint16), outputs=(), main_bytes=7 << 20))
    assert len(wide.notes) == 3


def test_save_and_load(tmp_path: Path) -> None:
    path = tmp_path / "m.kmodel"
    openkpu.Model(small()).save(path)
    assert [f.name for f in tmp_path.iterdir()] == ["m.kmodel"]
    model = openkpu.load(path)
    (want,) = openkpu.Model(small()).run(PICTURE)
    np.testing.assert_array_equal(model.run(PICTURE)[0], want)
    swapped = openkpu.load(byteswap(path.read_bytes()))
    np.testing.assert_array_equal(swapped.run(PICTURE)[0], want)
    assert len(swapped.notes) == 1
    for nowhere in (tmp_path / "no" / "folder.kmodel", path / "file.kmodel"):
        with pytest.raises(SetupError, match="E511"):
            model.save(nowhere)
        with pytest.raises(SetupError, match=f"folder {nowhere.parent}"):
            check_writable(nowhere)


def test_files_that_cannot_be_loaded(tmp_path: Path) -> None:
    for path in (tmp_path / "absent", tmp_path, Path("a\0b")):
        with pytest.raises(SetupError, match="E510"):
            openkpu.load(path)
    huge = tmp_path / "huge"
    with huge.open("wb") as f:
        f.truncate(1 << 40)
    with pytest.raises(OpenKPUError, match="E102"):
        openkpu.load(huge)
    with pytest.raises(OpenKPUError, match=r"E101.*V1"):
        openkpu.load(b"\1\0\0\0" + bytes(100))


def test_threads_may_share_a_model() -> None:
    model = openkpu.Model(small())
    (want,) = model.run(PICTURE)
    results: list[bool] = []

    def work() -> None:
        for _ in range(20):
            results.append(np.array_equal(model.run(PICTURE)[0], want))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert results == [True] * 80


def test_a_check_while_another_thread_runs_is_still_a_check() -> None:
    late = b.conv(64, 1000, 3, 4, 8, 40, to_main=0)  # reads what nothing has written
    model = openkpu.Model(b.program(b.conv(0, 2000, 3, 4, 8, 40), late))
    model.run(PICTURE, check=True)
    want = model.findings
    assert want
    model.findings = []

    def meanwhile(index: int, step: p.Step, array: np.ndarray) -> None:
        if index == 0:
            thread = threading.Thread(target=lambda: model.run(PICTURE, check=True))
            thread.start()
            thread.join()

    model.run(PICTURE, trace=meanwhile)
    assert model.findings == want


def test_import_is_light() -> None:
    code = (
        "import openkpu, sys; openkpu.load; "
        "print([m for m in ('onnx', 'onnxruntime', 'typer', 'rich') if m in sys.modules])"
    )
    env = os.environ | {"PYTHONPATH": str(Path(openkpu.__file__).parents[1])}
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env)
    assert out.stdout.strip() == "[]"


def test_public_names() -> None:
    assert "load" in dir(openkpu)
    assert v3.read(openkpu.Model(small()).to_bytes()).version == 3
    with pytest.raises(AttributeError, match="nonsense"):
        _ = openkpu.nonsense
