"""Protobuf's text format, as ``.prototxt`` files use it: ``name: value`` and ``name { ... }``, with comments after #.

Source: protobuf.dev, "Text Format Language Specification". No schema is needed: fields keep their names, and who reads
them says what they must be. Errors name the line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from openkpu.errors import FileFormatError
from openkpu.importers.message import Message, Word

MAX_BYTES: Final = 16 << 20
MAX_DEPTH: Final = 32
_TOKEN: Final = re.compile(
    r"""[ \t\r\n]+|\#[^\n]*"""
    r"""|(?P<string>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')"""
    r"""|(?P<number>[-+]?(?:0[xX][0-9a-fA-F]+|(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?)[fF]?(?![\w.]))"""
    r"""|(?P<word>-?[A-Za-z_][\w.]*)"""
    r"""|(?P<mark>[{}<>:;,\[\]])"""
)  # fmt: skip
_ESCAPES: Final = {"n": "\n", "r": "\r", "t": "\t"}


class _Token(NamedTuple):
    kind: str
    text: str
    line: int


def parse(text: str, where: str) -> Message:
    """Return the whole file as one message. ``FileFormatError`` E170 for what the format does not allow."""
    reader = _Reader(text, where)
    message = Message(where)
    reader.fields(message, "", 0)
    return message


class _Reader:
    def __init__(self, text: str, where: str) -> None:
        self.where = where
        if len(text) > MAX_BYTES:
            raise self.error(0, f"{len(text)} characters", f"the limit is {MAX_BYTES}")
        self.tokens = self._tokens(text)
        self.next: _Token | None = None
        self.line = 1
        self.step()

    def _tokens(self, text: str) -> Iterator[_Token]:
        at, line = 0, 1
        while at < len(text):
            match = _TOKEN.match(text, at)
            if match is None:
                raise self.error(line, f"the character {text[at]!r}", "it belongs to no name, number or string")
            if match.lastgroup:
                yield _Token(match.lastgroup, match.group(), line)
            line += match.group().count("\n")
            at = match.end()

    def step(self) -> _Token | None:
        """Return the token at hand and go on."""
        token, self.next = self.next, next(self.tokens, None)
        self.line = self.next.line if self.next else self.line
        return token

    def take(self, mark: str) -> bool:
        """Skip a mark if it is there."""
        if self.next is not None and self.next.text == mark and self.next.kind == "mark":
            self.step()
            return True
        return False

    def fields(self, message: Message, end: str, depth: int) -> None:
        """Read fields up to the mark ``end``, or the end of the file."""
        if depth > MAX_DEPTH:
            raise self.error(self.line, f"more than {MAX_DEPTH} groups inside each other")
        while True:
            if self.next is None:
                if end:
                    raise self.error(self.line, "the file ends inside a group", f"'{end}' is missing")
                return
            if end and self.take(end):
                return
            token = self.step()
            if token is None or token.kind != "word":
                raise self.error(self.line, f"'{token.text if token else ''}'", "the name of a field is expected here")
            self.field(message, token, depth)
            if not self.take(";"):
                self.take(",")

    def field(self, message: Message, name: _Token, depth: int) -> None:
        """Read what follows a field's name."""
        colon = self.take(":")
        if self.take("["):
            while not self.take("]"):
                message.add(name.text, self.value(name, colon, depth))
                if not self.take(",") and (self.next is None or self.next.text != "]"):
                    raise self.error(self.line, "a list without commas", f"in field '{name.text}'")
            return
        message.add(name.text, self.value(name, colon, depth))

    def value(self, name: _Token, colon: bool, depth: int) -> Any:
        """Read one value."""
        for begin, end in (("{", "}"), ("<", ">")):
            if self.take(begin):
                inner = Message(f"{self.where}, line {name.line}")
                self.fields(inner, end, depth + 1)
                return inner
        if not colon:
            raise self.error(name.line, f"'{name.text}' without a value", "':' or '{' must follow a name")
        token = self.step()
        if token is None or token.kind == "mark":
            raise self.error(name.line, f"'{name.text}' without a value")
        if token.kind == "string":
            text = _unquoted(token.text)
            while self.next is not None and self.next.kind == "string":
                text += _unquoted(self.next.text)
                self.step()
            return text
        return _number(token.text) if token.kind == "number" else _word(token.text)

    def error(self, line: int, what: str, why: str = "") -> FileFormatError:
        """Return the error for a line."""
        return FileFormatError(
            "E170", f"the prototxt cannot be read: {what}", where=f"{self.where}, line {line}", why=why,
            fix="correct this line",
        )  # fmt: skip


def _unquoted(text: str) -> str:
    return re.sub(r"\\(.)", lambda m: _ESCAPES.get(m.group(1), m.group(1)), text[1:-1])


def _number(text: str) -> int | float:
    if text[-1] in "fF" and "x" not in text.lower():
        text = text[:-1]
    try:
        return int(text, 16 if "x" in text.lower() else 10) if len(text) < 40 else float(text)
    except ValueError:
        return float(text)


def _word(text: str) -> float | Word:
    if text.lower().lstrip("-") in ("inf", "infinity", "nan"):
        return float(text)
    return Word(text)
