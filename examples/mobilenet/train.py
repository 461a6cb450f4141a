"""Train the MobileNetV2-style network of this folder and write everything that is committed here.

Needs: Debian's package `dataset-fashion-mnist` (the four Fashion-MNIST files; they are also in the repository
zalandoresearch/fashion-mnist) and, in a Python environment of its own,
`pip install torch==2.13.0 onnx==1.23.2 scikit-image==0.26.0 scikit-learn==1.9.1 numpy pillow`.

    python train.py --data /usr/share/datasets/fashion-mnist

Writes mobilenet.onnx, model.json, pictures/ (held-out scenes, the label is the first word of the name) and
calibration/ (training scenes). About ten minutes on one CPU core. The seed is fixed and one thread is used, so a
second run on the same machine gives the same weights.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from pathlib import Path

import numpy as np
import onnx
import torch
from PIL import Image
from scenes import HELD_OUT_PHOTOS, LABELS, SIZE, TRAINING_PHOTOS, compose, load_garments, photo_crops, vary
from torch import nn
from torch.nn import functional

SEED = 2017  # any fixed number
STEPS = 2600
BATCH = 64
CALIBRATION_PICTURES = 32
# ImageNet's, as most published models use: (pixel / 255 - mean) / std for each of R, G, B.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def convolution(channels_in: int, channels_out: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, kernel, stride, padding=kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU6(),
    )


class InvertedResidual(nn.Module):
    """MobileNetV2's block: 1x1 up, 3x3 depthwise, 1x1 down without activation, and a sum where the shapes agree."""

    def __init__(self, channels_in: int, channels_out: int, stride: int, expand: int) -> None:
        super().__init__()
        hidden = channels_in * expand
        self.body = nn.Sequential(
            *([convolution(channels_in, hidden, 1)] if expand != 1 else []),
            convolution(hidden, hidden, 3, stride, groups=hidden),
            nn.Conv2d(hidden, channels_out, 1, bias=False),
            nn.BatchNorm2d(channels_out),
        )
        self.residual = stride == 1 and channels_in == channels_out

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        body: torch.Tensor = self.body(features)
        return features + body if self.residual else body


class MobileNet(nn.Module):
    """Normalised float [N, 3, 96, 96] -> logits [N, 10]. 96 -> 48 -> 24 -> 12 -> 6: never under the KPU's 4x4."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            convolution(3, 16, 3, stride=2),
            InvertedResidual(16, 16, 1, expand=1),
            InvertedResidual(16, 24, 2, expand=4),
            InvertedResidual(24, 24, 1, expand=4),
            InvertedResidual(24, 40, 2, expand=4),
            InvertedResidual(40, 40, 1, expand=4),
            InvertedResidual(40, 64, 2, expand=4),
            InvertedResidual(64, 64, 1, expand=4),
            InvertedResidual(64, 64, 1, expand=4),
            convolution(64, 192, 1),
        )
        self.classifier = nn.Linear(192, len(LABELS))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        pooled = torch.flatten(functional.adaptive_avg_pool2d(self.features(image), 1), 1)
        logits: torch.Tensor = self.classifier(pooled)
        return logits


def normalise(pixels: torch.Tensor) -> torch.Tensor:
    """0..255 float [N, 3, H, W] -> the network's input."""
    mean, std = (torch.tensor(values).reshape(1, 3, 1, 1) for values in (MEAN, STD))
    return ((pixels / 255 - mean) / std).contiguous(memory_format=torch.channels_last)


def train(garments: torch.Tensor, labels: torch.Tensor, steps: int) -> MobileNet:
    """AdamW, one-cycle learning rate, a new scene for every sample; the last weights are kept."""
    generator = torch.Generator().manual_seed(SEED)
    photos = photo_crops(TRAINING_PHOTOS, 6000, SEED)
    net = MobileNet().to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(net.parameters(), weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 6e-3, total_steps=steps, pct_start=0.2)
    net.train()
    started, total, report = time.monotonic(), 0.0, 100
    for step in range(1, steps + 1):
        picked = torch.randint(len(garments), (BATCH,), generator=generator)
        behind = torch.randint(len(photos), (BATCH,), generator=generator)
        scenes = compose(garments[picked], vary(photos[behind], generator), generator)
        loss = functional.cross_entropy(net(normalise(scenes)), labels[picked])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        total += float(loss.detach())
        if step % report == 0:
            print(f"step {step:5}/{steps}  loss {total / report:.4f}  {time.monotonic() - started:.0f} s", flush=True)
            total = 0.0
    return net.eval()


def held_out_scenes(folder: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """The 10,000 test garments before the held-out photographs: uint8 [10000, 3, 96, 96] and labels."""
    garments, labels = load_garments(folder, "t10k")
    photos = photo_crops(HELD_OUT_PHOTOS, len(garments), SEED + 1)
    generator = torch.Generator().manual_seed(SEED + 1)
    batches = [
        compose(torch.from_numpy(garments[start : start + 500].copy()), photos[start : start + 500], generator)
        for start in range(0, len(garments), 500)
    ]
    return torch.cat([batch.round().to(torch.uint8) for batch in batches]), torch.from_numpy(labels)


def predict(net: nn.Module, scenes: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return torch.cat([net(normalise(batch.float())).argmax(1) for batch in scenes.split(250)])


def export(net: nn.Module, path: Path) -> None:
    """Write one self-contained ONNX file, batch 1, batch norm left in for the compiler to fold."""
    net.to(memory_format=torch.contiguous_format).eval()
    torch.onnx.export(
        net,
        (torch.zeros(1, 3, SIZE, SIZE),),
        str(path),
        input_names=["image"],
        output_names=["logits"],
        dynamo=False,
        opset_version=13,
        training=torch.onnx.TrainingMode.PRESERVE,
        do_constant_folding=False,
    )
    onnx.checker.check_model(onnx.load(path), full_check=True)


def save_picture(scene: torch.Tensor, path: Path) -> None:
    Image.fromarray(scene.permute(1, 2, 0).contiguous().numpy()).save(path, optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with the four Fashion-MNIST .gz files")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="where to write (default: this folder)")
    parser.add_argument("--steps", type=int, default=STEPS)
    arguments = parser.parse_args()
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    out: Path = arguments.out
    for name in ("pictures", "calibration"):
        shutil.rmtree(out / name, ignore_errors=True)
        (out / name).mkdir(parents=True)

    images, image_labels = load_garments(arguments.data, "train")
    garments, labels = torch.from_numpy(images.copy()), torch.from_numpy(image_labels)
    net = train(garments, labels, arguments.steps)
    scenes, scene_labels = held_out_scenes(arguments.data)
    right = predict(net, scenes) == scene_labels
    score = float(right.float().mean())
    for label, name in enumerate(LABELS):
        print(f"{name:9} {float(right[scene_labels == label].float().mean()):.1%}")
    print(f"held-out accuracy {score:.2%} of {len(scenes)}")

    export(net, out / "mobilenet.onnx")
    sidecar = {
        "input": {"name": "image", "layout": "NCHW", "order": "RGB", "range": [0, 1], "mean": MEAN, "std": STD},
        "output": {"name": "logits", "kind": "logits"},
        "labels": LABELS,
        "held_out_accuracy": round(score, 4),
    }
    lines = [f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in sidecar.items()]
    (out / "model.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")
    # The first two scenes of every class, whatever the network says about them.
    for label, name in enumerate(LABELS):
        for index in torch.nonzero(scene_labels == label).flatten()[:2].tolist():
            save_picture(scenes[index], out / "pictures" / f"{name}_{index:04}.png")
    generator = torch.Generator().manual_seed(SEED + 2)
    chosen = np.random.default_rng(SEED + 2).choice(len(garments), CALIBRATION_PICTURES, replace=False)
    photos = photo_crops(TRAINING_PHOTOS, CALIBRATION_PICTURES, SEED + 2)
    for number, scene in enumerate(
        compose(garments[torch.from_numpy(chosen)], photos, generator).round().to(torch.uint8)
    ):
        save_picture(scene, out / "calibration" / f"{number:02}.png")


if __name__ == "__main__":
    main()
