"""What each CPU layer of V3 does to the memories: operands in, operator, operands out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from numpy.typing import NDArray

from openkpu.k210 import AI_LINE_BYTES
from openkpu.kmodel import program as p
from openkpu.kmodel.program import Operand
from openkpu.kpu import fmap
from openkpu.ops import elementwise, fully_connected, movement, normalize, pool, quantize
from openkpu.runtime.memories import Memories, get, put


def quantized_add_bytes(operand: Operand) -> int:
    """Bytes that QUANTIZED_ADD really handles: whole groups of 8."""
    group = elementwise.QUANTIZED_ADD_GROUP
    return -(-operand.elements // group) * group


def _quantized_add(m: Memories, s: p.QuantizedAdd) -> None:
    n = quantized_add_bytes(s.output)
    a, b = (m.main[o.start : o.start + n] for o in (s.input_a, s.input_b))
    m.main[s.output.start : s.output.start + n] = elementwise.quantized_add(a, b, s.a, s.b, s.o)


def _add_padding(m: Memories, s: p.KpuAddPadding) -> None:
    c, h, w = s.output.shape
    lay = fmap.FeatureMapLayout(c, h, w)
    v = fmap.view(m.ai, s.output.start // AI_LINE_BYTES, lay.channel_lines, lay.row_lines, lay.group, c, h, w)
    first_pixels, values = v[:, :, 0, 0], get(m, s.input)
    whole, rest = divmod(c, lay.group)
    first_pixels[:whole] = values[: c - rest].reshape(whole, lay.group)
    first_pixels[whole:, :rest] = values[c - rest :]


def _concat(m: Memories, s: p.Concat) -> None:
    position = s.output.start
    for o in s.inputs:  # one memcpy after the other, as the runtime does
        m.main[position : position + o.size] = m.main[o.start : o.stop].copy()
        position += o.size


def _unary(function: Callable[[Any, Any], NDArray[Any]]) -> Callable[[Memories, Any], None]:
    """Wrap ``function(step, input) -> output``."""

    def run(m: Memories, s: Any) -> None:
        put(m, s.output, function(s, get(m, s.input)))

    return run


STEPS: Final[dict[type[p.Step], Callable[[Memories, Any], None]]] = {
    p.KpuUpload: _unary(lambda s, x: x),
    p.KpuAddPadding: _add_padding,
    p.KpuRemovePadding: _unary(lambda s, x: movement.remove_padding(x)),
    p.Add: lambda m, s: put(m, s.output, elementwise.add(get(m, s.input_a), get(m, s.input_b))),
    p.QuantizedAdd: _quantized_add,
    p.GlobalAveragePool: _unary(lambda s, x: pool.global_average_pool(x.reshape(x.shape[0], -1))),
    p.AveragePool: _unary(lambda s, x: pool.average_pool(x, s.output.shape, s.kernel, s.stride, s.padding)),
    p.QuantizedMaxPool: _unary(lambda s, x: pool.quantized_max_pool(x, s.output.shape, s.kernel, s.stride, s.padding)),
    p.Quantize: _unary(lambda s, x: quantize.quantize(x, s.scale, s.bias)),
    p.Dequantize: _unary(lambda s, x: quantize.dequantize(x, s.scale, s.bias)),
    p.ChannelwiseDequantize: _unary(lambda s, x: quantize.channelwise_dequantize(x, s.scale, s.bias)),
    p.Requantize: _unary(lambda s, x: quantize.requantize(x, s.table)),
    p.L2Normalization: _unary(lambda s, x: normalize.l2_normalize(x)),
    p.Softmax: _unary(lambda s, x: normalize.softmax(x)),
    p.Logistic: _unary(lambda s, x: elementwise.logistic(x)),
    p.Concat: _concat,
    p.FullyConnected: _unary(
        lambda s, x: fully_connected.fully_connected(x.reshape(-1), s.weights, s.bias, s.activation)
    ),
    p.Flatten: _unary(lambda s, x: movement.flatten(x)),
    p.ResizeNearest: _unary(lambda s, x: movement.resize_nearest(x, s.output.shape[1], s.output.shape[2])),
}
