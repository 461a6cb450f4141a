"""What the functions of ``KPU`` share: checks of images, runs, results, and the region layer in the model's memory."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from openkpu.board import cost
from openkpu.board.device import Device
from openkpu.errors import BoardError
from openkpu.kmodel.program import KpuConv
from openkpu.maixpy import mp
from openkpu.maixpy.image.core import GRAYSCALE, RGB565, ImageCore
from openkpu.maixpy.kpu import classifier, codes, region
from openkpu.maixpy.kpu.fmap import kpu_fmap
from openkpu.maixpy.kpu.load import Loader, handle_of
from openkpu.maixpy.kpu.net import Handle, Yolo, kpu_net


class Running:
    """The base of the module's functions."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._loader = Loader(device)

    def _print(self, text: str) -> None:
        self._device.print(text)

    def _need_image(self, img: Any) -> None:
        if not isinstance(img, ImageCore):
            raise TypeError(f"Can't convert {type(img).__name__} to Image")

    def _stray(self, call: str, value: Any) -> BoardError:
        """What follows a null or foreign pointer on the chip."""
        self._device.halt(
            BoardError(
                "E629",
                f"{call} with something that is no model or feature map",
                where=call,
                why=f"it got a {type(value).__name__}; the firmware does not check and follows it as a pointer",
                fix="Pass what kpu.load or kpu.forward returned.",
            )
        )

    def _picture(self, handle: Handle, img: ImageCore) -> NDArray[np.uint8]:
        """Check an image as the firmware does and return its planes as the model's input."""
        shape = handle.input_shape()
        if shape is None:
            raise ValueError("[MAIXPY]kpu: first layer not conv layer!\r\n")
        w, h, ch = shape
        problem = ""
        if img._ai is None:
            problem = "pix_ai is NULL!"
        elif (img._w, img._h) != (w, h):
            problem = f"img w={img._w},h={img._h}, but model w={w},h={h}"
        elif img._format == GRAYSCALE and ch != 1:
            problem = f"grayscale img, but model channel={ch}"
        elif img._format == RGB565 and ch != 3:
            problem = f"RGB img, but model channel={ch}"
        elif img._format not in (GRAYSCALE, RGB565):
            problem = "img bpp not support yet!"
        if problem:
            self._print(f"[MAIXPY]kpu: {problem}\r\n")
            if img._ai is None:
                self._device.warn("this image has no planes for the KPU yet: call img.pix_to_ai() before")
            raise ValueError(codes.IMAGE_ERROR)
        calls = img.ai_is_stale()
        if calls:
            self._device.warn(
                f"the KPU sees the picture as it was before {calls}: call img.pix_to_ai() after changing it"
            )
        planes = img.ai_planes(ch)
        if planes is None:
            self._device.halt(
                BoardError(
                    "E623",
                    "the KPU would read behind the image",
                    where="kpu.forward or kpu.run_yolo2",
                    why=f"the model takes {ch} planes, the image's memory for the KPU has one",
                    fix="Call img.pix_to_ai() after converting the image.",
                )
            )
        return self._as_input(handle, np.ascontiguousarray(planes).reshape(-1))

    def _as_input(self, handle: Handle, data: NDArray[np.uint8]) -> NDArray[Any]:
        """The bytes at the start of a buffer as the model's input; the board stops when the buffer is too short."""
        assert handle.program is not None
        operand = handle.program.inputs[0]
        need = operand.elements * operand.dtype.size
        if data.size < need:
            self._device.halt(
                BoardError(
                    "E623",
                    "the model would read behind its input",
                    where=handle.name,
                    why=f"it takes {operand.dtype.value} {operand.shape}, {need} bytes; {data.size} were given and the "
                    "firmware does not check",
                    fix="Give an input of the right size"
                    + (
                        ": this model takes floats, MaixPy passes an image's bytes." if operand.dtype.size == 4 else "."
                    ),
                )
            )
        typed: NDArray[Any] = data[:need].view(operand.dtype.numpy).reshape(operand.shape)
        return typed

    def _forward_list(self, handle: Handle, values: list[Any]) -> None:
        if not values:
            raise ValueError("[MAIXPY]kpu: check input list format err!\r\n")
        block = self._device.malloc(4 * len(values), "list for kpu.forward")
        if block is None:
            raise ValueError("[MAIXPY]kpu: alloc list mem err!\r\n")
        try:
            data = np.array([mp.need_float(v) for v in values], np.float32)
            self._run(handle, self._as_input(handle, data.view(np.uint8)) if handle.program is not None else data)
        finally:
            self._device.release(block)

    def _run(self, handle: Handle, data: NDArray[Any]) -> None:
        v4 = self._device.firmware.v4
        if handle.file.run_fault:
            assert handle.file.refusal is not None
            self._device.note(f"{handle.name}: {handle.file.refusal.what}: {handle.file.refusal.why}")
            raise OSError(codes.text(handle.file.run_fault, v4=v4))
        if handle.session is None:
            refusal = handle.file.refusal
            assert refusal is not None
            self._device.halt(
                BoardError(
                    "E626",
                    f"the board hangs: it cannot run {handle.name}",
                    where=f"{handle.name}: {refusal.where}",
                    why=f"{refusal.what}: {refusal.why}. The firmware waits for ever for a run that never ends.",
                    fix=refusal.fix,
                )
            )
        if handle.version == 4:
            wanted = len(handle.program.outputs) if handle.program else 0
            if any(i not in handle.shapes for i in range(wanted)):
                self._shapes_note(handle)
                raise OSError(codes.text(codes.OUTPUTS_NOT_SET, v4=v4))
        handle.run(data)

    def _shapes_note(self, handle: Handle) -> None:
        assert handle.program is not None
        lines = []
        for i, o in enumerate(handle.program.outputs):
            c, h, w = o.shape if len(o.shape) == 3 else (o.elements, 1, 1)
            lines.append(f"kpu.set_outputs(task, {i}, {w}, {h}, {c})")
        self._device.warn("a V4 model needs the shape of every output before it runs: " + "; ".join(lines))

    def _fmap(self, handle: Handle, index: int, missing: str, shapeless: str) -> kpu_fmap:
        operand = handle.output(index)
        if operand is None or handle.session is None:
            raise OSError(missing)
        size = operand.size
        if handle.version == 4:
            shape = handle.shapes.get(index)
            if shape is None:
                raise OSError(shapeless)
            code = "f"
        else:
            kind = handle.file.layers[handle.layers - 1][0]
            step = handle.program.steps[-1] if handle.program is not None else None
            if isinstance(step, KpuConv):
                c, h, w = step.layer.output_shape
                shape, code = (w, h, c), "B"
            else:
                shape, code = (size & 0xFFFF, 1, 1), codes.LAYERS.get(kind, ("", "\0"))[1]
        return kpu_fmap(
            handle.view(operand),
            handle.main_address + operand.start,
            shape,
            code,
            handle.layers - 1,
            self._print,
            self._crash_typecode,
        )

    def _crash_typecode(self) -> Any:
        self._device.halt(
            BoardError(
                "E628",
                "fmap.typecode() crashes the board",
                where="fmap.typecode()",
                why="the firmware takes the code itself for the address of a text",
                fix='Read it in print(fmap): "typecode" there is B for bytes and f for floats.',
            )
        )

    # -- YOLO -----------------------------------------------------------------------------------------------------

    def _yolo_of(self, net: kpu_net, handle: Handle) -> Yolo:
        if net._yolo is None:
            self._device.halt(
                BoardError(
                    "E624",
                    "kpu.run_yolo2 before kpu.init_yolo2 crashes the board",
                    where=f"kpu.run_yolo2 with {handle.name}",
                    why="the firmware takes None for the arguments that init_yolo2 stores",
                    fix="Call kpu.init_yolo2(task, threshold, nms, anchor_number, anchors) first.",
                )
            )
        return net._yolo

    def _grid(self, handle: Handle) -> tuple[int, int, int]:
        """(w, h, channels) of the output as the region layer finds it: of the last KPU layer, or from set_outputs."""
        if handle.version == 4:
            shape = handle.shapes.get(0)
            if shape is None:
                self._shapes_note(handle) if handle.program is not None else None
                raise ValueError("[MAIXPY]kpu: region_layer_init err!\r\n")
            return shape
        steps = handle.program.steps if handle.program is not None else ()
        for step in reversed(steps):
            if isinstance(step, KpuConv):
                c, h, w = step.layer.output_shape
                return w, h, c
        raise ValueError("[MAIXPY]kpu: region_layer_init err!\r\n")

    def _region_memory(self, handle: Handle, yolo: Yolo, grid: tuple[int, int, int]) -> list[int]:
        """Check that the region layer stays inside the model's memory, and take the buffers that it allocates."""
        w, h, ch = grid
        classes = region.class_count(ch)
        need = 4 * region.needed_floats(ch, w, h, yolo.number)
        operand = handle.output(0)
        have = 0 if operand is None or handle.session is None else handle.session.program.main_bytes - operand.start
        if classes < 1 or need > have or ch != yolo.number * (classes + 5):
            why = (
                f"the firmware counts {ch} channels / 5 - 5 = {classes} classes whatever the number of anchors; with "
                f"{yolo.number} anchors that is {yolo.number * (classes + 5)} channels, {need} bytes of an output of "
                f"{0 if operand is None else operand.size}"
            )
            if classes < 1 or need > have:
                self._device.halt(
                    BoardError(
                        "E625",
                        "kpu.run_yolo2 would corrupt memory with this model",
                        where=f"kpu.run_yolo2 with {handle.name}",
                        why=why,
                        fix="Use a YOLOv2 model with 5 anchors and float output, 5 * (5 + classes) channels.",
                    )
                )
            self._device.warn(f"run_yolo2 misreads this model: {why}")
        boxes = w * h * yolo.number
        blocks: list[int] = []
        for size in (16 * boxes, 4 * boxes * (classes + 1), 8 * boxes):
            block = self._device.malloc(size, "run_yolo2")
            if block is None:
                for b in blocks:
                    self._device.release(b)
                raise ValueError("[MAIXPY]kpu: region_layer_init err!\r\n")
            blocks.append(block)
        return blocks

    def _region(self, handle: Handle, yolo: Yolo, grid: tuple[int, int, int]) -> list[region.Found]:
        operand, shape = handle.output(0), handle.input_shape()
        assert operand is not None
        assert shape is not None
        assert handle.session is not None
        need = 4 * region.needed_floats(grid[2], grid[0], grid[1], yolo.number)
        self._device.clock.spend(cost.region_us(grid[0] * grid[1] * yolo.number, region.class_count(grid[2])))
        raw = handle.session.main[operand.start : operand.start + need]
        floats = raw.view(np.float32)
        return region.run(floats, grid, (shape[0], shape[1]), yolo.anchors, yolo.threshold, yolo.nms)

    def _feature(self, net: kpu_net, img: Any, length: int) -> NDArray[np.float32]:
        """The classifier's feature: the first floats of output 0. It checks neither size nor format of the image."""
        self._need_image(img)
        handle = handle_of(self._device, net, "classifier")
        if img._ai is None:
            raise mp.os_error(classifier.EINVAL)
        self._run(handle, self._as_input(handle, np.ascontiguousarray(img._ai).reshape(-1)))
        operand = handle.output(0)
        data = handle.view(operand)[: 4 * length] if operand is not None else np.empty(0, np.uint8)
        if data.size < 4 * length:
            raise mp.os_error(classifier.EINVAL)
        return data.view(np.float32).copy()
