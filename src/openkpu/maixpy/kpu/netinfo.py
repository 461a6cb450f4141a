"""``netinfo``: what the firmware tells about the layers of a V3 model."""

from __future__ import annotations

from openkpu.board.device import Device
from openkpu.errors import BoardError
from openkpu.kmodel.program import KpuConv
from openkpu.maixpy.kpu import codes
from openkpu.maixpy.kpu.net import Handle

_FIELDS = ("wi", "hi", "wo", "ho", "chi", "cho", "dw", "kernel_type", "pool_type", "para_size")


class kpu_netinfo_find:  # noqa: N801
    """One layer. Everything is a method, as on the board."""

    def __init__(self, index: int, kind: int, name: str, values: tuple[int, ...]) -> None:
        self._index = index
        self._type = kind
        self._name = name
        self._values = dict(zip(_FIELDS, values, strict=True))

    def index(self) -> int:
        """Number of the layer."""
        return self._index

    def type(self) -> int:
        """Number of its type."""
        return self._type

    def wi(self) -> int:
        """Input width."""
        return self._values["wi"]

    def hi(self) -> int:
        """Input height."""
        return self._values["hi"]

    def wo(self) -> int:
        """Output width."""
        return self._values["wo"]

    def ho(self) -> int:
        """Output height."""
        return self._values["ho"]

    def chi(self) -> int:
        """Input channels."""
        return self._values["chi"]

    def cho(self) -> int:
        """Output channels."""
        return self._values["cho"]

    def dw(self) -> int:
        """1 for a depthwise layer."""
        return self._values["dw"]

    def kernel_type(self) -> int:
        """0 for 1x1, 1 for 3x3."""
        return self._values["kernel_type"]

    def pool_type(self) -> int:
        """The chip's kind of pooling."""
        return self._values["pool_type"]

    def para_size(self) -> int:
        """Bytes of one load of weights; of the body for other layers."""
        return self._values["para_size"]

    def __repr__(self) -> str:
        rest = ", ".join(f'"{k}":{v}' for k, v in self._values.items())
        return f'{{"index":{self._index}, "type":{self._name}, {rest}}}'


def netinfo(device: Device, handle: Handle) -> list[kpu_netinfo_find]:
    """Print and return the layers."""
    count = handle.layers
    if handle.version != 3:
        raise OSError(codes.text(codes.NOT_IMPLEMENTED, v4=device.firmware.v4))
    if count <= 0:
        raise ValueError("get layer num error!")
    layers = handle.file.layers[:count]
    names = [_name(device, kind) for kind, _ in layers]
    for i, (name, (_, size)) in enumerate(zip(names, layers, strict=True)):
        device.print(f"layer[{i}]: {name}, {size} bytes\r\n")
    if count > 255:
        device.halt(
            BoardError(
                "E627",
                "kpu.netinfo never ends for this model",
                where=handle.name,
                why=f"it has {count} layers, and the firmware counts them in 8 bits",
                fix="Do not call netinfo for models with 256 layers or more.",
            )
        )
    steps = handle.program.steps if handle.program is not None else ()
    found = []
    for i, (name, (kind, size)) in enumerate(zip(names, layers, strict=True)):
        values: tuple[int, ...] = (0,) * (len(_FIELDS) - 1) + (size,)
        step = steps[i] if i < len(steps) else None
        if isinstance(step, KpuConv):
            r = step.layer.registers
            values = (
                *(r.i_row_wid, r.i_col_high, r.o_row_wid, r.o_col_high, r.i_ch_num, r.o_ch_num, r.depth_wise_layer),
                *(r.kernel_type, r.pool_type, r.para_size),
            )
        found.append(kpu_netinfo_find(i, kind, name, values))
    return found


def _name(device: Device, kind: int) -> str:
    name = codes.printed_name(kind)
    if name is None:
        device.halt(
            BoardError(
                "E627",
                f"kpu.netinfo reads behind its table of names for a layer of type {kind}",
                where=f"layer type {kind} ({codes.LAYERS.get(kind, ('unknown', ''))[0]})",
                why="the firmware's table lost a comma and is one entry short",
                fix="Do not call netinfo for models with this layer.",
            )
        )
    return name
