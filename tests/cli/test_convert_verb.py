"""``kpu convert``, and the options --target and --firmware."""

import json

import numpy as np
import pytest
from graph_builders import Builder
from target_models import MODELS, graph_of, squeeze_excite
from typer.testing import CliRunner

import openkpu
from openkpu.cli.app import app
from openkpu.compiler import compile
from openkpu.float.export import to_onnx


@pytest.fixture
def kmodel(tmp_path):
    b = Builder(1, 3, 8, 8)
    graph = b.graph(b.relu(b.conv(b.x, 4, 3)))
    x = list(np.random.default_rng(0).integers(0, 256, (2, 3, 8, 8), np.uint8))
    path = tmp_path / "net3.kmodel"
    compile(to_onnx(graph).SerializeToString(), calibration=x).save(path)
    return path


@pytest.fixture
def gated(tmp_path):
    path = tmp_path / "gated.onnx"
    path.write_bytes(to_onnx(graph_of((1, 3, 8, 8), squeeze_excite)).SerializeToString())
    np.save(tmp_path / "x.npy", np.random.default_rng(0).integers(0, 256, (3, 3, 8, 8), np.uint8))
    return path


def kpu(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


def test_convert_writes_and_reports(kmodel, tmp_path):
    out = tmp_path / "net5.kmodel"
    result = kpu("convert", kmodel, "--target", "v5", "-o", out)
    assert result.exit_code == 0, result.output
    assert "V3 -> V5" in result.output
    assert "the same" in result.output
    assert "scratch" in result.output
    assert "main RAM" not in result.output
    assert openkpu.load(out).version == 5


def test_convert_keeps_its_source(kmodel):
    before = kmodel.read_bytes()
    result = kpu("convert", kmodel, "--target", "v5", "-o", kmodel)
    assert result.exit_code != 0
    assert "E511" in result.output
    assert kmodel.read_bytes() == before


def test_convert_as_json(kmodel, tmp_path):
    result = kpu("convert", kmodel, "--firmware", "maixpy-v4", "--target", "v4", "-o", tmp_path / "a.kmodel", "--json")
    data = json.loads(result.output)
    assert (data["from"], data["to"]) == (3, 4)
    assert data["values_compared"] > 0
    assert data["after"]["kpu_layers"] == data["before"]["kpu_layers"]


def test_nothing_is_written_where_no_counterpart_exists(gated, tmp_path):
    source, out = tmp_path / "gated.kmodel", tmp_path / "gated3.kmodel"
    done = kpu(
        "compile", gated, "--calibration", tmp_path / "x.npy", "-o", source, "--target", "v4", "--method", "minmax"
    )
    assert done.exit_code == 0, done.output
    assert "kmodel V4" in done.output
    result = kpu("convert", source, "--target", "v3", "-o", out)
    assert result.exit_code != 0
    assert not out.exists()
    assert "E222" in result.stderr


def test_v3_says_which_version_has_the_operator(tmp_path):
    divided = tmp_path / "divided.onnx"
    divided.write_bytes(to_onnx(graph_of((1, 3, 8, 8), MODELS["divided"])).SerializeToString())
    np.save(tmp_path / "x.npy", np.random.default_rng(0).integers(0, 256, (3, 3, 8, 8), np.uint8))
    result = kpu("compile", divided, "--calibration", tmp_path / "x.npy", "-o", tmp_path / "no.kmodel")
    assert result.exit_code != 0
    assert "--target v4" in result.stderr
    checked = kpu("check", divided)
    assert checked.exit_code == 1
    assert "does not compile to kmodel V3" in checked.output
    assert kpu("check", divided, "--target", "v5").exit_code == 0


def test_check_names_target_and_firmware(gated):
    result = kpu("check", gated, "--firmware", "maixpy-v4", "--target", "v4")
    assert "for kmodel V4" in result.output
    assert "minimum with kmodel V4 support" in result.output
    data = json.loads(kpu("check", gated, "--firmware", "maixpy-v4", "--target", "v4", "--json").output)
    assert data["target"] == "v4"
    assert data["firmware"]["name"] == "maixpy-v4"


def test_a_firmware_that_cannot_load_the_target(gated, tmp_path):
    result = kpu("check", gated, "--firmware", "maixpy-min", "--target", "v4")
    assert result.exit_code != 0
    assert "E203" in result.stderr


def test_compile_says_whether_it_fits_the_firmware(gated, tmp_path):
    x, out = tmp_path / "x.npy", tmp_path / "g.kmodel"
    options = ("--firmware", "canmv", "--target", "v4", "--method", "minmax", "--json")
    data = json.loads(kpu("compile", gated, "--calibration", x, "-o", out, *options).output)
    assert data["firmware"] == "canmv"
    assert data["firmware_bytes_left"] > 0
    assert data["target"] == "v4"
