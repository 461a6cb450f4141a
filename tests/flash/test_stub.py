"""Finding the flash program: a file, or the text inside the package kflash."""

from __future__ import annotations

import importlib.util
import zlib
from pathlib import Path
from types import SimpleNamespace

import pytest

from openkpu.errors import SetupError
from openkpu.flash import stub

PROGRAM = b"\x6f\x00\x40\x0b" * 1000


def installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str | None) -> None:
    file = tmp_path / "kflash.py"
    if text is not None:
        file.write_text(text)
    spec = None if text is None else SimpleNamespace(origin=str(file))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)


def code(file: Path | None = None) -> str:
    with pytest.raises(SetupError) as error:
        stub.find(file)
    assert error.value.fix
    return error.value.code


def test_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "isp.bin").write_bytes(PROGRAM)
    assert stub.find(tmp_path / "isp.bin") == stub.Stub(PROGRAM, str(tmp_path / "isp.bin"))
    assert code(tmp_path / "nothing") == "E510"
    for bad in (b"", b"\x7fELF" + bytes(100), bytes(stub.MAX_BYTES + 1)):
        (tmp_path / "isp.bin").write_bytes(bad)
        assert code(tmp_path / "isp.bin") == "E533"


def test_from_the_source_of_kflash_without_running_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    text = zlib.compress(PROGRAM).hex()
    source = (
        f"raise SystemExit\nclass K:\n    def f(self):\n        ISP_PROG = '{text}'\n        ISP_PROG = g(ISP_PROG)\n"
    )
    installed(monkeypatch, tmp_path, source)
    found = stub.find()
    assert found.data == PROGRAM
    assert found.source == "the package kflash, kflash.py"


@pytest.mark.parametrize(
    "source",
    [
        "x = 1",
        "ISP_PROG = 'zz'",
        "ISP_PROG = 'abcd'",
        "ISP_PROG = '" + zlib.compress(PROGRAM).hex()[:-40] + "'",
        "ISP_PROG = '" + zlib.compress(bytes(stub.MAX_BYTES + 1)).hex() + "'",
        "ISP_PROG = '" + zlib.compress(b"").hex() + "'",
        "def (",
        "ISP_PROG = 7",
    ],
)
def test_a_strange_kflash(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, source: str) -> None:
    installed(monkeypatch, tmp_path, source)
    assert code() == "E533"


def test_no_kflash(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    installed(monkeypatch, tmp_path, None)
    assert code() == "E524"


def test_the_real_one() -> None:
    pytest.importorskip("kflash", reason="kflash is not installed: pip install 'openkpu[flash]'")
    data = stub.find().data
    assert 8_000 < len(data) < 64_000
    assert b"Hard-wired zero" in data  # the names of a RISC-V's registers, from its fault handler
