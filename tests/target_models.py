"""Small models with the operators that only V4 and V5 have, and such that all versions express."""

import numpy as np
from graph_builders import Builder

from openkpu.graph.ir import Graph
from openkpu.lower.target import V4, V5


def graph_of(shape, make) -> Graph:
    b = Builder(*shape)
    y = make(b)
    return b.graph(*(y if isinstance(y, tuple) else (y,)))


def squeeze_excite(b):
    t = b.relu(b.conv(b.x, 8, 3))
    gate = b.unary("HardSigmoid", b.conv(b.relu(b.conv(b.gap(t), 4, 1)), 8, 1), alpha=0.2, beta=0.5)
    return b.conv(b.binary("Mul", t, gate), 4, 1)


def gated_parts(b, upsampled=False):
    """Two maps side by side, times a gate for each channel: multiplied 64 channels at a time, the parts have fewer."""
    t = b.max_pool(b.relu6(b.conv(b.x, 8, 3)))
    first = b.resize(b.relu6(b.conv(b.max_pool(t), 80, 1))) if upsampled else b.relu6(b.conv(t, 60, 1))
    parts = b.concat(first, b.relu6(b.conv(t, 60, 1)))
    gate = b.unary("Sigmoid", b.conv(b.relu(b.conv(b.gap(parts), 8, 1)), parts.shape[1], 1))
    return b.conv(b.binary("Mul", parts, gate), 4, 1)


def slices(b):
    t = b.conv(b.x, 8, 3)
    attrs = {"starts": (4,), "ends": (8,), "axes": (1,), "steps": (1,)}
    half = b.op("Slice", [t], (1, 4, 8, 8), **attrs)
    return b.conv(half, 4, 3)


def backwards(b):
    t = b.conv(b.x, 4, 3)
    return b.op("Slice", [t], (1, 4, 8, 4), starts=(7, 6), ends=(-9, -9), axes=(2, 3), steps=(-1, -2))


def focus(b):
    parts = []
    for y in (0, 1):
        for x in (0, 1):
            attrs = {"starts": (y, x), "ends": (8, 8), "axes": (2, 3), "steps": (2, 2)}
            parts.append(b.op("Slice", [b.x], (1, 3, 4, 4), **attrs))
    return b.conv(b.concat(*parts), 8, 3)


def transposed(b, group=1):
    t = b.relu(b.conv(b.x, 4, 3))
    w = b.const(b.rng.normal(size=(4, 6 // group, 3, 3)) * 0.3)
    bias = b.const(b.rng.normal(size=6))
    return b.op(
        "ConvTranspose", [t, w, bias], (1, 6, 16, 16), strides=(2, 2), pads=(1, 1, 0, 0), dilations=(1, 1),
        group=group, output_padding=(0, 0),
    )  # fmt: skip


def attention(b):
    t = b.reshape(b.conv(b.x, 4, 3), 1, 4, 64)
    scores = b.op("MatMul", [t, b.transpose(t, 0, 2, 1)], (1, 4, 4))
    return b.op("MatMul", [b.softmax(scores, 2), t], (1, 4, 64))


def variance(b):
    """A map freed of its mean, over the root of its variance."""
    t = b.conv(b.x, 4, 3)
    d = b.binary("Sub", t, b.gap(t))
    spread = b.unary("Sqrt", b.add(b.gap(b.binary("Mul", d, d)), b.const(np.float32(1e-3))))
    return b.conv(b.binary("Div", d, spread), 4, 3)


def shuffle(b):
    t = b.relu(b.conv(b.x, 8, 3))
    t = b.reshape(t, 1, 2, 4, 8, 8)
    return b.conv(b.reshape(b.transpose(t, 0, 2, 1, 3, 4), 1, 8, 8, 8), 4, 3)


def reorg(b):
    """Blocks of 2x2 pixels become channels."""
    t = b.reshape(b.relu(b.conv(b.x, 8, 3)), 1, 8, 4, 2, 4, 2)
    return b.conv(b.reshape(b.transpose(t, 0, 3, 5, 1, 2, 4), 1, 32, 4, 4), 4, 3)


def interleaved(b, mode="DCR"):
    return b.conv(b.op("DepthToSpace", [b.relu(b.conv(b.x, 12, 3))], (1, 3, 16, 16), blocksize=2, mode=mode), 4, 3)


def reduced(b, op, axes, keep=True):
    t = b.conv(b.x, 4, 3)
    shape = tuple(1 if i in axes else d for i, d in enumerate(t.shape) if keep or i not in axes)
    return b.op(op, [t], shape, axes=axes, keepdims=int(keep))


def unit_vectors(b):
    t = b.gemm(b.flatten(b.gap(b.relu(b.conv(b.x, 8, 3)))), 16)
    norm = b.unary("Clip", b.op("ReduceL2", [t], (1, 1), axes=(1,), keepdims=1), min=1e-12, max=float("inf"))
    return b.binary("Div", t, norm)


def unit_pixels(b):
    t = b.conv(b.x, 4, 3)
    total = b.op("ReduceSum", [b.binary("Mul", t, t)], (1, 1, 8, 8), axes=(1,), keepdims=1)
    return b.binary("Mul", t, b.unary("Reciprocal", b.unary("Sqrt", b.binary("Max", total, b.const(1e-12)))))


def positions(b, op="ArgMax", axis=1, last=0):
    x = b.conv(b.x, 6, 3)
    shape = tuple(d for i, d in enumerate(x.shape) if i != axis)
    t = b.op(op, [x], shape, axis=axis, keepdims=0, select_last_index=last)
    t.dtype = "int64"
    return t


MODELS = {
    "transposed convolution": transposed,
    "transposed convolution in groups": lambda b: transposed(b, 2),
    "squeeze and excite": squeeze_excite,
    "multiplied maps": lambda b: b.conv(b.binary("Mul", b.conv(b.x, 4, 3), b.relu(b.conv(b.x, 4, 3))), 4, 3),
    "divided": lambda b: b.binary("Div", b.conv(b.x, 4, 3), b.unary("Exp", b.conv(b.x, 4, 1))),
    "minimum, maximum": lambda b: b.binary(
        "Max", b.conv(b.x, 4, 3), b.binary("Min", b.conv(b.x, 4, 1), b.conv(b.x, 4, 3))
    ),
    "added to a row": lambda b: b.add(b.conv(b.x, 4, 3), b.const(np.linspace(-1, 1, 8))),
    "limits behind": lambda b: b.relu6(b.binary("Mul", b.conv(b.x, 4, 3), b.conv(b.x, 4, 1))),
    "subtracted from a constant": lambda b: b.binary("Sub", b.const(np.ones((1, 4, 8, 8))), b.conv(b.x, 4, 3)),
    "channels of a map": slices,
    "a map backwards": backwards,
    "every second pixel of the input": focus,
    "matrix products": attention,
    "variance": variance,
    "shuffled channels": shuffle,
    "blocks as channels": reorg,
    "NHWC in the middle": lambda b: b.transpose(b.transpose(b.conv(b.x, 4, 3), 0, 2, 3, 1), 0, 3, 2, 1),
    "softmax over channels": lambda b: b.softmax(b.conv(b.x, 5, 1), 1),
    "softmax over rows": lambda b: b.softmax(b.conv(b.x, 5, 1), 2),
    "mean over channels": lambda b: reduced(b, "ReduceMean", (1,)),
    "maximum over channels and rows": lambda b: reduced(b, "ReduceMax", (1, 2), keep=False),
    "minimum over columns": lambda b: reduced(b, "ReduceMin", (3,)),
    "sum of all": lambda b: reduced(b, "ReduceSum", (0, 1, 2, 3)),
    "vectors of length 1 at every pixel": unit_pixels,
    "concat along rows": lambda b: b.conv(b.concat(b.conv(b.x, 4, 3), b.conv(b.x, 4, 1), axis=2), 4, 3),
    "padded with a value": lambda b: b.conv(b.pad(b.conv(b.x, 4, 3), 1, 2, 0, 3, value=1.5), 4, 3),
    "padded channels": lambda b: b.conv(
        b.op("Pad", [b.conv(b.x, 3, 3)], (1, 6, 8, 8), pads=(0, 1, 0, 0, 0, 2, 0, 0), value=0.0), 4, 3
    ),
    "bilinear, asymmetric": lambda b: b.conv(
        b.op("Resize", [b.conv(b.x, 4, 3)], (1, 4, 16, 16), mode="linear", coordinate="asymmetric", rounding="floor"),
        4,
    ),
    "bilinear, corners": lambda b: b.op(
        "Resize", [b.conv(b.x, 4, 3)], (1, 4, 13, 17), mode="linear", coordinate="align_corners", rounding="floor"
    ),
    "rows of a matrix": lambda b: b.op(
        "MatMul", [b.reshape(b.conv(b.x, 4, 3), 1, 32, 8), b.const(b.rng.normal(size=(8, 5)))], (1, 32, 5)
    ),
    "a long function of floats": lambda b: b.unary(
        "Tanh", b.unary("Softplus", b.binary("Mul", b.conv(b.x, 4, 3), b.conv(b.x, 4, 1)))
    ),
    "a wide kernel over many channels": lambda b: b.conv(b.conv(b.x, 200, 1), 4, 5),
    "most of floats": lambda b: b.max_pool(b.binary("Mul", b.conv(b.x, 4, 3), b.conv(b.x, 4, 1)), 3, 1, (1, 1, 1, 1)),
}
ONLY = {
    "powers": (
        V5,
        lambda b: b.binary(
            "Pow", b.unary("Sigmoid", b.conv(b.x, 4, 3)), b.const(np.linspace(0.5, 2, 4).reshape(1, 4, 1, 1))
        ),
    ),
    "bilinear, half pixel": (
        V5,
        lambda b: b.op(
            "Resize", [b.conv(b.x, 4, 3)], (1, 4, 16, 16), mode="linear", coordinate="half_pixel", rounding="floor"
        ),
    ),
}
ONLY |= {
    "positions of maxima": (V5, positions),
    "positions of minima in rows, the last": (V5, lambda b: positions(b, "ArgMin", 3, 1)),
}
EVERYWHERE = (
    "blocks as channels",
    "most of floats",
    "padded channels",
    "channels of a map",
    "shuffled channels",
    "mean over channels",
    "maximum over channels and rows",
    "minimum over columns",
    "sum of all",
    "channels of a map",
    "every second pixel of the input",
    "blocks as channels",
    "shuffled channels",
    "squeeze and excite",
    "multiplied maps",
    "limits behind",
    "a long function of floats",
    "transposed convolution",
    "transposed convolution in groups",
)
"""Models that V3 expresses in another form."""
CASES = [(v, n, m) for n, m in MODELS.items() for v in (V4, V5)] + [(v, n, m) for n, (v, m) in ONLY.items()]


def detector(b):
    """Two heads as SSD-like detectors have them."""
    t = b.relu(b.conv(b.x, 8, 3, stride=(2, 2)))
    heads = [b.conv(t, 4, 3), b.conv(b.max_pool(t), 4, 3)]
    flat = [b.reshape(b.transpose(h, 0, 2, 3, 1), 1, h.shape[2] * h.shape[3], 4) for h in heads]
    return b.concat(*flat, axis=1)


SHARED = {
    "classifier": ((1, 3, 16, 16), lambda b: b.softmax(b.gemm(b.flatten(b.gap(b.relu(b.conv(b.x, 8, 3)))), 5), 1)),
    "fully connected on the KPU": ((1, 3, 16, 16), lambda b: b.gemm(b.flatten(b.relu(b.conv(b.x, 4, 3))), 40)),
    "fully connected in a row": (
        (1, 3, 16, 16),
        lambda b: b.gemm(
            b.relu(b.gemm(b.relu(b.gemm(b.flatten(b.relu(b.conv(b.x, 4, 3, stride=(2, 2)))), 300)), 200)), 5
        ),
    ),
    "curves behind strides": (
        (1, 3, 16, 16),
        lambda b: b.unary("Tanh", b.conv(b.unary("Sigmoid", b.conv(b.x, 4, 3, stride=(2, 2))), 6, 3, stride=(2, 2))),
    ),
    "curves before poolings": (
        (1, 3, 16, 16),
        lambda b: b.average_pool(
            b.unary("Tanh", b.conv(b.max_pool(b.unary("Sigmoid", b.conv(b.x, 4, 3))), 6, 3)), 2, 2
        ),
    ),
    "more inputs than channels, of both signs": (
        (1, 4, 16, 16),
        lambda b: b.gemm(b.relu(b.gemm(b.flatten(b.conv(b.x, 5, 3)), 150)), 4),
    ),
    "more inputs than channels": ((1, 4, 16, 16), lambda b: b.gemm(b.flatten(b.relu(b.conv(b.x, 5, 3))), 8)),
    "residual": ((1, 3, 8, 8), lambda b: b.add(b.conv(b.x, 4, 3), b.relu(b.conv(b.relu(b.conv(b.x, 8)), 4, 1)))),
    "concat and its parts": (
        (1, 4, 8, 8),
        lambda b: (lambda t: (b.conv(b.concat(t, b.relu(t)), 4), b.concat(t, t)))(b.conv(b.x, 4)),
    ),
    "poolings": (
        (1, 3, 17, 13),
        lambda b: b.average_pool(b.max_pool(b.relu(b.conv(b.x, 6)), 3, 2, (1, 1, 1, 1)), 3, 1),
    ),
    "resize and pad": ((1, 3, 8, 8), lambda b: b.conv(b.pad(b.resize(b.conv(b.x, 4)), 2, 2, 2, 2), 4)),
    "strides": (
        (1, 3, 15, 15),
        lambda b: b.conv(b.depthwise(b.conv(b.x, 6, 3, stride=(3, 3)), 3, stride=(2, 2)), 4, 1),
    ),
    "detector": ((1, 3, 16, 16), detector),
    "sigmoid": ((1, 3, 8, 8), lambda b: b.unary("Sigmoid", b.gemm(b.flatten(b.conv(b.x, 4)), 3))),
    "functions of vectors": ((1, 3, 8, 8), lambda b: b.unary("Tanh", b.flatten(b.gap(b.conv(b.x, 4))))),
}
"""Name -> input shape and what makes the outputs."""

REDUCED = {
    "unit vectors": ((1, 3, 8, 8), unit_vectors),
    "largest channel": ((1, 3, 8, 8), lambda b: reduced(b, "ReduceMax", (1,))),
    "least of rows and channels": ((1, 3, 8, 8), lambda b: reduced(b, "ReduceMin", (1, 3), keep=False)),
    "sums over channels and columns": ((1, 3, 8, 8), lambda b: b.conv(reduced(b, "ReduceSum", (1,)), 4, 3)),
    "mean over channels and columns": ((1, 3, 8, 8), lambda b: reduced(b, "ReduceMean", (1, 3))),
}
"""The same, whose V4 and V5 programs V3 cannot have step by step."""
