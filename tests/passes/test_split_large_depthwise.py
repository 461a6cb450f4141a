from graph_builders import Builder, lowered_equals_source, picture

from openkpu.codegen.build import assemble
from openkpu.k210 import AI_RAM_BYTES
from openkpu.passes import canonicalize
from openkpu.passes.split_large_depthwise import split_large_depthwise
from openkpu.quantize.params import QParams
from openkpu.quantize.quantizer import Quantizer


def inverted_bottleneck(size: int, pads: tuple[int, int, int, int]):
    b = Builder(1, 16, size, size)
    t = b.relu6(b.conv(b.x, 96, 1))
    t = b.relu6(b.depthwise(t, 3, stride=(2, 2), pads=pads))
    return b.graph(b.conv(t, 24, 1))


def test_maps_that_fit_stay_whole():
    graph = inverted_bottleneck(56, (1, 1, 1, 1))
    canonicalize.run(graph)
    assert [n.op for n in graph.nodes] == ["Conv", "Elementwise", "Conv", "Elementwise", "Conv"]


def test_maps_over_the_memory_are_split_and_everything_stays_equal():
    for pads in ((1, 1, 1, 1), (0, 0, 1, 1)):
        graph = inverted_bottleneck(112, pads)
        canonicalize.run(graph)
        assert [n.op for n in graph.nodes].count("Concat") == 1
        lowered = lowered_equals_source(graph)
        assert not [n for n in lowered.nodes if n.op.startswith("Cpu")]


def test_the_split_fits_the_memory():
    graph = inverted_bottleneck(112, (1, 1, 1, 1))
    canonicalize.run(graph)
    from openkpu.lower.lower import lower

    lowered, _ = lower(graph)
    quantizer = Quantizer(lowered, QParams.uniform(1 / 255, 0, 16))
    calibration = quantizer.calibrate([picture((16, 112, 112), seed) for seed in range(2)])
    plan = assemble(lowered, quantizer.choose(calibration, "minmax")).plan
    assert plan.ai.peak <= AI_RAM_BYTES


def test_a_map_with_another_reader_is_left_alone():
    b = Builder(1, 16, 112, 112)
    t = b.relu6(b.conv(b.x, 96, 1))
    graph = b.graph(b.depthwise(t, 3, pads=(1, 1, 1, 1)), t)
    before = len(graph.nodes)
    split_large_depthwise(graph)
    assert len(graph.nodes) == before
