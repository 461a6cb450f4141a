"""Placing files: addresses, swapping, names, and what will not work on the board."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from openkpu.errors import OpenKPUError
from openkpu.flash import kfpkg
from openkpu.flash.firmware import frame
from openkpu.flash.image import FlashImage
from openkpu.flash.pack import Layout, Request, plan
from openkpu.kmodel.detect import byteswap

V3 = struct.pack("<7I", 3, 1, 0, 0, 0, 0, 0) + bytes(range(256))
V4 = b"LDMK\x04\0\0\0" + bytes(100)
V5 = b"LDMK\x05\0\0\0" + bytes(100)
SMODEL = b"\x13\x27\0\0" + bytes(100)
MAIXPY3 = b"\x6f\x00\x40\x0b" * 300 + b"ERR_KMODEL_VERSION: only support kmodel V3\0"
MAIXPY4 = b"\x6f\x00\x40\x0b" * 300 + b"ERR_KMODEL_VERSION: only support kmodel V3/V4 now\0"


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    contents = {
        "v3.kmodel": V3,
        "v4.kmodel": V4,
        "v5.kmodel": V5,
        "swapped.kmodel": byteswap(V3),
        "secret.smodel": SMODEL,
        "big.kmodel": V3 + bytes(6 * 1024 * 1024),
        "maixpy3.bin": MAIXPY3,
        "maixpy4.bin": MAIXPY4,
        "own.bin": b"\x6f\x00\x40\x0b" * 300,
        "font.bin": b"\xfe\xff" * 50,
        "empty": b"",
        "framed.bin": frame(MAIXPY3),
        "program.elf": b"\x7fELF" + bytes(200),
    }
    for name, data in contents.items():
        (tmp_path / name).write_bytes(data)
    return {name: tmp_path / name for name in contents}


def places(layout: Layout) -> list[tuple[str, int]]:
    return [(p.part.name, p.part.address) for p in layout.placed]


def code(*args: object, **options: object) -> str:
    with pytest.raises(OpenKPUError) as error:
        plan(*args, **options)  # type: ignore[arg-type]
    assert error.value.fix
    return error.value.code


def test_models_go_where_maixpy_looks_and_one_after_the_other(files: dict[str, Path]) -> None:
    requests = [Request(files["v3.kmodel"]), Request(files["v4.kmodel"]), Request(files["swapped.kmodel"], 0x300000)]
    assert places(plan(requests)) == [("swapped.kmodel", 0x300000), ("v3.kmodel", 0x310000), ("v4.kmodel", 0x320000)]


def test_an_address_in_the_name_counts(files: dict[str, Path]) -> None:
    named = files["v3.kmodel"].rename(files["v3.kmodel"].with_name("v3_0x500000.kmodel"))
    assert places(plan([Request(named)])) == [("v3_0x500000.kmodel", 0x500000)]
    assert places(plan([Request(named, 0x400000)])) == [("v3_0x500000.kmodel", 0x400000)]


def test_a_large_firmware_moves_the_models(files: dict[str, Path]) -> None:
    files["maixpy4.bin"].write_bytes(MAIXPY4 + bytes(0x300000))
    assert places(plan([Request(files["v3.kmodel"])], files["maixpy4.bin"])) == [
        ("maixpy4.bin", 0),
        ("v3.kmodel", 0x310000),
    ]


def test_lines_for_the_script(files: dict[str, Path]) -> None:
    requests = [Request(files["v3.kmodel"], 0x400000), Request(files["v3.kmodel"], 0x600000, big_endian=True)]
    layout = plan(requests, files["maixpy4.bin"])
    assert [p.maixpy for p in layout.placed] == [
        "",
        "kpu.load(0x400000)",
        "kpu.load_flash(0x600000, 1, 0xC000, 60000000)",
    ]
    assert [p.title for p in layout.placed] == [
        "MaixPy, loads kmodel V3 and V4",
        "kmodel V3",
        "kmodel V3, words swapped",
    ]
    assert [p.maixpy for p in plan(requests, files["own.bin"]).placed] == ["", "", ""]  # not MaixPy's business


def test_swapping(files: dict[str, Path]) -> None:
    layout = plan([Request(files["v3.kmodel"], big_endian=True)])
    (part,) = layout.package.parts
    assert (part.name, part.data) == ("v3_be.kmodel", byteswap(V3))
    image = FlashImage()
    image.add(part)
    assert image.read(0x300000, 8) == bytes([0, 0, 0, 3, 0, 0, 0, 1])


@pytest.mark.parametrize("name", ["v4.kmodel", "v5.kmodel", "swapped.kmodel", "secret.smodel", "font.bin", "own.bin"])
def test_only_v3_is_swapped(files: dict[str, Path], name: str) -> None:
    assert code([Request(files[name], 0x300000, big_endian=True)]) == "E126"


def test_files_of_one_name_get_names_that_differ(files: dict[str, Path]) -> None:
    layout = plan([Request(files["v3.kmodel"]), Request(files["v3.kmodel"])])
    assert places(layout) == [("v3_0x300000.kmodel", 0x300000), ("v3_0x310000.kmodel", 0x310000)]
    assert kfpkg.read(layout.to_kfpkg()).parts == layout.package.parts


def test_a_package_brings_its_files(files: dict[str, Path], tmp_path: Path) -> None:
    first = plan([Request(files["v3.kmodel"])], files["maixpy3.bin"])
    package = kfpkg.Package(first.package.parts, {"read me.txt": b"hello"})
    package = kfpkg.Package(package.parts, {kfpkg.safe_name(n): d for n, d in package.extras.items()})
    (tmp_path / "first.kfpkg").write_bytes(kfpkg.write(package))
    both = plan([Request(tmp_path / "first.kfpkg"), Request(files["swapped.kmodel"])])
    assert places(both) == [("maixpy3.bin", 0), ("v3.kmodel", 0x300000), ("swapped.kmodel", 0x310000)]
    assert both.package.parts[0].sha256_prefix
    assert both.package.extras == {"read_me.txt": b"hello"}


def test_overlaps(files: dict[str, Path]) -> None:
    requests = [Request(files["v3.kmodel"], 0x300000), Request(files["v4.kmodel"], 0x300010)]
    assert code(requests) == "E321"
    layout = plan(requests, force=True)
    assert layout.warnings[0] == "v3.kmodel and v4.kmodel share 108 bytes, 0x300010 to 0x30007b"
    assert code([Request(files["v3.kmodel"], 0x100)], files["maixpy3.bin"]) == "E321"


def test_places_outside(files: dict[str, Path]) -> None:
    assert code([Request(files["v3.kmodel"], 0xFFFFFF)]) == "E322"
    assert code([Request(files["big.kmodel"]), Request(files["big.kmodel"])]) == "E320"


@pytest.mark.parametrize(
    ("name", "firmware", "words"),
    [
        ("v4.kmodel", "maixpy3.bin", "loads V3 only"),
        ("v5.kmodel", "maixpy4.bin", "No released MaixPy"),
        ("v5.kmodel", None, "No released MaixPy"),
        ("secret.smodel", None, "only on the board that it was encrypted for"),
        ("big.kmodel", "maixpy4.bin", "more than the 6291456 of main RAM"),
    ],
)
def test_what_will_not_load(files: dict[str, Path], name: str, firmware: str | None, words: str) -> None:
    layout = plan([Request(files[name], 0x400000)], None if firmware is None else files[firmware])
    assert len(layout.warnings) == 1
    assert words in layout.warnings[0]


@pytest.mark.parametrize(("name", "firmware"), [("v3.kmodel", "maixpy3.bin"), ("v4.kmodel", "maixpy4.bin")])
def test_what_will_load(files: dict[str, Path], name: str, firmware: str) -> None:
    assert plan([Request(files[name])], files[firmware]).warnings == ()


@pytest.mark.parametrize("name", ["v3.kmodel", "framed.bin", "program.elf", "empty"])
def test_what_is_no_firmware(files: dict[str, Path], name: str) -> None:
    assert code([], files[name]) == "E125"


def test_files_without_a_place(files: dict[str, Path]) -> None:
    assert code([Request(files["font.bin"])]) == "E127"
    assert code([Request(files["empty"], 0x300000)]) == "E125"
    assert places(plan([Request(files["font.bin"], 0xA00000)])) == [("font.bin", 0xA00000)]
    assert code([Request(files["v3.kmodel"].with_name("nothing"))]) == "E510"


def test_the_python_on_the_page(files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    files["v3.kmodel"].rename(tmp_path / "net.kmodel")
    files["big.kmodel"].rename(tmp_path / "big.kmodel")
    files["maixpy4.bin"].rename(tmp_path / "maixpy.bin")
    page = (Path(__file__).parents[2] / "docs" / "flashing.md").read_text("utf-8")
    code = page[page.index("## In Python") :].split("```")[1].removeprefix("text\n")
    scope: dict[str, object] = {}
    exec(code, scope)
    image = scope["image"]
    assert isinstance(image, FlashImage)
    assert image.read(0x300000, 28) == V3[:28]
    assert image.read(0x600000, 4) == bytes([0, 0, 0, 3])
    assert image.findings == []


def test_the_flat_image_is_what_flashing_the_package_gives(files: dict[str, Path], tmp_path: Path) -> None:
    layout = plan([Request(files["v3.kmodel"]), Request(files["font.bin"], 0xA00000)], files["maixpy4.bin"])
    (tmp_path / "a.kfpkg").write_bytes(layout.to_kfpkg())
    flat = layout.to_image()
    assert FlashImage.load(tmp_path / "a.kfpkg").to_bytes() == flat
    assert len(flat) == 0xA00000 + 100
    assert flat[: len(MAIXPY4) + 37] == frame(MAIXPY4)
    assert flat[0x300000 : 0x300000 + len(V3)] == V3
    assert set(flat[0x310000:0xA00000]) == {0xFF}
