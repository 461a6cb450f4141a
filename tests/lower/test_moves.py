"""Pictures inside maps are put right by the KPU: no step is left to the CPU, and the numbers are the source's."""

import numpy as np
import pytest
from graph_builders import Builder, lowered_equals_source, run_float
from hypothesis import given, settings
from hypothesis import strategies as st

import openkpu
from openkpu.codegen.build import assemble
from openkpu.compiler import compile
from openkpu.float.export import to_onnx
from openkpu.kmodel.program import KpuConv
from openkpu.lower.lower import lower
from openkpu.lower.target import V3, V4, V5
from openkpu.quantize.params import QParams
from openkpu.quantize.quantizer import Quantizer

NONE = (0, 0, 0, 0)


def graph_of(shape, make):
    b = Builder(*shape)
    y = make(b)
    return b.graph(*(y if isinstance(y, tuple) else (y,)))


def compute(graph, target="v3", **options):
    """Compile and run: the program computes what the quantiser predicted, and reads nothing that nobody wrote."""
    x = list(np.random.default_rng(0).integers(0, 256, (3, *graph.inputs[0].shape[1:]), np.uint8))
    c = compile(
        to_onnx(graph).SerializeToString(), calibration=x, mean=127.5, std=64.0, target=target, range_method="minmax",
        **options,
    )  # fmt: skip
    model = openkpu.load(c.model.to_bytes())
    got = [model.run(picture, check=True) for picture in x]
    assert not model.findings
    for i, predicted in enumerate(c.quantized.outputs):
        run = np.stack([g[i].ravel() for g in got])
        want = np.asarray(predicted, np.float64).reshape(run.shape)
        np.testing.assert_allclose(run, want, rtol=1e-4, atol=1e-5 * max(1.0, float(np.abs(want).max())))
    return c


def steps(c):
    return [type(s).__name__ for s in c.model.steps if not isinstance(s, KpuConv)]


CASES = {
    "a padded convolution behind one without padding": (
        (1, 3, 20, 22),
        lambda b: b.conv(b.conv(b.relu(b.conv(b.x, 8, 3, pads=NONE)), 8, 3), 4, 3),
    ),
    "a pooling of a picture that begins in an odd row": (
        (1, 3, 22, 20),
        lambda b: b.conv(b.max_pool(b.leaky(b.conv(b.x, 8, 3, pads=NONE))), 4, 1),
    ),
    "windows that reach out of the picture": (
        (1, 3, 24, 24),
        lambda b: b.conv(b.max_pool(b.leaky(b.conv(b.x, 8, 3, pads=NONE)), 3, 2, (0, 0, 1, 1)), 4, 3),
    ),
    "windows with padding all round": (
        (1, 3, 16, 16),
        lambda b: b.conv(b.max_pool(b.leaky(b.conv(b.x, 8, 3)), 3, 2, (1, 1, 1, 1)), 4, 3),
    ),
    "spatial pyramid": (
        (1, 3, 16, 16),
        lambda b: b.conv(
            b.concat(t := b.leaky(b.conv(b.x, 8, 3)), *(b.max_pool(t, k, 1, (k // 2,) * 4) for k in (3, 5, 9))), 4, 3
        ),
    ),
    "an odd number of rows at a stride of 2": (
        (1, 16, 15, 20),
        lambda b: b.conv(b.relu(b.depthwise(b.relu(b.conv(b.x, 16, 1)), 3, stride=(2, 2))), 8, 1),
    ),
    "two parts of maps that begin at different places": (
        (1, 4, 20, 20),
        lambda b: b.conv(
            b.add(b.relu(b.conv(b.x, 8, 3, pads=NONE)), b.relu(b.conv(b.conv(b.x, 8, 2, pads=NONE), 8, 2, pads=NONE))),
            4,
            3,
        ),
    ),
    "a flattened 3x3 picture and two products": (
        (1, 3, 12, 12),
        lambda b: b.gemm(
            b.relu(b.gemm(b.flatten(b.conv(b.max_pool(b.conv(b.x, 16, 3, pads=NONE)), 32, 3, pads=NONE)), 64)), 4
        ),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_nothing_is_left_to_the_cpu(name):
    lowered = lowered_equals_source(graph_of(*CASES[name]))
    inner = [n.op for n in lowered.nodes if n.op.startswith("Cpu") and n.output not in lowered.outputs]
    left = [op for op in inner if op not in ("CpuMaxPool",)]  # the cut of the output
    assert left == []
    c = compute(graph_of(*CASES[name]))
    assert "KpuUpload" not in steps(c)
    assert "QuantizedMaxPool" not in steps(c) or "product" in name


@pytest.mark.parametrize("target", [V4, V5], ids=["v4", "v5"])
@pytest.mark.parametrize("name", list(CASES)[:4])
def test_the_other_versions_too(name, target):
    graph = graph_of(*CASES[name])
    lowered_equals_source(graph_of(*CASES[name]), target=target)
    compute(graph, target.name)


@given(
    k=st.integers(2, 5),
    s=st.integers(1, 2),
    pads=st.tuples(*[st.integers(0, 2)] * 4),
    before=st.sampled_from([NONE, (1, 1, 1, 1), (0, 0, 1, 1), (1, 0, 0, 1)]),
    size=st.tuples(st.integers(8, 18), st.integers(8, 18)),
)
@settings(max_examples=120)
def test_every_maximum(k, s, pads, before, size):
    if max(pads) >= k:
        return

    def make(b):
        t = b.leaky(b.conv(b.x, 4, 3, pads=before))
        return b.conv(b.max_pool(t, k, s, pads), 4, 3)

    lowered_equals_source(graph_of((1, 2, *size), make), target=V3)


@given(k=st.integers(2, 4), s=st.integers(1, 2), pad=st.integers(0, 1), before=st.sampled_from([NONE, (1, 1, 1, 1)]),
       size=st.tuples(st.integers(9, 18), st.integers(9, 18)))  # fmt: skip
@settings(max_examples=15)
def test_every_maximum_in_the_program(k, s, pad, before, size):
    def make(b):
        t = b.leaky(b.conv(b.x, 4, 3, pads=before))
        return b.conv(b.max_pool(t, k, s, (pad,) * 4), 4, 3)

    compute(graph_of((1, 2, *size), make))


def test_the_surroundings_have_no_say_in_the_ranges():
    """A bias of 100 outside of what the next layers read would spread the range of everything."""
    b = Builder(1, 1, 12, 12)
    t = b.conv(b.x, 4, 3, pads=NONE)
    graph = b.graph(b.conv(t, 4, 3, pads=NONE))
    lowered = lowered_equals_source(graph)
    marked = [n.attrs.get("picture") for n in lowered.nodes if n.op == "KpuConv"]
    assert marked == [(1, 1, 10, 10), (2, 2, 8, 8)]


def test_weights_of_16_bits():
    compute(graph_of(*CASES["windows that reach out of the picture"]), weight_bits=16)


# -- rows --------------------------------------------------------------------------------------------------------------
def rows_of(x, first, last, b):
    shape = (1, x.shape[1], last - first, x.shape[3])
    return b.op("Slice", [x], shape, starts=(first,), ends=(last,), axes=(2,), steps=(1,), cut=True)


def tiles(b, channels=12):
    t = b.conv(b.x, channels, 3)
    parts = [b.conv(rows_of(t, a, e, b), channels, 3, pads=pads)
             for a, e, pads in ((0, 12, (1, 1, 0, 1)), (10, 24, (0, 1, 1, 1)))]  # fmt: skip
    return b.op("Concat", parts, (1, channels, 11 + 13, parts[0].shape[3]), axis=2, tiles=True)


def run_everywhere(graph):
    """Lower a graph as it is, and run it in all versions; returns the lowered graph and the V3 model."""
    _, c, h, w = graph.inputs[0].shape
    x = np.random.default_rng(0).integers(0, 256, (3, c, h, w), np.uint8)
    params = QParams.uniform(1 / 64, 128, c)
    want = run_float(graph, params.dequantize(x[:1]))[0]
    lowered, _ = lower(graph)
    quantizer = Quantizer(lowered, params)
    quantized = quantizer.choose(quantizer.calibrate(list(x)), "minmax")
    models = []
    for version in (3, 4, 5):
        model = openkpu.load(openkpu.Model(assemble(lowered, quantized, version).program).to_bytes())
        got = model.run(x[0], check=True)[0]
        assert not model.findings
        assert 10 * np.log10((want**2).sum() / ((want.ravel() - got.ravel()) ** 2).sum()) > 25
        models.append(model)
    return lowered, models[0]


@pytest.mark.parametrize("width", [12, 20, 70])
def test_rows_are_cut_and_joined_within_ai_ram(width):
    """All classes of widths: four, two and one channel share a line, or a row takes several."""
    lowered, _ = run_everywhere(graph_of((1, 3, 24, width), lambda b: b.conv(tiles(b), 4, 1)))
    assert [n.op for n in lowered.nodes if n.op != "KpuConv"] == ["KpuRows"] * 3


def test_the_first_layer_of_a_kmodel_reads_the_whole_picture():
    """The V3 runtime takes the picture's size from it."""
    lowered, model = run_everywhere(graph_of((1, 3, 16, 40), lambda b: b.conv(rows_of(b.x, 4, 16, b), 4, 3)))
    assert lowered.nodes[0].op == "KpuRows"
    first = next(s for s in model.steps if isinstance(s, KpuConv))
    assert first.layer.input_shape == (3, 16, 40)


def test_the_choice_is_told_with_both_prices():
    graph = graph_of((1, 3, 64, 64), lambda b: b.conv(b.max_pool(b.conv(b.conv(b.x, 16, 3, pads=NONE), 16, 3)), 4, 3))
    decisions = openkpu.check(to_onnx(graph).SerializeToString())
    texts = [d.how for d in decisions if d.where == "KPU after a rewrite"]
    assert any(
        "what surrounds the picture in its map set to zero (" in t and "cut out on the CPU: " in t for t in texts
    )
    assert any("2x2 maximum of the KPU, on the map shifted" in t and "; on the CPU: " in t for t in texts)
