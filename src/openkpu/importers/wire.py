"""Protobuf's binary format, for Caffe's weights: fields that the schema lists are decoded, all others skipped.

A field is a varint ``number << 3 | kind`` and its content: a varint (0), 8 bytes (1), a length and that many bytes (2),
4 bytes (5). Source: protobuf.dev, "Encoding". Arrays of floats stay views of the file.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import numpy as np

from openkpu.errors import FileFormatError
from openkpu.importers.message import Message, Word

MAX_FIELDS: Final = 2_000_000
MAX_DEPTH: Final = 16


class Field(NamedTuple):
    """A field of a message. ``kind``: int, bool, float, string, enum, floats, doubles, or the name of a message."""

    name: str
    kind: str
    values: Mapping[int, str] = {}


Schema = Mapping[str, Mapping[int, Field]]
"""Message name -> field number -> field."""


def parse(data: bytes, schema: Schema, root: str, where: str) -> Message:
    """Decode a message of the type ``root``. ``FileFormatError`` E171 for damaged bytes."""
    return _Reader(data, schema, where).message(root, 0, len(data), 0)


class _Reader:
    def __init__(self, data: bytes, schema: Schema, where: str) -> None:
        self.data = data
        self.schema = schema
        self.where = where
        self.fields = 0

    def message(self, kind: str, at: int, end: int, depth: int) -> Message:
        """Decode the bytes ``at`` to ``end``."""
        if depth > MAX_DEPTH:
            raise self.damaged(at, f"more than {MAX_DEPTH} messages inside each other")
        known = self.schema[kind]
        result = Message(f"{self.where}, byte {at}")
        while at < end:
            self.fields += 1
            if self.fields > MAX_FIELDS:
                raise self.damaged(at, f"more than {MAX_FIELDS} fields")
            begin = at
            tag, at = self.varint(at, end)
            number, wire = tag >> 3, tag & 7
            if number == 0:
                raise self.damaged(begin, "field number 0")
            field = known.get(number)
            value: Any
            if wire == 0:
                value, at = self.varint(at, end)
            elif wire in (1, 5):
                size = 8 if wire == 1 else 4
                value, at = self.data[at : at + size], at + size
            elif wire == 2:
                length, at = self.varint(at, end)
                value, at = (at, at + length), at + length
            else:
                raise self.damaged(begin, f"a field of kind {wire}")
            if at > end:
                raise self.damaged(begin, "a field reaches beyond its message")
            if field is not None:
                self.store(result, field, wire, value, depth)
        return result

    def store(self, message: Message, field: Field, wire: int, value: Any, depth: int) -> None:
        """Add a value to a message; one of another wire kind than the schema's is what protobuf skips."""
        kind = field.kind
        if kind in self.schema:
            if wire == 2:
                begin, end = value
                message.add(field.name, self.message(kind, begin, end, depth + 1))
        elif kind == "string":
            if wire == 2:
                message.add(field.name, self.data[slice(*value)].decode("utf-8", "replace"))
        elif kind in ("floats", "doubles"):
            self.array(message, field, wire, value)
        elif kind == "float":
            if wire == 5:
                message.add(field.name, struct.unpack("<f", value)[0])
            elif wire == 2:
                self.array(message, field, wire, value)
                packed = message.fields[field.name].pop()
                self.fields += packed.size
                if self.fields > MAX_FIELDS:
                    raise self.damaged(value[0], f"more than {MAX_FIELDS} numbers")
                message.fields[field.name].extend(float(v) for v in packed)
        elif wire == 0:
            message.add(field.name, _scalar(field, value))
        elif wire == 2:  # packed
            at, end = value
            while at < end:
                self.fields += 1
                if self.fields > MAX_FIELDS:
                    raise self.damaged(at, f"more than {MAX_FIELDS} numbers")
                number, at = self.varint(at, end)
                message.add(field.name, _scalar(field, number))

    def array(self, message: Message, field: Field, wire: int, value: Any) -> None:
        """Add floats: packed as one array, else one by one."""
        kind = np.dtype("<f8" if field.kind == "doubles" else "<f4")
        if wire == 2:
            at, end = value
            if (end - at) % kind.itemsize:
                raise self.damaged(at, f"{end - at} bytes of {kind.itemsize}-byte numbers")
            message.add(field.name, np.frombuffer(self.data, kind, (end - at) // kind.itemsize, at))
        elif wire == (1 if kind.itemsize == 8 else 5):
            message.add(field.name, np.frombuffer(value, kind))

    def varint(self, at: int, end: int) -> tuple[int, int]:
        """Return a varint and the offset behind it."""
        result = shift = 0
        while at < end and shift < 70:
            byte = self.data[at]
            result |= (byte & 127) << shift
            at += 1
            if byte < 128:
                return result & (1 << 64) - 1, at
            shift += 7
        raise self.damaged(at, "a number that does not end")

    def damaged(self, at: int, why: str) -> FileFormatError:
        """Return the error for an offset."""
        return FileFormatError(
            "E171", "the caffemodel is cut off or damaged", where=f"{self.where}, byte {at}", why=why,
            fix="copy or download it again",
        )  # fmt: skip


def _scalar(field: Field, value: int) -> Any:
    if field.kind == "bool":
        return Word("true" if value else "false")
    if field.kind == "enum":
        return Word(field.values.get(value, f"number {value}"))
    return value - (1 << 64) if value >> 63 else value
