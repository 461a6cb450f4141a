"""Handlers of rare functions of one variable, written with the common ones."""

from __future__ import annotations

import numpy as np

from openkpu.graph.ir import Tensor
from openkpu.importers.onnx_call import Call, handles


def _with(call: Call, op: str, t: Tensor, number: float) -> Tensor:
    return call.step(op, [t, call.number(np.float32(number))], t.shape)


def _one(call: Call, op: str, t: Tensor) -> Tensor:
    return call.step(op, [t], t.shape)


@handles("Celu")
def celu(call: Call) -> None:
    """``alpha * elu(x / alpha)``."""
    alpha, x = call.real("alpha", 1.0), call.x
    if alpha == 0:
        raise call.damaged("Celu with alpha 0")
    curve = call.step("Elu", [_with(call, "Mul", x, 1 / alpha)], x.shape, alpha=1.0)
    call.emit("Mul", [curve, call.number(np.float32(alpha))], x.shape)


@handles("Softsign")
def softsign(call: Call) -> None:
    """``x / (1 + |x|)``."""
    call.emit("Div", [call.x, _with(call, "Add", _one(call, "Abs", call.x), 1)], call.x.shape)


@handles("ThresholdedRelu")
def thresholded_relu(call: Call) -> None:
    """``x`` above alpha, else 0; ONNX's default is 1."""
    call.emit("ThresholdedRelu", [call.x], call.x.shape, alpha=call.real("alpha", 1.0))


@handles("Sinh", "Cosh")
def hyperbolic(call: Call) -> None:
    """``(exp(x) - exp(-x)) / 2``, with a plus for Cosh."""
    x = call.x
    ends = [_one(call, "Exp", x), _one(call, "Exp", _one(call, "Neg", x))]
    both = call.step("Sub" if call.op == "Sinh" else "Add", ends, x.shape)
    call.emit("Mul", [both, call.number(np.float32(0.5))], x.shape)


@handles("Asinh", "Acosh")
def area(call: Call) -> None:
    """``sign(x) * log(|x| + sqrt(x * x + 1))``; Acosh is ``log(x + sqrt(x * x - 1))``."""
    x = call.x
    square = call.step("Mul", [x, x], x.shape)
    if call.op == "Acosh":
        inner = call.step("Add", [x, _one(call, "Sqrt", _with(call, "Sub", square, 1))], x.shape)
        call.emit("Log", [inner], x.shape)
        return
    size = _one(call, "Abs", x)
    inner = call.step("Add", [size, _one(call, "Sqrt", _with(call, "Add", square, 1))], x.shape)
    call.emit("Mul", [_one(call, "Sign", x), _one(call, "Log", inner)], x.shape)


@handles("Atanh")
def atanh(call: Call) -> None:
    """``log((1 + x) / (1 - x)) / 2``."""
    x = call.x
    one = call.number(np.float32(1))
    ratio = call.step("Div", [_with(call, "Add", x, 1), call.step("Sub", [one, x], x.shape)], x.shape)
    call.emit("Mul", [_one(call, "Log", ratio), call.number(np.float32(0.5))], x.shape)
