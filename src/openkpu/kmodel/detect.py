"""Which kind of file is this, and which firmware loads it?

The first little-endian word decides, as in the firmware itself; a file's extension plays no role. Sources: the word
values from the MaixPy firmware's loader; the table of runtimes from the released MaixPy, CanMV and SDK trees.
"""

from __future__ import annotations

import io
import json
import struct
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

MAGIC: Final = 0x4B4D444C  # the bytes "LDMK" (nncase's 'KMDL' as a C multi-character constant)
_ENCRYPTED_V3: Final = 10003
_ENCRYPTED_V4: Final = 0x534D444C
_EMODEL: Final = 0x454D444C


class Kind(StrEnum):
    """What a file is."""

    V1 = "kmodel-v1"
    V3 = "kmodel-v3"
    V3_SWAPPED = "kmodel-v3-swapped"
    V4 = "kmodel-v4"
    V4_SWAPPED = "kmodel-v4-swapped"
    V5 = "kmodel-v5"
    OTHER_KMODEL = "kmodel-other"
    ENCRYPTED = "encrypted"
    KFPKG = "kfpkg"
    ONNX = "onnx"
    TFLITE = "tflite"
    ZIP = "zip"
    TEXT = "text"
    EMPTY = "empty"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Firmware:
    """Whether one firmware or runtime loads the file, and what it says or needs."""

    name: str
    loads: bool
    note: str = ""


@dataclass(frozen=True, slots=True)
class FileKind:
    """The answer of ``detect``."""

    kind: Kind
    version: int | None
    """kmodel version, where the file is a kmodel."""
    title: str
    """One line for people."""
    firmware: tuple[Firmware, ...]
    """One row for each known firmware; empty where the file is nothing that a firmware loads."""
    advice: str
    """What to do with the file."""

    @property
    def loads_on(self) -> tuple[str, ...]:
        """Names of the firmwares that load the file."""
        return tuple(f.name for f in self.firmware if f.loads)


_MAIXPY: Final = "MaixPy builds without V4"
_MAIXPY4: Final = "MaixPy builds with V4"
_CANMV: Final = "CanMV 1.0.5-1.0.7"
_CANMV5: Final = "CanMV, branch feat/kpu"
_SDK: Final = "kendryte-standalone-sdk"


def _table(maixpy: str, maixpy4: str, canmv: str, canmv5: str, sdk: str) -> tuple[Firmware, ...]:
    """Build a row a firmware from texts that start with "yes" or "no"."""
    rows = zip((_MAIXPY, _MAIXPY4, _CANMV, _CANMV5, _SDK), (maixpy, maixpy4, canmv, canmv5, sdk), strict=True)
    return tuple(Firmware(name, text.startswith("yes"), text.partition(": ")[2]) for name, text in rows)


FIRMWARE_V1: Final = _table(
    "no: error 2002", "no: error 2002", "no: error 2002", "no", "yes: kpu_model_load_from_buffer, until it was dropped"
)
FIRMWARE_V3: Final = _table("yes", "yes", "yes", "yes", "yes: V0.5.4 (March 2019) and later")
FIRMWARE_V4: Final = _table(
    "no: error 2002, only support kmodel V3", "yes", "yes", "yes", "yes: V0.5.7 (July 2020) and later"
)
FIRMWARE_V5: Final = _table(
    "no: error 2002 or 2015",
    "no: error 2015, or the board stops with a load fault",
    "no",
    "yes: about the operators of nncase 1.1",
    "yes: branch develop only, with the runtime of the same commit as the compiler",
)
_SWAPPED: Final = _table("yes: kpu.load_flash only", "yes: kpu.load_flash only", "no: not with kpu.load", "no", "no")
_SMODEL: Final = _table(
    "yes: only on the board it was encrypted for", "yes: only on the board it was encrypted for", "no", "no", "no"
)
_NONE: Final = _table("no", "no", "no", "no", "no")


def byteswap(data: bytes) -> bytes:
    """Reverse the four bytes of every 32-bit word (MaixPy's ``model_le2be.py``); its own inverse.

    A length that is no multiple of 4 is padded with the character ``0`` first, as that script does.
    """
    data = data + b"0" * (-len(data) % 4)
    out = bytearray(len(data))
    for i in range(4):
        out[i::4] = data[3 - i :: 4]
    return bytes(out)


def _word(data: bytes, offset: int) -> int:
    """Little-endian u32, or -1 past the end."""
    return int(struct.unpack_from("<I", data, offset)[0]) if len(data) >= offset + 4 else -1


def _plausible_v3(data: bytes) -> bool:
    """Whether data whose first word is 3 can be a V3 kmodel: arch 0 and tables that fit (or a cut header)."""
    arch, layers, outputs = _word(data, 8), _word(data, 12), _word(data, 24)
    return arch <= 0 and layers <= len(data) // 8 + 4 and outputs <= len(data) // 8 + 4


def _is_kfpkg(data: bytes) -> bool | None:
    """Whether the bytes are a kfpkg; ``None`` for another or a damaged zip."""
    import zipfile  # here, because it takes a while and few files are zips

    try:
        with zipfile.ZipFile(io.BytesIO(data)) as z:
            return "flash-list.json" in z.namelist() or None
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError, struct.error):
        return None


_ONNX_FIELDS: Final = (0x12, 0x1A, 0x22, 0x28, 0x32, 0x3A, 0x42)  # protobuf tags of ModelProto's fields 2..8


def _looks_like_onnx(data: bytes) -> bool:
    """ONNX is protobuf: field 1 (ir_version, a small varint), then another field of ModelProto."""
    return len(data) > 4 and data[0] == 0x08 and data[1] < 0x20 and data[2] in _ONNX_FIELDS


def _looks_like_json_or_text(data: bytes) -> bool:
    head = data[:512]
    try:
        head.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < len(head) - 3:  # not merely a character cut off at the end
            return False
    return any(b < 128 for b in head) and all(b >= 32 or b in (9, 10, 13) for b in head)


def _v4_or_later(data: bytes) -> FileKind:
    version = _word(data, 4)
    if version == 4:
        return FileKind(
            Kind.V4,
            4,
            "kmodel V4 (nncase 0.2)",
            FIRMWARE_V4,
            "Load it on a MaixPy build with V4 (the full build or one of the kmodel_v4 ones), on CanMV or with the "
            "SDK; for the other MaixPy builds compile the source model to V3.",
        )
    if version == 5:
        return FileKind(
            Kind.V5,
            5,
            "kmodel V5 (nncase 1.x)",
            FIRMWARE_V5,
            "No released MaixPy or CanMV firmware loads V5: compile the source model to V3 (or V4).",
        )
    if version in (6, 7):
        return FileKind(
            Kind.OTHER_KMODEL,
            version,
            f"kmodel V{version} (nncase 2.x, for the K230)",
            _NONE,
            "This file is for another chip, the K230: compile the source model to V3 for the K210.",
        )
    shown = "missing (the file is cut off)" if version < 0 else str(version)
    return FileKind(
        Kind.OTHER_KMODEL,
        None if version < 0 else version,
        f"kmodel of unknown version {shown}",
        _NONE,
        "The header is damaged or the version is unknown: get the file again or compile the source model.",
    )


def _encrypted(version: int | None, title: str) -> FileKind:
    return FileKind(
        Kind.ENCRYPTED,
        version,
        title,
        _SMODEL,
        "Encrypted models are bound to one board and cannot be read here: ask for the plain kmodel.",
    )


def detect(data: bytes) -> FileKind:
    """Say what ``data`` (a whole file) is. Never raises."""
    word = _word(data, 0)
    if not data:
        return FileKind(Kind.EMPTY, None, "empty file", (), "The file has no bytes: copy or download it again.")
    if word == 1:
        return FileKind(
            Kind.V1,
            1,
            "kmodel V1 (first Kendryte tools, 2018)",
            FIRMWARE_V1,
            "V1 is not supported: compile the source model to V3.",
        )
    if word == 3:
        return FileKind(
            Kind.V3,
            3,
            "kmodel V3",
            FIRMWARE_V3,
            "Every firmware loads it: kpu.load of a path or of a flash address.",
        )
    if word == MAGIC:
        return _v4_or_later(data)
    if word == _ENCRYPTED_V3:
        return _encrypted(3, "encrypted kmodel V3 (.smodel)")
    if word == _ENCRYPTED_V4:
        return _encrypted(4, "encrypted kmodel V4 (.smodel)")
    if word == _EMODEL:
        return _encrypted(None, "encrypted model (.emodel)")
    if data[:4] == b"\0\0\0\x03" and _plausible_v3(byteswap(data[: len(data) & ~3])):
        return FileKind(
            Kind.V3_SWAPPED,
            3,
            "kmodel V3 with every 32-bit word byte-swapped (for kpu.load_flash)",
            _SWAPPED,
            "Flash it and use kpu.load_flash; kpu.load needs the words swapped back.",
        )
    if data[:4] == b"KMDL":
        return FileKind(
            Kind.V4_SWAPPED,
            None,
            "kmodel V4 or later with every 32-bit word byte-swapped",
            _NONE,
            "kpu.load_flash streams V3 only: swap the words back, or compile the source model to V3.",
        )
    if data[:4] == b"PK\x03\x04" or data[:4] == b"PK\x05\x06":
        if _is_kfpkg(data):
            return FileKind(
                Kind.KFPKG,
                None,
                "kfpkg (flash package: a zip with flash-list.json)",
                (),
                "kpu unpack --list shows what is inside, kpu unpack takes it apart, kpu flash writes it.",
            )
        return FileKind(Kind.ZIP, None, "zip file without flash-list.json", (), "Unpack it and use the kmodel inside.")
    if data[4:8] == b"TFL3":
        return FileKind(Kind.TFLITE, None, "TensorFlow Lite model", (), "Compile it to a kmodel first.")
    if _looks_like_onnx(data):
        return FileKind(
            Kind.ONNX, None, "ONNX model (by its first bytes)", (), "Compile it to a kmodel first: kpu compile."
        )
    if _looks_like_json_or_text(data):
        what = "JSON" if _is_json(data) else "text (perhaps a web page or a Git LFS pointer instead of the model)"
        return FileKind(Kind.TEXT, None, what, (), "This is not a model: download the real file.")
    title = f"unknown file (first word 0x{word:08x})" if word >= 0 else "file of less than 4 bytes"
    return FileKind(
        Kind.UNKNOWN, None, title, (), "This is not a kmodel: check the path, the flash address or the download."
    )


def _is_json(data: bytes) -> bool:
    if len(data) > 1 << 20 or data.lstrip()[:1] not in (b"{", b"["):
        return False
    try:
        json.loads(data)
    except (ValueError, RecursionError):
        return False
    return True
