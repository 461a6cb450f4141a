"""SLIP: packets on a serial line. C0 ends a packet, DB DC stands for C0, DB DD for DB (RFC 1055)."""

from __future__ import annotations

from typing import Final

END: Final = 0xC0
ESCAPE: Final = 0xDB
ESCAPED_END: Final = 0xDC
ESCAPED_ESCAPE: Final = 0xDD

_END: Final = bytes([END])
_ESC: Final = bytes([ESCAPE])


def encode(packet: bytes) -> bytes:
    """Return the packet with its marks."""
    body = packet.replace(_ESC, bytes([ESCAPE, ESCAPED_ESCAPE])).replace(_END, bytes([ESCAPE, ESCAPED_END]))
    return _END + body + _END


class Decoder:
    """Takes bytes as they come and gives whole packets.

    Every C0 is an end: what lies between two of them is a packet unless it is empty, so that a lost C0 costs one packet
    and no more. A packet with a wrong escape is dropped.
    """

    def __init__(self) -> None:
        self._packet = bytearray()
        self._escaped = False
        self._damaged = False

    def feed(self, data: bytes) -> list[bytes]:
        """Return the packets that ``data`` completes."""
        found = []
        for byte in data:
            if byte == END:
                if self._packet and not self._damaged and not self._escaped:
                    found.append(bytes(self._packet))
                self.reset()
            elif self._escaped:
                self._escaped = False
                self._damaged |= byte not in (ESCAPED_END, ESCAPED_ESCAPE)
                self._packet.append(END if byte == ESCAPED_END else ESCAPE)
            elif byte == ESCAPE:
                self._escaped = True
            else:
                self._packet.append(byte)
        return found

    def reset(self) -> None:
        """Forget a packet that has begun."""
        self._packet.clear()
        self._escaped = self._damaged = False
