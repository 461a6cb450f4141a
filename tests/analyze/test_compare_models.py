"""A compiled network against its float model; figures checked against a computation in one go."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

import openkpu
from openkpu.analyze.compare import OutputComparison
from openkpu.errors import InputError


def network(path: Path, *, channels: int = 6, classes: int = 5) -> Path:
    rng = np.random.default_rng(3)

    def const(name: str, *shape: int) -> onnx.TensorProto:
        return numpy_helper.from_array(rng.normal(0, 0.4, shape).astype(np.float32), name)

    nodes = [
        helper.make_node("Conv", ["x", "w0", "b0"], ["c0"], name="stem", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c0"], ["r0"]),
        helper.make_node("Conv", ["r0", "w1", "b1"], ["c1"], name="body", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("GlobalAveragePool", ["r1"], ["g"]),
        helper.make_node("Flatten", ["g"], ["y"]),
    ]
    weights = [const("w0", channels, 3, 3, 3), const("b0", channels), const("w1", classes, channels, 3, 3)]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 12, 12])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, classes])],
        [*weights, const("b1", classes)],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    return np.random.default_rng(4).integers(0, 256, (6, 3, 12, 12), np.uint8)


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return network(tmp_path_factory.mktemp("net") / "net.onnx")


@pytest.fixture(scope="module")
def compiled(net: Path, pictures: np.ndarray) -> openkpu.Compiled:
    return openkpu.compile(net, calibration=pictures, mean=100, std=60)


def test_outputs_are_measured_as_they_are(net, compiled, pictures):
    result = openkpu.compare(net, compiled.model, pictures, mean=100, std=60)
    session = ort.InferenceSession(str(net))
    reference = np.stack(
        [session.run(None, {"x": ((p[None] - 100.0) / 60).astype(np.float32)})[0][0] for p in pictures]
    )
    chip = np.stack([compiled.model.run(p)[0] for p in pictures])
    (out,) = result.outputs
    assert out.snr_db == pytest.approx(10 * np.log10((reference**2).sum() / ((reference - chip) ** 2).sum()), abs=0.01)
    assert out.max_error == pytest.approx(np.abs(reference - chip).max(), abs=1e-4)
    assert out.top1 == int((reference.argmax(1) == chip.argmax(1)).sum())
    assert result.pictures == 6


def test_layers_are_named_and_good(net, compiled, pictures):
    result = openkpu.compare(net, compiled.model, pictures, mean=100, std=60)
    assert [layer.layer for layer in result.layers] == ["stem", "body"]
    assert [layer.shape for layer in result.layers] == [(6, 12, 12), (5, 12, 12)]
    assert all(layer.snr_db > 25 and layer.cosine > 0.99 for layer in result.layers)
    assert result.worst(1)[0].snr_db == min(layer.snr_db for layer in result.layers)
    assert "least squares" in result.notes[0]


def test_a_wrong_preprocessing_shows(net, compiled, pictures):
    right = openkpu.compare(net, compiled.model, pictures, mean=100, std=60)
    wrong = openkpu.compare(net, compiled.model, pictures, mean=0, std=255)
    assert wrong.outputs[0].snr_db < right.outputs[0].snr_db - 10
    assert right.warnings == ()
    assert right.mean == pytest.approx((100, 100, 100))
    assert right.std == pytest.approx((60, 60, 60))
    far = openkpu.compare(net, compiled.model, pictures, input_range=(0, 0.01))
    assert far.outputs[0].snr_db < 3
    assert "mean, std or input range" in far.warnings[0]


@pytest.mark.parametrize(
    ("snr_db", "top1", "fitted", "unlike"),
    [
        (2.9, 5, False, True),
        (-np.inf, None, False, True),
        (3.1, 1, False, False),
        (3.1, None, False, False),
        (10, 0, False, True),
        (30, 0, False, False),
        (np.inf, 0, True, True),
        (np.inf, 5, True, False),
    ],
)
def test_when_outputs_look_unlike(snr_db, top1, fitted, unlike):
    assert OutputComparison("y", (5,), fitted, snr_db, 0.5, None, top1).unlike == unlike


def test_floats_are_pixels_after_preprocessing(net, compiled, pictures):
    floats = [((p - 100.0) / 60).astype(np.float32) for p in pictures]
    a = openkpu.compare(net, compiled.model, floats, mean=100, std=60)
    b = openkpu.compare(net, compiled.model, pictures, mean=100, std=60)
    assert a.outputs[0].snr_db == pytest.approx(b.outputs[0].snr_db, abs=0.01)


def test_another_structure_is_compared_at_the_outputs(compiled, pictures, tmp_path):
    other = network(tmp_path / "other.onnx", channels=7)
    result = openkpu.compare(other, compiled.model, pictures)
    assert result.layers == ()
    assert "only the outputs" in result.notes[0]
    assert len(result.outputs) == 1


def test_a_model_with_other_outputs_is_refused(compiled, pictures, tmp_path):
    other = network(tmp_path / "other.onnx", classes=4)
    with pytest.raises(InputError) as caught:
        openkpu.compare(other, compiled.model, pictures)
    assert caught.value.code == "E431"
    assert "4" in caught.value.why
    assert "5" in caught.value.why


def test_progress_is_told(net, compiled, pictures):
    seen: list[tuple[str, int, int]] = []
    openkpu.compare(net, compiled.model, pictures, samples=3, progress=lambda *a: seen.append(a))
    assert seen == [("compare", 1, 3), ("compare", 2, 3), ("compare", 3, 3)]


def test_explain_studies_each_layer_alone(tmp_path):
    path = network(tmp_path / "net.onnx")
    pictures = list(np.random.default_rng(0).integers(0, 256, (6, 3, 12, 12), np.uint8))
    compiled = openkpu.compile(path, calibration=pictures, mean=127.5, std=127.5)
    plain = openkpu.compare(path, compiled.model, pictures, mean=127.5, std=127.5)
    told = openkpu.compare(path, compiled.model, pictures, mean=127.5, std=127.5, explain=True)
    assert [v.alone_db for v in plain.layers] == [None] * len(plain.layers)
    assert plain.advice == ()
    assert len(told.layers) >= 2
    for before, after in zip(plain.layers, told.layers, strict=True):
        assert after.snr_db == before.snr_db
        assert after.alone_db is not None
        assert after.alone_db > 25
    # the first layer has nothing before it
    assert abs(told.layers[0].alone_db - told.layers[0].snr_db) < 3
    assert told.layers[-1].alone_db >= told.layers[-1].snr_db - 1
