"""Pins for scripts: ``Maix.FPIOA``, ``Maix.GPIO`` and the module ``fpioa_manager``."""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any, Final

from openkpu.board.device import Device
from openkpu.board.pins import PIN_COUNT
from openkpu.maixpy import mp


def _names() -> dict[str, int]:
    """The functions that a pin can have, by name (the numbers run through)."""
    uart = ["CTS", "DSR", "DCD", "RI", "SIR_IN", "DTR", "RTS", "OUT2", "OUT1", "SIR_OUT", "BAUD"]
    uart += ["RE", "DE", "RS485_EN"]
    i2s = ["MCLK", "SCLK", "WS", "IN_D0", "IN_D1", "IN_D2", "IN_D3", "OUT_D0", "OUT_D1", "OUT_D2", "OUT_D3"]
    spi = [f"D{i}" for i in range(8)] + [f"SS{i}" for i in range(4)] + ["ARB", "SCLK"]
    order = [f"JTAG_{n}" for n in ("TCLK", "TDI", "TMS", "TDO")] + [f"SPI0_{n}" for n in spi]
    order += ["UARTHS_RX", "UARTHS_TX", "RESV6", "RESV7", "CLK_SPI1", "CLK_I2C1"]
    order += [f"GPIOHS{i}" for i in range(32)] + [f"GPIO{i}" for i in range(8)]
    order += [f"UART{i}_{n}" for i in (1, 2, 3) for n in ("RX", "TX")] + [f"SPI1_{n}" for n in spi]
    order += [f"SPI_SLAVE_{n}" for n in ("D0", "SS", "SCLK")] + [f"I2S{i}_{n}" for i in range(3) for n in i2s]
    order += [f"RESV{i}" for i in range(6)] + [f"I2C{i}_{n}" for i in range(3) for n in ("SCLK", "SDA")]
    order += [f"CMOS_{n}" for n in ("XCLK", "RST", "PWDN", "VSYNC", "HREF", "PCLK", *(f"D{i}" for i in range(8)))]
    order += ["SCCB_SCLK", "SCCB_SDA"] + [f"UART{i}_{n}" for i in (1, 2, 3) for n in uart]
    order += [f"TIMER{i}_TOGGLE{j}" for i in range(3) for j in range(1, 5)] + ["CLK_SPI2", "CLK_I2C2"]
    return {name: i for i, name in enumerate(order)}


FUNCTIONS: Final = _names()
GPIOHS0, GPIO0, RESV0 = FUNCTIONS["GPIOHS0"], FUNCTIONS["GPIO0"], FUNCTIONS["RESV0"]
INVALID: Final = "This function is invalid"


class FPIOA:
    """Connects functions to pins. ``bind`` makes the class for one board."""

    _device: Device

    def set_function(self, *args: Any, **kwargs: Any) -> bool:
        """Connect a pin."""
        spec = {"pin": 0, "func": 0, "set_sl": -1, "set_st": -1, "set_io_driving": -1}
        a = {k: mp.need_int(v) for k, v in mp.arguments(spec, args, kwargs).items()}
        if not 0 <= a["pin"] <= PIN_COUNT:
            raise ValueError("Don't have this Pin")
        if not 0 <= a["func"] <= len(FUNCTIONS):
            raise ValueError(INVALID)
        functions = self._device.pins.functions
        for pin in [p for p, f in functions.items() if f == a["func"]]:
            functions[pin] = RESV0
        functions[a["pin"]] = a["func"]
        if a["set_io_driving"] > 15:
            raise ValueError("set_io_driving > FPIOA_DRIVING_MAX")
        return True

    def get_Pin_num(self, *args: Any, **kwargs: Any) -> int | None:  # noqa: N802
        """The pin of a function, or None."""
        func = mp.need_int(mp.arguments({"func": 0}, args, kwargs)["func"])
        if not 0 <= func <= len(FUNCTIONS):
            raise ValueError(INVALID)
        return self._device.pins.pin_of(func)

    def help(self, *args: Any, **kwargs: Any) -> bool:
        """Print the functions."""
        func = mp.need_int(mp.arguments({"func": len(FUNCTIONS)}, args, kwargs)["func"])
        if func > len(FUNCTIONS):
            self._device.print("No this funciton Description\n")
            return False
        line = "+-------------------+--------+\n"
        self._device.print(line + "|     Function      | Number |\n" + line)
        for name, number in FUNCTIONS.items():
            if func in (number, len(FUNCTIONS)):
                self._device.print(f"| {name:17} | {number:6} |\n")
        self._device.print(line)
        return True


class GPIO:
    """One of the 32 fast or 8 slow GPIOs. ``bind`` makes the class for one board."""

    IN, PULL_NONE, PULL_DOWN, PULL_UP, OUT = 0, -1, 1, 2, 3
    IRQ_NONE, IRQ_FALLING, IRQ_RISING, IRQ_BOTH = 0, 1, 2, 3
    WAKEUP_NOT_SUPPORT = 0
    _device: Device
    _objects: dict[int, GPIO]

    def __new__(cls, *args: Any, **kwargs: Any) -> GPIO:
        """The object of a number is always the same."""
        mp.positional(args, 1)
        number = mp.need_int(args[0])
        if not 0 <= number < 40:
            raise ValueError("invalid pin")
        made = cls._objects.get(number)
        if made is None:
            made = cls._objects[number] = super().__new__(cls)
            made._number, made._mode, made._out, made._handler, made._trigger = number, cls.IN, 0, None, cls.IRQ_BOTH
        return made

    _number: int
    _mode: int
    _out: int
    _handler: Callable[[Any], Any] | None
    _trigger: int

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if len(args) > 1 or kwargs:
            self.init(*args[1:], **kwargs)

    def __repr__(self) -> str:
        return f"Pin({self._number})"

    @property
    def _pin(self) -> int | None:
        base = GPIOHS0 if self._number < 32 else GPIO0 - 32
        return self._device.pins.pin_of(base + self._number)

    def init(self, *args: Any, **kwargs: Any) -> None:
        """Set mode, pull and value."""
        a = mp.arguments({"mode": None, "pull": self.PULL_NONE, "value": None}, args, kwargs)
        if a["mode"] is not None:
            mode = mp.need_int(a["mode"])
            if a["pull"] != self.PULL_NONE and mode == self.IN:
                if a["pull"] not in (self.PULL_UP, self.PULL_DOWN):
                    raise ValueError("this mode not support.")
                mode = a["pull"]
            self._mode = mode
        if a["value"] is not None:
            self._set(a["value"])
        self._tell()

    def _tell(self) -> None:
        """Tell the watcher that the script reads a pin; it may have a key for it."""
        pin, pins = self._pin, self._device.pins
        if self._mode != self.OUT and pin is not None and pin not in pins.read:
            pins.read.add(pin)
            self._device.send("input", pin=pin, gpio=self._number, level=pins.level(pin, self._device.clock.us))

    def mode(self, *args: Any, **kwargs: Any) -> int | None:
        """The mode, or set it."""
        mode = mp.need_int(mp.arguments({"mode": None}, args, kwargs)["mode"]) if args or kwargs else None
        if mode is None:
            return self._mode
        if mode not in (self.IN, self.OUT, self.PULL_NONE, self.PULL_UP, self.PULL_DOWN):
            raise ValueError("arg error")
        self._mode = mode
        return None

    def value(self, *args: Any) -> int | None:
        """The level, or set it."""
        mp.positional(args, 0, 1)
        if args:
            self._set(args[0])
            return None
        if self._mode == self.OUT:
            return self._out
        pin = self._pin
        if pin is None:
            return int(self._mode == self.PULL_UP)
        self._tell()
        self._device.clock.ask()
        self._device.poll()
        return self._device.pins.level(pin, self._device.clock.us)

    __call__ = value

    def _set(self, value: Any) -> None:
        self._out = int(bool(value))
        self._device.send("pin", pin=self._pin, gpio=self._number, level=self._out)

    def irq(self, *args: Any, **kwargs: Any) -> GPIO:
        """Call a function when the level changes."""
        a = mp.arguments({"handler": None, "trigger": self.IRQ_BOTH, "wake": None, "priority": 7}, args, kwargs)
        if a["wake"]:
            raise ValueError("This platform does not support interrupt wakeup")
        self._handler, self._trigger = a["handler"], mp.need_int(a["trigger"])
        pin = self._pin
        if pin is not None and self._number < 32:
            self._device.pins.watches[pin] = self._changed
        return self

    def _changed(self, old: int, new: int) -> None:
        edge = self.IRQ_RISING if new > old else self.IRQ_FALLING
        if self._handler is not None and self._trigger & edge:
            self._handler(self)

    def disirq(self, *_: Any, **__: Any) -> None:
        """Stop that."""
        pin = self._pin
        if pin is not None:
            self._device.pins.watches.pop(pin, None)


for _name, _number in FUNCTIONS.items():
    setattr(FPIOA, _name, _number)
for _number in range(40):
    setattr(GPIO, f"GPIOHS{_number}" if _number < 32 else f"GPIO{_number - 32}", _number)


def bind(device: Device) -> tuple[type[FPIOA], type[GPIO]]:
    """Make both classes for one board."""
    gpio = type("Pin", (GPIO,), {"_device": device, "_objects": {}})
    return type("FPIOA", (FPIOA,), {"_device": device}), gpio


def build_manager(device: Device, fpioa_class: type[FPIOA]) -> types.ModuleType:
    """Make the module ``fpioa_manager`` for one board."""

    class fm:  # noqa: N801
        """Connects functions to pins and warns when one is taken."""

        fpioa = fpioa_class()

        @staticmethod
        def help() -> None:
            """Print the functions."""
            fm.fpioa.help()

        @staticmethod
        def get_pin_by_function(function: int) -> int | None:
            """The pin of a function, or None."""
            return fm.fpioa.get_Pin_num(function)

        @staticmethod
        def register(pin: int, function: int, force: bool = True) -> None:
            """Connect a pin; a function that is taken is moved, or refused without ``force``."""
            used = fm.get_pin_by_function(function)
            if used == pin:
                return
            if used is not None:
                info = f"[Warning] function is used by {fm.str_function(function)}(pin:{used})"
                if force is False:
                    raise Exception(info)
                device.print(info + "\n")
            fm.fpioa.set_function(pin, function)

        @staticmethod
        def unregister(pin: int) -> None:
            """Disconnect a pin."""
            fm.fpioa.set_function(pin, RESV0)

        @staticmethod
        def str_function(function: int) -> str:
            """The name of a GPIO function."""
            if GPIOHS0 <= function < GPIO0 + 8:
                fast = function < GPIO0
                return f"fm.fpioa.GPIOHS{function - GPIOHS0}" if fast else f"fm.fpioa.GPIO{function - GPIO0}"
            return "unknown"

        @staticmethod
        def get_gpio_used() -> list[tuple[str, int | None]]:
            """Every GPIO function and its pin."""
            return [(fm.str_function(f), fm.get_pin_by_function(f)) for f in range(GPIOHS0, GPIO0 + 8)]

    return mp.module("fpioa_manager", "Connects functions to pins.", {"fm": fm, "FPIOA": fpioa_class})
