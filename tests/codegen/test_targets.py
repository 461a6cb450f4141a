"""One quantised graph as V3, V4 and V5 programs: equal outputs, and none of the mistakes of the vendor compilers."""

import numpy as np
import pytest
from graph_builders import Builder, random_graph
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from target_models import CASES, REDUCED, SHARED, graph_of

import openkpu
from openkpu.codegen.build import assemble
from openkpu.compiler import compile
from openkpu.errors import UnsupportedError
from openkpu.float.export import to_onnx
from openkpu.kmodel import operators as t
from openkpu.kmodel import program as p
from openkpu.kmodel.program import KpuConv, Memory

VERSIONS = (4, 5)
MEAN, STD = 127.5, 64.0


def pictures(graph, count=3, seed=0):
    return list(np.random.default_rng(seed).integers(0, 256, (count, *graph.inputs[0].shape[1:]), np.uint8))


def compiled(graph, target="v3", x=None):
    x = pictures(graph) if x is None else x
    return compile(
        to_onnx(graph).SerializeToString(), calibration=x, mean=MEAN, std=STD, target=target, range_method="minmax"
    )


def same(a, b):
    """Equal up to the order of float sums."""
    for left, right in zip(a, b, strict=True):
        np.testing.assert_allclose(
            left.ravel(), right.ravel(), rtol=0, atol=1e-6 * max(1.0, float(np.abs(right).max()))
        )


def check(graph, x):
    """Compile for V3, write the same numbers as V4 and V5, and compare files run from their bytes."""
    v3 = compiled(graph, x=x)
    want = [v3.model.run(picture) for picture in x]
    for version in VERSIONS:
        program = assemble(v3.lowered, v3.quantized, version).program
        model = openkpu.load(openkpu.Model(program).to_bytes())
        assert model.version == version
        for picture, w in zip(x, want, strict=True):
            same(model.run(picture, check=True), w)
            assert not model.findings
    return v3


@given(st.data(), st.integers(1, 8))
@settings(max_examples=15)
def test_random_models_give_the_same_outputs_in_every_version(data, layers):
    graph = random_graph(lambda v: data.draw(st.sampled_from(list(v))), layers, largest=14, benign=True)
    graph.outputs = list({id(o): o for o in graph.outputs}.values())
    try:
        check(graph, pictures(graph, 2))
    except UnsupportedError as error:
        assume(error.code != "E215")
        raise


@pytest.mark.parametrize("name", [*SHARED, *REDUCED])
def test_models_that_all_versions_express(name):
    graph = graph_of(*(SHARED | REDUCED)[name])
    check(graph, pictures(graph, 2))


@pytest.mark.parametrize(("version", "name", "make"), CASES, ids=[f"{n}-{v.name}" for v, n, _ in CASES])
def test_the_program_computes_what_the_quantiser_predicted(version, name, make):
    b = Builder(1, 3, 8, 8)
    graph = b.graph(make(b))
    x = pictures(graph)
    c = compiled(graph, version.name, x)
    model = openkpu.load(c.model.to_bytes())
    got = [model.run(picture, check=True) for picture in x]
    assert not model.findings
    for i, predicted in enumerate(c.quantized.outputs):
        run = np.stack([g[i].ravel() for g in got])
        step = (
            c.quantized.params[id(c.lowered.outputs[i])].scale.max()
            if id(c.lowered.outputs[i]) in (c.quantized.params)
            else 0.0
        )
        largest = float(np.abs(run).max())
        np.testing.assert_allclose(run, predicted.reshape(run.shape), atol=1e-4 * largest + step + 1e-6, rtol=1e-3)
    assert c.report.calibration_snr_db > 15 or len(x) < 4


# -- what the vendor's compilers get wrong ------------------------------------------------------------------------
def test_padding_is_the_zero_point_not_the_byte_0():
    def make(b):
        return b.conv(b.pad(b.conv(b.x, 4, 3), 3, 3, 3, 3), 4, 3)

    graph = graph_of((1, 3, 8, 8), make)
    for version in VERSIONS:
        c = compiled(graph, f"v{version}")
        values = [s.value for s in c.model.steps if isinstance(s, t.PadTensor)]
        zero_points = [q.zero_point for q in c.quantized.params.values()]
        assert values
        assert all(v in zero_points and v > 0 for v in values)


@pytest.mark.parametrize("version", VERSIONS)
def test_never_more_than_64_weight_loads(version):
    graph = graph_of((1, 3, 4, 5), lambda b: b.conv(b.relu(b.conv(b.x, 512, 1)), 400, 3))
    c = compiled(graph, f"v{version}")
    layers = [s.layer.registers for s in c.model.steps if isinstance(s, KpuConv)]
    assert len(layers) > 2
    for r in layers:
        assert r.load_time <= 64
        assert r.load_time * r.o_ch_num_coef >= r.o_ch_num


@pytest.mark.parametrize("version", VERSIONS)
def test_concat_keeps_the_range_of_every_part(version):
    def make(b):
        wide = b.conv(b.x, 4, 3)
        narrow = b.binary("Mul", b.relu(b.conv(b.x, 4, 1)), b.const(0.02))
        return b.concat(b.max_pool(wide), b.max_pool(narrow))

    graph = graph_of((1, 4, 8, 8), make)
    x = pictures(graph, 8)
    c = compiled(graph, f"v{version}", x)
    from graph_builders import run_float

    for picture in x[:3]:
        want = run_float(graph, ((picture - MEAN) / STD).astype(np.float32)[None])[0].ravel()
        got = c.model.run(picture)[0].ravel()
        for part in (slice(0, len(want) // 2), slice(len(want) // 2, None)):
            assert np.abs(got[part] - want[part]).max() < 0.06 * np.abs(want[part]).max()


@pytest.mark.parametrize("version", VERSIONS)
def test_a_tensor_may_be_read_and_be_an_output(version):
    def make(b):
        first = b.relu(b.conv(b.x, 4, 3))
        return first, b.conv(first, 4, 3)

    graph = graph_of((1, 3, 8, 8), make)
    c = compiled(graph, f"v{version}")
    layers = [s for s in c.model.steps if isinstance(s, KpuConv)]
    assert len(layers) == 2  # no layer runs twice: both versions can bring a map to main RAM and keep it
    assert len(c.model.run(pictures(graph)[0])) == 2


def test_v4_takes_a_picture_into_ai_ram_where_only_the_kpu_reads_it():
    only = compiled(graph_of((1, 3, 8, 8), lambda b: b.conv(b.x, 4, 3)), "v4")
    assert only.model.inputs[0].memory is Memory.AI
    both = compiled(graph_of((1, 3, 8, 8), lambda b: (b.conv(b.x, 4, 3), b.max_pool(b.x, 3, 3))), "v4")
    assert both.model.inputs[0].memory is Memory.MAIN


def test_v5_reads_and_writes_the_buffers_of_the_caller():
    c = compiled(graph_of((1, 3, 8, 8), lambda b: b.conv(b.x, 4, 3)), "v5")
    program = c.model.program
    assert [o.memory for o in program.inputs] == [Memory.INPUT]
    assert [o.memory for o in program.outputs] == [Memory.OUTPUT]
    assert isinstance(program.steps[0], p.KpuUpload)
    assert program.input_bytes == 3 * 8 * 8
    assert program.output_bytes == 4 * 4 * 8 * 8


@pytest.mark.parametrize("version", VERSIONS)
def test_two_runs_give_the_same_bytes(version):
    graph = graph_of((1, 3, 8, 8), lambda b: b.binary("Mul", b.conv(b.x, 4, 3), b.conv(b.x, 4, 1)))
    first, second = (compiled(graph, f"v{version}").model.to_bytes() for _ in range(2))
    assert first == second


@pytest.mark.parametrize("version", VERSIONS)
def test_constants_are_aligned_and_equal_ones_are_shared(version):
    def make(b):
        rows = b.const(np.linspace(-1, 1, 8))
        return b.add(b.add(b.conv(b.x, 4, 3), rows), rows)

    c = compiled(graph_of((1, 3, 8, 8), make), f"v{version}")
    reads = [o for s in c.model.steps for o in s.reads if o.memory is Memory.CONST]
    rows = [o for o in reads if o.elements == 8]
    assert all(o.start % 8 == 0 for o in reads)
    assert len(rows) == 2
    assert rows[0].start == rows[1].start
