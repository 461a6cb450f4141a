"""The module ``machine``: serial ports, buses, timers, PWM. What scripts send is reported; nothing is connected."""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any, Final, NoReturn

from openkpu.board.device import BoardReset, Device
from openkpu.maixpy import mp

ETIMEDOUT: Final = 110
UNIQUE_ID: Final = bytes.fromhex("4f70656e4b5055000000000000000000000000000000000000000000000000ff")
"""32 bytes, as the chip has; the same on every virtual board."""


class UART:
    """A serial port. What is written is reported to the watcher; nothing ever arrives."""

    UART1, UART2, UART3, UARTHS = 0, 1, 2, 3
    PARITY_ODD, PARITY_EVEN = 1, 2
    _device: Device

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        mp.positional(args, 1)
        self._number = mp.need_int(args[0])
        if not 0 <= self._number <= 3:
            raise ValueError(f"[MAIXPY]UART{self._number}:does not exist")
        self.init(*args[1:], **kwargs)

    def init(self, *args: Any, **kwargs: Any) -> None:
        """Set speed and format."""
        spec = {"baudrate": 115200, "bits": 8, "parity": None, "stop": 1}
        more = {"timeout": 1000, "timeout_char": 10, "read_buf_len": 64, "ide": False, "from_ide": True}
        a = mp.arguments(spec | more, args, kwargs)
        if not 0 < mp.need_int(a["baudrate"]) <= 0x500000:
            raise ValueError("[MAIXPY]UART:invalid baudrate")
        if a["bits"] not in (5, 6, 7, 8):
            raise ValueError("[MAIXPY]UART:invalid data bits")
        if a["parity"] not in (None, 0, 1, 2):
            raise ValueError("[MAIXPY]UART:invalid parity")
        self._settings = a

    def __repr__(self) -> str:
        a = self._settings
        parity = {None: "None", 0: "None", 1: "odd", 2: "even"}[a["parity"]]
        how = f"baudrate={a['baudrate']}, bits={a['bits']}, parity={parity}, stop={a['stop']}"
        return f"[MAIXPY]UART{self._number}:( {how})"

    def deinit(self) -> None:
        """Close."""

    def any(self) -> int:
        """Bytes that wait to be read."""
        return 0

    def read(self, *args: Any) -> bytes | None:
        """Read; None as nothing arrives."""
        mp.positional(args, 0, 1)
        return None

    readline = read
    readchar = read

    def readinto(self, *args: Any) -> int | None:
        """Read; None as nothing arrives."""
        mp.positional(args, 1, 2)
        return None

    def write(self, *args: Any) -> int:
        """Send bytes or text."""
        mp.positional(args, 1, 1)
        data = args[0].encode() if isinstance(args[0], str) else mp.bytes_of(args[0])
        self._device.send("uart", data, number=self._number)
        return len(data)

    @classmethod
    def repl_uart(cls) -> UART:
        """The console's port."""
        return cls(cls.UARTHS)

    @classmethod
    def set_repl_uart(cls, *_: Any) -> None:
        """Accepted; the console stays where it is."""


class Timer:
    """A timer that calls a function, or drives PWM."""

    TIMER0, TIMER1, TIMER2 = 0, 1, 2
    CHANNEL0, CHANNEL1, CHANNEL2, CHANNEL3 = 0, 1, 2, 3
    MODE_ONE_SHOT, MODE_PERIODIC, MODE_PWM = 0, 1, 2
    UNIT_S, UNIT_MS, UNIT_US, UNIT_NS = 0, 1, 2, 3
    _device: Device
    _UNIT_US: Final = (1e6, 1e3, 1.0, 1e-3)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        mp.positional(args, 2, 2)
        self._id, self._channel = mp.need_int(args[0]), mp.need_int(args[1])
        if not (0 <= self._id <= 2 and 0 <= self._channel <= 3):
            raise ValueError("[MAIXPY]Timer:Invalid timer")
        self.due = 0.0
        self.init(**kwargs)

    def init(self, *args: Any, **kwargs: Any) -> None:
        """Set mode, period and function."""
        spec: dict[str, Any] = {"mode": self.MODE_ONE_SHOT, "period": 1000, "unit": self.UNIT_MS, "callback": None}
        spec |= {"arg": None, "start": True, "priority": 1, "div": 0}
        a = mp.arguments(spec, args, kwargs)
        if a["mode"] not in (0, 1, 2):
            raise ValueError("[MAIXPY]Timer:Invalid mode")
        if a["mode"] != self.MODE_PWM and a["callback"] is not None and not callable(a["callback"]):
            raise ValueError("[MAIXPY]Timer:Invalid callback")
        if a["unit"] not in (0, 1, 2, 3):
            raise ValueError("[MAIXPY]Timer:unit error")
        if mp.need_int(a["period"]) <= 0:
            raise ValueError("[MAIXPY]Timer:Invalid period or div")
        self._mode, self._function, self._arg = a["mode"], a["callback"], a["arg"]
        self._period, self._unit = mp.need_int(a["period"]), a["unit"]
        self.stop()
        if a["start"] and self._mode != self.MODE_PWM:
            self.start()

    def start(self) -> None:
        """Run."""
        self.due = self._device.clock.us + self._period * self._UNIT_US[self._unit]
        if self not in self._device.timers:
            self._device.timers.append(self)

    restart = start

    def stop(self) -> None:
        """Stop."""
        self.due = 0.0
        if self in self._device.timers:
            self._device.timers.remove(self)

    deinit = stop

    def period(self, *args: Any) -> int:
        """The period, or set it."""
        if args:
            self._period = mp.need_int(args[0])
        return self._period

    def callback(self, *args: Any) -> Any:
        """The function, or set it."""
        if args:
            self._function = args[0]
        return self._function

    def callback_arg(self, *args: Any) -> Any:
        """What the function finds at the timer, or set it."""
        if args:
            self._arg = args[0]
        return self._arg

    def poll(self, now: float) -> None:
        """Call the function as often as its time has come."""
        while self.due and self.due <= now:
            if self._mode == self.MODE_PERIODIC:
                self.due += max(1.0, self._period * self._UNIT_US[self._unit])
            else:
                self.stop()
            if self._function is not None:
                self._function(self)


class PWM:
    """A pulse on a pin."""

    _device: Device

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        mp.positional(args, 1)
        self._timer = args[0]
        self._pin = -1
        self.init(*args[1:], **kwargs)

    def init(self, *args: Any, **kwargs: Any) -> None:
        """Set frequency, duty and pin."""
        a = mp.arguments({"freq": None, "duty": None, "pin": -1, "enable": True}, args, kwargs)
        pin = mp.need_int(a["pin"])
        if not 0 <= pin <= 47:
            raise ValueError("[MAIXPY]PWM:Invalid pin number")
        self._pin, self._enabled = pin, bool(a["enable"])
        self.freq(a["freq"])
        self.duty(a["duty"])

    def freq(self, *args: Any) -> float:
        """The frequency in Hz, or set it."""
        if args:
            if not isinstance(args[0], int | float) or args[0] <= 0:
                raise ValueError("[MAIXPY]PWM:Invalid freq")
            self._freq = float(args[0])
        return self._freq

    def duty(self, *args: Any) -> float:
        """The duty in percent, or set it."""
        if args:
            if not isinstance(args[0], int | float) or not 0 <= args[0] <= 100:
                raise ValueError("[MAIXPY]PWM:Invalid duty")
            self._duty = float(args[0])
            self._device.send("pwm", pin=self._pin, freq=self._freq, duty=self._duty)
        return self._duty

    def enable(self) -> None:
        """Switch on."""
        self._enabled = True

    def disable(self) -> None:
        """Switch off."""
        self._enabled = False

    deinit = disable


class I2C:
    """A bus with nobody on it: scan finds nothing, everything else times out."""

    MODE_MASTER, MODE_SLAVE, MODE_MASTER_SOFT = 0, 1, 2
    I2C0, I2C1, I2C2, I2C3, I2C4, I2C5, I2C_SOFT = 0, 1, 2, 3, 4, 5, 6
    I2C_EV_START, I2C_EV_RESTART, I2C_EV_STOP = 0, 1, 2

    def __init__(self, *args: Any, **_: Any) -> None:
        mp.positional(args, 1)

    def init(self, *_: Any, **__: Any) -> None:
        """Set up."""

    def deinit(self) -> None:
        """Close."""

    def scan(self) -> list[int]:
        """The addresses that answer."""
        return []

    def _nobody(self, *_: Any, **__: Any) -> NoReturn:
        raise mp.os_error(ETIMEDOUT)

    readfrom = readfrom_into = writeto = readfrom_mem = readfrom_mem_into = writeto_mem = _nobody


class SPI:
    """A bus with nobody on it: reads give zeros."""

    SPI0, SPI1, SPI2, SPI_SOFT = 0, 1, 2, 4
    MSB, LSB = 0, 1
    MODE_MASTER, MODE_MASTER_2, MODE_MASTER_4, MODE_MASTER_8, MODE_SLAVE = 0, 1, 2, 3, 4
    CS0, CS1, CS2, CS3 = 0, 1, 2, 3

    def __init__(self, *args: Any, **_: Any) -> None:
        mp.positional(args, 1)

    def init(self, *_: Any, **__: Any) -> None:
        """Set up."""

    def deinit(self) -> None:
        """Close."""

    def read(self, *args: Any, **_: Any) -> bytes:
        """Read bytes."""
        mp.positional(args, 1)
        return bytes(mp.need_int(args[0]))

    def readinto(self, *args: Any, **_: Any) -> None:
        """Read into a buffer."""
        mp.positional(args, 1)

    def write(self, *args: Any, **_: Any) -> None:
        """Write a buffer."""
        mp.positional(args, 1)

    write_readinto = write


class WDT:
    """The watchdog; it never bites here."""

    WDT_DEVICE_0, WDT_DEVICE_1 = 0, 1

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        a = mp.arguments({"id": 0, "timeout": 5000, "callback": None, "context": None}, args, kwargs)
        if a["id"] not in (0, 1):
            raise ValueError(f"WDT({a['id']}) does not exist")

    def feed(self) -> None:
        """Say that the script is alive."""

    def stop(self) -> None:
        """Stop."""


class SDCard:
    """The SD card; it stays mounted."""

    @staticmethod
    def remount() -> None:
        """Mount it again."""


def build(device: Device) -> types.ModuleType:
    """Make the module for one board."""

    def reset() -> NoReturn:
        raise BoardReset

    bound: dict[str, Any] = {c.__name__: type(c.__name__, (c,), {"_device": device}) for c in (UART, Timer, PWM)}
    functions: dict[str, Callable[..., Any]] = {
        "reset": reset,
        "reset_cause": lambda: 4 if device.config.resets else 0,
        "unique_id": lambda: UNIQUE_ID,
    }
    constants = {"PWRON_RESET": 0, "HARD_RESET": 0, "WDT_RESET": 2, "WDT1_RESET": 3, "SOFT_RESET": 4}
    classes = {"I2C": I2C, "SPI": SPI, "WDT": WDT, "SDCard": SDCard}
    return mp.module("machine", "Ports, buses, timers.", bound | functions | constants | classes)
