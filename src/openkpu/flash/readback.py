"""Read flash back through the MaixPy firmware that runs on the board.

The flash program cannot read. But MaixPy can: its configuration has ``Maix.utils.flash_read`` and ``ubinascii.crc32``.
A few lines sent to its raw REPL (Ctrl-A) compute the CRC-32 of what really lies in flash.
"""

from __future__ import annotations

import re
import zlib
from typing import Final

from openkpu.errors import SetupError
from openkpu.flash.isp import Clock, Transport
from openkpu.flash.layout import Part

_BOOT_SECONDS: Final = 40.0  # the first boot after an erase formats /flash
_BYTES_A_SECOND: Final = 100_000  # far slower than any board, for time limits only
_CHUNK: Final = 16384
_RAW_PROMPT: Final = b"raw REPL; CTRL-B to exit\r\n>"
_INTERRUPT, _RAW, _LEAVE, _EXECUTE = b"\r\x03\x03", b"\r\x01", b"\r\x02", b"\x04"

# Reads are of whole words: that is what the driver's fast mode moves.
_SCRIPT: Final = """\
import ubinascii
from Maix import utils
a,n,c={address},{size},0
while n>0:
 m=min(n,{chunk})
 c=ubinascii.crc32(utils.flash_read(a,(m+3)&~3)[:m],c)
 a+=m
 n-=m
print('crc32=%08x;'%(c&0xffffffff))
"""


class MaixPy:
    """The REPL of a MaixPy board on a port."""

    def __init__(self, port: Transport, clock: Clock) -> None:
        self._port = port
        self._clock = clock

    def connect(self) -> None:
        """Stop whatever script runs and get the raw prompt; E531."""
        end = self._clock.monotonic() + _BOOT_SECONDS
        while self._clock.monotonic() < end:
            self._port.write(_INTERRUPT)
            if b">>>" in self._until(rb">>> ?$", 1.0):
                self._port.discard_input()
                self._port.write(_RAW)
                if _RAW_PROMPT in self._until(re.escape(_RAW_PROMPT), 2.0):
                    return
        raise _impossible("MaixPy's prompt did not come", "Everything was written; only reading back did not work.")

    def compare(self, part: Part) -> None:
        """Compare a part with what lies in flash; E530, E531."""
        stored = part.stored
        script = _SCRIPT.format(address=part.address, size=len(stored), chunk=_CHUNK)
        self._port.discard_input()
        for i in range(0, len(script), 64):  # the board's receive buffer is small
            self._port.write(script[i : i + 64].encode())
            self._clock.sleep(0.01)
        self._port.write(_EXECUTE)
        answer = self._until(rb"\x04[^\x04]*\x04>", 15 + len(stored) / _BYTES_A_SECOND)
        found = re.search(rb"crc32=([0-9a-f]{8});", answer)
        if found is None:
            last = [line for line in re.split(rb"[\r\n\x04>]+", answer) if line.strip()][-1:]
            raise _impossible(
                f"no checksum of {part.name}: {b''.join(last).decode('utf-8', 'replace') or 'no answer'}",
                "Everything was written; this firmware cannot read its flash.",
            )
        expected, actual = zlib.crc32(stored), int(found[1], 16)
        if expected != actual:
            raise SetupError(
                "E530",
                f"{part.name} is not in flash as it was sent",
                where=f"0x{part.address:06x} to 0x{part.end - 1:06x}",
                why=f"CRC-32 {actual:08x} in flash, {expected:08x} in the file",
                fix="Flash again with --slow. If it stays, the flash chip is worn out, or the address belongs to the "
                "file system of MaixPy, which writes there at boot.",
            )

    def leave(self) -> None:
        """Give the ordinary prompt back."""
        self._port.write(_LEAVE)

    def _until(self, pattern: bytes, seconds: float) -> bytes:
        """Return what arrives until ``pattern`` is in it or the time is over."""
        end = self._clock.monotonic() + seconds
        received = b""
        while self._clock.monotonic() < end and not re.search(pattern, received):
            received += self._port.read(1024)
        return received


def _impossible(why: str, consequence: str) -> SetupError:
    return SetupError(
        "E531",
        "the flash cannot be read back",
        why=f"only a running MaixPy can read it, and {why}",
        fix=f"{consequence} Press RESET and try the board, or leave out --verify.",
    )
