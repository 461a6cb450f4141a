"""Flash packages: round trips, what stock tools read, and packages that must be refused."""

from __future__ import annotations

import io
import json
import re
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openkpu.errors import FileFormatError, OpenKPUError
from openkpu.flash import flash_list, kfpkg
from openkpu.flash.kfpkg import Package
from openkpu.flash.layout import FLASH_BYTES, Part

NAMES = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,20}", fullmatch=True).filter(lambda n: n != flash_list.NAME)
PARTS = st.builds(
    Part, NAMES, st.integers(0, FLASH_BYTES - 4096), st.binary(max_size=3000), st.booleans(), st.booleans()
)
PACKAGES = st.builds(
    lambda parts, extras: Package(tuple(parts), {k: v for k, v in extras.items() if k not in {p.name for p in parts}}),
    st.lists(PARTS, max_size=5, unique_by=lambda p: p.name),
    st.dictionaries(NAMES, st.binary(max_size=50), max_size=2),
)


def make(table: str | bytes, *, mode: int = zipfile.ZIP_DEFLATED, **members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", mode) as archive:
        archive.writestr(flash_list.NAME, table)
        for name, data in members.items():
            archive.writestr(name.replace("__", "."), data)
    return buffer.getvalue()


def refused(data: bytes) -> OpenKPUError:
    with pytest.raises(OpenKPUError) as error:
        kfpkg.read(data)
    assert error.value.fix
    return error.value


def as_kflash_reads(data: bytes) -> list[tuple[int, bytes, bool]]:
    """The stock tool's way: quotes around whatever follows the address up to the line's last comma, then JSON."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        text = archive.read("flash-list.json").decode("ascii")
        quoted = re.sub(r'"address": (.*),', r'"address": "\1",', text)
        files = json.loads(quoted)["files"]
        return [(int(f["address"], 0), archive.read(f["bin"]), f["sha256Prefix"]) for f in files]


# -- writing ----------------------------------------------------------------------------------------------------------
@settings(max_examples=40)
@given(PACKAGES)
def test_round_trip(package: Package) -> None:
    data = kfpkg.write(package)
    assert kfpkg.read(data) == package
    assert kfpkg.write(kfpkg.read(data)) == data
    assert as_kflash_reads(data) == [(p.address, p.data, p.sha256_prefix) for p in package.parts]


def test_the_same_content_gives_the_same_bytes_at_any_time(monkeypatch: pytest.MonkeyPatch) -> None:
    package = Package((Part("m.kmodel", 0x300000, b"abc" * 100),), {"readme.txt": b"hello"})
    first = kfpkg.write(package)
    monkeypatch.setattr("time.time", lambda: 1.9e9)
    assert kfpkg.write(package) == first
    with zipfile.ZipFile(io.BytesIO(first)) as archive:
        assert archive.namelist() == ["flash-list.json", "m.kmodel", "readme.txt"]


@pytest.mark.parametrize("name", ["", "../x", "a/b", "/etc/passwd", "c:x", ".hidden", "flash-list.json", "ä b"])
def test_names_that_are_not_written(name: str) -> None:
    with pytest.raises(FileFormatError, match="E122"):
        kfpkg.write(Package((Part(name, 0, b"x"),)))


def test_a_name_twice_or_a_part_outside_is_not_written() -> None:
    with pytest.raises(FileFormatError, match="E122"):
        kfpkg.write(Package((Part("a", 0, b"x"), Part("a", 4096, b"y"))))
    with pytest.raises(OpenKPUError, match="E322"):
        kfpkg.write(Package((Part("a", FLASH_BYTES - 2, b"xyz"),)))


@given(st.text(max_size=30))
def test_safe_names(text: str) -> None:
    name = kfpkg.safe_name(text)
    assert name == kfpkg.safe_name(name)
    assert name
    assert not set('/\\:"*?<>| ') & set(name)


# -- the table --------------------------------------------------------------------------------------------------------
def entry(table: str) -> flash_list.Entry:
    return flash_list.parse(table.encode())[0]


@pytest.mark.parametrize(
    "address", ["3145728", "0x300000", "0X00300000", '"0x300000"', '"3145728"', " 0x300000 ", "0003145728"]
)
def test_addresses_in_the_wild(address: str) -> None:
    table = '{"version": "0.1.0", "files": [{"address": ' + address + ', "bin": "m.kmodel", "sha256Prefix": false}]}'
    assert entry(table) == flash_list.Entry(0x300000, "m.kmodel")


def test_comments_and_commas_too_many() -> None:
    table = """\ufeff{
      // the model
      "version": "0.1.0", /* old */
      "files": [
        { "bin": "a,]//0x10.bin", "address": 0x00A00000, "sha256Prefix": true, "reverse4Bytes": true, }, // last
      ],
    }"""
    assert flash_list.parse(table.encode()) == [flash_list.Entry(0xA00000, "a,]//0x10.bin", True, True)]


@pytest.mark.parametrize(
    "table",
    [
        b"",
        b"[]",
        b"{}",
        b'{"files": 3}',
        b'{"files": [3]}',
        b'{"files": [{"address": 0}]}',
        b'{"files": [{"address": 0, "bin": ""}]}',
        b'{"files": [{"address": -1, "bin": "a"}]}',
        b'{"files": [{"address": 1.5, "bin": "a"}]}',
        b'{"files": [{"address": true, "bin": "a"}]}',
        b'{"files": [{"address": "here", "bin": "a"}]}',
        b'{"files": [{"bin": "a"}]}',
        b'{"files": [{"address": 0, "bin": "a", "sha256Prefix": 1}]}',
        b'{"files": [{"address": 0, "bin": "a", "reverse4Bytes": "no"}]}',
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"files": [' + b'{"address": 0, "bin": "a"},' * 1001 + b"]}",
        b" " * (flash_list.MAX_BYTES + 1),
    ],
)
def test_tables_that_are_refused(table: bytes) -> None:
    with pytest.raises(FileFormatError, match="E121") as error:
        flash_list.parse(table)
    assert error.value.why


@pytest.mark.parametrize(
    "table",
    [
        "{" + ",/**/" * 50_000 + "x",
        "{," + "/**/" * 100_000 + "x",
        "{" + ",/* " * 100_000,
        "{" + ",// " * 100_000,
        "{" + '"\\' * 100_000,
        "{" + ", " * 200_000 + "x",
        "{," + " " * 500_000 + "x",
        '{"files": [{"bin": "a", "address": 0x' + "f" * 100_000 + "}]}",
        '{"files": [{"bin": "a", "address": "0x' + "f" * 100_000 + '"}]}',
        '{"files": [{"bin": "a", "address": ' + "9" * 4000 + "}]}",
    ],
    ids=range(10),
)
def test_tables_made_to_take_long_are_refused_at_once(table: str) -> None:
    with pytest.raises(FileFormatError, match="E121"):
        flash_list.parse(table.encode())


@given(st.text(alphabet='{}[]",:0x12ab/*\n filesbnadr', max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        entries = flash_list.parse(text.encode())
    except FileFormatError:
        return
    assert isinstance(entries, list)


# -- packages that must be refused ------------------------------------------------------------------------------------
TABLE = '{"files": [{"address": 0, "bin": "a.bin", "sha256Prefix": false}]}'


@pytest.mark.parametrize("data", [b"", b"abc", b"PK\x03\x04", b"PK\x05\x06" + bytes(18), b"\x03\0\0\0" * 100])
def test_no_package(data: bytes) -> None:
    assert refused(data).code == "E120"


def test_a_zip_without_table() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("folder/flash-list.json", TABLE)
    error = refused(buffer.getvalue())
    assert (error.code, error.where) == ("E120", "folder/flash-list.json")


def test_a_missing_member() -> None:
    assert "other.bin" in refused(make(TABLE, other__bin=b"x")).why


@pytest.mark.parametrize("name", ["../a.bin", "/a.bin", "x/../../a.bin", "c:\\a.bin", "..\\a.bin", "a" * 201])
def test_names_that_leave_the_folder(name: str) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("flash-list.json", TABLE)
        archive.writestr(name, b"x")
    assert refused(buffer.getvalue()).code == "E122"


def test_a_name_twice() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("flash-list.json", TABLE)
        archive.writestr("a.bin", b"x")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("a.bin", b"y")
    assert refused(buffer.getvalue()).code == "E122"


def test_a_bomb() -> None:
    assert "16777216" in refused(make(TABLE, a__bin=bytes(FLASH_BYTES + 1))).why
    many = make(TABLE, a__bin=b"x", **{f"m{i}": bytes(FLASH_BYTES) for i in range(5)})
    assert len(many) < 200_000
    assert refused(many).code == "E122"


def test_a_bomb_that_lies_about_its_size() -> None:
    data = bytearray(make(TABLE, a__bin=bytes(100_000)))
    at = data.rindex(b"a.bin") - 46 + 24  # the uncompressed size in the central directory
    assert data[at : at + 4] == (100_000).to_bytes(4, "little")
    data[at : at + 4] = (100).to_bytes(4, "little")
    assert refused(bytes(data)).code in ("E122", "E124")


def test_damage() -> None:
    whole = make(TABLE, mode=zipfile.ZIP_STORED, a__bin=b"the content")
    broken = whole.replace(b"the content", b"the c0ntent")
    assert refused(broken).code == "E124"
    assert kfpkg.read(whole).parts[0].data == b"the content"


@given(st.integers(0, 400), st.integers(0, 255))
def test_any_changed_byte_is_harmless(at: int, value: int) -> None:
    data = bytearray(make(TABLE, a__bin=bytes(range(256))))
    data[at % len(data)] = value
    code = ""
    try:
        kfpkg.read(bytes(data))
    except OpenKPUError as error:
        code = error.code
    assert code in ("", "E120", "E121", "E122", "E123", "E124", "E322")


def test_a_password_and_an_unknown_compression() -> None:
    data = make(TABLE, a__bin=b"xyz" * 50)
    central = data.rindex(b"PK\x01\x02")
    locked = data[: central + 8] + b"\x01" + data[central + 9 :]
    assert "password" in refused(locked).why
    strange = data[: central + 10] + b"\x63" + data[central + 11 :]
    assert refused(strange).code == "E124"


def test_outside_the_flash() -> None:
    table = TABLE.replace('"address": 0', '"address": 0xFFFFFF')
    assert refused(make(table, a__bin=b"xx")).code == "E322"
    assert kfpkg.read(make(table, a__bin=b"x")).parts[0].end == FLASH_BYTES
    with_frame = table.replace("false", "true")
    assert refused(make(with_frame, a__bin=b"x")).code == "E322"


def test_windows_separators_and_extras() -> None:
    table = '{"files": [{"address": 0, "bin": "sub\\\\a.bin"}]}'
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("flash-list.json", table)
        archive.writestr("sub/", b"")
        archive.writestr("sub/a.bin", b"x")
        archive.writestr("licence.txt", b"free")
    package = kfpkg.read(buffer.getvalue())
    assert package == Package((Part("sub/a.bin", 0, b"x"),), {"licence.txt": b"free"})


def test_overlaps_are_named() -> None:
    package = Package((Part("a", 0, bytes(5000)), Part("b", 8192, bytes(10)), Part("c", 4000, bytes(10))))
    assert [str(o) for o in package.overlaps] == ["a and c share 10 bytes, 0x000fa0 to 0x000fa9"]


def test_unpack_and_flash_the_folder_again(tmp_path: Path) -> None:
    from openkpu.flash.image import FlashImage
    from openkpu.flash.unpack import extract

    package = Package((Part("fw.bin", 0, b"code" * 99, True), Part("m", 0x300000, b"data")), {"note": b"hi"})
    files = extract(package, tmp_path / "out")
    assert sorted(f.name for f in files) == ["flash-list.json", "fw.bin", "m", "note"]
    assert (tmp_path / "out" / "fw.bin").read_bytes() == b"code" * 99
    (tmp_path / "p.kfpkg").write_bytes(kfpkg.write(package))
    assert FlashImage.load(tmp_path / "out").to_bytes() == FlashImage.load(tmp_path / "p.kfpkg").to_bytes()
    extract(package, tmp_path / "out")  # the same again is no conflict
    (tmp_path / "out" / "m").write_bytes(b"mine")
    with pytest.raises(OpenKPUError, match="E511"):
        extract(package, tmp_path / "out")
    assert (tmp_path / "out" / "m").read_bytes() == b"mine"
    extract(package, tmp_path / "out", force=True)
    assert (tmp_path / "out" / "m").read_bytes() == b"data"
    with pytest.raises(OpenKPUError, match="E511"):
        extract(package, tmp_path / "out" / "m" / "sub")
