"""Modules of the firmware that the virtual board does not simulate: they import, say so, and fail when used."""

from __future__ import annotations

import types
from typing import Any, Final, NoReturn

from openkpu.board.device import Device
from openkpu.errors import BoardError

ABSENT: Final[dict[str, str]] = {
    "network": "networks",
    "socket": "networks",
    "usocket": "networks",
    "ussl": "networks",
    "network_esp32": "networks",
    "network_esp8285": "networks",
    "network_w5k": "networks",
    "urequests": "networks",
    "audio": "sound",
    "speech_recognizer": "speech recognition",
    "video": "video files",
    "lvgl": "LVGL user interface",
    "lvgl_helper": "LVGL user interface",
    "touchscreen": "touch screen",
    "modules": "ws2812, onewire, ultrasonic and other devices",
    "nes": "NES emulator",
    "ulab": "ulab",
    "ucryptolib": "cryptography",
    "pye_mp": "editor",
}
"""Module -> what it is about."""


class Absent:
    """Stands for anything in such a module; using it is a ``BoardError`` E630."""

    def __init__(self, name: str, about: str) -> None:
        self._name = name
        self._about = about

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise BoardError(
            "E630",
            f"{self._name} is not simulated",
            where=self._name,
            why=f"the virtual board has no {self._about}",
            fix="Try this part on a real board, or catch the error in the script.",
        )

    __call__ = _refuse

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return Absent(f"{self._name}.{name}", self._about)

    def __repr__(self) -> str:
        return f"<{self._name}, not simulated>"


def build(device: Device, name: str) -> types.ModuleType:
    """Make the stub of a module, and say what it is."""
    about = ABSENT[name]
    device.warn(f"the module {name} is a stub: the virtual board has no {about}")
    made = types.ModuleType(name, f"A stub: the virtual board has no {about}.")

    def attribute(attribute_name: str) -> Any:
        if attribute_name.startswith("__"):
            raise AttributeError(attribute_name)
        return Absent(f"{name}.{attribute_name}", about)

    made.__dict__["__getattr__"] = attribute
    return made
