"""Protobuf's text format."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openkpu.errors import FileFormatError
from openkpu.importers.message import Message
from openkpu.importers.prototxt import parse


def test_values() -> None:
    m = parse(
        """# a comment
        name: "a\\"b" 'c' ; count: -3, hex: 0x1F half: .5 big: 1e3f far: inf
        list: [1, 2, 3] empty: [] flag: true kind: MAX
        group { inner: 1 } group < inner: 2 > group: { inner: 3 }  # three ways
        """,
        "net",
    )
    assert m.string("name") == 'a"bc'
    assert (m.integer("count"), m.integer("hex")) == (-3, 31)
    assert (m.number("half"), m.number("big"), m.number("far")) == (0.5, 1000.0, float("inf"))
    assert m.integers("list") == [1, 2, 3]
    assert not m.has("empty")
    assert m.flag("flag")
    assert m.string("kind") == "MAX"
    assert [g.integer("inner") for g in m.messages("group")] == [1, 2, 3]
    assert (m.integer("none", 7), m.message("none").integer("x", 8)) == (7, 8)


@pytest.mark.parametrize(("text", "line"), [
    ("a: 1\nb: }", 2), ("a {\n\n b: 1", 3), ("a: 1\n\n\n ?", 4), ("\na 1", 2), ("a: [1 2]", 1), ("1: 2", 1),
    ('a: "open\n', 1), ("}", 1), ("a:", 1), ("a: { b: 1 >", 1),
])  # fmt: skip
def test_mistakes_have_a_line(text: str, line: int) -> None:
    with pytest.raises(FileFormatError) as caught:
        parse(text, "net.prototxt")
    assert caught.value.code == "E170"
    assert caught.value.where == f"net.prototxt, line {line}"


def test_fields_of_the_wrong_kind() -> None:
    m = parse("a: 1.5 b: word c { } d: yes", "net")
    for read in (lambda: m.integer("a"), lambda: m.number("b"), lambda: m.string("c"), lambda: m.flag("d"),
                 lambda: m.message("a")):  # fmt: skip
        with pytest.raises(FileFormatError) as caught:
            read()
        assert caught.value.code == "E171"


def test_depth_is_bounded() -> None:
    with pytest.raises(FileFormatError, match="inside each other"):
        parse("a {" * 100000, "net")


@given(st.text(st.sampled_from("ab:{}[]<>;,\"'\\#\n -+.0123456789eExXfF_"), max_size=60))
def test_any_text(text: str) -> None:
    with contextlib.suppress(FileFormatError):
        assert isinstance(parse(text, "net"), Message)
