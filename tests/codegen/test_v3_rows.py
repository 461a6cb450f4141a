"""Maps that reach AI RAM row by row: the program computes what the quantiser predicted, and reads nothing unwritten."""

import numpy as np
import pytest
from graph_builders import Builder

import openkpu
from openkpu.compiler import compile
from openkpu.float.export import to_onnx
from openkpu.kmodel import program as p


def compute(shape, make):
    b = Builder(*shape)
    y = make(b)
    graph = b.graph(*(y if isinstance(y, tuple) else (y,)))
    x = list(np.random.default_rng(0).integers(0, 256, (3, *shape[1:]), np.uint8))
    c = compile(to_onnx(graph).SerializeToString(), calibration=x, mean=127.5, std=64.0, range_method="minmax")
    model = openkpu.load(c.model.to_bytes())
    got = [model.run(picture, check=True) for picture in x]
    assert not model.findings
    for i, predicted in enumerate(c.quantized.outputs):
        run = np.stack([g[i].ravel() for g in got])
        want = np.asarray(predicted, np.float64).reshape(run.shape)
        np.testing.assert_allclose(run, want, rtol=1e-4, atol=1e-5 * max(1.0, float(np.abs(want).max())))
    return c.model.steps


@pytest.mark.parametrize("channels", [4, 5, 7])
@pytest.mark.parametrize("width", [4, 5, 10, 17, 33])
def test_an_upsampled_map_beside_another(width, channels):
    """Of all widths; a group of channels that share a line may be incomplete."""

    def make(b):
        t = b.relu(b.conv(b.x, 4, 3))
        small = b.conv(t, channels, 3, stride=(2, 2))
        return b.conv(b.concat(t, b.resize(small)), 4, 3)

    steps = compute((1, 3, 12, 2 * width), make)
    resize = next(s for s in steps if isinstance(s, p.ResizeNearest))
    assert resize.output.shape[1] == resize.input.shape[1]  # columns only
    upload = next(s for s in steps if isinstance(s, p.KpuUpload))
    assert upload.output.shape[-1] % 8 == 0 or width < 5


def test_an_upsampled_map_that_is_an_output_and_read_again():
    def make(b):
        up = b.resize(b.relu(b.conv(b.x, 6, 3)))
        return up, b.conv(up, 4, 3)

    compute((1, 3, 7, 10), make)


def test_other_factors():
    def make(b):
        t = b.relu(b.conv(b.x, 4, 3))
        up = b.op("Resize", [t], (1, 4, 21, 10), mode="nearest", coordinate="asymmetric", rounding="floor")
        return b.conv(up, 4, 3)

    steps = compute((1, 3, 7, 10), make)
    assert not any(isinstance(s, p.ResizeNearest) for s in steps)  # rows are repeated by copying
