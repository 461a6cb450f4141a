"""The steps of V3 programs: where the vendor's compilers went wrong, and what the device cannot do."""

import numpy as np
import pytest
from graph_builders import Builder
from hypothesis import given, settings
from hypothesis import strategies as st

from openkpu.codegen.identity import identity_layer
from openkpu.compiler import compile
from openkpu.float.export import to_onnx
from openkpu.kmodel import program as p
from openkpu.kmodel.program import Memory
from openkpu.quantize.execute import Scratch


def steps(shape, make):
    b = Builder(*shape)
    graph = b.graph(make(b))
    x = np.random.default_rng(0).integers(0, 256, (3, *shape[1:]), np.uint8)
    c = compile(to_onnx(graph).SerializeToString(), calibration=list(x), mean=127.5, std=64.0)
    c.model.run(x[0], check=True)
    assert not c.model.findings
    return c.model.steps


def names(found) -> list[str]:
    return [type(s).__name__ for s in found]


@given(st.tuples(*[st.integers(0, 3)] * 4), st.booleans())
@settings(max_examples=25)
def test_no_pooling_window_starts_beyond_the_far_edge(pads, positive):
    def make(b):
        t = b.conv(b.x, 3, 1)
        return b.max_pool(b.pad(b.relu(t) if positive else t, *pads), 3, 2)

    for step in steps((1, 2, 6, 7), make):
        if isinstance(step, p.QuantizedMaxPool):
            for axis, size in ((0, step.input.shape[2]), (1, step.input.shape[1])):
                out = step.output.shape[2 - axis]
                assert (out - 1) * step.stride[axis] - step.padding[axis] <= size


def test_a_picture_stays_on_the_kpu_up_to_the_average():
    def make(b):
        t = b.relu6(b.conv(b.x, 8, 3, stride=(2, 2)))
        t = b.relu6(b.conv(b.relu6(b.depthwise(t, 3, stride=(2, 2))), 16, 1))
        return b.gap(b.add(b.conv(t, 16, 1), t))

    found = names(steps((1, 3, 32, 32), make))
    first_cpu = next(i for i, n in enumerate(found) if n != "KpuConv")
    assert "KpuConv" not in found[first_cpu:]
    assert "KpuUpload" not in found


def test_concat_costs_no_step():
    found = names(steps((1, 4, 8, 8), lambda b: b.conv(b.concat(b.conv(b.x, 4), b.relu(b.conv(b.x, 4))), 4)))
    assert found == ["KpuConv", "KpuConv", "KpuConv", "Dequantize"] or found == [
        "KpuConv",
        "KpuConv",
        "KpuConv",
        "ChannelwiseDequantize",
    ]


def test_every_operand_lies_inside_its_memory():
    for step in steps((1, 3, 12, 12), lambda b: b.gemm(b.flatten(b.max_pool(b.conv(b.x, 6), 3, 2)), 5)):
        for _, operand in step.operands():
            assert operand.start >= 0
            assert operand.start % (64 if operand.memory is Memory.AI else 1) == 0


def test_registers_of_a_layer():
    for step in steps((1, 3, 20, 40), lambda b: b.conv(b.conv(b.x, 8, 3, stride=(2, 2)), 8, 3)):
        if isinstance(step, p.KpuConv):
            r = step.layer.registers
            assert r.arg_w == -r.pad_value
            assert r.arg_add == 128 * r.pad_value * step.layer.kernel**2
            assert r.dma_total_byte == r.channel_byte_num * r.o_ch_num
            assert r.load_time == -(-r.o_ch_num // r.o_ch_num_coef)


@pytest.mark.parametrize("shape", [(1, 4, 4), (3, 5, 9), (8, 20, 33)])
def test_identity_layer(shape):
    x = np.random.default_rng(0).integers(0, 256, (1, *shape), np.uint8)
    np.testing.assert_array_equal(Scratch().run(identity_layer(shape), x), x)
