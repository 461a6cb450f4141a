"""End to end: small models become kmodels that run without a mistake and stay close to the float model."""

import numpy as np
import pytest
from graph_builders import Builder, random_graph, run_float
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import openkpu
from openkpu.compiler import Compiled, check, compile, input_params
from openkpu.errors import InputError, OpenKPUError, UnsupportedError
from openkpu.float.export import to_onnx
from openkpu.graph.ir import Graph, Tensor
from openkpu.kmodel.program import KpuConv
from openkpu.quantize.nodes import snr

MEAN, STD = 127.5, 64.0


def pictures(graph: Graph, count: int = 5, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, *graph.inputs[0].shape[1:]), np.uint8)


def onnx(graph: Graph) -> bytes:
    return to_onnx(graph).SerializeToString()


def build(shape, make) -> Graph:
    b = Builder(*shape)
    y = make(b)
    return b.graph(*(y if isinstance(y, tuple) else (y,)))


def compiled(graph: Graph, x: np.ndarray, **options) -> Compiled:
    options = {"mean": MEAN, "std": STD} | options
    return compile(onnx(graph), calibration=list(x), **options)


def quality(graph: Graph, c: Compiled, x: np.ndarray, mean=MEAN, std=STD) -> list[float]:
    """The SNR of each output in dB, with the checking mode on."""
    mean, std = (np.reshape(v, (-1, 1, 1)).astype(np.float32) for v in (mean, std))
    want = [run_float(graph, ((p - mean) / std)[None]) for p in x]
    got = [c.model.run(p, check=True) for p in x]
    assert not c.model.findings
    return [
        snr(np.stack([w[i].ravel() for w in want]), np.stack([g[i].ravel() for g in got])) for i in range(len(got[0]))
    ]


@given(st.data(), st.integers(1, 10))
@settings(max_examples=60)
def test_random_models(data, layers):
    graph = random_graph(
        lambda values: data.draw(st.sampled_from(list(values))), layers, outputs=True, largest=14, benign=True
    )
    graph.outputs = list({id(t): t for t in graph.outputs}.values())
    x = pictures(graph, 3)
    try:
        c = compiled(graph, x)
    except UnsupportedError as error:
        assume(error.code != "E215")
        raise
    got = [c.model.run(p, check=True) for p in x]
    assert not c.model.findings
    # what the quantiser predicted on its own arrays is what the program computes in the chip's memory
    for i, predicted in enumerate(c.quantized.outputs):
        run = np.stack([g[i].ravel() for g in got])
        tolerance = 1e-3 * max(1e-3, float(np.abs(run).max()))
        step = [p.scale.max() for t in graph.outputs[i : i + 1] if (p := c.quantized.params.get(id(t))) is not None]
        np.testing.assert_allclose(run, predicted.reshape(run.shape), atol=tolerance + sum(step), rtol=0.02)
    again = openkpu.load(c.model.to_bytes())
    for p, first in zip(x, got, strict=True):
        for a, b in zip(first, again.run(p), strict=True):
            np.testing.assert_array_equal(a.ravel(), b.ravel())


def _residual(b):
    t = b.relu(b.batch_norm(b.conv(b.x, 8, 3, stride=(2, 2))))
    return b.add(b.conv(b.relu6(b.depthwise(b.relu6(b.conv(t, 16, 1)))), 8, 1), t)


def _several_neighbours(b):
    t = b.conv(b.x, 4, 3)
    u = b.relu(t)
    v = b.conv(b.concat(t, u), 4, 3)
    w = b.conv(b.concat(t, v, u), 4, 3)
    return b.conv(b.concat(b.concat(t, w), b.concat(t, v)), 4, 1), b.concat(u, t, w)


def _rerun_reads_its_terms(b):
    t = b.conv(b.x, 4, 3)
    u = b.leaky(t)
    v = b.add(b.conv(b.relu(b.conv(t, 8, 1)), 4, 1), t)
    w = b.concat(u, t, v)
    return b.average_pool(b.batch_norm(b.max_pool(b.relu(w))), 3, 2), w


def _signs_in_a_concat(b, swap, inner=lambda b, t: t):
    t = b.conv(b.x, 4, 3)
    parts = [inner(b, b.relu(t)), b.binary("Sub", b.conv(t, 4, 1), b.const(1.0))]
    return b.conv(b.concat(*(parts[::-1] if swap else parts)), 4, 3)


MODELS = {
    "residual block": ((1, 3, 16, 16), _residual),
    "several concats with the same map": ((1, 4, 8, 8), _several_neighbours),
    "a layer that runs once more": ((1, 4, 10, 7), _rerun_reads_its_terms),
    "concat, unsigned and signed": ((1, 4, 8, 8), lambda b: _signs_in_a_concat(b, False)),
    "concat, signed and unsigned": ((1, 4, 8, 8), lambda b: _signs_in_a_concat(b, True)),
    "concat behind a resize": (
        (1, 4, 8, 8),
        lambda b: _signs_in_a_concat(b, False, lambda b, t: b.resize(b.max_pool(t))),
    ),
    "concat of concats": ((1, 4, 8, 8), lambda b: _signs_in_a_concat(b, True, lambda b, t: b.concat(t, b.leaky(t)))),
    "depthwise with a multiplier": ((1, 3, 9, 9), lambda b: b.relu(b.depthwise(b.x, 3, multiplier=2))),
    "table behind channels of different scale": (
        (1, 4, 6, 6),
        lambda b: b.leaky(b.max_pool(b.concat(b.relu(b.conv(b.x, 8, 3)), b.conv(b.x, 4, 3)))),
    ),
    "yolo head": ((1, 3, 8, 8), lambda b: b.reshape(b.conv(b.x, 6, 1), 1, 3, 2, 64)),
    "output without a batch": ((1, 3, 8, 8), lambda b: b.reshape(b.conv(b.x, 6, 1), 6, 64)),
    "flat output": ((1, 3, 8, 8), lambda b: b.reshape(b.gemm(b.flatten(b.conv(b.x, 2, 1)), 5), 5)),
    "rows of vectors": (
        (1, 3, 8, 8),
        lambda b: b.concat(*(b.gemm(b.flatten(b.conv(b.x, 4)), 6) for _ in range(2)), axis=0),
    ),
    "reshape between maps": ((1, 4, 8, 8), lambda b: b.conv(b.reshape(b.relu(b.conv(b.x, 8, 3)), 1, 32, 4, 4), 4, 3)),
    "vector to map": ((1, 4, 8, 8), lambda b: b.conv(b.reshape(b.gemm(b.flatten(b.x), 64), 1, 4, 4, 4), 4, 3)),
    "softmax": ((1, 3, 8, 8), lambda b: b.softmax(b.gemm(b.flatten(b.relu(b.conv(b.x, 4, 3))), 5), 1)),
    "the input itself": ((1, 3, 8, 8), lambda b: (b.reshape(b.x, 1, 192), b.conv(b.x, 4, 3))),
    "pooling first": ((1, 3, 8, 8), lambda b: b.conv(b.max_pool(b.x, 3, 1, (1, 1, 1, 1)), 4, 3)),
    "pad of 2, zero point 0": ((1, 3, 8, 8), lambda b: b.max_pool(b.pad(b.relu(b.conv(b.x, 4)), 2, 2, 2, 2), 3, 2)),
    "pad of 2, other zero point": ((1, 3, 8, 8), lambda b: b.max_pool(b.pad(b.conv(b.x, 4), 0, 1, 2, 3), 3, 2)),
    "pad at the output": ((1, 3, 8, 8), lambda b: b.pad(b.conv(b.x, 4, 3), 2, 0, 3, 1)),
    "average beyond the edge": (
        (1, 1, 4, 7),
        lambda b: b.average_pool(b.conv(b.x, 4, 3, stride=(2, 2)), 3, 2, (0, 0, 1, 1)),
    ),
    "average of 2x2": ((1, 4, 16, 16), lambda b: b.average_pool(b.conv(b.x, 4, 1), 2, 2)),
    "average of 4x4": ((1, 4, 16, 16), lambda b: b.average_pool(b.leaky(b.conv(b.x, 4, 1)), 4, 4)),
    "one tensor many times": ((1, 4, 8, 8), lambda b: b.conv(b.concat(b.concat(t := b.conv(b.x, 3), t), t), 4, 3)),
}


@pytest.mark.parametrize("name", MODELS)
def test_model_is_close_to_float(name):
    graph = build(*MODELS[name])
    x = pictures(graph)
    c = compiled(graph, x)
    assert min(quality(graph, c, x)) > 30
    again = openkpu.load(c.model.to_bytes())
    for a, b in zip(c.model.run(x[0]), again.run(x[0]), strict=True):
        np.testing.assert_array_equal(a.ravel(), b.ravel())  # the file holds no shapes


def test_two_compilations_give_the_same_bytes():
    graph = build(*MODELS["residual block"])
    x = pictures(graph)
    assert compiled(graph, x).model.to_bytes() == compiled(graph, x).model.to_bytes()


def test_steps_are_tied_to_the_lowered_graph(tmp_path):
    graph = build(*MODELS["residual block"])
    x = pictures(graph)
    c = compiled(graph, x, dump=tmp_path)
    seen: dict[int, np.ndarray] = {}
    c.model.run(x[0], trace=lambda i, step, array: seen.__setitem__(i, array))
    assert len(c.tensors) == len(c.model.steps) == len(seen)
    for i, (tensor, step) in enumerate(zip(c.tensors, c.model.steps, strict=True)):
        if isinstance(step, KpuConv):
            assert tensor is not None
            assert seen[i].shape == tensor.shape[1:]
            assert seen[i].dtype == np.uint8
            assert step.name
    names = [p.name for p in sorted(tmp_path.iterdir())]
    assert names[0] == "00_import.txt"
    assert names[-1] == "99_lowered.txt"
    assert c.report.ai_peak >= c.report.ai_bound > 0
    assert c.report.kpu_layers == sum(isinstance(s, KpuConv) for s in c.model.steps)
    assert c.report.as_dict()["file_bytes"] == len(c.model.to_bytes())


def test_layer_with_more_than_64_weight_loads():
    graph = build((1, 512, 8, 8), lambda b: b.gap(b.relu(b.conv(b.x, 512, 3))))
    x = pictures(graph, 2)
    c = compiled(graph, x)
    loads = [s.layer.registers.load_time for s in c.model.steps if isinstance(s, KpuConv)]
    assert len(loads) >= 2
    assert max(loads) <= 64
    assert min(quality(graph, c, x)) > 30


@pytest.mark.parametrize(
    ("mean", "std"),
    [
        (0.0, 255.0),
        (127.5, 128.0),
        ([123.675, 116.28, 103.53], [58.395, 57.12, 57.375]),
        ([10.0, 200.0, 90.5], 3.0),
    ],
)
@pytest.mark.parametrize("pads", [(0, 0, 0, 0), (1, 1, 1, 1), (0, 0, 1, 1)])
def test_mean_and_std_fold_into_the_first_layer(mean, std, pads):
    graph = build((1, 3, 12, 12), lambda b: b.relu(b.conv(b.x, 8, 3, stride=(2, 2), pads=pads)))
    x = pictures(graph)
    c = compiled(graph, x, mean=mean, std=std)
    assert c.model.inputs[0].dtype.numpy == np.uint8
    assert len(c.model.steps) <= 4
    # with different means the pixels outside stand for the nearest whole number to the mean of all channels
    whole = np.ptp(mean) == 0 or not any(pads)
    assert min(quality(graph, c, x, mean, std)) > (34 if whole else 4)


def test_float_calibration_pictures_mean_the_same():
    graph = build(*MODELS["residual block"])
    x = pictures(graph)
    real = [((p - MEAN) / STD).astype(np.float32) for p in x]
    assert compiled(graph, np.stack(real)).model.to_bytes() == compiled(graph, x).model.to_bytes()


def test_vectors_and_small_perceptrons():
    graph = build((1, 8), lambda b: b.gemm(b.relu(b.gemm(b.x, 16)), 4))
    x = np.random.default_rng(0).normal(size=(6, 8)).astype(np.float32)
    c = compile(onnx(graph), calibration=list(x))
    for v in x:
        np.testing.assert_allclose(c.model.run(v)[0], run_float(graph, v[None])[0][0], atol=1e-5)
    graph = build((1, 1, 8, 8), lambda b: b.gemm(b.relu(b.gemm(b.flatten(b.x), 64)), 4))
    digits = pictures(graph)
    c = compiled(graph, digits)
    if c.model.inputs[0].dtype.numpy == np.uint8:
        assert min(quality(graph, c, digits)) > 30


MODEL = ((1, 3, 8, 8), lambda b: b.conv(b.x, 4, 3))


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"calibration": []}, "E4"),
        ({"std": 0.0}, "E412"),
        ({"std": [1.0, 2.0, 0.0]}, "E412"),
        ({"mean": [1.0, 2.0]}, "E412"),
        ({"mean": float("nan")}, "E412"),
        ({"mean": None, "std": None, "input_range": (1.0, 1.0)}, "E412"),
        ({"input_range": (0.0, 1.0)}, "E412"),
        ({"target": "v9"}, "E201"),
        ({"range_method": "guess"}, "E411"),
        ({"weight_bits": 4}, "E414"),
        ({"weight_bits": 16, "target": "v4"}, "E414"),
        ({"target_snr": float("nan")}, "E416"),
        ({"target_snr": 0.0}, "E416"),
        ({"target_snr": 30.0}, "E416"),  # five pictures
        ({"calibration": [np.full((3, 8, 8), np.nan, np.float32)]}, "E4"),
        ({"calibration": [np.zeros((3, 9, 8), np.uint8)]}, "E4"),
    ],
)
def test_bad_options_are_refused(options, code):
    graph = build(*MODEL)
    options = {"calibration": list(pictures(graph)), "mean": MEAN, "std": STD} | options
    with pytest.raises(OpenKPUError) as caught:
        compile(onnx(graph), **options)
    assert caught.value.code.startswith(code)
    assert caught.value.what


def test_a_model_with_two_inputs_is_refused():
    b = Builder(1, 3, 8, 8)
    graph = b.graph(b.add(b.x, other := Tensor("other", (1, 3, 8, 8))))
    graph.inputs.append(other)
    with pytest.raises(UnsupportedError) as caught:
        check(onnx(graph))
    assert caught.value.code == "E202"
    assert "other" in caught.value.where


def test_input_params_mean_what_they_say():
    p = input_params((1, 3, 4, 4), [10.0, 20.0, 30.5], [1.0, 2.0, 4.0], None)
    pixels = np.arange(0, 256, 5, dtype=np.uint8).reshape(1, 1, -1).repeat(3, 1)
    want = (pixels - np.array([10, 20, 30.5])[:, None]) / np.array([1, 2, 4])[:, None]
    np.testing.assert_allclose(p.dequantize(pixels), want, atol=1e-4)
    low, high = input_params((1, 1, 4, 4), None, None, (-1.0, 1.0)).dequantize(np.array([[0, 255]], np.uint8))[0]
    assert (low, high) == pytest.approx((-1, 1), abs=1e-6)
    with pytest.raises(InputError):
        input_params((1, 1, 4, 4), None, None, (0.0, float("inf")))
