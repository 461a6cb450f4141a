"""A real serial port, through pyserial (the extra ``flash``)."""

from __future__ import annotations

import errno
from typing import Any, Final

from openkpu import extras
from openkpu.errors import SetupError

_NO_LINES: Final = (errno.ENOTTY, errno.EINVAL, errno.EOPNOTSUPP)


def names() -> list[str]:
    """Return the serial ports of this computer; real adapters first."""
    ports = extras.require("serial.tools.list_ports", "flash").comports()
    return [str(p.device) for p in sorted(ports, key=lambda p: (p.vid is None, p.device))]


class SerialPort:
    """A ``Transport`` over pyserial. Whatever goes wrong is E520 to E522 at opening, E529 later."""

    def __init__(self, name: str, baud: int) -> None:
        serial = extras.require("serial", "flash")
        self._name = name
        self._failures: tuple[type[Exception], ...] = _failures(serial)
        self._refusals: tuple[type[Exception], ...] = (ValueError, OverflowError, *self._failures)
        try:
            self._port: Any = serial.serial_for_url(name, baudrate=baud, timeout=0.05, exclusive=True)
        except self._refusals as error:
            raise _cannot_open(name, error) from error

    @property
    def baudrate(self) -> int:
        """Bits a second."""
        return int(self._port.baudrate)

    @baudrate.setter
    def baudrate(self, baud: int) -> None:
        try:
            self._port.baudrate = baud
        except self._refusals as error:
            raise SetupError(
                "E528",
                f"the serial port cannot do {baud} baud",
                where=self._name,
                why=str(error),
                fix="Use --baud 115200 or --slow.",
            ) from error

    def read(self, size: int) -> bytes:
        """Return up to ``size`` bytes: wait 50 ms for the first, then take what is there."""
        try:
            return bytes(self._port.read(max(1, min(size, self._port.in_waiting))))
        except self._failures as error:
            raise self._broken(error) from error

    def write(self, data: bytes) -> None:
        """Send everything, and wait until it is on its way."""
        try:
            self._port.write(data)
            self._port.flush()
        except self._failures as error:
            raise self._broken(error) from error

    def set_dtr(self, active: bool) -> None:
        """Set DTR; a port without control lines ignores it."""
        self._set("dtr", active)

    def set_rts(self, active: bool) -> None:
        """Set RTS; a port without control lines ignores it."""
        self._set("rts", active)

    def _set(self, line: str, active: bool) -> None:
        try:
            setattr(self._port, line, active)
        except self._failures as error:
            if getattr(error, "errno", None) not in _NO_LINES:
                raise self._broken(error) from error

    def discard_input(self) -> None:
        """Drop what was received and not read."""
        try:
            self._port.reset_input_buffer()
        except self._failures as error:
            raise self._broken(error) from error

    def close(self) -> None:
        """Give the port back."""
        self._port.close()

    def _broken(self, error: Exception) -> SetupError:
        return SetupError(
            "E529",
            "the serial port went away",
            where=self._name,
            why=str(error),
            fix="Plug the board in again (another cable, another USB port) and repeat the command; use --slow if it "
            "happens again.",
        )


def _failures(serial: Any) -> tuple[type[Exception], ...]:
    """Return what pyserial lets through when a port fails: on Unix also termios.error, which is no OSError."""
    try:
        import termios
    except ImportError:
        return OSError, serial.SerialException
    return OSError, serial.SerialException, termios.error


def _cannot_open(name: str, error: Exception) -> SetupError:
    """Say why a port cannot be opened, and what to do."""
    text = str(error)
    number = getattr(error, "errno", None)
    if number in (errno.EACCES, errno.EPERM) or "PermissionError(13" in text or "ermission denied" in text:
        return SetupError(
            "E521",
            f"you may not use the port {name}",
            where=name,
            why=text,
            fix="Linux: sudo usermod -aG dialout $USER (on some systems the group is uucp), then log in again. "
            "Windows: close the program that has the port open (a terminal, MaixPy IDE).",
        )
    if number in (errno.EBUSY, errno.EAGAIN) or "lock" in text:
        return SetupError(
            "E522",
            f"the port {name} is in use",
            where=name,
            why=text,
            fix="Close the other program (a serial terminal, MaixPy IDE, a screen session) and try again.",
        )
    there = ", ".join(names()) or "none: is the board plugged in, and its driver installed?"
    return SetupError(
        "E520",
        f"there is no serial port {name}",
        where=name,
        why=text,
        fix=f"Ports on this computer: {there}",
    )
