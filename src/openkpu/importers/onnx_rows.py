"""One-dimensional convolutions and poolings as those of pictures of one row.

before: ``y = Conv(x)`` with x (N, C, L) and weights (O, C, K)
after:  ``y = Reshape(Conv(Reshape(x)))`` with pictures (N, C, 1, L) and weights (O, C, 1, K)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from openkpu.graph.ir import Tensor
from openkpu.importers.onnx_call import Call

Handler = Callable[[Call], None]
WINDOWS: Final = ("Conv", "ConvTranspose", "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool")
"""Operators with a window that slides along a picture."""
KEEPERS: Final = (
    "BatchNormalization", "Relu", "LeakyRelu", "Elu", "Celu", "Selu", "Sigmoid", "Tanh", "Clip", "HardSwish",
    "HardSigmoid", "Softplus", "Softsign", "Mish", "Gelu", "Swish", "Abs", "Neg",
)  # fmt: skip
"""Operators that do the same on a row; they stay pictures between those with windows."""
ONES: Final = ("kernel_shape", "strides", "dilations", "output_shape")
"""Attributes of which a row has 1; of those in ``ZEROS`` it has 0."""
ZEROS: Final = ("output_padding",)


def is_row(call: Call) -> bool:
    """Whether a node is to be imported as one on a picture of one row."""
    if not call.has(0) or len(call.x.shape) != 3:
        return False
    return call.op in WINDOWS or (call.op in KEEPERS and _picture_of(call.x) is not None)


def as_picture(call: Call, handler: Handler) -> None:
    """Let a handler of pictures (N, C, H, W) import a node on (N, C, L)."""
    n, c, length = call.x.shape
    shape = (n, c, 1, length)
    picture = _picture_of(call.x)
    if picture is None:
        picture = call.step("Reshape", [call.x], shape, shape=shape)
    windows = call.op in WINDOWS
    inputs = [picture, *(_row(t) if windows else t for t in call.inputs[1:])]
    inner = Call(call.builder, call.proto, _attributes(call) if windows else call.attrs, inputs)
    inner.outputs = [call.builder.fresh(f"{call.outputs[0]}.row"), *call.outputs[1:]]
    handler(inner)
    result = call.builder.values[inner.outputs[0]]
    flat = (*result.shape[:2], result.shape[3])
    call.emit("Reshape", [result], flat, shape=flat)


def _picture_of(t: Tensor) -> Tensor | None:
    """Return the picture of one row that ``t`` is."""
    made = t.producer
    if made is None or made.op != "Reshape":
        return None
    x = made.inputs[0]
    return x if len(x.shape) == 4 and x.shape[2] == 1 and (*x.shape[:2], x.shape[3]) == t.shape else None


def _row(t: Tensor | None) -> Tensor | None:
    """Return weights with a row; other inputs as they are."""
    if t is None or t.data is None or len(t.shape) != 3:
        return t
    data = t.data.reshape(*t.shape[:2], 1, t.shape[2])
    return Tensor(t.name, tuple(data.shape), t.dtype, data)


def _attributes(call: Call) -> dict[str, Any]:
    attrs = dict(call.attrs)
    for names, first in ((ONES, 1), (ZEROS, 0)):
        for name in names:
            if name in attrs:
                attrs[name] = [first, *call.ints(name, count=1)]
    if "pads" in attrs:
        begin, end = call.ints("pads", count=2)
        attrs["pads"] = [0, begin, 0, end]
    return attrs
