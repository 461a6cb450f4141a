"""A decoded protobuf message, from Caffe's text or its binary form: fields by name, each a list of values."""

from __future__ import annotations

from typing import Any, Final

from openkpu.errors import FileFormatError

_TRUE: Final = ("true", "True", "t", "1")
_FALSE: Final = ("false", "False", "f", "0")


class Word(str):
    """A bare word of a text file: the name of an enumeration's value, or true and false."""

    __slots__ = ()


class Message:
    """``where`` is how errors call it: the file, and the line or the layer."""

    __slots__ = ("fields", "where")

    def __init__(self, where: str) -> None:
        self.fields: dict[str, list[Any]] = {}
        self.where = where

    def add(self, name: str, value: Any) -> None:
        """Append a value of a field."""
        self.fields.setdefault(name, []).append(value)

    def has(self, name: str) -> bool:
        """Whether the field is there."""
        return name in self.fields

    def all(self, name: str) -> list[Any]:
        """Return all values of a field."""
        return self.fields.get(name, [])

    def messages(self, name: str) -> list[Message]:
        """Return all values of a field that holds messages."""
        values = self.all(name)
        if not all(isinstance(v, Message) for v in values):
            raise self.wrong(name, next(v for v in values if not isinstance(v, Message)), "a group in braces")
        return values

    def message(self, name: str) -> Message:
        """Return the last message of a field; an empty one if there is none."""
        found = self.messages(name)
        return found[-1] if found else Message(self.where)

    def integers(self, name: str) -> list[int]:
        """Return all values of a field of whole numbers."""
        for v in self.all(name):
            if isinstance(v, bool) or not isinstance(v, int):
                raise self.wrong(name, v, "a whole number")
        return list(self.all(name))

    def integer(self, name: str, default: int = 0) -> int:
        """Return a whole number; of several the last, as protobuf does."""
        return self.integers(name)[-1] if self.has(name) else default

    def numbers(self, name: str) -> list[float]:
        """Return all values of a field of numbers."""
        for v in self.all(name):
            if isinstance(v, bool) or not isinstance(v, int | float):
                raise self.wrong(name, v, "a number")
        return [float(v) for v in self.all(name)]

    def number(self, name: str, default: float = 0.0) -> float:
        """Return a number."""
        return self.numbers(name)[-1] if self.has(name) else default

    def flag(self, name: str, default: bool = False) -> bool:
        """Return a truth value."""
        if not self.has(name):
            return default
        value = self.all(name)[-1]
        if str(value) not in _TRUE + _FALSE:
            raise self.wrong(name, value, "true or false")
        return str(value) in _TRUE

    def strings(self, name: str) -> list[str]:
        """Return all values of a field of strings."""
        for v in self.all(name):
            if not isinstance(v, str):
                raise self.wrong(name, v, "a string")
        return [str(v) for v in self.all(name)]

    def string(self, name: str, default: str = "") -> str:
        """Return a string, or the name of an enumeration's value."""
        return self.strings(name)[-1] if self.has(name) else default

    def wrong(self, name: str, value: Any, wanted: str) -> FileFormatError:
        """Return the error for a field of the wrong kind."""
        shown = "a group" if isinstance(value, Message) else repr(value)[:60]
        return FileFormatError(
            "E171", f"field '{name}' is {shown}, not {wanted}", where=self.where,
            why="it means something else in Caffe's format", fix="correct it, or export the model again",
        )  # fmt: skip
