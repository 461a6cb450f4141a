"""A small kmodel and labelled pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import program_builders as build
import pytest
from PIL import Image

from openkpu.kmodel import v3


@pytest.fixture
def kmodel(tmp_path: Path) -> Path:
    """Picture (3, 8, 8) -> 2 channels of 4x4; the largest of the 32 bytes is the class."""
    path = tmp_path / "net.kmodel"
    path.write_bytes(v3.write(build.program(build.conv(0, 64, 3, 2, 8, 8, k=3, pool=1, to_main=0, bn_mul=3))))
    return path


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Forty pictures in the folders 0..3."""
    root = tmp_path / "pictures"
    rng = np.random.default_rng(7)
    for i in range(40):
        folder = root / str(i % 4)
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).save(folder / f"{i:02d}.png")
    return root
