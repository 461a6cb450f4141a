"""The memory bill: the documented limits come out of it."""

from __future__ import annotations

import board_bench as bb
import pytest

import openkpu
from openkpu.board import firmware
from openkpu.board.budget import ModelCost, bill, block
from openkpu.errors import BoardError


def about(value: int, documented: int) -> bool:
    """Equal but for the allocator's headers."""
    return 0 <= documented - value < 200


@pytest.mark.parametrize(
    ("name", "camera", "left"),
    [
        ("minimum", False, 4_941_744),
        ("minimum", True, 4_404_144),
        ("full-v0.6.2", False, 2_633_600),
        ("full-v0.6.2", True, 2_096_000),
    ],
)
def test_documented_limits(name: str, camera: bool, left: int) -> None:
    made = bill(name, camera=camera, lcd=camera)
    assert made.fits
    assert about(made.left, left)


def test_the_board_has_what_the_bill_leaves(tmp_path: object) -> None:
    made = bb.Bench(tmp_path, firmware="full")  # type: ignore[arg-type]
    made.run("lcd.init(); sensor.reset(); sensor.set_framesize(sensor.QVGA)")
    assert made.device.system.free == bill("full").left
    assert made.device.system.free // 1024 == 2052 - 1, "2052 KB, less the headers of the blocks"


def test_a_model() -> None:
    model = openkpu.load(bb.image_model())
    made = bill("minimum", model, camera=False, lcd=False)
    size, main = model.memory.file_bytes, model.memory.main_bytes
    assert bill("minimum", camera=False, lcd=False).left - made.left == (block(193) + block(size + 256) + block(main))
    assert "model: the file" in "\n".join(made.text())


def test_what_does_not_fit_and_what_would_help() -> None:
    cost = ModelCost(3, 4_200_000, 50_000, 400_000)
    made = bill("full", cost, dual_buff=True)
    assert not made.fits
    one = bill("full", cost)
    assert "firmware minimum:" in next(a for a in one.advice if "(enough)" in a)
    assert made.text()[-1].startswith("missing")
    advice = "\n".join(made.advice)
    for words in ("gc_heap_size(262144)", "firmware minimum: frees", "without dual_buff", "load_flash", "B smaller"):
        assert words in advice
    assert bill("minimum", cost, gc_heap=256 * 1024).fits
    data = made.as_dict()
    assert (data["fits"], data["left"], data["total"]) == (False, made.left, made.total)
    v4 = bill("full", ModelCost(4, 5_000_000, 50_000))
    assert not any("firmware minimum:" in a for a in v4.advice), "minimum does not load V4"
    assert not any("load_flash" in a for a in v4.advice)


def test_streaming_needs_two_layers_only() -> None:
    whole, single, dual = (
        bill("minimum", ModelCost(3, 5_600_000, 60_000, 300_000, s), camera=False).left  # type: ignore[arg-type]
        for s in ("", "single", "dual")
    )
    assert whole < 0 < dual < single
    assert single - dual == block(300_256)


def test_profiles() -> None:
    assert firmware.find("maixpy_k210") is firmware.PROFILES["full"]
    assert firmware.find("minimum:900000").footprint == 900_000
    for name in ("none", "minimum:x", "minimum:0", "minimum:99999999"):
        with pytest.raises(BoardError) as caught:
            firmware.find(name)
        assert caught.value.code == "E600"
