"""Small files for the command line: an ONNX network, pictures, a kmodel."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import program_builders as build
import pytest
from PIL import Image
from typer.testing import CliRunner

from openkpu.cli.app import app
from openkpu.kmodel import v3


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five noisy pictures."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(5)
    for i in range(5):
        small = rng.integers(0, 256, (4, 4, 3), np.uint8)
        Image.fromarray(small).resize((20, 20)).save(folder / f"picture_{i}.png")
    return folder


@pytest.fixture(scope="session")
def net(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two convolutions, the second with a 3x3 stride-3 max pool that the KPU does not have, then classes."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(7)

    def const(name: str, *shape: int) -> onnx.TensorProto:
        return numpy_helper.from_array(rng.normal(0, 0.4, shape).astype(np.float32), name)

    nodes = [
        helper.make_node("Conv", ["image", "w0", "b0"], ["c0"], name="first", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c0"], ["r0"], name="first_relu"),
        helper.make_node("Conv", ["r0", "w1", "b1"], ["c1"], name="second", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r1"], name="second_relu"),
        helper.make_node("MaxPool", ["r1"], ["p1"], name="odd_pool", kernel_shape=[3, 3], strides=[3, 3]),
        helper.make_node("GlobalAveragePool", ["p1"], ["g"], name="mean"),
        helper.make_node("Flatten", ["g"], ["f"], name="flat"),
        helper.make_node("Gemm", ["f", "w2", "b2"], ["scores"], name="classes", transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 18, 18])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 4])],
        [
            *(const("w0", 8, 3, 3, 3), const("b0", 8), const("w1", 6, 8, 3, 3)),
            *(const("b1", 6), const("w2", 4, 6), const("b2", 4)),
        ],
    )
    path = tmp_path_factory.mktemp("net") / "net.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path


@pytest.fixture
def kmodel(tmp_path: Path) -> Path:
    """Two KPU layers; the result is uint8 (4, 8, 8)."""
    program = build.program(build.conv(0, 64, 3, 8, 16, 16, k=3, pool=1), build.conv(64, 128, 8, 4, 8, 8, to_main=0))
    path = tmp_path / "two.kmodel"
    path.write_bytes(v3.write(program))
    return path


@pytest.fixture
def kpu() -> Callable[..., object]:
    """Run a verb in this process; returns click's result."""
    runner = CliRunner()
    return lambda *args: runner.invoke(app, [str(a) for a in args], prog_name="kpu")
