"""Whatever is in a TensorFlow Lite or Caffe file: a graph, or one OpenKPUError, soon and in little memory."""

from __future__ import annotations

import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from caffe_builder import blob, declared, layer, message, pair, weights
from hypothesis import given, settings
from hypothesis import strategies as st
from tflite_builder import Model, conv, flatbuffer, pool

from openkpu.errors import OpenKPUError
from openkpu.importers.load import load

RNG = np.random.default_rng(5)


def tflite() -> bytes:
    m = Model()
    x = m.input(1, 8, 8, 3, dtype="int8", scale=0.02)
    w = m.const(RNG.integers(-127, 128, (4, 3, 3, 3)).astype(np.int8), scale=[0.1, 0.2, 0.3, 0.4])
    y = m.op("CONV_2D", [x, w, m.const(np.zeros(4, np.float32))], (1, 8, 8, 4), conv(act=3), dtype="int8", scale=0.1)
    y = m.op("MAX_POOL_2D", [y], (1, 4, 4, 4), pool(2, 2), dtype="int8", scale=0.1)
    y = m.op("PAD", [y, m.const(np.array([[0, 0], [1, 1], [1, 1], [0, 0]], np.int32))], (1, 6, 6, 4))
    y = m.op("MEAN", [y, m.const(np.array([1, 2], np.int32))], (1, 4), {0: ("u8", 0)})
    y = m.op("FULLY_CONNECTED", [y, m.const(RNG.standard_normal((5, 4)).astype(np.float32))], (1, 5), {0: ("i8", 0)})
    m.op("SOFTMAX", [y], (1, 5), {0: ("f32", 1.0)})
    return m.bytes()


def caffemodel() -> bytes:
    convolution = message([(1, 4), (4, 3), (6, 2), (3, 1)])
    w = RNG.standard_normal((4, 3, 3, 3))
    body = [(1, "c"), (2, "Convolution"), (3, "x"), (4, "y"), (7, blob(w)), (7, blob(np.zeros(4))), (106, convolution)]
    shape = message([(1, bytes([1, 3, 8, 8]))])
    return message([(1, "net"), (3, "x"), (8, shape), (100, message(body)),
                    (100, message([(1, "r"), (2, "ReLU"), (3, "y"), (4, "y")]))])  # fmt: skip


TFLITE, CAFFE = tflite(), caffemodel()
CHANGES = st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=4)


def mutated(data: bytes, changes: list[tuple[float, int]], kept: float) -> bytes:
    changed = bytearray(data)
    for at, value in changes:
        changed[int(at * len(data))] = value
    return bytes(changed[: int(kept * len(data))] if kept < 0.9 else changed)


def outcome(source: bytes | Path) -> str:
    try:
        graph = load(source)
    except OpenKPUError as error:
        return error.code
    graph.validate()
    return ""


def test_the_files_themselves_are_good() -> None:
    assert outcome(TFLITE) == ""
    assert outcome(CAFFE) == ""


@settings(max_examples=300)
@given(CHANGES, st.floats(0, 1))
def test_mutated_tflite(changes: list[tuple[float, int]], kept: float) -> None:
    assert outcome(mutated(TFLITE, changes, kept))[:2] in ("", "E1", "E2")


@settings(max_examples=300)
@given(CHANGES, st.floats(0, 1))
def test_mutated_caffemodel(changes: list[tuple[float, int]], kept: float) -> None:
    assert outcome(mutated(CAFFE, changes, kept))[:2] in ("", "E1", "E2")


TEXT = declared(1, 3, 8, 8) + layer("Convolution", "convolution_param { num_output: 4 kernel_size: 3 stride_h: 2 }",
                                    name="c", top="a") + layer("ReLU", bottom="a")  # fmt: skip
PIECES = [
    "{",
    "}",
    ":",
    '"',
    "layer",
    "0",
    "-1",
    "9999999999",
    "1e30",
    "dim: 3",
    "type",
    "Pooling",
    "stride: 2",
    "[",
    "\n",
]


@settings(max_examples=200)
@given(st.lists(st.tuples(st.integers(0, 60), st.sampled_from(PIECES), st.booleans()), min_size=1, max_size=4))
def test_mutated_prototxt(tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[int, str, bool]]) -> None:
    words = TEXT.split(" ")
    for at, piece, instead in changes:
        words[at % len(words) : at % len(words) + instead] = [piece]
    held = weights({"c": [RNG.standard_normal((4, 3, 3, 3)), np.zeros(4)]})
    path = pair(tmp_path_factory.getbasetemp(), " ".join(words), held)
    assert outcome(path)[:2] in ("", "E1", "E2", "E4")


def test_offsets_that_point_anywhere() -> None:
    """Every 4 bytes of the file in turn become an offset to the end, to itself, backwards, or very far."""
    for at in range(0, len(TFLITE) - 4, 4):
        for value in (0, 4, 0x7FFFFFFF, 0xFFFFFFFC):
            changed = bytearray(TFLITE)
            struct.pack_into("<I", changed, at, value)
            assert outcome(bytes(changed))[:2] in ("", "E1", "E2")


def test_parts_that_overlap_are_not_read_without_end() -> None:
    """Thousands of tensors that are one and the same, with a megabyte of data: the file is small, they are not."""
    data = {0: np.zeros(1 << 20, np.uint8)}
    tensor = {0: np.array([1 << 20], np.int32), 1: ("i8", 3), 2: ("u32", 1)}
    operator = {0: ("u32", 0), 1: np.array([0], np.int32), 2: np.array([1], np.int32)}
    graph = {0: [tensor] * 5000, 1: np.array([0], np.int32), 2: np.array([1], np.int32), 3: [operator]}
    assert outcome(flatbuffer({0: ("u32", 3), 1: [{3: ("i32", 19)}], 2: [graph], 4: [{}, data]})) == "E161"


@pytest.mark.parametrize("name", ["tflite", "caffemodel"])
def test_memory_and_time(tmp_path: Path, name: str) -> None:
    """Sizes in the file that ask for gigabytes are refused before they are allocated."""
    if name == "tflite":
        m = Model()
        x = m.input(1, 8, 8, 3)
        m.op("TILE", [x, m.const(np.array([1, 60000, 60000, 1], np.int32))], (1, 1, 1, 1))
        (tmp_path / "m.tflite").write_bytes(m.bytes())
        path = tmp_path / "m.tflite"
    else:
        text = declared(1, 3, 8, 8) + layer("Upsample", "upsample_param { scale: 60000 }")
        path = pair(tmp_path, text)
    code = (
        "import resource, sys; from openkpu.importers.load import load; from openkpu.errors import OpenKPUError\n"
        "import onnx, onnxruntime\n"
        "resource.setrlimit(resource.RLIMIT_CPU, (20, 20))\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try: load(sys.argv[1])\n"
        "except OpenKPUError as e:\n"
        "    print(e.code, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before >> 10)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=False)
    assert done.stdout.split()[:1] == ["E270"], done.stderr[-500:]
    assert int(done.stdout.split()[1]) < 100  # MiB more than the imports take
