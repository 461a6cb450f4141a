"""Where pictures come from, and how they are made to fit."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from openkpu.board.camera import Camera, Live, fit
from openkpu.errors import BoardError, SetupError


def picture(seed: int, h: int = 24, w: int = 32) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (h, w, 3), np.uint8)


def save(path: Path, seed: int) -> Path:
    Image.fromarray(picture(seed)).save(path)
    return path


def test_a_folder_in_turn(tmp_path: Path) -> None:
    for i, name in enumerate(("b.png", "a.bmp", "c.png")):
        save(tmp_path / name, i)
    (tmp_path / "notes.txt").write_text("x")
    camera = Camera(str(tmp_path))
    assert [int(camera.frame(32, 24).sum()) for _ in range(4)] == [int(picture(i).sum()) for i in (1, 0, 2, 1)]


def test_one_picture_a_list_and_the_pattern(tmp_path: Path) -> None:
    a, b = save(tmp_path / "a.png", 1), save(tmp_path / "b.png", 2)
    assert (Camera(str(a)).frame(32, 24) == picture(1)).all()
    both = Camera([str(b), str(a)])
    assert [(both.frame(32, 24) == picture(i)).all() for i in (2, 1, 2)] == [True] * 3
    bars = Camera(None).frame(320, 240)
    assert len(np.unique(bars[10], axis=0)) == 8


def test_an_animated_gif(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (32, 24), c) for c in ("red", "lime", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:], duration=50)
    camera = Camera(str(tmp_path / "a.gif"))
    assert [tuple(camera.frame(32, 24)[0, 0]) for _ in range(4)] == [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 0, 0)]


def test_fitting_covers_the_frame_and_cuts_the_middle() -> None:
    p = picture(3)
    assert fit(p, 32, 24) is p
    wide = np.zeros((10, 40, 3), np.uint8)
    wide[:, 15:25] = 200
    assert (fit(wide, 10, 10) == 200).all()
    tall = np.zeros((40, 10, 3), np.uint8)
    tall[14:26] = 100
    assert (fit(tall, 20, 20)[2:18] == 100).all()
    assert fit(picture(4, 7, 1000), 320, 240).shape == (240, 320, 3)


def test_live_pictures() -> None:
    camera = Camera("live")
    assert isinstance(camera.source, Live)
    camera.source.put(picture(7))
    assert (camera.frame(32, 24) == picture(7)).all()
    camera.source.put(picture(8))
    assert (camera.frame(32, 24) == picture(8)).all()


@pytest.mark.parametrize("name", ["none.png", "text.png", "cut.png", "empty"])
def test_what_is_no_picture(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "cut.png").write_bytes(save(tmp_path / "a.png", 1).read_bytes()[:400])
    with pytest.raises(BoardError) as caught:
        Camera(str(tmp_path / name)).frame(32, 24)
    assert caught.value.code == "E610"


class Capture:
    """OpenCV's VideoCapture of a video with two frames."""

    def __init__(self, what: object) -> None:
        self.left = 0 if what == 9 else 2

    def isOpened(self) -> bool:  # noqa: N802
        return self.left > 0

    def read(self) -> tuple[bool, np.ndarray | None]:
        self.left -= 1
        return (True, np.full((24, 32, 3), (3, 2, self.left), np.uint8)) if self.left >= 0 else (False, None)

    def release(self) -> None:
        pass


def test_video(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", types.SimpleNamespace(VideoCapture=Capture))
    (tmp_path / "v.mp4").write_bytes(b"x")
    camera = Camera(str(tmp_path / "v.mp4"))
    assert [tuple(camera.frame(32, 24)[0, 0]) for _ in range(3)] == [(1, 2, 3), (0, 2, 3), (1, 2, 3)], "RGB, and again"
    device = Camera("device:0")
    device.frame(32, 24)
    device.frame(32, 24)
    with pytest.raises(BoardError):
        device.frame(32, 24)
    with pytest.raises(BoardError, match="device 9"):
        Camera("device:9")


def test_video_needs_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(SetupError, match=r"openkpu\[video\]"):
        Camera("device:0")
