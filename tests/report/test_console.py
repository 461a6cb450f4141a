import io
import json
import math

import numpy as np
import pytest

from openkpu.errors import InputError
from openkpu.report import errors
from openkpu.report.console import Printer, print_json


class Terminal(io.TextIOWrapper):
    def __init__(self, encoding="utf-8", tty=True):
        super().__init__(io.BytesIO(), encoding=encoding, write_through=True)
        self.tty = tty

    def isatty(self):
        return self.tty

    @property
    def text(self):
        return self.buffer.getvalue().decode(self.encoding)


def test_colour_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    terminal, pipe = Terminal(), Terminal(tty=False)
    for stream in (terminal, pipe):
        Printer(stream).line(("red", "red"), " plain")
    assert terminal.text == "\x1b[31mred\x1b[0m plain\n"
    assert pipe.text == "red plain\n"


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_colour_can_be_forbidden(monkeypatch: pytest.MonkeyPatch, name, value):
    monkeypatch.setenv(name, value)
    stream = Terminal()
    Printer(stream).line(("red", "red"))
    assert stream.text == "red\n"


def test_width(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    assert Printer(Terminal(tty=False)).width == 120
    monkeypatch.setenv("COLUMNS", "93")
    assert Printer(Terminal(tty=False)).width == 93
    assert Printer(Terminal()).width == 93


def test_ascii_output_gets_plain_marks():
    stream = Terminal("ascii", tty=False)
    printer = Printer(stream)
    printer.line("a → b… 层")
    assert printer.ascii_only
    assert stream.text == "a -> b~ ?\n"


def test_control_codes_from_a_file_do_not_reach_the_terminal():
    stream = Terminal(tty=False)
    Printer(stream).line("layer\x1b[2Jname\r\n")
    assert stream.text == "layer\ufffd[2Jname\n"


def test_long_text_is_wrapped_under_itself():
    stream = Terminal(tty=False)
    Printer(stream, width=60).pairs([("why", "word " * 30), ("fix", "short")])
    lines = stream.text.splitlines()
    assert all(len(line) <= 60 for line in lines)
    assert lines[0].startswith("  why  word")
    assert lines[1].startswith("       word")
    assert lines[-1] == "  fix  short"


def test_error_block():
    stream = Terminal(tty=False)
    errors.show(InputError("E499", "it is wrong", where="here", why="limit 3, value 4", fix="use 3"), Printer(stream))
    assert stream.text == "error E499: it is wrong\n  where  here\n  why    limit 3, value 4\n  fix    use 3\n"


def test_json_is_strict():
    stream = io.StringIO()
    print_json({"a": math.inf, "b": [np.float32(0.5), math.nan], "c": np.int64(3), 4: (True, None)}, stream)
    assert json.loads(stream.getvalue()) == {"a": None, "b": [0.5, None], "c": 3, "4": [True, None]}
