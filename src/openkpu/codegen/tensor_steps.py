"""What the dialects of V4 and V5 share: CPU operators as tensor operators (``kmodel.operators``).

The numbers are those of the V3 program of the same graph. Where the runtimes have no uint8 kernel (maximum over
windows), the bytes go through float as they are, which is exact.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Final

import numpy as np

from openkpu.codegen.assemble import F32, U8, Assembler
from openkpu.codegen.buffers import Buffer
from openkpu.graph.elementwise import Expr, limits
from openkpu.graph.ir import Node, Tensor
from openkpu.kmodel import operators as t
from openkpu.kmodel import program as p
from openkpu.kmodel.program import Memory, Operand
from openkpu.kpu.layer import KpuLayer
from openkpu.lower.ops import Domain
from openkpu.quantize.params import QParams

SIDE: Final = 4
"""Height and width of the map that holds a vector in its pixel (0, 0)."""
LOWEST: Final = -t.FLT_MAX


class TensorSteps:
    """Common part of the dialects of V4 and V5."""

    version: int
    CONCAT_IS_COPIES: ClassVar[bool] = False

    # -- between memories -----------------------------------------------------------------------------------------
    def upload(self, asm: Assembler, source: Buffer, out: Buffer) -> None:
        """One step."""
        asm.act(lambda: p.KpuUpload(input=source.operand(out.shape), output=out.operand()), [source], [out])

    def dequantize(self, asm: Assembler, source: Buffer, out: Buffer, q: QParams, tensor: Tensor) -> None:
        """With one scale in one step; scales of channels are multiplied in by a step of their own."""
        n = int(np.prod(tensor.shape))
        flat = not q.is_uniform or q.offset.any()
        scale, zero_point = (1.0, q.zero_point) if flat else (float(q.scale[0]), q.zero_point)
        counts = Buffer(Memory.MAIN, F32, out.shape, f"{out.name}.counts") if flat else out
        asm.act(
            lambda: t.DequantizeTensor(
                input=source.operand((n,)), output=counts.operand((n,)), scale=scale, zero_point=zero_point
            ),
            [source],
            [counts],
        )
        if not flat:
            return
        c = tensor.shape[1]
        shape = (1, c, 1, n // c)
        by_channel = (1, c, 1, 1)
        scales = asm.constant(q.scale.astype(np.float32).reshape(by_channel), f"{out.name}.scales")
        scaled = Buffer(Memory.MAIN, F32, out.shape, f"{out.name}.scaled") if q.offset.any() else out
        self._binary(asm, t.BinaryOp.MUL, (counts, shape), (scales, by_channel), (scaled, shape), None)
        if scaled is not out:
            offsets = asm.constant(q.offset.astype(np.float32).reshape(by_channel), f"{out.name}.offsets")
            self._binary(asm, t.BinaryOp.ADD, (scaled, shape), (offsets, by_channel), (out, shape), None)

    def quantize(self, asm: Assembler, source: Buffer, out: Buffer, q: QParams) -> None:
        """One step."""
        n, scale, zero_point = elements(out.shape), float(q.scale[0]), q.zero_point
        asm.act(
            lambda: t.QuantizeTensor(
                input=source.operand((n,)), output=out.operand((n,)), scale=scale, zero_point=zero_point
            ),
            [source],
            [out],
        )

    def side_by_side(self, asm: Assembler, parts: list[Buffer], out: Buffer) -> None:
        """Concatenate maps by channels."""
        self.concatenate(asm, [(b, (1, *b.shape)) for b in parts], (out, (1, *out.shape)), 1, None)

    def vector_layer(self, asm: Assembler, node: Node, layer: KpuLayer, source: Buffer, out: Buffer) -> None:
        """Pad the vector to 4x4 maps, run the layer, cut pixel (0, 0) out."""
        x, tensor = node.inputs[0], node.output
        k, n = layer.registers.i_ch_num, layer.registers.o_ch_num
        first = node.attrs["offset"]
        spread = Buffer(Memory.MAIN, U8, (k, SIDE, SIDE), f"{x.name}.4x4")
        grow = ((0, 0), (0, 0), (0, SIDE - 1), (0, SIDE - 1))

        def vector() -> Operand:
            return Operand(source.memory, source.start + first, U8, (1, k, 1, 1))

        asm.act(
            lambda: t.PadTensor(input=vector(), output=spread.operand((1, k, SIDE, SIDE)), pads=grow, value=0.0),
            [source],
            [spread],
        )
        maps = Buffer(Memory.AI, U8, (k, SIDE, SIDE), f"{x.name}.4x4")
        self.upload(asm, spread, maps)
        target = Buffer(Memory.AI, U8, (n, SIDE, SIDE), f"{tensor.name}.4x4")
        wide = Buffer(Memory.MAIN, U8, (n, SIDE, SIDE), f"{tensor.name}.4x4")
        self.into_main(asm, layer, maps, target, wide)
        shrink = tuple((-a, -b) for a, b in grow)
        asm.act(
            lambda: t.PadTensor(
                input=wide.operand((1, n, SIDE, SIDE)), output=out.operand((1, n, 1, 1)), pads=shrink, value=0.0
            ),
            [wide],
            [out],
            tensor,
        )

    def into_main(self, asm: Assembler, layer: KpuLayer, source: Buffer, target: Buffer, main: Buffer) -> None:
        """Run a layer whose result is wanted in main RAM only."""
        raise NotImplementedError

    # -- operators ------------------------------------------------------------------------------------------------
    def operator(self, asm: Assembler, node: Node) -> None:
        """One handler each."""
        HANDLERS[node.op](self, asm, node)

    def function(self, asm: Assembler, source: Buffer, out: Buffer, fn: Expr, tensor: Tensor) -> None:
        """Apply a function to floats."""
        raise NotImplementedError

    def softmax(
        self, asm: Assembler, source: Buffer, out: Buffer, shape: tuple[int, ...], axis: int, tensor: Tensor
    ) -> None:
        """Softmax of float32 ``shape`` along ``axis``."""
        asm.act(
            lambda: t.SoftmaxTensor(input=source.operand(shape), output=out.operand(shape), axis=axis),
            [source],
            [out],
            tensor,
        )

    def concatenate(
        self,
        asm: Assembler,
        parts: list[tuple[Buffer, tuple[int, ...]]],
        out: tuple[Buffer, tuple[int, ...]],
        axis: int,
        tensor: Tensor | None,
    ) -> None:
        """Put tensors one after the other along an axis; buffers with the shapes to see them with."""
        asm.act(
            lambda: t.ConcatTensors(
                inputs=tuple(b.operand(s) for b, s in parts), output=out[0].operand(out[1]), axis=axis
            ),
            [b for b, _ in parts],
            [out[0]],
            tensor,
        )

    def _binary(
        self,
        asm: Assembler,
        op: t.BinaryOp,
        a: tuple[Buffer, tuple[int, ...]],
        b: tuple[Buffer, tuple[int, ...]],
        out: tuple[Buffer, tuple[int, ...]],
        tensor: Tensor | None,
        clamp: tuple[float, float] = t.NO_CLAMP,
    ) -> None:
        asm.act(
            lambda: t.Binary(
                input_a=a[0].operand(a[1]),
                input_b=b[0].operand(b[1]),
                output=out[0].operand(out[1]),
                op=op,
                clamp=clamp,
            ),
            [a[0], b[0]],
            [out[0]],
            tensor,
        )


def elements(shape: tuple[int, ...]) -> int:
    """Number of elements of a shape."""
    return int(np.prod(shape))


def four(shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """Return a shape with exactly four dimensions."""
    while len(shape) > 4 and shape[0] == 1:
        shape = shape[1:]
    n, c, h, w = (1,) * (4 - len(shape)) + tuple(shape)
    return n, c, h, w


def result(asm: Assembler, node: Node, domain: Domain) -> Buffer:
    """Make the buffer of an operator's result."""
    out = asm.buffer(Memory.MAIN, U8 if domain is Domain.U8 else F32, node.output.shape[1:], node.output)
    asm.forms[id(node.output), domain] = out
    return out


def _domain(node: Node) -> Domain:
    return Domain.U8 if node.attrs.get("u8") else Domain.F32


def _operand(asm: Assembler, tensor: Tensor, domain: Domain) -> Buffer:
    """Return the buffer of an input, which may be a constant."""
    if tensor.data is not None:
        return asm.constant(np.asarray(tensor.data, np.float32), tensor.name)
    return asm.get(tensor, domain)


def _clamp(fn: Expr | None) -> tuple[float, float]:
    """Return the limits of an activation that is only limits."""
    if fn is None:
        return t.NO_CLAMP
    low, high = limits(fn) or (-np.inf, np.inf)
    return max(float(low), -t.FLT_MAX), min(float(high), t.FLT_MAX)


# -- operators that V3 has too --------------------------------------------------------------------------------------
def max_pool(self: TensorSteps, asm: Assembler, node: Node) -> None:
    """A slice, where the window is one pixel; else the maximum in float, of the bytes as they are."""
    a = node.attrs
    source = asm.get(node.inputs[0], Domain.U8)
    out = result(asm, node, Domain.U8)
    shape, size = four(node.inputs[0].shape), four(node.output.shape)
    kernel, stride, origin = a["kernel"], a["stride"], a["origin"]
    if tuple(kernel) == (1, 1) and min(origin) >= 0:
        ends = [o + s * (n - 1) + 1 for o, s, n in zip(origin, stride, size[2:], strict=True)]
        _slice(asm, source, out, shape, size, (0, 0, *origin), (*shape[:2], *ends), (1, 1, *stride), node.output)
        return
    counts = Buffer(Memory.MAIN, F32, shape[1:], f"{out.name}.counts")
    most = Buffer(Memory.MAIN, F32, size[1:], f"{out.name}.most")
    same = QParams.uniform(1.0, 0, 1)
    self.dequantize(asm, source, counts, same, node.inputs[0])
    pads = tuple(
        (-o, s * (n - 1) + k - d + o) for o, s, n, k, d in zip(origin, stride, size[2:], kernel, shape[2:], strict=True)
    )
    _window(asm, t.ReduceOp.MAX, counts, most, shape, size, kernel, stride, pads, 0.0, None)
    n = elements(size)
    asm.act(
        lambda: t.QuantizeTensor(input=most.operand((n,)), output=out.operand((n,)), scale=1.0, zero_point=0),
        [most],
        [out],
        node.output,
    )


def pad(self: TensorSteps, asm: Assembler, node: Node) -> None:
    """With the zero point as the value: the vendor's V4 compiler forgot it, the runtime reads it."""
    source = asm.get(node.inputs[0], Domain.U8)
    out = result(asm, node, Domain.U8)
    top, left, bottom, right = node.attrs["pads"]
    pads = ((0, 0), (0, 0), (top, bottom), (left, right))
    _pad(asm, source, out, node, pads, float(asm.params(node.inputs[0]).zero_point))


def resize(self: TensorSteps, asm: Assembler, node: Node) -> None:
    """Nearest neighbour on uint8."""
    source = asm.get(node.inputs[0], Domain.U8)
    out = result(asm, node, Domain.U8)
    _resize(asm, source, out, node, t.ResizeMode.NEAREST)


def table(self: TensorSteps, asm: Assembler, node: Node) -> None:
    """A function by table."""
    source = asm.get(node.inputs[0], Domain.U8)
    out = result(asm, node, Domain.U8)
    n, values = elements(node.output.shape), asm.q.tables[id(node)]
    asm.act(
        lambda: p.Requantize(input=source.operand((n,)), output=out.operand((n,)), table=values),
        [source],
        [out],
        node.output,
    )


def global_average_pool(self: TensorSteps, asm: Assembler, node: Node) -> None:
    """Mean of each channel."""
    source = asm.get(node.inputs[0], Domain.F32)
    out = result(asm, node, Domain.F32)
    shape = four(node.inputs[0].shape)
    _reduce(asm, t.ReduceOp.MEAN, source, out, shape, (*shape[:2], 1, 1), (2, 3), node.output)


def average_pool(self: TensorSteps, asm: Assembler, node: Node) -> None:
    """Mean of windows over the taps inside."""
    a = node.attrs
    source = asm.get(node.inputs[0], Domain.F32)
    out = result(asm, node, Domain.F32)
    top, left, bottom, right = a["pads"]
    shape, size = four(node.inputs[0].shape), four(node.output.shape)
    pads = ((top, bottom), (left, right))
    _window(asm, t.ReduceOp.MEAN, source, out, shape, size, a["kernel"], a["stride"], pads, 0.0, node.output)


def fully_connected(self: TensorSteps, asm: Assembler, node: Node) -> None:
    """Matrix product with constant weights."""
    source = asm.get(node.inputs[0], Domain.F32)
    out = result(asm, node, Domain.F32)
    w, bias = (np.asarray(x.data, np.float32) for x in node.inputs[1:])
    weights = asm.constant(np.ascontiguousarray(w.T), node.inputs[1].name)
    n, k = w.shape
    clamp = _clamp(node.attrs["fn"])
    asm.act(
        lambda: t.MatMul(
            input_a=source.operand((1, k)),
            input_b=weights.operand(),
            output=out.operand((1, n)),
            bias=bias,
            clamp=clamp,
        ),
        [source, weights],
        [out],
        node.output,
    )


def softmax(self: TensorSteps, asm: Assembler, node: Node) -> None:
    """Over the last ``length`` values of each vector."""
    source = asm.get(node.inputs[0], Domain.F32)
    out = result(asm, node, Domain.F32)
    length = node.attrs["length"]
    shape = (1, 1, elements(node.output.shape) // length, length)
    self.softmax(asm, source, out, shape, 3, node.output)


def logistic(self: TensorSteps, asm: Assembler, node: Node) -> None:
    """Sigmoid."""
    source = asm.get(node.inputs[0], Domain.F32)
    out = result(asm, node, Domain.F32)
    self.function(asm, source, out, SIGMOID, node.output)


SIGMOID: Final = Expr("Sigmoid", (Expr("x"),))


def add(self: TensorSteps, asm: Assembler, node: Node) -> None:
    """Float sum of two tensors of one shape."""
    a, b = (asm.get(x, Domain.F32) for x in node.inputs)
    out = result(asm, node, Domain.F32)
    shape = four(node.output.shape) if len(node.output.shape) <= 4 else (elements(node.output.shape),)
    self._binary(asm, t.BinaryOp.ADD, (a, shape), (b, shape), (out, shape), node.output)


def to_hwc(self: TensorSteps, asm: Assembler, node: Node) -> None:
    """CHW -> HWC."""
    _transpose(asm, node, Domain.F32, four(node.inputs[0].shape), (0, 2, 3, 1))


def concat(self: TensorSteps, asm: Assembler, node: Node) -> None:
    """One after the other along an axis; all dimensions before it count as one, all behind it too."""
    domain, axis = _domain(node), node.attrs["axis"]
    parts = [(_operand(asm, x, domain), _around(x.shape, axis)) for x in node.inputs]
    out = result(asm, node, domain)
    self.concatenate(asm, parts, (out, _around(node.output.shape, axis)), 1, node.output)


def _around(shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
    return (elements(shape[:axis]), shape[axis], 1, elements(shape[axis + 1 :]))


# -- operators that only V4 and V5 have -----------------------------------------------------------------------------
def binary(self: TensorSteps, asm: Assembler, node: Node) -> None:
    """Float arithmetic with broadcasting."""
    a, b = (_operand(asm, x, Domain.F32) for x in node.inputs)
    out = result(asm, node, Domain.F32)
    shapes = [four(x.shape) for x in (*node.inputs, node.output)]
    op, clamp = t.BinaryOp[node.attrs["kind"].upper()], _clamp(node.attrs["fn"])
    self._binary(asm, op, (a, shapes[0]), (b, shapes[1]), (out, shapes[2]), node.output, clamp)


def function(self: TensorSteps, asm: Assembler, node: Node) -> None:
    """A function of one float."""
    source = asm.get(node.inputs[0], Domain.F32)
    out = result(asm, node, Domain.F32)
    self.function(asm, source, out, node.attrs["fn"], node.output)


def conv2d(self: TensorSteps, asm: Assembler, node: Node) -> None:
    """Float convolution of any kind."""
    a = node.attrs
    source = asm.get(node.inputs[0], Domain.F32)
    out = result(asm, node, Domain.F32)
    w, bias = (np.asarray(x.data, np.float32) for x in node.inputs[1:])
    shape, size = four(node.inputs[0].shape), four(node.output.shape)
    top, left, bottom, right = a["pads"]
    asm.act(
        lambda: t.Conv2D(
            input=source.operand(shape),
            output=out.operand(size),
            weights=w,
            bias=bias,
            groups=a["group"],
            pads=((top, bottom), (left, right)),
            stride=tuple(a["strides"]),
            dilation=tuple(a["dilations"]),
            clamp=_clamp(a["fn"]),
        ),
        [source],
        [out],
        node.output,
    )


def conv2d_transpose(self: TensorSteps, asm: Assembler, node: Node) -> None:
    """Float transposed convolution; the runtime leaves the bias out, so it is added behind."""
    a = node.attrs
    source = asm.get(node.inputs[0], Domain.F32)
    out = result(asm, node, Domain.F32)
    w, bias = (np.asarray(x.data, np.float32) for x in node.inputs[1:])
    groups = a["group"]
    shape, size = four(node.inputs[0].shape), four(node.output.shape)
    # ONNX has (ic, oc / groups, kh, kw); the runtime walks [oc][ic / groups]
    ic, per_out = w.shape[:2]
    weights = w.reshape(groups, ic // groups, per_out, *w.shape[2:]).transpose(0, 2, 1, 3, 4)
    weights = np.ascontiguousarray(weights.reshape(groups * per_out, ic // groups, *w.shape[2:]))
    top, left, bottom, right = a["pads"]
    clamp = _clamp(a["fn"])
    bare = out if not bias.any() else Buffer(Memory.MAIN, F32, size[1:], f"{out.name}.product")
    asm.act(
        lambda: t.Conv2DTranspose(
            input=source.operand(shape),
            output=bare.operand(size),
            weights=weights,
            bias=np.zeros_like(bias),
            groups=groups,
            pads=((top, bottom), (left, right)),
            stride=tuple(a["strides"]),
            dilation=tuple(a["dilations"]),
            clamp=clamp if bare is out else t.NO_CLAMP,
        ),
        [source],
        [bare],
        node.output if bare is out else None,
    )
    if bare is not out:
        by_channel = (1, len(bias), 1, 1)
        offsets = asm.constant(bias.reshape(by_channel), node.inputs[2].name)
        self._binary(asm, t.BinaryOp.ADD, (bare, size), (offsets, by_channel), (out, size), node.output, clamp)


def matmul(self: TensorSteps, asm: Assembler, node: Node) -> None:
    """Float matrix product, one step for each pair of matrices."""
    x, y = node.inputs[:2]
    a, b = (_operand(asm, i, Domain.F32) for i in (x, y))
    out = result(asm, node, Domain.F32)
    rows, inner = x.shape[-2:]
    columns = y.shape[-1]
    bias = np.zeros(columns, np.float32) if len(node.inputs) < 3 else np.asarray(node.inputs[2].data, np.float32)
    batch = node.output.shape[:-2]
    clamp = _clamp(node.attrs["fn"])
    starts_a = np.broadcast_to(np.arange(elements(x.shape[:-2])).reshape(x.shape[:-2]), batch).reshape(-1)
    starts_b = np.broadcast_to(np.arange(elements(y.shape[:-2])).reshape(y.shape[:-2]), batch).reshape(-1)
    for i, (ia, ib) in enumerate(zip(starts_a.tolist(), starts_b.tolist(), strict=True)):

        def make(i: int = i, ia: int = ia, ib: int = ib) -> p.Step:
            return t.MatMul(
                input_a=_matrix(a, ia, rows, inner),
                input_b=_matrix(b, ib, inner, columns),
                output=_matrix(out, i, rows, columns),
                bias=bias,
                clamp=clamp,
            )

        asm.act(make, [a, b], [out], node.output if i == len(starts_a) - 1 else None)


def _matrix(b: Buffer, index: int, rows: int, columns: int) -> Operand:
    return Operand(b.memory, b.start + index * rows * columns * F32.size, F32, (rows, columns))


def reduce(self: TensorSteps, asm: Assembler, node: Node) -> None:
    """Float reduction over some axes."""
    source = asm.get(node.inputs[0], Domain.F32)
    out = result(asm, node, Domain.F32)
    shape = four(node.inputs[0].shape)
    shift = 4 - len(node.inputs[0].shape)
    axes = tuple(a + shift for a in node.attrs["axes"])
    kept = tuple(1 if i in axes else d for i, d in enumerate(shape))
    _reduce(asm, t.ReduceOp[node.attrs["kind"]], source, out, shape, kept, axes, node.output)


def pool(self: TensorSteps, asm: Assembler, node: Node) -> None:
    """Float maximum or mean over windows."""
    a = node.attrs
    source = asm.get(node.inputs[0], Domain.F32)
    out = result(asm, node, Domain.F32)
    top, left, bottom, right = a["pads"]
    shape, size = four(node.inputs[0].shape), four(node.output.shape)
    op = t.ReduceOp[a["kind"]]
    init = LOWEST if op is t.ReduceOp.MAX else 0.0
    pads = ((top, bottom), (left, right))
    _window(asm, op, source, out, shape, size, a["kernel"], a["stride"], pads, init, node.output)


def tensor_pad(self: TensorSteps, asm: Assembler, node: Node) -> None:
    """Pad any axes with a value."""
    domain = _domain(node)
    source = asm.get(node.inputs[0], domain)
    out = result(asm, node, domain)
    value = float(node.attrs["value"])
    if domain is Domain.U8:
        value = float(asm.params(node.inputs[0]).zero_point)
    begins, ends = node.attrs["pads"]
    shift = 4 - len(begins)
    pads = ((0, 0),) * shift + tuple(zip(begins, ends, strict=True))
    _pad(asm, source, out, node, pads, value)


def tensor_slice(self: TensorSteps, asm: Assembler, node: Node) -> None:
    """``x[begin:end:stride]`` in every dimension."""
    domain, a = _domain(node), node.attrs
    source = asm.get(node.inputs[0], domain)
    out = result(asm, node, domain)
    shape, size = four(node.inputs[0].shape), four(node.output.shape)
    shift = 4 - len(a["begin"])
    begin, end, stride = ((i,) * shift + tuple(a[k]) for i, k in ((0, "begin"), (1, "end"), (1, "stride")))
    _slice(asm, source, out, shape, size, begin, end, stride, node.output)


def tensor_transpose(self: TensorSteps, asm: Assembler, node: Node) -> None:
    """Any order of up to four dimensions."""
    _transpose(asm, node, _domain(node), node.attrs["view"], node.attrs["perm"])


def tensor_resize(self: TensorSteps, asm: Assembler, node: Node) -> None:
    """Bilinear, or nearest neighbour by the runtime's other rules."""
    domain = _domain(node)
    source = asm.get(node.inputs[0], domain)
    out = result(asm, node, domain)
    mode = t.ResizeMode.BILINEAR if node.attrs["mode"] == "linear" else t.ResizeMode.NEAREST
    _resize(asm, source, out, node, mode, node.attrs["align_corners"], node.attrs["half_pixel"])


def tensor_softmax(self: TensorSteps, asm: Assembler, node: Node) -> None:
    """Along any axis."""
    source = asm.get(node.inputs[0], Domain.F32)
    out = result(asm, node, Domain.F32)
    axis, shape = node.attrs["axis"], node.output.shape
    self.softmax(asm, source, out, _around(shape, axis), 1, node.output)


# -- single steps ---------------------------------------------------------------------------------------------------
def _pad(
    asm: Assembler, source: Buffer, out: Buffer, node: Node, pads: tuple[tuple[int, int], ...], value: float
) -> None:
    shape, size = four(node.inputs[0].shape), four(node.output.shape)
    asm.act(
        lambda: t.PadTensor(input=source.operand(shape), output=out.operand(size), pads=pads, value=value),
        [source],
        [out],
        node.output,
    )


def _resize(
    asm: Assembler,
    source: Buffer,
    out: Buffer,
    node: Node,
    mode: t.ResizeMode,
    align_corners: bool = False,
    half_pixel: bool = False,
) -> None:
    shape, size = four(node.inputs[0].shape), four(node.output.shape)
    asm.act(
        lambda: t.ResizeImage(
            input=source.operand(shape),
            output=out.operand(size),
            mode=mode,
            align_corners=align_corners,
            half_pixel_centers=half_pixel,
        ),
        [source],
        [out],
        node.output,
    )


def _transpose(asm: Assembler, node: Node, domain: Domain, shape: tuple[int, ...], perm: tuple[int, ...]) -> None:
    source = asm.get(node.inputs[0], domain)
    out = result(asm, node, domain)
    turned = tuple(shape[i] for i in perm)
    asm.act(
        lambda: t.TransposeTensor(input=source.operand(shape), output=out.operand(turned), perm=tuple(perm)),
        [source],
        [out],
        node.output,
    )


def _slice(
    asm: Assembler,
    source: Buffer,
    out: Buffer,
    shape: tuple[int, ...],
    size: tuple[int, ...],
    begin: tuple[int, ...],
    end: tuple[int, ...],
    stride: tuple[int, ...],
    tensor: Tensor | None,
) -> None:
    asm.act(
        lambda: t.SliceTensor(
            input=source.operand(shape), output=out.operand(size), begin=begin, end=end, stride=stride
        ),
        [source],
        [out],
        tensor,
    )


def _reduce(
    asm: Assembler,
    op: t.ReduceOp,
    source: Buffer,
    out: Buffer,
    shape: tuple[int, ...],
    size: tuple[int, ...],
    axes: tuple[int, ...],
    tensor: Tensor | None,
) -> None:
    init = {t.ReduceOp.MAX: LOWEST, t.ReduceOp.MIN: t.FLT_MAX}.get(op, 0.0)
    asm.act(
        lambda: t.Reduce(input=source.operand(shape), output=out.operand(size), op=op, axes=axes, init=init),
        [source],
        [out],
        tensor,
    )


def _window(
    asm: Assembler,
    op: t.ReduceOp,
    source: Buffer,
    out: Buffer,
    shape: tuple[int, ...],
    size: tuple[int, ...],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    pads: Any,
    init: float,
    tensor: Tensor | None,
) -> None:
    asm.act(
        lambda: t.ReduceWindow(
            input=source.operand(shape),
            output=out.operand(size),
            op=op,
            pads=pads,
            kernel=(kernel[0], kernel[1]),
            stride=(stride[0], stride[1]),
            dilation=(1, 1),
            init=init,
        ),
        [source],
        [out],
        tensor,
    )


HANDLERS: Final[dict[str, Callable[[Any, Assembler, Node], None]]] = {
    "CpuMaxPool": max_pool,
    "CpuPad": pad,
    "CpuResize": resize,
    "CpuTable": table,
    "CpuGlobalAveragePool": global_average_pool,
    "CpuAveragePool": average_pool,
    "CpuFullyConnected": fully_connected,
    "CpuSoftmax": softmax,
    "CpuLogistic": logistic,
    "CpuAdd": add,
    "CpuToHWC": to_hwc,
    "CpuConcat": concat,
    "TensorBinary": binary,
    "TensorFunction": function,
    "TensorConv": conv2d,
    "TensorConvTranspose": conv2d_transpose,
    "TensorMatMul": matmul,
    "TensorReduce": reduce,
    "TensorPool": pool,
    "TensorPad": tensor_pad,
    "TensorSlice": tensor_slice,
    "TensorTranspose": tensor_transpose,
    "TensorResize": tensor_resize,
    "TensorConcat": concat,
    "TensorSoftmax": tensor_softmax,
}
