"""The simulated board at the other end of a pseudo terminal, for everything that opens a real serial port."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

from isp_device import Device


class RealClock:
    """Real time for a device that runs beside the test."""

    def __init__(self) -> None:
        self.settled: Callable[[], None] = lambda: None

    def monotonic(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(min(seconds, 0.001))


class Board(threading.Thread):
    """The simulated device at the other end of a pseudo terminal, in its bootloader as after BOOT and RESET by hand."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.device = Device(clock=RealClock())  # type: ignore[arg-type]
        self.device.ignore_baud = True
        self.master, self.slave = os.openpty()
        import tty  # only on Unix

        tty.setraw(self.slave)
        os.set_blocking(self.master, False)
        self.name_of_port = os.ttyname(self.slave)
        self.stopped = False

    def run(self) -> None:
        while not self.stopped:
            try:
                data = os.read(self.master, 65536)
            except BlockingIOError:
                time.sleep(0.0005)
                continue
            self.device.write(data)
            out, self.device._out = self.device._out, b""
            if out:
                os.write(self.master, out)

    def close(self) -> None:
        self.stopped = True
        self.join(5)
        os.close(self.master)
        os.close(self.slave)
