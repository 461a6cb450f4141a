"""Damaged and hostile files: always an OpenKPUError (or a model that runs), in bounded time and memory."""

from __future__ import annotations

import struct
import tracemalloc

import numpy as np
import program_builders as b
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openkpu import load
from openkpu.errors import FileFormatError, MemoryLimitError, OpenKPUError, UnsupportedError
from openkpu.kmodel import program as p
from openkpu.kmodel import v3
from openkpu.kmodel.detect import byteswap
from openkpu.kmodel.program import DType

U8, F32 = DType.U8, DType.F32


def _sample() -> bytes:
    pool = p.AveragePool(
        input=b.main(448, F32, 4, 4, 4), output=b.main(704, F32, 4, 2, 2), kernel=(2, 2), stride=(2, 2), padding=(0, 0)
    )
    return v3.write(
        b.program(
            b.conv(0, 600, 3, 4, 8, 8, k=3, pool=1, to_main=0),
            p.Requantize(input=b.main(0, U8, 4, 4, 4), output=b.main(0, U8, 4, 4, 4), table=bytes(range(256))),
            p.Dequantize(input=b.main(0, U8, 4, 4, 4), output=b.main(448, F32, 4, 4, 4), scale=0.1, bias=0.0),
            pool,
            p.Concat(inputs=(b.main(704, U8, 32), b.main(736, U8, 32)), output=b.main(64, U8, 64)),
            p.ChannelwiseDequantize(
                input=b.main(0, U8, 4, 16),
                output=b.main(448, F32, 4, 16),
                scale=np.ones(4, np.float32),
                bias=np.zeros(4, np.float32),
            ),
            b.fully_connected(64, 320, 16, 3),
            p.Softmax(input=b.main(320, F32, 3), output=b.main(320, F32, 3)),
            p.KpuUpload(input=b.main(0, U8, 4, 4, 4), output=b.ai(900, 4, 4, 4)),
            outputs=(b.main(320, F32, 3),),
            main_bytes=1024,
        )
    )


SAMPLE = _sample()
FIRST_BODY = 28 + 8 + 9 * 8


def run_or_refuse(data: bytes) -> str:
    """Load and run; return the error's code, or "" when it ran. Anything but an OpenKPUError fails the test."""
    try:
        model = load(data)
        model.run(*(np.zeros(o.shape, o.dtype.numpy) for o in model.inputs), engine="reference")
        code = ""
    except OpenKPUError as error:
        code = error.code if error.what and error.fix else "a message without what or fix"
    return code


def test_the_sample_runs() -> None:
    assert run_or_refuse(SAMPLE) == ""


@pytest.mark.parametrize(
    "length", [*range(1, FIRST_BODY + 200, 3), *range(FIRST_BODY, len(SAMPLE) - 8, 61), len(SAMPLE) - 8]
)
def test_truncation(length: int) -> None:
    code = run_or_refuse(SAMPLE[:length])
    assert code in ({"E101"} if length < 4 else {"E111", "E112"})


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(SAMPLE) - 1), st.integers(0, 255)), min_size=1, max_size=6))
def test_mutated_bytes(changes: list[tuple[int, int]]) -> None:
    data = bytearray(SAMPLE)
    for position, value in changes:
        data[position] = value
    run_or_refuse(bytes(data))


@settings(max_examples=300, deadline=None)
@given(
    st.integers(0, len(SAMPLE) // 4 - 1),
    st.sampled_from([0, 1, 7, 255, 4096, 65535, 1 << 20, 1 << 26, (1 << 31) - 1, 1 << 31, (1 << 32) - 1]),
)
def test_absurd_words(index: int, value: int) -> None:
    data = bytearray(SAMPLE)
    struct.pack_into("<I", data, index * 4, value)
    tracemalloc.start()
    try:
        run_or_refuse(bytes(data))
        assert tracemalloc.get_traced_memory()[1] < 200 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("offset", "value", "code"),
    [
        (8, 1, "E251"),
        (12, 0, "E116"),
        (20, (64 << 20) + 1, "E310"),
        (20, 0xFFFFFFFF, "E310"),
        (20, 8, "E114"),
        (28, 1 << 20, "E117"),
        (32, 1 << 20, "E117"),
        (36, 99, "E250"),
        (40, 0xFFFFFFF8, "E111"),
        (40, 0, "E112"),
    ],
)
def test_named_errors(offset: int, value: int, code: str) -> None:
    data = bytearray(SAMPLE)
    struct.pack_into("<I", data, offset, value)
    assert run_or_refuse(bytes(data)) == code


def test_offsets_are_named() -> None:
    data = bytearray(SAMPLE)
    struct.pack_into("<I", data, FIRST_BODY + 12, len(data))
    with pytest.raises(FileFormatError, match=rf"E112(.|\n)*layer 0 \(K210_CONV\), file offset {FIRST_BODY}"):
        v3.read(bytes(data))


@pytest.mark.parametrize(
    ("number", "name"),
    [
        (3, "GLOBAL_MAX_POOL2D"),
        (4, "QUANTIZED_GLOBAL_MAX_POOL2D"),
        (6, "QUANTIZED_GLOBAL_AVERAGE_POOL2D"),
        (7, "MAX_POOL2D"),
        (10, "QUANTIZED_AVERAGE_POOL2D"),
        (19, "QUANTIZED_FULLY_CONNECTED"),
        (21, "QUANTIZED_TENSORFLOW_FLATTEN"),
        (77, "type 77"),
    ],
)
def test_layers_that_the_device_does_not_run(number: int, name: str) -> None:
    data = bytearray(SAMPLE)
    struct.pack_into("<I", data, 36 + 8, number)
    with pytest.raises(UnsupportedError, match=f"E250.*{name}"):
        v3.read(bytes(data))


def test_endless_work_is_refused() -> None:
    """4096 layers of one huge copy: the file is small, the work is not."""
    n = 1 << 22
    step = p.Logistic(input=b.main(0, F32, n), output=b.main(0, F32, n))
    data = v3.write(b.program(b.fully_connected(0, 0, 1, 1), *[step] * 2000, main_bytes=n * 4))
    with pytest.raises(UnsupportedError, match="E236"):
        v3.read(data)


@pytest.mark.parametrize(
    ("width", "padding", "fits"),
    [(5, 0, True), (6, 0, False), (7, 2, True), (8, 2, False), (2, -3, True), (3, -3, False)],
)
def test_pooling_beyond_the_far_edge(width: int, padding: int, fits: bool) -> None:
    """The device's unsigned arithmetic wraps for windows that start beyond the far edge; it reads other memory."""
    first = b.conv(0, 600, 3, 2, 4, 4, to_main=0)
    pool = p.QuantizedMaxPool(
        input=b.main(0, U8, 2, 4, 4),
        output=b.main(64, U8, 2, 4, width),
        kernel=(1, 1),
        stride=(1, 1),
        padding=(padding, 0),
    )
    data = v3.write(b.program(first, pool))
    if fits:
        assert v3.write(v3.read(data)) == data
    else:
        with pytest.raises(FileFormatError, match="E115"):
            v3.read(data)


def test_first_layer_must_start_on_the_device() -> None:
    step = p.Logistic(input=b.main(0, F32, 4), output=b.main(0, F32, 4))
    with pytest.raises(UnsupportedError, match="E234"):
        v3.read(v3.write(b.program(step)))


@pytest.mark.parametrize(
    "data", [b"", b"\x01\0\0\0" * 8, b"LDMK\4\0\0\0" + bytes(40), b"LDMK\5\0\0\0" + bytes(40), byteswap(SAMPLE)]
)
def test_read_names_the_other_kinds(data: bytes) -> None:
    with pytest.raises(FileFormatError, match="E110: not a kmodel V3 but: "):
        v3.read(data)


def test_memory_error_has_its_class() -> None:
    data = bytearray(SAMPLE)
    struct.pack_into("<I", data, 20, 1 << 31)
    with pytest.raises(MemoryLimitError):
        load(bytes(data))
