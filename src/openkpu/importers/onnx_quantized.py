"""Handlers of ONNX's quantised operators: the graph stays float, what 8 bits stand for goes into its ``scales``.

Both forms that static quantisation gives (onnxruntime, PyTorch): QuantizeLinear and DequantizeLinear round each
operator, and operators on integers (QLinearConv, QLinearMatMul, and onnxruntime's own QLinearAdd and the like). Weights
become the real numbers that their integers stand for. Quantising also limits: where 0 is at an end of the range, the
exporter may have left out a ReLU, so the limits are written behind what computes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from openkpu.extras import require
from openkpu.graph.ir import Scale, Tensor
from openkpu.importers.onnx_call import HANDLERS, Call, handles

COMPUTING: Final = frozenset(("Conv", "Gemm", "MatMul", "Add", "Sub", "Mul", "Div", "ConvTranspose"))
"""Operators whose result may need limits; others pass on or limit by themselves."""
_OWN: Final[dict[str, tuple[str, tuple[int, ...], int]]] = {
    "QLinearAdd": ("Add", (0, 3), 6),
    "QLinearMul": ("Mul", (0, 3), 6),
    "QLinearAveragePool": ("AveragePool", (0,), 3),
    "QLinearGlobalAveragePool": ("GlobalAveragePool", (0,), 3),
    "QLinearLeakyRelu": ("LeakyRelu", (0,), 3),
    "QLinearSigmoid": ("Sigmoid", (0,), 3),
    "QLinearSoftmax": ("Softmax", (0,), 3),
}
"""onnxruntime's operators: ONNX's, the places of the operands (scale and zero point follow each), of the result's."""
OWN_DOMAIN: Final = "com.microsoft"
OWN: Final = frozenset((*_OWN, "QLinearConcat", "QGemm", "QuantizeLinear", "DequantizeLinear"))
"""What is taken of onnxruntime's own set."""


def own(call: Call) -> Callable[[Call], None]:
    """Return the handler of an operator of onnxruntime's set."""
    return _own if call.op in _OWN else HANDLERS[call.op]


@handles("QuantizeLinear")
def quantize(call: Call) -> None:
    """The tensor stays as it is; its scale is noted, its limits are applied."""
    _bind(call, _limited(call, call.x, 1), 1)


@handles("DequantizeLinear")
def dequantize(call: Call) -> None:
    """Vanishes."""
    _bind(call, call.x, 1)


@handles("QLinearConv")
def conv(call: Call) -> None:
    """Convolution of integers: operands x, w, y with scale and zero point each, then the bias."""
    _note(call, call.x, 1)
    w = _real(call, 3, axis=0)
    operands = [call.x, call.number(w, "weight")]
    if call.has(8):
        scale = np.float64(call.const(1, "scales").reshape(())) * call.const(4, "scales").astype(np.float64).reshape(-1)
        operands.append(call.number((call.const(8, "bias values") * scale).astype(np.float32), "bias"))
    _as(call, "Conv", operands, 6)


@handles("QLinearMatMul")
def matmul(call: Call) -> None:
    """Matrix product of integers."""
    operands = []
    for i in (0, 3):
        _note(call, call.input(i), i + 1)
        operands.append(call.number(_real(call, i, axis=-1), "weight") if call.input(i).is_constant else call.input(i))
    _as(call, "MatMul", operands, 6)


@handles("QGemm")
def gemm(call: Call) -> None:
    """onnxruntime's fully connected layer: A, B, C and the result's numbers; B's scales belong to its columns."""
    _note(call, call.x, 1)
    columns = 0 if call.integer("transB", 0) else 1
    operands = [call.x, call.number(_real(call, 3, axis=columns), "weight")]
    if call.has(6):
        scale = np.float64(call.const(1, "scales").reshape(())) * call.const(4, "scales").astype(np.float64).reshape(-1)
        scale = scale * call.real("alpha", 1.0)
        operands.append(call.number((call.const(6, "bias values") * scale).astype(np.float32), "bias"))
    _as(call, "Gemm", operands, 7)


@handles("QLinearConcat")
def concat(call: Call) -> None:
    """Inputs one after the other; the result's numbers come first."""
    places = range(2, len(call.inputs), 3)
    for i in places:
        _note(call, call.input(i), i + 1)
    _as(call, "Concat", [call.input(i) for i in places], 0)


def _own(call: Call) -> None:
    op, places, result = _OWN[call.op]
    operands = []
    for i in places:
        if call.input(i).is_constant:
            operands.append(call.number(_real(call, i), "real"))
        else:
            _note(call, call.input(i), i + 1)
            operands.append(call.input(i))
    if call.integer("channels_last", 0):
        raise call.refuse(f"{call.op} with the channels last", fix="quantise the model as (1, C, H, W)")
    _as(call, op, operands, result)


def _as(call: Call, op: str, operands: list[Tensor], numbers: int) -> None:
    """Import the node as another operator of ONNX, then note and apply what its result's numbers say."""
    proto = require("onnx", "onnx").NodeProto()
    proto.CopyFrom(call.proto)
    proto.op_type, proto.domain = op, ""
    attrs = {k: v for k, v in call.attrs.items() if k not in ("channels_last", "opset")}
    inner: Call = Call(call.builder, proto, attrs, list(operands))
    HANDLERS[op](inner)
    out = call.builder.values[call.outputs[0]]
    _bind(call, _limited(call, out, numbers), numbers)


# -- numbers -------------------------------------------------------------------------------------------------------
def _numbers(call: Call, at: int) -> tuple[NDArray[np.float64], NDArray[np.int64], np.dtype[Any]]:
    """Return scales, zero points and the integer type that input ``at`` and the one behind it give."""
    scale = np.asarray(call.const(at, "scales"), np.float64)
    if call.has(at + 1):
        zero = call.const(at + 1, "zero points")
        return scale, np.asarray(zero).astype(np.int64), zero.dtype
    return scale, np.zeros(scale.shape, np.int64), np.dtype(np.uint8)


def _real(call: Call, at: int, axis: int = 0) -> NDArray[np.float32]:
    """Return the real numbers of a constant of integers; scale and zero point may be one for each position of axis."""
    q = call.const(at, "integers")
    scale, zero, _ = _numbers(call, at + 1)

    def spread(a: NDArray[Any]) -> NDArray[Any]:
        if a.size == 1:
            return a.reshape(())
        shape = [1] * q.ndim
        shape[axis] = -1
        return a.reshape(shape)

    return np.asarray((q.astype(np.int64) - spread(zero)) * spread(scale), np.float32)


def _scale(call: Call, at: int) -> Scale | None:
    """Return what the uint8 form of a tensor stands for; None where it is no 8-bit form with one scale."""
    scale, zero, dtype = _numbers(call, at)
    if dtype not in (np.uint8, np.int8) or scale.size != 1 or zero.size != 1 or not scale.item() > 0:
        return None
    return Scale(float(scale.item()), int(zero.item()) + (128 if dtype == np.int8 else 0))


def _note(call: Call, t: Tensor, at: int) -> None:
    """Remember a tensor's scale; the first one counts, as later ones only requantise it."""
    scale = None if t.is_constant else _scale(call, at)
    if scale is not None:
        call.builder.scales.setdefault(id(t), (t, scale))


def _bind(call: Call, t: Tensor, at: int) -> None:
    _note(call, t, at)
    call.builder.bind(call.outputs[0], t)


def _limited(call: Call, t: Tensor, at: int) -> Tensor:
    """Apply the limits of a range that begins or ends at 0 to what was just computed."""
    scale = _scale(call, at)
    if scale is None or t.producer is None or t.producer.op not in COMPUTING or scale.zero_point not in (0, 255):
        return t
    if id(t) in call.builder.scales:
        return t
    low, high = (scale.scale * (end - scale.zero_point) for end in (0, 255))
    return call.step("Clip", [t], t.shape, min=float(low), max=float(high))
