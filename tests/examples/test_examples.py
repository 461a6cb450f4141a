"""The committed example models do what their README says, on the committed pictures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

EXAMPLES = Path(__file__).parents[2] / "examples"
MODELS = {"digits": "digits.onnx", "mobilenet": "mobilenet.onnx"}
# Pictures are taken from the held-out data in order, not chosen, so a network may be wrong about some. The thresholds
# are what the committed weights reach.
RIGHT = {"digits": (20, 20), "mobilenet": (19, 20)}

example = pytest.mark.parametrize("name", sorted(MODELS))


def sidecar(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((EXAMPLES / name / "model.json").read_text())
    return loaded


def pictures(name: str, folder: str = "pictures") -> list[Path]:
    return sorted((EXAMPLES / name / folder).glob("*.png"))


def network_input(picture: Path, description: dict[str, Any]) -> npt.NDArray[np.float32]:
    """A picture as model.json says: pixel / 255, minus the mean, over the deviation, NCHW."""
    pixels = np.asarray(Image.open(picture), np.float32)
    if description["order"] == "GRAY":
        pixels = pixels[:, :, None]
    normalised = (pixels / 255 - np.float32(description["mean"])) / np.float32(description["std"])
    return np.ascontiguousarray(normalised.transpose(2, 0, 1)[None], np.float32)


@example
def test_classifies_its_pictures(name: str) -> None:
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install 'openkpu[onnx]'")
    session = runtime.InferenceSession(str(EXAMPLES / name / MODELS[name]), providers=["CPUExecutionProvider"])
    model = sidecar(name)
    answers = {}
    for picture in pictures(name):
        (scores,) = session.run([model["output"]["name"]], {"image": network_input(picture, model["input"])})
        assert scores.shape == (1, len(model["labels"]))
        if model["output"]["kind"] == "probabilities":
            assert scores.sum() == pytest.approx(1, abs=1e-5)
        answers[picture.name] = model["labels"][int(scores.argmax())]
    wrong = {file: answer for file, answer in answers.items() if not file.startswith(answer + "_")}
    least, count = RIGHT[name]
    assert len(answers) == count
    assert count - len(wrong) >= least, wrong


@example
def test_is_small_and_whole(name: str) -> None:
    """Under 2 MB, batch 1, static, weights inside the file."""
    onnx = pytest.importorskip("onnx", reason="onnx is not installed: pip install 'openkpu[onnx]'")
    file = EXAMPLES / name / MODELS[name]
    assert file.stat().st_size < 2_000_000
    model = onnx.load(file, load_external_data=False)
    onnx.checker.check_model(model, full_check=True)
    assert not [weight.name for weight in model.graph.initializer if weight.external_data]
    (graph_input,) = model.graph.input
    channels = len(sidecar(name)["input"]["mean"])
    width, height = Image.open(pictures(name)[0]).size
    assert [d.dim_value for d in graph_input.type.tensor_type.shape.dim] == [1, channels, height, width]


@example
def test_convolutions_stay_above_the_smallest_map(name: str) -> None:
    """No convolution makes a map under 4x4, the least the KPU takes."""
    onnx = pytest.importorskip("onnx", reason="onnx is not installed: pip install 'openkpu[onnx]'")
    model = onnx.shape_inference.infer_shapes(onnx.load(EXAMPLES / name / MODELS[name]))
    shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in model.graph.value_info}
    convolutions = [shapes[node.output[0]] for node in model.graph.node if node.op_type == "Conv"]
    assert len(convolutions) >= 6
    assert all(min(shape[2:]) >= 4 for shape in convolutions), convolutions


@example
def test_calibration_pictures(name: str) -> None:
    """32 pictures of the input's size and mode, none of them among the held-out ones."""
    held_out = {Image.open(picture).tobytes() for picture in pictures(name)}
    form = {(image.size, image.mode) for image in map(Image.open, pictures(name))}
    calibration = [Image.open(picture) for picture in pictures(name, "calibration")]
    assert len(calibration) == 32
    assert {(image.size, image.mode) for image in calibration} == form
    assert not held_out & {image.tobytes() for image in calibration}
