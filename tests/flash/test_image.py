"""The flash image, the frame of programs, and the placing of files."""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openkpu.errors import OpenKPUError
from openkpu.flash import kfpkg
from openkpu.flash.firmware import frame, is_framed, kmodel_versions, unframe
from openkpu.flash.image import FlashImage, file_parts, image_parts
from openkpu.flash.kfpkg import Package
from openkpu.flash.layout import (
    BLOCK_BYTES,
    FILE_SYSTEM_ADDRESS,
    FLASH_BYTES,
    Part,
    check_apart,
    free_address,
    overlaps,
    warnings,
)
from openkpu.kmodel.detect import byteswap

V3 = struct.pack("<7I", 3, 1, 0, 0, 0, 0, 0) + bytes(100)


def code(call: object, *args: object) -> str:
    with pytest.raises(OpenKPUError) as error:
        call(*args)  # type: ignore[operator]
    return error.value.code


# -- the frame --------------------------------------------------------------------------------------------------------
@given(st.binary(min_size=1, max_size=500), st.booleans(), st.binary(max_size=50))
def test_frame(data: bytes, dio: bool, after: bytes) -> None:
    stored = frame(data, dio=dio)
    assert stored[:5] == bytes([2 * dio]) + len(data).to_bytes(4, "little")
    assert stored[-32:] == hashlib.sha256(stored[:-32]).digest()
    found = unframe(stored + after)
    assert found is not None
    assert (found.data, found.aes, found.dio, found.intact) == (data, False, dio, True)


@given(st.binary(min_size=1, max_size=80), st.data())
def test_a_changed_byte_breaks_the_frame(data: bytes, draw: st.DataObject) -> None:
    stored = bytearray(frame(data))
    stored[draw.draw(st.integers(0, len(stored) - 1))] ^= draw.draw(st.integers(1, 255))
    assert not is_framed(bytes(stored))


@pytest.mark.parametrize("data", [b"", bytes(37), b"\xff" * 100, b"\x04" + frame(b"x")[1:], b"\0" + b"\xff" * 60])
def test_no_frame(data: bytes) -> None:
    assert unframe(data) is None


def test_what_maixpy_says_it_loads() -> None:
    assert kmodel_versions(b"..ERR_KMODEL_VERSION: only support kmodel V3/V4 now\0") == (3, 4)
    assert kmodel_versions(b"..ERR_KMODEL_VERSION: only support kmodel V3\0") == (3,)
    assert kmodel_versions(b"a program") is None


# -- the image --------------------------------------------------------------------------------------------------------
@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 5000), st.binary(max_size=300)), max_size=6))
def test_reads_what_was_written_last(writes: list[tuple[int, bytes]]) -> None:
    image = FlashImage()
    expected = bytearray(b"\xff" * 6000)
    for address, data in writes:
        image.write(address, data)
        expected[address : address + len(data)] = data
    assert image.read(0, 6000) == expected
    assert image.read_words(8, 3) == struct.unpack_from("<3I", expected, 8)
    assert image.to_bytes() == expected[: max((a + len(d) for a, d in writes if d), default=0)]


@pytest.mark.parametrize(("address", "size"), [(-1, 4), (FLASH_BYTES - 3, 4), (FLASH_BYTES, 1), (1 << 40, 1)])
def test_outside_the_flash(address: int, size: int) -> None:
    image = FlashImage()
    for call in (image.read, image.erase, lambda a, n: image.write(a, bytes(n))):
        assert code(call, address, size) == "E322"
    assert image.parts == []


def test_the_whole_image() -> None:
    image = FlashImage()
    image.write(100, b"x")
    assert image.to_bytes(whole=True) == b"\xff" * 100 + b"x" + b"\xff" * (FLASH_BYTES - 101)
    assert len(image) == FLASH_BYTES


def test_a_name_makes_a_part() -> None:
    image = FlashImage()
    for i in range(100):
        image.write(i, b"x")
    image.write(200, b"y", "named")
    assert [p.name for p in image.parts] == ["named"]
    assert image.to_bytes() == b"x" * 100 + b"\xff" * 100 + b"y"


def test_parts_and_erase() -> None:
    image = FlashImage()
    image.write(0x1000, b"abc", "first")
    image.write(0x1002, b"xyz", "second")
    assert [image.part_at(a).name for a in (0x1000, 0x1002, 0x1004)] == ["first", "second", "second"]  # type: ignore[union-attr]
    assert image.part_at(0x1005) is None
    assert image.findings[0].startswith("first and second share 1 bytes")
    image.erase(0x1000, 3)
    assert image.read(0x1000, 6) == b"\xff\xff\xffyz\xff"
    assert [p.name for p in image.parts] == ["second"]


def test_firmware() -> None:
    image = FlashImage()
    assert image.firmware is None
    image.add(Part("maixpy.bin", 0, b"code", sha256_prefix=True))
    assert image.firmware is not None
    assert (image.firmware.data, image.firmware.intact) == (b"code", True)
    image.write(7, b"!")
    assert not image.firmware.intact


def test_word_swapped_at_flashing() -> None:
    image = FlashImage()
    image.add(Part("m", 0, b"abcdefgh", reverse4=True))
    assert image.read(0, 8) == b"dcbahgfe"


# -- loading ----------------------------------------------------------------------------------------------------------
def test_load_every_kind(tmp_path: Path) -> None:
    model, firmware = tmp_path / "m.kmodel", tmp_path / "fw.bin"
    model.write_bytes(V3)
    assert FlashImage.load(model).read(0x300000, len(V3)) == V3
    (tmp_path / "face_at_0x400000.kmodel").write_bytes(V3)
    assert FlashImage.load(tmp_path / "face_at_0x400000.kmodel").read(0x400000, len(V3)) == V3
    firmware.write_bytes(b"\x6f\x00\x40\x0b" * 40)
    loaded = FlashImage.load(firmware)
    assert loaded.firmware is not None
    assert loaded.firmware.data == firmware.read_bytes()
    package = Package((Part("fw.bin", 0, firmware.read_bytes(), True), Part("m", 0x500000, V3)))
    (tmp_path / "p.kfpkg").write_bytes(kfpkg.write(package))
    from_package = FlashImage.load(tmp_path / "p.kfpkg")
    assert from_package.read(0x500000, len(V3)) == V3
    (tmp_path / "flat.bin").write_bytes(from_package.to_bytes())
    flat = FlashImage.load(tmp_path / "flat.bin")
    assert flat.to_bytes(whole=True) == from_package.to_bytes(whole=True)
    assert [p.address for p in flat.parts] == [0, 0x500000]  # erased blocks are left out
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "a_0x200000.kmodel").write_bytes(V3)
    (folder / "fw-0x0.bin").write_bytes(firmware.read_bytes())
    (folder / "readme.txt").write_text("no address")
    both = FlashImage.load(folder)
    assert sorted(p.address for p in both.parts) == [0, 0x200000]
    assert both.firmware is not None


def test_an_image_without_firmware_keeps_the_firmware_on_the_board() -> None:
    image = FlashImage()
    image.write(0x300000, V3)
    (part,) = file_parts("flat.bin", image.to_bytes())
    assert (part.address, part.size, part.sha256_prefix) == (0x300000, len(V3), False)


@settings(max_examples=30)
@given(st.lists(st.booleans(), max_size=8), st.integers(1, BLOCK_BYTES))
def test_image_parts_cover_all_that_is_not_erased(used: list[bool], tail: int) -> None:
    data = b"".join(
        b"\xff" * 9 + bytes([u]) * 9 + b"\xff" * (BLOCK_BYTES - 18) if u else b"\xff" * BLOCK_BYTES for u in used
    )
    data += b"\x00" * tail
    parts = image_parts("x", data)
    image = FlashImage()
    for p in parts:
        image.add(p)
    assert image.read(0, len(data)) == data
    assert sum(p.size for p in parts) == sum(used) * BLOCK_BYTES + tail


def test_nothing_to_load(tmp_path: Path) -> None:
    (tmp_path / "empty.kfpkg").write_bytes(kfpkg.write(Package(())))
    assert code(FlashImage.load, tmp_path / "empty.kfpkg") == "E125"
    assert code(FlashImage.load, tmp_path) == "E510"
    assert code(FlashImage.load, tmp_path / "no") == "E510"
    for data in (b"", b"hello", b"\x7fELF" + bytes(99), b"\x1c\0\0\0TFL3" + bytes(99)):
        (tmp_path / "x.bin").write_bytes(data)
        assert code(FlashImage.load, tmp_path / "x.bin") == "E125"
    assert file_parts("notes.txt", b"hello", 0xA00000) == [Part("notes.txt", 0xA00000, b"hello")]
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "flash-list.json").write_text('{"files": [{"address": 0, "bin": "../x.bin"}]}')
    assert code(FlashImage.load, tmp_path / "sub") == "E122"


# -- placing ----------------------------------------------------------------------------------------------------------
SPANS = st.builds(lambda a, n: Part(f"{a}", a, bytes(n)), st.integers(0, 0xD00000), st.integers(0, 200_000))


@given(st.lists(SPANS, max_size=6), st.integers(1, 0x300000))
def test_free_places_are_free_and_the_first(parts: list[Part], size: int) -> None:
    at = free_address(parts, size)
    assert at % BLOCK_BYTES == 0
    assert 0x300000 <= at <= FILE_SYSTEM_ADDRESS - size
    new = Part("new", at, bytes(size))
    assert not [o for o in overlaps([*parts, new]) if "new" in (o.first, o.second)]
    for earlier in range(0x300000, at, BLOCK_BYTES):
        assert any(p.address < earlier + size and p.end > earlier and p.size for p in parts)


def test_no_free_place() -> None:
    assert code(free_address, [Part("big", 0x300000, bytes(0x900000))], 0x200000) == "E320"


@given(st.lists(st.builds(lambda a, n: Part(f"{a}", a, bytes(n)), st.integers(0, 300), st.integers(0, 99)), max_size=5))
def test_overlaps_are_what_two_writes_share(parts: list[Part]) -> None:
    used: dict[int, int] = {}
    for p in parts:
        for address in range(p.address, p.end):
            used[address] = used.get(address, 0) + 1
    shared = any(n > 1 for n in used.values())
    assert bool(overlaps(parts)) == shared
    if shared:
        assert code(check_apart, parts) == "E321"
    else:
        check_apart(parts)


def test_warnings() -> None:
    assert "file system" in next(iter(warnings([Part("m", FILE_SYSTEM_ADDRESS - 1, b"xx")])))
    assert "where a MaixPy firmware of more than 2048 KiB" in next(iter(warnings([Part("m", 0x200000, b"xx")])))
    assert list(warnings([Part("fw", 0, b"x", True), Part("m", 0x200000, b"xx")])) == []
    assert list(warnings([Part("m", 0x300000, b"xx"), Part("n", FILE_SYSTEM_ADDRESS, b"")])) == []


def test_byteswap_of_a_part_is_what_load_flash_reads() -> None:
    assert byteswap(byteswap(V3)) == V3
