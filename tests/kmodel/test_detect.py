from __future__ import annotations

import io
import struct
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openkpu.kmodel.detect import Kind, byteswap, detect


def words(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}I", *values)


def zipped(name: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as z:
        z.writestr(name, "{}")
    return buffer.getvalue()


V3 = words(3, 1, 0, 2, 0, 56, 1) + bytes(64)
TABLE = [
    (b"", Kind.EMPTY, None),
    (words(1, 1, 23, 0), Kind.V1, 1),
    (V3, Kind.V3, 3),
    (byteswap(V3), Kind.V3_SWAPPED, 3),
    (b"LDMK" + words(4, 0, 0), Kind.V4, 4),
    (b"LDMK" + words(5, 32, 0), Kind.V5, 5),
    (b"LDMK" + words(6, 32, 0), Kind.OTHER_KMODEL, 6),
    (b"LDMK" + words(7, 32, 0), Kind.OTHER_KMODEL, 7),
    (b"LDMK" + words(99), Kind.OTHER_KMODEL, 99),
    (b"LDMK", Kind.OTHER_KMODEL, None),
    (b"KMDL" + words(4), Kind.V4_SWAPPED, None),
    (words(10003, 1024), Kind.ENCRYPTED, 3),
    (b"LDMS" + bytes(8), Kind.ENCRYPTED, 4),
    (b"LDME" + bytes(8), Kind.ENCRYPTED, None),
    (zipped("flash-list.json"), Kind.KFPKG, None),
    (zipped("model.bin"), Kind.ZIP, None),
    (b"PK\x03\x04broken", Kind.ZIP, None),
    (b"\x20\0\0\0TFL3" + bytes(16), Kind.TFLITE, None),
    (b"\x08\x07\x12\x07pytorch\x1a\x05" + bytes(16), Kind.ONNX, None),
    (b"version https://git-lfs.github.com/spec/v1\n", Kind.TEXT, None),
    (b'{"a": 1}', Kind.TEXT, None),
    (b"\xff\xfe", Kind.UNKNOWN, None),
    (bytes(64), Kind.UNKNOWN, None),
    (words(3, 1, 1, 0xFFFFFFFF, 0, 0, 0), Kind.V3, 3),
    (byteswap(words(3, 1, 1, 0xFFFFFFFF, 0, 0, 0)), Kind.UNKNOWN, None),
]


@pytest.mark.parametrize(
    ("data", "kind", "version"), TABLE, ids=[f"{i}-{k.value}" for i, (_, k, _) in enumerate(TABLE)]
)
def test_table(data: bytes, kind: Kind, version: int | None) -> None:
    found = detect(data)
    assert (found.kind, found.version) == (kind, version)
    assert found.title
    assert found.advice


def test_which_firmware_loads_what() -> None:
    assert len(detect(V3).loads_on) == 5
    assert detect(b"LDMK" + words(4)).loads_on == (
        "MaixPy builds with V4",
        "CanMV 1.0.5-1.0.7",
        "CanMV, branch feat/kpu",
        "kendryte-standalone-sdk",
    )
    assert "MaixPy builds without V4" not in detect(b"LDMK" + words(5)).loads_on
    assert detect(b"LDMK" + words(7)).loads_on == ()
    assert detect(b"text").firmware == ()


@given(st.binary(max_size=200))
def test_never_raises(data: bytes) -> None:
    for head in (b"", b"PK\x03\x04", b"LDMK", words(3)):
        assert isinstance(detect(head + data).kind, Kind)


@given(st.binary(max_size=64))
def test_byteswap_is_its_own_inverse(data: bytes) -> None:
    padded = data + b"0" * (-len(data) % 4)
    assert byteswap(byteswap(data)) == padded
    assert byteswap(b"\x01\x02\x03\x04") == b"\x04\x03\x02\x01"
