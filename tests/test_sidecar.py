import json
import os
from pathlib import Path

import pytest

from openkpu import sidecar
from openkpu.errors import InputError, SetupError


def write(folder, data, name="model.json"):
    (folder / name).write_text(data if isinstance(data, str) else json.dumps(data))
    return folder / "net.onnx"


def test_mean_and_std_become_pixels(tmp_path):
    model = write(tmp_path, {"input": {"range": [-1, 1], "mean": [0, 0.5], "std": 0.5}, "labels": ["a", 7]})
    found = sidecar.find(model)
    assert found.mean == pytest.approx((127.5, 191.25))
    assert found.std == pytest.approx((63.75,))
    assert found.labels == ("a", "7")


def test_the_formula_holds(tmp_path):
    found = sidecar.find(write(tmp_path, {"input": {"mean": [0.485], "std": [0.229]}}))
    for pixel in (0, 100, 255):
        assert (pixel - found.mean[0]) / found.std[0] == pytest.approx((pixel / 255 - 0.485) / 0.229)


def test_the_own_file_comes_first(tmp_path):
    write(tmp_path, {"labels": ["folder"]})
    model = write(tmp_path, {"labels": ["own"]}, "net.json")
    assert sidecar.find(model).labels == ("own",)
    assert sidecar.find(tmp_path / "other.kmodel").labels == ("folder",)


def test_none(tmp_path):
    assert sidecar.find(tmp_path / "net.onnx") is None
    found = sidecar.find(write(tmp_path, {"labels": []}))
    assert (found.mean, found.std) == (None, None)


@pytest.mark.parametrize(
    "data",
    [
        "{",
        "[1]",
        {"input": 3},
        {"input": {"mean": "red"}},
        {"input": {"mean": [None]}},
        {"input": {"std": [0]}},
        {"input": {"range": [1, 0]}},
        {"input": {"range": [0, 1, 2]}},
        {"input": {"order": "BGR"}},
        {"labels": "cat"},
        "[" * 100_000,
    ],
)
def test_what_makes_no_sense_is_refused(tmp_path, data):
    with pytest.raises(InputError) as caught:
        sidecar.find(write(tmp_path, data))
    assert caught.value.code == "E415"


def test_labels_from_text_and_json(tmp_path):
    write(tmp_path, {"labels": ["a", "b"]})
    (tmp_path / "labels.txt").write_text("cat\n\n dog \n")
    assert sidecar.read_labels(tmp_path / "model.json") == ("a", "b")
    assert sidecar.read_labels(tmp_path / "labels.txt") == ("cat", "dog")
    with pytest.raises(SetupError):
        sidecar.read_labels(tmp_path / "no.txt")


@pytest.mark.parametrize("suffix", ["txt", "json"])
def test_what_has_no_end_is_not_read(tmp_path, suffix):
    pipe, device, long = (tmp_path / f"{name}.{suffix}" for name in ("pipe", "device", "long"))
    os.mkfifo(pipe)
    device.symlink_to("/dev/zero")
    long.write_bytes(b"a" * ((1 << 20) + 1))
    for path, why in ((pipe, "regular"), (device, "regular"), (Path(tmp_path), "regular"), (long, "1 MiB")):
        with pytest.raises(SetupError, match=why) as caught:
            sidecar.read_labels(path)
        assert caught.value.code == "E510"
        assert str(path) in caught.value.what
