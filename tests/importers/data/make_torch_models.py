"""Make the small models next to this file with PyTorch: one network, both of torch.onnx's exporters.

Needs torch and onnxscript (torch 2.13 was used); the files are committed so that the tests do not.
"""

from __future__ import annotations

import sys
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Small(nn.Module):
    """Batch norm, hard swish, mish, a residual, upsampling to another map's size, computed views, a linear head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.Hardswish())
        self.depth = nn.Sequential(nn.Conv2d(8, 8, 3, 1, 1, groups=8), nn.BatchNorm2d(8), nn.Mish())
        self.down = nn.Sequential(nn.Conv2d(8, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU6())
        self.lateral = nn.Conv2d(16, 8, 1)
        self.norm = nn.BatchNorm2d(8)
        self.gate = nn.Linear(8, 8)
        self.head = nn.Linear(8 * 4 * 4, 10)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return class scores and a map of boxes as (batch, cells, channels)."""
        x = self.stem(x)
        x = x + self.depth(x)
        small = self.down(x)
        up = F.interpolate(self.lateral(small), size=x.shape[2:], mode="nearest")
        x = F.silu(self.norm(torch.cat([up[:, :4], x[:, 4:]], 1)))
        weight = torch.sigmoid(self.gate(x.mean((2, 3))))
        x = x * weight.view(x.size(0), x.size(1), 1, 1)
        boxes = small.permute(0, 2, 3, 1).reshape(small.shape[0], -1, small.shape[1])
        pooled = F.avg_pool2d(x, 4, ceil_mode=True)
        flat = F.dropout(pooled.flatten(1), 0.5, self.training)
        return F.softmax(self.head(flat), dim=-1), boxes


def main() -> None:
    """Write both files."""
    torch.manual_seed(0)
    model = Small()
    model(torch.randn(8, 3, 32, 32))  # gives the batch norms means and variances of their own
    model.eval()
    here = Path(__file__).parent
    x = torch.randn(1, 3, 32, 32)
    names = {"input_names": ["image"], "output_names": ["scores", "boxes"]}
    torch.onnx.export(
        model, (x,), here / "torch_script.onnx", dynamo=False, opset_version=13, do_constant_folding=False,
        dynamic_axes={"image": {0: "n", 2: "h", 3: "w"}}, training=torch.onnx.TrainingMode.PRESERVE, **names,
    )  # fmt: skip
    batch = torch.export.Dim("n", min=1, max=16)
    torch.onnx.export(
        model, (torch.randn(2, 3, 32, 32),), here / "torch_dynamo.onnx", dynamo=True, external_data=False,
        dynamic_shapes={"x": {0: batch}}, **names,
    )  # fmt: skip
    for name in ("torch_script", "torch_dynamo"):
        strip(here / f"{name}.onnx")


def strip(path: Path) -> None:
    """Take out the exporter's remarks: stack traces and paths of the machine it ran on."""
    proto = onnx.load(path)
    for part in (proto, proto.graph, *proto.graph.node, *proto.graph.value_info, *proto.graph.initializer,
                 *proto.graph.input, *proto.graph.output):  # fmt: skip
        part.doc_string = ""
        del part.metadata_props[:]
    onnx.save(proto, path)


if __name__ == "__main__":
    sys.exit(main())
