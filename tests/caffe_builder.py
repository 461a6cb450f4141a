"""Makes small Caffe models for tests: protobuf's wire format in a few lines, and pairs of files."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np


def varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def message(fields: Sequence[tuple[int, Any]]) -> bytes:
    """Encode (field number, value) pairs: whole numbers, floats, strings, bytes (messages), arrays (packed)."""
    out = b""
    for number, value in fields:
        if isinstance(value, int):
            out += varint(number << 3) + varint(value)
        elif isinstance(value, float):
            out += varint(number << 3 | 5) + struct.pack("<f", value)
        else:
            if isinstance(value, str):
                data = value.encode()
            elif isinstance(value, np.ndarray):
                data = value.astype("<f4").tobytes()
            else:
                data = value
            out += varint(number << 3 | 2) + varint(len(data)) + data
    return out


def blob(array: Any, *, old: bool = False, single: bool = False) -> bytes:
    """A BlobProto; ``old`` with num, channels, height, width; ``single``: one field a number, not packed."""
    a = np.asarray(array, np.float32)
    if old:
        dims = [(i + 1, int(n)) for i, n in enumerate((1,) * (4 - a.ndim) + a.shape)]
    else:
        dims = [(7, message([(1, b"".join(varint(n) for n in a.shape))]))]
    numbers: list[tuple[int, Any]] = [(5, float(v)) for v in a.reshape(-1)] if single else [(5, a.reshape(-1))]
    return message([*dims, *numbers])


def weights(layers: Mapping[str, Sequence[Any]], **how: bool) -> bytes:
    """A caffemodel that holds nothing but the weights of layers, by name."""
    return message(
        [(1, "net"), *((100, message([(1, n), *((7, blob(b, **how)) for b in bs)])) for n, bs in layers.items())]
    )


def pair(folder: Path, text: str, layers: Mapping[str, Sequence[Any]] | bytes = b"") -> Path:
    """Write net.prototxt and net.caffemodel; returns the path of the former."""
    (folder / "net.caffemodel").write_bytes(
        layers if layers and isinstance(layers, bytes) else weights(dict(layers) if layers else {})
    )
    (folder / "net.prototxt").write_text(text)
    return folder / "net.prototxt"


def layer(kind: str, body: str = "", *, name: str = "l", bottom: str = "x", top: str = "y") -> str:
    """The text of a layer; several bottoms or tops are separated by spaces."""
    ends = "".join(f' bottom: "{b}"' for b in bottom.split()) + "".join(f' top: "{t}"' for t in top.split())
    return f'layer {{ name: "{name}" type: "{kind}"{ends} {body} }}\n'


def declared(*shape: int, name: str = "x") -> str:
    """The text of an input."""
    dims = " ".join(f"dim: {d}" for d in shape)
    return f'input: "{name}" input_shape {{ {dims} }}\n'
