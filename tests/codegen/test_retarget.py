"""Programs written for another version: the same outputs, or an error that names the step."""

from dataclasses import replace

import numpy as np
import pytest
from graph_builders import random_graph
from hypothesis import Phase, assume, given, settings
from hypothesis import strategies as st
from target_models import MODELS, SHARED, attention, graph_of, squeeze_excite

import openkpu
from openkpu.codegen.gaps import Held, gap, held, is_read
from openkpu.codegen.retarget import contiguous, retarget, whole
from openkpu.compiler import compile
from openkpu.convert import convert
from openkpu.errors import UnsupportedError
from openkpu.float.export import to_onnx
from openkpu.kmodel import operators as t
from openkpu.kmodel import program as p
from openkpu.kmodel.program import DType, KpuConv, Memory, Operand, Program

PAIRS = [(a, b) for a in (3, 4, 5) for b in (3, 4, 5) if a != b]


def compiled(graph, version):
    x = list(np.random.default_rng(0).integers(0, 256, (2, *graph.inputs[0].shape[1:]), np.uint8))
    data = to_onnx(graph).SerializeToString()
    return compile(data, calibration=x, mean=127.5, std=64.0, target=f"v{version}", range_method="minmax").model


def converted(model, version):
    """Convert from and to bytes, run in the checking mode on a picture, and compare."""
    source = openkpu.load(model.to_bytes())
    result = convert(source, f"v{version}")
    assert result.model.version == version
    assert result.is_same
    x = np.random.default_rng(1).integers(0, 256, source.inputs[0].shape).astype(np.uint8)
    want = source.run(x)
    got = result.model.run(x.reshape(result.model.inputs[0].shape), check=True)
    assert not result.model.findings
    for a, b in zip(want, got, strict=True):
        np.testing.assert_allclose(a.ravel(), b.ravel(), atol=1e-5 * max(1e-9, float(np.abs(a).max())), rtol=0)
    return result


@pytest.mark.parametrize(("a", "b"), PAIRS)
@pytest.mark.parametrize("name", SHARED)
def test_models_that_all_versions_express_go_both_ways(name, a, b):
    converted(compiled(graph_of(*SHARED[name]), a), b)


@given(st.data(), st.integers(1, 6), st.sampled_from(PAIRS))
@settings(max_examples=15, phases=(Phase.explicit, Phase.reuse, Phase.generate))
def test_random_models(data, layers, pair):
    graph = random_graph(lambda v: data.draw(st.sampled_from(list(v))), layers, largest=12, benign=True)
    graph.outputs = list({id(o): o for o in graph.outputs}.values())
    try:
        source = compiled(graph, 3)
    except UnsupportedError as error:
        assume(error.code != "E215")
        raise
    there = converted(source, pair[0]) if pair[0] != 3 else None
    middle = there.model if there is not None else source
    converted(middle, pair[1])


TENSOR_MODELS = [n for n in MODELS if n not in ("bilinear, asymmetric", "bilinear, corners")]


@pytest.mark.parametrize("name", TENSOR_MODELS)
def test_v4_and_v5_have_the_same_operators(name):
    graph = graph_of((1, 3, 8, 8), MODELS[name])
    converted(compiled(graph, 4), 5)


@pytest.mark.parametrize("name", [n for n in TENSOR_MODELS if n not in ("concat along rows",)])
def test_v5_goes_to_v4_where_results_are_dense(name):
    graph = graph_of((1, 3, 8, 8), MODELS[name])
    converted(compiled(graph, 5), 4)


def test_a_step_without_counterpart_is_named():
    with pytest.raises(UnsupportedError, match="E222") as caught:
        retarget(compiled(graph_of((1, 3, 8, 8), MODELS["divided"]), 4).program, 3)
    assert "step " in caught.value.where
    assert "(Binary)" in caught.value.where
    assert "V3 adds two computed tensors" in caught.value.why


def test_a_matrix_product_of_computed_tensors_is_named():
    with pytest.raises(UnsupportedError, match="E222") as caught:
        retarget(compiled(graph_of((1, 3, 8, 8), attention), 5).program, 3)
    assert "step " in caught.value.where


def test_bytes_that_a_bilinear_resize_rounds_otherwise_are_refused():
    graph = graph_of((1, 3, 8, 8), MODELS["bilinear, asymmetric"])
    with pytest.raises(UnsupportedError, match="E223"):
        convert(compiled(graph, 4), "v5")


def test_the_same_version_is_the_same_program():
    model = compiled(graph_of((1, 3, 8, 8), squeeze_excite), 4)
    result = convert(model, "v4")
    assert result.differing == 0
    assert result.model.to_bytes() == model.to_bytes()


def test_16_bit_weights_stay_in_v3():
    model = compiled(graph_of((1, 3, 8, 8), lambda b: b.conv(b.x, 4, 3)), 3)
    first = next(s for s in model.steps if isinstance(s, KpuConv))
    wide = replace(first, layer=replace(first.layer, weights=first.layer.weights.astype(np.uint16)))
    program = replace(model.program, steps=(wide, *model.steps[1:]))
    with pytest.raises(UnsupportedError, match="16 bits"):
        retarget(program, 4)


def test_a_layer_read_in_both_memories_runs_twice_in_v3():
    def make(b):
        first = b.relu(b.conv(b.x, 4, 3))
        return first, b.conv(first, 4, 3)

    model = compiled(graph_of((1, 3, 8, 8), make), 4)
    layers = sum(isinstance(s, KpuConv) for s in model.steps)
    result = converted(model, 3)
    assert sum(isinstance(s, KpuConv) for s in result.model.steps) == layers + 1


def test_batches_become_single_layers_in_v3():
    model = compiled(graph_of((1, 4, 8, 8), lambda b: b.conv(b.x, 4, 3)), 4)
    conv = next(s for s in model.steps if isinstance(s, KpuConv))
    line = 2 * conv.input.size // 64
    layer = replace(conv.layer, registers=replace(conv.layer.registers, image_src_addr=0, image_dst_addr=line))
    both = Operand(Memory.MAIN, 0, DType.U8, (2, 4, 8, 8))
    step = KpuConv(layer=layer, batches=2, main_output=both)
    source = Program(version=4, inputs=(step.input,), outputs=(both,), steps=(step,), main_bytes=both.size)
    program = retarget(replace(source, inputs=(Operand(Memory.AI, 0, DType.U8, (4, 8, 8)),)), 3)
    layers = [s for s in program.steps if isinstance(s, KpuConv)]
    assert [s.input.start for s in layers] == [0, conv.input.size]
    assert [s.main_output.start for s in layers if s.main_output] == [0, 4 * 8 * 8]


# -- places -------------------------------------------------------------------------------------------------------
def _value(start, size, memory=Memory.MAIN):
    return Operand(memory, start, DType.U8, (size,))


def _program(*steps, outputs=()):
    return Program(version=3, inputs=(_value(0, 16),), outputs=outputs, steps=steps, main_bytes=256)


def _move(a, b):
    return p.Requantize(input=a, output=b, table=bytes(range(256)))


def test_values_are_held_to_their_last_reader():
    program = _program(_move(_value(0, 16), _value(32, 16)), _move(_value(32, 16), _value(0, 16)))
    found = [(h.start, h.first, h.last) for h in held(program)]
    assert found == [(0, -1, 0), (32, 0, 1), (0, 1, 1)]


def test_reading_ends_where_something_else_is_written():
    a, b, c = _value(0, 16), _value(32, 16), _value(64, 16)
    program = _program(_move(a, b), _move(c, b), _move(b, c))
    assert not is_read(program, b, 0)
    assert is_read(program, b, 1)
    assert is_read(replace(program, outputs=(a,)), a, 2)


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(1, 6), st.integers(0, 5), st.integers(0, 5)), max_size=8))
def test_gaps_are_free(values):
    occupied = [Held(Memory.MAIN, 8 * a, 8 * (a + n), min(f, g), max(f, g)) for a, n, f, g in values]
    start = gap(occupied, Memory.MAIN, 24, 2, 3)
    assert start % 8 == 0
    for h in occupied:
        if h.first <= 3 and h.last >= 2:
            assert h.stop <= start or start + 24 <= h.start


def test_views():
    dense = Operand(Memory.MAIN, 0, DType.F32, (1, 4, 3, 5), (999, 15, 5, 1))
    view = Operand(Memory.MAIN, 8, DType.F32, (1, 4, 3, 5), (400, 100, 10, 1))
    assert contiguous(dense)
    assert not contiguous(view)
    parent = whole(view)
    assert parent is not None
    assert parent.shape == (1, 4, 10, 10)
    assert whole(replace(view, strides=(400, 100, 10, 2))) is None


def test_float_to_byte_numbers_keep_their_meaning():
    source, target = Operand(Memory.MAIN, 0, DType.F32, (8,)), _value(64, 8)
    program = Program(
        version=4,
        inputs=(source,),
        outputs=(target,),
        steps=(t.QuantizeTensor(input=source, output=target, scale=0.5, zero_point=7),),
        main_bytes=128,
    )
    (step,) = [s for s in retarget(program, 5).steps if isinstance(s, t.QuantizeTensor)]
    assert (step.scale, step.zero_point) == (0.5, 7)
