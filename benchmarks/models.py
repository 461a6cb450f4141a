"""The network of the speed and compile-time figures, made by the benchmark itself: MobileNetV1, ReLU6, BN folded.

Speed and memory depend on the shape of a network, not on its training. The weights are random, but every layer is
scaled so that its outputs have about mean 0 and variance 1 on a few pictures, as batch normalisation would leave them:
8-bit arithmetic then works on values as it meets them in practice. The same seed gives the same network.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from jobs import Array, Job, one_thread
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

OPSET = 13  # the first with per-channel QuantizeLinear, which the onnxruntime side needs
MEAN = STD = 127.5
CALIBRATION_PICTURES = 32
BLOCKS = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1))
"""(output channels at width 1.0, stride) of the 13 depthwise-separable blocks (arXiv 1704.04861, table 1)."""


def noise_pictures(count: int, size: int = 224, seed: int = 0) -> Array:
    """Seeded stand-ins for photographs, uint8 (count, 3, size, size): coarse blobs, finer ones and a little grain."""
    rng = np.random.default_rng(seed)

    def blobs(cells: int) -> Array:
        small = rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8)
        return np.asarray(Image.fromarray(small).resize((size, size), Image.Resampling.BICUBIC), np.float32)

    pictures = [0.55 * blobs(5) + 0.35 * blobs(20) + 0.1 * blobs(size) for _ in range(count)]
    return np.ascontiguousarray(np.clip(np.stack(pictures), 0, 255).astype(np.uint8).transpose(0, 3, 1, 2))


def folder_pictures(folder: Path, count: int, size: int = 224) -> Array:
    """The first pictures of a folder by name, as uint8 (count, 3, size, size).

    They are squeezed to the size; when there are fewer than ``count``, mirrored and then repeated ones fill up.
    """
    paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in {".jpg", ".jpeg", ".png", ".bmp"})[:count]
    if not paths:
        raise SystemExit(f"{folder} has no pictures")
    loaded = [np.asarray(Image.open(p).convert("RGB").resize((size, size), Image.Resampling.BILINEAR)) for p in paths]
    loaded += [picture[:, ::-1] for picture in loaded]
    return np.ascontiguousarray(np.stack([loaded[i % len(loaded)] for i in range(count)]).transpose(0, 3, 1, 2))


def normalised(pictures: Array) -> Array:
    """Pictures as the float network takes them."""
    return ((pictures.astype(np.float32) - MEAN) / STD).astype(np.float32)


def mobilenet_v1(width: float, pictures: Array, classes: int = 1000, seed: int = 0) -> onnx.ModelProto:
    """MobileNetV1 for pictures of the given size; at most eight of them scale the layers."""
    rng = np.random.default_rng(seed)
    value = normalised(pictures[:8])
    shape = (1, *value.shape[1:])
    nodes: list[onnx.NodeProto] = []
    initializers = [numpy_helper.from_array(np.array(v, np.float32), name) for name, v in (("zero", 0), ("six", 6))]
    name = "input"

    def layer(out_channels: int, kernel: int, stride: int, depthwise: bool) -> None:
        nonlocal value, name
        channels = value.shape[1]
        fan_in = (1 if depthwise else channels) * kernel * kernel
        kernel_shape = (out_channels, fan_in // kernel**2, kernel, kernel)
        weights = rng.normal(0, np.sqrt(2 / fan_in), kernel_shape).astype(np.float32)
        index = len(nodes) // 2
        conv = helper.make_node(
            "Conv",
            [name, f"weights_{index}", f"bias_{index}"],
            [f"conv_{index}"],
            name=f"conv_{index}",
            kernel_shape=[kernel] * 2,
            strides=[stride] * 2,
            pads=[kernel // 2] * 4,
            group=channels if depthwise else 1,
        )
        raw = _run_conv(conv, value, weights, np.zeros(out_channels, np.float32))
        deviation = raw.std(axis=(0, 2, 3)) + 1e-3
        gain = rng.uniform(0.6, 1.4, out_channels).astype(np.float32)
        shift = rng.normal(0, 0.3, out_channels).astype(np.float32)
        scale = gain / deviation
        bias = shift - raw.mean(axis=(0, 2, 3)) * scale
        value = np.clip(raw * scale[:, None, None] + bias[:, None, None], 0, 6)
        clip = helper.make_node("Clip", [f"conv_{index}", "zero", "six"], [f"relu6_{index}"], name=f"relu6_{index}")
        nodes.extend([conv, clip])
        initializers.extend(
            [
                numpy_helper.from_array(weights * scale[:, None, None, None], f"weights_{index}"),
                numpy_helper.from_array(bias, f"bias_{index}"),
            ]
        )
        name = clip.output[0]

    layer(int(32 * width), 3, 2, depthwise=False)
    for out_channels, stride in BLOCKS:
        layer(value.shape[1], 3, stride, depthwise=True)
        layer(int(out_channels * width), 1, 1, depthwise=False)

    features = value.shape[1]
    initializers.append(
        numpy_helper.from_array(
            rng.normal(0, 1 / np.sqrt(features), (classes, features)).astype(np.float32), "classifier_weights"
        )
    )
    initializers.append(numpy_helper.from_array(np.zeros(classes, np.float32), "classifier_bias"))
    nodes += [
        helper.make_node("GlobalAveragePool", [name], ["pooled"], name="pool"),
        helper.make_node("Flatten", ["pooled"], ["flat"], name="flatten", axis=1),
        helper.make_node("Gemm", ["flat", "classifier_weights", "classifier_bias"], ["logits"], name="gemm", transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        f"mobilenet_v1_{width}",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, (1, classes))],
        initializers,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=7)
    onnx.checker.check_model(model)
    return model


def mobilenet_job(work: Path, pictures: Array, width: float = 0.75) -> Job:
    """The network and its pictures as files in ``work``: the first 32 pictures calibrate, the others evaluate."""
    work.mkdir(parents=True, exist_ok=True)
    calibration, evaluation = pictures[:CALIBRATION_PICTURES], pictures[CALIBRATION_PICTURES:]
    onnx.save(mobilenet_v1(width, calibration), work / "mobilenet.onnx")
    np.savez(work / "mobilenet.npz", calib=calibration, eval=evaluation)
    return Job(f"mobilenet_v1_{width:g}", work / "mobilenet.onnx", work / "mobilenet.npz", (MEAN,) * 3, (STD,) * 3)


def _run_conv(node: onnx.NodeProto, value: Array, weights: Array, bias: Array) -> Array:
    """One convolution in onnxruntime."""
    graph = helper.make_graph(
        [node],
        "conv",
        [helper.make_tensor_value_info(node.input[0], TensorProto.FLOAT, value.shape)],
        [helper.make_tensor_value_info(node.output[0], TensorProto.FLOAT, None)],
        [numpy_helper.from_array(weights, node.input[1]), numpy_helper.from_array(bias, node.input[2])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=7)
    session = ort.InferenceSession(model.SerializeToString(), one_thread(), providers=["CPUExecutionProvider"])
    result: Array = session.run(None, {node.input[0]: value})[0]
    return result
