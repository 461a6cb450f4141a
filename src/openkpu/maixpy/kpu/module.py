"""The functions of the module ``KPU``, with the firmware's signatures, results and error texts."""

from __future__ import annotations

import types
from typing import Any

from openkpu.board.device import Device
from openkpu.maixpy import mp
from openkpu.maixpy.image.core import ImageCore
from openkpu.maixpy.kpu import classifier, codes, face, region
from openkpu.maixpy.kpu.fmap import kpu_fmap
from openkpu.maixpy.kpu.load import handle_of, is_net
from openkpu.maixpy.kpu.net import MAX_OUTPUTS, Yolo, kpu_net
from openkpu.maixpy.kpu.netinfo import kpu_netinfo_find
from openkpu.maixpy.kpu.netinfo import netinfo as _netinfo
from openkpu.maixpy.kpu.objects import kpu_yolo2_find
from openkpu.maixpy.kpu.running import Running


class Functions(Running):
    """The module's functions; every public method is one."""

    # -- models ---------------------------------------------------------------------------------------------------

    def load(self, *args: Any, **_: Any) -> kpu_net:
        """Load a model from a flash address or a path."""
        mp.positional(args, 1)
        return self._loader.from_argument(args[0])

    def load_flash(self, *args: Any, **_: Any) -> kpu_net:
        """Use a byte-swapped model in flash, layer after layer."""
        mp.positional(args, 4)
        if not mp.exact_int(*args[:4]):
            raise ValueError(
                "[MAIXPY]kpu: load_flash arg format error: "
                "task=kpu.load_flash(flash_addr, is_dual_buf, batch_size, spi_speed)"
            )
        return self._loader.from_stream(*args[:4])

    def deinit(self, *args: Any, **_: Any) -> bool:
        """Free a model."""
        mp.positional(args, 1)
        if not is_net(args[0]):
            raise TypeError(codes.TYPE_ERROR)
        self._loader.free(args[0])
        return True

    def set_outputs(self, *args: Any, **_: Any) -> bool:
        """Give an output of a V4 model its shape."""
        mp.positional(args, 4)
        if len(args) < 5 or not is_net(args[0]) or not mp.exact_int(*args[1:5]):
            raise ValueError(
                "[MAIXPY]kpu: set_outputs arg format error: set_outputs(task, int idx, int w, int h, int ch)"
            )
        handle = handle_of(self._device, args[0], "kpu.set_outputs")
        index, w, h, ch = (v & 0xFFFF for v in args[1:5])
        if handle.version != 4:
            self._print(f"[MAIXPY]kpu: set_outputs ctx error, maybe init err:{codes.VERSION}\r\n")
            return False
        operand = handle.output(index)
        if operand is None or index >= MAX_OUTPUTS:
            self._print(f"[MAIXPY]kpu: set_outputs arg value error:kmodel output idx {index} out of range\r\n")
            return False
        if w * h * ch * 4 != operand.size:
            self._print(f"w*h*ch!={operand.size}\r\n")
            self._print("[MAIXPY]kpu: set_outputs arg value error: w,c,ch size not match output size\r\n")
            self._device.note(f"output {index} is {operand.dtype.value} {operand.shape}: (channels, height, width)")
            return False
        handle.shapes[index] = (w, h, ch)
        return True

    def set_layers(self, *args: Any) -> bool:
        """End a V3 model after n layers; 0 or less: all."""
        mp.positional(args, 2, 2)
        net, count = args[0], mp.need_int(args[1])
        if not is_net(net):
            raise self._stray("kpu.set_layers", net)
        handle = handle_of(self._device, net, "kpu.set_layers")
        most = net._max_layers
        if count > most:
            self._print(f"err: set layers_length to {count}, but max {most}\r\n")
            return False
        if handle.version == 3 and handle.session is not None:
            printed = handle.cut(most if count <= 0 else count)
            if printed:
                self._print(printed)
        return True

    def netinfo(self, *args: Any) -> list[kpu_netinfo_find]:
        """Print and return the layers of a V3 model."""
        mp.positional(args, 1, 1)
        if not is_net(args[0]):
            raise self._stray("kpu.netinfo", args[0])
        return _netinfo(self._device, handle_of(self._device, args[0], "kpu.netinfo"))

    # -- running --------------------------------------------------------------------------------------------------

    def init_yolo2(self, *args: Any, **kwargs: Any) -> bool:
        """Store what run_yolo2 needs."""
        mp.positional(args, 5)
        spec = dict.fromkeys(("kpu_net", "threshold", "nms_value", "anchor_number", "anchor")) | {"dma": -1}
        a = mp.arguments(spec, args, kwargs)
        net = a["kpu_net"]
        number = mp.need_int(a["anchor_number"])
        if not is_net(net):
            raise TypeError(codes.TYPE_ERROR)
        threshold, nms = mp.need_float(a["threshold"]), mp.need_float(a["nms_value"])
        if not 0.0 <= threshold <= 1.0:
            raise ValueError("[MAIXPY]kpu: threshold only support 0 to 1")
        if not 0.0 <= nms <= 1.0:
            raise ValueError("[MAIXPY]kpu: nms_value only support 0 to 1")
        if number <= 0:
            raise ValueError("[MAIXPY]kpu: anchor_number should > 0")
        anchors = [mp.need_float(v) for v in mp.need_array(a["anchor"], 2 * number)]
        blocks = [self._device.malloc(n, "YOLO anchors") for n in (8 * number, 24)]
        net._yolo = Yolo(threshold, nms, number, anchors, [b for b in blocks if b is not None])
        return True

    def run_yolo2(self, *args: Any, **_: Any) -> list[kpu_yolo2_find] | None:
        """Run a model and return the objects that its YOLOv2 output holds; None when there is none."""
        mp.positional(args, 2)
        net, img = args[0], args[1]
        if not is_net(net):
            raise TypeError(codes.TYPE_ERROR)
        self._need_image(img)
        handle = handle_of(self._device, net, "kpu.run_yolo2")
        data = self._picture(handle, img)
        yolo = self._yolo_of(net, handle)
        grid = self._grid(handle)
        blocks = self._region_memory(handle, yolo, grid)
        self._run(handle, data)
        found = self._region(handle, yolo, grid)
        for block in blocks:
            self._device.release(block)
        if not found:
            return None
        if len(found) > region.OBJECTS:
            self._device.warn(
                f"{len(found)} objects: the firmware has room for {region.OBJECTS}, the others overwrite memory on the "
                "chip; raise the threshold"
            )
        return [kpu_yolo2_find(f, i, len(found)) for i, f in enumerate(found)]

    def forward(self, *args: Any, **kwargs: Any) -> kpu_fmap | None:
        """Run a model on an image or a list of numbers and return one of its outputs."""
        mp.positional(args, 1)
        a = mp.arguments({"kpu_net": None, "img": None, "out_index": 0, "dma": -1}, args, kwargs)
        net, img, index = a["kpu_net"], a["img"], mp.need_int(a["out_index"])
        if not is_net(net):
            return None
        handle = handle_of(self._device, net, "kpu.forward")
        if isinstance(img, ImageCore):
            self._run(handle, self._picture(handle, img))
        elif isinstance(img, list):
            self._forward_list(handle, img)
        else:
            raise ValueError("input not support")
        return self._fmap(handle, index, "sipeed_kpu_get_output err", "sipeed_kpu_get_outputs_shape err")

    def get_output(self, *args: Any, **_: Any) -> kpu_fmap:
        """Return an output of the last run."""
        mp.positional(args, 2)
        if not is_net(args[0]) or not mp.exact_int(args[1]):
            raise ValueError("[MAIXPY]kpu: get_output arg format error: get_output(task, int idx)")
        handle = handle_of(self._device, args[0], "kpu.get_output")
        v3 = handle.version == 3
        missing = str(codes.OUT_OF_RANGE) if v3 else "get_output err"
        return self._fmap(handle, args[1] & 0xFFFF, missing, "get_outputs_shape err")

    def fmap(self, *args: Any) -> Any:
        """Return one channel of a feature map as an image of the same memory."""
        mp.positional(args, 2, 2)
        value, ch = args[0], mp.need_int(args[1])
        if not isinstance(value, kpu_fmap):
            raise self._stray("kpu.fmap", value)
        if not 0 <= ch < value.ch():
            raise ValueError(f"[MAIXPY]kpu: ch err,input 0~{value.ch()}\r\n")
        if value._code != "B":
            raise ValueError("[MAIXPY]kpu: can't convet float fmap yet\r\n")
        w, h = value.w(), value.h()
        plane = value._data[w * h * ch : w * h * (ch + 1)].reshape(h, w)
        return self._device.image_class.fmap_view(self._device, plane)

    def fmap_free(self, *args: Any) -> None:
        """Do nothing."""
        mp.positional(args, 1, 1)

    # -- the rest -------------------------------------------------------------------------------------------------

    def memtest(self, *args: Any) -> None:
        """Print the free memory of both heaps."""
        mp.positional(args, 0, 0)
        largest = self._device.gc.largest
        low, high = 0, 0x800000
        while high - low > 0x400:
            size = (low + high) // 2
            while size < high:
                if size > largest:
                    high = size
                    break
                low, size = size, size * 2
        self._print(f"###free gc heap memory : {low // 1024} KB\r\n")
        self._print(f"###free sys heap memory: {self._device.system.free // 1024} KB\r\n")

    def face_encode(self, *args: Any) -> bytearray:
        """A float vector as int8."""
        mp.positional(args, 1, 1)
        return face.face_encode(args[0])

    def face_compare(self, *args: Any) -> float:
        """The likeness of two encoded vectors, 0 to 100."""
        mp.positional(args, 2, 2)
        return face.face_compare(args[0], args[1])


def build(device: Device) -> types.ModuleType:
    """Make the module for one board."""
    f = Functions(device)
    names = [n for n in dir(f) if not n.startswith("_")]
    members = {n: getattr(f, n) for n in names}
    members["classifier"] = classifier.bind(device, f._feature)
    return mp.module("kpu", "The KPU: models on the accelerator.", members)
