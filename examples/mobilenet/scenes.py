"""The pictures of this example: a real garment, in a random colour, size and place, before a real photograph.

Garments are Fashion-MNIST (28x28 grey product photographs of Zalando); photographs are the
samples inside scikit-image and scikit-learn. Held-out pictures use garments *and* photographs that training never sees.
"""

from __future__ import annotations

import gzip
import math
from pathlib import Path

import numpy as np
import numpy.typing as npt
import skimage
import torch
from PIL import Image
from torch.nn import functional

SIZE = 96
LABELS = ["t-shirt", "trousers", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot"]
TRAINING_PHOTOS = [
    "sklearn/datasets/images/china.jpg",
    "sklearn/datasets/images/flower.jpg",
    "skimage/data/astronaut.png",
    "skimage/data/coffee.png",
    "skimage/data/camera.png",
    "skimage/data/coins.png",
    "skimage/data/ihc.png",
    "skimage/data/retina.jpg",
    "skimage/data/hubble_deep_field.jpg",
    "skimage/data/brick.png",
    "skimage/data/grass.png",
    "skimage/data/gravel.png",
]
HELD_OUT_PHOTOS = ["skimage/data/chelsea.png", "skimage/data/rocket.jpg"]

U8 = npt.NDArray[np.uint8]


def load_garments(folder: Path, split: str) -> tuple[U8, npt.NDArray[np.int64]]:
    """Read one split ("train" or "t10k") of the four IDX files: uint8 [count, 28, 28] and labels [count]."""
    pixels = gzip.decompress((folder / f"{split}-images-idx3-ubyte.gz").read_bytes())
    labels = gzip.decompress((folder / f"{split}-labels-idx1-ubyte.gz").read_bytes())
    # IDX: big-endian magic number, then one 32-bit size for each dimension, then the bytes.
    magic, count, rows, columns = np.frombuffer(pixels, ">u4", 4)
    if (int(magic), int(rows), int(columns)) != (2051, 28, 28):
        raise SystemExit(f"{folder} does not hold the Fashion-MNIST files")
    images = np.frombuffer(pixels, np.uint8, offset=16).reshape(int(count), 28, 28)
    return images, np.frombuffer(labels, np.uint8, offset=8).astype(np.int64)


def photo_crops(names: list[str], count: int, seed: int) -> torch.Tensor:
    """`count` random square crops of the photographs, mirrored at random: uint8 [count, 3, SIZE, SIZE]."""
    rng = np.random.default_rng(seed)
    folder = Path(skimage.__file__).parents[1]  # where pip put both packages
    photos = [Image.open(folder / name).convert("RGB") for name in names]
    crops = np.empty((count, SIZE, SIZE, 3), np.uint8)
    for index in range(count):
        photo = photos[index % len(photos)]
        side = int(rng.integers(SIZE, min(photo.size)))
        left, top = (int(rng.integers(0, extent - side + 1)) for extent in photo.size)
        crop = np.asarray(photo.crop((left, top, left + side, top + side)).resize((SIZE, SIZE), Image.Resampling.BOX))
        crops[index] = crop[:, ::-1] if rng.random() < 0.5 else crop
    return torch.from_numpy(crops).permute(0, 3, 1, 2).contiguous()


def vary(photos: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """More backgrounds out of few photographs, for training only: uint8 [N, 3, SIZE, SIZE] -> float, same shape.

    Half are blended with another photograph; then every colour channel is swapped, weighted and shifted at random.
    """
    count = len(photos)
    mixed = photos.float()
    share = torch.rand(count, 1, 1, 1, generator=generator) * (torch.rand(count, 1, 1, 1, generator=generator) < 0.5)
    mixed = mixed * (1 - share) + mixed.roll(1, 0) * share
    order = torch.rand(count, 3, generator=generator).argsort(1)
    mixed = mixed.gather(1, order[:, :, None, None].expand_as(mixed))
    weight = 0.4 + 0.9 * torch.rand(count, 3, 1, 1, generator=generator)
    shift = 80 * torch.rand(count, 3, 1, 1, generator=generator) - 40
    return (mixed * weight + shift).clamp(0, 255)


def compose(garments: torch.Tensor, photos: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Put garments uint8 [N, 28, 28] before photos [N, 3, SIZE, SIZE], 0..255: float, same shape, 0..255.

    The garment is turned by up to 8 degrees, mirrored at random, drawn 58 to 90 pixels large, fully inside the
    picture, tinted with one random colour that keeps its own light and shade. Its black surround is cut out.
    """
    count = len(garments)

    def uniform(low: float, high: float, *shape: int) -> torch.Tensor:
        return low + (high - low) * torch.rand(count, *shape, generator=generator)

    # affine_grid maps the picture's [-1, 1] square back into the garment's.
    zoom = SIZE / uniform(58, 90)
    angle = uniform(-math.radians(8), math.radians(8))
    mirror = torch.where(uniform(0, 1) < 0.5, -1.0, 1.0)
    room = zoom - 1
    theta = torch.zeros(count, 2, 3)
    theta[:, 0, 0], theta[:, 0, 1] = mirror * torch.cos(angle) * zoom, -torch.sin(angle) * zoom
    theta[:, 1, 0], theta[:, 1, 1] = mirror * torch.sin(angle) * zoom, torch.cos(angle) * zoom
    theta[:, 0, 2], theta[:, 1, 2] = uniform(-1, 1) * room, uniform(-1, 1) * room
    grid = functional.affine_grid(theta, [count, 1, SIZE, SIZE], align_corners=False)
    shade = functional.grid_sample(garments.float().unsqueeze(1) / 255, grid, align_corners=False)

    opacity = ((shade - 0.03) / 0.08).clamp(0, 1)
    tint = uniform(60, 255, 3, 1, 1)
    light = uniform(0.6, 1.1, 1, 1, 1)
    garment = tint * (0.2 + 0.8 * shade)
    return (opacity * garment + (1 - opacity) * photos.float() * light).clamp(0, 255)
