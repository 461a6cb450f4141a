"""V4's operators that move elements, of either type."""

from __future__ import annotations

import struct
from math import prod
from typing import Any, Final

from openkpu.kmodel import operators as t
from openkpu.kmodel import program as p
from openkpu.kmodel.program import Operand
from openkpu.kmodel.record import Record
from openkpu.kmodel.v4_body import MAX_NUMBER, Body, Range, range_of, shape4
from openkpu.kmodel.v4_op import IN_OUT, U8, Fields, OpType, in_out


def _read_concat(body: Body, f: Fields) -> p.Step:
    n, inner, outer = f["n"], f["inner_size"], f["outer_size"]
    body.need(body.position, n * 20, "the list of inputs")
    ranges: list[Range] = [tuple(r) for r in body.array("<u4", n, 4, what="the inputs").tolist()]
    dims: list[int] = body.array("<i4", n, what="the dimensions").tolist()
    body.within(1, MAX_NUMBER, inputs=n)
    dtype = body.dtype(f["out"])
    if inner % dtype.size:
        dtype = U8
    inputs = [body.shaped(r, dtype, outer, d, inner // dtype.size) for r, d in zip(ranges, dims, strict=True)]
    axis = _axis(inputs, dims, outer, inner // dtype.size)
    if axis is None:
        axis = 1
        inputs = [
            Operand(o.memory, o.start, dtype, (outer, d, inner // dtype.size))
            for o, d in zip(inputs, dims, strict=True)
        ]
    shape = list(inputs[0].shape)
    shape[axis] = sum(dims)
    output = body.result(f["out"], dtype, *shape)
    body.spend(output.size)
    body.spend(n * outer)
    return t.ConcatTensors(inputs=tuple(inputs), output=output, axis=axis)


def _axis(inputs: list[Operand], dims: list[int], outer: int, inner: int) -> int | None:
    """Which axis of the inputs' known shapes is concatenated, if there is one."""
    for axis in range(len(inputs[0].shape)):
        other = {o.shape[:axis] + o.shape[axis + 1 :] for o in inputs if len(o.shape) > axis}
        if len(other) == 1 and all(
            len(o.shape) > axis
            and (prod(o.shape[:axis]), o.shape[axis], prod(o.shape[axis + 1 :])) == (outer, d, inner)
            for o, d in zip(inputs, dims, strict=True)
        ):
            return axis
    return None


def _fields_concat(s: Any) -> Fields:
    shape = s.output.shape
    return {
        "out": range_of(s.output),
        "inner_size": prod(shape[s.axis + 1 :]) * s.output.dtype.size,
        "outer_size": prod(shape[: s.axis]),
        "n": len(s.inputs),
    }


def _tail_concat(s: Any) -> bytes:
    rows = [struct.pack("<4I", *range_of(o)) for o in s.inputs]
    return b"".join(rows) + struct.pack(f"<{len(rows)}i", *(o.shape[s.axis] for o in s.inputs))


def _moved(body: Body, f: Fields, shape: tuple[int, ...]) -> dict[str, Any]:
    """Operands of an operator that moves elements of either type; ``shape`` is the output's."""
    dtype = body.dtype(f["in"])
    operands = {"input": body.tensor(f["in"], dtype, *f["in_shape"]), "output": body.result(f["out"], dtype, *shape)}
    body.spend(operands["input"].elements + operands["output"].elements)
    return operands


def _fields_moved(s: Any) -> Fields:
    return in_out(s) | {"in_shape": shape4(s.input)}


def _read_pad(body: Body, f: Fields) -> p.Step:
    flat = f["paddings"]
    pads = tuple((flat[i], flat[i + 1]) for i in range(0, 8, 2))
    for before, after in pads:
        body.within(-MAX_NUMBER, MAX_NUMBER, before=before, after=after)
    shape = tuple(n + before + after for n, (before, after) in zip(f["in_shape"], pads, strict=True))
    operands = _moved(body, f, shape)
    value = float(f["value"][0]) if operands["input"].dtype is U8 else struct.unpack("<f", bytes(f["value"]))[0]
    return t.PadTensor(**operands, pads=pads, value=value)


def _fields_pad(s: Any) -> Fields:
    if s.mode != "constant":
        raise ValueError(f"padding in the mode {s.mode}")
    raw = struct.pack("<f", s.value)
    if s.input.dtype is U8:
        if s.value not in range(256):
            raise ValueError(f"the value {s.value} of padding is no byte")
        raw = bytes([int(s.value), 0, 0, 0])
    pads = ((0, 0),) * (4 - len(s.pads)) + tuple(s.pads)
    # The runtime goes by the input's type; every compiler leaves the value's type 0.
    return _fields_moved(s) | {"paddings": [n for pair in pads for n in pair], "value_type": 0, "value": tuple(raw)}


def _read_transpose(body: Body, f: Fields) -> p.Step:
    perm = f["perm"]
    if sorted(perm) != [0, 1, 2, 3]:
        raise body.error("E115", "a transposition without meaning", f"perm is {perm}")
    return t.TransposeTensor(**_moved(body, f, tuple(f["in_shape"][i] for i in perm)), perm=perm)


def _fields_transpose(s: Any) -> Fields:
    missing = 4 - len(s.perm)
    return _fields_moved(s) | {"perm": (*range(missing), *(i + missing for i in s.perm))}


def _read_slice(body: Body, f: Fields) -> p.Step:
    shape = []
    for n, begin, end, stride in zip(f["in_shape"], f["begin"], f["end"], f["strides"], strict=True):
        count = len(range(begin, end, stride)) if stride else 0
        if not (stride and count and 0 <= begin < n and 0 <= begin + (count - 1) * stride < n):
            raise body.error(
                "E115", "a slice outside its tensor", f"{begin}:{end}:{stride} of a dimension with {n} elements"
            )
        shape.append(count)
    operands = _moved(body, f, tuple(shape))
    return t.SliceTensor(**operands, begin=f["begin"], end=f["end"], stride=f["strides"])


_MASKS: Final = ("begin_mask", "end_mask", "ellipsis_mask", "new_axis_mask", "shrink_axis_mask")


def _fields_slice(s: Any) -> Fields:
    missing = 4 - len(s.begin)
    return (
        _fields_moved(s)
        | {"begin": (0,) * missing + s.begin, "end": (1,) * missing + s.end, "strides": (1,) * missing + s.stride}
        | dict.fromkeys(_MASKS, 0)
    )


def _read_resize(body: Body, f: Fields) -> p.Step:
    n, c, _, _ = f["in_shape"]
    if f["mode"] not in (0, 1):
        raise body.error("E115", "an unknown way to resize", f"mode is {f['mode']}; 0 is bilinear, 1 nearest")
    operands = _moved(body, f, (n, c, f["out_h"], f["out_w"]))
    return t.ResizeImage(**operands, mode=t.ResizeMode(f["mode"]), align_corners=bool(f["align_corners"]))


def _fields_resize(s: Any) -> Fields:
    if s.half_pixel_centers:
        raise ValueError("half_pixel_centers")
    _, _, h, w = shape4(s.output)
    return _fields_moved(s) | {
        "out_h": h,
        "out_w": w,
        "mode": s.mode.value,
        "align_corners": int(s.align_corners),
        "unused": (0, 0, 0),
    }


def _read_upload(body: Body, f: Fields) -> p.Step:
    n, _c, _h, _w = body.sizes(*f["in_shape"])
    target = body.map(f["out"], f["in_shape"])
    source = body.tensor(f["in"], U8, *(target.shape if n == 1 else f["in_shape"]))
    body.spend(source.elements)
    return p.KpuUpload(input=source, output=target)


MOVEMENT: Final = (
    OpType(
        0x01,
        "concat",
        t.ConcatTensors,
        Record("out:u32*4", "inner_size", "outer_size", "n"),
        _read_concat,
        _fields_concat,
        _tail_concat,
    ),
    OpType(
        0x05,
        "pad",
        t.PadTensor,
        Record(*IN_OUT, "in_shape:i32*4", "paddings:i32*8", "value_type", "value:u8*4"),
        _read_pad,
        _fields_pad,
    ),
    OpType(
        0x0A,
        "resize_image",
        t.ResizeImage,
        Record(*IN_OUT, "in_shape:i32*4", "out_h:i32", "out_w:i32", "mode:i32", "align_corners:u8", "unused:u8*3"),
        _read_resize,
        _fields_resize,
    ),
    OpType(
        0x0C,
        "transpose",
        t.TransposeTensor,
        Record(*IN_OUT, "in_shape:i32*4", "perm:i32*4"),
        _read_transpose,
        _fields_transpose,
    ),
    OpType(
        0x0D,
        "strided_slice",
        t.SliceTensor,
        Record(
            *IN_OUT, "in_shape:i32*4", "begin:i32*4", "end:i32*4", "strides:i32*4", *(f"{mask}:i32" for mask in _MASKS)
        ),
        _read_slice,
        _fields_slice,
    ),
    OpType(0x2001, "kpu_upload", p.KpuUpload, Record(*IN_OUT, "in_shape:i32*4"), _read_upload, _fields_moved),
)
