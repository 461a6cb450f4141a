"""A loaded model: its memory on the board, how it runs, and the object that a script holds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from openkpu.board import cost
from openkpu.board.budget import ModelCost
from openkpu.board.device import Device
from openkpu.board.model_file import ModelFile
from openkpu.errors import BoardError
from openkpu.kmodel.program import DType, KpuConv, Memory, Operand, Program
from openkpu.maixpy.kpu import codes
from openkpu.runtime.session import Session

MAX_OUTPUTS: Final = 16


@dataclass(slots=True)
class Yolo:
    """What init_yolo2 stored."""

    threshold: float
    nms: float
    number: int
    anchors: list[float]
    blocks: list[int]


@dataclass(slots=True)
class Handle:
    """A model in the board's memory."""

    device: Device
    file: ModelFile
    cost: ModelCost
    blocks: list[int]
    main_address: int
    id: int
    name: str
    session: Session | None
    layers: int
    times: list[float]
    stream_us: float = 0.0
    program: Program | None = None
    shapes: dict[int, tuple[int, int, int]] = field(default_factory=dict)
    """V4: what set_outputs said."""
    ran: bool = False

    @property
    def version(self) -> int:
        """3 or 4."""
        return self.file.version

    def input_shape(self) -> tuple[int, int, int] | None:
        """(w, h, channels) of the input; None where the firmware does not find it."""
        if self.program is None or not self.program.inputs:
            return None
        if self.version == 3 and not isinstance(self.program.steps[0], KpuConv):
            return None
        shape = self.program.inputs[0].shape
        if len(shape) != 3:
            return None
        return shape[2], shape[1], shape[0]

    def output(self, index: int) -> Operand | None:
        """Where an output is; None when there is none of that number."""
        if self.program is None or not 0 <= index < len(self.program.outputs):
            return None
        return self.program.outputs[index]

    def view(self, operand: Operand) -> NDArray[np.uint8]:
        """The bytes of an operand in main RAM, not a copy."""
        assert self.session is not None
        return self.session.ram(operand.memory)[operand.start : operand.stop]

    def run(self, data: NDArray[Any]) -> None:
        """Run once; time passes on the board."""
        assert self.session is not None
        start = self.device.clock.us
        self.session.run(data)
        us = sum(self.times[: self.layers]) + self.stream_us
        self.device.clock.spend(us)
        self.ran = True
        self.device.send("run", id=self.id, start=start, us=us, layers=self.layers)

    def cut(self, count: int) -> str:
        """Make the model end after ``count`` layers, output 0 being that layer's; return what the firmware prints."""
        assert self.program is not None
        assert self.session is not None
        full = self.file.program
        assert full is not None
        self.layers = count
        kind = self.file.layers[count - 1][0]
        if kind not in codes.SET_LAYERS:
            if kind in (10241, 10243):
                return f"KL_{codes.LAYERS[kind][0]} not support output to mainbuf!\r\n"
            return f"Unknow layer type: {kind}!\r\n"
        step = full.steps[count - 1]
        steps = list(full.steps[:count])
        if isinstance(step, KpuConv) and step.main_output is None:
            start = self.file.conv_outputs[count - 1] or 0
            where = Operand(Memory.MAIN, start, DType.U8, step.layer.output_shape)
            if where.stop > full.main_bytes:
                self.device.halt(
                    BoardError(
                        "E622",
                        f"set_layers({count}) makes a layer write behind the model's memory",
                        where=f"layer {count - 1} (K210_CONV) of {self.name}",
                        why=f"bytes {where.start}..{where.stop} of a scratch buffer of {full.main_bytes}: on the chip "
                        "this corrupts whatever lies behind it in the heap",
                        fix="Cut the model after a layer that the compiler gave a place in main memory.",
                    )
                )
            steps[-1] = step = replace(step, main_output=where)
        target = next((o for o in reversed(step.writes) if o.memory is Memory.MAIN), None)
        if target is None:
            return ""
        self._use(replace(full, steps=tuple(steps), outputs=(target, *full.outputs[1:])))
        return ""

    def _use(self, program: Program) -> None:
        """Go on with another program in the same memory."""
        assert self.session is not None
        self.program = program
        self.session = Session(program, main=self.session.main)

    def restore(self) -> None:
        """All layers again."""
        if self.file.program is not None:
            self.cut(len(self.file.program.steps))


class kpu_yolo2:  # noqa: N801
    """The arguments of init_yolo2, as net_arg() shows them."""

    def __init__(self, yolo: Yolo) -> None:
        self._yolo = yolo

    def anchor(self) -> tuple[float, ...]:
        """The anchors, in cells."""
        return tuple(self._yolo.anchors)

    def threshold(self) -> float:
        """Least score of an object."""
        return self._yolo.threshold

    def nms_value(self) -> float:
        """Largest overlap of two objects of a class."""
        return self._yolo.nms

    def anchor_number(self) -> int:
        """Number of anchors."""
        return self._yolo.number

    def __repr__(self) -> str:
        y = self._yolo
        anchors = ", ".join(f"{a:f}" for a in y.anchors)
        limits = f'"threshold":{y.threshold:f}, "nms_value":{y.nms:f}'
        return f'{{{limits}, "anchor_number":{y.number}, "anchor":"({anchors})"}}'


class kpu_net:  # noqa: N801
    """A model, as a script holds it."""

    def __init__(
        self, handle: Handle, address: int | None, path: str | None, finalise: Callable[[Handle, Any], None]
    ) -> None:
        self._handle: Handle | None = handle
        self._address = address
        self._path = path
        self._size = handle.file.size
        self._max_layers = handle.layers
        self._yolo: Yolo | None = None
        self._finalise = finalise

    def model_addr(self) -> int | None:
        """Flash address, or None."""
        return self._address

    def model_size(self) -> int:
        """Bytes of the model."""
        return self._size

    def model_path(self) -> str | None:
        """Path, or None."""
        return self._path

    def net_arg(self) -> kpu_yolo2 | None:
        """The arguments of init_yolo2, or None."""
        return None if self._yolo is None else kpu_yolo2(self._yolo)

    def __repr__(self) -> str:
        arg = '"(null)"' if self._yolo is None else repr(kpu_yolo2(self._yolo))
        path = "(null)" if self._path is None else self._path
        where = f'"model_addr": {self._address or 0}, "model_size": {self._size}, "model_path": "{path}"'
        return f'{{{where}, "net_args": {arg}}}'

    def __del__(self) -> None:
        finalise = getattr(self, "_finalise", None)
        if finalise is not None:
            finalise(self._handle, self._yolo)


def times_of(program: Program | None) -> list[float]:
    """Microseconds of each step."""
    return [] if program is None else cost.program_us(program)
