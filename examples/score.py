"""Count the pictures of an example that its kmodel names rightly: ``python score.py EXAMPLE_FOLDER FILE.kmodel``."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image

import openkpu


def answers(example: Path, kmodel: Path) -> dict[str, str]:
    """Return picture name -> label. The file takes the picture's bytes: mean and deviation are inside it."""
    labels = json.loads((example / "model.json").read_text())["labels"]
    model = openkpu.load(kmodel)
    named = {}
    for picture in sorted((example / "pictures").glob("*.png")):
        pixels = np.atleast_3d(np.asarray(Image.open(picture)))  # (H, W, C)
        (scores,) = model.run(np.ascontiguousarray(pixels.transpose(2, 0, 1)))
        named[picture.name] = labels[int(scores.argmax())]
    return named


def main() -> None:
    example, kmodel = Path(sys.argv[1]), Path(sys.argv[2])
    begin = time.perf_counter()
    named = answers(example, kmodel)
    ms = (time.perf_counter() - begin) * 1000 / len(named)
    wrong = {name: label for name, label in named.items() if not name.startswith(f"{label}_")}
    right = len(named) - len(wrong)
    print(f"{example.name:10} {'█' * right}{'░' * len(wrong)} {right} of {len(named)} right, {ms:.1f} ms a picture")
    for name, label in wrong.items():
        print(f"{'':10} {name} was taken for {label}")


if __name__ == "__main__":
    main()
