"""The display as PNG and GIF."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from openkpu.board import recorder
from openkpu.errors import BoardError, SetupError


def shot(value: int) -> np.ndarray:
    return np.full((24, 32, 3), value, np.uint8)


def test_png_is_the_last_frame(tmp_path: Path) -> None:
    path = tmp_path / "d.png"
    r = recorder.recorder_for(str(path))
    assert r is not None
    for i in (1, 2, 3):
        r.frame(shot(i * 50), i, i * 1e5)
    r.close()
    assert (np.asarray(Image.open(path)) == 150).all()


def test_gif_has_all_frames_and_their_times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder, "GIF_FRAMES", 3)
    path = tmp_path / "d.gif"
    r = recorder.recorder_for(str(path))
    assert r is not None
    for number, value, us in ((1, 10, 0), (1, 20, 1e3), (2, 100, 201e3), (3, 200, 301e3), (4, 250, 400e3)):
        r.frame(shot(value), number, us)
    r.close()
    with Image.open(path) as gif:
        assert gif.n_frames == 3
        seen = []
        for i in range(3):
            gif.seek(i)
            seen.append((int(np.asarray(gif.convert("RGB"))[0, 0, 0]), gif.info["duration"]))
    assert [d for _, d in seen] == [200, 100, 100]
    assert [abs(v - w) < 4 for (v, _), w in zip(seen, (20, 100, 200), strict=True)] == [True] * 3


def test_no_frames_no_file(tmp_path: Path) -> None:
    for name in ("d.gif", "d.png"):
        r = recorder.recorder_for(str(tmp_path / name))
        assert r is not None
        r.close()
    assert list(tmp_path.iterdir()) == []
    assert recorder.recorder_for("none") is None


@pytest.mark.parametrize("display", ["out.bmp", "elsewhere/x/out.gif", "windows"])
def test_where_it_cannot_go(display: str) -> None:
    with pytest.raises(BoardError) as caught:
        recorder.recorder_for(display)
    assert caught.value.code == "E611"


def test_a_window_needs_a_desktop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tkinter", None)
    with pytest.raises(SetupError, match="a window cannot be opened"):
        recorder.recorder_for("window")
