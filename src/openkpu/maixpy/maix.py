"""The module ``Maix``: heaps, flash, clocks, pins; and ``board`` with its ``board_info``."""

from __future__ import annotations

import json
import types
from typing import Any, Final

from openkpu.board.device import Device
from openkpu.board.pins import BOOT_KEY
from openkpu.maixpy import fpioa, mp
from openkpu.maixpy.absent import Absent

CPU_HZ: Final = 400_000_000
KPU_HZ: Final = 400_000_000
CONFIG: Final = "/flash/config.json"


def _utils(device: Device) -> type:
    class utils:  # noqa: N801
        """The heaps and the flash."""

        @staticmethod
        def gc_heap_size(*args: Any) -> int | None:
            """The size of the GC heap, or set it for the next start."""
            if len(args) > 1:
                raise mp.os_error(22)
            if not args:
                return device.gc_heap_next
            device.gc_heap_next = mp.need_int(args[0])
            return None

        @staticmethod
        def heap_free() -> int:
            """Free bytes of the system heap."""
            return device.system.free

        @staticmethod
        def flash_read(*args: Any) -> bytes:
            """Bytes of the flash chip: address, length."""
            mp.positional(args, 2, 2)
            return device.read_flash(mp.need_int(args[0]), mp.need_int(args[1]))

    return utils


def _freq(device: Device) -> type:
    class freq:  # noqa: N801
        """The clocks."""

        @staticmethod
        def get() -> tuple[int, int]:
            """(CPU, KPU) in MHz."""
            return CPU_HZ // 1_000_000, KPU_HZ // 1_000_000

        @staticmethod
        def get_cpu() -> int:
            """The CPU's clock in MHz."""
            return CPU_HZ // 1_000_000

        @staticmethod
        def get_kpu() -> int:
            """The KPU's clock in MHz."""
            return KPU_HZ // 1_000_000

        @staticmethod
        def set(*args: Any, **kwargs: Any) -> None:
            """Set the clocks; the firmware restarts when they change. The virtual board stays at 400 MHz."""
            a = mp.arguments({"cpu": 0, "pll1": 0, "kpu_div": 0}, args, kwargs)
            if mp.need_int(a["cpu"]) in (0, 400) and mp.need_int(a["pll1"]) in (0, 400) and a["kpu_div"] in (0, 1):
                device.print("No change\r\n")
                return
            device.warn("Maix.freq.set: the virtual board always runs at 400 MHz")

    return freq


def _config(device: Device) -> type:
    class config:  # noqa: N801
        """Values of /flash/config.json."""

        @staticmethod
        def get_value(*args: Any) -> Any:
            """A value, or the second argument when there is none."""
            mp.positional(args, 2, 2)
            try:
                values = json.loads(device.open(CONFIG))
            except (OSError, ValueError):
                return args[1]
            return values.get(args[0], args[1]) if isinstance(values, dict) else args[1]

    return config


def build(device: Device) -> types.ModuleType:
    """Make the module for one board."""
    fpioa_class, gpio = fpioa.bind(device)
    members: dict[str, Any] = {
        "FPIOA": fpioa_class,
        "GPIO": gpio,
        "utils": _utils(device),
        "freq": _freq(device),
        "config": _config(device),
    }
    members |= {n: Absent(f"Maix.{n}", "sound hardware") for n in ("Audio", "I2S", "MIC_ARRAY", "FFT")}
    return mp.module("Maix", "The chip's own things.", members)


def build_board(device: Device, maix: types.ModuleType) -> types.ModuleType:
    """Make the module ``board``: the pins of this kind of board."""

    class board_info:  # noqa: N801
        """Names of pins; without a config.json only the BOOT key has one."""

        @staticmethod
        def set(key: str, value: Any = None) -> None:
            """Give a pin a name."""
            setattr(board_info, key, value)

        @staticmethod
        def all() -> list[str]:
            """All names."""
            return dir(board_info)

        @staticmethod
        def load(names: dict[str, Any]) -> None:
            """Set many."""
            for key, value in names.items():
                setattr(board_info, key, value)

    names = maix.config.get_value("board_info", None)
    if isinstance(names, dict):
        board_info.load(names)
    else:
        device.print("[Warning] Not loaded from /flash/config.json to board_info.\n")
        board_info.load({"BOOT_KEY": BOOT_KEY})
    return mp.module("board", "The pins of this board.", {"board_info": board_info, "config": maix.config})
