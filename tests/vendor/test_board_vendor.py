"""Public models on the virtual board, by scripts in the style of the public ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import openkpu
from openkpu.analyze import yolo
from openkpu.board.camera import fit
from openkpu.board.result import Result
from openkpu.flash.image import FlashImage

pytestmark = pytest.mark.vendor

FACES = (1.889, 2.5245, 2.9465, 3.94056, 3.99987, 5.3658, 5.155437, 6.92275, 6.718375, 9.01025)
SCRIPT = """
import sensor, lcd, image
import KPU as kpu
lcd.init()
sensor.reset()
sensor.set_pixformat(sensor.RGB565)
sensor.set_framesize(sensor.QVGA)
sensor.run(1)
task = {load}
kpu.init_yolo2(task, {threshold}, {nms}, 5, {anchors})
while True:
    img = sensor.snapshot()
    t = time.ticks_ms()
    found = kpu.run_yolo2(task, img)
    print("ms", time.ticks_ms() - t)
    for o in found or ():
        print(o.classid(), *o.rect(), o.value())
        img.draw_rectangle(o.rect())
    lcd.display(img)
"""


def picture(folder: Path, golden: Path, tag: str) -> Path:
    """The golden data's input as the camera's picture."""
    pixels = np.load(golden)[f"{tag}_input"].transpose(1, 2, 0)
    Image.fromarray(np.ascontiguousarray(pixels)).save(folder / "picture.png")
    return folder / "picture.png"


def rows(text: str) -> list[list[float]]:
    return [[float(v) for v in line.split()] for line in text.splitlines() if line[:1].isdigit()]


def run(folder: Path, load: str, flash: object, camera: Path, **options: object) -> Result:
    values = {"threshold": 0.5, "nms": 0.3, "anchors": FACES, "load": load} | options
    (folder / "main.py").write_text(SCRIPT.format(**values))
    board = openkpu.Board(flash=flash, camera=camera, frames=1)  # type: ignore[arg-type]
    result = board.run(folder / "main.py", keep_frames=True)
    assert result.ok, (result.text, result.error)
    return result


def test_the_photographed_boxes(vendor: Path, tmp_path: Path) -> None:
    camera = picture(tmp_path, vendor / "v3" / "v3_nncase010_yolo20.npz", "dog")
    anchors = (1.08, 1.19, 3.42, 4.41, 6.63, 11.38, 9.42, 5.11, 16.62, 10.52)
    flash = {0x500000: vendor / "v3" / "v3_nncase010_yolo20.kmodel"}
    result = run(tmp_path, "kpu.load(0x500000)", flash, camera, nms=0.2, anchors=anchors)
    boxes = {(int(c), int(x), int(y), int(x + w), int(y + h)) for c, x, y, w, h, _ in rows(result.text)}
    assert boxes == {(6, 181, 36, 235, 77), (11, 38, 76, 130, 231), (1, 36, 41, 255, 200)}
    frame = result.frames[-1]
    assert (frame[76, 38:130] == 255).all(), "the dog's rectangle is on the display"


def test_faces_from_a_package_loaded_and_streamed(vendor: Path, tmp_path: Path) -> None:
    camera = vendor / "images" / "lm30.jpg"
    kfpkg = vendor / "kfpkg" / "face_model_at_0x300000.kfpkg"
    loaded = run(tmp_path, "kpu.load(0x300000)", kfpkg, camera)
    swapped = vendor / "kfpkg" / "face_model_be_at_0x600000.kfpkg"
    streamed = run(tmp_path, "kpu.load_flash(0x600000, 1, 0xC000, 60000000)", swapped, camera)
    assert len(rows(loaded.text)) == 2
    assert rows(loaded.text) == rows(streamed.text)
    flash = FlashImage.load(kfpkg)
    model = openkpu.load(flash.read(0x300000, flash.parts[0].size))
    shown = np.asarray(Image.open(camera).convert("RGB"))
    output = model.run(np.ascontiguousarray(fit(shown, 320, 240).transpose(2, 0, 1)))[0]
    boxes = yolo.decode(output.reshape(30, 15, 20), FACES, threshold=0.5, nms=0.3)
    assert [r[:5] for r in rows(loaded.text)] == [[float(b.label), *_rect(b)] for b in boxes]
    fast, slow = (int(r.text.split("ms ")[1].split()[0]) for r in (loaded, streamed))
    assert 20 < fast < 28, "boards take 24 ms"
    assert fast < slow


def _rect(box: yolo.Box) -> list[float]:
    left, top, right, bottom = box.pixels(320, 240)
    return [float(v) for v in (left, top, right - left, bottom - top)]


def test_digits(vendor: Path, tmp_path: Path) -> None:
    golden = np.load(vendor / "v3" / "v3_maixpy_mnist.npz")
    (tmp_path / "mnist.kmodel").write_bytes((vendor / "v3" / "v3_maixpy_mnist.kmodel").read_bytes())
    script = "import image\nimport KPU as kpu\ntask = kpu.load('/sd/mnist.kmodel')\nfor d in range(10):\n"
    script += "    img = image.Image('%d.bmp' % d)\n    img.pix_to_ai()\n    f = kpu.forward(task, img)\n"
    script += "    p = f[:]\n    print(p.index(max(p)), max(p))\nkpu.set_layers(task, 2)\nf = kpu.forward(task, img)\n"
    script += "print(f.w(), f.h(), f.ch())\nkpu.set_layers(task, 0)\ninfo = kpu.netinfo(task)\n"
    for d in range(10):
        Image.fromarray(golden[f"digit{d}_input"][0]).save(tmp_path / f"{d}.bmp")
    (tmp_path / "main.py").write_text(script)
    result = openkpu.Board(firmware="minimum").run(tmp_path / "main.py")
    assert result.ok, result.text
    lines = result.text.splitlines()
    for d in range(10):
        wanted = golden[f"digit{d}_output0_f32"]
        digit, score = lines[d].split()
        assert int(digit) == int(wanted.argmax())
        assert float(score) == pytest.approx(float(wanted.max()), rel=1e-5)
    assert lines[10] == "7 7 32"
    assert lines[11] == "layer[0]: KL_K210_CONV, 788 bytes"
    assert len(lines) == 22
    assert "layer[6]: KL_K210_ADD_PADDING, " in result.text


def test_v4_with_its_shapes(vendor: Path, tmp_path: Path) -> None:
    model = vendor / "v4" / "compiled" / "ex_rfb320.kmodel"
    camera = vendor / "images" / "lm30.jpg"
    script = "import sensor\nimport KPU as kpu\nsensor.reset()\nsensor.set_pixformat(sensor.RGB565)\n"
    script += "sensor.set_framesize(sensor.QVGA)\ntask = kpu.load(0x300000)\nimg = sensor.snapshot()\n"
    script += "try:\n    kpu.forward(task, img)\nexcept OSError as e:\n    print(e)\n"
    script += "print(kpu.set_outputs(task, 0, 2, 4420, 1), kpu.set_outputs(task, 1, 4, 4420, 1))\n"
    script += "f = kpu.forward(task, img)[:]\ng = kpu.get_output(task, 1)[:]\nprint(max(f), sum(g), f[7], g[-1])\n"
    (tmp_path / "main.py").write_text(script)
    result = openkpu.Board(flash={0x300000: model}, camera=camera).run(tmp_path / "main.py")
    assert result.ok, result.text
    shown = np.asarray(Image.open(camera).convert("RGB"))
    scores, boxes = openkpu.load(model).run(np.ascontiguousarray(fit(shown, 320, 240).transpose(2, 0, 1)))
    lines = result.text.splitlines()
    assert lines[1:3] == ["ERR_OUTPUTS_SET: need kpu.set_outputs() to set shape", "True True"]
    wanted = [float(scores.max()), float(boxes.sum()), float(scores.reshape(-1)[7]), float(boxes.reshape(-1)[-1])]
    assert [float(v) for v in lines[3].split()] == pytest.approx(wanted, rel=1e-4)


def test_v4_needs_a_build_for_it(vendor: Path, tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text("import KPU as kpu\nkpu.load(0x300000)\n")
    flash = {0x300000: vendor / "v4" / "real" / "yolo20.kmodel"}
    result = openkpu.Board(flash=flash, firmware="minimum").run(tmp_path / "main.py")
    assert "load error:2002, ERR_KMODEL_VERSION: only support kmodel V3\n" in result.text
    assert openkpu.Board(flash=flash, firmware="minimum-v4").run(tmp_path / "main.py").ok
