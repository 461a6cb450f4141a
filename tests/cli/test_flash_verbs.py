"""kpu pack, kpu unpack, kpu flash: what they print, write and refuse."""

import json
import struct

import pytest

from openkpu.cli import INTERRUPTED
from openkpu.flash import flasher, kfpkg
from openkpu.kmodel.detect import byteswap

FIRMWARE = b"\x6f\x00\x40\x0b" * 300 + b"ERR_KMODEL_VERSION: only support kmodel V3\0"


@pytest.fixture
def firmware(tmp_path):
    (tmp_path / "maixpy.bin").write_bytes(FIRMWARE)
    return tmp_path / "maixpy.bin"


# -- pack -------------------------------------------------------------------------------------------------------------
def test_pack_says_where_and_how(kpu, kmodel, firmware, tmp_path):
    out = tmp_path / "all.kfpkg"
    result = kpu("pack", out, "--firmware", firmware, kmodel, f"{kmodel}@0x600000:be")
    assert result.exit_code == 0, result.stderr
    for part in (
        "two.kmodel",
        "two_be.kmodel",
        "MaixPy, loads kmodel V3",
        "kpu.load(0x300000)",
        "kpu.load_flash(0x600000, 1, 0xC000, 60000000)",
        "A···········B···········C···························ssssssssssss",
        f"kpu flash PORT {out}",
    ):
        assert part in result.stdout, part
    assert "Look out" not in result.stdout
    package = kfpkg.read(out.read_bytes())
    assert [(p.name, p.address, p.data) for p in package.parts] == [
        ("maixpy.bin", 0, FIRMWARE),
        ("two.kmodel", 0x300000, kmodel.read_bytes()),
        ("two_be.kmodel", 0x600000, byteswap(kmodel.read_bytes())),
    ]


def test_pack_fits_80_columns(kpu, kmodel, firmware, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    long = tmp_path / ("a_very_long_name_of_a_model" * 3 + ".kmodel")
    long.write_bytes(kmodel.read_bytes())
    result = kpu("pack", tmp_path / "o.bin", "--firmware", firmware, kmodel, f"{long}@0xd00000")
    table = result.stdout[result.stdout.index("Flash") : result.stdout.index("In MaixPy")]
    assert max(map(len, table.splitlines())) <= 80
    assert "Look out" in result.stdout


def test_pack_twice_gives_the_same_bytes(kpu, kmodel, tmp_path):
    for name in ("a.kfpkg", "b.kfpkg"):
        assert kpu("pack", tmp_path / name, kmodel).exit_code == 0
    assert (tmp_path / "a.kfpkg").read_bytes() == (tmp_path / "b.kfpkg").read_bytes()


def test_pack_json_and_flat_image(kpu, kmodel, tmp_path):
    out = tmp_path / "flat.bin"
    data = json.loads(kpu("pack", out, f"{kmodel}@3145728", "--json").stdout)
    assert set(data) == {"output", "bytes", "files", "warnings"}
    (file,) = data["files"]
    assert (file["address"], file["kind"], file["maixpy"]) == (0x300000, "kmodel-v3", "kpu.load(0x300000)")
    assert out.read_bytes() == b"\xff" * 0x300000 + kmodel.read_bytes()


def test_pack_with_a_known_answer_test(kpu, kmodel, tmp_path):
    out = tmp_path / "proof.kfpkg"
    result = kpu("pack", out, kmodel, "--kat", "noise")
    assert result.exit_code == 0, result.stderr
    script = tmp_path / "proof_kat.py"
    for part in (
        "Known-answer test",
        "1 output of the whole model and 2 layers",
        "noise, 16x16, 5/6/5 bits",
        str(script),
    ):
        assert part in result.stdout, part
    package = kfpkg.read(out.read_bytes())
    assert [(p.name, p.address) for p in package.parts] == [("two.kmodel", 0x300000), ("proof_kat.bin", 0x310000)]
    assert package.extras == {"proof_kat.py": script.read_bytes()}
    ran = kpu("board", script, "--flash", out)
    assert ran.exit_code == 0
    assert ran.stdout.splitlines()[-1] == "PASS: the board computes what the simulator computes (comparisons: 3)"
    data = json.loads(kpu("pack", out, kmodel, "--kat", "noise", "--json").stdout)
    assert data["known_answer_test"]["layers"] == 2
    assert data["known_answer_test"]["script"] == str(script)
    result = kpu("pack", tmp_path / "no.kfpkg", kmodel, "--kat", tmp_path / "absent.png")
    assert result.exit_code == 1
    assert "E510" in result.stderr
    assert not (tmp_path / "no.kfpkg").exists()
    assert not (tmp_path / "no_kat.py").exists()


def test_pack_refuses_overlaps_unless_forced(kpu, kmodel, tmp_path):
    out = tmp_path / "o.kfpkg"
    result = kpu("pack", out, f"{kmodel}@0x300000", f"{kmodel}@0x300004")
    assert (result.exit_code, out.exists()) == (1, False)
    assert "E321" in result.stderr
    result = kpu("pack", out, f"{kmodel}@0x300000", f"{kmodel}@0x300004", "--force")
    assert result.exit_code == 0
    assert "share" in result.stdout
    assert out.exists()


def test_pack_warns_of_v5(kpu, tmp_path):
    (tmp_path / "v5.kmodel").write_bytes(b"LDMK\x05\0\0\0" + bytes(100))
    result = kpu("pack", tmp_path / "o.kfpkg", tmp_path / "v5.kmodel")
    assert result.exit_code == 0
    assert "Look out" in result.stdout
    assert "No released MaixPy" in result.stdout


def test_an_at_sign_in_a_name(kpu, kmodel, tmp_path):
    odd = tmp_path / "me@home.kmodel"
    odd.write_bytes(kmodel.read_bytes())
    assert kpu("pack", tmp_path / "o.kfpkg", odd).exit_code == 0
    assert kpu("pack", tmp_path / "o.kfpkg", f"{odd}@0x400000").exit_code == 0
    assert kfpkg.read((tmp_path / "o.kfpkg").read_bytes()).parts[0].address == 0x400000


@pytest.mark.parametrize(
    "args",
    [
        ("pack",),
        ("pack", "o.kfpkg"),
        ("pack", "o.zip", "KMODEL"),
        ("pack", "o.kfpkg", "KMODEL@here"),
        ("pack", "o.kfpkg", "KMODEL@0x1000000"),
        ("unpack",),
        ("flash", "PORT"),
        ("flash", "PORT", "KMODEL", "--addr", "here"),
        ("flash", "PORT", "KMODEL", "--addr", "-1"),
    ],
)
def test_wrong_usage(kpu, kmodel, args, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = kpu(*(a.replace("KMODEL", str(kmodel)) for a in args))
    assert result.exit_code == 2, result.output
    assert "Error" in result.stderr
    assert not (tmp_path / "o.kfpkg").exists()


# -- unpack -----------------------------------------------------------------------------------------------------------
def test_unpack(kpu, kmodel, firmware, tmp_path):
    out = tmp_path / "all.kfpkg"
    kpu("pack", out, "--firmware", firmware, kmodel)
    listed = kpu("unpack", out, "--list")
    assert "flash package, 2 files" in listed.stdout
    assert "kmodel V3" in listed.stdout
    assert not (tmp_path / "all").exists()
    assert kpu("unpack", out).exit_code == 0
    assert (tmp_path / "all" / "two.kmodel").read_bytes() == kmodel.read_bytes()
    assert (tmp_path / "all" / "maixpy.bin").read_bytes() == FIRMWARE
    (tmp_path / "all" / "two.kmodel").write_bytes(b"mine")
    assert "E511" in kpu("unpack", out).stderr
    assert kpu("unpack", out, "--force").exit_code == 0
    data = json.loads(kpu("unpack", out, "-o", tmp_path / "x", "--json").stdout)
    assert set(data) == {"file", "file_bytes", "files", "extras", "warnings", "written"}
    assert [f["name"] for f in data["files"]] == ["maixpy.bin", "two.kmodel"]
    assert len(data["written"]) == 3


def test_unpack_of_something_else(kpu, kmodel, tmp_path):
    error = json.loads(kpu("unpack", kmodel, "--json").stderr)["error"]
    assert (error["code"], error["where"]) == ("E120", str(kmodel))
    bare = tmp_path / "bare"
    kpu("pack", tmp_path / "o.kfpkg", kmodel)
    bare.write_bytes((tmp_path / "o.kfpkg").read_bytes())
    assert kpu("unpack", bare).exit_code == 2
    assert kpu("unpack", bare, "--list").exit_code == 0


def test_unpack_shows_what_only_travels_along(kpu, tmp_path):
    file = tmp_path / "p.kfpkg"
    file.write_bytes(kfpkg.write(kfpkg.Package((), {"kat.py": b"print(1)"})))
    result = kpu("unpack", file, "--list")
    assert "Not flashed" in result.stdout
    assert "kat.py" in result.stdout


# -- flash ------------------------------------------------------------------------------------------------------------
@pytest.fixture
def bootloader(tmp_path):
    (tmp_path / "isp.bin").write_bytes(b"\x13" * 100)
    return tmp_path / "isp.bin"


@pytest.fixture
def port(monkeypatch):
    pytest.importorskip("serial", reason="pyserial is not installed: pip install 'openkpu[flash]'")

    class Port:
        closed = 0

        def __init__(self, name, baud):
            pass

        def close(self):
            Port.closed += 1

    monkeypatch.setattr("openkpu.flash.port.SerialPort", Port)
    return Port


def done(line, name, parts, program, options, *, result, progress):
    result.board, result.restarted, result.seconds = "dan", True, 2.0
    result.written = [{"name": p.name, "address": p.address, "bytes": p.size} for p in parts]
    result.bytes_written = result.bytes_total = sum(p.size for p in parts)
    return result


@pytest.mark.parametrize("more", [(), ("--addr", "0x500000")])
def test_flash_a_model(kpu, kmodel, port, bootloader, monkeypatch, more):
    monkeypatch.setattr(flasher, "flash", done)
    result = kpu("flash", "P", kmodel, "--bootloader", bootloader, *more)
    assert result.exit_code == 0, result.stderr
    at = more[1] if more else "0x300000"
    for part in (f"kpu.load({at})", "dan on P", "the CRC-32 of every block", "started"):
        assert part in result.stdout, part
    data = json.loads(kpu("flash", "P", kmodel, "--bootloader", bootloader, *more, "--json").stdout)
    assert data["written"][0]["address"] == int(at, 16)
    assert data["stub"] == str(bootloader)
    assert port.closed == 2


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({}, "the flash is as it was"),
        ({"touched": True, "bytes_written": 65536, "bytes_total": 200000}, "Interrupted: 65,536 of 200,000 bytes"),
        ({"touched": True, "erased": True, "bytes_total": 9}, "the chip was erased, and 0 of 9 bytes"),
        ({"touched": True, "written": [{"name": "a.bin"}]}, "Complete: a.bin"),
    ],
)
def test_ctrl_c_says_how_far_it_came(kpu, kmodel, port, bootloader, monkeypatch, state, words):
    def stop(line, name, parts, program, options, *, result, progress):
        for field, value in state.items():
            setattr(result, field, value)
        raise KeyboardInterrupt

    monkeypatch.setattr(flasher, "flash", stop)
    result = kpu("flash", "P", kmodel, "--bootloader", bootloader)
    assert result.exit_code == INTERRUPTED
    assert words in result.stderr
    assert port.closed == 1


def test_what_flash_refuses_before_it_opens_the_port(kpu, kmodel, tmp_path, bootloader):
    v3 = struct.pack("<7I", 3, 1, 0, 0, 0, 0, 0)
    package = tmp_path / "p.kfpkg"
    package.write_bytes(kfpkg.write(kfpkg.Package((kfpkg.Part("a", 0, v3), kfpkg.Part("b", 4, v3)))))
    text = tmp_path / "notes.bin"
    text.write_text("hello")
    for file, code in ((package, "E321"), (text, "E125"), (tmp_path / "no", "E510"), (tmp_path, "E510")):
        result = kpu("flash", "P", file, "--bootloader", bootloader)
        assert (result.exit_code, code in result.stderr) == (1, True), result.output
    assert "E532" in kpu("flash", "P", kmodel, "--board", "esp32").stderr
    assert "E528" in kpu("flash", "P", kmodel, "--baud", "12").stderr
    assert "E533" in kpu("flash", "P", kmodel, "--bootloader", _empty(tmp_path)).stderr
    assert kpu("flash", "P", package, "--addr", "0x300000", "--bootloader", bootloader).exit_code == 2


def _empty(folder):
    (folder / "empty.bin").write_bytes(b"")
    return folder / "empty.bin"


def test_no_such_port(kpu, kmodel, bootloader):
    pytest.importorskip("serial", reason="pyserial is not installed: pip install 'openkpu[flash]'")
    result = kpu("flash", "/dev/ttyNothing7", kmodel, "--bootloader", bootloader, "--json")
    assert result.exit_code == 1
    assert json.loads(result.stderr)["error"]["code"] == "E520"


def test_a_missing_extra_is_named(kpu, kmodel, bootloader, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "serial", None)
    result = kpu("flash", "P", kmodel, "--bootloader", bootloader)
    assert "E501" in result.stderr
    assert "openkpu[flash]" in result.stderr
