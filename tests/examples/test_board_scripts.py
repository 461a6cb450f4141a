"""The example scripts run on the virtual board and name what the float models name."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import openkpu

pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install 'openkpu[onnx]'")

EXAMPLES = Path(__file__).parents[2] / "examples"


def compiled(name: str, folder: Path) -> Path:
    example = EXAMPLES / name
    given = json.loads((example / "model.json").read_text())["input"]
    made = openkpu.compile(
        example / f"{name}.onnx",
        calibration=example / "calibration",
        mean=[255 * m for m in given["mean"]],
        std=[255 * s for s in given["std"]],
    )
    made.save(folder / f"{name}.kmodel")
    return folder / f"{name}.kmodel"


def pictures(name: str) -> list[Path]:
    return sorted((EXAMPLES / name / "pictures").glob("*.png"))


def test_digits(tmp_path: Path) -> None:
    compiled("digits", tmp_path)
    shown = pictures("digits")
    gif = tmp_path / "d.gif"
    board = openkpu.Board(sd=tmp_path, camera=shown, frames=len(shown), firmware="minimum", display=str(gif))
    result = board.run(EXAMPLES / "board" / "digits.py")
    assert result.ok, result.text
    named = [line.split()[1] for line in result.text.splitlines() if line.startswith("digit")]
    right = sum(a == p.name[0] for a, p in zip(named, shown, strict=True))
    assert right >= 18, "the camera's picture was scaled up and down again"
    assert result.runs == len(shown)
    assert gif.stat().st_size > 1000


def test_mobilenet(tmp_path: Path) -> None:
    model = compiled("mobilenet", tmp_path)
    shutil.copy(model, tmp_path / "flash.kmodel")
    labels = json.loads((EXAMPLES / "mobilenet" / "model.json").read_text())["labels"]
    (tmp_path / "labels.txt").write_text("\n".join(labels))
    shown = pictures("mobilenet")
    board = openkpu.Board(sd=tmp_path, flash={0x300000: tmp_path / "flash.kmodel"}, camera=shown, frames=len(shown))
    result = board.run(EXAMPLES / "board" / "mobilenet.py")
    assert result.ok, result.text
    named = [line.split()[0] for line in result.text.splitlines() if line.endswith(" ms")]
    right = sum(p.name.startswith(f"{a}_") for a, p in zip(named, shown, strict=True))
    assert right >= 16, named
    assert result.text.splitlines()[1].startswith('{"model_addr": 3145728, "model_size": ')
