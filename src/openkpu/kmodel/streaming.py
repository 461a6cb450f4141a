"""What ``kpu.load_flash`` needs: it keeps a V3 file in flash and reads one layer at a time into main RAM.

Read in MaixPy's library: the first 4 KiB of the file are read into a buffer of 4096 + 256 bytes, and the table of
layers is taken from there however long it is; a table that is longer makes the loader read what happens to lie behind
the buffer. Then come the scratch buffer and one or two (``is_dual_buf``) buffers of the largest layer body + 256 bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from openkpu.kmodel.v3 import HEADER, LAYER_HEADER, OUTPUT

TABLES_BYTES: Final = 4096
"""What is read to find the tables of outputs and layers."""
SLACK: Final = 256
"""What each buffer has more, so that it can be aligned."""
BODY_LIMIT: Final = 2 * 1024 * 1024
"""The documented largest layer body."""


def most_layers(outputs: int) -> int:
    """Return how many layers the table may have beside a table of outputs."""
    return (TABLES_BYTES - HEADER.size - outputs * OUTPUT.size) // LAYER_HEADER.size


@dataclass(frozen=True, slots=True)
class Streaming:
    """The needs of one V3 file."""

    file_bytes: int
    layers: int
    most_layers: int
    largest_body: int
    scratch_bytes: int

    def ram_bytes(self, *, dual: bool) -> int:
        """Main RAM that it takes instead of the file and its scratch buffer."""
        return TABLES_BYTES + SLACK + self.scratch_bytes + (2 if dual else 1) * (self.largest_body + SLACK)

    @property
    def problem(self) -> str:
        """Why it cannot be streamed; empty where it can."""
        if self.layers > self.most_layers:
            return f"load_flash knows the first {self.most_layers} layers of a file, and this has {self.layers}"
        if self.largest_body > BODY_LIMIT:
            return f"a layer of {self.largest_body} bytes, and load_flash takes up to {BODY_LIMIT}"
        return ""


def streaming(data: bytes) -> Streaming:
    """Read the needs from the headers of a whole V3 file (not byte-swapped)."""
    header = HEADER.unpack(data, 0)
    outputs, layers = header["output_count"], header["layers_length"]
    table = HEADER.size + outputs * OUTPUT.size
    sizes = [LAYER_HEADER.unpack(data, table + i * LAYER_HEADER.size)["body_size"] for i in range(layers)]
    return Streaming(len(data), layers, most_layers(outputs), max(sizes, default=0), header["main_mem_usage"])
