"""Real flash packages: they open, give the bytes that zipfile gives, and the swapped model is the swapped model."""

import zipfile
from hashlib import sha256
from pathlib import Path

import pytest

from openkpu.flash import kfpkg
from openkpu.flash.image import FlashImage
from openkpu.flash.pack import Request, describe, plan
from openkpu.kmodel.detect import Kind, byteswap

pytestmark = pytest.mark.vendor

EXPECTED = {
    "face_model_at_0x300000.kfpkg": [("facedetect.kmodel", 0x300000, False, Kind.V3)],
    "face_model_be_at_0x600000.kfpkg": [("facedetect_be.kmodel", 0x600000, False, Kind.V3_SWAPPED)],
    "nncase02_yolo20.kfpkg": [
        ("kpu_20classes_example.bin", 0, True, Kind.UNKNOWN),
        ("yolo.kmodel", 0xA00000, False, Kind.V4),
    ],
    "sdkdemo_face_detect.kfpkg": [
        ("face_detect.bin", 0, True, Kind.UNKNOWN),
        ("detect.kmodel", 0xA00000, False, Kind.V3),
    ],
}


@pytest.mark.parametrize("name", EXPECTED)
def test_real_packages(vendor: Path, name: str, tmp_path: Path) -> None:
    file = vendor / "kfpkg" / name
    package = kfpkg.read(file.read_bytes())
    placed = describe(package).placed
    assert [(p.part.name, p.part.address, p.part.sha256_prefix, p.kind.kind) for p in placed] == EXPECTED[name]
    with zipfile.ZipFile(file) as archive:
        for p in package.parts:
            assert sha256(p.data).digest() == sha256(archive.read(p.name)).digest()
    image = FlashImage.load(file)
    for p in package.parts:
        assert image.read(p.address, p.size) == p.stored
    if package.parts[0].sha256_prefix:
        assert image.firmware is not None
        assert image.firmware.intact
    (tmp_path / "again.kfpkg").write_bytes(kfpkg.write(package))
    assert FlashImage.load(tmp_path / "again.kfpkg").to_bytes() == image.to_bytes()


def test_the_swapped_model_is_what_pack_makes(vendor: Path, tmp_path: Path) -> None:
    plain, swapped = (
        kfpkg.read((vendor / "kfpkg" / f"face_model{name}.kfpkg").read_bytes()).parts[0].data
        for name in ("_at_0x300000", "_be_at_0x600000")
    )
    assert byteswap(plain) == swapped
    (tmp_path / "facedetect.kmodel").write_bytes(plain)
    (part,) = plan([Request(tmp_path / "facedetect.kmodel", 0x600000, big_endian=True)]).package.parts
    assert (part.name, part.data) == ("facedetect_be.kmodel", swapped)
