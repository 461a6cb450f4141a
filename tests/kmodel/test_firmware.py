"""What a compiler needs to know of each firmware."""

import pytest

from openkpu.errors import UnsupportedError
from openkpu.k210 import MAIN_RAM_BYTES
from openkpu.kmodel.detect import FIRMWARE_V3, FIRMWARE_V4
from openkpu.kmodel.firmware import FIRMWARE, choose_version, find


def test_the_documented_limits_come_out():
    # the documentation says about 4 MB with camera and display for the minimum build, and 2 MB for the full one
    assert find("maixpy-min").free == 4_404_144
    assert find("maixpy").free == 2_096_000
    assert find("sdk").free == MAIN_RAM_BYTES


def test_every_maixpy_gets_v3():
    for name in ("maixpy", "maixpy-min", "maixpy-v4", "canmv", "sdk"):
        assert choose_version(find(name), None) == 3
        assert find(name).why


def test_a_version_that_the_firmware_does_not_load_names_those_that_do():
    assert choose_version(find("maixpy-v4"), "v4") == 4
    assert choose_version(find("sdk"), "v5") == 5
    with pytest.raises(UnsupportedError, match="E203") as caught:
        choose_version(find("maixpy-min"), "v4")
    assert "maixpy, maixpy-v4, canmv, sdk" in caught.value.why
    with pytest.raises(UnsupportedError, match="E203"):
        choose_version(find("canmv"), "v5")


def test_unknown_firmware():
    with pytest.raises(UnsupportedError, match="E204") as caught:
        find("arduino")
    assert "maixpy-min" in caught.value.why


def test_the_table_agrees_with_what_detect_says():
    loads = {3: {f.name for f in FIRMWARE_V3 if f.loads}, 4: {f.name for f in FIRMWARE_V4 if f.loads}}
    names = {"maixpy": "MaixPy builds with V4", "maixpy-min": "MaixPy builds without V4", "canmv": "CanMV 1.0.5-1.0.7"}
    for name, title in names.items():
        for version in (3, 4):
            assert (version in FIRMWARE[name].versions) == (title in loads[version])


def test_need_counts_file_alignment_and_scratch():
    assert find("maixpy").need(1000, 500) == 1756
